//! Metadata of events: JSON of a given size with a few numbers in it.

/// Digits of each number.
const DIGITS: usize = 16;

/// JSON of which only numbers change, so that making it costs next to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// An object with these numbers, filled up to `bytes` bytes.
    pub(crate) fn new(names: &[&str], bytes: u32) -> Self {
        let mut text = b"{".to_vec();
        let mut places = Vec::new();
        for name in names {
            text.extend(format!("\"{name}\":").bytes());
            places.push(text.len());
            text.extend([b' '; DIGITS]);
            text.push(b',');
        }
        text.extend(b"\"pad\":\"");
        let wanted = usize::try_from(bytes).unwrap_or(0);
        let left = wanted.saturating_sub(text.len() + 2);
        text.extend(std::iter::repeat_n(b'x', left));
        text.extend(b"\"}");
        Self { bytes: text, places }
    }

    /// It with these numbers, each below 10^16.
    pub(crate) fn with(&mut self, numbers: &[u64]) -> &[u8] {
        for (place, number) in self.places.iter().zip(numbers) {
            let digits = format!("{number:>DIGITS$}");
            if let Some(room) = self.bytes.get_mut(*place..place + DIGITS) {
                room.copy_from_slice(digits.as_bytes().get(..DIGITS).unwrap_or(&[b' '; DIGITS]));
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_json_of_the_size_that_was_asked_for() {
        let mut template = Template::new(&["r", "t", "a"], 80);
        let bytes = template.with(&[7, 0, 9_999_999_999_999_999]);
        assert_eq!(bytes.len(), 80);
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(
            (&value["r"], &value["t"], &value["a"]),
            (&json!(7), &json!(0), &json!(9_999_999_999_999_999_u64))
        );
        assert_eq!(Template::new(&["n"], 1000).with(&[1]).len(), 1000);
    }
}
