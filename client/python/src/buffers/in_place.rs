//! Room for one event's data, which Python fills through views of it.
//!
//! Views are what must not dangle. Each keeps the object, and is counted by it; as long as there is one, the claim stays in the object, and
//! nothing is done with it that would end its memory, or that would touch its bytes beside them. Memory of the node stays
//! mapped as long as the claim lives, also when the node is gone.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mofka_client::{FillError, PushError, PushFuture};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::{Lent, give_view};
use crate::errors::{OrRaise, raise};
use crate::futures::FutureUint;
use crate::gate;
use crate::process::Owner;
use crate::producer::Producer;
use crate::waiting::Signals;

#[doc = doc!(InPlace)]
#[pyclass(frozen, module = "mofka", weakref)]
pub(crate) struct InPlace {
    /// Only taken with the interpreter's lock held, and not kept while that is released.
    room: Mutex<Room>,
    /// Changed by whoever took the claim; stays when that is over.
    bytes: AtomicUsize,
    is_shared: bool,
    owner: Owner,
    /// Who would end without this, and take no event any more.
    _producer: Py<Producer>,
}

struct Room {
    claim: Claim,
    /// Views that there are. None while the claim is taken.
    views: usize,
}

enum Claim {
    /// It is there; when `is_over`, for the views alone.
    There {
        claim: mofka_client::InPlace,
        is_over: bool,
    },
    /// A thread writes to it or commits it.
    Taken,
    /// Why there is none any more.
    Over(&'static str),
}

const COMMITTED: &str = "this event was committed: claim room for another one";
const ABORTED: &str = "this event was given up: claim room for another one";

/// Why there is nothing to do something with.
enum Refused {
    Over(&'static str),
    Taken,
    Views(usize),
}

impl Refused {
    fn text(&self) -> String {
        match self {
            Self::Over(why) => (*why).to_owned(),
            Self::Taken => "another thread writes to it or commits it: one at a time".to_owned(),
            Self::Views(count) => {
                let views = if *count == 1 {
                    "1 view of it exists".to_owned()
                } else {
                    format!("{count} views of it exist")
                };
                format!("{views}: let go of them first (memoryview.release(), `del` of arrays)")
            }
        }
    }

    fn into_python(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Over(text) => raise(py, "ClosedError", text),
            Self::Taken => PyRuntimeError::new_err(self.text()),
            Self::Views(_) => PyBufferError::new_err(self.text()),
        }
    }
}

impl Room {
    /// The claim, taken out, if nobody looks at it.
    fn take(&mut self) -> Result<mofka_client::InPlace, Refused> {
        match std::mem::replace(&mut self.claim, Claim::Taken) {
            Claim::There {
                claim,
                is_over: false,
            } if self.views == 0 => Ok(claim),
            other => {
                let refused = match &other {
                    Claim::There { is_over: true, .. } => Refused::Over(ABORTED),
                    Claim::There { .. } => Refused::Views(self.views),
                    Claim::Taken => Refused::Taken,
                    Claim::Over(why) => Refused::Over(why),
                };
                self.claim = other;
                Err(refused)
            }
        }
    }

    /// The claim for one view more.
    fn view(&mut self) -> Result<&mut mofka_client::InPlace, Refused> {
        match &mut self.claim {
            Claim::There { is_over: true, .. } => Err(Refused::Over(ABORTED)),
            Claim::There { claim, .. } => {
                self.views += 1;
                Ok(claim)
            }
            Claim::Taken => Err(Refused::Taken),
            Claim::Over(why) => Err(Refused::Over(why)),
        }
    }

    /// What is given up when nobody looks at it any more.
    fn forsaken(&mut self) -> Option<mofka_client::InPlace> {
        if self.views > 0 || !matches!(self.claim, Claim::There { is_over: true, .. }) {
            return None;
        }
        match std::mem::replace(&mut self.claim, Claim::Over(ABORTED)) {
            Claim::There { claim, .. } => Some(claim),
            _ => None,
        }
    }
}

impl InPlace {
    pub(crate) fn new(claim: mofka_client::InPlace, producer: Py<Producer>) -> Self {
        Self {
            bytes: AtomicUsize::new(claim.bytes()),
            is_shared: claim.is_shared(),
            room: Mutex::new(Room {
                claim: Claim::There {
                    claim,
                    is_over: false,
                },
                views: 0,
            }),
            owner: Owner::here(),
            _producer: producer,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the claim out.
    fn take(&self, py: Python<'_>) -> PyResult<mofka_client::InPlace> {
        self.owner.check("claim")?;
        let taken = self.lock().take();
        taken.map_err(|refused| refused.into_python(py))
    }

    fn put(&self, claim: Claim) {
        self.lock().claim = claim;
    }

    /// Uses it, with other threads running.
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut mofka_client::InPlace) -> R + Send,
    ) -> PyResult<R> {
        let mut claim = self.take(py)?;
        let (claim, done) = gate::detach(py, || {
            let done = act(&mut claim);
            (claim, done)
        });
        self.bytes.store(claim.bytes(), Ordering::Relaxed);
        self.put(Claim::There {
            claim,
            is_over: false,
        });
        Ok(done)
    }

    /// The end of a `with`: gives it up, with the last view of it. Nothing to do when it is done, or the parent's.
    fn leave(&self, py: Python<'_>) {
        if !self.owner.is_here() {
            return;
        }
        let mut room = self.lock();
        if let Claim::There { is_over, .. } = &mut room.claim {
            *is_over = true;
        }
        let forsaken = room.forsaken();
        drop(room);
        end(py, forsaken);
    }
}

/// Frees what was claimed. What it belongs to may end with it, and wait for other threads.
fn end(py: Python<'_>, claim: Option<mofka_client::InPlace>) {
    if claim.is_some() {
        gate::detach(py, || drop(claim));
    }
}

fn filled(filled: Result<(), FillError>, py: Python<'_>) -> PyResult<()> {
    filled.map_err(|error| match error {
        FillError::Forked { .. } => raise(py, "ForkedError", &error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    })
}

#[pymethods]
impl InPlace {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: Python gives a view to fill. One that is refused has to have no owner.
        unsafe { (*view).obj = std::ptr::null_mut() };
        let this = slf.get();
        let told = |text: String| PyBufferError::new_err(text);
        this.owner
            .check("claim")
            .map_err(|error| told(error.to_string()))?;
        let place = {
            let mut room = this.lock();
            let claim = room.view().map_err(|refused| told(refused.text()))?;
            (claim.as_mut_ptr(), claim.bytes())
        };
        // SAFETY: Python gives a view to fill. The bytes stay where they are as long as the claim lives, which stays in this object while
        // a view is counted, and all of them may be written by whoever has the pointer. Nobody else has a reference to them: what
        // uses the claim otherwise takes it first, which it does not get.
        let given = unsafe { give_view(slf.as_any(), view, place, false, flags) };
        if given.is_err() {
            this.lock().views -= 1;
        }
        given
    }

    unsafe fn __releasebuffer__(&self, py: Python<'_>, _view: *mut ffi::Py_buffer) {
        let mut room = self.lock();
        room.views = room.views.saturating_sub(1);
        let forsaken = room.forsaken();
        drop(room);
        end(py, forsaken);
    }

    fn __len__(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn __bool__(&self) -> bool {
        matches!(
            self.lock().claim,
            Claim::There { is_over: false, .. } | Claim::Taken
        )
    }

    #[doc = doc!(InPlace is_shared)]
    #[getter]
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    #[doc = doc!(InPlace write)]
    #[pyo3(signature = (data, offset=0))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, offset: usize) -> PyResult<usize> {
        let data = Lent::of(data)?;
        filled(self.with(py, |claim| claim.write(offset, data.bytes()))?, py)?;
        Ok(data.bytes().len())
    }

    #[doc = doc!(InPlace shorten)]
    fn shorten(&self, py: Python<'_>, nbytes: usize) -> PyResult<()> {
        filled(self.with(py, |claim| claim.shorten(nbytes))?, py)
    }

    #[doc = doc!(InPlace commit)]
    fn commit(&self, py: Python<'_>) -> PyResult<FutureUint> {
        let claim = self.take(py)?;
        let signals = Signals::default();
        let pushed: Result<PushFuture, PushError> =
            gate::detach(py, || claim.commit_while(|| signals.go_on()));
        self.put(Claim::Over(match &pushed {
            Ok(_) => COMMITTED,
            Err(_) => ABORTED,
        }));
        signals.raised()?;
        Ok(FutureUint::new(pushed.or_raise(py)?, None))
    }

    #[doc = doc!(InPlace abort)]
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if matches!(self.lock().claim, Claim::Over(_)) {
            return Ok(());
        }
        let claim = self.take(py)?;
        self.put(Claim::Over(ABORTED));
        end(py, Some(claim));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _class: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        self.leave(py);
    }

    fn __repr__(&self) -> String {
        let state = match &self.lock().claim {
            Claim::There { is_over: false, .. } => "open",
            Claim::Taken => "in use",
            Claim::Over(COMMITTED) => "committed",
            Claim::There { .. } | Claim::Over(_) => "given up",
        };
        let memory = if self.is_shared { "shared" } else { "own" };
        format!("<InPlace: {} bytes in {memory} memory, {state}>", self.__len__())
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        let room = self.room.get_mut().unwrap_or_else(PoisonError::into_inner);
        // There are no views: each keeps this.
        if let Claim::There { claim, .. } = std::mem::replace(&mut room.claim, Claim::Over(ABORTED)) {
            Python::attach(|py| end(py, Some(claim)));
        }
    }
}
