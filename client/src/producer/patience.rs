//! How long a push waits for room.

use std::time::Duration;

use crate::error::PushError;
use crate::promise::Deadline;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    goes_on: Option<&'a dyn Fn() -> bool>,
}

impl<'a> Patience<'a> {
    /// As long as it takes.
    pub(super) fn endless() -> Self {
        Self { goes_on: None }
    }

    /// As long as this says so.
    pub(super) fn while_it(goes_on: &'a dyn Fn() -> bool) -> Self {
        let goes_on = Some(goes_on);
        Self { goes_on }
    }

    /// When to ask again.
    pub(super) fn deadline(self) -> Deadline {
        self.goes_on.map_or(Deadline::Never, |_| Deadline::after(PAUSE))
    }

    /// Whether there is anybody to ask: not under a lock.
    pub(super) fn is_asked(self) -> bool {
        self.goes_on.is_some()
    }

    /// # Errors
    /// When it does not go on.
    pub(super) fn ask(self) -> Result<(), PushError> {
        match self.goes_on.is_none_or(|goes_on| goes_on()) {
            true => Ok(()),
            false => Err(PushError::GivenUp),
        }
    }
}
