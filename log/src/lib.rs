//! Stored bytes of Mofka: batch frames, segments, catalog and cursor records; what to write where, and what the bytes
//! mean after a crash.
//!
//! Everything here is a function of bytes and values: no files, no clock, no randomness, no threads. The engine reads
//! and writes; this crate says *which bytes belong where*, *what may be answered now* and *what was found*. Bytes from
//! outside are *checked into* types that can then be trusted: no bytes at all cause a panic, and every length is bounded
//! before it sizes anything. What the crate promises to itself is asserted. The formats are told in `docs/FORMAT.md`.
//!
//! | module | concept |
//! |---|---|
//! | [`le`] | little-endian integers without alignment, for stored structures |
//! | `ids` | event ids, file positions, producer ids |
//! | `batch` | the batch frame: building it, checking it, stamping it |
//! | `segment`, `footer` | the first block of every file; what a sealed segment ends with |
//! | `index`, `producers` | where events are, roughly; what each producer sent last, and the file that keeps it |
//! | `appender`, `write_plan` | gathers batches into commits and plans their writes |
//! | `scan`, `verdict` | reads a meta file back after a crash; decides what that means |
//! | `begun` | whether the last segment of a partition was ever begun |
//! | `retention` | which segments are to go, and by what clock |
//! | `catalog`, `cursor`, `name` | records of the catalog and of the cursors files; rules for names |
//! | `export` | a partition in one portable file |
//! | [`limits`] | every bound |
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod appender;
mod batch;
mod begun;
mod catalog;
mod cursor;
mod export;
mod footer;
mod ids;
mod index;
pub mod le;
pub mod limits;
mod name;
mod producers;
mod retention;
mod scan;
mod segment;
mod verdict;
mod width;
mod write_plan;

pub use appender::{
    Accepted, AckAt, Appender, AppenderConfig, Commit, CommitId, Ends, Progress, Reach, Resume, SegmentFacts,
    StoredBatch,
};
pub use batch::{
    BATCH_HEADER_BYTES, BadPiece, Batch, BatchBuilder, BatchError, BatchHeader, BatchPlace, DataCheck,
    DataParts, EventView, Events, EventsMark, PieceCrcs, REFERENCE_HEAD_BYTES, Reference, Stamp,
    StreamedData, check_piece, check_pieces, combine_crc, frame_bytes_hint,
};
pub use begun::LastSegment;
pub use catalog::{
    Catalog, CatalogError, CatalogRecord, CatalogRecordError, Durability, PartitionKind, PartitionRecord,
    TopicRecord,
};
pub use cursor::{CursorRecord, CursorRecordError, Cursors};
pub use export::{
    EXPORT_HEADER_BYTES, EXPORT_RECORD_BYTES_MAX, EXPORT_SECTION_BYTES, ExportContent, ExportError,
    ExportHead, ExportHeadPart, ExportSection, ExportSums,
};
pub use footer::{Footer, FooterError, FooterFacts, FooterTail};
pub use ids::{EventId, FilePos, ProducerId};
pub use index::{IndexError, SparseIndex};
pub use limits::*;
pub use name::{NameError, check_consumer_name, check_topic_name};
pub use producers::{
    KeptProducers, KeptProducersError, ProducerFacts, ProducerTable, ProducersError, SequenceVerdict,
};
pub use retention::{
    AcknowledgedBy, Look, PartitionFacts, RETENTION_CONSUMERS_MAX, Retention, RetentionClock, RetentionError,
    SealedFacts, TrimReason,
};
pub use scan::{FramePlace, MetaScan, Recovered, SeenFrame, UnvouchedFrame};
pub use segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError, SegmentKind};
pub use verdict::{BadData, DamageCause, Facts, HeaderFact, Places, TornCause, Verdict, decide};
pub use write_plan::{Gather, Stretch, WritePlan};
