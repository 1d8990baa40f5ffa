//! The files of a log partition: opening and recovering them, rolling to the next segment, finding what is where.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    Appender, AppenderConfig, BLOCK_BYTES, Batch, EventId, FilePos, FooterFacts, ProducerTable, SegmentFacts,
    SegmentHeader, SegmentKind, SparseIndex, StoredBatch, Verdict,
};
use uuid::Uuid;

use super::segment_files::{Sealing, base_of, create_segment, data_path, meta_path, read_footer, seal};
use crate::commit::{Committer, Files};
use crate::io::{Io, IoFile};
use crate::recover::{self, OpenError, Opened, OpenedSegment};

/// Segments whose files are kept open for reading, beside the one that is written.
const OPEN_SEGMENTS_MAX: usize = 4;

/// One segment. Sealed when `end` is set.
pub(crate) struct Segment {
    pub(crate) base: EventId,
    salt: u64,
    end: Cell<Option<EventId>>,
    meta_bytes: Cell<u64>,
    data_bytes: Cell<u64>,
    /// Of the segment that is written; a sealed one's is read from its footer when somebody asks.
    index: RefCell<Option<Rc<RefCell<SparseIndex>>>>,
}

/// What opening found, for status and for the engine.
pub(crate) struct Found {
    pub(crate) next_event_id: EventId,
    pub(crate) producers: ProducerTable,
    /// What recovery said of the segment that was being written.
    pub(crate) verdict: Verdict,
    /// Events stay readable, but nothing may be added: something durable is damaged.
    pub(crate) read_only: Option<String>,
}

/// See the module.
pub(crate) struct Store<I: Io> {
    io: I,
    dir: PathBuf,
    partition: Uuid,
    committer: Rc<Committer<I>>,
    segments: RefCell<Vec<Rc<Segment>>>,
    open: RefCell<VecDeque<(EventId, Files<I::File>)>>,
    /// The latest time of each sealed segment that was asked for it.
    times: RefCell<BTreeMap<EventId, Option<u64>>>,
}

/// A segment's files, for reading.
pub(crate) struct Readable<F> {
    pub(crate) segment: Rc<Segment>,
    pub(crate) files: Files<F>,
}

impl<I: Io> Store<I> {
    /// Opens the partition's directory, recovers what it holds, and makes it ready to go on. Creates it when new.
    ///
    /// # Errors
    /// When files cannot be read or made, belong to another partition, or have an unknown version.
    pub(crate) async fn open(
        io: I,
        dir: PathBuf,
        partition: Uuid,
        config: AppenderConfig,
    ) -> Result<(Self, Found), OpenError> {
        let names = io
            .list(&dir)
            .await
            .map_err(|error| OpenError::io("listing", &dir, &error))?;
        let mut bases: Vec<EventId> = names.iter().filter_map(|name| base_of(name)).collect();
        bases.sort_unstable();
        let mut opening = Opening {
            io: &io,
            dir: &dir,
            partition,
            sealed: Vec::new(),
            producers: ProducerTable::default(),
        };
        let mut read_only = None;
        let mut tail = None;
        for (place, base) in bases.iter().enumerate() {
            let last = place + 1 == bases.len();
            match opening.segment(*base, last).await? {
                Look::Sealed => {}
                Look::NeverUsed => {}
                Look::Tail(found) => {
                    if !last {
                        read_only = Some(format!(
                            "segment {base} was not sealed although segment {} follows",
                            bases.get(place + 1).map_or(0, |next| next.get())
                        ));
                    }
                    tail = Some(found);
                    break;
                }
            }
        }
        let Opening {
            sealed, producers, ..
        } = opening;
        let next = match (&tail, sealed.last()) {
            (Some(tail), _) => tail.opened.recovered.next_event_id,
            (None, Some(sealed)) => sealed.end.get().unwrap_or(sealed.base),
            (None, None) => EventId::new(0),
        };
        if let Some(gap) = first_gap(&sealed, tail.as_ref().map(|tail| tail.base)) {
            read_only.get_or_insert(gap);
        }
        let mut found = Found {
            next_event_id: next,
            producers,
            verdict: Verdict::Clean,
            read_only,
        };
        let mut segments: Vec<Rc<Segment>> = sealed;
        let (committer, active) = match tail {
            Some(tail) => {
                found.verdict = tail.opened.recovered.verdict.clone();
                if let Verdict::Damaged { .. } = found.verdict {
                    found.read_only.get_or_insert(found.verdict.prose());
                }
                resume_tail(&io, &dir, tail, config).await?
            }
            None => {
                let (files, facts) = create_segment(&io, &dir, partition, next, 1).await?;
                let segment = Segment::active(&facts, SparseIndex::default());
                (
                    Committer::new(io.clone(), Appender::new(config, facts), files),
                    segment,
                )
            }
        };
        segments.push(Rc::new(active));
        let store = Self {
            io,
            dir,
            partition,
            committer,
            segments: RefCell::new(segments),
            open: RefCell::new(VecDeque::new()),
            times: RefCell::default(),
        };
        Ok((store, found))
    }

    pub(crate) fn committer(&self) -> &Rc<Committer<I>> {
        &self.committer
    }

    /// The first event that is still stored.
    pub(crate) fn trim_end(&self) -> EventId {
        self.segments
            .borrow()
            .first()
            .map_or(EventId::new(0), |segment| segment.base)
    }

    /// Bytes of all files, as far as they are used.
    pub(crate) fn used_bytes(&self) -> u64 {
        let sealed: u64 = self
            .segments
            .borrow()
            .iter()
            .map(|segment| segment.meta_bytes.get() + segment.data_bytes.get())
            .sum();
        let active = self
            .committer
            .with_appender(|appender| appender.meta_end().get() + appender.data_end().get());
        sealed + active
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.borrow().len()
    }

    /// Notes where stamped batches go.
    pub(crate) fn note(&self, batches: &[StoredBatch]) {
        let segments = self.segments.borrow();
        let index = segments.last().and_then(|segment| segment.index.borrow().clone());
        if let Some(index) = index {
            let mut index = index.borrow_mut();
            for stored in batches {
                if !stored.batch.is_mark() {
                    let batch = &stored.batch;
                    index.note(
                        batch.base_event_id(),
                        stored.meta_at,
                        batch.frame_bytes(),
                        batch.timestamp_us(),
                    );
                }
            }
        }
    }

    /// The segment that holds `id`, opened for reading, and the place to start looking for it.
    ///
    /// # Errors
    /// When the files cannot be opened or the footer does not check.
    pub(crate) async fn locate(
        &self,
        id: EventId,
    ) -> Result<Option<(Readable<I::File>, FilePos)>, OpenError> {
        let segment = {
            let segments = self.segments.borrow();
            let after = segments.partition_point(|segment| segment.base <= id);
            match after.checked_sub(1).and_then(|place| segments.get(place)) {
                Some(segment) => Rc::clone(segment),
                None => return Ok(None),
            }
        };
        let files = self.files_of(&segment).await?;
        let index = self.index_of(&segment, &files).await?;
        let at = index
            .borrow()
            .lookup(id)
            .unwrap_or(FilePos::new(BLOCK_BYTES as u64));
        Ok(Some((Readable { segment, files }, at)))
    }

    /// All segments, in order.
    pub(crate) fn segments(&self) -> Vec<Rc<Segment>> {
        self.segments.borrow().clone()
    }

    /// The latest time at which a batch of a segment was accepted. A sealed segment is asked once.
    ///
    /// # Errors
    /// When the files cannot be opened or the footer does not check.
    pub(crate) async fn last_timestamp_us(&self, segment: &Rc<Segment>) -> Result<Option<u64>, OpenError> {
        if let Some(known) = self.times.borrow().get(&segment.base) {
            return Ok(*known);
        }
        let is_sealed = segment.end.get().is_some();
        let files = self.files_of(segment).await?;
        let index = self.index_of(segment, &files).await?;
        let last_us = index.borrow().timestamps_us().map(|(_, last_us)| last_us);
        if is_sealed {
            let first = self.trim_end();
            let mut times = self.times.borrow_mut();
            times.insert(segment.base, last_us);
            times.retain(|base, _| *base >= first);
        }
        Ok(last_us)
    }

    /// The files of a segment, and a place in it from which on to look for a time; `None` when it has no batches.
    ///
    /// # Errors
    /// When the files cannot be opened or the footer does not check.
    pub(crate) async fn locate_time(
        &self,
        segment: &Rc<Segment>,
        timestamp_us: u64,
    ) -> Result<(Readable<I::File>, Option<FilePos>), OpenError> {
        let files = self.files_of(segment).await?;
        let index = self.index_of(segment, &files).await?;
        let at = index.borrow().lookup_time(timestamp_us);
        let segment = Rc::clone(segment);
        Ok((Readable { segment, files }, at))
    }

    /// Bytes of the indexes that are in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        let segments = self.segments.borrow();
        let indexes = segments
            .iter()
            .filter_map(|segment| segment.index.borrow().clone());
        indexes.map(|index| index.borrow().memory_bytes()).sum()
    }

    /// The files of a segment that was located before.
    ///
    /// # Errors
    /// When they cannot be opened; they may be gone by now.
    pub(crate) async fn reopen(&self, segment: &Rc<Segment>) -> Result<Readable<I::File>, OpenError> {
        Ok(Readable {
            segment: Rc::clone(segment),
            files: self.files_of(segment).await?,
        })
    }

    async fn files_of(&self, segment: &Rc<Segment>) -> Result<Files<I::File>, OpenError> {
        if segment.end.get().is_none() {
            return Ok(self.committer.files());
        }
        let known = self
            .open
            .borrow()
            .iter()
            .find(|(base, _)| *base == segment.base)
            .map(|(_, files)| files.clone());
        if let Some(files) = known {
            return Ok(files);
        }
        let files = open_files(&self.io, &self.dir, segment.base).await?;
        let mut open = self.open.borrow_mut();
        open.push_back((segment.base, files.clone()));
        if open.len() > OPEN_SEGMENTS_MAX {
            open.pop_front();
        }
        Ok(files)
    }

    async fn index_of(
        &self,
        segment: &Rc<Segment>,
        files: &Files<I::File>,
    ) -> Result<Rc<RefCell<SparseIndex>>, OpenError> {
        if let Some(index) = segment.index.borrow().as_ref() {
            return Ok(Rc::clone(index));
        }
        let path = meta_path(&self.dir, segment.base);
        let footer = read_footer(&path, &files.meta, Sealing::Done)
            .await?
            .ok_or_else(|| {
                OpenError::new(format!(
                    "{}: the footer of this sealed segment is gone",
                    path.display()
                ))
            })?;
        let index = Rc::new(RefCell::new(footer.index()));
        // Bounded by what is open: an index goes when its segment's files do.
        for other in self.segments.borrow().iter() {
            let in_use = self.open.borrow().iter().any(|(base, _)| *base == other.base);
            if other.end.get().is_some() && !in_use {
                *other.index.borrow_mut() = None;
            }
        }
        *segment.index.borrow_mut() = Some(Rc::clone(&index));
        Ok(index)
    }

    /// Seals the segment that is written and opens the next. Nothing is in flight while this runs.
    ///
    /// # Errors
    /// What the machine said; the committer is then poisoned by the caller.
    pub(crate) async fn roll(&self, producers: &ProducerTable) -> Result<(), OpenError> {
        let active = self.segments.borrow().last().cloned();
        let Some(active) = active else { return Ok(()) };
        let files = self.committer.files();
        let (facts, ends) = self.committer.with_appender(|appender| {
            let index = active
                .index
                .borrow()
                .as_ref()
                .map(|index| index.borrow().clone())
                .unwrap_or_default();
            let ends = appender.ends();
            let facts = FooterFacts {
                salt: active.salt,
                base_event_id: active.base,
                end_event_id: ends.synced_end,
                meta_end: appender.meta_end(),
                data_end: appender.data_end(),
                index,
                producers: producers.before(ends.synced_end),
            };
            (facts, ends)
        });
        let path = meta_path(&self.dir, active.base);
        let sealed = seal(&self.io, &files, &facts)
            .await
            .map_err(|error| OpenError::io("sealing", &path, &error))?;
        let incarnation = self.committer.with_appender(|appender| appender.incarnation());
        let (next_files, next) =
            create_segment(&self.io, &self.dir, self.partition, ends.synced_end, incarnation).await?;
        active.end.set(Some(ends.synced_end));
        active.meta_bytes.set(sealed);
        active.data_bytes.set(facts.data_end.get());
        self.segments
            .borrow_mut()
            .push(Rc::new(Segment::active(&next, SparseIndex::default())));
        self.committer.install(|appender| appender.roll(next), next_files);
        Ok(())
    }
}

impl Segment {
    fn active(facts: &SegmentFacts, index: SparseIndex) -> Self {
        Self {
            base: facts.base_event_id,
            salt: facts.salt,
            end: Cell::new(None),
            meta_bytes: Cell::new(0),
            data_bytes: Cell::new(0),
            index: RefCell::new(Some(Rc::new(RefCell::new(index)))),
        }
    }

    /// Whether a frame read from this segment's file belongs to it.
    pub(crate) fn owns(&self, batch: &Batch) -> bool {
        batch.salt() == self.salt
    }
}

struct Opening<'a, I: Io> {
    io: &'a I,
    dir: &'a Path,
    partition: Uuid,
    sealed: Vec<Rc<Segment>>,
    producers: ProducerTable,
}

enum Look<F> {
    Sealed,
    NeverUsed,
    Tail(Tail<F>),
}

struct Tail<F> {
    base: EventId,
    files: Files<F>,
    opened: Box<OpenedSegment>,
}

impl<I: Io> Opening<'_, I> {
    async fn segment(&mut self, base: EventId, last: bool) -> Result<Look<I::File>, OpenError> {
        let path = meta_path(self.dir, base);
        let meta = self
            .io
            .open(&path)
            .await
            .map_err(|error| OpenError::io("opening", &path, &error))?;
        let meta = Rc::new(meta);
        let sealing = if last { Sealing::MayBeTorn } else { Sealing::Done };
        if let Some(footer) = read_footer(&path, &meta, sealing).await? {
            let block = meta
                .read_at(FilePos::new(0), BLOCK_BYTES)
                .await
                .map_err(|error| OpenError::io("reading", &path, &error))?;
            self.check_header(&path, SegmentHeader::check(&block).as_ref().ok())?;
            let size = meta
                .size_bytes()
                .await
                .map_err(|error| OpenError::io("reading", &path, &error))?;
            self.producers = footer.producers();
            self.sealed.push(Rc::new(Segment {
                base,
                salt: footer.salt(),
                end: Cell::new(Some(footer.end_event_id())),
                meta_bytes: Cell::new(size),
                data_bytes: Cell::new(footer.data_end().get()),
                index: RefCell::new(None),
            }));
            return Ok(Look::Sealed);
        }
        let data_path = data_path(self.dir, base);
        let data = match self.io.open(&data_path).await {
            Ok(data) => Some(Rc::new(data)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(OpenError::io("opening", &data_path, &error)),
        };
        let producers = self.producers.clone();
        let opened = recover::meta_file(&path, &meta, data.as_ref(), producers, &mut |_| ()).await?;
        match opened {
            Opened::NeverUsed if last => Ok(Look::NeverUsed),
            Opened::NeverUsed => Err(OpenError::new(format!(
                "{}: this segment is empty although another follows it",
                path.display()
            ))),
            Opened::Segment(opened) => {
                self.producers = opened.recovered.producers.clone();
                self.check_header(&path, Some(&opened.header))?;
                let Some(data) = data else {
                    return Err(OpenError::new(format!(
                        "{}: the data file of this segment is missing",
                        data_path.display()
                    )));
                };
                Ok(Look::Tail(Tail {
                    base,
                    files: Files {
                        meta,
                        data: Some(data),
                    },
                    opened,
                }))
            }
        }
    }

    fn check_header(&self, path: &Path, header: Option<&SegmentHeader>) -> Result<(), OpenError> {
        let header = header.ok_or_else(|| {
            OpenError::new(format!("{}: the segment header does not check", path.display()))
        })?;
        header
            .expect(SegmentKind::Meta, self.partition)
            .map_err(|error| OpenError::new(format!("{}: {error}", path.display())))
    }
}

/// Goes on after what recovery kept.
async fn resume_tail<I: Io>(
    io: &I,
    dir: &Path,
    tail: Tail<I::File>,
    config: AppenderConfig,
) -> Result<(Rc<Committer<I>>, Segment), OpenError> {
    let path = meta_path(dir, tail.base);
    let data = tail.files.data.as_ref();
    let appender = recover::resume(io, &tail.opened, config, &path, &tail.files.meta, data).await?;
    let facts = SegmentFacts {
        salt: tail.opened.header.salt(),
        base_event_id: tail.base,
        incarnation: tail.opened.recovered.next_incarnation,
    };
    let segment = Segment::active(&facts, tail.opened.recovered.index.clone());
    Ok((Committer::new(io.clone(), appender, tail.files), segment))
}

async fn open_files<I: Io>(io: &I, dir: &Path, base: EventId) -> Result<Files<I::File>, OpenError> {
    let meta_path = meta_path(dir, base);
    let data_path = data_path(dir, base);
    let meta = io
        .open(&meta_path)
        .await
        .map_err(|error| OpenError::io("opening", &meta_path, &error))?;
    let data = io
        .open(&data_path)
        .await
        .map_err(|error| OpenError::io("opening", &data_path, &error))?;
    Ok(Files {
        meta: Rc::new(meta),
        data: Some(Rc::new(data)),
    })
}

fn first_gap(sealed: &[Rc<Segment>], tail: Option<EventId>) -> Option<String> {
    let mut expected: Option<EventId> = None;
    let bases = sealed
        .iter()
        .map(|segment| (segment.base, segment.end.get()))
        .chain(tail.map(|base| (base, None)));
    for (base, end) in bases {
        if let Some(expected) = expected
            && expected != base
        {
            return Some(format!(
                "events {expected} to {base} are missing: no segment holds them"
            ));
        }
        expected = end;
    }
    None
}
