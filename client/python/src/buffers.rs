//! Memory of Python in the client, and memory of the client in Python, without copies. The unsafe code of this package is
//! here and below.

mod in_place;

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mofka_client::{BoxError, Data, DataSegment};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyString, PyTuple};

pub(crate) use in_place::InPlace;

use crate::background::{Job, later};
use crate::descriptor::DataRef;
use crate::errors::to_client;

/// Memory of a Python object, which neither goes nor moves until it is given back: Python's buffer protocol says so.
pub(crate) struct Lent {
    buffer: PyUntypedBuffer,
}

impl Lent {
    /// # Errors
    /// When the object is no buffer, or has gaps in it.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err(
                "data is bytes, and text has none of its own: use text.encode()",
            ));
        }
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() {
            Ok(Self { buffer })
        } else {
            Err(PyBufferError::new_err(
                "Non-contiguous Python buffers are not yet supported: make a copy first, as numpy.ascontiguousarray does",
            ))
        }
    }

    /// The same of memory that is to be written.
    ///
    /// # Errors
    /// Also when it is read-only.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let lent = Self::of(object)?;
        match lent.buffer.readonly() {
            true => Err(PyBufferError::new_err("Python buffer is read-only")),
            false => Ok(lent),
        }
    }

    fn is_empty(&self) -> bool {
        self.buffer.len_bytes() == 0
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.is_empty() {
            return &[];
        }
        // SAFETY: the buffer is contiguous, so that these are its bytes, and it is there until it is released, which takes `self`. That
        // nobody writes to them meanwhile is what `bytes` objects promise, and what callers of `copy=False` promise.
        unsafe { std::slice::from_raw_parts(self.buffer.buf_ptr().cast(), self.buffer.len_bytes()) }
    }

    /// Only of what [`Lent::writable`] gave.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.is_empty() || self.buffer.readonly() {
            return &mut [];
        }
        // SAFETY: as above, and the memory can be written. That the application does not touch it before
        // the event is there is what an allocator promises.
        unsafe { std::slice::from_raw_parts_mut(self.buffer.buf_ptr().cast(), self.buffer.len_bytes()) }
    }

    /// Gives it back, with the interpreter at hand.
    pub(crate) fn give_back(self, py: Python<'_>) {
        if !self.is_empty() && !self.buffer.readonly() {
            forget_object(self.place());
        }
        self.buffer.release(py);
    }

    fn place(&self) -> Place {
        (self.buffer.buf_ptr() as usize, self.buffer.len_bytes())
    }
}

/// [`Lent`] as the client keeps it: given back wherever it is dropped, without waiting for the interpreter.
struct Kept(Option<Lent>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Lent::bytes)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            later(Job::GiveBack(lent));
        }
    }
}

/// What is pushed. Segments of `kept_bytes_min` bytes and more stay where they are, if nobody can change them (`bytes`) or `copy` is
/// false; all others are copied.
///
/// # Errors
/// When it is neither a buffer nor a list of buffers, nor a reference.
pub(crate) fn pushed(
    object: Option<&Bound<'_, PyAny>>,
    copy: Option<bool>,
    kept_bytes_min: usize,
) -> PyResult<Data> {
    let Some(object) = object else {
        return Ok(Data::empty());
    };
    let segment = |object: &Bound<'_, PyAny>| pushed_segment(object, copy, kept_bytes_min);
    if let Ok(reference) = object.cast_exact::<DataRef>() {
        return Ok(Data::from(reference.get().reference().clone()));
    }
    if let Ok(list) = object.cast::<PyList>() {
        return Ok(Data::from(
            list.iter().map(|it| segment(&it)).collect::<PyResult<Vec<_>>>()?,
        ));
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return Ok(Data::from(
            tuple
                .iter()
                .map(|it| segment(&it))
                .collect::<PyResult<Vec<_>>>()?,
        ));
    }
    Ok(Data::from(segment(object)?))
}

fn pushed_segment(object: &Bound<'_, PyAny>, copy: Option<bool>, kept_bytes_min: usize) -> PyResult<Bytes> {
    let bytes = object.cast_exact::<PyBytes>().ok();
    if let Some(bytes) = bytes
        && (copy == Some(true) || bytes.as_bytes().len() < kept_bytes_min)
    {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    let lent = Lent::of(object)?;
    let is_kept = !copy.unwrap_or(bytes.is_none());
    if is_kept && lent.bytes().len() >= kept_bytes_min {
        return Ok(Bytes::from_owner(Kept(Some(lent))));
    }
    let copied = Bytes::copy_from_slice(lent.bytes());
    lent.buffer.release(object.py());
    Ok(copied)
}

/// Where memory is: address and bytes.
type Place = (usize, usize);

type Objects = HashMap<Place, (usize, Py<PyAny>)>;

/// The objects that allocators gave and events still have, with how many have each: an event gives back the very objects. Only taken
/// with the interpreter's lock held.
static OBJECTS: Mutex<Option<Objects>> = Mutex::new(None);

fn objects() -> MutexGuard<'static, Option<Objects>> {
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget_object(place: Place) {
    let mut all = objects();
    let object = all.as_mut().and_then(|all| {
        let (count, _) = all.get_mut(&place)?;
        *count = count.saturating_sub(1);
        if *count == 0 { all.remove(&place) } else { None }
    });
    drop(all);
    // Not under the lock: it may be the last reference, and run Python code.
    drop(object);
}

/// A writable buffer that an allocator gave.
pub(crate) struct Allocated(Option<Lent>);

impl Allocated {
    /// Those that an allocator returned: a buffer, or a list of them.
    pub(crate) fn all(returned: &Bound<'_, PyAny>) -> Result<Vec<Self>, BoxError> {
        let one = |object: &Bound<'_, PyAny>| {
            let lent = Lent::writable(object)?;
            if !lent.is_empty() {
                let mut all = objects();
                let entry = all.get_or_insert_default().entry(lent.place());
                let (count, _) = entry.or_insert_with(|| (0, object.clone().unbind()));
                *count += 1;
            }
            Ok(Self(Some(lent)))
        };
        let all = if let Ok(list) = returned.cast::<PyList>() {
            list.iter().map(|object| one(&object)).collect()
        } else if let Ok(tuple) = returned.cast::<PyTuple>() {
            tuple.iter().map(|object| one(&object)).collect()
        } else {
            one(returned).map(|one| vec![one])
        };
        all.map_err(|error| to_client(returned.py(), &error))
    }
}

impl DataSegment for Allocated {
    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Lent::bytes)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], Lent::bytes_mut)
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            later(Job::GiveBack(lent));
        }
    }
}

/// Memory of the client that Python reads, through a `memoryview`.
#[pyclass(frozen, module = "mofka")]
struct Segment {
    bytes: Bytes,
}

#[pymethods]
impl Segment {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let place = bytes.as_ptr().cast_mut();
        // SAFETY: Python gives a view to fill. It is told that the memory is read-only, and gets a reference to this object, which
        // keeps the bytes where they are.
        unsafe { give_view(slf.as_any(), view, (place, bytes.len()), true, flags) }
    }
}

/// Fills a view of this memory (first byte, bytes), which belongs to `owner`.
///
/// # Safety
/// `view` is one that Python gave to be filled. The bytes are there as long as `owner` lives and has such a view; and if it is not
/// read-only, whoever has it may write them.
pub(crate) unsafe fn give_view(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    (place, bytes): (*mut u8, usize),
    is_read_only: bool,
    flags: c_int,
) -> PyResult<()> {
    let length = ffi::Py_ssize_t::try_from(bytes)
        .map_err(|_| PyBufferError::new_err("more bytes than Python counts"))?;
    let read_only = c_int::from(is_read_only);
    // SAFETY: as the caller says; Python takes a reference to the owner, which the view has until it is released.
    let filled =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), place.cast(), length, read_only, flags) };
    match filled {
        0 => Ok(()),
        _ => Err(PyErr::fetch(owner.py())),
    }
}

/// The segments of data, for Python: the objects that an allocator gave, or read-only views of the client's memory.
pub(crate) fn to_python<'py>(py: Python<'py>, data: &Data) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for bytes in data.segments() {
        let place = (bytes.as_ptr() as usize, bytes.len());
        let object = objects()
            .as_ref()
            .and_then(|all| all.get(&place).map(|(_, object)| object.clone_ref(py)));
        match object {
            Some(object) => list.append(object)?,
            None => {
                let segment = Bound::new(py, Segment { bytes: bytes.clone() })?;
                list.append(PyMemoryView::from(segment.as_any())?)?;
            }
        }
    }
    Ok(list)
}
