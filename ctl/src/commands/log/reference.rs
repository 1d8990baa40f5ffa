//! What an event refers to in place of data of its own, for people and programs.

use mofka_log::Reference;
use serde_json::{Value, json};

pub(super) fn reference_json(to: Reference<'_>) -> Value {
    json!({
        "partition": to.partition().to_string(),
        "event_id": to.event_id().get(),
        "selected_bytes": to.data_bytes(),
        "data_bytes": to.base_bytes(),
    })
}

pub(super) fn reference_text(to: &Reference<'_>) -> String {
    format!(
        "{} of the {} bytes of data of event {} of partition {}",
        to.data_bytes(),
        to.base_bytes(),
        to.event_id(),
        to.partition()
    )
}
