//! What was found on the machine, before anybody judges it.

use std::path::PathBuf;

/// What a node is to do here.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) data_dir: PathBuf,
    /// `None`: one for each CPU that may be used.
    pub(crate) shards: Option<usize>,
    pub(crate) listen: Vec<String>,
    /// Whether the node refuses to start without direct I/O.
    pub(crate) needs_direct_io: bool,
    /// Connections of a shard, at most.
    pub(crate) connections_max: u64,
    /// What a shard remembers of what came last, and reads ahead.
    pub(crate) shard_memory_bytes: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./mofka-data"),
            shards: None,
            listen: vec!["na+sm".to_owned()],
            needs_direct_io: true,
            connections_max: 4096,
            shard_memory_bytes: 192 << 20,
        }
    }
}

/// All facts. `None` is what could not be found out, or does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) wanted: Wanted,
    pub(crate) kernel: String,
    pub(crate) ring: RingFacts,
    pub(crate) limits: LimitFacts,
    pub(crate) dir: DirFacts,
    pub(crate) mount: Option<Mount>,
    /// The devices behind the data directory: several where the device mapper or md joins them.
    pub(crate) devices: Vec<Device>,
    pub(crate) room: Option<Room>,
    pub(crate) cpus: CpuFacts,
    pub(crate) memory: MemoryFacts,
    pub(crate) clock: Option<String>,
    pub(crate) places: Vec<PlaceFacts>,
    /// `None`: nothing was to be written.
    pub(crate) writes: Option<WriteFacts>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RingFacts {
    /// Operations that the node needs and the kernel lacks; or why there is no ring, and the system's number of that error.
    pub(crate) outcome: Option<Result<RingAbilities, RingError>>,
    /// `kernel.io_uring_disabled`.
    pub(crate) disabled: Option<u32>,
    /// Whether a filter of system calls is on this process.
    pub(crate) is_filtered: bool,
    /// The kind of container that this seems to be.
    pub(crate) container: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RingAbilities {
    pub(crate) missing: Vec<&'static str>,
    /// Completions are taken when the shard asks for them (Linux 6.1).
    pub(crate) deferred: bool,
    /// No completion for a write that went well (Linux 5.17).
    pub(crate) skips: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct RingError {
    pub(crate) number: i32,
    pub(crate) message: String,
}

/// Limits of the process; `None`: there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitFacts {
    pub(crate) memlock_bytes: Option<u64>,
    /// Whether the process may lock memory beyond its limit.
    pub(crate) may_lock: bool,
    pub(crate) files: Option<u64>,
    pub(crate) files_hard: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct DirFacts {
    /// What was looked at: the data directory, or what is there of its path.
    pub(crate) looked_at: PathBuf,
    pub(crate) exists: bool,
    /// Why it cannot be used.
    pub(crate) trouble: Option<String>,
    /// The process that has it.
    pub(crate) node: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mount {
    pub(crate) point: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    /// Of the mount and of the file system.
    pub(crate) options: Vec<String>,
    /// An ext4 that says that it has none.
    pub(crate) lacks_journal: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Device {
    /// As under /sys/block.
    pub(crate) name: String,
    /// The partition of it that is used, and what is put on top of it.
    pub(crate) through: Vec<String>,
    pub(crate) model: Option<String>,
    pub(crate) rotational: Option<bool>,
    /// The scheduler that is in use.
    pub(crate) scheduler: Option<String>,
    /// `write back` or `write through`.
    pub(crate) write_cache: Option<String>,
    pub(crate) fua: Option<bool>,
    pub(crate) logical_block_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) size_bytes: u64,
    pub(crate) available_bytes: u64,
    /// 0: the file system does not count them.
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuFacts {
    /// CPUs that the process may use.
    pub(crate) usable: usize,
    /// CPU time that its control group has, in cores.
    pub(crate) quota: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryFacts {
    pub(crate) total_bytes: Option<u64>,
    pub(crate) available_bytes: Option<u64>,
    /// What its control group may have.
    pub(crate) group_max_bytes: Option<u64>,
    /// What that has.
    pub(crate) group_used_bytes: Option<u64>,
}

/// An address to listen on.
#[derive(Clone, Debug)]
pub(crate) struct PlaceFacts {
    pub(crate) address: String,
    /// Why it cannot be used.
    pub(crate) trouble: Option<PlaceTrouble>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlaceTrouble {
    /// Something listens there.
    Taken(String),
    /// The system does not allow it, or it makes no sense.
    Refused(String),
}

#[derive(Clone, Debug)]
pub(crate) struct WriteFacts {
    /// Why nothing could be written.
    pub(crate) trouble: Option<String>,
    /// Why direct I/O does not work; `None` with no trouble: it does.
    pub(crate) direct_trouble: Option<String>,
    /// What the file system says that direct I/O needs: memory, then places in the file.
    pub(crate) direct_align_bytes: Option<(u32, u32)>,
    /// How long a write of one block and its sync took, each time, sorted.
    pub(crate) syncs_us: Vec<u64>,
}
