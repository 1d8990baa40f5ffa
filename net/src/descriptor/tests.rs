use proptest::prelude::*;

use super::*;
use crate::flatten::Range;

const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn of(bytes: u64) -> DataDescriptor {
    DataDescriptor::of_event(EventId::new(9), bytes)
}

fn pieces(descriptor: &DataDescriptor, data: &[u8]) -> Vec<String> {
    let text = |range: Range| &data[range.offset as usize..(range.offset + range.bytes) as usize];
    descriptor
        .flatten()
        .map(|range| String::from_utf8_lossy(text(range)).into_owned())
        .collect()
}

fn segments(listed: &[(u64, u64)]) -> Vec<Segment> {
    listed
        .iter()
        .map(|(offset, bytes)| Segment {
            offset: *offset,
            bytes: *bytes,
        })
        .collect()
}

#[test]
fn reference_vectors_of_bytes() {
    let whole = of(52);
    assert_eq!(
        pieces(&whole.sub_view(13, 26), ALPHABET),
        ["nopqrstuvwxyzABCDEFGHIJKLM"]
    );
    assert_eq!(
        pieces(&whole.strided_view(13, 3, 4, 2).unwrap(), ALPHABET),
        ["nopq", "tuvw", "zABC"]
    );
    let listed = whole
        .unstructured_view(&segments(&[(3, 6), (15, 4), (27, 8)]))
        .unwrap();
    assert_eq!(pieces(&listed, ALPHABET), ["defghi", "pqrs", "BCDEFGHI"]);
}

#[test]
fn a_new_descriptor_selects_everything() {
    let whole = of(1024);
    assert_eq!((whole.base_bytes(), whole.bytes()), (1024, 1024));
    assert_eq!(whole.event_id(), Some(EventId::new(9)));
    assert_eq!(whole.location(), 9_u64.to_le_bytes());
    assert!(whole.is_whole() && !whole.is_empty() && whole.selections().is_empty());
    let range = Range {
        offset: 0,
        bytes: 1024,
    };
    assert!(whole.flatten().eq([range]));
    let elsewhere = DataDescriptor::new(b"somewhere", 7).unwrap();
    assert_eq!(
        (elsewhere.location(), elsewhere.event_id()),
        (&b"somewhere"[..], None)
    );
    assert_eq!((elsewhere.base_bytes(), elsewhere.bytes()), (7, 7));
}

#[test]
fn a_sub_view_is_cut_to_what_there_is() {
    let whole = of(1024);
    // (offset, bytes): what is selected.
    for (offset, bytes, expected) in [
        (1200, 200, 0),
        (1024, 1, 0),
        (900, 200, 124),
        (0, 1024, 1024),
        (0, u64::MAX, 1024),
        (u64::MAX, u64::MAX, 0),
        (5, 0, 0),
    ] {
        let view = whole.sub_view(offset, bytes);
        assert_eq!(view.bytes(), expected, "sub({offset}, {bytes})");
        assert_eq!(view.is_empty(), expected == 0);
    }
    // What remains is that of the view, not of the data.
    let part = whole.sub_view(100, 200);
    assert_eq!(part.sub_view(150, 200).bytes(), 50);
    assert!(part.sub_view(200, 1).is_empty());
    assert_eq!(part.base_bytes(), 1024);
}

#[test]
fn a_strided_view_has_its_blocks_or_is_out_of_bounds() {
    let whole = of(1024);
    assert_eq!(whole.strided_view(0, 4, 64, 192).unwrap().bytes(), 256);
    for (offset, blocks, block_bytes, gap) in [(0, 4, 128, 192), (1024, 1, 1, 0), (1, 1, 1024, 0)] {
        let error = whole.strided_view(offset, blocks, block_bytes, gap).unwrap_err();
        assert!(matches!(error, ViewError::OutOfBounds { view_bytes: 1024, .. }));
        assert!(error.to_string().contains("would go out of bounds"), "{error}");
    }
    // The bounds are those of the view below.
    let part = whole.sub_view(100, 200);
    assert_eq!(part.strided_view(0, 2, 50, 100).unwrap().bytes(), 100);
    assert!(part.strided_view(0, 2, 50, 101).is_err());
}

#[test]
fn segments_of_an_unstructured_view_are_ascending_disjoint_and_within() {
    let whole = of(1024);
    let view = |listed: &[(u64, u64)]| whole.unstructured_view(&segments(listed));
    assert_eq!(view(&[(0, 100), (200, 100), (400, 100)]).unwrap().bytes(), 300);
    for beyond in [
        &[(0, 100), (200, 100), (1000, 200)][..],
        &[(1025, 1)],
        &[(1, u64::MAX)],
    ] {
        let error = view(beyond).unwrap_err();
        assert!(matches!(error, ViewError::OutOfBounds { view_bytes: 1024, .. }));
        assert!(error.to_string().contains("out of bounds"), "{error}");
    }
    for (disordered, index) in [
        (&[(0, 200), (100, 200)][..], 1),
        (&[(0, 10), (50, 10), (20, 10)], 2),
        (&[(5, 5), (5, 5)], 1),
    ] {
        let error = view(disordered).unwrap_err();
        assert_eq!(error, ViewError::OutOfOrder { index });
        assert!(
            error.to_string().contains("overlapping or out of order"),
            "{error}"
        );
    }
}

#[test]
fn flattening_gives_ranges_of_the_whole_data() {
    let whole = of(1024);
    let ranges = |descriptor: &DataDescriptor| -> Vec<(u64, u64)> {
        descriptor
            .flatten()
            .map(|range| (range.offset, range.bytes))
            .collect()
    };
    let part = whole.sub_view(100, 200);
    assert_eq!(ranges(&part), [(100, 200)]);
    let blocks = part.strided_view(10, 3, 20, 30).unwrap();
    assert_eq!(ranges(&blocks), [(110, 20), (160, 20), (210, 20)]);
    let listed = part.unstructured_view(&segments(&[(0, 5), (50, 10)])).unwrap();
    assert_eq!(ranges(&listed), [(100, 5), (150, 10)]);
    // From the middle of one block to the middle of the next.
    assert_eq!(ranges(&blocks.sub_view(10, 20)), [(120, 10), (160, 10)]);
    assert!(ranges(&DataDescriptor::default()).is_empty());
}

#[test]
fn the_gap_after_the_last_block_does_not_count() {
    // 4 blocks of 128 at 0, 298, 596, 894: the last ends at 1022, its gap would end at 1192.
    assert_eq!(of(1024).strided_view(0, 4, 128, 170).unwrap().bytes(), 512);
    assert!(of(1021).strided_view(0, 4, 128, 170).is_err());
}

#[test]
fn nothing_makes_an_empty_descriptor() {
    let whole = of(10);
    let empty = DataDescriptor::default();
    assert!(empty.is_empty() && empty.location().is_empty() && empty.flatten().next().is_none());
    assert_eq!(whole.sub_view(3, 0), empty);
    assert_eq!(whole.sub_view(10, 1), empty);
    assert_eq!(whole.strided_view(11, 1, 1, 0).unwrap(), empty);
    assert_eq!(whole.strided_view(0, 0, 1, 0).unwrap(), empty);
    assert_eq!(whole.strided_view(0, 1, 0, 9).unwrap(), empty);
    assert_eq!(whole.unstructured_view(&[]).unwrap(), empty);
    assert_eq!(whole.unstructured_view(&segments(&[(4, 0)])).unwrap(), empty);
    assert_eq!(of(0).flatten().count(), 0);
    assert!(of(0).is_whole());
}

#[test]
fn a_rectangle_of_an_image() {
    // The documentation's example: an image of 8 by 8, from it 3 by 2 at (2, 4).
    let image: Vec<u8> = (0..64).collect();
    let rows = of(64).sub_view(4 * 8 + 2, 8 * 2 - 5);
    let rectangle = rows.strided_view(0, 2, 3, 5).unwrap();
    let taken: Vec<u8> = rectangle
        .flatten()
        .flat_map(|range| image[range.offset as usize..(range.offset + range.bytes) as usize].to_vec())
        .collect();
    assert_eq!(taken, [34, 35, 36, 42, 43, 44]);
}

#[test]
fn what_touches_is_merged() {
    let listed = of(100)
        .unstructured_view(&segments(&[(0, 10), (10, 10), (30, 5), (35, 0)]))
        .unwrap();
    assert_eq!(
        listed.flatten().collect::<Vec<_>>(),
        [Range { offset: 0, bytes: 20 }, Range { offset: 30, bytes: 5 }]
    );
    let one = of(100).unstructured_view(&segments(&[(5, 5), (10, 5)])).unwrap();
    assert_eq!(
        one.selections(),
        [Selection::Sub(Segment { offset: 5, bytes: 10 })]
    );
    // Blocks of a strided view that fall into one block of the view below touch in the data.
    let nested = of(100)
        .strided_view(0, 5, 10, 10)
        .unwrap()
        .strided_view(0, 25, 2, 0)
        .unwrap();
    assert_eq!(nested.flatten().count(), 5);
}

#[test]
fn a_flat_view_of_a_million_blocks_is_lazy() {
    let strided = of(u64::MAX).strided_view(0, 1 << 19, 1, 1 << 20).unwrap();
    assert_eq!(
        strided.flatten().nth(1000),
        Some(Range {
            offset: 1000 * ((1 << 20) + 1),
            bytes: 1
        })
    );
}

#[test]
fn bounds_hold() {
    let huge = of(u64::MAX);
    assert!(matches!(
        huge.strided_view(0, SEGMENTS_MAX + 1, 1, 1),
        Err(ViewError::TooManySegments { .. })
    ));
    assert!(matches!(
        huge.strided_view(1, u64::MAX, u64::MAX, u64::MAX),
        Err(ViewError::OutOfBounds { .. })
    ));
    let many: Vec<Segment> = (0..=UNSTRUCTURED_SEGMENTS_MAX)
        .map(|at| Segment {
            offset: at * 2,
            bytes: 1,
        })
        .collect();
    assert!(matches!(
        huge.unstructured_view(&many),
        Err(ViewError::TooManySegments { .. })
    ));
    let mut deep = huge;
    for _ in 0..SELECTIONS_MAX - 1 {
        deep = deep.strided_view(0, 2, deep.bytes() / 4, 1).unwrap();
    }
    assert_eq!(deep.strided_view(0, 2, 1, 1), Err(ViewError::TooDeep));
    let last = deep.sub_view(1, 5).sub_view(1, 2);
    assert_eq!((last.bytes(), last.selections().len()), (2, SELECTIONS_MAX));
    assert_eq!(DataDescriptor::deserialize(&last.serialize()).unwrap(), last);
    assert!(DataDescriptor::new(&[0; LOCATION_BYTES_MAX + 1], 1).is_err());
}

#[test]
fn the_serialized_form_is_that_of_the_original() {
    let bytes = of(1024).sub_view(100, 200).serialize();
    let numbers = [200_u64, 1024, 8, 9, 1];
    let mut expected: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    expected.push(1);
    expected.extend([100_u64, 200].iter().flat_map(|number| number.to_le_bytes()));
    assert_eq!(bytes, expected);
    // Tag 2: offset, blocks, bytes of a block, gap; tag 3: how many, then offset and bytes of each.
    let listed = of(1024)
        .strided_view(8, 3, 4, 5)
        .unwrap()
        .unstructured_view(&segments(&[(1, 2), (6, 3)]))
        .unwrap();
    let mut expected = Vec::new();
    let mut put = |tag: Option<u8>, numbers: &[u64]| {
        expected.extend(tag);
        expected.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    put(None, &[5, 1024, 8, 9, 2]);
    put(Some(2), &[8, 3, 4, 5]);
    put(Some(3), &[2, 1, 2, 6, 3]);
    assert_eq!(listed.serialize(), expected);
    assert_eq!(DataDescriptor::default().serialize(), [0; 32]);
    assert_eq!(DataDescriptor::deserialize(&[0; 32]).unwrap().bytes(), 0);
}

#[test]
fn lies_in_serialized_bytes_are_named() {
    let good = of(1024).strided_view(8, 3, 4, 5).unwrap().serialize();
    for end in 0..good.len() {
        assert!(DataDescriptor::deserialize(&good[..end]).is_err());
    }
    let change = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        DataDescriptor::deserialize(&bytes).unwrap_err()
    };
    assert!(matches!(
        change(0, 13),
        DescriptorError::Bytes {
            stated_bytes: 13,
            selected_bytes: 12
        }
    ));
    assert!(matches!(change(8, 20), DescriptorError::View { .. }));
    assert!(matches!(change(16, u64::MAX), DescriptorError::TooLarge { .. }));
    assert!(matches!(change(32, u64::MAX), DescriptorError::TooLarge { .. }));
    assert!(matches!(change(49, 1 << 40), DescriptorError::View { .. }));
    let mut bytes = good.clone();
    bytes[40] = 9;
    assert!(matches!(
        DataDescriptor::deserialize(&bytes),
        Err(DescriptorError::UnknownTag { tag: 9, .. })
    ));
    bytes.push(0);
    assert!(DataDescriptor::deserialize(&[&good[..], &[0]].concat()).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Sub(u64, u64),
    Strided(u64, u64, u64, u64),
    Unstructured(Vec<(u64, u64)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..80_u64, 0..200_u64).prop_map(|(offset, bytes)| Step::Sub(offset, bytes)),
        (0..20_u64, 0..12_u64, 0..12_u64, 0..9_u64).prop_map(|(o, n, b, g)| Step::Strided(o, n, b, g)),
        prop::collection::vec((0..9_u64, 0..9_u64), 0..8).prop_map(|gaps| {
            let mut at = 0;
            let place = |(gap, bytes): (u64, u64)| {
                let segment = (at + gap, bytes);
                at += gap + bytes;
                segment
            };
            Step::Unstructured(gaps.into_iter().map(place).collect())
        }),
    ]
}

/// The same step on real bytes, done as simply as can be.
fn naive(step: &Step, view: &[u64]) -> Option<Vec<u64>> {
    let part = |offset: u64, bytes: u64| {
        view.get(offset as usize..(offset + bytes) as usize)
            .map(<[u64]>::to_vec)
    };
    match step {
        Step::Sub(offset, bytes) => Some(
            view.iter()
                .skip(*offset as usize)
                .take(*bytes as usize)
                .copied()
                .collect(),
        ),
        Step::Strided(offset, count, bytes, gap) => {
            if *offset > view.len() as u64 || *count == 0 || *bytes == 0 {
                return Some(vec![]);
            }
            (0..*count)
                .map(|block| part(offset + block * (bytes + gap), *bytes))
                .collect::<Option<Vec<_>>>()
                .map(|blocks| blocks.concat())
        }
        Step::Unstructured(listed) => listed
            .iter()
            .map(|(offset, bytes)| part(*offset, *bytes))
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.concat()),
    }
}

fn apply(step: &Step, view: &DataDescriptor) -> Result<DataDescriptor, ViewError> {
    match step {
        Step::Sub(offset, bytes) => Ok(view.sub_view(*offset, *bytes)),
        Step::Strided(offset, count, bytes, gap) => view.strided_view(*offset, *count, *bytes, *gap),
        Step::Unstructured(listed) => view.unstructured_view(&segments(listed)),
    }
}

proptest! {
    #[test]
    fn nested_views_select_what_a_byte_array_would(
        base in 0..300_u64,
        steps in prop::collection::vec(step(), 0..6),
    ) {
        let mut view = of(base);
        let mut model: Vec<u64> = (0..base).collect();
        for step in &steps {
            match (apply(step, &view), naive(step, &model)) {
                (Ok(next), Some(next_model)) => (view, model) = (next, next_model),
                (Err(_), None) => {}
                (next, next_model) => prop_assert!(false, "{step:?} on {view:?}: {next:?}, but {next_model:?}"),
            }
            prop_assert_eq!(view.bytes(), model.len() as u64);
        }
        let ranges: Vec<Range> = view.flatten().collect();
        let flat: Vec<u64> = ranges.iter().flat_map(|range| range.offset..range.offset + range.bytes).collect();
        prop_assert_eq!(&flat, &model);
        prop_assert!(ranges.windows(2).all(|pair| pair[0].offset + pair[0].bytes < pair[1].offset));
        let serialized = view.serialize();
        prop_assert_eq!(serialized.len(), view.serialized_bytes());
        prop_assert_eq!(DataDescriptor::deserialize(&serialized).unwrap(), view);
    }

    #[test]
    fn deserialize_never_panics_and_what_it_takes_can_be_used(
        junk: Vec<u8>,
        base in 0..100_u64,
        count in 0..4_u64,
        tags in prop::collection::vec((0..5_u8, prop::collection::vec(0..40_u64, 0..6)), 0..4),
    ) {
        DataDescriptor::deserialize(&junk).ok();
        let mut bytes: Vec<u8> = [junk.len() as u64 % 100, base, 0, count].iter().flat_map(|n| n.to_le_bytes()).collect();
        for (tag, numbers) in tags {
            bytes.push(tag);
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        if let Ok(descriptor) = DataDescriptor::deserialize(&bytes) {
            let total: u64 = descriptor.flatten().map(|range| range.bytes).sum();
            prop_assert_eq!(total, descriptor.bytes());
            prop_assert!(descriptor.flatten().all(|range| range.offset + range.bytes <= descriptor.base_bytes()));
        }
    }
}
