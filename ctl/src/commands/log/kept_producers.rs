//! What a partition knows of producers whose segments were trimmed: the file `producers`, a meta file without frames, whose
//! footer begins right after its header.

use std::path::Path;

use mofka_log::{BLOCK_BYTES, EventId, Footer, FooterTail, ProducerTable, SegmentHeader, SegmentKind};
use uuid::Uuid;

use super::source::Source;

/// Reads the file: what producers sent before this event.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(path: &Path, partition: Option<Uuid>) -> Result<(EventId, ProducerTable), String> {
    let say = |error: std::io::Error| error.to_string();
    let source = Source::open(path).map_err(say)?;
    let block = source.read(0, BLOCK_BYTES).map_err(say)?;
    let header = SegmentHeader::check(&block).map_err(|error| error.to_string())?;
    let owner = partition.unwrap_or(header.partition());
    header
        .expect(SegmentKind::Meta, owner)
        .map_err(|error| error.to_string())?;
    let last_at = source.len().saturating_sub(BLOCK_BYTES as u64);
    let last = source.read(last_at, BLOCK_BYTES).map_err(say)?;
    let tail = FooterTail::check(&last, source.len()).ok_or("its footer is gone")?;
    let bytes = usize::try_from(tail.footer_bytes()).map_err(|error| error.to_string())?;
    let bytes = source.read(tail.footer_at().get(), bytes).map_err(say)?;
    let footer = Footer::check(&bytes, header.salt()).map_err(|error| error.to_string())?;
    if footer.base_event_id() != header.base_event_id() {
        return Err("its footer is not that of its header".to_owned());
    }
    Ok((footer.base_event_id(), footer.producers()))
}
