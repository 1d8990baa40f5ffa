//! Why a batch's sequence is refused, in words.

use mofka_log::{BatchPlace, SequenceVerdict};
use mofka_net::{ErrorCode, WireError};

pub(super) fn refusal(verdict: SequenceVerdict, place: BatchPlace) -> WireError {
    let what = match place.span {
        0 => format!("batch {}", place.sequence),
        _ => format!("the batch of places {} to {}", place.sequence, place.end()),
    };
    let of = format!(
        "{what} of producer {:016x} epoch {}",
        place.producer.get(),
        place.epoch
    );
    match verdict {
        SequenceVerdict::Gap { expected } => WireError::sequence_gap(
            format!("{of} does not follow: {expected} is expected next"),
            expected,
        ),
        SequenceVerdict::TooOld => WireError::new(
            ErrorCode::SequenceTooOld,
            format!("{of} was accepted so long ago that its ids are no longer known"),
        ),
        SequenceVerdict::Fenced { epoch: newer } => WireError::new(
            ErrorCode::ProducerFenced,
            format!("{of} is fenced by epoch {newer}"),
        ),
        SequenceVerdict::Unknown => WireError::new(
            ErrorCode::UnknownProducer,
            format!("{of} is the first one seen here, and a first batch has sequence 0"),
        ),
        SequenceVerdict::New | SequenceVerdict::Duplicate { .. } => {
            unreachable!("these are not refused")
        }
    }
}
