//! What events a topic takes.

use mofka_net::Pattern;

use crate::data::Data;
use crate::error::BoxError;
use crate::metadata::Metadata;

/// Says which events a topic takes. Called by `push`, on the pushing thread, before anything is queued; for a loose producer
/// ([`Ordering::Loose`](crate::Ordering::Loose)) on the threads of its pool.
pub trait Validator: Send + Sync {
    /// Looks at an event. The metadata is JSON, which was checked before.
    ///
    /// # Errors
    /// Why the event is not taken: `push` fails with it. A panic is taken for one.
    fn validate(&self, metadata: &Metadata, data: &Data) -> Result<(), BoxError>;
}

/// Metadata has to match an event pattern.
pub(super) struct PatternValidator(pub(super) Pattern);

impl Validator for PatternValidator {
    fn validate(&self, metadata: &Metadata, _: &Data) -> Result<(), BoxError> {
        match self.0.matches(metadata.try_value()?) {
            true => Ok(()),
            false => Err("Metadata object does not satisfy eventbridge pattern".into()),
        }
    }
}
