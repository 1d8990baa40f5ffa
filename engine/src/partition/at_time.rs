//! Finding a place by time.
//!
//! The place of a time is the first batch, in the order of ids, whose own time is not before it. Where the clock went
//! backwards, later batches with earlier times follow that place; no batch at or after the time comes before it.

use std::rc::Rc;

use mofka_log::{EventId, FilePos};
use mofka_net::WireError;

use super::Partition;
use super::finding::FIND_WINDOW_BYTES;
use super::segment::Segment;
use super::store::Store;
use super::walk::Walk;
use crate::io::Io;

impl<I: Io> Partition<I> {
    /// The first event of the first batch that was accepted at this time or later; what is visible ends there when there
    /// is none. Of each segment before the right one only the footer is read, once, and of the right one a few blocks.
    ///
    /// # Errors
    /// When a footer or frame cannot be read or does not check.
    pub async fn find_time(&self, timestamp_us: u64) -> Result<EventId, WireError> {
        let visible_end = self.visible_end();
        let Some(store) = &self.store else {
            return Ok(self.recent.borrow().first_at(timestamp_us).unwrap_or(visible_end));
        };
        for segment in store.segments() {
            if segment.base >= visible_end {
                break;
            }
            let found = self
                .find_time_in(store, &segment, timestamp_us, visible_end)
                .await;
            match found {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                // Retention took it meanwhile.
                Err(_) if segment.base < self.trim_end() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(visible_end)
    }

    async fn find_time_in(
        &self,
        store: &Store<I>,
        segment: &Rc<Segment>,
        timestamp_us: u64,
        visible_end: EventId,
    ) -> Result<Option<EventId>, WireError> {
        let timestamps_us = store.timestamps_us(segment).await;
        let timestamps_us = timestamps_us.map_err(|error| self.unreadable(&error.to_string()))?;
        if timestamps_us.is_none_or(|(_, last_us)| last_us < timestamp_us) {
            return Ok(None);
        }
        let located = store.locate_time(segment, timestamp_us).await;
        let (readable, at): (_, Option<FilePos>) =
            located.map_err(|error| self.unreadable(&error.to_string()))?;
        let Some(at) = at else { return Ok(None) };
        let mut walk = Walk::new(Rc::clone(segment), at, FIND_WINDOW_BYTES, Rc::clone(&self.memory));
        loop {
            let next = walk.next(&readable.files.meta).await;
            match next.map_err(|error| self.unreadable(&error))? {
                Some(batch) if batch.base_event_id() >= visible_end => return Ok(None),
                Some(batch) if batch.timestamp_us() >= timestamp_us => {
                    return Ok(Some(batch.base_event_id()));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
}
