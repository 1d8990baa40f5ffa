//! Opens the files of a log partition: reads what was being written when the node stopped, and no more.
//!
//! Segments that were sealed are known by their names: each ends where the next begins. So opening takes as long for a
//! large log as for a small one; [`Store::audit`] looks at the others' footers later.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use mofka_log::{
    Appender, AppenderConfig, BLOCK_BYTES, EventId, FilePos, Footer, FooterFacts, LastSegment, ProducerTable,
    Reach, Recovered, SegmentFacts, SegmentHeader, SparseIndex, Verdict,
};
use uuid::Uuid;

use super::kept::kept_producers;
use super::segment::Segment;
use super::segment_files::{
    Begun, base_of, begin, check_header, data_path, meta_path, own_footer, prepare, remove_unfinished, seal,
};
use super::store::Store;
use super::trim;
use crate::commit::{Committer, Files};
use crate::io::{Io, IoFile, Pace};
use crate::recover::{self, Known, OpenError, Opened, OpenedSegment};
use crate::room::{RollError, Room};

/// What opening found, for status and for the engine.
pub(crate) struct Found {
    pub(crate) next_event_id: EventId,
    pub(crate) producers: ProducerTable,
    /// What recovery said of the segment that was being written.
    pub(crate) verdict: Verdict,
    /// Events stay readable, but nothing may be added: something durable is damaged.
    pub(crate) read_only: Option<String>,
    /// Ends of the files that are written.
    pub(crate) reserved: Reach,
}

/// A segment's meta file, and where it is.
type Meta<F> = (PathBuf, Rc<F>);

/// The last segment, which is gone on with.
struct Tail<F> {
    base: EventId,
    files: Files<F>,
    opened: Box<OpenedSegment>,
}

/// How the last segment was left.
enum Last<F> {
    Tail(Tail<F>),
    /// Nobody begins the next before it seals one, but somebody did once.
    Sealed(EventId),
    /// Its files were being named when the machine stopped ([`LastSegment`]).
    NeverBegun,
    /// The same, where the file system made a later change of names durable and not an earlier one; or the header was lost, and what was
    /// in it with it. Nobody can tell, so it stays under another name.
    Headerless,
}

struct Opening<'a, I: Io> {
    io: &'a I,
    dir: &'a Path,
    partition: Uuid,
    /// What is known of producers before the segment that is looked at.
    producers: ProducerTable,
    /// That is not all: what was kept of them cannot be read.
    producers_missing: bool,
    segments: Vec<Rc<Segment>>,
    /// Everything before this was durable: a segment was begun there, or something else says so.
    durable_end: EventId,
    read_only: Option<String>,
}

impl<I: Io> Store<I> {
    /// Opens the partition's directory, recovers what it holds, and makes it ready to go on. Creates it when new. `durable_end`:
    /// everything before it had been durable, as is known from elsewhere.
    ///
    /// # Errors
    /// When files cannot be read or made, belong to another partition, or have an unknown version.
    pub(crate) async fn open(
        io: I,
        dir: PathBuf,
        partition: Uuid,
        config: AppenderConfig,
        durable_end: EventId,
    ) -> Result<(Self, Found), OpenError> {
        let names = io
            .list(&dir)
            .await
            .map_err(|error| OpenError::io("listing", &dir, &error))?;
        if !names.is_empty() {
            // Names that a killed process left need not be durable, and events are promised in them from now on.
            io.sync_dir(&dir)
                .await
                .map_err(|error| OpenError::io("syncing the directory", &dir, &error))?;
        }
        remove_unfinished(&io, &dir, &names).await;
        let mut bases: Vec<EventId> = names.iter().filter_map(|name| base_of(name)).collect();
        bases.sort_unstable();
        trim::remove_leftovers(&io, &dir, &names, bases.first().copied()).await;
        let mut opening = Opening {
            io: &io,
            dir: &dir,
            partition,
            producers: ProducerTable::default(),
            producers_missing: false,
            segments: Vec::new(),
            durable_end,
            read_only: None,
        };
        let mut last = opening.all(&bases).await?;
        let mut first_base = EventId::new(0);
        let is_headerless = matches!(last, Some(Last::Headerless));
        if let Some(Last::NeverBegun | Last::Headerless) = last
            && let Some(base) = bases.pop()
        {
            last = opening.without(base, is_headerless, &bases, &names).await?;
            // Those before it were let go, and their ids are not given again.
            first_base = base;
        }
        let Opening {
            mut segments,
            producers,
            read_only,
            ..
        } = opening;
        let mut found = Found {
            next_event_id: first_base,
            producers,
            verdict: Verdict::Clean,
            read_only,
            reserved: Reach {
                meta: FilePos::new(0),
                data: FilePos::new(0),
            },
        };
        let committer = match last {
            Some(Last::Tail(tail)) => {
                let recovered = &tail.opened.recovered;
                found.next_event_id = recovered.next_event_id;
                found.producers = recovered.producers.clone();
                found.verdict = recovered.verdict.clone();
                if let Verdict::Damaged { .. } = found.verdict {
                    found.read_only.get_or_insert(found.verdict.prose());
                }
                let (committer, segment) = resume_tail(&io, &dir, tail, config).await?;
                found.reserved = ends_of(&committer).await?;
                segments.push(Rc::new(segment));
                committer
            }
            Some(Last::NeverBegun | Last::Headerless) => {
                return Err(OpenError::new(format!(
                    "{}: two segments in a row were never begun",
                    dir.display()
                )));
            }
            Some(Last::Sealed(end)) => {
                found.next_event_id = end;
                first_segment(&io, &dir, partition, config, &mut found, &mut segments).await?
            }
            None => first_segment(&io, &dir, partition, config, &mut found, &mut segments).await?,
        };
        Ok((Self::new(io, dir, partition, config, committer, segments), found))
    }
}

impl<I: Io> Opening<'_, I> {
    /// Looks at the last segment, and at those before it that were not sealed.
    async fn all(&mut self, bases: &[EventId]) -> Result<Option<Last<I::File>>, OpenError> {
        let Some((last, before)) = bases.split_last() else {
            return Ok(None);
        };
        let last_meta = self.open(*last).await?;
        let last_footer = self.footer(*last, &last_meta).await?;
        (self.producers, self.producers_missing) = (ProducerTable::default(), false);
        let mut unsealed = Vec::new();
        let mut known = None;
        for (place, base) in before.iter().enumerate().rev() {
            let end = bases.get(place + 1).copied().unwrap_or(*base);
            // Opened again when its frames are read: there may be many.
            let meta = self.open(*base).await?;
            known = self.footer(*base, &meta).await?.map(|footer| footer.producers());
            if known.is_some() {
                break;
            }
            unsealed.push((*base, end));
        }
        match known {
            Some(producers) => self.producers = producers,
            None if unsealed.is_empty() && last_footer.is_some() => {}
            None => self.kept_producers(bases, last_footer.is_some()).await,
        }
        // Those that are not looked at are as good as their names until somebody reads them.
        let sealed = before.len() - unsealed.len();
        for (place, base) in before.iter().take(sealed).enumerate() {
            let end = bases.get(place + 1).copied().unwrap_or(*base);
            self.segments.push(Rc::new(Segment::known_by_name(*base, end)));
        }
        for (base, end) in unsealed.into_iter().rev() {
            self.unsealed(base, end).await?;
        }
        match last_footer {
            Some(footer) => self.sealed(*last, &footer).map(Some),
            None => self.last(*last, last_meta).await.map(Some),
        }
    }

    /// The footer of a segment, if it has one.
    async fn footer(&self, base: EventId, (path, meta): &Meta<I::File>) -> Result<Option<Footer>, OpenError> {
        let found = own_footer(path, meta, self.partition, base).await?;
        Ok(found.map(|(footer, _)| footer))
    }

    /// No segment before the last has a footer that says what producers sent: what was kept of them does. `is_last_sealed`: the footer
    /// of the last one knows as much, but no other is to be written without it.
    async fn kept_producers(&mut self, bases: &[EventId], is_last_sealed: bool) {
        let first = bases.first().copied().unwrap_or_default();
        let error = match kept_producers(self.io, self.dir, self.partition, first).await {
            Ok(kept) => {
                self.producers = kept.unwrap_or_default();
                return;
            }
            Err(error) => error,
        };
        self.producers_missing = true;
        if is_last_sealed {
            tracing::warn!(%error, "what was kept of producers cannot be read; a later footer has it");
            return;
        }
        let reason = match error.is_io() {
            true => format!(
                "nothing is damaged, but what producers sent to segments that were trimmed cannot be read ({error}): start \
                 the node again"
            ),
            false => format!(
                "damaged: {error}; what producers sent to segments that were trimmed is not known, and they could store \
                 batches twice (mofka-ctl log repair sets the file aside)"
            ),
        };
        self.read_only.get_or_insert(reason);
    }

    /// Goes on without the last segment, in which nothing is; `bases`: those before it.
    ///
    /// It was begun when everything before it was durable. So when something of that is missing, its files stay: what they vouch
    /// for would be forgotten at the next start, and the ids of what is gone would be given again.
    async fn without(
        &mut self,
        base: EventId,
        is_headerless: bool,
        bases: &[EventId],
        names: &[String],
    ) -> Result<Option<Last<I::File>>, OpenError> {
        self.segments.clear();
        self.durable_end = self.durable_end.max(base);
        let last = self.all(bases).await?;
        let end = match &last {
            Some(Last::Tail(tail)) => tail.opened.recovered.next_event_id,
            Some(Last::Sealed(end)) => *end,
            // An error, and they stay as they are.
            Some(Last::NeverBegun | Last::Headerless) => return Ok(last),
            None => base,
        };
        if end < base {
            self.read_only.get_or_insert_with(|| {
                format!(
                    "damaged: events {end} to {base} had been durable and are gone (a segment was begun after them)"
                )
            });
        } else if is_headerless {
            self.set_aside(base, names).await?;
        } else {
            self.forget(base).await?;
        }
        Ok(last)
    }

    async fn open(&self, base: EventId) -> Result<Meta<I::File>, OpenError> {
        let path = meta_path(self.dir, base);
        let meta = self.io.open(&path).await;
        let meta = meta.map_err(|error| OpenError::io("opening", &path, &error))?;
        Ok((path, Rc::new(meta)))
    }

    /// A segment that was full and not sealed yet when the machine stopped. The next one's header says that it was
    /// durable to its end.
    async fn unsealed(&mut self, base: EventId, end: EventId) -> Result<(), OpenError> {
        let (path, meta) = self.open(base).await?;
        let data = self.data(base).await?;
        let known = Known {
            producers: self.producers.clone(),
            durable_end: end,
        };
        let opened = recover::meta_file(&path, &meta, data.as_ref(), known, &mut |_| ()).await?;
        let Opened::Segment(opened) = opened else {
            return Err(OpenError::new(format!(
                "{}: this segment is empty although another follows it",
                path.display()
            )));
        };
        check_header(&path, &opened.header, self.partition, base)?;
        let recovered = &opened.recovered;
        let segment = Segment::unsealed(base, end, opened.header.salt(), recovered.index.clone());
        if recovered.next_event_id != end || data.is_none() {
            let reason = match (&recovered.verdict, &data) {
                (_, None) => format!("damaged: the data of events {base} to {end} is gone with its file"),
                (Verdict::Damaged { .. }, _) => recovered.verdict.prose(),
                _ => format!(
                    "damaged: events {} to {end} are not where they were",
                    recovered.next_event_id
                ),
            };
            self.read_only.get_or_insert(reason);
        } else if self.producers_missing {
            // Its footer would say for good that they sent nothing.
            segment.scanned(recovered.meta_end.get(), recovered.data_end.get());
        } else if let Err(error) = self.seal(&segment, recovered, Files { meta, data }).await {
            tracing::warn!(path = %path.display(), %error, "could not be sealed; its frames are read again at the next start");
            segment.scanned(recovered.meta_end.get(), recovered.data_end.get());
        }
        self.producers = recovered.producers.clone();
        self.segments.push(Rc::new(segment));
        Ok(())
    }

    async fn seal(
        &self,
        segment: &Segment,
        recovered: &Recovered,
        files: Files<I::File>,
    ) -> std::io::Result<()> {
        let facts = FooterFacts {
            salt: segment.salt().unwrap_or_default(),
            base_event_id: segment.base,
            end_event_id: recovered.next_event_id,
            meta_end: recovered.meta_end,
            data_end: recovered.data_end,
            index: recovered.index.clone(),
            producers: recovered.producers.clone(),
        };
        let meta_bytes = seal(self.io, &files, &facts).await?;
        segment.sealed(meta_bytes, facts.data_end.get());
        Ok(())
    }

    /// The last segment, where it was sealed.
    fn sealed(&mut self, base: EventId, footer: &Footer) -> Result<Last<I::File>, OpenError> {
        let end = footer.end_event_id();
        if end <= base {
            // The next one would begin where this one does, and take its name.
            return Err(OpenError::new(format!(
                "{}: the footer says that the segment ends at event {end}, and none is sealed without events",
                meta_path(self.dir, base).display()
            )));
        }
        self.producers = footer.producers();
        self.segments.push(Rc::new(Segment::known_by_name(base, end)));
        Ok(Last::Sealed(end))
    }

    /// The last segment, which has no footer.
    async fn last(&mut self, base: EventId, (path, meta): Meta<I::File>) -> Result<Last<I::File>, OpenError> {
        let data = self.data(base).await?;
        let known = Known {
            producers: self.producers.clone(),
            durable_end: self.durable_end.max(base),
        };
        let opened = match recover::meta_file(&path, &meta, data.as_ref(), known, &mut |_| ()).await? {
            Opened::NeverUsed => return Ok(Last::Headerless),
            Opened::Segment(opened) => opened,
        };
        let data_header = match &data {
            Some(data) => header_of(data).await?,
            None => None,
        };
        let files = LastSegment {
            partition: self.partition,
            base,
            meta: &opened.header,
            recovered: &opened.recovered,
            data: data_header.as_ref(),
        };
        if files.was_never_begun() {
            return Ok(Last::NeverBegun);
        }
        check_header(&path, &opened.header, self.partition, base)?;
        let data = match data {
            Some(data) if files.has_its_data() => data,
            found => {
                let wrong = if found.is_some() {
                    "is not that of this segment"
                } else {
                    "is missing"
                };
                return Err(OpenError::new(format!(
                    "{}: the data file of segment {base} {wrong}",
                    data_path(self.dir, base).display()
                )));
            }
        };
        Ok(Last::Tail(Tail {
            base,
            files: Files {
                meta,
                data: Some(data),
            },
            opened,
        }))
    }

    async fn data(&self, base: EventId) -> Result<Option<Rc<I::File>>, OpenError> {
        let path = data_path(self.dir, base);
        match self.io.open(&path).await {
            Ok(data) => Ok(Some(Rc::new(data))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io("opening", &path, &error)),
        }
    }

    /// Removes the files of the last segment, in which there never was anything.
    async fn forget(&self, base: EventId) -> Result<(), OpenError> {
        for path in [meta_path(self.dir, base), data_path(self.dir, base)] {
            let removed = self.io.remove(&path).await;
            removed.map_err(|error| OpenError::io("removing", &path, &error))?;
        }
        self.sync_names().await
    }

    /// Gives the files of the last segment other names, the data file first: while the meta file has its name, every start
    /// comes back to this. A data file alone would get the next segment of that name laid over it. Each name is durable before the next.
    async fn set_aside(&self, base: EventId, names: &[String]) -> Result<(), OpenError> {
        for path in [data_path(self.dir, base), meta_path(self.dir, base)] {
            let aside = free_aside(&path, names);
            match self.io.rename(&path, &aside).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                renamed => renamed.map_err(|error| OpenError::io("renaming", &path, &error))?,
            }
            self.sync_names().await?;
            tracing::error!(path = %path.display(), aside = %aside.display(), "a segment has no header: its file is kept with the ending .lost, and nothing is read from it");
        }
        Ok(())
    }

    async fn sync_names(&self) -> Result<(), OpenError> {
        let synced = self.io.sync_dir(self.dir).await;
        synced.map_err(|error| OpenError::io("syncing the directory", self.dir, &error))
    }
}

/// The header of a data file, where it has one.
async fn header_of<F: IoFile>(data: &Rc<F>) -> Result<Option<SegmentHeader>, OpenError> {
    let block = data.read_at(FilePos::new(0), BLOCK_BYTES).await;
    let block = block.map_err(|error| OpenError::new(format!("reading a data file's header: {error}")))?;
    Ok(SegmentHeader::check(&block).ok())
}

/// A name with the ending `.lost` for this file, or `.lost-2` and so on when others were kept before it.
fn free_aside(path: &Path, names: &[String]) -> PathBuf {
    let mut place = 1_u64;
    loop {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".lost");
        if place > 1 {
            aside.push(format!("-{place}"));
        }
        let aside = PathBuf::from(aside);
        let name = aside.file_name();
        if !names.iter().any(|known| name == Some(known.as_ref())) {
            return aside;
        }
        place += 1;
    }
}

/// Where the files of the segment that is gone on with end: what has room there already. Not in the block that the content ends in,
/// however short the file was: room is made of zeros.
async fn ends_of<I: Io>(committer: &Committer<I>) -> Result<Reach, OpenError> {
    let failed = |error: std::io::Error| OpenError::new(format!("the size of a segment's file: {error}"));
    let block = BLOCK_BYTES as u64;
    let end = |bytes: u64, content: FilePos| {
        let whole = FilePos::new(bytes).align_down(block);
        whole.max(content.align_up(block))
    };
    let files = committer.files();
    let meta = files.meta.size_bytes().await.map_err(failed)?;
    let data = match &files.data {
        Some(data) => data.size_bytes().await.map_err(failed)?,
        None => 0,
    };
    Ok(committer.with_appender(|appender| Reach {
        meta: end(meta, appender.meta_end()),
        data: end(data, appender.data_end()),
    }))
}

/// Begins a segment where there is none to go on with.
async fn first_segment<I: Io>(
    io: &I,
    dir: &Path,
    partition: Uuid,
    config: AppenderConfig,
    found: &mut Found,
    segments: &mut Vec<Rc<Segment>>,
) -> Result<Rc<Committer<I>>, OpenError> {
    let before = segments.last();
    assert!(
        before.is_none_or(|last| last.base < found.next_event_id),
        "a segment begins behind those that there are"
    );
    let begun = async {
        let next = prepare(io, dir, Room::<I>::first(), None, Pace::Hurried).await?;
        begin(io, dir, partition, next, found.next_event_id, 1).await
    };
    let Begun {
        files,
        facts,
        reserved,
    } = begun.await.map_err(|error| match error {
        RollError::NoRoom(reason) | RollError::Failed(reason) => OpenError::new(reason),
    })?;
    // The directory may be new as well, and the one that it is in.
    for parent in dir.ancestors().skip(1).take(2) {
        let synced = io.sync_dir(parent).await;
        synced.map_err(|error| OpenError::io("syncing the directory", parent, &error))?;
    }
    found.reserved = reserved;
    segments.push(Rc::new(Segment::active(&facts, SparseIndex::default())));
    Ok(Committer::new(io.clone(), Appender::new(config, facts), files))
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
