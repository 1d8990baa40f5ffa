//! What can go wrong beside a crash, and when: by chance, or at one operation that a test names.

use super::random::Random;

/// What a machine does for the engine; faults are counted and placed by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A write to a file.
    Write,
    /// A sync of a file.
    Sync,
    /// A sync of a directory.
    SyncDir,
    /// A read from a file.
    Read,
    /// Opening or creating a file.
    Open,
    /// A truncation, a rename, a removal, or room that is reserved.
    Change,
    /// A turn of the clock.
    Tick,
}

const OPERATIONS: usize = 7;

/// One kind of fault. The module says what is promised under which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The write fails; each of its sectors landed or not.
    WriteError,
    /// The device wrote the front of it and says so.
    ShortWrite,
    /// The sync fails. What it should have made durable is dropped or not, sector by sector, and counts as clean: a
    /// second sync would succeed. Until power is lost it is still read.
    SyncError,
    /// The sync of a directory fails; its names stay as durable as they were.
    SyncDirError,
    /// The read fails.
    ReadError,
    /// Opening or creating a file fails: too many open files.
    OpenError,
    /// Truncating, renaming, removing or reserving fails, and nothing happened.
    ChangeError,
    /// The wall clock jumps by up to a year, forth or back.
    ClockJump,
    /// The write is reported done and never landed.
    LostWrite,
    /// The write is reported done and landed elsewhere, in the same file or in another.
    MisdirectedWrite,
    /// The sync of a directory is reported done and was not.
    LostSyncDir,
}

impl Fault {
    /// Faults that the machine reports, and jumps of the clock: nothing acknowledged may be lost under them.
    pub const HONEST: [Self; 8] = [
        Self::WriteError,
        Self::ShortWrite,
        Self::SyncError,
        Self::SyncDirError,
        Self::ReadError,
        Self::OpenError,
        Self::ChangeError,
        Self::ClockJump,
    ];

    /// Faults that nobody reports: they are to be found out as soon as something durable follows.
    pub const SILENT: [Self; 3] = [Self::LostWrite, Self::MisdirectedWrite, Self::LostSyncDir];

    /// The operation that it can hit.
    pub fn operation(self) -> Operation {
        match self {
            Self::WriteError | Self::ShortWrite | Self::LostWrite | Self::MisdirectedWrite => {
                Operation::Write
            }
            Self::SyncError => Operation::Sync,
            Self::SyncDirError | Self::LostSyncDir => Operation::SyncDir,
            Self::ReadError => Operation::Read,
            Self::OpenError => Operation::Open,
            Self::ChangeError => Operation::Change,
            Self::ClockJump => Operation::Tick,
        }
    }
}

/// How often each fault happens, in a thousand of its operations.
#[derive(Clone, Debug, Default)]
pub struct FaultRates(Vec<(Fault, u64)>);

impl FaultRates {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// A swarm: each fault of `among` with a rate of its own, and half of them not at all, so that rare ones are not
    /// hidden behind common ones.
    pub fn swarm(random: &mut Random, among: &[Fault]) -> Self {
        let rates = among.iter().filter_map(|fault| {
            let rate = match random.below(8) {
                0..=3 => return None,
                4 | 5 => 1 + random.below(5),
                6 => 5 + random.below(30),
                _ => 30 + random.below(200),
            };
            Some((*fault, rate))
        });
        Self(rates.collect())
    }

    /// The faults that can happen.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().map(|(fault, _)| *fault)
    }
}

/// What a machine's faults are made from.
#[derive(Debug)]
pub(super) struct FaultPlan {
    rates: FaultRates,
    /// Faults at one operation each.
    placed: Vec<(Fault, u64)>,
    counts: [u64; OPERATIONS],
    met: Vec<Fault>,
    random: Random,
}

impl FaultPlan {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rates: FaultRates::none(),
            placed: Vec::new(),
            counts: [0; OPERATIONS],
            met: Vec::new(),
            random: Random::new(seed ^ 0xfa17),
        }
    }

    pub(super) fn set_rates(&mut self, rates: FaultRates) {
        self.rates = rates;
    }

    /// The `n`-th operation from now of its kind (0 = the next) meets this fault.
    pub(super) fn place(&mut self, fault: Fault, n: u64) {
        let number = self.counts[fault.operation() as usize] + n;
        self.placed.push((fault, number));
    }

    pub(super) fn count(&self, operation: Operation) -> u64 {
        self.counts[operation as usize]
    }

    pub(super) fn met(&self) -> &[Fault] {
        &self.met
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The fault that this operation meets, if any.
    pub(super) fn draw(&mut self, operation: Operation) -> Option<Fault> {
        let number = self.counts[operation as usize];
        self.counts[operation as usize] = number + 1;
        let placed = self
            .placed
            .iter()
            .position(|(fault, at)| fault.operation() == operation && *at == number)
            .map(|place| self.placed.swap_remove(place).0);
        let fault = placed.or_else(|| {
            let random = &mut self.random;
            let mut rates = self.rates.0.iter();
            rates
                .find(|(fault, rate)| fault.operation() == operation && random.below(1000) < *rate)
                .map(|(fault, _)| *fault)
        });
        self.met.extend(fault);
        fault
    }
}
