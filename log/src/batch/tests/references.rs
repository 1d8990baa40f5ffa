use bytes::Bytes;
use uuid::Uuid;

use crate::batch::{Batch, BatchBuilder, BatchError, REFERENCE_HEAD_BYTES, Reference, StreamedData};
use crate::ids::ProducerId;

/// As docs/FORMAT.md says, not as the encoder does it.
fn reference(partition: u128, event_id: u64, data_bytes: u64, base_bytes: u64) -> Vec<u8> {
    let mut bytes = Uuid::from_u128(partition).into_bytes().to_vec();
    for number in [data_bytes, base_bytes, 8, event_id, 0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    assert_eq!(bytes.len(), REFERENCE_HEAD_BYTES);
    bytes
}

fn build() -> (Bytes, Bytes) {
    let mut builder = BatchBuilder::new();
    let stored = reference(9, 4, 10, 30);
    builder.push(b"{\"n\":0}", [&b"own data"[..]]).unwrap();
    builder
        .push_reference(b"{\"n\":1}", Reference::check(&stored).unwrap())
        .unwrap();
    builder.push(b"{\"n\":2}", [&b"more"[..]]).unwrap();
    let bytes = builder.bytes();
    let (frame, data) = builder.finish(Some((ProducerId::new(3), 0, 0)));
    assert_eq!(bytes, (frame.len() + data.len()) as u64);
    (frame, data)
}

#[test]
fn a_reference_stands_in_place_of_data() {
    let (frame, data) = build();
    assert_eq!(&data[..], b"own datamore");
    let batch = Batch::check_client(frame, data).unwrap();
    assert!(batch.has_references() && batch.data_bytes() == 12);
    let events: Vec<_> = batch.events().collect();
    let metadata: Vec<_> = events.iter().map(|event| event.metadata).collect();
    assert_eq!(metadata, [b"{\"n\":0}", b"{\"n\":1}", b"{\"n\":2}"]);
    assert_eq!(
        (events[0].reference, events[2].reference, events[2].data_offset),
        (None, None, 8)
    );
    let found = events[1].reference.unwrap();
    assert_eq!(
        (
            found.partition(),
            found.event_id().get(),
            found.data_bytes(),
            found.base_bytes()
        ),
        (Uuid::from_u128(9), 4, 10, 30)
    );
    assert_eq!(found.bytes(), reference(9, 4, 10, 30));
    assert_eq!(
        (
            events[1].data_bytes,
            events[1].pieces.len(),
            events[1].data_offset
        ),
        (0, 0, 8)
    );
}

#[test]
fn the_header_of_a_batch_without_references_is_as_it_always_was() {
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", [&b"data"[..]]).unwrap();
    let (frame, _) = builder.finish(None);
    assert_eq!(frame[10..12], [0, 0]);
    let (frame, _) = build();
    assert_eq!(frame[10..12], [4, 0]);
}

/// A change of a frame, and what it is to be refused for.
type Lie<'a> = (&'a dyn Fn(&mut Vec<u8>), &'a str);

/// Changes the frame, with all checksums right.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Batch, BatchError> {
    let (frame, _) = build();
    let mut frame = frame.to_vec();
    change(&mut frame);
    // The second entry's metadata is 7 bytes in the block, which begins after three entries and two pieces.
    let block = 128 + 3 * 16 + 2 * 4;
    let own = crc32fast::hash(&frame[block + 7..block + 14 + REFERENCE_HEAD_BYTES]);
    frame[128 + 16 + 4..128 + 16 + 8].copy_from_slice(&own.to_le_bytes());
    let table = crc32fast::hash(&frame[128..block]);
    frame[104..108].copy_from_slice(&table.to_le_bytes());
    super::refresh_header_crc(&mut frame);
    Batch::check(frame.into(), None)
}

#[test]
fn what_is_not_a_reference_is_named() {
    changed(|_| ()).unwrap();
    let reason = |change: &dyn Fn(&mut Vec<u8>)| changed(change).unwrap_err().to_string();
    let at = 128 + 3 * 16 + 2 * 4 + 14;
    let cases: [Lie<'_>; 7] = [
        (&|frame| frame[10] = 0, "does not say whether there are any"),
        (&|frame| frame[at + 32] = 7, "its location is not an event id"),
        (&|frame| frame[at + 47] = 0x80, "beyond the last"),
        (&|frame| frame[at + 16] = 0, "selects nothing"),
        (&|frame| frame[at + 16] = 31, "more than there is"),
        (&|frame| frame[at + 30] = 1, "no event has so much data"),
        (&|frame| frame[128 + 16 + 8] = 200, "longer than the metadata"),
    ];
    for (change, expected) in cases {
        let found = reason(change);
        assert!(
            found.contains(expected) && found.contains("the reference of event"),
            "{found}"
        );
    }
    let short = reason(&|frame| frame[128 + 16 + 8] = 20);
    assert!(short.contains("it ends early"), "{short}");
}

#[test]
fn a_header_that_promises_references_has_some() {
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", []).unwrap();
    let (frame, _) = builder.finish(None);
    let mut frame = frame.to_vec();
    frame[10] = 4;
    super::refresh_header_crc(&mut frame);
    assert!(matches!(
        Batch::check(frame.into(), None),
        Err(BatchError::Reference { .. })
    ));
}

#[test]
fn a_stream_is_not_a_reference() {
    let mut builder = BatchBuilder::new();
    let stored = reference(9, 4, 10, 30);
    builder
        .push_reference(b"{}", Reference::check(&stored).unwrap())
        .unwrap();
    let (frame, _) = builder.finish(Some((ProducerId::new(3), 0, 0)));
    assert!(matches!(
        Batch::check_streamed(frame, &StreamedData::new()),
        Err(BatchError::Reference { .. })
    ));
}
