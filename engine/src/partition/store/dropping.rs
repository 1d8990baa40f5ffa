//! What the module `trim` needs of a store, to let its oldest segment go.

use std::path::Path;
use std::rc::Rc;

use mofka_log::EventId;
use uuid::Uuid;

use super::super::segment::Segment;
use super::super::segment_files::{data_path, free_path};
use super::Store;
use crate::commit::Files;
use crate::io::Io;
use crate::recover::OpenError;

impl<I: Io> Store<I> {
    pub(in super::super) fn place(&self) -> (&I, &Path, Uuid) {
        (&self.io, &self.dir, self.partition)
    }

    /// The oldest segment, unless it is the one that is written.
    pub(in super::super) fn oldest_sealed(&self) -> Option<Rc<Segment>> {
        let segments = self.segments.borrow();
        segments
            .first()
            .filter(|segment| segments.len() > 1 && segment.is_sealed())
            .cloned()
    }

    /// The sealed segments from the oldest on, up to the first that is not, or is written.
    pub(in super::super) fn sealed(&self) -> Vec<Rc<Segment>> {
        let segments = self.segments.borrow();
        let but_last = segments.len().saturating_sub(1);
        let sealed = segments
            .iter()
            .take(but_last)
            .take_while(|segment| segment.is_sealed());
        sealed.cloned().collect()
    }

    /// Whether another segment than this, the oldest, has a footer: that knows all producers of the segments before it.
    pub(in super::super) fn has_footer_beside(&self, oldest: &Rc<Segment>) -> bool {
        let segments = self.segments.borrow();
        let mut others = segments.iter().filter(|segment| !Rc::ptr_eq(segment, oldest));
        others.any(|segment| segment.has_footer())
    }

    /// When the first and the last batch of this segment were accepted.
    ///
    /// # Errors
    /// As [`Store::locate`].
    pub(in super::super) async fn timestamps_us(
        &self,
        segment: &Rc<Segment>,
    ) -> Result<Option<(u64, u64)>, OpenError> {
        if let Some(known) = segment.timestamps_us() {
            return Ok(Some(known));
        }
        let files = self.files_of(segment).await?;
        self.index_of(segment, &files).await?;
        Ok(segment.timestamps_us())
    }

    /// The segment that is written, and the bytes that it has.
    pub(in super::super) fn active(&self) -> Option<(Rc<Segment>, u64)> {
        let bytes = self
            .committer
            .with_appender(|appender| appender.meta_end().get() + appender.data_end().get());
        self.segments
            .borrow()
            .last()
            .map(|segment| (Rc::clone(segment), bytes))
    }

    /// The meta file of a segment.
    pub(in super::super) async fn meta_of(&self, segment: &Rc<Segment>) -> Result<Rc<I::File>, OpenError> {
        Ok(self.files_of(segment).await?.meta)
    }

    /// Keeps the files of a segment open while its names go. It is looked at, if nobody did yet: the hole behind it would be the
    /// log's beginning once it is gone.
    ///
    /// # Errors
    /// As [`Store::locate`], and when events are missing between it and the next.
    pub(in super::super) async fn hold(&self, segment: &Rc<Segment>) -> Result<(), OpenError> {
        let files = self.files_of(segment).await?;
        if segment.salt().is_none() {
            self.index_of(segment, &files).await?;
        }
        self.refuse_hole(segment)?;
        *self.held.borrow_mut() = Some((segment.base, files));
        Ok(())
    }

    pub(in super::super) fn let_go(&self) {
        *self.held.borrow_mut() = None;
    }

    pub(super) fn held(&self, base: EventId) -> Option<Files<I::File>> {
        let held = self.held.borrow();
        held.as_ref()
            .filter(|(of, _)| *of == base)
            .map(|(_, files)| files.clone())
    }

    /// Keeps the data file of a segment that is gone for the next one: its blocks are there and were written. Not when
    /// one is kept already, or it is much smaller than a full one.
    ///
    /// # Errors
    /// When it could neither be kept nor removed.
    pub(in super::super) async fn release_data(&self, base: EventId, bytes: u64) -> std::io::Result<()> {
        let path = data_path(&self.dir, base);
        if bytes >= self.config.segment_data_bytes / 2 && !self.has_free.get() {
            self.io.rename(&path, &free_path(&self.dir)).await?;
            self.has_free.set(true);
            return Ok(());
        }
        self.io.remove(&path).await
    }

    /// Moves `trim_end` behind the oldest segment.
    pub(in super::super) fn forget_oldest(&self) {
        let mut segments = self.segments.borrow_mut();
        assert!(segments.len() > 1, "the segment that is written is not trimmed");
        let gone = segments.remove(0);
        self.open.borrow_mut().retain(|(base, _)| *base != gone.base);
        self.let_go();
    }
}
