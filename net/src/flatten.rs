//! From a stack of views to ranges of the event's data, lazily.
//!
//! Every selection is ascending, so that a range of a view becomes ascending ranges of the view below it. Each level
//! keeps the part of a range that it has not translated yet; the lowest level that has something goes on. Nothing is
//! collected: a strided view of a million blocks costs no memory.

use crate::selection::{Segment, Selection, Strided};

/// A stretch of an event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// How long it is; never 0.
    pub bytes: u64,
}

impl Range {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }

    /// Splits off the first `bytes`; the rest is none when nothing is left.
    fn split(self, bytes: u64) -> (Self, Option<Self>) {
        let bytes = bytes.min(self.bytes);
        let rest_bytes = self.bytes.saturating_sub(bytes);
        let rest = Self {
            offset: self.offset.saturating_add(bytes),
            bytes: rest_bytes,
        };
        (
            Self {
                offset: self.offset,
                bytes,
            },
            (rest_bytes > 0).then_some(rest),
        )
    }
}

/// The ranges that a data descriptor selects: ascending, without overlap, touching ones merged.
#[derive(Clone, Debug)]
pub struct Flatten<'a> {
    levels: Vec<Level<'a>>,
    /// A range of the data that was found but may still grow.
    found: Option<Range>,
    /// A descriptor without selections: its one range.
    whole: Option<Range>,
}

#[derive(Clone, Debug)]
struct Level<'a> {
    selection: Translate<'a>,
    /// A range of this level's view that is still to be translated.
    pending: Option<Range>,
}

#[derive(Clone, Debug)]
enum Translate<'a> {
    Sub(Segment),
    Strided(Strided),
    /// The segments not passed yet, and where the first of them begins in the view.
    Unstructured {
        segments: &'a [Segment],
        view_offset: u64,
    },
}

impl<'a> Flatten<'a> {
    /// `bytes` is the size of the topmost view.
    pub(crate) fn new(selections: &'a [Selection], bytes: u64) -> Self {
        let all = (bytes > 0).then_some(Range { offset: 0, bytes });
        let mut levels: Vec<Level<'a>> = selections
            .iter()
            .map(|selection| Level {
                selection: Translate::new(selection),
                pending: None,
            })
            .collect();
        match levels.last_mut() {
            Some(top) => {
                top.pending = all;
                Self {
                    levels,
                    found: None,
                    whole: None,
                }
            }
            None => Self {
                levels,
                found: None,
                whole: all,
            },
        }
    }

    /// The next range of the data, before merging.
    fn next_part(&mut self) -> Option<Range> {
        loop {
            let lowest = self.levels.iter().position(|level| level.pending.is_some())?;
            let level = self.levels.get_mut(lowest)?;
            let (part, rest) = level.selection.translate(level.pending.take()?)?;
            level.pending = rest;
            match lowest.checked_sub(1).and_then(|below| self.levels.get_mut(below)) {
                Some(below) => below.pending = Some(part),
                None => return Some(part),
            }
        }
    }
}

impl Iterator for Flatten<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        while let Some(part) = self.next_part() {
            match &mut self.found {
                Some(found) if found.end() == part.offset => {
                    found.bytes = found.bytes.saturating_add(part.bytes)
                }
                found => {
                    if let Some(done) = found.replace(part) {
                        return Some(done);
                    }
                }
            }
        }
        self.found.take()
    }
}

impl std::iter::FusedIterator for Flatten<'_> {}

impl<'a> Translate<'a> {
    fn new(selection: &'a Selection) -> Self {
        match selection {
            Selection::Sub(segment) => Self::Sub(*segment),
            Selection::Strided(strided) => Self::Strided(*strided),
            Selection::Unstructured(segments) => Self::Unstructured {
                segments,
                view_offset: 0,
            },
        }
    }

    /// Translates the beginning of a range of the view into a range of the view below; gives what is left of it.
    /// `None` cannot happen for a checked descriptor and ends the iteration.
    fn translate(&mut self, range: Range) -> Option<(Range, Option<Range>)> {
        match self {
            Self::Sub(segment) => {
                let offset = segment.offset.checked_add(range.offset)?;
                Some((
                    Range {
                        offset,
                        bytes: range.bytes,
                    },
                    None,
                ))
            }
            Self::Strided(strided) => {
                let block = range.offset.checked_div(strided.block_bytes)?;
                let within = range.offset.checked_rem(strided.block_bytes)?;
                let (part, rest) = range.split(strided.block_bytes.checked_sub(within)?);
                let block_at = strided
                    .stride_bytes()?
                    .checked_mul(block)?
                    .checked_add(strided.offset)?;
                Some((
                    Range {
                        offset: block_at.checked_add(within)?,
                        bytes: part.bytes,
                    },
                    rest,
                ))
            }
            Self::Unstructured {
                segments,
                view_offset,
            } => loop {
                let (first, behind) = segments.split_first()?;
                let within = range.offset.checked_sub(*view_offset)?;
                if within >= first.bytes {
                    *view_offset = view_offset.checked_add(first.bytes)?;
                    *segments = behind;
                    continue;
                }
                let (part, rest) = range.split(first.bytes.checked_sub(within)?);
                return Some((
                    Range {
                        offset: first.offset.checked_add(within)?,
                        bytes: part.bytes,
                    },
                    rest,
                ));
            },
        }
    }
}
