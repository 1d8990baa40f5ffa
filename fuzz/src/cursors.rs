//! Records of a cursors file. Input: each record with its length before it (u16).

use std::collections::BTreeMap;

use mofka_log::{CursorRecord, Cursors, EVENT_ID_END, check_consumer_name};

/// See the module.
pub fn run(input: &[u8]) {
    let mut cursors = Cursors::default();
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let bytes = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (bytes, after) = after.split_at(bytes);
        rest = after;
        let Ok(record) = CursorRecord::check(bytes) else {
            continue;
        };
        assert!(check_consumer_name(&record.name).is_ok());
        assert!(record.next_event_id.get() < EVENT_ID_END);
        assert_eq!(record.encode(), bytes, "there is one way to write a record");
        cursors.apply(&record);
        if record.removed {
            model.remove(&record.name);
        } else {
            model.insert(record.name.clone(), record.next_event_id.get());
        }
        let next = cursors.get(&record.name).map(|next| next.get());
        assert_eq!(
            next,
            model.get(&record.name).copied(),
            "the last record of a name is in force"
        );
    }
    let found = cursors.iter().map(|(name, next)| (name, next.get()));
    assert!(found.eq(model.iter().map(|(name, next)| (name.as_str(), *next))));
    assert_eq!(
        (cursors.len(), cursors.is_empty()),
        (model.len(), model.is_empty())
    );
    let snapshot = cursors.snapshot();
    let bytes: usize = snapshot.iter().map(|record| record.encode().len()).sum();
    assert_eq!(cursors.snapshot_bytes(), bytes as u64);
    let mut again = Cursors::default();
    for record in &snapshot {
        again.apply(record);
    }
    assert_eq!(again, cursors, "a snapshot is the whole table");
}
