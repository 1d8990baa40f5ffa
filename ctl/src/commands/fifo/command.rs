//! Commands of the control FIFO: `path -> topic (key=value, ...)`.

use std::num::NonZeroU32;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the pipe to the topic.
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A line is the text of a JSON string.
    Raw,
    /// A line is JSON.
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) path: PathBuf,
    pub(super) topic: String,
    pub(super) direction: Direction,
    pub(super) format: Format,
    pub(super) batch_size: NonZeroU32,
    /// Go on with the next program at the other end.
    pub(super) keep: bool,
    pub(super) acknowledge: bool,
    pub(super) consumer: String,
}

/// The original's.
const BATCH_SIZE: NonZeroU32 = NonZeroU32::MIN.saturating_add(127);

impl Command {
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let invalid = |what: &str| {
            format!(
                "Invalid command format: {what}; it is \"path -> topic (key=value, ...)\" or \"path <- topic (...)\""
            )
        };
        let line = line.trim();
        let (path, rest, direction) = match (line.split_once(" -> "), line.split_once(" <- ")) {
            (Some((path, rest)), None) => (path, rest, Direction::In),
            (None, Some((path, rest))) => (path, rest, Direction::Out),
            (None, None) => {
                return Err(invalid(
                    "there is neither \" -> \" nor \" <- \", with spaces round it",
                ));
            }
            (Some(_), Some(_)) => return Err(invalid("there are two arrows")),
        };
        let (topic, options) = match rest.split_once('(') {
            None => (rest, ""),
            Some((topic, options)) => {
                let options = options.trim().strip_suffix(')');
                (
                    topic,
                    options.ok_or_else(|| invalid("the options have no \")\" at their end"))?,
                )
            }
        };
        let (path, topic) = (path.trim(), topic.trim());
        if path.is_empty() || topic.is_empty() {
            return Err(invalid("the path or the topic is missing"));
        }
        let mut command = Self {
            path: PathBuf::from(path),
            topic: topic.to_owned(),
            direction,
            format: Format::Raw,
            batch_size: BATCH_SIZE,
            keep: direction == Direction::Out,
            acknowledge: true,
            consumer: path.to_owned(),
        };
        for option in options
            .split(',')
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            command.set(option)?;
        }
        let bytes = command.consumer.len();
        let max = mofka_log::CONSUMER_NAME_BYTES_MAX;
        if direction == Direction::Out && !(1..=max).contains(&bytes) {
            return Err(format!(
                "a consumer's name has 1 to {max} bytes, not {bytes}: give one with consumer=NAME"
            ));
        }
        Ok(command)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| format!("option \"{option}\" has no value: options are key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let boolean = || match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{key}={value}: it is true or false")),
        };
        match (key, self.direction) {
            ("format", _) => {
                self.format = match value {
                    "raw" => Format::Raw,
                    "json" => Format::Json,
                    _ => return Err(format!("format={value}: it is raw or json")),
                }
            }
            ("batch_size", _) => match value.parse() {
                Ok(size) => self.batch_size = size,
                // As the original does.
                Err(_) => tracing::warn!("batch_size={value} is no number of events; {BATCH_SIZE} is taken"),
            },
            ("keep", _) => self.keep = boolean()?,
            ("acknowledge", Direction::Out) => self.acknowledge = boolean()?,
            ("consumer", Direction::Out) => self.consumer = value.to_owned(),
            _ => {
                let known = match self.direction {
                    Direction::In => "format, batch_size, keep",
                    Direction::Out => "format, batch_size, keep, acknowledge, consumer",
                };
                return Err(format!("unknown option \"{key}\"; there are: {known}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let command = Command::parse(" /tmp/a b -> t.1 (format=json, batch_size = 7,keep=true)").unwrap();
        assert_eq!(
            (command.path.to_str(), command.topic.as_str(), command.direction),
            (Some("/tmp/a b"), "t.1", Direction::In)
        );
        assert_eq!(
            (command.format, command.batch_size.get(), command.keep),
            (Format::Json, 7, true)
        );
        let command = Command::parse("p <- t").unwrap();
        assert_eq!(
            (command.direction, command.consumer.as_str()),
            (Direction::Out, "p")
        );
        assert_eq!((command.format, command.batch_size.get()), (Format::Raw, 128));
        assert!(command.keep && command.acknowledge);
        let command = Command::parse("p <- t (acknowledge=false, consumer=me, batch_size=many)").unwrap();
        assert_eq!(
            (
                command.acknowledge,
                command.consumer.as_str(),
                command.batch_size.get()
            ),
            (false, "me", 128)
        );
    }

    #[test]
    fn what_is_none_is_said() {
        for (line, what) in [
            ("p->t", "neither"),
            ("p -> t <- u", "two arrows"),
            ("p -> t (format=json", "no \")\""),
            (" -> t", "neither"),
            ("p ->  (format=raw)", "topic is missing"),
            ("p -> t (formt=json)", "unknown option \"formt\""),
            ("p -> t (acknowledge=true)", "unknown option"),
            ("p -> t (format=xml)", "raw or json"),
            ("p <- t (keep=maybe)", "true or false"),
            ("p <- t (json)", "no value"),
            ("p <- t (consumer=)", "1 to 256 bytes"),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
