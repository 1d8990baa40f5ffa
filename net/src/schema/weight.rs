//! How much of a schema is looked at for one place of a document.
//!
//! A part of a schema that is referred to twice is checked twice, and what it refers to four times: sixty such steps, a few lines of
//! text, would keep a checker busy for ever. Whoever accepts a schema from others weighs it first.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Parts that may be looked at for one place of a document.
const WEIGHT_MAX: u64 = 100_000;
/// Steps from a part to one that it refers to or consists of, for the same place.
const DEPTH_MAX: usize = 500;
/// Parts with an `$id`.
const IDS_MAX: usize = 256;

/// Whether each part of the schema can be checked within bounds.
///
/// # Errors
/// Why not.
pub(super) fn check(root: &Value) -> Result<(), String> {
    let mut scale = Scale::new(root);
    let ids: usize = scale.named.values().map(Vec::len).sum();
    if ids > IDS_MAX {
        return Err(format!("{ids} parts of it have an \"$id\", and {IDS_MAX} may"));
    }
    let mut parts = vec![root];
    while let Some(part) = parts.pop() {
        let weight = scale.weigh(part, 0)?;
        if weight > WEIGHT_MAX {
            return Err(format!(
                "parts of it refer to others so often that {weight} would be looked at for one place of a document, and {WEIGHT_MAX} may"
            ));
        }
        match part {
            Value::Object(members) => parts.extend(members.values()),
            Value::Array(items) => parts.extend(items),
            _ => {}
        }
    }
    Ok(())
}

struct Scale<'a> {
    root: &'a Value,
    /// By the end of their `$id`: the parts that references may be relative to.
    named: HashMap<&'a str, Vec<&'a Value>>,
    /// By `$anchor` and `$dynamicAnchor`.
    anchors: HashMap<&'a str, Vec<&'a Value>>,
    /// By the place of the part in memory. 0: it is being weighed.
    known: HashMap<usize, u64>,
}

impl<'a> Scale<'a> {
    fn new(root: &'a Value) -> Self {
        let mut scale = Self {
            root,
            named: HashMap::new(),
            anchors: HashMap::new(),
            known: HashMap::new(),
        };
        let mut parts = vec![root];
        while let Some(part) = parts.pop() {
            match part {
                Value::Object(members) => {
                    let text = |name: &str| members.get(name).and_then(Value::as_str);
                    for id in ["$id", "id"].into_iter().filter_map(text) {
                        scale.named.entry(end_of(id)).or_default().push(part);
                        if let Some(anchor) = id.strip_prefix('#') {
                            scale.anchors.entry(anchor).or_default().push(part);
                        }
                    }
                    for anchor in ["$anchor", "$dynamicAnchor"].into_iter().filter_map(text) {
                        scale.anchors.entry(anchor).or_default().push(part);
                    }
                    parts.extend(members.values());
                }
                Value::Array(items) => parts.extend(items),
                _ => {}
            }
        }
        scale
    }

    /// How many parts are looked at when this one is, for the same place of a document.
    fn weigh(&mut self, part: &'a Value, depth: usize) -> Result<u64, String> {
        let Value::Object(members) = part else {
            return Ok(1);
        };
        let place = std::ptr::from_ref(part).addr();
        if let Some(weight) = self.known.get(&place) {
            // What leads back to itself for the same place says nothing: checkers stop there.
            return Ok((*weight).max(1));
        }
        if depth > DEPTH_MAX {
            return Err(format!(
                "parts of it refer to each other over more than {DEPTH_MAX} steps"
            ));
        }
        self.known.insert(place, 0);
        let mut weight = 1_u64;
        for (name, value) in members {
            for applied in self.applied(name, value) {
                weight = weight.saturating_add(self.weigh(applied, depth.saturating_add(1))?);
            }
        }
        self.known.insert(place, weight);
        Ok(weight)
    }

    /// The parts that this member applies to the same place.
    fn applied(&self, name: &str, value: &'a Value) -> Vec<&'a Value> {
        match (name, value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => parts.iter().collect(),
            ("not" | "if" | "then" | "else", part) => vec![part],
            ("dependentSchemas" | "dependencies", Value::Object(parts)) => parts.values().collect(),
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(to)) => self.targets(to),
            _ => Vec::new(),
        }
    }

    /// Whatever a reference may lead to: what it is relative to is not followed up, so of several all count.
    fn targets(&self, to: &str) -> Vec<&'a Value> {
        let (base, fragment) = to.split_once('#').unwrap_or((to, ""));
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return self.anchors.get(fragment.as_ref()).cloned().unwrap_or_default();
        }
        let within = |base: &&'a Value| base.pointer(&fragment);
        match base {
            "" => match self.root.pointer(&fragment) {
                Some(target) => vec![target],
                None => self.named.values().flatten().filter_map(within).collect(),
            },
            base => {
                let named = self.named.get(end_of(base)).into_iter().flatten();
                named.filter_map(within).collect()
            }
        }
    }
}

/// What relative and absolute forms of an `$id` have in common.
fn end_of(id: &str) -> &str {
    let whole = id.trim_end_matches('#');
    whole.rsplit('/').next().unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// Each of so many parts is what two others make of it.
    fn doubling(steps: usize, refers: impl Fn(usize) -> Value) -> Value {
        let mut parts = Map::new();
        for step in 0..steps {
            let next = refers(step + 1);
            parts.insert(format!("d{step}"), json!({"allOf": [next, next]}));
        }
        parts.insert(format!("d{steps}"), json!({"type": "string"}));
        json!({"$ref": "#/definitions/d0", "definitions": parts})
    }

    #[test]
    fn what_doubles_with_every_step_is_refused_however_it_is_written() {
        let plain = |step| json!({"$ref": format!("#/definitions/d{step}")});
        assert!(check(&doubling(10, plain)).is_ok());
        let told = check(&doubling(60, plain)).unwrap_err();
        assert!(told.contains("so often"), "{told}");
        let coded = |step| json!({"$ref": format!("#/definitions/%64{step}")});
        assert!(check(&doubling(60, coded)).is_err());
        let mut based = doubling(
            60,
            |step| json!({"$ref": format!("all.json#/definitions/d{step}")}),
        );
        based["$id"] = json!("http://example.org/all.json");
        assert!(check(&based).is_err());
        let mut anchored = doubling(60, |step| json!({"$ref": format!("#a{step}")}));
        for step in 0..=60 {
            anchored["definitions"][format!("d{step}")]["$anchor"] = json!(format!("a{step}"));
        }
        assert!(check(&anchored).is_err());
    }

    #[test]
    fn what_applies_to_other_places_is_not_added_up() {
        let tree = json!({
            "type": "object",
            "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "value": {"$ref": "#/definitions/v"}},
            "definitions": {"v": {"anyOf": [{"type": "number"}, {"$ref": "#"}]}}
        });
        assert_eq!(check(&tree), Ok(()));
        assert_eq!(check(&json!({"$ref": "#"})), Ok(()), "checkers stop there");
        assert_eq!(check(&json!(true)), Ok(()));
    }

    #[test]
    fn long_ways_are_refused() {
        let mut parts = Map::new();
        for step in 0..2000 {
            parts.insert(
                format!("d{step}"),
                json!({"$ref": format!("#/definitions/d{}", step + 1)}),
            );
        }
        let chain = json!({"$ref": "#/definitions/d0", "definitions": parts});
        assert!(check(&chain).unwrap_err().contains("steps"));
    }
}
