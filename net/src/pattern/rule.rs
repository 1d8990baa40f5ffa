//! A pattern as it is matched.

use serde_json::{Number, Value};

use super::wildcard::Wildcard;

/// A pattern: all clauses must hold.
#[derive(Clone, Debug)]
pub(super) struct All(pub(super) Vec<Clause>);

/// One key of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Clause {
    /// A path, and what must be there.
    Field {
        path: Vec<Box<str>>,
        condition: Condition,
    },
    /// One of these patterns.
    Or(Vec<All>),
}

/// What stands right of a path.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    OneOf(Vec<Scalar>),
    Nested(All),
    AnyRule(Vec<Rule>),
}

/// A value that has no values inside.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
}

#[derive(Clone, Debug)]
pub(super) enum Rule {
    NoneOf(Vec<Scalar>),
    Not(Box<Rule>),
    Prefix(Texts),
    Suffix(Texts),
    EqualsIgnoreCase(Vec<Box<str>>),
    Numeric(Vec<(Operator, f64)>),
    Exists(bool),
    Or(Vec<All>),
    Wildcard(Wildcard),
}

/// The alternatives of `prefix` and `suffix`.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    pub(super) ignore_case: bool,
    pub(super) any: Vec<Box<str>>,
}

/// How `numeric` compares.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl All {
    pub(super) fn holds(&self, value: &Value) -> bool {
        self.0.iter().all(|clause| match clause {
            Clause::Field { path, condition } => condition.holds(at(value, path)),
            Clause::Or(patterns) => any_of(patterns, value),
        })
    }
}

/// The value that a path leads to; `None`: it is missing.
fn at<'value>(value: &'value Value, path: &[Box<str>]) -> Option<&'value Value> {
    path.iter()
        .try_fold(value, |value, step| value.as_object()?.get(&**step))
}

fn any_of(patterns: &[All], value: &Value) -> bool {
    patterns.iter().any(|pattern| pattern.holds(value))
}

impl Condition {
    pub(super) fn holds(&self, value: Option<&Value>) -> bool {
        match self {
            Self::OneOf(scalars) => {
                value.is_some_and(|value| scalars.iter().any(|scalar| scalar.equals(value)))
            }
            Self::Nested(pattern) => value.is_some_and(|value| pattern.holds(value)),
            Self::AnyRule(rules) => rules.iter().any(|rule| rule.holds(value)),
        }
    }
}

impl Scalar {
    fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(ours), Value::Bool(theirs)) => ours == theirs,
            (Self::Number(ours), Value::Number(theirs)) => same_number(ours, theirs),
            (Self::Text(ours), Value::String(theirs)) => **ours == **theirs,
            _ => false,
        }
    }
}

/// 1 and 1.0 are the same, and so are 0 and -0.0. Large integers that one double stands for stay different.
fn same_number(ours: &Number, theirs: &Number) -> bool {
    if ours.is_f64() || theirs.is_f64() {
        ours.as_f64() == theirs.as_f64()
    } else {
        ours == theirs
    }
}

impl Rule {
    fn holds(&self, value: Option<&Value>) -> bool {
        // Nothing but `exists` can say yes to what is missing, not even the opposite of a rule that says no.
        match (self, value) {
            (Self::Exists(expected), _) => *expected == value.is_some(),
            (_, Some(value)) => self.holds_for(value),
            (_, None) => false,
        }
    }

    fn holds_for(&self, value: &Value) -> bool {
        match self {
            Self::NoneOf(scalars) => !scalars.iter().any(|scalar| scalar.equals(value)),
            Self::Not(rule) => !rule.holds(Some(value)),
            Self::Numeric(comparisons) => value.as_f64().is_some_and(|number| {
                let mut all = comparisons.iter();
                all.all(|(operator, operand)| operator.holds(number, *operand))
            }),
            Self::Exists(expected) => *expected,
            Self::Or(patterns) => any_of(patterns, value),
            Self::Prefix(texts) => value
                .as_str()
                .is_some_and(|text| texts.any_equals(|bytes| text.as_bytes().get(..bytes))),
            Self::Suffix(texts) => value.as_str().is_some_and(|text| {
                texts.any_equals(|bytes| text.as_bytes().get(text.len().checked_sub(bytes)?..))
            }),
            Self::EqualsIgnoreCase(texts) => value
                .as_str()
                .is_some_and(|text| texts.iter().any(|expected| expected.eq_ignore_ascii_case(text))),
            Self::Wildcard(wildcard) => value.as_str().is_some_and(|text| wildcard.matches(text)),
        }
    }
}

impl Texts {
    /// Whether one of them is the end of a text that `end` cuts off in its length.
    ///
    /// Bytes may be cut where no character ends; what is left over then equals no text.
    fn any_equals<'text>(&self, end: impl Fn(usize) -> Option<&'text [u8]>) -> bool {
        self.any.iter().any(|expected| {
            let expected = expected.as_bytes();
            end(expected.len()).is_some_and(|found| {
                if self.ignore_case {
                    found.eq_ignore_ascii_case(expected)
                } else {
                    found == expected
                }
            })
        })
    }
}

impl Operator {
    fn holds(self, number: f64, operand: f64) -> bool {
        match self {
            Self::Equal => number == operand,
            Self::Greater => number > operand,
            Self::GreaterOrEqual => number >= operand,
            Self::Less => number < operand,
            Self::LessOrEqual => number <= operand,
        }
    }
}
