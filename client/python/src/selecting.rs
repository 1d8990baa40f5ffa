//! Data selectors and allocators that are Python functions.

use mofka_client::{DataAllocator, DataSelector, Metadata};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::buffers::Allocated;
use crate::convert::loads;
use crate::descriptor::{DataDescriptor, Recipe};
use crate::errors::{interpreter_gone, to_client};
use crate::gate;

/// `"all"`, `"none"` or `None`, a recipe, or a function (metadata, descriptor) that gives a descriptor, or `None`.
///
/// # Errors
/// When it is none of these.
pub(crate) fn selector(object: Option<Bound<'_, PyAny>>) -> PyResult<DataSelector> {
    let Some(object) = object else {
        return Ok(DataSelector::none());
    };
    if let Ok(word) = object.extract::<String>() {
        return match word.as_str() {
            "all" => Ok(DataSelector::all()),
            "none" => Ok(DataSelector::none()),
            _ => Err(PyValueError::new_err(format!(
                "data_selector={word:?} is neither \"all\" nor \"none\""
            ))),
        };
    }
    if let Ok(recipe) = object.extract::<Recipe>() {
        return Ok(DataSelector::views(recipe.into()));
    }
    if !object.is_callable() {
        return Err(PyTypeError::new_err(
            "data_selector is \"all\", \"none\", None, a Recipe, or a function (metadata, descriptor)",
        ));
    }
    let function = object.unbind();
    Ok(DataSelector::new(move |metadata, descriptor| {
        gate::attach(|py| {
            let select = || {
                let whole = DataDescriptor::from(descriptor.clone());
                let returned = function.bind(py).call1((loads(py, metadata.raw())?, whole))?;
                let view: Option<DataDescriptor> = returned.extract()?;
                Ok::<_, PyErr>(view.map(Into::into).unwrap_or_default())
            };
            select().map_err(|error| to_client(py, &error))
        })
        .unwrap_or_else(|| Err(interpreter_gone()))
    }))
}

/// A function (metadata, descriptor) that gives a writable buffer, or a list of them; `None`: the client's own memory.
///
/// # Errors
/// When it is not to be called.
pub(crate) fn allocator(object: Option<Bound<'_, PyAny>>) -> PyResult<DataAllocator> {
    let Some(object) = object else {
        return Ok(DataAllocator::default());
    };
    if !object.is_callable() {
        return Err(PyTypeError::new_err(
            "data_allocator is None, or a function (metadata, descriptor) that returns writable buffers",
        ));
    }
    let function = object.unbind();
    Ok(DataAllocator::new(
        move |metadata: &Metadata, descriptor: &mofka_client::DataDescriptor| {
            gate::attach(|py| {
                let selected = DataDescriptor::from(descriptor.clone());
                let returned = loads(py, metadata.raw())
                    .and_then(|metadata| function.bind(py).call1((metadata, selected)));
                match returned {
                    Ok(returned) => Allocated::all(&returned),
                    Err(error) => Err(to_client(py, &error)),
                }
            })
            .unwrap_or_else(|| Err(interpreter_gone()))
        },
    ))
}
