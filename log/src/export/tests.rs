use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::{Batch, BatchBuilder, Stamp};
use crate::cursor::CursorRecord;
use crate::ids::ProducerId;
use crate::producers::ProducerTable;

fn batch(base: u64, events: u32) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..events {
        let data = vec![n as u8; 10 + n as usize];
        builder.push(b"{\"a\":1}", [data.as_slice()]).unwrap();
    }
    let (frame, data) = builder.finish(Some((ProducerId::new(7), 1, base)));
    let mut batch = Batch::check_client(frame, data).unwrap();
    batch.stamp(Stamp {
        base_event_id: EventId::new(base),
        timestamp_us: 5,
        ..Stamp::default()
    });
    batch
}

fn head() -> ExportHead {
    ExportHead {
        partition: Uuid::from_u128(3),
        base_event_id: EventId::new(100),
        exported_us: 77,
        topic: None,
        record: Some(PartitionRecord {
            id: Uuid::from_u128(3),
            topic: Uuid::from_u128(4),
            index: 0,
            kind: crate::catalog::PartitionKind::Default,
            rank: 0,
            shard: 0,
            created_us: 1,
            config: serde_json::json!({}),
            complete: false,
            refers: false,
            sourced: false,
        }),
    }
}

/// A whole file: batches of 3 and 2 events, a cursor, a producer.
fn file() -> Vec<u8> {
    let head = head();
    let (mut sums, mut file) = (ExportSums::new(&head), Vec::new());
    let mut put = |sums: &mut ExportSums, parts: &[&[u8]]| {
        for part in parts {
            sums.pass(part);
            file.extend_from_slice(part);
        }
    };
    put(&mut sums, &[&head.encode()]);
    let mut table = ProducerTable::default();
    for batch in [batch(100, 3), batch(103, 2)] {
        let section = sums.batch(&batch).unwrap();
        table.note_batch(&batch);
        let data = batch.data().unwrap();
        put(
            &mut sums,
            &[&section.encode(), batch.header_bytes(), batch.body(), data],
        );
    }
    let cursor = CursorRecord {
        name: "c".to_owned(),
        next_event_id: EventId::new(102),
        timestamp_us: 9,
        removed: false,
    };
    let record = cursor.encode();
    let section = sums.cursor(&record).unwrap();
    put(&mut sums, &[&section.encode(), &record]);
    let (section, content) = sums.producers(&table).unwrap();
    put(&mut sums, &[&section.encode(), &content]);
    let end = sums.end().unwrap();
    file.extend_from_slice(&end);
    file
}

/// Reads a file to its end.
fn read_file(file: &[u8]) -> Result<(ExportHead, Vec<Batch>, usize, ProducerTable), String> {
    let say = |error: ExportError| error.to_string();
    let mut rest = file;
    let mut take = |bytes: u64| {
        let (now, later) = rest.split_at_checked(narrow(bytes)).ok_or("it ends early")?;
        rest = later;
        Ok::<_, String>(now)
    };
    let first = take(wide(EXPORT_HEADER_BYTES))?;
    let part = ExportHeadPart::check(first).map_err(say)?;
    let records = take(part.records_bytes())?;
    let head = part.with_records(records).map_err(say)?;
    let mut sums = ExportSums::new(&head);
    sums.pass(first);
    sums.pass(records);
    let (mut batches, mut cursors, mut producers) = (Vec::new(), 0, ProducerTable::default());
    loop {
        let header = take(wide(EXPORT_SECTION_BYTES))?;
        let section = ExportSection::check(header).map_err(say)?;
        if !matches!(section, ExportSection::End(_)) {
            sums.pass(header);
        }
        match section {
            ExportSection::Batch {
                frame_bytes,
                data_bytes,
            } => {
                let (frame, data) = (take(frame_bytes)?, take(data_bytes)?);
                sums.pass(frame);
                sums.pass(data);
                let (frame, data) = (Bytes::copy_from_slice(frame), Bytes::copy_from_slice(data));
                let batch = Batch::check(frame, Some(data)).map_err(|error| error.to_string())?;
                sums.batch(&batch).map_err(say)?;
                batches.push(batch);
            }
            ExportSection::Cursor(content) => {
                let record = take(content.bytes)?;
                sums.pass(record);
                content.check(record).map_err(say)?;
                CursorRecord::check(record).map_err(|error| error.to_string())?;
                sums.cursor(record).map_err(say)?;
                cursors += 1;
            }
            ExportSection::Producers { content, count } => {
                let bytes = take(content.bytes)?;
                sums.pass(bytes);
                content.check(bytes).map_err(say)?;
                producers = sums.check_producers(bytes, count).map_err(say)?;
            }
            ExportSection::End(content) => {
                let bytes = take(content.bytes)?;
                content.check(bytes).map_err(say)?;
                sums.check_end(bytes).map_err(say)?;
                return Ok((head, batches, cursors, producers));
            }
        }
    }
}

#[test]
fn what_was_written_is_read() {
    let (found, batches, cursors, producers) = read_file(&file()).unwrap();
    assert_eq!(found, head());
    assert_eq!(batches, [batch(100, 3), batch(103, 2)]);
    assert_eq!((cursors, producers.len()), (1, 1));
    assert!(ExportHeadPart::is_export(&file()) && !ExportHeadPart::is_export(b"MFS1"));
}

/// Version 1 as it was released: when this changes, old exports are no longer what is read.
#[test]
fn version_1_stays_as_it_is() {
    let file = file();
    assert_eq!((file.len(), crc32fast::hash(&file)), (1044, 0x91b6_074c));
    assert_eq!(file[..4], *b"MFE1");
}

#[test]
fn any_flipped_bit_is_seen() {
    let file = file();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            assert!(read_file(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
    for end in 0..file.len() {
        assert!(read_file(&file[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn sections_keep_their_order() {
    let mut sums = ExportSums::new(&head());
    assert_eq!(
        sums.batch(&batch(101, 1)),
        Err(ExportError::Order {
            found: EventId::new(101),
            expected: EventId::new(100)
        })
    );
    sums.batch(&batch(100, 1)).unwrap();
    assert!(sums.end().is_err(), "the producers are missing");
    sums.cursor(b"x").unwrap();
    assert_eq!(
        sums.batch(&batch(101, 1)),
        Err(ExportError::Place { what: "a batch" })
    );
    sums.producers(&ProducerTable::default()).unwrap();
    assert!(sums.producers(&ProducerTable::default()).is_err() && sums.cursor(b"x").is_err());
    sums.end().unwrap();
    assert!(sums.end().is_err());
}

#[test]
fn a_newer_version_is_refused() {
    let mut bytes = head().encode();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[8..128]).to_le_bytes();
    bytes[4..8].copy_from_slice(&crc);
    assert_eq!(
        ExportHeadPart::check(&bytes[..128]).unwrap_err(),
        ExportError::Version { found: 2 }
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_file(&bytes).ok();
        ExportHeadPart::check(&bytes).ok();
        ExportSection::check(&bytes).ok();
    }

    /// Right checksums and wrong lengths: what a reader is told to read next is bounded.
    #[test]
    fn lengths_are_bounded(kind in 0_u16..6, content_bytes: u64, more: u64) {
        let mut header = SectionHeader {
            magic: SECTION_MAGIC.into(),
            kind: kind.into(),
            content_bytes: content_bytes.into(),
            more: more.into(),
            ..SectionHeader::zeroed()
        };
        header.crc = crc_of(&header).into();
        if let Ok(ExportSection::Batch { frame_bytes, data_bytes }) = ExportSection::check(bytemuck::bytes_of(&header)) {
            prop_assert!(frame_bytes <= FRAME_BYTES_MAX && data_bytes <= EVENT_DATA_BYTES_MAX);
        }
    }
}
