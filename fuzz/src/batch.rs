//! A batch as a client sends it, or as it is stored.
//!
//! Input: mode, bytes of the frame (u32), the frame, its data.

use bytes::Bytes;
use mofka_log::{Batch, EventId, FilePos, Stamp, check_piece, check_pieces, combine_crc, frame_bytes_hint};

use crate::repair::{self, Mode};

/// See the module.
pub fn run(input: &[u8]) {
    let Some((head, rest)) = input.split_at_checked(5) else {
        return;
    };
    let frame_bytes = head[1..].try_into().map_or(0, u32::from_le_bytes);
    let (frame, data) = rest.split_at(rest.len().min(frame_bytes as usize));
    let mut frame = frame.to_vec();
    let mode = Mode::new(head[0]);
    if !mode.is_raw() {
        repair::batch(&mut frame, Some(data).filter(|_| !mode.keeps_pieces()));
    }
    let (frame, data) = (Bytes::from(frame), Bytes::copy_from_slice(data));
    if let Ok(hint) = frame_bytes_hint(frame.get(..128).unwrap_or(&frame)) {
        assert!(hint <= mofka_log::FRAME_BYTES_MAX, "a checked header is bounded");
    }
    let stored = Batch::check(frame.clone(), None);
    let client = Batch::check_client(frame.clone(), data.clone());
    if let Ok(batch) = &client {
        assert!(stored.is_ok(), "what a client may send may be stored");
        assert!(!batch.is_mark() && batch.event_count() > 0);
        whole(batch, &data);
        stamped(batch.clone(), &data);
    }
    if let Ok(batch) = stored {
        assert_eq!([&batch.header_bytes()[..], batch.body()].concat(), frame);
        let fits = check_pieces(&data, &batch);
        assert_eq!(batch.clone().with_data(data.clone()).is_ok(), fits);
        assert_eq!(batch.events().count() as u64, u64::from(batch.event_count()));
        assert!(batch.end_event_id() >= batch.base_event_id());
        assert!(batch.synced_end() <= batch.base_event_id());
    }
}

/// Lengths add up, and every byte is covered by a checksum that holds.
fn whole(batch: &Batch, data: &Bytes) {
    let (mut at, mut metadata_bytes) = (0_u64, 0);
    for (index, event) in (0..).zip(batch.events()) {
        assert_eq!((event.index, event.data_offset), (index, at));
        let own = &data[at as usize..(at + event.data_bytes) as usize];
        let crcs: Vec<u32> = event.pieces.iter().collect();
        assert_eq!(crcs.len(), own.chunks(65536).count());
        assert!(
            own.chunks(65536)
                .zip(&crcs)
                .all(|(piece, crc)| check_piece(piece, *crc))
        );
        assert_eq!(combine_crc(&crcs, event.data_bytes), crc32fast::hash(own));
        assert_eq!(batch.event(index), Some(event));
        at += event.data_bytes;
        metadata_bytes += event.metadata.len() as u64;
        if let Some(reference) = event.reference {
            metadata_bytes += reference.bytes().len() as u64;
            assert!(event.data_bytes == 0 && batch.has_references());
            assert!(reference.data_bytes() <= reference.base_bytes());
        }
        if index > 64 {
            // `event` walks the table from its start.
            break;
        }
    }
    if batch.event_count() <= 64 {
        assert_eq!(at, batch.data_bytes());
        assert_eq!(metadata_bytes, u64::from(batch.header().metadata_bytes()));
    }
    assert_eq!(batch.event(batch.event_count()), None);
}

/// The server's stamp changes nothing else, and what it makes is a stored frame and no client's.
fn stamped(mut batch: Batch, data: &Bytes) {
    let before = batch.clone();
    batch.stamp(Stamp {
        salt: 7,
        base_event_id: EventId::new(9),
        synced_end: EventId::new(3),
        data_at: FilePos::new(if data.is_empty() { 0 } else { 4096 }),
        incarnation: 2,
        timestamp_us: 11,
        partition_epoch: 0,
    });
    let frame = Bytes::from([&batch.header_bytes()[..], batch.body()].concat());
    assert_eq!(
        Batch::check(frame.clone(), Some(data.clone())).as_ref(),
        Ok(&batch)
    );
    assert!(
        Batch::check_client(frame, data.clone()).is_err(),
        "only the server stamps"
    );
    assert!(batch.events().eq(before.events()));
    assert_eq!(batch.producer(), before.producer());
}
