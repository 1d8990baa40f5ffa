//! Which metadata is meant: event patterns in the manner of EventBridge.

mod parse;
mod rule;
#[cfg(test)]
mod tests;
mod text;
mod wildcard;

use serde_json::Value;

use crate::limits::{PATTERN_DEPTH_MAX, PATTERN_PARTS_MAX};

/// Why a JSON value is not an event pattern. Each says where in the pattern, as in `$["field"][0]["prefix"]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Something stands where something else must.
    #[error("Invalid Eventbridge pattern: found {found} at {place}: allowed is {allowed}")]
    Unexpected {
        /// Where.
        place: String,
        /// What stands there, shortened.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// No such rule.
    #[error(
        "Invalid Eventbridge pattern: unexpected rule: {name} at {place}: allowed are anything-but, prefix, suffix, equals-ignore-case, numeric, exists, $or and wildcard"
    )]
    UnknownRule {
        /// Where.
        place: String,
        /// Its name in quotes, shortened.
        name: String,
    },
    /// Patterns inside patterns, too many.
    #[error(
        "Invalid Eventbridge pattern: found more than {PATTERN_DEPTH_MAX} patterns inside one another at {place}: allowed are {PATTERN_DEPTH_MAX}"
    )]
    TooDeep {
        /// Where the bound was crossed.
        place: String,
    },
    /// Too many values, rules, and steps of paths.
    #[error(
        "Invalid Eventbridge pattern: found more than {PATTERN_PARTS_MAX} values, rules and steps of paths at {place}: allowed are {PATTERN_PARTS_MAX} in all"
    )]
    TooManyParts {
        /// Where the bound was crossed.
        place: String,
    },
}

/// An event pattern, ready to match.
///
/// A pattern is a JSON object, and all of its keys must hold. A key is a field or a dotted path to one; `$or` with an
/// array of patterns holds when one of them does. What stands at a path is compared with what is right of it:
///
/// | right of the path | holds when the value there |
/// |---|---|
/// | string, number, boolean, null | equals it |
/// | array of those | equals one of them; never when the array is empty |
/// | object | matches that pattern |
/// | array of objects of one key each | obeys one of these rules |
///
/// | rule | operand | holds when the value |
/// |---|---|---|
/// | `anything-but` | primitive, array of primitives, or a rule | is there, and is none of them or breaks the rule |
/// | `prefix`, `suffix` | texts, or `{"equals-ignore-case": texts}` | is a string that starts (ends) with one of them |
/// | `equals-ignore-case` | texts | is a string that differs from one of them in case at most |
/// | `numeric` | `[operator, number, ...]` | is a number for which all comparisons hold |
/// | `exists` | boolean | is there, or is not |
/// | `$or` | array of patterns | is there and matches one of them |
/// | `wildcard` | string | is a string of that form: `*` is any run, `\*` and `\\` mean `*` and `\` |
///
/// Texts are a string or an array of strings. A path that leads nowhere, or through something that is no object, is
/// missing: that satisfies only `exists: false`. A `null` is there. Case means that of ASCII letters. Arrays in the
/// metadata are values like others and not searched.
///
/// Numbers are equal as JSON numbers (1 and 1.0 are): integers exactly, and as doubles once one of the two is written
/// with a fraction or an exponent. `numeric` compares doubles.
///
/// The time of a match is bounded by the pattern's parts times the bytes of the metadata, and the bytes of the pattern
/// once, whatever both of them say.
#[derive(Clone, Debug)]
pub struct Pattern {
    all: rule::All,
    outline: text::Outline,
    parts: usize,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is not of the form told above, or beyond [`PATTERN_DEPTH_MAX`] or [`PATTERN_PARTS_MAX`].
    pub fn parse(pattern: &Value) -> Result<Self, PatternError> {
        let (all, parts) = parse::parse(pattern)?;
        let outline = text::Outline::of(&all);
        Ok(Self { all, outline, parts })
    }

    /// Its parts: a match takes at most so many times what it takes to go over the metadata.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Whether metadata is of this form. Allocates nothing.
    pub fn matches(&self, metadata: &Value) -> bool {
        self.all.holds(metadata)
    }

    /// The same of metadata as JSON text; what is not JSON matches nothing. Most text that does not match is not even read, where
    /// the pattern asks for texts: this is for those who look at many events and keep few.
    pub fn matches_text(&self, metadata: &[u8]) -> bool {
        self.outline.may_match(metadata)
            && self
                .outline
                .read(metadata)
                .is_some_and(|fields| self.all.holds(&fields))
    }
}
