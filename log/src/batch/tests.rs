mod building;
mod properties;
mod references;

use super::*;
use crate::ids::ProducerId;
use crate::limits::{
    DATA_BATCH_BYTES_MAX, EVENT_ID_END, EVENTS_PER_BATCH_MAX, FILE_POS_END, METADATA_BLOCK_BYTES_MAX,
    PIECE_BYTES,
};

type Content = (Vec<u8>, Vec<u8>);

/// CRC-32 bit by bit: not the implementation that wrote the bytes.
pub(crate) fn plain_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xEDB8_8320
            } else {
                crc >> 1
            }
        })
    })
}

fn build(events: &[Content], producer: Option<(ProducerId, u32, u64)>) -> (Bytes, Bytes) {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in events {
        builder.push(metadata, [data.as_slice()]).unwrap();
    }
    let (bytes, events) = (builder.bytes(), builder.event_count());
    let (frame, data) = builder.finish(producer);
    assert_eq!(bytes, (frame.len() + data.len()) as u64);
    assert_eq!(frame_bytes_hint(&frame[..128]), Ok(frame.len() as u64));
    assert_eq!(Batch::check(frame.clone(), None).unwrap().event_count(), events);
    (frame, data)
}

fn golden_events() -> Vec<Content> {
    vec![
        (b"{\"a\":1}".to_vec(), b"hello mofka".to_vec()),
        (b"{}".to_vec(), Vec::new()),
    ]
}

const GOLDEN_STAMP: Stamp = Stamp {
    salt: 0x5a17,
    base_event_id: EventId::new(7),
    synced_end: EventId::new(5),
    data_at: FilePos::new(4096),
    incarnation: 2,
    timestamp_us: 1000,
    partition_epoch: 0,
};

fn golden() -> (Bytes, Bytes) {
    build(&golden_events(), Some((ProducerId::new(0xaa), 1, 3)))
}

fn stamped() -> Batch {
    let (frame, data) = golden();
    let mut batch = Batch::check_client(frame, data).unwrap();
    batch.stamp(GOLDEN_STAMP);
    batch
}

fn frame_of(batch: &Batch) -> Vec<u8> {
    [&batch.header_bytes()[..], batch.body()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Made by another program (Python's struct and zlib) from docs/FORMAT.md. A change here is a new version of the format.
#[test]
fn golden_bytes() {
    let (frame, data) = golden();
    let client = [
        "4d4642312ff75108",
        "0100000002000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0b00000000000000aa0000000000000003000000000000000100000000000000",
        "00000000000000000000000000000000090000000100000004fdb545",
        "0000000000000000000000000000000000000000",
        "07000000afac1b560b00000000000000",
        "0200000043bfa6a30000000000000000",
        "42f71e03",
        "7b2261223a317d7b7d000000",
    ];
    assert_eq!(hex(&frame), client.concat());
    assert_eq!(data, "hello mofka");
    let server = [
        "4d4642319be3eb6c",
        "0100000002000000",
        "175a000000000000070000000000000005000000000000000010000000000000",
        "0b00000000000000aa0000000000000003000000000000000100000002000000",
        "e8030000000000000000000000000000090000000100000004fdb545",
        "0000000000000000000000000000000000000000",
    ];
    assert_eq!(
        hex(&frame_of(&stamped())),
        [&server[..], &client[6..]].concat().concat()
    );
    let (base_event_id, data_at) = (EventId::new(9), FilePos::new(0));
    let mark = Batch::mark(
        true,
        Stamp {
            base_event_id,
            synced_end: base_event_id,
            data_at,
            ..GOLDEN_STAMP
        },
    );
    let zeros = |bytes: usize| "00".repeat(bytes);
    let expected = [
        "4d464231766b068f",
        "0100030000000000",
        "175a000000000000",
        "0900000000000000",
        "0900000000000000",
        &zeros(36),
        "02000000",
        "e803000000000000",
        &zeros(40),
    ];
    assert_eq!(hex(&frame_of(&mark)), expected.concat());
}

#[test]
fn plain_crc_is_the_common_one() {
    assert_eq!(plain_crc(b"123456789"), 0xCBF4_3926);
}

#[test]
fn a_stamp_changes_the_servers_fields_and_nothing_else() {
    let batch = stamped();
    assert_eq!(
        Batch::check(frame_of(&batch).into(), batch.data().cloned()).unwrap(),
        batch
    );
    assert_eq!(
        (batch.base_event_id(), batch.end_event_id()),
        (EventId::new(7), EventId::new(9))
    );
    assert_eq!(
        (batch.salt(), batch.incarnation(), batch.timestamp_us()),
        (0x5a17, 2, 1000)
    );
    assert_eq!(
        (batch.synced_end(), batch.data_at()),
        (EventId::new(5), FilePos::new(4096))
    );
    assert_eq!(batch.producer(), Some((ProducerId::new(0xaa), 1, 3)));
    assert_eq!(
        (batch.event_count(), batch.data_bytes(), batch.frame_bytes()),
        (2, 11, 176)
    );
    assert!(!batch.is_mark() && !batch.is_clean_mark());
    let first = batch.event(0).unwrap();
    assert_eq!(
        (first.index, first.metadata, first.data_offset, first.data_bytes),
        (0, &b"{\"a\":1}"[..], 0, 11)
    );
    assert_eq!(
        first.pieces.iter().collect::<Vec<_>>(),
        [plain_crc(b"hello mofka")]
    );
    let second = batch.event(1).unwrap();
    assert_eq!(
        (
            second.index,
            second.metadata,
            second.data_offset,
            second.data_bytes
        ),
        (1, &b"{}"[..], 11, 0)
    );
    assert!(second.pieces.is_empty());
    assert_eq!(batch.event(2), None);
}

#[test]
fn marks_are_witnesses_without_events() {
    let stamp = Stamp {
        data_at: FilePos::new(0),
        ..GOLDEN_STAMP
    };
    for clean in [false, true] {
        let mark = Batch::check(frame_of(&Batch::mark(clean, stamp)).into(), None).unwrap();
        assert!(mark.is_mark());
        assert_eq!(mark.is_clean_mark(), clean);
        assert_eq!(
            (mark.base_event_id(), mark.end_event_id()),
            (EventId::new(7), EventId::new(7))
        );
        assert_eq!(mark.events().count(), 0);
        let refused = Batch::check_client(frame_of(&mark).into(), Bytes::new()).unwrap_err();
        assert_eq!(
            refused,
            BatchError::ServerField {
                field: "flags",
                value: if clean { 3 } else { 1 }
            }
        );
    }
}

#[test]
fn what_only_the_server_writes_is_refused_from_a_client() {
    let batch = stamped();
    let refused = Batch::check_client(frame_of(&batch).into(), batch.data().cloned().unwrap()).unwrap_err();
    assert_eq!(
        refused,
        BatchError::ServerField {
            field: "salt",
            value: 0x5a17
        }
    );
    let fields = [
        (24, 8, "base_event_id"),
        (40, 8, "data_at"),
        (76, 4, "incarnation"),
        (80, 8, "timestamp_us"),
        (88, 8, "partition_epoch"),
        (16, 8, "salt"),
    ];
    let (frame, data) = golden();
    for (at, _, field) in fields {
        let mut changed = frame.to_vec();
        changed[at] = 9;
        refresh_header_crc(&mut changed);
        let refused = Batch::check_client(changed.into(), data.clone()).unwrap_err();
        assert_eq!(refused, BatchError::ServerField { field, value: 9 });
    }
}

fn refresh_header_crc(frame: &mut [u8]) {
    let crc = plain_crc(&frame[8..128]).to_le_bytes();
    frame[4..8].copy_from_slice(&crc);
}

/// The golden frame with other bytes at one place of the header, and a right checksum.
fn lie(at: usize, bytes: &[u8]) -> BatchError {
    let mut frame = golden().0.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    refresh_header_crc(&mut frame);
    Batch::check(frame.into(), None).unwrap_err()
}

#[test]
fn lies_with_a_right_checksum_are_named() {
    let too_large = |field, value, max| BatchError::TooLarge { field, value, max };
    assert_eq!(
        lie(0, b"MFB2"),
        BatchError::Magic {
            found: u32::from_le_bytes(*b"MFB2")
        }
    );
    assert_eq!(lie(8, &[2]), BatchError::Version { found: 2 });
    assert_eq!(lie(127, &[1]), BatchError::Reserved);
    assert_eq!(lie(10, &[2]), BatchError::Flags { found: 2 });
    assert_eq!(lie(10, &[8]), BatchError::Flags { found: 8 });
    assert_eq!(lie(10, &[5]), BatchError::Flags { found: 5 });
    assert_eq!(lie(10, &[1]), too_large("event_count of a mark", 2, 0));
    let many = EVENTS_PER_BATCH_MAX + 1;
    assert_eq!(
        lie(12, &many.to_le_bytes()),
        too_large("event_count", many.into(), EVENTS_PER_BATCH_MAX.into())
    );
    let much = METADATA_BLOCK_BYTES_MAX + 1;
    let expected = too_large("metadata_bytes", much, METADATA_BLOCK_BYTES_MAX);
    assert_eq!(lie(96, &(much as u32).to_le_bytes()), expected);
    let much = DATA_BATCH_BYTES_MAX + 1; // of two events
    assert_eq!(
        lie(48, &much.to_le_bytes()),
        too_large("data_bytes", much, DATA_BATCH_BYTES_MAX)
    );
    assert_eq!(lie(100, &[3]), too_large("piece_count", 3, 2));
    let far = EVENT_ID_END - 1;
    assert_eq!(
        lie(24, &far.to_le_bytes()),
        too_large("base_event_id", far, EVENT_ID_END - 3)
    );
    assert_eq!(lie(32, &[1]), too_large("synced_end", 1, 0));
    let far = FILE_POS_END - 10;
    assert_eq!(
        lie(40, &far.to_le_bytes()),
        too_large("data_at", far, FILE_POS_END - 11)
    );
    let (last, before) = (u64::MAX, u64::MAX - 1);
    assert_eq!(
        lie(64, &last.to_le_bytes()),
        too_large("sequence", last, before),
        "a batch of a producer that counts takes a place, too"
    );
    assert_eq!(lie(56, &[0]), too_large("sequence of no producer", 3, 0));
    assert_eq!(lie(12, &[0]), too_large("piece_count", 1, 0));
    assert_eq!(
        lie(12, &[1]),
        BatchError::Length {
            frame_bytes: 160,
            have_bytes: 176
        }
    );
    assert_eq!(
        lie(96, &[8]),
        BatchError::Sum {
            field: "metadata bytes",
            sum: 9,
            expected: 8
        }
    );
    assert_eq!(
        lie(48, &[12]),
        BatchError::Sum {
            field: "data bytes",
            sum: 11,
            expected: 12
        }
    );
    let short = BatchError::Short {
        have_bytes: 127,
        need_bytes: 128,
    };
    assert_eq!(Batch::check(golden().0.slice(..127), None), Err(short));
    assert_eq!(
        frame_bytes_hint(&[]),
        Err(BatchError::Short {
            have_bytes: 0,
            need_bytes: 128
        })
    );
}

#[test]
fn a_batch_without_events_is_none() {
    let mut header = bytemuck::bytes_of(&BatchHeader::mark(false)).to_vec();
    header[10] = 0;
    refresh_header_crc(&mut header);
    assert_eq!(Batch::check(header.into(), None), Err(BatchError::NoEvents));
}

#[test]
fn a_table_that_does_not_add_up_is_refused() {
    let lie_in_table = |at: usize, bytes: &[u8]| {
        let mut frame = golden().0.to_vec();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = plain_crc(&frame[128..164]).to_le_bytes();
        frame[104..108].copy_from_slice(&crc);
        refresh_header_crc(&mut frame);
        Batch::check(frame.into(), None).unwrap_err()
    };
    let sum = |field, sum, expected| BatchError::Sum { field, sum, expected };
    assert_eq!(
        lie_in_table(128, &u32::MAX.to_le_bytes()),
        sum("metadata bytes", (1 << 32) + 1, 9)
    );
    assert_eq!(
        lie_in_table(152, &(u64::MAX >> 1).to_le_bytes()),
        sum("data bytes", (1 << 63) + 10, 11)
    );
    assert_eq!(lie_in_table(132, &[1]), BatchError::MetadataChecksum { index: 0 });
    assert_eq!(lie_in_table(128, &[6, 0, 0, 0]), sum("metadata bytes", 8, 9));
}

#[test]
fn a_wrong_number_of_pieces_is_refused() {
    // Two events of 6 and 5 bytes have two pieces; the header claims one, and the frame is as long as that makes it.
    let events = vec![
        (b"{}".to_vec(), b"hello ".to_vec()),
        (b"{}".to_vec(), b"mofka".to_vec()),
    ];
    let mut frame = build(&events, None).0.to_vec();
    frame.drain(160..164);
    frame.resize(frame.len().next_multiple_of(8), 0);
    frame[100] = 1;
    let crc = plain_crc(&frame[128..164]).to_le_bytes();
    frame[104..108].copy_from_slice(&crc);
    refresh_header_crc(&mut frame);
    let length = frame_bytes_hint(&frame).unwrap() as usize;
    frame.truncate(length);
    let expected = BatchError::Sum {
        field: "piece counts",
        sum: 2,
        expected: 1,
    };
    assert_eq!(Batch::check(frame.into(), None), Err(expected));
}

#[test]
fn any_flipped_bit_is_seen() {
    let batch = stamped();
    for (frame, data) in [
        golden(),
        (frame_of(&batch).into(), batch.data().cloned().unwrap()),
    ] {
        for bit in 0..(frame.len() + data.len()) * 8 {
            let mut bytes = [&frame[..], &data].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let data = Bytes::from(bytes.split_off(frame.len()));
            assert!(Batch::check(bytes.into(), Some(data)).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn checksums_are_told_apart_from_nonsense() {
    let (frame, data) = golden();
    let flipped = |at: usize| {
        let mut bytes = frame.to_vec();
        bytes[at] ^= 1;
        Batch::check(bytes.into(), None).unwrap_err()
    };
    assert!(matches!(flipped(20), BatchError::HeaderChecksum { .. }));
    assert!(matches!(flipped(130), BatchError::TableChecksum { .. }));
    assert_eq!(flipped(165), BatchError::MetadataChecksum { index: 0 });
    assert_eq!(flipped(171), BatchError::MetadataChecksum { index: 1 });
    assert_eq!(flipped(175), BatchError::Padding);
    assert!(flipped(20).is_checksum() && flipped(130).is_checksum() && flipped(165).is_checksum());
    assert!(!flipped(175).is_checksum() && !lie(8, &[2]).is_checksum());
    let mut other = data.to_vec();
    other[3] ^= 1;
    let error = Batch::check(frame.clone(), Some(other.into())).unwrap_err();
    assert_eq!(error, BatchError::DataChecksum { index: 0, piece: 0 });
    assert!(error.is_checksum());
    let error = Batch::check(frame.clone(), Some(data.slice(1..))).unwrap_err();
    assert_eq!(
        error,
        BatchError::DataLength {
            expected_bytes: 11,
            have_bytes: 10
        }
    );
    let longer = [&frame[..], &[0; 8]].concat();
    let error = Batch::check(longer.into(), None).unwrap_err();
    assert_eq!(
        error,
        BatchError::Length {
            frame_bytes: 176,
            have_bytes: 184
        }
    );
}

#[test]
fn data_is_checked_in_pieces() {
    let data: Vec<u8> = (0..2 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect();
    let events = vec![(b"{}".to_vec(), vec![7; 3]), (b"{}".to_vec(), data.clone())];
    let (frame, all) = build(&events, None);
    let batch = Batch::check(frame.clone(), None).unwrap();
    assert_eq!(batch.data(), None);
    let event = batch.event(1).unwrap();
    assert_eq!((event.data_offset, event.pieces.len()), (3, 3));
    for (piece, crc) in data.chunks(PIECE_BYTES).zip(event.pieces.iter()) {
        assert!(check_piece(piece, crc) && !check_piece(&piece[1..], crc));
    }
    let crcs: Vec<u32> = event.pieces.iter().collect();
    assert_eq!(combine_crc(&crcs, data.len() as u64), plain_crc(&data));
    assert_eq!(
        (event.pieces.get(2), event.pieces.get(3)),
        (Some(plain_crc(&data[2 * PIECE_BYTES..])), None)
    );
    assert_eq!(combine_crc(&[], 0), 0);
    assert!(check_pieces(&all, &batch) && check_pieces(&all, &batch.table_only()));
    assert!(!check_pieces(&all[1..], &batch) && !check_pieces(&all, &batch.without_bytes()));
    let mut other = all.to_vec();
    other[3 + 2 * PIECE_BYTES] ^= 1;
    assert!(!check_pieces(&other, &batch) && !check_pieces(&other, &batch.table_only()));
    let error = Batch::check(frame, Some(other.into())).unwrap_err();
    assert_eq!(error, BatchError::DataChecksum { index: 1, piece: 2 });
    assert_eq!(batch.with_data(all.clone()).unwrap().data(), Some(&all));
}

#[test]
fn data_is_checked_as_it_comes_in_parts_of_any_length() {
    let events: Vec<Content> = [0, 1, 0, PIECE_BYTES, PIECE_BYTES + 5, 0, 3 * PIECE_BYTES, 700, 0]
        .into_iter()
        .enumerate()
        .map(|(n, bytes)| (b"{}".to_vec(), vec![n as u8; bytes]))
        .collect();
    let (frame, data) = build(&events, None);
    let batch = Batch::check(frame, None).unwrap();
    let feed = |data: &[u8], part: usize| {
        let mut check = DataCheck::new(&batch);
        data.chunks(part).try_for_each(|part| check.feed(part))?;
        check.finish()
    };
    for part in [1, 7, 4096, PIECE_BYTES, 1 << 20] {
        assert_eq!(feed(&data, part), Ok(()), "in parts of {part}");
        let last = BadPiece { index: 7, piece: 0 };
        assert_eq!(
            feed(&data[..data.len() - 1], part),
            Err(last),
            "one byte is missing"
        );
        let beyond = [&data[..], &[0]].concat();
        assert_eq!(feed(&beyond, part), Err(BadPiece { index: 9, piece: 0 }));
    }
    // The place of a flip is told as the check of all data at once tells it.
    for at in [
        0,
        1,
        PIECE_BYTES,
        PIECE_BYTES + 1,
        2 * PIECE_BYTES + 3,
        data.len() - 1,
    ] {
        let mut flipped = data.to_vec();
        flipped[at] ^= 4;
        let expected = match batch.clone().with_data(flipped.clone().into()) {
            Err(BatchError::DataChecksum { index, piece }) => BadPiece { index, piece },
            other => panic!("{other:?}"),
        };
        assert_eq!(feed(&flipped, 999), Err(expected), "flipped at {at}");
    }
    let empty = Batch::check(build(&[(b"{}".to_vec(), Vec::new())], None).0, None).unwrap();
    assert_eq!(DataCheck::new(&empty).finish(), Ok(()));
    assert!(DataCheck::new(&empty).feed(&[1]).is_err());
}

#[test]
fn a_walk_goes_on_where_an_earlier_one_was() {
    let content = |n: usize| (vec![b'm'; n % 5], vec![n as u8; n % 7 * 30_000]);
    let (frame, data) = build(&(0..50).map(content).collect::<Vec<_>>(), None);
    let batch = Batch::check_client(frame, data).unwrap();
    let all: Vec<_> = batch.events().collect();
    let mut walk = batch.events();
    for n in 0..=all.len() {
        let mark = walk.mark();
        assert_eq!(mark.index() as usize, n);
        assert_eq!(batch.events_from(mark).collect::<Vec<_>>(), all[n..]);
        walk.next();
    }
    // What was left behind has nothing there.
    let (last, bare) = (batch.events().mark(), batch.without_bytes());
    assert_eq!(bare.events_from(last).next(), None);
}

#[test]
fn a_batch_left_without_its_bytes_has_no_events() {
    let bare = stamped().without_bytes();
    assert_eq!((bare.events().count(), bare.event(0)), (0, None));
    assert_eq!((bare.event_count(), bare.frame_bytes()), (2, 176));
    assert!(bare.with_data(Bytes::from_static(b"hello mofka")).is_err());
    assert_eq!(stamped().table_only().body().len(), 36);
}

#[test]
#[should_panic(expected = "cannot be durable before")]
fn a_stamp_that_vouches_for_itself_is_our_mistake() {
    stamped().stamp(Stamp {
        synced_end: EventId::new(8),
        ..GOLDEN_STAMP
    });
}
