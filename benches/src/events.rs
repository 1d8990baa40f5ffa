//! What is sent in benchmarks: the same metadata and data for whoever is measured.

/// Texts of metadata before they repeat.
const METADATA_TEXTS: u64 = 1000;

/// Events to send.
pub(crate) struct Events {
    texts: Vec<String>,
    /// Of every event.
    pub(crate) data: Vec<u8>,
}

impl Events {
    /// Metadata and data of so many bytes.
    pub(crate) fn new(metadata_bytes: usize, data_bytes: usize) -> Self {
        Self {
            texts: (0..METADATA_TEXTS).map(|n| metadata(metadata_bytes, n)).collect(),
            data: vec![7; data_bytes],
        }
    }

    /// The metadata of so many events.
    pub(crate) fn metadata(&self, events: u64) -> impl Iterator<Item = &str> {
        let texts = self.texts.iter().cycle();
        texts.zip(0..events).map(|(text, _)| text.as_str())
    }
}

/// The metadata of event `n`: JSON of so many bytes, or of the fewest that hold its number.
pub(crate) fn metadata(bytes: usize, n: u64) -> String {
    let start = format!("{{\"n\":{n},\"pad\":\"");
    let pad = bytes.saturating_sub(start.len() + 2);
    format!("{start}{}\"}}", "x".repeat(pad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_json_of_the_length_asked_for() {
        let events = Events::new(128, 1);
        assert_eq!(events.metadata(2500).count(), 2500);
        for text in events.metadata(1001) {
            assert_eq!(text.len(), 128);
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(json["n"].as_u64().is_some_and(|n| n < METADATA_TEXTS));
        }
    }
}
