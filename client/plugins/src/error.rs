//! What can go wrong with a library, and with what it offers.

/// Why a library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It was not loaded: it may not be, is not there, or the system could not load it.
    #[error("Could not dlopen {library}: {reason}")]
    Open {
        /// As it was asked for.
        library: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It was loaded, and what it offers makes no sense.
    #[error("{library} was loaded and cannot be used: {reason}")]
    Unusable {
        /// As it was asked for.
        library: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl LoadError {
    /// Why, without the library's name.
    pub fn reason(&self) -> &str {
        match self {
            Self::Open { reason, .. } | Self::Unusable { reason, .. } => reason,
        }
    }
}

/// What a component of a library said, or what is wrong with its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub(crate) String);
