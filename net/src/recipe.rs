//! A selection that is declared before the events are known: the same steps for the data of each of them.

use serde::{Deserialize, Serialize};

use crate::descriptor::{DataDescriptor, ViewError};
use crate::limits::{SELECTIONS_MAX, UNSTRUCTURED_SEGMENTS_MAX};
use crate::selection::{Segment, Selection, Strided};
use crate::width::wide;

/// Views on top of each other, for the data of any event. The node applies them, so that only the selected bytes leave the disk and
/// the network, without a round trip for each event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipe {
    steps: Vec<Selection>,
}

impl Recipe {
    /// All data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Then `bytes` bytes from `offset` on, cut to what there is.
    #[must_use]
    pub fn sub_view(mut self, offset: u64, bytes: u64) -> Self {
        self.steps.push(Selection::Sub(Segment { offset, bytes }));
        self
    }

    /// Then `block_count` blocks of `block_bytes`, the first at `offset`, with `gap_bytes` between them.
    #[must_use]
    pub fn strided_view(mut self, offset: u64, block_count: u64, block_bytes: u64, gap_bytes: u64) -> Self {
        self.steps.push(Selection::Strided(Strided {
            offset,
            block_count,
            block_bytes,
            gap_bytes,
        }));
        self
    }

    /// Then these segments.
    #[must_use]
    pub fn unstructured_view(mut self, segments: Vec<Segment>) -> Self {
        self.steps.push(Selection::Unstructured(segments));
        self
    }

    /// The steps.
    pub fn steps(&self) -> &[Selection] {
        &self.steps
    }

    /// What it costs to apply it, in steps: one for each view and each segment of one, also of those without a byte.
    pub fn step_count(&self) -> u64 {
        let of = |step: &Selection| match step {
            Selection::Unstructured(segments) => wide(segments.len()).saturating_add(1),
            _ => 1,
        };
        self.steps.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Whether it is within the bounds of a descriptor, as far as that can be said without data.
    ///
    /// # Errors
    /// When it has too many steps or segments.
    pub fn check(&self) -> Result<(), ViewError> {
        if self.steps.len() > SELECTIONS_MAX {
            return Err(ViewError::TooDeep);
        }
        let segments = self.steps.iter().map(|step| match step {
            Selection::Unstructured(segments) => wide(segments.len()),
            _ => 0,
        });
        let segment_count = segments.fold(0_u64, u64::saturating_add);
        if segment_count > UNSTRUCTURED_SEGMENTS_MAX {
            return Err(ViewError::TooManySegments {
                segment_count,
                max: UNSTRUCTURED_SEGMENTS_MAX,
            });
        }
        Ok(())
    }

    /// What it selects of an event's data. Of nothing, nothing.
    ///
    /// # Errors
    /// As the views' own: when the data is too short for a strided or unstructured one.
    pub fn apply(&self, data: &DataDescriptor) -> Result<DataDescriptor, ViewError> {
        let steps = self.steps.iter();
        steps
            .into_iter()
            .try_fold(data.clone(), |view, step| view.select(step))
    }
}

#[cfg(test)]
mod tests {
    use mofka_log::EventId;
    use serde_json::json;

    use super::*;

    #[test]
    fn segments_without_a_byte_cost_as_much_as_others() {
        let empty = Segment { offset: 0, bytes: 0 };
        let recipe = Recipe::new().sub_view(0, 10).unstructured_view(vec![
            empty,
            empty,
            Segment { offset: 5, bytes: 1 },
        ]);
        assert_eq!(recipe.step_count(), 5);
    }

    #[test]
    fn steps_are_applied_on_top_of_each_other() {
        let image = DataDescriptor::of_event(EventId::new(3), 100);
        let recipe = Recipe::new().sub_view(23, 40).strided_view(0, 4, 2, 8);
        let expected = image.sub_view(23, 40).strided_view(0, 4, 2, 8).unwrap();
        assert_eq!(recipe.apply(&image).unwrap(), expected);
        assert_eq!(Recipe::new().apply(&image).unwrap(), image);
        let short = DataDescriptor::of_event(EventId::new(3), 30);
        assert!(matches!(recipe.apply(&short), Err(ViewError::OutOfBounds { .. })));
        let segments = vec![Segment { offset: 1, bytes: 2 }, Segment { offset: 9, bytes: 3 }];
        let selected = Recipe::new().unstructured_view(segments).apply(&image).unwrap();
        assert_eq!(selected.bytes(), 5);
        // An empty view of nothing is nothing.
        let empty = DataDescriptor::of_event(EventId::new(3), 0);
        assert!(recipe.apply(&empty).unwrap().is_empty());
    }

    #[test]
    fn it_is_sent_as_documented() {
        let wire = json!([
            {"sub": {"offset": 1, "bytes": 2}},
            {"strided": {"offset": 0, "block_count": 3, "block_bytes": 4, "gap_bytes": 5}},
            {"unstructured": [{"offset": 6, "bytes": 7}]}
        ]);
        let recipe: Recipe = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&recipe).unwrap(), wire);
        assert!(serde_json::from_value::<Recipe>(json!([{"sub": {"offset": 1}}])).is_err());
    }

    #[test]
    fn bounds_are_those_of_descriptors() {
        let deep = (0..=SELECTIONS_MAX).fold(Recipe::new(), |recipe, _| recipe.sub_view(1, 5));
        assert_eq!(deep.check(), Err(ViewError::TooDeep));
        let many = vec![Segment { offset: 0, bytes: 1 }; narrow_max()];
        let wide = Recipe::new().unstructured_view(many);
        assert!(matches!(wide.check(), Err(ViewError::TooManySegments { .. })));
        assert_eq!(Recipe::new().sub_view(0, 1).check(), Ok(()));
    }

    fn narrow_max() -> usize {
        usize::try_from(UNSTRUCTURED_SEGMENTS_MAX).unwrap() + 1
    }
}
