//! Every bound of the protocol. A node may set lower ones and tells them in its answer to hello.

/// Versions of the protocol that this code speaks.
pub const VERSION_MIN: u16 = 1;
/// See [`VERSION_MIN`].
pub const VERSION_MAX: u16 = 1;

/// No node may allow larger frames than this: a batch's data is at most 1 GiB, its frame a little more.
pub const FRAME_BYTES_CEILING: u64 = 2 << 30;
/// Largest frame before hello: a stranger gets no large buffer.
pub const HELLO_BYTES_MAX: u64 = 64 << 10;
/// In hello: the connection can go on through shared memory.
pub const FEATURE_RING: &str = "ring";
/// In hello, beside [`FEATURE_RING`]: the client may send frames whose end stays its own, in slots of kind 3. The node gives up a
/// client that sends one without having agreed on this.
pub const FEATURE_RING_IN_PLACE: &str = "ring_in_place";
/// The peer knows events that refer to data of others: such a batch's flags, and what stands behind the metadata. Every
/// connection has it.
pub const FEATURE_REFERENCES: &str = "references";
/// The peer knows batches that say which places of a source they cover (the frame's span). Every connection has it.
pub const FEATURE_SOURCES: &str = "sources";
/// Features that every connection has.
pub const FEATURES_EVERYWHERE: [&str; 2] = [FEATURE_REFERENCES, FEATURE_SOURCES];
/// Every feature of this code.
pub const FEATURES: [&str; 4] = [
    FEATURE_REFERENCES,
    FEATURE_SOURCES,
    FEATURE_RING,
    FEATURE_RING_IN_PLACE,
];
/// Largest JSON body of a request. A topic's validator schema is the largest thing in one.
pub const CONTROL_BYTES_MAX: u64 = 4 << 20;
/// Descriptors in one fetch.
pub const FETCH_ITEMS_MAX: u32 = 1 << 16;
/// Sum of feeds that a subscription may have been granted and not used. No honest client needs more.
pub const CREDITS_MAX: u32 = 1 << 20;

/// Bytes of data in one part of a stream: a multiple of 64 KiB.
pub const STREAM_PART_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a data descriptor's location. Ours has 8 (an event id); other storages may need more.
pub const LOCATION_BYTES_MAX: usize = 256;
/// Bytes of a serialized data descriptor: room for [`UNSTRUCTURED_SEGMENTS_MAX`] segments and the rest.
pub const DESCRIPTOR_BYTES_MAX: u64 = (UNSTRUCTURED_SEGMENTS_MAX << 4) + (64 << 10);
/// Selections on top of each other in one data descriptor.
pub const SELECTIONS_MAX: usize = 16;
/// Segments that all unstructured selections of a data descriptor may list together.
pub const UNSTRUCTURED_SEGMENTS_MAX: u64 = 1 << 16;
/// Ranges into which a data descriptor may fall: bounds the work that a small request can cause at the server.
pub const SEGMENTS_MAX: u64 = 1 << 20;

/// Bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// Bytes of a Unix socket's path: `sun_path` has 108, one is the end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Bytes of a group file.
pub const GROUP_FILE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of the name that a client gives itself in hello.
pub const CLIENT_NAME_BYTES_MAX: usize = 256;

/// Patterns inside one another in an event pattern: bounds the stack that parsing and matching take.
pub const PATTERN_DEPTH_MAX: usize = 32;
/// Parts of an event pattern: steps of paths, values, rules, texts, comparisons, stars. Bounds its memory and the work
/// of a match.
pub const PATTERN_PARTS_MAX: usize = 10_000;

/// Slots of a ring in shared memory; frames held at a time are as many.
pub const SHM_SLOTS_MAX: u32 = 1 << 16;
/// Bytes of an arena in shared memory. A frame has to fit it.
pub const SHM_ARENA_BYTES_MAX: u64 = 64 << 30;
