//! What a partition knows of one of its segments.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mofka_log::{Batch, EventId, Footer, SegmentFacts, SparseIndex};

/// One segment. Nothing is added to it once `end` is set.
pub(crate) struct Segment {
    pub(crate) base: EventId,
    end: Cell<Option<EventId>>,
    /// Not known before its footer was read, or its header.
    salt: Cell<Option<u64>>,
    /// Bytes of both files, once it is sealed and that was looked at.
    bytes: Cell<Option<(u64, u64)>>,
    /// Its footer does not check, or could not be written, and its frames are all there.
    is_scanned: Cell<bool>,
    /// What its footer says, once that was looked at.
    footer_end: Cell<Option<EventId>>,
    /// What of it is gone, as far as it was looked at.
    damage: RefCell<Option<String>>,
    /// Times of the first and the last batch, when they are known.
    timestamps_us: Cell<Option<(u64, u64)>>,
    /// That of a sealed segment is read from its footer when somebody asks.
    index: RefCell<Option<Rc<RefCell<SparseIndex>>>>,
}

impl Segment {
    fn new(base: EventId, end: Option<EventId>, salt: Option<u64>, index: Option<SparseIndex>) -> Self {
        Self {
            base,
            end: Cell::new(end),
            salt: Cell::new(salt),
            bytes: Cell::new(None),
            is_scanned: Cell::new(false),
            footer_end: Cell::new(None),
            damage: RefCell::new(None),
            timestamps_us: Cell::new(None),
            index: RefCell::new(index.map(|index| Rc::new(RefCell::new(index)))),
        }
    }

    /// The one that is written.
    pub(super) fn active(facts: &SegmentFacts, index: SparseIndex) -> Self {
        Self::new(facts.base_event_id, None, Some(facts.salt), Some(index))
    }

    /// One that was not looked at.
    pub(super) fn known_by_name(base: EventId, end: EventId) -> Self {
        Self::new(base, Some(end), None, None)
    }

    /// One whose frames were read.
    pub(super) fn unsealed(base: EventId, end: EventId, salt: u64, index: SparseIndex) -> Self {
        Self::new(base, Some(end), Some(salt), Some(index))
    }

    /// Exclusive end of its events, when nothing is added any more.
    pub(crate) fn end(&self) -> Option<EventId> {
        self.end.get()
    }

    /// Whether it is whole and closed, as far as that is known: one that was not looked at counts as sealed, and so does one whose footer
    /// does not check and whose frames do.
    pub(super) fn is_sealed(&self) -> bool {
        self.end.get().is_some() && (self.bytes.get().is_some() || self.salt.get().is_none())
    }

    pub(super) fn salt(&self) -> Option<u64> {
        self.salt.get()
    }

    /// Bytes of the meta and the data file, when it is sealed and they are known.
    pub(super) fn bytes(&self) -> Option<(u64, u64)> {
        self.bytes.get()
    }

    /// When its first and its last batch were accepted, if that is known.
    pub(super) fn timestamps_us(&self) -> Option<(u64, u64)> {
        let index = self.index.borrow();
        let of_index = index.as_ref().and_then(|index| index.borrow().timestamps_us());
        of_index.or(self.timestamps_us.get())
    }

    /// Nothing is added any more.
    pub(super) fn ended(&self, end: EventId) {
        self.end.set(Some(end));
    }

    /// Its footer is durable.
    pub(super) fn sealed(&self, meta_bytes: u64, data_bytes: u64) {
        self.closed(meta_bytes, data_bytes, false);
    }

    /// It has no footer that checks, and its frames are all there.
    pub(super) fn scanned(&self, meta_bytes: u64, data_bytes: u64) {
        self.closed(meta_bytes, data_bytes, true);
    }

    fn closed(&self, meta_bytes: u64, data_bytes: u64, is_scanned: bool) {
        self.is_scanned.set(is_scanned);
        self.timestamps_us.set(self.timestamps_us());
        self.bytes.set(Some((meta_bytes, data_bytes)));
    }

    /// Whether its footer is durable, as far as that is known.
    pub(super) fn has_footer(&self) -> bool {
        self.is_sealed() && !self.is_scanned.get()
    }

    /// What its footer says, and how long its files are.
    pub(super) fn note_footer(&self, footer: &Footer, meta_bytes: u64, data_bytes: u64) {
        self.salt.set(Some(footer.salt()));
        self.timestamps_us.set(footer.timestamps_us());
        self.bytes.set(Some((meta_bytes, data_bytes)));
        self.footer_end.set(Some(footer.end_event_id()));
    }

    /// Events between the last one that its footer has and the next segment.
    pub(super) fn missing(&self) -> Option<(EventId, EventId)> {
        let (footer_end, end) = (self.footer_end.get()?, self.end.get()?);
        (footer_end < end).then_some((footer_end, end))
    }

    /// Some of it is gone.
    pub(super) fn note_damage(&self, damage: String) {
        *self.damage.borrow_mut() = Some(damage);
    }

    pub(super) fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    pub(super) fn index(&self) -> Option<Rc<RefCell<SparseIndex>>> {
        self.index.borrow().clone()
    }

    pub(super) fn keep_index(&self, salt: u64, index: SparseIndex) -> Rc<RefCell<SparseIndex>> {
        self.salt.set(Some(salt));
        let index = Rc::new(RefCell::new(index));
        *self.index.borrow_mut() = Some(Rc::clone(&index));
        index
    }

    /// The index can be had again from the footer.
    pub(super) fn drop_index(&self) {
        if self.bytes.get().is_some() {
            self.timestamps_us.set(self.timestamps_us());
            *self.index.borrow_mut() = None;
        }
    }

    /// Whether a frame read from this segment's file belongs to it.
    pub(crate) fn owns(&self, batch: &Batch) -> bool {
        Some(batch.salt()) == self.salt.get()
    }
}
