//! What holds for all batches and all bytes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Content, build, frame_of, plain_crc, refresh_header_crc};
use crate::batch::{Batch, BatchBuilder, check_pieces, combine_crc};
use crate::ids::ProducerId;
use crate::limits::PIECE_BYTES;

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let data = prop_oneof![
        3 => vec(any::<u8>(), 0..40),
        1 => (0..3_usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n * PIECE_BYTES]),
        1 => (65_530..65_545_usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
    ];
    vec((vec(any::<u8>(), 0..60), data), 1..12)
}

proptest! {
    #[test]
    fn what_was_built_is_read(events in contents(), cuts in vec(any::<prop::sample::Index>(), 0..4), id: u64, sequence: u64) {
        let mut builder = BatchBuilder::new();
        for (metadata, data) in &events {
            // In how many parts the data comes makes no difference.
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            places.extend([0, data.len()]);
            places.sort_unstable();
            builder.push(metadata, places.windows(2).map(|pair| &data[pair[0]..pair[1]])).unwrap();
        }
        let producer = Some((ProducerId::new(id), 5, sequence)).filter(|_| id > 0);
        let (frame, data) = builder.finish(producer);
        prop_assert_eq!(&build(&events, producer), &(frame.clone(), data.clone()));
        prop_assert_eq!(frame.len() % 8, 0);
        let batch = Batch::check_client(frame.clone(), data.clone()).unwrap();
        prop_assert_eq!(frame_of(&batch), &frame[..]);
        prop_assert_eq!(batch.producer(), producer);
        prop_assert_eq!(batch.events().count(), events.len());
        for ((index, event), (metadata, own)) in (0_u32..).zip(batch.events()).zip(&events) {
            prop_assert_eq!(event.index, index);
            prop_assert_eq!(event.metadata, metadata);
            let start = event.data_offset as usize;
            prop_assert_eq!(&data[start..start + event.data_bytes as usize], own);
            let crcs: Vec<u32> = event.pieces.iter().collect();
            prop_assert_eq!(combine_crc(&crcs, event.data_bytes), crc32fast::hash(own));
            prop_assert_eq!(batch.event(index), Some(event));
        }
    }

    #[test]
    fn what_is_kept_and_what_is_copied_make_the_same_batch(
        events in contents(),
        cuts in vec(any::<prop::sample::Index>(), 0..4),
        shared_bytes_min in 0..70_000_usize,
    ) {
        let mut builder = BatchBuilder::new();
        for (metadata, data) in &events {
            let data = Bytes::from(data.clone());
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            places.extend([0, data.len()]);
            places.sort_unstable();
            let segments: Vec<Bytes> = places.windows(2).map(|pair| data.slice(pair[0]..pair[1])).collect();
            builder.push_shared(metadata, &segments, shared_bytes_min).unwrap();
        }
        let bytes = builder.bytes();
        let (frame, parts) = builder.finish_in_parts(None);
        prop_assert!(parts.iter().all(|part| !part.is_empty()));
        let data = Bytes::from(parts.concat());
        prop_assert_eq!(bytes, (frame.len() + data.len()) as u64);
        prop_assert_eq!((frame, data), build(&events, None));
    }

    #[test]
    fn any_flipped_bit_of_any_batch_is_seen(events in contents(), bits in vec(any::<prop::sample::Index>(), 8)) {
        let (frame, data) = build(&events, None);
        for bit in bits {
            let bit = bit.index((frame.len() + data.len()) * 8);
            let mut bytes = [&frame[..], &data].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let data = Bytes::from(bytes.split_off(frame.len()));
            prop_assert!(Batch::check(bytes.into(), Some(data)).is_err());
        }
    }

    #[test]
    fn check_never_panics_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..300), data: Vec<u8>) {
        Batch::check(bytes.clone().into(), Some(data.clone().into())).ok();
        // Behind a header whose checksum, magic and version hold, the fields are reached.
        let mut bytes = bytes;
        bytes.resize(bytes.len().max(128), 0);
        bytes[..4].copy_from_slice(b"MFB1");
        bytes[8..10].copy_from_slice(&[1, 0]);
        bytes[108..128].fill(0);
        refresh_header_crc(&mut bytes);
        Batch::check(bytes.clone().into(), Some(data.clone().into())).ok();
        Batch::check_client(bytes.into(), data.into()).ok();
    }

    #[test]
    fn check_never_panics_on_mutated_frames(
        events in contents(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end: prop::sample::Index,
        cut: bool,
    ) {
        let (frame, data) = build(&events, None);
        let mut bytes = frame.to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if bytes.len() >= 128 {
            // With the checksums of header and table made right again, the sums behind them are reached.
            let table_bytes = (frame.len().min(bytes.len()) - 128).min(16 * events.len());
            let crc = plain_crc(&bytes[128..128 + table_bytes]).to_le_bytes();
            bytes[104..108].copy_from_slice(&crc);
            refresh_header_crc(&mut bytes);
        }
        if let Ok(batch) = Batch::check(bytes.into(), Some(data.clone())) {
            prop_assert!(check_pieces(&data, &batch));
        }
    }
}
