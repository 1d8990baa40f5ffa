//! How batches are built and numbered.

use bytes::Bytes;

use super::{build, frame_of, golden, golden_events};
use crate::batch::{Batch, BatchBuilder, BatchError};
use crate::ids::ProducerId;
use crate::limits::{DATA_BATCH_BYTES_MAX, METADATA_BLOCK_BYTES_MAX, PIECE_BYTES};

#[test]
fn a_builder_keeps_its_bounds_and_its_content() {
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", [&b"abc"[..]]).unwrap();
    let huge = vec![0; METADATA_BLOCK_BYTES_MAX as usize - 1];
    let error = builder.push(&huge, []).unwrap_err();
    let max = METADATA_BLOCK_BYTES_MAX;
    assert_eq!(
        error,
        BatchError::TooLarge {
            field: "metadata_bytes",
            value: max + 1,
            max
        }
    );
    // 17 segments of 64 MiB are more than 1 GiB, and none of them stays.
    let error = builder.push(b"{}", (0..17).map(|_| &huge[..])).unwrap_err();
    assert!(matches!(
        error,
        BatchError::TooLarge {
            field: "data_bytes",
            ..
        }
    ));
    assert_eq!(builder.event_count(), 1);
    let (frame, data) = builder.finish(None);
    assert_eq!(data, "abc");
    Batch::check_client(frame, data).unwrap();
}

#[test]
fn long_segments_are_kept_as_they_are_and_short_ones_gathered() {
    let long = |byte: u8| Bytes::from(vec![byte; 70_000]);
    let (first, second) = (long(1), long(2));
    let segments = [
        Bytes::from_static(b"a"),
        first.clone(),
        second.clone(),
        Bytes::from_static(b"b"),
        Bytes::new(),
        Bytes::from_static(b"c"),
    ];
    let mut builder = BatchBuilder::new();
    builder.push(b"{}", [&b"before"[..]]).unwrap();
    builder.push_shared(b"{}", &segments, PIECE_BYTES).unwrap();
    builder.push(b"{}", [&b"after"[..]]).unwrap();
    // What does not fit leaves nothing, wherever the bound is met.
    let many = vec![long(3); (DATA_BATCH_BYTES_MAX / 70_000) as usize];
    let bytes = builder.bytes();
    assert!(builder.push_shared(b"{}", &many, PIECE_BYTES).is_err());
    assert_eq!((builder.bytes(), builder.event_count()), (bytes, 3));
    let (frame, parts) = builder.finish_in_parts(None);
    let lengths: Vec<usize> = parts.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [7, 70_000, 70_000, 7]);
    assert_eq!(
        (parts[0].as_ref(), parts[3].as_ref()),
        (&b"beforea"[..], &b"bcafter"[..])
    );
    assert_eq!(parts[1].as_ptr(), first.as_ptr());
    assert_eq!(parts[2].as_ptr(), second.as_ptr());
    Batch::check_client(frame, parts.concat().into()).unwrap();
}

#[test]
fn a_batch_is_numbered_anew_without_another_change() {
    let (frame, data) = golden();
    let mut batch = Batch::check_client(frame, data.clone()).unwrap();
    batch.renumber(ProducerId::new(0xbb), 4, 9);
    let renumbered: Bytes = frame_of(&batch).into();
    let (expected, _) = build(&golden_events(), Some((ProducerId::new(0xbb), 4, 9)));
    assert_eq!(renumbered, expected);
    Batch::check_client(renumbered, data).unwrap();
}

#[test]
#[should_panic(expected = "a batch without events was finished")]
fn an_empty_batch_is_our_mistake() {
    BatchBuilder::new().finish(None);
}
