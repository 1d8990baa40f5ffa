//! What a file's state after a stop means: a table from facts to verdicts.
//!
//! Recovery gathers facts and never acts. The table below has one row for every way a file can come to look; a test
//! walks all combinations of facts and demands that each meets exactly one row. Only the engine then acts, and only a
//! torn tail is ever cut without a person's word.

use crate::ids::{EventId, FilePos};
use crate::segment::SegmentHeaderError;

/// What the first block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFact {
    /// It is a header.
    Checks,
    /// It is zero.
    Absent,
    /// It is neither zero nor a header.
    Foreign,
    /// It is a header of a version that is not known.
    UnknownVersion,
}

/// What the check of the data of frames in the chain said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadData {
    /// All that was looked at checks.
    None,
    /// The first that does not check belongs to a frame that no later frame vouches for.
    Unvouched,
    /// The first that does not check was durable once.
    Vouched,
}

/// Facts about a meta file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The first block.
    pub header: HeaderFact,
    /// Something other than zeros follows the first block.
    pub beyond_header: bool,
    /// A valid frame says that an event was durable which the chain of frames does not reach.
    pub vouched_missing: bool,
    /// The data of the chain's frames.
    pub bad_data: BadData,
    /// The chain ends with the mark of an orderly stop.
    pub clean_mark: bool,
    /// Beyond the chain's end are valid frames of its last incarnation or a later one.
    pub survivors: bool,
    /// Beyond the chain's end is something other than zeros.
    pub residue: bool,
    /// Where all this is; decides nothing.
    pub places: Places,
}

/// Places that a verdict tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// End of the last frame that is kept.
    pub cut_at: FilePos,
    /// Exclusive end of the events that are kept.
    pub kept_end: EventId,
    /// Exclusive end of the events that were durable, as the frames say.
    pub vouched_end: EventId,
    /// Valid frames that are not kept.
    pub dropped_frames: u64,
    /// The version of the header, when it is not known.
    pub version: u16,
}

/// Why a tail is torn. Nothing in it was ever reported durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TornCause {
    /// A frame landed in part, or bytes of an earlier life follow.
    Residue,
    /// A frame is missing while one written after it landed.
    Hole,
    /// A frame landed and its data did not.
    Data,
}

/// What is damaged. It had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageCause {
    /// Frames.
    Frames,
    /// The data of a frame.
    Data,
}

/// What a file's state means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A: nothing is wrong.
    Clean,
    /// B: the file was left in an orderly stop.
    CleanStop,
    /// C, D, E: what follows the cut was being written when the machine stopped, and was never reported durable.
    TornTail {
        /// End of the last frame that is kept.
        cut_at: FilePos,
        /// Valid frames beyond it.
        dropped_frames: u64,
        /// How it came about.
        cause: TornCause,
    },
    /// F, G: events that had been durable are not there any more, or not as they were.
    Damaged {
        /// The first of them: events before it are good.
        from: EventId,
        /// Exclusive end of what had been durable.
        to: EventId,
        /// Where in the meta file the good frames end.
        at: FilePos,
        /// What is damaged.
        cause: DamageCause,
    },
    /// H: the file was being made when the machine stopped; nothing was promised in it.
    EmptyTorn,
    /// I: the file is not a segment, or its header is lost.
    ForeignBytes,
    /// J: a newer program made the file.
    UnknownVersion(u16),
}

impl Verdict {
    /// The letter of the case, for logs and for docs/FORMAT.md.
    pub fn letter(&self) -> char {
        match self {
            Self::Clean => 'A',
            Self::CleanStop => 'B',
            Self::TornTail {
                cause: TornCause::Residue,
                ..
            } => 'C',
            Self::TornTail {
                cause: TornCause::Hole,
                ..
            } => 'D',
            Self::TornTail {
                cause: TornCause::Data,
                ..
            } => 'E',
            Self::Damaged {
                cause: DamageCause::Frames,
                ..
            } => 'F',
            Self::Damaged {
                cause: DamageCause::Data,
                ..
            } => 'G',
            Self::EmptyTorn => 'H',
            Self::ForeignBytes => 'I',
            Self::UnknownVersion(_) => 'J',
        }
    }

    /// Whether events that had been durable are lost or changed, so that nothing may be appended.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// The case in words, for people.
    pub fn prose(&self) -> String {
        match self {
            Self::Clean => "clean: every frame is there and nothing follows".to_owned(),
            Self::CleanStop => "clean stop: the file was left in an orderly stop".to_owned(),
            Self::TornTail {
                cut_at,
                dropped_frames,
                cause,
            } => {
                let cause = match cause {
                    TornCause::Residue => "a frame landed in part, or bytes of an earlier life follow",
                    TornCause::Hole => "a frame is missing while one written after it landed",
                    TornCause::Data => "a frame landed and its data did not",
                };
                format!(
                    "torn tail, cut at position {cut_at}: {cause}; {dropped_frames} whole frames are dropped, none of \
                     which was ever reported durable"
                )
            }
            Self::Damaged { from, to, at, cause } => {
                let cause = match cause {
                    DamageCause::Frames => "their frames are gone or changed",
                    DamageCause::Data => "their data does not check",
                };
                format!(
                    "damaged: events {from} to {to} had been durable and {cause}, from position {at} of the meta file \
                     on; events before {from} are good"
                )
            }
            Self::EmptyTorn => "empty: the file was being made when the machine stopped".to_owned(),
            Self::ForeignBytes => {
                "foreign bytes: the file is not a segment, or its header is lost".to_owned()
            }
            Self::UnknownVersion(version) => {
                format!("unknown version: the file has version {version}, made by a newer program")
            }
        }
    }

    /// The verdict on a file whose first block is not a header. `beyond_header`: something other than zeros follows it.
    pub fn of_header(error: &SegmentHeaderError, beyond_header: bool) -> Self {
        let (header, version) = match error {
            SegmentHeaderError::Absent => (HeaderFact::Absent, 0),
            SegmentHeaderError::Version { found } => (HeaderFact::UnknownVersion, *found),
            _ => (HeaderFact::Foreign, 0),
        };
        decide(&Facts {
            header,
            beyond_header,
            vouched_missing: false,
            bad_data: BadData::None,
            clean_mark: false,
            survivors: false,
            residue: beyond_header,
            places: Places {
                version,
                ..Places::default()
            },
        })
    }
}

/// What a row demands of a fact that is true or false.
#[derive(Clone, Copy)]
enum Is {
    True,
    False,
    Any,
}

impl Is {
    fn met_by(self, fact: bool) -> bool {
        match self {
            Self::True => fact,
            Self::False => !fact,
            Self::Any => true,
        }
    }
}

struct Row {
    case: Case,
    header: HeaderFact,
    beyond_header: Is,
    vouched_missing: Is,
    /// Any of these.
    bad_data: &'static [BadData],
    clean_mark: Is,
    survivors: Is,
    residue: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Clean,
    CleanStop,
    Torn(TornCause),
    Damaged(DamageCause),
    EmptyTorn,
    ForeignBytes,
    UnknownVersion,
}

const GOOD: &[BadData] = &[BadData::None];
const ANY_DATA: &[BadData] = &[BadData::None, BadData::Unvouched, BadData::Vouched];

/// A row about the header alone.
const fn header_row(case: Case, header: HeaderFact, beyond_header: Is) -> Row {
    let (vouched_missing, clean_mark, survivors, residue) = (Is::Any, Is::Any, Is::Any, Is::Any);
    Row {
        case,
        header,
        beyond_header,
        vouched_missing,
        bad_data: ANY_DATA,
        clean_mark,
        survivors,
        residue,
    }
}

/// A row about a file with a header, where everything else is open.
const fn chain_row(case: Case) -> Row {
    header_row(case, HeaderFact::Checks, Is::Any)
}

const TABLE: [Row; 11] = [
    // A: the chain of frames ends and only zeros follow.
    Row {
        vouched_missing: Is::False,
        bad_data: GOOD,
        clean_mark: Is::False,
        survivors: Is::False,
        residue: Is::False,
        ..chain_row(Case::Clean)
    },
    // B: the last frame is the mark of an orderly stop, and nothing was written after it. What else follows is left
    // from an earlier life, or from a later one whose first write landed in part: there is nothing to keep of either.
    Row {
        vouched_missing: Is::False,
        bad_data: GOOD,
        clean_mark: Is::True,
        survivors: Is::False,
        ..chain_row(Case::CleanStop)
    },
    // C: the frame that was being written landed in part, so it does not check; nobody was told that it is durable. A
    // last frame that was durable and rotted looks the same while nothing later vouches for it: that is what marks
    // are for.
    Row {
        vouched_missing: Is::False,
        bad_data: GOOD,
        clean_mark: Is::False,
        survivors: Is::False,
        residue: Is::True,
        ..chain_row(Case::Torn(TornCause::Residue))
    },
    // D: several writes were under way and a later one landed while an earlier one did not. An ordinary power cut:
    // no frame says that the missing one was durable.
    Row {
        vouched_missing: Is::False,
        bad_data: GOOD,
        survivors: Is::True,
        ..chain_row(Case::Torn(TornCause::Hole))
    },
    // E: frame and data are written at the same time and only the frame landed.
    Row {
        vouched_missing: Is::False,
        bad_data: &[BadData::Unvouched],
        ..chain_row(Case::Torn(TornCause::Data))
    },
    // F: a valid frame was written when events were durable that are not there any more. No crash does that: bytes
    // rotted, were written over, or a write went astray. (Unvouched data cannot be bad when vouched frames are missing
    // before it; should we ever claim both, the graver one counts.)
    Row {
        vouched_missing: Is::True,
        bad_data: &[BadData::None, BadData::Unvouched],
        ..chain_row(Case::Damaged(DamageCause::Frames))
    },
    // G: the same of data.
    Row {
        bad_data: &[BadData::Vouched],
        ..chain_row(Case::Damaged(DamageCause::Data))
    },
    // H: the header is synced before the file is used, so where it is absent nothing was ever promised.
    header_row(Case::EmptyTorn, HeaderFact::Absent, Is::False),
    // I: a file of something else; or a segment whose header was lost, which no crash does, since it is synced first.
    header_row(Case::ForeignBytes, HeaderFact::Absent, Is::True),
    header_row(Case::ForeignBytes, HeaderFact::Foreign, Is::Any),
    // J: refused and never guessed.
    header_row(Case::UnknownVersion, HeaderFact::UnknownVersion, Is::Any),
];

impl Row {
    fn is_met_by(&self, facts: &Facts) -> bool {
        self.header == facts.header
            && self.beyond_header.met_by(facts.beyond_header)
            && self.vouched_missing.met_by(facts.vouched_missing)
            && self.bad_data.contains(&facts.bad_data)
            && self.clean_mark.met_by(facts.clean_mark)
            && self.survivors.met_by(facts.survivors)
            && self.residue.met_by(facts.residue)
    }
}

impl Case {
    fn verdict(self, places: &Places) -> Verdict {
        let Places {
            cut_at,
            kept_end,
            vouched_end,
            dropped_frames,
            version,
        } = *places;
        match self {
            Self::Clean => Verdict::Clean,
            Self::CleanStop => Verdict::CleanStop,
            Self::Torn(cause) => Verdict::TornTail {
                cut_at,
                dropped_frames,
                cause,
            },
            Self::Damaged(cause) => Verdict::Damaged {
                from: kept_end,
                to: vouched_end.max(kept_end),
                at: cut_at,
                cause,
            },
            Self::EmptyTorn => Verdict::EmptyTorn,
            Self::ForeignBytes => Verdict::ForeignBytes,
            Self::UnknownVersion => Verdict::UnknownVersion(version),
        }
    }
}

/// The verdict on these facts.
pub fn decide(facts: &Facts) -> Verdict {
    match TABLE.iter().find(|row| row.is_met_by(facts)) {
        Some(row) => row.case.verdict(&facts.places),
        None => unreachable!("no row for {facts:?}, though a test walks all combinations"),
    }
}

#[cfg(test)]
mod tests;
