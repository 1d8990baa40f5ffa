//! Rules for names that people choose.

use crate::limits::{CONSUMER_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("the name of a {what} is empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// It is too long.
    #[error("the name of a {what} has {bytes} bytes, and at most {bytes_max} are allowed")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// It has a character that could mean something to a path, a shell or a log.
    #[error("the name {name:?} of a topic has {character:?}; letters, digits, '.', '_' and '-' are allowed")]
    Character {
        /// The name.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// It means a directory everywhere.
    #[error("a topic cannot be called {name:?}: that means a directory")]
    Directory {
        /// The name.
        name: String,
    },
}

/// Checks a topic's name: `[A-Za-z0-9._-]{1,200}`, and neither `.` nor `..`.
///
/// # Errors
/// Which rule it breaks.
pub fn check_topic_name(name: &str) -> Result<(), NameError> {
    check_length("topic", name, TOPIC_NAME_BYTES_MAX)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character {
            name: name.to_owned(),
            character,
        });
    }
    if name == "." || name == ".." {
        return Err(NameError::Directory {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// Checks a consumer's name: 1 to 256 bytes of any text.
///
/// # Errors
/// Which rule it breaks.
pub fn check_consumer_name(name: &str) -> Result<(), NameError> {
    check_length("consumer", name, CONSUMER_NAME_BYTES_MAX)
}

fn check_length(what: &'static str, name: &str, bytes_max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > bytes_max {
        return Err(NameError::TooLong {
            what,
            bytes: name.len(),
            bytes_max,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["a", "...", "A-z_0.9", "-", &"x".repeat(200)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_consumer_name("любой / name"), Ok(()));
        assert_eq!(check_consumer_name(&"x".repeat(256)), Ok(()));
    }

    #[test]
    fn bad_names_are_refused_with_the_reason() {
        assert_eq!(check_topic_name(""), Err(NameError::Empty { what: "topic" }));
        for name in [".", ".."] {
            assert_eq!(
                check_topic_name(name),
                Err(NameError::Directory {
                    name: name.to_owned()
                })
            );
        }
        for (name, character) in [
            ("a/b", '/'),
            ("a b", ' '),
            ("\0", '\0'),
            ("é", 'é'),
            ("a\n", '\n'),
        ] {
            assert_eq!(
                check_topic_name(name),
                Err(NameError::Character {
                    name: name.to_owned(),
                    character
                })
            );
        }
        let long = NameError::TooLong {
            what: "topic",
            bytes: 201,
            bytes_max: 200,
        };
        assert_eq!(check_topic_name(&"x".repeat(201)), Err(long));
        let long = NameError::TooLong {
            what: "consumer",
            bytes: 257,
            bytes_max: 256,
        };
        assert_eq!(check_consumer_name(&"x".repeat(257)), Err(long));
    }
}
