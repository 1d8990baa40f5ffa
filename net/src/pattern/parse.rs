//! From JSON to a pattern. All of the input is hostile: depth and parts are counted before anything is made of them.

use serde_json::Value;

use super::PatternError;
use super::rule::{All, Clause, Condition, Operator, Rule, Scalar, Texts};
use super::wildcard::Wildcard;
use crate::limits::{PATTERN_DEPTH_MAX, PATTERN_PARTS_MAX};

/// Characters of the input that a message repeats at once.
const QUOTED_CHARACTERS_MAX: usize = 64;

const PATTERN: &str = "a pattern: an object";
const PATTERNS: &str = "an array of patterns";
const VALUE: &str = "a string, a number, a boolean or null";
const ONLY_VALUES: &str =
    "an array of only primitives (strings, numbers, booleans, null) or only rules (objects)";
const RULE: &str = "a rule: an object of exactly one key";
const EXCLUDED: &str = "a primitive, an array of primitives, or one rule";
const TEXT: &str = "a string";
const TEXTS: &str = "a string or an array of strings";
const AFFIXES: &str = "a string, an array of strings, or {\"equals-ignore-case\": one of these}";
const COMPARISONS: &str = "an array of pairs: an operator and a number";
const OPERATOR: &str = "one of the operators =, >, >=, <, <=";
const NUMBER: &str = "a number";
const BOOLEAN: &str = "true or false";

/// The pattern, and how many parts it has.
pub(super) fn parse(pattern: &Value) -> Result<(All, usize), PatternError> {
    let mut parser = Parser {
        parts_left: PATTERN_PARTS_MAX,
    };
    let all = parser.pattern(pattern, &Place::Root, PATTERN_DEPTH_MAX)?;
    Ok((all, PATTERN_PARTS_MAX.saturating_sub(parser.parts_left)))
}

/// Where in a pattern; a chain on the stack, so that only an error makes a text of it.
enum Place<'pattern> {
    Root,
    Key(&'pattern Place<'pattern>, &'pattern str),
    Index(&'pattern Place<'pattern>, usize),
}

impl Place<'_> {
    fn text(&self) -> String {
        match self {
            Self::Root => "$".to_owned(),
            Self::Key(above, key) => format!("{}[{}]", above.text(), quoted(key)),
            Self::Index(above, index) => format!("{}[{index}]", above.text()),
        }
    }

    fn unexpected(&self, found: &Value, allowed: &'static str) -> PatternError {
        PatternError::Unexpected {
            place: self.text(),
            found: kind(found),
            allowed,
        }
    }
}

fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Array(items) => format!("an array of length {}", items.len()),
        Value::Object(fields) => format!("an object of {} keys", fields.len()),
    }
}

struct Parser {
    parts_left: usize,
}

type Parsed<T> = Result<T, PatternError>;

impl Parser {
    fn count(&mut self, parts: usize, place: &Place<'_>) -> Parsed<()> {
        let left = self.parts_left.checked_sub(parts);
        self.parts_left = left.ok_or_else(|| PatternError::TooManyParts { place: place.text() })?;
        Ok(())
    }

    fn pattern(&mut self, value: &Value, place: &Place<'_>, depth_left: usize) -> Parsed<All> {
        let depth_left = deeper(depth_left, place)?;
        let fields = value.as_object();
        let fields = fields.ok_or_else(|| place.unexpected(value, PATTERN))?;
        // The pattern itself counts too: an empty one is made and matched like others.
        self.count(1, place)?;
        let clauses = fields.iter().map(|(key, value)| {
            let place = &Place::Key(place, key);
            if key == "$or" {
                return Ok(Clause::Or(self.patterns(value, place, depth_left)?));
            }
            Ok(Clause::Field {
                path: self.path(key, place)?,
                condition: self.condition(value, place, depth_left)?,
            })
        });
        Ok(All(clauses.collect::<Parsed<_>>()?))
    }

    fn patterns(&mut self, value: &Value, place: &Place<'_>, depth_left: usize) -> Parsed<Vec<All>> {
        let patterns = value.as_array();
        let patterns = patterns.ok_or_else(|| place.unexpected(value, PATTERNS))?;
        let patterns = patterns.iter().enumerate();
        patterns
            .map(|(index, value)| self.pattern(value, &Place::Index(place, index), depth_left))
            .collect()
    }

    fn path(&mut self, key: &str, place: &Place<'_>) -> Parsed<Vec<Box<str>>> {
        self.count(key.split('.').count(), place)?;
        Ok(key.split('.').map(Box::from).collect())
    }

    fn condition(&mut self, value: &Value, place: &Place<'_>, depth_left: usize) -> Parsed<Condition> {
        match value {
            Value::Object(_) => Ok(Condition::Nested(self.pattern(value, place, depth_left)?)),
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                let rules = items.iter().enumerate().map(|(index, value)| {
                    let place = &Place::Index(place, index);
                    if !value.is_object() {
                        return Err(place.unexpected(value, ONLY_VALUES));
                    }
                    self.rule(value, place, depth_left)
                });
                Ok(Condition::AnyRule(rules.collect::<Parsed<_>>()?))
            }
            Value::Array(items) => Ok(Condition::OneOf(self.scalars(items, place, ONLY_VALUES)?)),
            _ => Ok(Condition::OneOf(vec![self.scalar(value, place, VALUE)?])),
        }
    }

    fn scalars(&mut self, items: &[Value], place: &Place<'_>, allowed: &'static str) -> Parsed<Vec<Scalar>> {
        let items = items.iter().enumerate();
        items
            .map(|(index, value)| self.scalar(value, &Place::Index(place, index), allowed))
            .collect()
    }

    fn scalar(&mut self, value: &Value, place: &Place<'_>, allowed: &'static str) -> Parsed<Scalar> {
        self.count(1, place)?;
        match value {
            Value::Null => Ok(Scalar::Null),
            Value::Bool(value) => Ok(Scalar::Bool(*value)),
            Value::Number(number) => Ok(Scalar::Number(number.clone())),
            Value::String(text) => Ok(Scalar::Text(text.as_str().into())),
            Value::Array(_) | Value::Object(_) => Err(place.unexpected(value, allowed)),
        }
    }

    fn rule(&mut self, value: &Value, place: &Place<'_>, depth_left: usize) -> Parsed<Rule> {
        let (name, operand) = only_key(value).ok_or_else(|| place.unexpected(value, RULE))?;
        let inner = &Place::Key(place, name);
        self.count(1, inner)?;
        match name {
            "anything-but" => self.anything_but(operand, inner, depth_left),
            "prefix" => Ok(Rule::Prefix(self.affixes(operand, inner)?)),
            "suffix" => Ok(Rule::Suffix(self.affixes(operand, inner)?)),
            "equals-ignore-case" => Ok(Rule::EqualsIgnoreCase(self.texts(operand, inner, TEXTS)?)),
            "numeric" => Ok(Rule::Numeric(self.comparisons(operand, inner)?)),
            "exists" => {
                let exists = operand.as_bool();
                Ok(Rule::Exists(
                    exists.ok_or_else(|| inner.unexpected(operand, BOOLEAN))?,
                ))
            }
            "$or" => Ok(Rule::Or(self.patterns(operand, inner, depth_left)?)),
            "wildcard" => {
                let text = operand.as_str();
                let text = text.ok_or_else(|| inner.unexpected(operand, TEXT))?;
                self.count(text.matches('*').count(), inner)?;
                Ok(Rule::Wildcard(Wildcard::new(text)))
            }
            _ => Err(PatternError::UnknownRule {
                place: place.text(),
                name: quoted(name),
            }),
        }
    }

    fn anything_but(&mut self, operand: &Value, place: &Place<'_>, depth_left: usize) -> Parsed<Rule> {
        match operand {
            Value::Object(_) => {
                let rule = self.rule(operand, place, deeper(depth_left, place)?)?;
                Ok(Rule::Not(Box::new(rule)))
            }
            Value::Array(items) => Ok(Rule::NoneOf(self.scalars(items, place, EXCLUDED)?)),
            _ => Ok(Rule::NoneOf(vec![self.scalar(operand, place, EXCLUDED)?])),
        }
    }

    fn affixes(&mut self, operand: &Value, place: &Place<'_>) -> Parsed<Texts> {
        if !operand.is_object() {
            let any = self.texts(operand, place, AFFIXES)?;
            return Ok(Texts {
                ignore_case: false,
                any,
            });
        }
        match only_key(operand) {
            Some((name @ "equals-ignore-case", texts)) => {
                let any = self.texts(texts, &Place::Key(place, name), TEXTS)?;
                Ok(Texts {
                    ignore_case: true,
                    any,
                })
            }
            Some((name, _)) => Err(PatternError::Unexpected {
                place: place.text(),
                found: format!("the key {}", quoted(name)),
                allowed: AFFIXES,
            }),
            None => Err(place.unexpected(operand, AFFIXES)),
        }
    }

    fn texts(&mut self, value: &Value, place: &Place<'_>, allowed: &'static str) -> Parsed<Vec<Box<str>>> {
        match value {
            Value::String(text) => {
                self.count(1, place)?;
                Ok(vec![text.as_str().into()])
            }
            Value::Array(items) => {
                self.count(items.len(), place)?;
                let texts = items.iter().enumerate().map(|(index, value)| {
                    let text = value.as_str();
                    let text = text.ok_or_else(|| Place::Index(place, index).unexpected(value, TEXT))?;
                    Ok(text.into())
                });
                texts.collect()
            }
            _ => Err(place.unexpected(value, allowed)),
        }
    }

    fn comparisons(&mut self, value: &Value, place: &Place<'_>) -> Parsed<Vec<(Operator, f64)>> {
        let items = value.as_array();
        let items = items.ok_or_else(|| place.unexpected(value, COMPARISONS))?;
        self.count(items.len(), place)?;
        let pairs = (0_usize..).step_by(2).zip(items.chunks(2));
        let comparisons = pairs.map(|(index, pair)| {
            let [operator, number] = pair else {
                return Err(place.unexpected(value, COMPARISONS));
            };
            let unknown = || Place::Index(place, index).unexpected(operator, OPERATOR);
            let no_number = || Place::Index(place, index.saturating_add(1)).unexpected(number, NUMBER);
            let operator = operator.as_str().and_then(operator_of).ok_or_else(unknown)?;
            Ok((operator, number.as_f64().ok_or_else(no_number)?))
        });
        comparisons.collect()
    }
}

/// One level less. Nested patterns and nested rules count; what lies between them is of fixed depth.
fn deeper(depth_left: usize, place: &Place<'_>) -> Parsed<usize> {
    let left = depth_left.checked_sub(1);
    left.ok_or_else(|| PatternError::TooDeep { place: place.text() })
}

/// The key and value of an object that has no others.
fn only_key(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields
        .iter()
        .next()
        .map(|(name, operand)| (name.as_str(), operand))
}

fn operator_of(text: &str) -> Option<Operator> {
    match text {
        "=" => Some(Operator::Equal),
        ">" => Some(Operator::Greater),
        ">=" => Some(Operator::GreaterOrEqual),
        "<" => Some(Operator::Less),
        "<=" => Some(Operator::LessOrEqual),
        _ => None,
    }
}
