//! Matching JSON text, for those who look at many events and keep few of them.
//!
//! Three things make this cheaper than reading the text and matching that. Many patterns can only match text in which some
//! word stands literally, and looking for a word is much faster than reading JSON. Others need a field with some value, and
//! what stands behind the field's name can be read on its own. And of the rest only the fields that the pattern names are
//! made into values.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use memchr::memchr;
use memchr::memmem::Finder;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::rule::{All, Clause, Condition, Rule, Scalar};

/// Words that are looked for, over all alternatives; beyond it reading is no slower.
const WORDS_MAX: usize = 16;
/// Fields that are looked at on their own.
const PROBES_MAX: usize = 8;

/// What can be said of a text before it is understood.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    /// Of each of these sets of words, one must be there, if the text has no escapes.
    words: Vec<Vec<Finder<'static>>>,
    /// One field of each of these names must have a value of some kind, if the text has no escapes.
    probes: Vec<Probe>,
    /// The fields of the document that the pattern looks at.
    fields: BTreeSet<Box<str>>,
}

/// A field that must be there, wherever it is.
#[derive(Clone, Debug)]
struct Probe {
    /// Its name in quotes.
    name: Finder<'static>,
    /// What its value must be, when it is neither an object nor an array.
    condition: Condition,
}

impl Outline {
    pub(super) fn of(pattern: &All) -> Self {
        let mut words = Vec::new();
        let mut words_left = WORDS_MAX;
        for alternatives in required(pattern) {
            let left = words_left.checked_sub(alternatives.len());
            let Some(left) = left else { break };
            words_left = left;
            words.push(
                alternatives
                    .iter()
                    .map(|word| Finder::new(word).into_owned())
                    .collect(),
            );
        }
        let mut fields = BTreeSet::new();
        note_fields(pattern, &mut fields);
        let probes = pattern.0.iter().filter_map(Probe::of).take(PROBES_MAX).collect();
        Self {
            words,
            probes,
            fields,
        }
    }

    /// Whether the text may match. When not, it need not be read.
    pub(super) fn may_match(&self, json: &[u8]) -> bool {
        let is_there =
            |alternatives: &Vec<Finder<'static>>| alternatives.iter().any(|word| word.find(json).is_some());
        let may_match =
            self.words.iter().all(is_there) && self.probes.iter().all(|probe| probe.may_hold(json));
        may_match || memchr(b'\\', json).is_some()
    }

    /// The fields of the document that the pattern looks at; `None` when it is not JSON. What is no object has no fields.
    pub(super) fn read(&self, json: &[u8]) -> Option<Value> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        match (Fields(&self.fields)).deserialize(&mut deserializer) {
            Ok(fields) => deserializer.end().ok().map(|()| Value::Object(fields)),
            // Not an object, or not JSON.
            Err(_) => serde_json::from_slice(json)
                .ok()
                .filter(|value: &Value| !value.is_object()),
        }
    }
}

impl Probe {
    /// `None` when nothing is to be looked for, or its words say enough.
    fn of(clause: &Clause) -> Option<Self> {
        let Clause::Field { path, condition } = clause else {
            return None;
        };
        if condition.holds(None) || !required_by(clause).is_empty() {
            return None;
        }
        Some(Self {
            name: Finder::new(&word("\"", path.last()?, "\"")?).into_owned(),
            condition: condition.clone(),
        })
    }

    fn may_hold(&self, json: &[u8]) -> bool {
        let name_bytes = self.name.needle().len();
        self.name.find_iter(json).any(|at| {
            let behind = json
                .get(at.saturating_add(name_bytes)..)
                .unwrap_or_default()
                .trim_ascii_start();
            // Without a colon it is a value, not a name.
            let Some((b':', behind)) = behind.split_first() else {
                return false;
            };
            match behind.trim_ascii_start().first() {
                Some(b'{' | b'[') => true,
                _ => {
                    let mut values = serde_json::Deserializer::from_slice(behind).into_iter::<Value>();
                    // What cannot be read here cannot be read at all.
                    values
                        .next()
                        .is_some_and(|value| value.is_ok_and(|value| self.condition.holds(Some(&value))))
                }
            }
        })
    }
}

/// Sets of words of which a text that matches has one each, if it has no escapes.
fn required(pattern: &All) -> Vec<Vec<Vec<u8>>> {
    pattern.0.iter().flat_map(required_by).collect()
}

fn required_by(clause: &Clause) -> Vec<Vec<Vec<u8>>> {
    match clause {
        Clause::Or(patterns) => any_of(patterns).into_iter().collect(),
        Clause::Field { condition, .. } => match condition {
            Condition::Nested(pattern) => required(pattern),
            Condition::OneOf(scalars) => {
                let words = scalars.iter().map(|scalar| match scalar {
                    Scalar::Text(text) => word("\"", text, "\""),
                    _ => None,
                });
                words.collect::<Option<Vec<_>>>().into_iter().collect()
            }
            Condition::AnyRule(rules) => {
                let sets: Option<Vec<_>> = rules.iter().map(of_rule).collect();
                sets.map(|sets| sets.concat()).into_iter().collect()
            }
        },
    }
}

/// One word of each alternative. `None` when one of them needs none.
fn any_of(patterns: &[All]) -> Option<Vec<Vec<u8>>> {
    let firsts: Option<Vec<_>> = patterns
        .iter()
        .map(|pattern| required(pattern).into_iter().next())
        .collect();
    firsts.map(|firsts| firsts.concat())
}

fn of_rule(rule: &Rule) -> Option<Vec<Vec<u8>>> {
    match rule {
        Rule::Prefix(texts) if !texts.ignore_case => {
            texts.any.iter().map(|text| word("\"", text, "")).collect()
        }
        Rule::Suffix(texts) if !texts.ignore_case => {
            texts.any.iter().map(|text| word("", text, "\"")).collect()
        }
        Rule::Or(patterns) => any_of(patterns),
        _ => None,
    }
}

/// A text as it stands in JSON without escapes; `None` when it cannot.
fn word(before: &str, text: &str, after: &str) -> Option<Vec<u8>> {
    let must_escape = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().any(must_escape) {
        return None;
    }
    Some([before, text, after].concat().into_bytes())
}

fn note_fields(pattern: &All, fields: &mut BTreeSet<Box<str>>) {
    for clause in &pattern.0 {
        match clause {
            Clause::Field { path, .. } => fields.extend(path.first().cloned()),
            Clause::Or(patterns) => patterns.iter().for_each(|pattern| note_fields(pattern, fields)),
        }
    }
}

/// Reads an object and keeps some of its fields.
struct Fields<'a>(&'a BTreeSet<Box<str>>);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if self.0.contains(&*key) {
                kept.insert(key.into_owned(), map.next_value()?);
            } else {
                let IgnoredAny = map.next_value()?;
            }
        }
        Ok(kept)
    }
}

/// A key, borrowed where the text has it as it is.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
