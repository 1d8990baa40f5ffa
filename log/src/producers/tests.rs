use proptest::prelude::*;

use super::*;

const A: ProducerId = ProducerId::new(0xa);

fn id(n: u64) -> EventId {
    EventId::new(n)
}

fn at(producer: ProducerId, epoch: u32, sequence: u64) -> BatchPlace {
    (producer, epoch, sequence).into()
}

fn duplicate(base: u64, event_count: u32) -> SequenceVerdict {
    SequenceVerdict::Duplicate {
        base_event_id: id(base),
        event_count,
    }
}

/// `count` batches of 10 events each, from event 0 on.
fn sent(count: u64) -> ProducerTable {
    let mut table = ProducerTable::default();
    for sequence in 0..count {
        assert_eq!(table.check(at(A, 0, sequence)), SequenceVerdict::New);
        table.note(at(A, 0, sequence), id(sequence * 10), 10);
    }
    table
}

#[test]
fn the_first_batch_has_sequence_0() {
    let table = ProducerTable::default();
    assert_eq!(table.check(at(A, 0, 0)), SequenceVerdict::New);
    assert_eq!(table.check(at(A, 7, 0)), SequenceVerdict::New);
    assert_eq!(table.check(at(A, 0, 1)), SequenceVerdict::Unknown);
}

#[test]
fn a_batch_sent_again_gets_its_first_answer() {
    let table = sent(68);
    assert_eq!(table.check(at(A, 0, 68)), SequenceVerdict::New);
    assert_eq!(table.check(at(A, 0, 67)), duplicate(670, 10));
    assert_eq!(table.check(at(A, 0, 4)), duplicate(40, 10));
    assert_eq!(table.check(at(A, 0, 3)), SequenceVerdict::TooOld);
    assert_eq!(table.check(at(A, 0, 69)), SequenceVerdict::Gap { expected: 68 });
    assert_eq!(
        table.check(at(ProducerId::new(0xb), 0, 19)),
        SequenceVerdict::Unknown
    );
}

/// The batch that covers these places of a source.
fn covering(from: u64, end: u64) -> BatchPlace {
    BatchPlace {
        span: end - from,
        ..at(A, 0, from)
    }
}

#[test]
fn a_producer_with_a_source_begins_anywhere_and_leaves_nothing_out() {
    let mut table = ProducerTable::default();
    assert_eq!(table.check(covering(70, 100)), SequenceVerdict::New);
    table.note(covering(70, 100), id(5), 20);
    for (from, end) in [(101, 102), (70, 99), (70, 101), (80, 100), (0, 70), (99, 100)] {
        let verdict = table.check(covering(from, end));
        assert_eq!(verdict, SequenceVerdict::Gap { expected: 100 }, "{from} to {end}");
    }
    assert_eq!(table.check(covering(70, 100)), duplicate(5, 20));
    assert_eq!(table.check(covering(100, 1000)), SequenceVerdict::New);
    table.note(covering(100, 1000), id(25), 1);
    assert_eq!(table.check(covering(70, 100)), duplicate(5, 20));
    assert_eq!(table.check(covering(100, 1000)), duplicate(25, 1));
    // The one before, while the second waits for the next segment; and as it is written there.
    let earlier = table.before(id(25));
    assert_eq!(earlier.check(covering(100, 1000)), SequenceVerdict::New);
    let mut stored = Vec::new();
    table.encode(&mut stored);
    assert_eq!(ProducerTable::decode(&stored, 1), Ok(table));
}

#[test]
fn a_span_that_is_too_large_to_remember_is_never_mistaken() {
    let far = 100 + u64::from(SPAN_UNKNOWN);
    let mut table = ProducerTable::default();
    table.note(covering(70, 100), id(5), 20);
    table.note(covering(100, far + 7), id(25), 1);
    table.note(covering(far + 7, far + 9), id(26), 2);
    let expected = SequenceVerdict::Gap { expected: far + 9 };
    for (from, end) in [(70, 100), (100, far + 7), (107, far + 7), (0, far), (7, far + 6)] {
        assert_eq!(table.check(covering(from, end)), expected, "{from} to {end}");
    }
    assert_eq!(table.check(covering(far + 7, far + 9)), duplicate(26, 2));
    assert_eq!(
        table.before(id(26)).check(covering(far + 7, far + 8)),
        SequenceVerdict::New
    );
    assert!(
        table.before(id(25)).is_empty(),
        "where it was then is not known: it may begin anywhere"
    );
}

#[test]
fn a_newer_epoch_fences_the_older() {
    let mut table = sent(3);
    assert_eq!(table.check(at(A, 1, 3)), SequenceVerdict::Unknown);
    assert_eq!(table.check(at(A, 1, 0)), SequenceVerdict::New);
    table.note(at(A, 1, 0), id(30), 1);
    assert_eq!(table.check(at(A, 0, 3)), SequenceVerdict::Fenced { epoch: 1 });
    assert_eq!(table.check(at(A, 1, 0)), duplicate(30, 1));
    assert_eq!(table.check(at(A, 1, 1)), SequenceVerdict::New);
}

#[test]
fn nobody_is_not_remembered() {
    let mut table = ProducerTable::default();
    table.note(at(ProducerId::new(0), 0, 0), id(0), 1);
    assert!(table.is_empty());
}

#[test]
fn a_log_that_begins_in_the_middle_is_believed() {
    let mut table = ProducerTable::default();
    table.note(at(A, 2, 40), id(7), 3);
    assert_eq!(table.check(at(A, 2, 40)), duplicate(7, 3));
    assert_eq!(table.check(at(A, 2, 39)), SequenceVerdict::TooOld);
    assert_eq!(table.check(at(A, 2, 41)), SequenceVerdict::New);
    table.note(at(A, 2, 50), id(10), 1);
    assert_eq!(
        table.check(at(A, 2, 40)),
        SequenceVerdict::TooOld,
        "a gap empties the window"
    );
}

#[test]
fn the_longest_unused_is_forgotten() {
    let mut table = ProducerTable::default();
    let max = PRODUCERS_PER_PARTITION_MAX as u64;
    for n in 0..max {
        table.note(at(ProducerId::new(n + 1), 0, 0), id(n), 1);
    }
    table.note(at(ProducerId::new(1), 0, 1), id(max), 1);
    table.note(at(ProducerId::new(max + 1), 0, 0), id(max + 1), 1);
    assert_eq!(table.len(), PRODUCERS_PER_PARTITION_MAX);
    assert_eq!(
        table.check(at(ProducerId::new(2), 0, 1)),
        SequenceVerdict::Unknown,
        "2 was the longest unused"
    );
    assert_eq!(table.check(at(ProducerId::new(1), 0, 2)), SequenceVerdict::New);
    assert_eq!(table.check(at(ProducerId::new(3), 0, 1)), SequenceVerdict::New);
}

#[test]
fn the_table_of_a_sealed_segment_does_not_know_what_came_later() {
    let table = sent(68);
    assert_eq!(table.before(id(680)), table);
    assert_eq!(sent(10).before(id(60)), sent(6));
    assert_eq!(
        sent(10).before(id(69)),
        sent(6),
        "a batch that is not over by then is later"
    );
    let earlier = table.before(id(150));
    assert_eq!(earlier.check(at(A, 0, 14)), duplicate(140, 10));
    assert_eq!(earlier.check(at(A, 0, 15)), SequenceVerdict::New);
    // All 64 remembered batches are later: the answers are gone, but not where the sequence was.
    let earlier = table.before(id(40));
    assert_eq!(earlier.check(at(A, 0, 4)), SequenceVerdict::New);
    assert_eq!(earlier.check(at(A, 0, 3)), SequenceVerdict::TooOld);
    assert_eq!(
        earlier.producers[&A].last_base,
        id(40),
        "as if it was used last when the segment ended"
    );
    assert_eq!(sent(3).before(id(0)).len(), 0);
    let mut fenced = ProducerTable::default();
    fenced.note(at(A, 5, 0), id(0), 1);
    assert_eq!(
        fenced.before(id(0)).check(at(A, 4, 0)),
        SequenceVerdict::Fenced { epoch: 5 }
    );
}

fn encoded(table: &ProducerTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    bytes
}

#[test]
fn golden_bytes() {
    let mut table = ProducerTable::default();
    table.note(at(A, 3, 0), id(0x11), 2);
    let hex: String = encoded(&table).iter().map(|byte| format!("{byte:02x}")).collect();
    let fields = [
        "0a00000000000000",
        "0100000000000000",
        "1100000000000000",
        "03000000",
        "01000000",
        "1100000000000000",
        "02000000",
        "00000000",
    ];
    assert_eq!(hex, fields.concat());
}

#[test]
fn impossible_tables_are_refused() {
    let bytes = encoded(&sent(2));
    assert_eq!(ProducerTable::decode(&bytes, 1).unwrap(), sent(2));
    assert!(matches!(
        ProducerTable::decode(&bytes, 2),
        Err(ProducersError::Length { .. })
    ));
    assert!(matches!(
        ProducerTable::decode(&bytes, 0),
        Err(ProducersError::Length { .. })
    ));
    assert!(matches!(
        ProducerTable::decode(&bytes[..bytes.len() - 1], 1),
        Err(ProducersError::Length { .. })
    ));
    let twice = [bytes.clone(), bytes.clone()].concat();
    assert!(matches!(
        ProducerTable::decode(&twice, 2),
        Err(ProducersError::Producer { place: 1, .. })
    ));
    for (at, value) in [(0, 0), (28, 17), (28, 3), (60, 3), (39, 0xff)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        let refused = ProducerTable::decode(&changed, 1);
        assert!(
            matches!(refused, Err(ProducersError::Producer { place: 0, .. })),
            "{at}: {refused:?}"
        );
    }
}

proptest! {
    #[test]
    fn what_was_stored_is_read(notes in prop::collection::vec((1_u64..9, 0_u32..3, 0_u64..40, 1_u32..9), 0..200)) {
        let mut table = ProducerTable::default();
        let mut base = 0;
        for (producer, epoch, sequence, count) in notes {
            table.note(at(ProducerId::new(producer), epoch, sequence), id(base), count);
            base += u64::from(count);
        }
        prop_assert_eq!(ProducerTable::decode(&encoded(&table), table.len() as u64).unwrap(), table);
    }

    #[test]
    fn decode_never_panics(bytes: Vec<u8>, producers in 0_u64..4) {
        ProducerTable::decode(&bytes, producers).ok();
    }
}
