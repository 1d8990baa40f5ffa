//! Every bound of the stored formats, each with its reason.

/// Bytes of a block: the alignment that direct I/O needs on every device here, and the unit of padding.
pub const BLOCK_BYTES: usize = 4096;
/// Frames start at multiples of this, so that a search for witnesses has few places to look at.
pub const FRAME_ALIGN_BYTES: usize = 8;
/// An event's data has one checksum for each stretch of this many bytes: a partial read checks little more than it
/// wants, for 4 bytes in 65536.
pub const PIECE_BYTES: usize = 65536;
/// Events in one batch. Keeps the table of a batch (16 bytes an event) below 16 MiB.
pub const EVENTS_PER_BATCH_MAX: u32 = 1 << 20;
/// Bytes of all metadata of one batch: what a reader must hold to look at one event.
pub const METADATA_BLOCK_BYTES_MAX: u64 = 64 << 20;
/// Bytes of all data of one batch that is sent and held as a whole, which is also the bound of one event's data in it.
pub const DATA_BATCH_BYTES_MAX: u64 = 1 << 30;
/// Bytes of the data of an event that is alone in its batch, and came in pieces: its table has 16 MiB then.
pub const EVENT_DATA_BYTES_MAX: u64 = 256 << 30;
/// Bytes of the largest frame that the bounds above allow; nobody needs a larger buffer to check a frame.
pub const FRAME_BYTES_MAX: u64 = 128 + 16 * (1 << 20) + 4 * ((1 << 20) + (1 << 14)) + (64 << 20);
/// Bytes of a topic's name: it may become part of a path, and file systems stop at 255.
pub const TOPIC_NAME_BYTES_MAX: usize = 200;
/// Bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 256;
/// Producers whose sequences a partition remembers; the longest unused one is forgotten first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 4096;
/// Batches remembered of each producer: as many may be in flight at once and still be resent without doubt.
pub const SEQUENCE_WINDOW: usize = 64;
/// Meta bytes between two entries of a sparse index: what a lookup reads in vain at most, at first.
pub const INDEX_SPACING_BYTES: u64 = 64 << 10;
/// Entries of a sparse index; beyond it every second one goes and the spacing doubles.
pub const INDEX_ENTRIES_MAX: usize = 4096;
/// Bytes of the largest footer: full index, full producer table, and room for both ends.
pub const FOOTER_BYTES_MAX: u64 = 5 << 20;
/// Exclusive end of event ids. Stored ids beyond it are refused, so that arithmetic on accepted ones cannot overflow.
pub const EVENT_ID_END: u64 = 1 << 63;
/// Exclusive end of file positions, for the same reason; file systems end there as well.
pub const FILE_POS_END: u64 = 1 << 63;

const _: () = {
    // The frame's bound is derived from the others: data of every event in its own last, partial piece.
    let pieces = DATA_BATCH_BYTES_MAX / 65536 + (1 << 20);
    assert!(FRAME_BYTES_MAX == 128 + 16 * (1 << 20) + 4 * pieces + METADATA_BLOCK_BYTES_MAX);
    assert!(FRAME_BYTES_MAX.is_multiple_of(8));
    // One event alone has a larger table of checksums, and no other entries.
    assert!(128 + 16 + 4 * (EVENT_DATA_BYTES_MAX / 65536) + METADATA_BLOCK_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(EVENTS_PER_BATCH_MAX == 1 << 20);
    let producer_bytes = 32 + 16 * SEQUENCE_WINDOW;
    let footer_bytes = 128 + 24 * INDEX_ENTRIES_MAX + producer_bytes * PRODUCERS_PER_PARTITION_MAX + 64;
    assert!(footer_bytes + BLOCK_BYTES < 5 << 20);
};
