//! Which bytes of an event's data are meant: a stack of views, each relative to the one before.
//!
//! Serialized (numbers are u64):
//!
//! ```text
//! bytes, base_bytes, location_bytes, location, selection_count, selections (see `selection.rs`)
//! ```

use mofka_log::EventId;

use crate::flatten::Flatten;
use crate::limits::{
    DESCRIPTOR_BYTES_MAX, LOCATION_BYTES_MAX, SEGMENTS_MAX, SELECTIONS_MAX, UNSTRUCTURED_SEGMENTS_MAX,
};
use crate::selection::{Numbers, Segment, Selection, Strided, TAG_STRIDED, TAG_SUB, TAG_UNSTRUCTURED};
use crate::width::{narrow, wide};

/// Why a view cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// It would select bytes that the view below does not have.
    #[error("the selection {} would go out of bounds: the view has {view_bytes} bytes", reach(*.end))]
    OutOfBounds {
        /// Where it would end; `None`: beyond 64 bits.
        end: Option<u64>,
        /// Bytes of the view below.
        view_bytes: u64,
    },
    /// Segments of an unstructured view.
    #[error(
        "segment {index} of the selection is overlapping or out of order: give them ascending and disjoint"
    )]
    OutOfOrder {
        /// The first one that is.
        index: usize,
    },
    /// It would select nothing; the constructors make an empty descriptor of that instead.
    #[error("the selection is empty")]
    Nothing,
    /// It falls into too many ranges.
    #[error("the selection falls into {segment_count} ranges, and at most {max} are allowed")]
    TooManySegments {
        /// How many.
        segment_count: u64,
        /// The bound.
        max: u64,
    },
    /// Too many views on top of each other.
    #[error("{SELECTIONS_MAX} selections on top of each other are the limit: flatten some of them")]
    TooDeep,
}

fn reach(end: Option<u64>) -> String {
    end.map_or_else(|| "beyond 64 bits".to_owned(), |end| format!("up to {end}"))
}

/// Why bytes are not a data descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// They end too early.
    #[error("it ends early: {need_bytes} bytes are needed and {have_bytes} are there")]
    Short {
        /// Bytes that the next part needs.
        need_bytes: usize,
        /// Bytes that are left.
        have_bytes: usize,
    },
    /// Bytes follow where it should end.
    #[error("{have_bytes} bytes follow its end")]
    Trailing {
        /// How many.
        have_bytes: usize,
    },
    /// A field is beyond its bound.
    #[error("its {field} is {value}, and at most {max} is allowed")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The bound.
        max: u64,
    },
    /// No such kind of selection.
    #[error("selection {index} is of kind {tag}: only 1, 2 and 3 have a meaning")]
    UnknownTag {
        /// Which one.
        index: u64,
        /// What it says.
        tag: u8,
    },
    /// A selection that does not fit the view below it.
    #[error("selection {index}: {error}")]
    View {
        /// Which one.
        index: u64,
        /// What is wrong with it.
        error: ViewError,
    },
    /// The size that is stated is not the size that is selected.
    #[error("it says that it selects {stated_bytes} bytes, but its selections have {selected_bytes}")]
    Bytes {
        /// What it says.
        stated_bytes: u64,
        /// What is true.
        selected_bytes: u64,
    },
}

/// A reference to data at the server, whole or in part.
///
/// The empty descriptor (the default) selects nothing: "do not fetch".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDescriptor {
    location: Location,
    base_bytes: u64,
    bytes: u64,
    selections: Vec<Selection>,
    /// How many ranges more than one `flatten` may give.
    added_segments: u64,
}

/// Almost every descriptor names an event; those are made without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Location {
    #[default]
    None,
    Event([u8; 8]),
    Other(Vec<u8>),
}

impl DataDescriptor {
    /// All data of an event.
    pub fn of_event(event_id: EventId, data_bytes: u64) -> Self {
        let location = Location::Event(event_id.get().to_le_bytes());
        Self {
            location,
            base_bytes: data_bytes,
            bytes: data_bytes,
            selections: Vec::new(),
            added_segments: 0,
        }
    }

    /// All of some data at a place that only its storage understands.
    ///
    /// # Errors
    /// When the location is longer than [`LOCATION_BYTES_MAX`].
    pub fn new(location: &[u8], data_bytes: u64) -> Result<Self, DescriptorError> {
        let (value, max) = (wide(location.len()), wide(LOCATION_BYTES_MAX));
        if value > max {
            return Err(DescriptorError::TooLarge {
                field: "location's length",
                value,
                max,
            });
        }
        let location = match <[u8; 8]>::try_from(location) {
            Ok(event_id) => Location::Event(event_id),
            Err(_) if location.is_empty() => Location::None,
            Err(_) => Location::Other(location.to_vec()),
        };
        Ok(Self {
            location,
            base_bytes: data_bytes,
            bytes: data_bytes,
            selections: Vec::new(),
            added_segments: 0,
        })
    }

    /// Where the data is: opaque, except to its storage.
    pub fn location(&self) -> &[u8] {
        match &self.location {
            Location::None => &[],
            Location::Event(id) => id,
            Location::Other(bytes) => bytes,
        }
    }

    /// The location as the event id that it is in our partitions.
    pub fn event_id(&self) -> Option<EventId> {
        match &self.location {
            Location::Event(id) => Some(EventId::new(u64::from_le_bytes(*id))),
            _ => None,
        }
    }

    /// Bytes of the event's whole data.
    pub fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    /// Bytes that are selected.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether all of the event's data is selected.
    pub fn is_whole(&self) -> bool {
        // Selections are ascending without overlap: what has all bytes leaves none out.
        self.bytes == self.base_bytes
    }

    /// The views on top of each other, the first on the event's data.
    pub fn selections(&self) -> &[Selection] {
        &self.selections
    }

    /// `bytes` bytes of this view from `offset` on, cut to what there is. Empty when nothing is left.
    #[must_use]
    pub fn sub_view(&self, offset: u64, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes.saturating_sub(offset));
        if bytes == 0 {
            return Self::default();
        }
        let mut view = self.clone();
        view.bytes = bytes;
        if bytes == self.bytes {
            return view;
        }
        // A part of a part is a part: the stack does not grow, and so this cannot fail.
        if let Some(Selection::Sub(segment)) = view.selections.last_mut() {
            segment.offset = segment.offset.saturating_add(offset);
            segment.bytes = bytes;
        } else {
            view.selections.push(Selection::Sub(Segment { offset, bytes }));
        }
        view
    }

    /// `block_count` blocks of `block_bytes` of this view, the first at `offset`, `gap_bytes` between them. Empty
    /// when there are no blocks, no bytes in them, or the offset is beyond the end.
    ///
    /// # Errors
    /// When the last block ends beyond the view (a gap after it does not count), or at a bound of `limits.rs`.
    pub fn strided_view(
        &self,
        offset: u64,
        block_count: u64,
        block_bytes: u64,
        gap_bytes: u64,
    ) -> Result<Self, ViewError> {
        if offset > self.bytes || block_count == 0 || block_bytes == 0 {
            return Ok(Self::default());
        }
        let strided = Strided {
            offset,
            block_count,
            block_bytes,
            gap_bytes,
        };
        let selection = Selection::Strided(strided);
        let bytes = selection.check(self.bytes)?;
        if block_count == 1 || gap_bytes == 0 {
            return Ok(self.sub_view(offset, bytes));
        }
        self.clone().with(selection, bytes)
    }

    /// The given segments of this view. Empty when they have no bytes; touching ones are merged.
    ///
    /// # Errors
    /// When they are not ascending and disjoint, reach beyond the view, or at a bound of `limits.rs`.
    pub fn unstructured_view(&self, segments: &[Segment]) -> Result<Self, ViewError> {
        let mut merged: Vec<Segment> = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let end = segment.end().filter(|end| *end <= self.bytes);
            if end.is_none() {
                return Err(ViewError::OutOfBounds {
                    end: segment.end(),
                    view_bytes: self.bytes,
                });
            }
            let previous_end = merged.last().and_then(Segment::end).unwrap_or(0);
            if segment.offset < previous_end {
                return Err(ViewError::OutOfOrder { index });
            }
            match merged.last_mut() {
                _ if segment.bytes == 0 => {}
                Some(last) if previous_end == segment.offset => {
                    last.bytes = last.bytes.saturating_add(segment.bytes)
                }
                _ => merged.push(*segment),
            }
        }
        match merged.as_slice() {
            [] => Ok(Self::default()),
            [only] => Ok(self.sub_view(only.offset, only.bytes)),
            _ => {
                let selection = Selection::Unstructured(merged);
                let bytes = selection.check(self.bytes)?;
                self.clone().with(selection, bytes)
            }
        }
    }

    /// One more step on top of this view: as the view of that kind. Of nothing, nothing.
    ///
    /// # Errors
    /// As the views' own.
    pub fn select(&self, step: &Selection) -> Result<Self, ViewError> {
        match step {
            _ if self.is_empty() => Ok(Self::default()),
            Selection::Sub(segment) => Ok(self.sub_view(segment.offset, segment.bytes)),
            Selection::Strided(strided) => self.strided_view(
                strided.offset,
                strided.block_count,
                strided.block_bytes,
                strided.gap_bytes,
            ),
            Selection::Unstructured(segments) => self.unstructured_view(segments),
        }
    }

    /// What `view` selects of the bytes that this view selects, as if those were all data of an event.
    ///
    /// # Errors
    /// When both together are at a bound of `limits.rs`.
    pub fn then(&self, view: &Self) -> Result<Self, ViewError> {
        if view.is_empty() {
            return Ok(Self::default());
        }
        let steps = view.selections.iter();
        steps
            .into_iter()
            .try_fold(self.clone(), |view, step| view.select(step))
    }

    /// The same for whoever reads the bytes at once: both views are within the bounds, and both together may be twice beyond
    /// them. Not to be serialized.
    #[must_use]
    pub fn stacked(&self, view: &Self) -> Self {
        let selections = self.selections.iter().chain(&view.selections).cloned().collect();
        Self {
            location: self.location.clone(),
            base_bytes: self.base_bytes,
            bytes: view.bytes,
            selections,
            added_segments: self.added_segments.saturating_add(view.added_segments),
        }
    }

    /// The ranges of the event's data that are selected, ascending, touching ones merged.
    pub fn flatten(&self) -> Flatten<'_> {
        Flatten::new(&self.selections, self.bytes)
    }

    /// Ranges that [`Self::flatten`] goes over at most, before it merges touching ones.
    pub fn ranges_max(&self) -> u64 {
        self.added_segments.saturating_add(1)
    }

    /// Length of [`Self::serialize`]'s result.
    pub fn serialized_bytes(&self) -> usize {
        let selections = self.selections.iter().map(Selection::serialized_bytes);
        selections.fold(self.location().len().saturating_add(32), usize::saturating_add)
    }

    /// The bytes that stand for this descriptor on the wire.
    pub fn serialize(&self) -> Vec<u8> {
        let mut into = Vec::with_capacity(self.serialized_bytes());
        let location = self.location();
        for number in [self.bytes, self.base_bytes, wide(location.len())] {
            into.extend_from_slice(&number.to_le_bytes());
        }
        into.extend_from_slice(location);
        into.extend_from_slice(&wide(self.selections.len()).to_le_bytes());
        for selection in &self.selections {
            into.push(selection.tag());
            selection.serialize(&mut into);
        }
        into
    }

    /// Reads what [`Self::serialize`] wrote.
    ///
    /// # Errors
    /// When it is not such bytes, or a selection does not fit the view below it, or at a bound of `limits.rs`.
    pub fn deserialize(serialized: &[u8]) -> Result<Self, DescriptorError> {
        at_most("length", wide(serialized.len()), DESCRIPTOR_BYTES_MAX)?;
        let mut numbers = Numbers::new(serialized);
        let stated_bytes = numbers.u64()?;
        let base_bytes = numbers.u64()?;
        let location_bytes = numbers.u64()?;
        at_most("location's length", location_bytes, wide(LOCATION_BYTES_MAX))?;
        let location = numbers.bytes(narrow(location_bytes))?;
        let mut descriptor = Self::new(location, base_bytes)?;
        let selection_count = numbers.u64()?;
        at_most("number of selections", selection_count, wide(SELECTIONS_MAX))?;
        for index in 0..selection_count {
            let selection = read_selection(&mut numbers, index)?;
            let invalid = |error| DescriptorError::View { index, error };
            let bytes = selection.check(descriptor.bytes).map_err(invalid)?;
            descriptor = descriptor.with(selection, bytes).map_err(invalid)?;
        }
        match numbers.left_bytes() {
            0 => {}
            have_bytes => return Err(DescriptorError::Trailing { have_bytes }),
        }
        let selected_bytes = descriptor.bytes;
        if stated_bytes != selected_bytes {
            return Err(DescriptorError::Bytes {
                stated_bytes,
                selected_bytes,
            });
        }
        Ok(descriptor)
    }

    /// One more selection, which was checked and selects `bytes`.
    fn with(mut self, selection: Selection, bytes: u64) -> Result<Self, ViewError> {
        // The last place is kept for a sub view, which must not fail.
        let is_sub = matches!(selection, Selection::Sub(_));
        let depth_max = if is_sub {
            SELECTIONS_MAX
        } else {
            SELECTIONS_MAX.saturating_sub(1)
        };
        if self.selections.len() >= depth_max {
            return Err(ViewError::TooDeep);
        }
        let listed = |selection: &Selection| match selection {
            Selection::Unstructured(segments) => wide(segments.len()),
            _ => 0,
        };
        let in_all = self
            .selections
            .iter()
            .map(listed)
            .fold(listed(&selection), u64::saturating_add);
        if in_all > UNSTRUCTURED_SEGMENTS_MAX {
            return Err(ViewError::TooManySegments {
                segment_count: in_all,
                max: UNSTRUCTURED_SEGMENTS_MAX,
            });
        }
        // Each selection adds its borders to those below it; it cannot multiply them.
        let added_segments = self.added_segments.saturating_add(selection.added_segments());
        if added_segments >= SEGMENTS_MAX {
            let segment_count = added_segments.saturating_add(1);
            return Err(ViewError::TooManySegments {
                segment_count,
                max: SEGMENTS_MAX,
            });
        }
        self.bytes = bytes;
        self.added_segments = added_segments;
        self.selections.push(selection);
        Ok(self)
    }
}

fn at_most(field: &'static str, value: u64, max: u64) -> Result<(), DescriptorError> {
    if value <= max {
        Ok(())
    } else {
        Err(DescriptorError::TooLarge { field, value, max })
    }
}

fn read_selection(numbers: &mut Numbers<'_>, index: u64) -> Result<Selection, DescriptorError> {
    match numbers.u8()? {
        TAG_SUB => Ok(Selection::Sub(Segment {
            offset: numbers.u64()?,
            bytes: numbers.u64()?,
        })),
        TAG_STRIDED => Ok(Selection::Strided(Strided {
            offset: numbers.u64()?,
            block_count: numbers.u64()?,
            block_bytes: numbers.u64()?,
            gap_bytes: numbers.u64()?,
        })),
        TAG_UNSTRUCTURED => {
            let count = numbers.u64()?;
            at_most("number of segments", count, UNSTRUCTURED_SEGMENTS_MAX)?;
            let need_bytes = narrow(count.saturating_mul(16));
            if need_bytes > numbers.left_bytes() {
                return Err(DescriptorError::Short {
                    need_bytes,
                    have_bytes: numbers.left_bytes(),
                });
            }
            let mut segments = Vec::with_capacity(narrow(count));
            for _ in 0..count {
                segments.push(Segment {
                    offset: numbers.u64()?,
                    bytes: numbers.u64()?,
                });
            }
            Ok(Selection::Unstructured(segments))
        }
        tag => Err(DescriptorError::UnknownTag { index, tag }),
    }
}

#[cfg(test)]
mod tests;
