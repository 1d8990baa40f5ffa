//! Data descriptors: bytes from a client, and views made on views, whose ranges are compared with those of a plain
//! model that lists every byte.
//!
//! Input: a first byte; odd: the rest is a serialized descriptor; even: the rest is steps (see [`Step`]).

use arbitrary::{Arbitrary, Unstructured};
use mofka_log::EventId;
use mofka_net::limits::{SEGMENTS_MAX, SELECTIONS_MAX};
use mofka_net::{DataDescriptor, Range, Segment, ViewError};

/// A view on the view before.
#[derive(Arbitrary, Clone, Debug)]
pub enum Step {
    /// A stretch, cut to what there is.
    Sub(u16, u16),
    /// Blocks at regular distances.
    Strided(u16, u8, u8, u8),
    /// Segments: each the distance from the one before, and its bytes.
    Unstructured(Vec<(u8, u8)>),
    /// Segments as they are.
    AnySegments(Vec<(u16, u16)>),
}

/// See the module.
pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((first, rest)) if first % 2 == 1 => serialized(rest),
        Some((first, rest)) => views(u64::from(*first) * 40, rest),
        None => {}
    }
}

fn serialized(bytes: &[u8]) {
    let Ok(descriptor) = DataDescriptor::deserialize(bytes) else {
        return;
    };
    assert_eq!(
        descriptor.serialize(),
        bytes,
        "there is one way to write a descriptor"
    );
    assert_eq!(descriptor.serialized_bytes(), bytes.len());
    ranges(&descriptor);
}

/// Ranges are ascending, apart from each other, within the data, and as many bytes as the descriptor says.
fn ranges(descriptor: &DataDescriptor) {
    let (mut end, mut bytes, mut count) = (None, 0_u64, 0_u64);
    for Range { offset, bytes: own } in descriptor.flatten() {
        assert!(own > 0, "an empty range");
        assert!(end.is_none_or(|end| offset > end), "ranges touch or overlap");
        let own_end = offset.checked_add(own).expect("a range ends within 64 bits");
        assert!(own_end <= descriptor.base_bytes(), "a range is beyond the data");
        (end, bytes, count) = (Some(own_end), bytes + own, count + 1);
    }
    assert_eq!(
        bytes,
        descriptor.bytes(),
        "a descriptor selects as much as it says"
    );
    assert!(count <= SEGMENTS_MAX, "{count} ranges");
    assert_eq!(descriptor.is_empty(), count == 0);
    let whole = count == 1 && bytes == descriptor.base_bytes();
    assert_eq!(descriptor.is_whole() && bytes > 0, whole);
}

fn views(base_bytes: u64, steps: &[u8]) {
    let mut bytes = Unstructured::new(steps);
    let Ok(steps) = Vec::<Step>::arbitrary(&mut bytes) else {
        return;
    };
    let mut descriptor = DataDescriptor::of_event(EventId::new(5), base_bytes);
    // The places of the data that the view has, in order.
    let mut model: Vec<u64> = (0..base_bytes).collect();
    for step in steps.iter().take(2 * SELECTIONS_MAX) {
        let (made, expected) = match step {
            Step::Sub(offset, bytes) => {
                let (offset, bytes) = (u64::from(*offset), u64::from(*bytes));
                let start = model.len().min(offset as usize);
                let end = model.len().min((offset + bytes) as usize);
                (
                    Ok(descriptor.sub_view(offset, bytes)),
                    Some(model[start..end].to_vec()),
                )
            }
            Step::Strided(offset, count, block, gap) => {
                let [offset, count, block, gap] = [
                    u64::from(*offset),
                    u64::from(*count),
                    u64::from(*block),
                    u64::from(*gap),
                ];
                let made = descriptor.strided_view(offset, count, block, gap);
                (made, strided(&model, offset, count, block, gap))
            }
            Step::Unstructured(parts) => {
                let mut at = 0;
                let segments: Vec<Segment> = parts
                    .iter()
                    .map(|(distance, bytes)| {
                        let offset = at + u64::from(*distance);
                        at = offset + u64::from(*bytes);
                        Segment {
                            offset,
                            bytes: u64::from(*bytes),
                        }
                    })
                    .collect();
                (
                    descriptor.unstructured_view(&segments),
                    unstructured(&model, &segments),
                )
            }
            Step::AnySegments(parts) => {
                let segment = |(offset, bytes): &(u16, u16)| Segment {
                    offset: u64::from(*offset),
                    bytes: u64::from(*bytes),
                };
                let segments: Vec<Segment> = parts.iter().map(segment).collect();
                (
                    descriptor.unstructured_view(&segments),
                    unstructured(&model, &segments),
                )
            }
        };
        match (made, expected) {
            (Err(ViewError::TooDeep | ViewError::TooManySegments { .. }), _) => continue,
            (Err(_), None) => continue,
            (Ok(made), Some(expected)) => {
                let found = made
                    .flatten()
                    .flat_map(|range| range.offset..range.offset + range.bytes);
                assert!(
                    found.eq(expected.iter().copied()),
                    "{step:?} on {descriptor:?} gave {made:?}"
                );
                (descriptor, model) = (made, expected);
            }
            (made, expected) => panic!("{step:?} on {descriptor:?} gave {made:?} and not {expected:?}"),
        }
        ranges(&descriptor);
        let again = DataDescriptor::deserialize(&descriptor.serialize());
        assert_eq!(
            again.as_ref(),
            Ok(&descriptor),
            "a descriptor is read as it was written"
        );
    }
}

/// `None` where it reaches beyond the view.
fn strided(view: &[u64], offset: u64, count: u64, block: u64, gap: u64) -> Option<Vec<u64>> {
    if offset > view.len() as u64 || count == 0 || block == 0 {
        return Some(Vec::new());
    }
    let places = (0..count).flat_map(|n| {
        let start = offset + n * (block + gap);
        start..start + block
    });
    places.map(|place| view.get(place as usize).copied()).collect()
}

/// `None` where segments overlap, go back, or reach beyond the view.
fn unstructured(view: &[u64], segments: &[Segment]) -> Option<Vec<u64>> {
    let (mut end, mut places) = (0, Vec::new());
    for segment in segments {
        let own = segment.offset as usize..(segment.offset + segment.bytes) as usize;
        if own.end > view.len() || own.start < end {
            return None;
        }
        // One without bytes selects nothing and moves nothing.
        if segment.bytes > 0 {
            end = own.end;
        }
        places.extend_from_slice(&view[own]);
    }
    Some(places)
}
