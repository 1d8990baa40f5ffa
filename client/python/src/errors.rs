//! The client's errors as the exceptions of `mofka/_errors.py`.

use mofka_client::{
    AcknowledgeError, BoxError, ComponentError, ConsumerError, DeliveryError, DriverError, ErrorCode,
    ProcessError, PullError, PushError, ReferenceError, StreamError, ThreadPoolError,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::gate;

/// Makes an exception of the class of this name.
pub(crate) fn raise(py: Python<'_>, class: &str, text: &str) -> PyErr {
    raise_with(py, class, text, |_| Ok(()))
}

fn raise_with(
    py: Python<'_>,
    class: &str,
    text: &str,
    details: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
) -> PyErr {
    let _inside = gate::calling(py);
    let make = || {
        let class = py.import("mofka._errors")?.getattr(class)?;
        let keywords = PyDict::new(py);
        details(&keywords)?;
        class.call((text,), Some(&keywords))
    };
    make().map_or_else(|error| error, PyErr::from_value)
}

/// An error of the client, as Python is told of it.
pub(crate) trait IntoPython {
    fn into_python(self, py: Python<'_>) -> PyErr;
}

/// Gives results of the client to Python.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: IntoPython> OrRaise<T> for Result<T, E> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| error.into_python(py))
    }
}

impl IntoPython for DriverError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::Forked { .. } => "ForkedError",
            Self::Component(_) => "ComponentError",
            Self::Unreachable { .. } | Self::Lost { .. } | Self::GroupFile { .. } => "UnreachableError",
            Self::Refused(error) => match error.code {
                ErrorCode::UnknownTopic => "TopicNotFoundError",
                ErrorCode::TopicExists => "TopicExistsError",
                _ => "DriverError",
            },
            _ => "DriverError",
        };
        raise(py, class, &self.to_string())
    }
}

impl IntoPython for ComponentError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        raise(py, "ComponentError", &self.to_string())
    }
}

impl IntoPython for ThreadPoolError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::Forked { .. } => "ForkedError",
            _ => "MofkaError",
        };
        raise(py, class, &self.to_string())
    }
}

impl IntoPython for PushError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::InvalidMetadata { .. } | Self::Rejected { .. } => "InvalidMetadata",
            Self::Component(_) => "ComponentError",
            Self::Closed => "ClosedError",
            Self::Forked { .. } => "ForkedError",
            _ => "PushError",
        };
        raise(py, class, &self.to_string())
    }
}

impl IntoPython for StreamError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Push(error) => error.into_python(py),
            Self::Driver(error) => error.into_python(py),
            Self::Delivery(error) => error.into_python(py),
            other => raise(py, "PushError", &other.to_string()),
        }
    }
}

impl IntoPython for DeliveryError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::Forked { .. } => "ForkedError",
            _ => "DeliveryError",
        };
        let (reason, may_be_stored) = (self.reason(), self.may_be_stored());
        raise_with(py, class, &self.to_string(), |details| {
            if class == "DeliveryError" {
                details.set_item("reason", reason)?;
                details.set_item("may_be_stored", may_be_stored)?;
            }
            Ok(())
        })
    }
}

impl IntoPython for PullError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::Closed => "ClosedError",
            Self::Forked { .. } => "ForkedError",
            _ => "PullError",
        };
        let event = match &self {
            Self::Callback {
                event_id, partition, ..
            }
            | Self::Allocation {
                event_id, partition, ..
            }
            | Self::DataTooLarge {
                event_id, partition, ..
            }
            | Self::Data {
                event_id, partition, ..
            }
            | Self::Metadata {
                event_id, partition, ..
            } => Some((*event_id, *partition)),
            _ => None,
        };
        raise_with(py, class, &self.to_string(), |details| {
            if let Some((event_id, partition)) = event {
                details.set_item("event_id", event_id)?;
                details.set_item("partition", partition)?;
            }
            Ok(())
        })
    }
}

impl IntoPython for AcknowledgeError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        let class = match &self {
            Self::Forked { .. } => "ForkedError",
            _ => "AcknowledgeError",
        };
        raise(py, class, &self.to_string())
    }
}

impl IntoPython for ConsumerError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Driver(error) => error.into_python(py),
            Self::Component(error) => error.into_python(py),
            other => raise(py, "ConsumerError", &other.to_string()),
        }
    }
}

impl IntoPython for ProcessError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        raise(py, "ConsumerError", &self.to_string())
    }
}

impl IntoPython for ReferenceError {
    fn into_python(self, py: Python<'_>) -> PyErr {
        raise(py, "ViewError", &self.to_string())
    }
}

/// What a function of the application raised, for the client.
pub(crate) fn to_client(py: Python<'_>, error: &PyErr) -> BoxError {
    let class = error.get_type(py).name().map(|name| name.to_string());
    let text = error.value(py).to_string();
    match class {
        Ok(class) if text.is_empty() => class.into(),
        Ok(class) => format!("{class}: {text}").into(),
        Err(_) => text.into(),
    }
}

/// The client's threads outlive the interpreter by a moment.
pub(crate) fn interpreter_gone() -> BoxError {
    "the Python interpreter is ending".into()
}
