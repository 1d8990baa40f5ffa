//! What can happen in a history, and the events it sends.

use arbitrary::Arbitrary;

/// One event: bytes of its metadata; a factor and bytes of its data.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of filling in the metadata.
    pub metadata_bytes: u8,
    /// Data: 0 none, 1 these bytes, 2 sixteen times, 3 five hundred times as many.
    pub class: u8,
    /// See `class`.
    pub data_bytes: u8,
}

/// What can happen.
#[derive(Arbitrary, Clone, Debug)]
pub enum Operation {
    /// A producer sends its next batch. `asked`: 0 to 2 as the topic says, 3 written, 4 buffered.
    Append {
        /// Which producer.
        producer: u8,
        /// Its events; one at least.
        shapes: Vec<Shape>,
        /// How durable the batch is to be before the answer.
        asked: u8,
        /// Whether it is written at once.
        kick: bool,
    },
    /// A producer sends an earlier batch again.
    Resend {
        /// Which producer.
        producer: u8,
        /// How many batches before the next one.
        back: u8,
    },
    /// A producer goes on under a new epoch.
    NewEpoch {
        /// Which producer.
        producer: u8,
    },
    /// A producer leaves a batch out, or goes back to an epoch that was fenced.
    BreakSequence {
        /// Which producer.
        producer: u8,
        /// The older epoch instead of the later sequence.
        old_epoch: bool,
    },
    /// What was appended is written.
    Kick,
    /// So many operations of the machine end.
    Step(u8),
    /// Everything that is under way ends.
    Settle,
    /// A consumer acknowledges this part (of 255) of what is visible.
    Acknowledge {
        /// Which consumer.
        consumer: u8,
        /// Where it goes on.
        place: u8,
    },
    /// A consumer goes anywhere.
    Seek {
        /// Which consumer.
        consumer: u8,
        /// Where it goes on.
        place: u8,
    },
    /// Everything visible is read and compared.
    Read,
    /// A write fails, so many from now.
    FailWrite(u8),
    /// A sync fails, so many from now.
    FailSync(u8),
    /// An orderly stop, and a start.
    Restart,
    /// The machine stops and starts again.
    Crash {
        /// Of a hundred sectors that were not synced, so many are there.
        keep_percent: u8,
        /// Sectors of 512 bytes, not 4096.
        small: bool,
        /// Which ones.
        seed: u16,
        /// While it recovers, it stops again after so many operations; 0: it does not.
        again_after: u8,
    },
}
