use mofka_log::EventId;
use proptest::prelude::*;

use super::*;

type Event = (u32, Vec<u8>, u64, Option<Vec<u8>>);

fn events() -> impl Strategy<Value = Vec<Event>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20);
    let event = (1..5_u32, bytes(), any::<u64>(), prop::option::of(bytes()));
    prop::collection::vec(event, 0..6).prop_map(|mut events| {
        // Steps between indices to indices.
        let mut next = 0;
        for (index, ..) in &mut events {
            next += *index;
            *index = next;
        }
        events
    })
}

fn encode(base: u64, events: &[Event]) -> Bytes {
    let mut builder = PickedBuilder::new(EventId::new(base), 17);
    for (index, metadata, data_bytes, sent) in events {
        let sent = sent
            .as_ref()
            .map(|sent| (Bytes::copy_from_slice(sent), crc32fast::hash(sent)));
        builder.push(*index, metadata, *data_bytes, sent);
    }
    assert_eq!(builder.is_empty(), events.is_empty());
    builder.finish().concat().into()
}

fn check(bytes: Bytes) -> Result<Picked, BodyError> {
    let mut reader = BodyReader::new("feed", bytes);
    let picked = Picked::check(&mut reader)?;
    reader.finish()?;
    Ok(picked)
}

proptest! {
    #[test]
    fn encode_then_check_is_identity(base in 0..1_u64 << 60, events in events()) {
        let picked = check(encode(base, &events)).unwrap();
        prop_assert_eq!(picked.timestamp_us, 17);
        let back: Vec<Event> = picked
            .events
            .iter()
            .map(|event| {
                let index = u32::try_from(event.id.get() - base).unwrap();
                let data = event.data.as_ref().map(|data| data.to_vec());
                (index, event.metadata.to_vec(), event.data_bytes, data)
            })
            .collect();
        prop_assert_eq!(back, events);
    }

    #[test]
    fn a_cut_or_changed_item_is_never_taken_for_another(
        events in events(),
        place: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let whole = encode(3, &events);
        let right = check(whole.clone()).unwrap();
        prop_assert!(check(whole.slice(..place.index(whole.len()))).is_err());
        let mut changed = whole.to_vec();
        let at = place.index(changed.len());
        changed[at] ^= 1 << bit;
        // Only data may change: it is left out then, and fetched again.
        if let Ok(picked) = check(changed.into()) {
            let mut without = right;
            for (event, seen) in without.events.iter_mut().zip(&picked.events) {
                if seen.data.is_none() {
                    event.data = None;
                }
            }
            prop_assert_eq!(picked, without);
        }
    }

    #[test]
    fn check_never_panics(junk: Vec<u8>, event_count: u32, metadata_bytes: u64, data_bytes: u64) {
        check(junk.clone().into()).ok();
        let mut raw = RawPicked {
            base_event_id: Le64::from(u64::MAX),
            timestamp_us: Le64::from(0),
            event_count: Le32::from(event_count % 5),
            table_crc: Le32::from(crc32fast::hash(junk.get(..(event_count % 5) as usize * 32).unwrap_or(&[]))),
            metadata_bytes: Le64::from(metadata_bytes % 64),
            data_bytes: Le64::from(data_bytes),
            metadata_crc: Le32::from(0),
            reserved: [0; 16],
            header_crc: Le32::from(0),
        };
        raw.header_crc = Le32::from(crc32fast::hash(&bytemuck::bytes_of(&raw)[..CHECKED_BYTES]));
        let mut body = bytemuck::bytes_of(&raw).to_vec();
        body.extend_from_slice(&junk);
        check(body.into()).ok();
    }
}

#[test]
fn lies_are_named() {
    let twice = [(3, vec![], 0, None), (3, vec![], 0, None)];
    assert!(matches!(
        check(encode(0, &twice)),
        Err(BodyError::Invalid { field: "index", .. })
    ));
    let beyond = [(3, vec![], 0, None)];
    assert!(matches!(
        check(encode(u64::MAX - 1, &beyond)),
        Err(BodyError::Invalid { field: "index", .. })
    ));
}

#[test]
fn a_reference_comes_with_its_event() {
    let view = crate::DataDescriptor::of_event(EventId::new(3), 100).sub_view(10, 20);
    let reference = crate::DataReference::new(uuid::Uuid::from_u128(8), view).unwrap();
    let stored = reference.serialize();
    let mut builder = PickedBuilder::new(EventId::new(40), 17);
    builder.push(
        0,
        b"{}",
        5,
        Some((Bytes::from_static(b"abc"), crc32fast::hash(b"abc"))),
    );
    builder.push_reference(2, b"{\"n\":1}", Reference::check(&stored).unwrap());
    builder.push(3, b"[]", 0, None);
    let encoded: Bytes = builder.finish().concat().into();
    let picked = check(encoded.clone()).unwrap();
    assert_eq!(picked.events[1].metadata, &b"{\"n\":1}"[..]);
    assert_eq!(
        (picked.events[1].data_bytes, picked.events[1].data.as_ref()),
        (20, None)
    );
    let found = picked.events[1].reference.clone().unwrap();
    assert_eq!(crate::DataReference::deserialize(&found).unwrap(), reference);
    assert_eq!(
        (&picked.events[0].reference, &picked.events[2].reference),
        (&None, &None)
    );
    // A length or a size that lies is refused, with right checksums.
    let table = PICKED_HEADER_BYTES;
    for (at, byte) in [(table + 32 + 8, 21), (table + 32 + 28, 3), (table + 32 + 4, 3)] {
        let mut lie = encoded.to_vec();
        lie[at] = byte;
        let crc = crc32fast::hash(&lie[table..table + 3 * PICKED_EVENT_BYTES]);
        lie[20..24].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32fast::hash(&lie[..60]);
        lie[60..64].copy_from_slice(&crc.to_le_bytes());
        assert!(check(lie.into()).is_err(), "byte {at}");
    }
}
