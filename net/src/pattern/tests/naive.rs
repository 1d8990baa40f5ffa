//! A second interpreter: slow, over the raw JSON, written from the description and not from the code.
//!
//! `None` means that the pattern is not one. Everything is evaluated, so that all of the pattern is looked at.

use serde_json::Value;

/// What a pattern says about metadata. Knows no bounds.
pub(super) fn judge(pattern: &Value, metadata: &Value) -> Option<bool> {
    pattern_on(pattern, Some(metadata))
}

fn pattern_on(pattern: &Value, data: Option<&Value>) -> Option<bool> {
    let mut result = data.is_some();
    for (key, right) in pattern.as_object()? {
        let holds = if key == "$or" {
            any_pattern(right, data)?
        } else {
            right_side(right, data.and_then(|data| lookup(data, key)))?
        };
        result = result && holds;
    }
    Some(result)
}

fn any_pattern(patterns: &Value, data: Option<&Value>) -> Option<bool> {
    let mut result = false;
    for pattern in patterns.as_array()? {
        result |= pattern_on(pattern, data)?;
    }
    Some(result)
}

fn lookup<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    match path.find('.') {
        Some(dot) => lookup(data.as_object()?.get(&path[..dot])?, &path[dot + 1..]),
        None => data.as_object()?.get(path),
    }
}

fn is_primitive(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

fn right_side(right: &Value, data: Option<&Value>) -> Option<bool> {
    if right.is_object() {
        return pattern_on(right, data);
    }
    let Some(items) = right.as_array() else {
        return Some(data.is_some_and(|data| equal(right, data)));
    };
    if items.iter().all(is_primitive) {
        return Some(data.is_some_and(|data| items.iter().any(|item| equal(item, data))));
    }
    if !items.iter().all(Value::is_object) {
        return None;
    }
    let mut result = false;
    for item in items {
        result |= rule_on(item, data)?;
    }
    Some(result)
}

fn equal(left: &Value, right: &Value) -> bool {
    let fraction = |value: &Value| value.is_f64();
    if left.is_number() && right.is_number() && (fraction(left) || fraction(right)) {
        return left.as_f64().unwrap() == right.as_f64().unwrap();
    }
    left == right
}

fn rule_on(rule: &Value, data: Option<&Value>) -> Option<bool> {
    let rule = rule.as_object()?;
    if rule.len() != 1 {
        return None;
    }
    let (name, operand) = rule.iter().next()?;
    let text = data.and_then(Value::as_str);
    match name.as_str() {
        "exists" => Some(operand.as_bool()? == data.is_some()),
        "anything-but" => {
            let inner = match operand {
                Value::Object(_) => rule_on(operand, data)?,
                Value::Array(items) if !items.iter().all(is_primitive) => return None,
                _ => right_side(operand, data)?,
            };
            Some(data.is_some() && !inner)
        }
        "prefix" | "suffix" => {
            let folded = operand.is_object();
            let mut texts = operand;
            if folded {
                if operand.as_object()?.len() != 1 {
                    return None;
                }
                texts = operand.get("equals-ignore-case")?;
            }
            let fold = |text: &str| {
                if folded {
                    text.to_ascii_lowercase()
                } else {
                    text.to_owned()
                }
            };
            let texts = strings(texts)?;
            Some(text.is_some_and(|text| {
                texts.iter().any(|end| match name.as_str() {
                    "prefix" => fold(text).starts_with(&fold(end)),
                    _ => fold(text).ends_with(&fold(end)),
                })
            }))
        }
        "equals-ignore-case" => {
            let texts = strings(operand)?;
            let lower = text.map(str::to_ascii_lowercase);
            Some(lower.is_some_and(|lower| texts.iter().any(|other| other.to_ascii_lowercase() == lower)))
        }
        "numeric" => {
            let items = operand.as_array()?;
            if items.len() % 2 != 0 {
                return None;
            }
            let number = data.and_then(Value::as_f64);
            let mut result = number.is_some();
            for pair in 0..items.len() / 2 {
                let limit = items[pair * 2 + 1].as_f64()?;
                let number = number.unwrap_or_default();
                result &= match items[pair * 2].as_str()? {
                    "=" => number == limit,
                    "<" => number < limit,
                    ">" => number > limit,
                    "<=" => number <= limit,
                    ">=" => number >= limit,
                    _ => return None,
                };
            }
            Some(result)
        }
        "$or" => {
            let holds = any_pattern(operand, data)?;
            Some(data.is_some() && holds)
        }
        "wildcard" => {
            let form = tokens(operand.as_str()?);
            let characters = text.map(|text| text.chars().collect::<Vec<_>>());
            Some(characters.is_some_and(|characters| wild(&form, &characters)))
        }
        _ => None,
    }
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// `None` is a star.
fn tokens(form: &str) -> Vec<Option<char>> {
    let form: Vec<char> = form.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < form.len() {
        match (form[at], form.get(at + 1)) {
            ('\\', Some(next @ ('*' | '\\'))) => {
                tokens.push(Some(*next));
                at += 1;
            }
            ('*', _) => tokens.push(None),
            (other, _) => tokens.push(Some(other)),
        }
        at += 1;
    }
    tokens
}

/// Tries everything.
fn wild(form: &[Option<char>], text: &[char]) -> bool {
    match form.split_first() {
        None => text.is_empty(),
        Some((None, form)) => (0..=text.len()).any(|skipped| wild(form, &text[skipped..])),
        Some((Some(expected), form)) => text.first() == Some(expected) && wild(form, &text[1..]),
    }
}
