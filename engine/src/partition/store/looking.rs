//! Looks at sealed segments: opens their files, reads what they say of themselves, and finds out what is missing.

use std::cell::RefCell;
use std::rc::Rc;

use mofka_log::{BLOCK_BYTES, EventId, Footer, SparseIndex};

use super::super::segment::Segment;
use super::super::segment_files::{check_header, data_path, meta_path, own_footer};
use super::Store;
use crate::commit::Files;
use crate::io::{Io, IoFile};
use crate::recover::{self, Known, OpenError, Opened};

impl<I: Io> Store<I> {
    pub(super) async fn files_of(&self, segment: &Rc<Segment>) -> Result<Files<I::File>, OpenError> {
        if segment.end().is_none() {
            return Ok(self.committer.files());
        }
        let known = self
            .open
            .borrow()
            .iter()
            .find(|(base, _)| *base == segment.base)
            .map(|(_, files)| files.clone())
            .or_else(|| self.held(segment.base));
        if let Some(files) = known {
            return Ok(files);
        }
        let files = match self.open_files(segment).await {
            Ok(files) => files,
            // Its names went while it was being opened.
            Err(error) => return self.held(segment.base).ok_or(error),
        };
        // One that went meanwhile would keep its space on the device until others took its place.
        if self.is_listed(segment) {
            self.keep_open(segment.base, files.clone());
        }
        Ok(files)
    }

    /// Whether it is there: retention did not let it go.
    fn is_listed(&self, segment: &Rc<Segment>) -> bool {
        let segments = self.segments.borrow();
        segments.iter().any(|known| Rc::ptr_eq(known, segment))
    }

    async fn open_files(&self, segment: &Rc<Segment>) -> Result<Files<I::File>, OpenError> {
        let base = segment.base;
        let mut files = Vec::new();
        for (path, is_data) in [
            (data_path(&self.dir, base), true),
            (meta_path(&self.dir, base), false),
        ] {
            let file = self.io.open(&path).await.map_err(|error| {
                let is_gone = error.kind() == std::io::ErrorKind::NotFound && self.is_listed(segment);
                if !is_gone || self.held(base).is_some() {
                    return OpenError::io("opening", &path, &error);
                }
                let what = if is_data { "the data of events" } else { "events" };
                let end = segment.end().unwrap_or(base);
                OpenError::new(format!(
                    "{}: {what} {base} to {end} is gone with this file",
                    path.display()
                ))
            });
            files.push(Rc::new(file?));
        }
        match (files.pop(), files.pop()) {
            (Some(meta), data) => Ok(Files { meta, data }),
            (None, _) => unreachable!("two files were opened"),
        }
    }

    pub(super) async fn index_of(
        &self,
        segment: &Rc<Segment>,
        files: &Files<I::File>,
    ) -> Result<Rc<RefCell<SparseIndex>>, OpenError> {
        if let Some(index) = segment.index() {
            return Ok(index);
        }
        let index = self.look_at(segment, files).await?;
        // Bounded by what is open: an index goes when its segment's files do.
        for other in self.segments.borrow().iter() {
            let in_use = self.open.borrow().iter().any(|(base, _)| *base == other.base);
            if other.end().is_some() && !in_use {
                other.drop_index();
            }
        }
        Ok(index)
    }

    /// Reads what a segment says of itself: its footer, or all of its frames when it was never sealed.
    async fn look_at(
        &self,
        segment: &Rc<Segment>,
        files: &Files<I::File>,
    ) -> Result<Rc<RefCell<SparseIndex>>, OpenError> {
        let path = meta_path(&self.dir, segment.base);
        let wrong = |what: String| OpenError::new(format!("{}: {what}", path.display()));
        let failed = |error: std::io::Error| OpenError::io("reading", &path, &error);
        let end = segment.end().unwrap_or(segment.base);
        let size = files.meta.size_bytes().await.map_err(failed)?;
        if let Some((footer, header)) = own_footer(&path, &files.meta, self.partition, segment.base).await? {
            // Who reads it goes by the footer's salt, which is the header's.
            header.map_err(|error| wrong(error.to_string()))?;
            let footer_end = footer.end_event_id();
            if footer_end > end {
                return Err(wrong(format!(
                    "it holds events up to {footer_end}, and the next segment begins at {end}"
                )));
            }
            let data_bytes = self.data_bytes_of(segment, files, &footer).await?;
            segment.note_footer(&footer, size, data_bytes);
            return Ok(segment.keep_index(footer.salt(), footer.index()));
        }
        match self.frames_of(segment, files, end).await? {
            Opened::NeverUsed => Err(wrong(
                "this segment is empty although another follows it".to_owned(),
            )),
            Opened::Segment(opened) => {
                let recovered = &opened.recovered;
                if recovered.next_event_id > end {
                    return Err(wrong(recovered.verdict.prose()));
                }
                if recovered.next_event_id < end {
                    // What is before that is readable.
                    segment.note_damage(format!("{}: {}", path.display(), recovered.verdict.prose()));
                }
                let index = segment.keep_index(opened.header.salt(), recovered.index.clone());
                // Retention lets it go like any other, and what comes after it.
                segment.scanned(size, recovered.data_end.get());
                Ok(index)
            }
        }
    }

    /// Reads all frames of a segment, whose events up to `end` were durable.
    async fn frames_of(
        &self,
        segment: &Rc<Segment>,
        files: &Files<I::File>,
        end: EventId,
    ) -> Result<Opened, OpenError> {
        let path = meta_path(&self.dir, segment.base);
        let known = Known {
            durable_end: end,
            ..Known::default()
        };
        let opened = recover::meta_file(&path, &files.meta, files.data.as_ref(), known, &mut |_| ()).await?;
        if let Opened::Segment(opened) = &opened {
            check_header(&path, &opened.header, self.partition, segment.base)?;
        }
        Ok(opened)
    }

    /// Where the data of a segment ends. Its footer says so, and the data file is at least so long; where it is not, the rest is
    /// readable, and what is gone is noted.
    async fn data_bytes_of(
        &self,
        segment: &Rc<Segment>,
        files: &Files<I::File>,
        footer: &Footer,
    ) -> Result<u64, OpenError> {
        let path = data_path(&self.dir, segment.base);
        let size = match &files.data {
            Some(data) => data.size_bytes().await,
            None => Ok(0),
        };
        let size = size.map_err(|error| OpenError::io("reading", &path, &error))?;
        let data_end = footer.data_end().get();
        if data_end <= size.next_multiple_of(BLOCK_BYTES as u64) {
            return Ok(data_end);
        }
        let frames = self.frames_of(segment, files, footer.end_event_id()).await?;
        let what = match frames {
            Opened::Segment(opened) if opened.recovered.verdict.is_damaged() => {
                opened.recovered.verdict.prose()
            }
            _ => "its frames do not say the same".to_owned(),
        };
        segment.note_damage(format!(
            "{}: it ends at {size}, and by the footer of its segment data goes up to {data_end}: {what}",
            path.display()
        ));
        Ok(size)
    }

    /// Looks at every segment that was known by its name alone, the latest first, and whether events are missing behind any.
    ///
    /// # Errors
    /// What is wrong with one: events that were durable are missing, or cannot be read. That a file could not be read only when all
    /// others were looked at.
    pub(crate) async fn audit(&self) -> Result<(), OpenError> {
        let ended: Vec<_> = self
            .segments
            .borrow()
            .iter()
            .filter(|segment| segment.end().is_some())
            .cloned()
            .collect();
        let mut unread = Ok(());
        for segment in ended.into_iter().rev() {
            // Retention may have let it go in the meantime.
            if !self.is_listed(&segment) {
                continue;
            }
            match self.look_and_forget(&segment).await {
                Err(error) if !self.is_listed(&segment) => {
                    tracing::debug!(%error, "a segment went while it was looked at");
                }
                Err(error) if error.is_io() => unread = unread.and(Err(error)),
                Err(error) => return Err(error),
                Ok(()) => self.refuse_hole(&segment)?,
            }
        }
        unread
    }

    async fn look_and_forget(&self, segment: &Rc<Segment>) -> Result<(), OpenError> {
        // Somebody may have looked at it before, and asked for what it holds alone.
        if segment.salt().is_none() {
            let files = self.open_files(segment).await?;
            self.look_at(segment, &files).await?;
            segment.drop_index();
        }
        Ok(())
    }

    /// # Errors
    /// When events are missing between this segment, as far as it was looked at, and the next, or data of its own.
    pub(super) fn refuse_hole(&self, segment: &Segment) -> Result<(), OpenError> {
        if let Some(damage) = segment.damage() {
            return Err(OpenError::new(damage));
        }
        let Some((missing, end)) = segment.missing() else {
            return Ok(());
        };
        Err(OpenError::new(format!(
            "{}: events {missing} to {end} are missing: no segment holds them",
            meta_path(&self.dir, segment.base).display()
        )))
    }
}
