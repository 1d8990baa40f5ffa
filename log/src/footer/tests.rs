use proptest::prelude::*;

use super::*;
use crate::ids::ProducerId;

fn facts(batches: u64, producers: u64) -> FooterFacts {
    let mut facts = FooterFacts {
        salt: 0x5a17,
        base_event_id: EventId::new(100),
        end_event_id: EventId::new(100 + batches),
        meta_end: FilePos::new(4096 + batches * 1000 + 24),
        data_end: FilePos::new(9999),
        index: SparseIndex::default(),
        producers: ProducerTable::default(),
    };
    for n in 0..batches {
        facts.index.note(
            EventId::new(100 + n),
            FilePos::new(4096 + n * 1000),
            1000,
            5_000 + n,
        );
        facts.producers.note(
            (ProducerId::new(1 + n % producers), 0, n / producers).into(),
            EventId::new(100 + n),
            1,
        );
    }
    facts
}

fn sealed(facts: &FooterFacts) -> (FilePos, Vec<u8>) {
    let at = facts.meta_end.block_up();
    (at, Footer::encode(facts, at))
}

#[test]
fn what_was_sealed_is_read() {
    for (batches, producers) in [(0, 1), (1, 1), (500, 7), (5000, 3000)] {
        let facts = facts(batches, producers);
        let (at, bytes) = sealed(&facts);
        assert_eq!(bytes.len() % 4096, 0);
        let file_bytes = at.get() + bytes.len() as u64;
        let tail = FooterTail::check(&bytes[bytes.len() - 4096..], file_bytes).unwrap();
        assert_eq!(
            FooterTail::check(&bytes[bytes.len() - 64..], file_bytes),
            Some(tail)
        );
        assert_eq!(
            (tail.footer_at(), tail.footer_bytes(), tail.salt()),
            (at, bytes.len() as u64, 0x5a17)
        );
        let footer = Footer::check(&bytes, 0x5a17).unwrap();
        assert_eq!(
            (footer.base_event_id(), footer.end_event_id()),
            (facts.base_event_id, facts.end_event_id)
        );
        assert_eq!(
            (footer.meta_end(), footer.data_end(), footer.salt()),
            (facts.meta_end, facts.data_end, 0x5a17)
        );
        assert_eq!(footer.timestamps_us(), facts.index.timestamps_us());
        assert_eq!(footer.producers(), facts.producers);
        let id = EventId::new(100 + batches / 2);
        assert_eq!(footer.index().lookup(id), facts.index.lookup(id));
        assert_eq!(footer.index().len(), facts.index.len());
    }
}

#[test]
fn golden_bytes() {
    let (at, bytes) = sealed(&facts(1, 1));
    assert_eq!((at.get(), bytes.len()), (8192, 4096));
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(hex(0..4), "4d464631");
    assert_eq!(
        bytes[4..8],
        crate::batch::plain_crc(&bytes[8..4032]).to_le_bytes()
    );
    let header = [
        "0100",
        "0000",
        "01000000",
        "175a000000000000",
        "6400000000000000",
        "6500000000000000",
        "0014000000000000",
        "0f27000000000000",
        "8813000000000000",
        "8813000000000000",
        "30000000",
        "01000000",
        "0010000000000000",
    ];
    assert_eq!(hex(8..88), header.concat());
    assert!(bytes[88..128].iter().all(|byte| *byte == 0));
    assert_eq!(
        hex(128..152),
        ["6400000000000000", "0010000000000000", "8813000000000000"].concat()
    );
    assert_eq!(hex(152..160), "0100000000000000", "the producer's id");
    assert_eq!(hex(4032..4036), "4d465431");
    assert_eq!(
        hex(4040..4064),
        ["0020000000000000", "0010000000000000", "175a000000000000"].concat()
    );
}

#[test]
fn any_flipped_bit_is_seen() {
    let (at, bytes) = sealed(&facts(70, 3));
    let file_bytes = at.get() + bytes.len() as u64;
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let seen =
            Footer::check(&changed, 0x5a17).is_err() || FooterTail::check(&changed, file_bytes).is_none();
        assert!(seen, "bit {bit}");
    }
}

#[test]
fn a_footer_elsewhere_is_none() {
    let (at, bytes) = sealed(&facts(70, 3));
    let file_bytes = at.get() + bytes.len() as u64;
    assert_eq!(
        FooterTail::check(&bytes, file_bytes + 4096),
        None,
        "the file goes on after it"
    );
    assert_eq!(FooterTail::check(&bytes[..bytes.len() - 1], file_bytes), None);
    assert_eq!(FooterTail::check(&[], 0), None);
    assert_eq!(FooterTail::check(&[0; 4096], 4096), None);
    let other = Footer::check(&bytes, 0x5a18).unwrap_err();
    assert_eq!(
        other,
        FooterError::Salt {
            found: 0x5a17,
            expected: 0x5a18
        }
    );
}

/// A footer whose header was changed and then given a right checksum.
fn lie(change: fn(&mut FooterHeader)) -> FooterError {
    let (_, mut bytes) = sealed(&facts(70, 3));
    let mut header: FooterHeader = bytemuck::pod_read_unaligned(&bytes[..128]);
    change(&mut header);
    write_at(&mut bytes, 0, bytemuck::bytes_of(&header));
    header.crc = footer_crc(&bytes).into();
    write_at(&mut bytes, 0, bytemuck::bytes_of(&header));
    Footer::check(&bytes, 0x5a17).unwrap_err()
}

#[test]
fn lies_with_a_right_checksum_are_named() {
    let field = |field, value| FooterError::Field { field, value };
    assert_eq!(
        lie(|header| header.version = 9.into()),
        FooterError::Version { found: 9 }
    );
    assert_eq!(
        lie(|header| header.magic = 9.into()),
        FooterError::Magic { found: 9 }
    );
    assert_eq!(
        lie(|header| header.reserved_to_end[0] = 1.into()),
        FooterError::Reserved
    );
    assert_eq!(
        lie(|header| header.end_event_id = 99.into()),
        field("end_event_id", 99)
    );
    assert_eq!(
        lie(|header| header.meta_end = 4095.into()),
        field("meta_end", 4095)
    );
    assert_eq!(
        lie(|header| header.data_end = u64::MAX.into()),
        field("data_end", u64::MAX)
    );
    assert_eq!(
        lie(|header| header.index_count = 4097.into()),
        field("index_count", 4097)
    );
    assert_eq!(
        lie(|header| header.index_count = 4096.into()),
        field("index_count", 4096)
    );
    assert_eq!(
        lie(|header| header.producers_bytes = u32::MAX.into()),
        field("producers_bytes", u32::MAX.into())
    );
    assert_eq!(
        lie(|header| header.footer_bytes = 8192.into()),
        field("footer_bytes", 8192)
    );
    assert!(matches!(
        lie(|header| header.producer_count = 2.into()),
        FooterError::Producers(_)
    ));
    assert!(matches!(
        lie(|header| header.index_count = 3.into()),
        FooterError::Index(_) | FooterError::Producers(_)
    ));
    assert_eq!(
        Footer::check(&[0; 100], 1),
        Err(FooterError::Length { have_bytes: 100 })
    );
    assert_eq!(Footer::check(&[], 1), Err(FooterError::Length { have_bytes: 0 }));
}

#[test]
fn an_index_leads_only_to_places_of_frames() {
    // The fields of its only entry: event 100 at 4096, of a segment whose frames end at 5120.
    let entry = |place: usize, value: u64| {
        let (_, mut bytes) = sealed(&facts(1, 1));
        bytes[128 + place..136 + place].copy_from_slice(&value.to_le_bytes());
        let crc = footer_crc(&bytes).to_le_bytes();
        bytes[4..8].copy_from_slice(&crc);
        Footer::check(&bytes, 0x5a17)
    };
    assert!(entry(0, 100).is_ok() && entry(8, 5112).is_ok());
    for (place, field, values) in [
        (0, "event_id of an index entry", [99, 101, u64::MAX]),
        (8, "at of an index entry", [4100, 5120, u64::MAX - 7]),
    ] {
        for value in values {
            assert_eq!(entry(place, value), Err(FooterError::Field { field, value }));
        }
    }
}

#[test]
fn producers_sent_nothing_after_the_segment() {
    // The segment ends at event 103, and another producer's batch before it does not matter.
    for (base, count, is_fine) in [
        (0, 1, true),
        (100, 3, true),
        (102, 1, true),
        (102, 2, false),
        (103, 1, false),
        (5000, 1, false),
    ] {
        let mut facts = facts(3, 2);
        facts
            .producers
            .note((ProducerId::new(9), 0, 0).into(), EventId::new(base), count);
        let (_, bytes) = sealed(&facts);
        let checked = Footer::check(&bytes, facts.salt);
        match is_fine {
            true => assert_eq!(checked.unwrap().producers(), facts.producers),
            false => {
                let refused = checked.unwrap_err().to_string();
                assert!(refused.contains("producer 2 (0000000000000009)"), "{refused}");
            }
        }
    }
    // What `before` leaves of a producer that sent nothing yet, and fences an earlier epoch.
    let mut facts = facts(3, 2);
    let mut later = facts.producers.clone();
    later.note((ProducerId::new(9), 7, 0).into(), EventId::new(500), 4);
    facts.producers = later.before(facts.end_event_id);
    assert_eq!(facts.producers.len(), 3);
    assert!(Footer::check(&sealed(&facts).1, facts.salt).is_ok());
}

#[test]
fn bytes_after_the_producers_are_refused() {
    let (_, mut bytes) = sealed(&facts(1, 1));
    bytes[4031] = 1;
    let crc = footer_crc(&bytes).to_le_bytes();
    bytes[4..8].copy_from_slice(&crc);
    assert_eq!(Footer::check(&bytes, 0x5a17), Err(FooterError::Reserved));
}

#[test]
fn a_tail_that_cannot_be_is_none() {
    let good = FooterTail::new(FilePos::new(8192), 4096, 7);
    let check = |change: fn(&mut FooterTail), file_bytes: u64| {
        let mut tail = good;
        change(&mut tail);
        tail.crc = tail.compute_crc().into();
        FooterTail::check(bytemuck::bytes_of(&tail), file_bytes)
    };
    assert_eq!(check(|_| (), 12288), Some(good));
    assert_eq!(check(|tail| tail.magic = 1.into(), 12288), None);
    assert_eq!(check(|tail| tail.reserved[31] = 1, 12288), None);
    assert_eq!(check(|tail| tail.footer_at = 8200.into(), 12296), None);
    assert_eq!(check(|tail| tail.footer_at = 0.into(), 4096), None);
    assert_eq!(check(|tail| tail.footer_bytes = 0.into(), 8192), None);
    assert_eq!(
        check(|tail| tail.footer_bytes = (6 << 20).into(), 8192 + (6 << 20)),
        None
    );
    assert_eq!(check(|tail| tail.footer_at = u64::MAX.into(), 4095), None);
}

proptest! {
    #[test]
    fn check_never_panics(bytes: Vec<u8>, flips in prop::collection::vec((0_usize..8192, any::<u8>()), 0..4)) {
        FooterTail::check(&bytes, bytes.len() as u64);
        Footer::check(&bytes, 0).ok();
        let (_, mut footer) = sealed(&facts(70, 3));
        for (at, value) in flips {
            let at = at % footer.len();
            footer[at] = value;
        }
        // With the checksum made right again, the fields behind it are reached.
        let crc = footer_crc(&footer).to_le_bytes();
        footer[4..8].copy_from_slice(&crc);
        Footer::check(&footer, 0x5a17).ok();
    }
}
