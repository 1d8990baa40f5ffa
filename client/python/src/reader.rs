//! Data of one event that is read from its node in pieces. The class around it, `mofka.DataReader`, is a file of Python's.

use std::io::{Read, Seek, SeekFrom};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::buffers::Lent;
use crate::turns::Turns;

/// Bytes that are read between two looks for signals.
const BETWEEN_SIGNALS: usize = 1 << 20;

#[doc = doc!(_Pieces)]
#[pyclass(frozen, module = "mofka", name = "_Pieces")]
pub(crate) struct Pieces {
    reader: Turns<mofka_client::DataReader>,
    bytes: u64,
}

impl Pieces {
    pub(crate) fn new(reader: mofka_client::DataReader) -> Self {
        let bytes = reader.data_bytes();
        let reader = Turns::new("reader", reader);
        Self { reader, bytes }
    }
}

#[pymethods]
impl Pieces {
    #[getter]
    fn size(&self) -> u64 {
        self.bytes
    }

    /// Fills a buffer as far as there is data and it can be read; how much of it. An error behind what came is for the next call.
    /// After a signal that raised something, nothing was read.
    fn readinto(&self, py: Python<'_>, into: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut into = Lent::writable(into)?;
        let begin = self.reader.with(py, Seek::stream_position)??;
        let mut filled = 0_usize;
        for part in into.bytes_mut().chunks_mut(BETWEEN_SIGNALS) {
            let (bytes, trouble) = self.reader.with(py, |reader| fill(reader, part))?;
            filled = filled.saturating_add(bytes);
            match trouble {
                Some(error) if filled == 0 => return Err(error.into()),
                None if bytes == part.len() => {}
                _ => break,
            }
            if let Err(raised) = py.check_signals() {
                // The caller does not hear of what came.
                self.reader
                    .with(py, |reader| reader.seek(SeekFrom::Start(begin)))??;
                return Err(raised);
            }
        }
        Ok(filled)
    }

    /// As the method of files; the new place.
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let negative = || PyValueError::new_err(format!("seek to {offset} from the beginning"));
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| negative())?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            other => return Err(PyValueError::new_err(format!("whence={other} is not 0, 1 or 2"))),
        };
        Ok(self.reader.with(py, |reader| reader.seek(to))??)
    }
}

/// How much came, and why there is no more before the end.
fn fill(reader: &mut impl Read, mut into: &mut [u8]) -> (usize, Option<std::io::Error>) {
    let mut filled = 0_usize;
    while !into.is_empty() {
        let bytes = match reader.read(into) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) => return (filled, Some(error)),
        };
        filled = filled.saturating_add(bytes);
        into = into.get_mut(bytes..).unwrap_or_default();
    }
    (filled, None)
}
