//! References to data at the node, and views of them.

use mofka_client::{PartitionInfo, Segment};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::from_python;
use crate::errors::{OrRaise, raise};

#[doc = doc!(DataDescriptor)]
#[pyclass(frozen, eq, module = "mofka", from_py_object)]
#[derive(Clone, PartialEq)]
pub(crate) struct DataDescriptor {
    descriptor: mofka_client::DataDescriptor,
}

impl From<mofka_client::DataDescriptor> for DataDescriptor {
    fn from(descriptor: mofka_client::DataDescriptor) -> Self {
        Self { descriptor }
    }
}

impl From<DataDescriptor> for mofka_client::DataDescriptor {
    fn from(descriptor: DataDescriptor) -> Self {
        descriptor.descriptor
    }
}

fn segments(pairs: Vec<(u64, u64)>) -> Vec<Segment> {
    let segment = |(offset, bytes)| Segment { offset, bytes };
    pairs.into_iter().map(segment).collect()
}

#[pymethods]
impl DataDescriptor {
    #[new]
    #[pyo3(signature = (location=None, size=0))]
    fn make(location: Option<&[u8]>, size: u64) -> PyResult<Self> {
        let Some(location) = location else {
            return Ok(mofka_client::DataDescriptor::default().into());
        };
        let made = mofka_client::DataDescriptor::new(location, size);
        made.map(Self::from)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[doc = doc!(DataDescriptor size)]
    #[getter]
    fn size(&self) -> u64 {
        self.descriptor.bytes()
    }

    #[getter]
    fn location<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.descriptor.location())
    }

    #[doc = doc!(DataDescriptor flatten)]
    fn flatten(&self) -> Vec<(u64, u64)> {
        let ranges = self.descriptor.flatten();
        ranges.map(|range| (range.offset, range.bytes)).collect()
    }

    #[doc = doc!(DataDescriptor make_sub_view)]
    fn make_sub_view(&self, offset: u64, size: u64) -> Self {
        self.descriptor.sub_view(offset, size).into()
    }

    #[doc = doc!(DataDescriptor make_strided_view)]
    fn make_strided_view(
        &self,
        py: Python<'_>,
        offset: u64,
        num_blocks: u64,
        block_size: u64,
        gap_size: u64,
    ) -> PyResult<Self> {
        let view = self
            .descriptor
            .strided_view(offset, num_blocks, block_size, gap_size);
        view.map(Self::from)
            .map_err(|error| raise(py, "ViewError", &error.to_string()))
    }

    #[doc = doc!(DataDescriptor make_stride_view)]
    fn make_stride_view(
        &self,
        py: Python<'_>,
        offset: u64,
        num_blocks: u64,
        block_size: u64,
        gap_size: u64,
    ) -> PyResult<Self> {
        self.make_strided_view(py, offset, num_blocks, block_size, gap_size)
    }

    #[doc = doc!(DataDescriptor make_unstructured_view)]
    fn make_unstructured_view(&self, py: Python<'_>, segments: Vec<(u64, u64)>) -> PyResult<Self> {
        let view = self.descriptor.unstructured_view(&self::segments(segments));
        view.map(Self::from)
            .map_err(|error| raise(py, "ViewError", &error.to_string()))
    }

    fn __bool__(&self) -> bool {
        !self.descriptor.is_empty()
    }

    fn __repr__(&self) -> String {
        let (size, base) = (self.descriptor.bytes(), self.descriptor.base_bytes());
        format!("<DataDescriptor of {size} of {base} bytes>")
    }
}

#[doc = doc!(Recipe)]
#[pyclass(frozen, module = "mofka", from_py_object)]
#[derive(Clone, Default)]
pub(crate) struct Recipe {
    recipe: mofka_client::Recipe,
}

impl From<Recipe> for mofka_client::Recipe {
    fn from(recipe: Recipe) -> Self {
        recipe.recipe
    }
}

#[pymethods]
impl Recipe {
    #[new]
    fn make() -> Self {
        Self::default()
    }

    fn sub_view(&self, offset: u64, size: u64) -> Self {
        let recipe = self.recipe.clone().sub_view(offset, size);
        Self { recipe }
    }

    fn strided_view(&self, offset: u64, num_blocks: u64, block_size: u64, gap_size: u64) -> Self {
        let recipe = self.recipe.clone();
        let recipe = recipe.strided_view(offset, num_blocks, block_size, gap_size);
        Self { recipe }
    }

    fn unstructured_view(&self, segments: Vec<(u64, u64)>) -> Self {
        let recipe = self.recipe.clone();
        let recipe = recipe.unstructured_view(self::segments(segments));
        Self { recipe }
    }

    fn __repr__(&self) -> String {
        format!(
            "<Recipe {}>",
            serde_json::to_string(&self.recipe).unwrap_or_default()
        )
    }
}

#[doc = doc!(DataRef)]
#[pyclass(frozen, eq, module = "mofka")]
#[derive(PartialEq)]
pub(crate) struct DataRef {
    reference: mofka_client::DataRef,
}

impl From<mofka_client::DataRef> for DataRef {
    fn from(reference: mofka_client::DataRef) -> Self {
        Self { reference }
    }
}

impl DataRef {
    pub(crate) fn reference(&self) -> &mofka_client::DataRef {
        &self.reference
    }
}

#[pymethods]
impl DataRef {
    #[new]
    fn make(py: Python<'_>, partition: &Bound<'_, PyAny>, descriptor: &DataDescriptor) -> PyResult<Self> {
        let partition: PartitionInfo = from_python("partition", partition)?;
        let made = mofka_client::DataRef::new(&partition, descriptor.descriptor.clone());
        made.or_raise(py).map(Self::from)
    }

    #[doc = doc!(DataRef view)]
    fn view(&self, py: Python<'_>, recipe: &Recipe) -> PyResult<Self> {
        self.reference.view(&recipe.recipe).or_raise(py).map(Self::from)
    }

    #[doc = doc!(DataRef partition)]
    #[getter]
    fn partition(&self) -> String {
        self.reference.partition().to_string()
    }

    #[doc = doc!(DataRef descriptor)]
    #[getter]
    fn descriptor(&self) -> DataDescriptor {
        self.reference.descriptor().clone().into()
    }

    #[doc = doc!(DataRef size)]
    #[getter]
    fn size(&self) -> u64 {
        self.reference.bytes()
    }

    fn __repr__(&self) -> String {
        let (size, partition) = (self.reference.bytes(), self.reference.partition());
        format!("<DataRef to {size} bytes in partition {partition}>")
    }
}
