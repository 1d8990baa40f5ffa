//! The first block of a file, and what a sealed segment ends with: header, tail, index, producers.
//!
//! Input: mode, then 128 bytes of a segment header (the rest of its block is zero), then a footer from its header to its
//! tail, padded to whole blocks.

use mofka_log::{
    BLOCK_BYTES, BatchPlace, EventId, FilePos, Footer, FooterFacts, FooterTail, ProducerId, ProducerTable,
    SegmentHeader, SegmentKind, SequenceVerdict,
};

use crate::repair::{self, Mode};

/// See the module.
pub fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    let mode = Mode::new(*mode);
    let (first, footer) = rest.split_at(rest.len().min(128));
    segment_header(mode, first);
    whole_footer(mode, footer);
}

fn segment_header(mode: Mode, first: &[u8]) {
    let mut block = first.to_vec();
    if !mode.is_raw() {
        repair::segment_header(&mut block);
    }
    assert!(
        SegmentHeader::check(&block).is_err(),
        "a header is in a whole block"
    );
    block.resize(BLOCK_BYTES, 0);
    let Ok(header) = SegmentHeader::check(&block) else {
        return;
    };
    assert_eq!(
        header.to_block()[..],
        block[..],
        "a header is read as it was written"
    );
    let again = SegmentHeader::new(
        header.kind(),
        header.partition(),
        header.base_event_id(),
        header.salt(),
        header.created_us(),
        header.incarnation(),
    );
    assert_eq!(again, header, "there is one header for these values");
    let kinds = [
        SegmentKind::Meta,
        SegmentKind::Data,
        SegmentKind::Catalog,
        SegmentKind::Cursors,
    ];
    let fits = kinds
        .iter()
        .filter(|kind| header.expect(**kind, header.partition()).is_ok());
    assert_eq!(fits.count(), 1, "a file is of one kind");
    block[BLOCK_BYTES - 1] = 1;
    assert!(
        SegmentHeader::check(&block).is_err(),
        "the rest of the block is zero"
    );
}

fn whole_footer(mode: Mode, footer: &[u8]) {
    let mut bytes = footer.to_vec();
    // The tail is the last 64 bytes of the last block, wherever the fuzzer's bytes end.
    let tail = bytes.split_off(bytes.len().saturating_sub(64));
    let whole = (bytes.len() + 64).next_multiple_of(BLOCK_BYTES);
    bytes.resize(whole - tail.len(), 0);
    bytes.extend_from_slice(&tail);
    if !mode.is_raw() {
        repair::footer(&mut bytes);
    }
    let own_salt = bytes
        .get(16..24)
        .and_then(|salt| salt.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    assert!(
        Footer::check(&bytes, !own_salt).is_err(),
        "a footer of another segment is none of this"
    );
    if let Some(at) = FooterTail::check(&bytes, 4096 + bytes.len() as u64) {
        assert_eq!(
            at.footer_at().get() + at.footer_bytes(),
            4096 + bytes.len() as u64
        );
        assert!(
            FooterTail::check(&bytes, 8192 + bytes.len() as u64).is_none(),
            "a tail knows its place"
        );
    }
    let Ok(found) = Footer::check(&bytes, own_salt) else {
        return;
    };
    assert!(found.base_event_id() <= found.end_event_id());
    index(&found);
    producers(&found);
    let facts = FooterFacts {
        salt: found.salt(),
        base_event_id: found.base_event_id(),
        end_event_id: found.end_event_id(),
        meta_end: found.meta_end(),
        data_end: found.data_end(),
        index: found.index(),
        producers: found.producers(),
    };
    let footer_at = found.meta_end().align_up(BLOCK_BYTES as u64);
    let written = Footer::encode(&facts, footer_at);
    let file_bytes = footer_at.get() + written.len() as u64;
    let tail = FooterTail::check(&written, file_bytes).expect("what was written has a tail");
    assert_eq!((tail.footer_at(), tail.salt()), (footer_at, found.salt()));
    let again = Footer::check(&written, own_salt).expect("what was written is read");
    assert_eq!(
        (
            again.base_event_id(),
            again.end_event_id(),
            again.meta_end(),
            again.data_end()
        ),
        (
            found.base_event_id(),
            found.end_event_id(),
            found.meta_end(),
            found.data_end()
        )
    );
    assert_eq!(
        (again.index(), again.producers()),
        (found.index(), found.producers())
    );
    assert_eq!(again.timestamps_us(), found.timestamps_us());
}

/// Lookups never lead past what is asked for: a later event is not found at an earlier place.
fn index(footer: &Footer) {
    let index = footer.index();
    let ids = [0, 1, 1000, u64::MAX / 2, u64::MAX].map(EventId::new);
    let edges = [footer.base_event_id(), footer.end_event_id()];
    let mut places: Vec<_> = ids.into_iter().chain(edges).collect();
    places.sort_unstable();
    let found: Vec<Option<FilePos>> = places.iter().map(|id| index.lookup(*id)).collect();
    assert!(found.is_sorted(), "{found:?}");
    let times: Vec<Option<FilePos>> = [0, 1, 1 << 50, u64::MAX]
        .iter()
        .map(|us| index.lookup_time(*us))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(index.is_empty(), times[0].is_none());
}

/// A batch that covers places of a source, from the one on that is due.
fn covered(table: &ProducerTable, due: BatchPlace, base: EventId) {
    let place = BatchPlace { span: 7, ..due };
    if due.sequence > u64::MAX - 20 {
        return;
    }
    let mut next = table.clone();
    assert_eq!(next.check(place), SequenceVerdict::New);
    next.note(place, base, 2);
    let again = SequenceVerdict::Duplicate {
        base_event_id: base,
        event_count: 2,
    };
    assert_eq!(next.check(place), again, "what was noted is known");
    let expected = SequenceVerdict::Gap {
        expected: place.end(),
    };
    for (from, end) in [(0, 1), (0, 6), (0, 8), (1, 7), (8, 9)] {
        let other = BatchPlace {
            sequence: due.sequence + from,
            span: end - from,
            ..due
        };
        assert_eq!(next.check(other), expected, "{other:?} is not what is due");
    }
}

fn producers(footer: &Footer) {
    let table = footer.producers();
    let end = EventId::new(footer.end_event_id().get() / 2);
    let earlier = table.before(end);
    assert_eq!(earlier.before(end), earlier, "the past of the past is the past");
    assert!(earlier.len() <= table.len());
    for producer in [1, 2, 7, 0xfeed, u64::MAX].map(ProducerId::new) {
        for epoch in [0, 1, u32::MAX] {
            let mut next = table.clone();
            let sequence = match table.check((producer, epoch, 5).into()) {
                SequenceVerdict::Gap { expected } => expected,
                _ => 0,
            };
            if table.check((producer, epoch, sequence).into()) != SequenceVerdict::New {
                continue;
            }
            next.note((producer, epoch, sequence).into(), footer.end_event_id(), 3);
            assert_eq!(
                next.check((producer, epoch, sequence).into()),
                SequenceVerdict::Duplicate {
                    base_event_id: footer.end_event_id(),
                    event_count: 3
                },
                "what was noted is known"
            );
            assert_eq!(
                next.check((producer, epoch, sequence + 1).into()),
                SequenceVerdict::New
            );
            covered(
                &next,
                (producer, epoch, sequence + 1).into(),
                footer.end_event_id(),
            );
        }
    }
}
