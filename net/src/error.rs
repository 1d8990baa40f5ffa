//! Error codes, and the body of an error frame.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::BodyError;

macro_rules! error_codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $number:literal $name:literal; )+) => {
        /// What went wrong, as a number that means the same for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$( ErrorCode::$variant, )+];

            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self { $( ErrorCode::$variant => $number, )+ }
            }

            /// The name on the wire and in messages.
            pub fn name(self) -> &'static str {
                match self { $( ErrorCode::$variant => $name, )+ }
            }

            /// The code of a number, if this version knows it.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $( $number => Some(ErrorCode::$variant), )+ _ => None }
            }
        }
    };
}

error_codes! {
    /// The bytes are not what the protocol says.
    Malformed = 1 "malformed";
    /// No version that both sides speak.
    UnsupportedVersion = 2 "unsupported_version";
    /// The client may not do this.
    Unauthorized = 3 "unauthorized";
    /// Larger than the node's limits allow.
    TooLarge = 4 "too_large";
    /// An opcode that the node does not know, or not from a client.
    UnknownOpcode = 5 "unknown_opcode";
    /// No topic of this name.
    UnknownTopic = 10 "unknown_topic";
    /// A topic of this name exists.
    TopicExists = 11 "topic_exists";
    /// Not a name for a topic or consumer.
    InvalidName = 12 "invalid_name";
    /// No partition of this id.
    UnknownPartition = 13 "unknown_partition";
    /// Another shard or node serves it; `details.addresses` says where.
    NotOwner = 14 "not_owner";
    /// Well-formed, but without sense.
    InvalidArgument = 15 "invalid_argument";
    /// The topic was marked complete: it takes no more events.
    TopicComplete = 16 "topic_complete";
    /// Other events refer to the data of what should be deleted; `details.referrers` says whose.
    Referenced = 18 "referenced";
    /// No node of this rank.
    InvalidRank = 17 "invalid_rank";
    /// What arrived is not what was sent.
    BadChecksum = 20 "bad_checksum";
    /// A producer's batch before this one is missing; `details.expected` is the sequence that is awaited.
    SequenceGap = 21 "sequence_gap";
    /// The answer to a batch so old is not remembered.
    SequenceTooOld = 22 "sequence_too_old";
    /// A newer life of this producer exists.
    ProducerFenced = 23 "producer_fenced";
    /// The partition does not know (any more) a producer that goes on in the middle of its sequence.
    UnknownProducer = 24 "unknown_producer";
    /// The partition hit an I/O error and refuses work until it is opened again.
    Poisoned = 25 "poisoned";
    /// The partition can be read only.
    ReadOnly = 26 "read_only";
    /// The disk is full.
    NoSpace = 27 "no_space";
    /// The partition cannot give the durability that was asked for.
    DurabilityUnavailable = 28 "durability_unavailable";
    /// The node is stopping.
    ShuttingDown = 29 "shutting_down";
    /// No subscription of this id on this connection.
    UnknownSubscription = 30 "unknown_subscription";
    /// A data descriptor that does not fit the event.
    InvalidSelection = 31 "invalid_selection";
    /// No event of this id (yet).
    UnknownEvent = 32 "unknown_event";
    /// Stored bytes do not check.
    Damaged = 33 "damaged";
    /// The event was dropped by retention.
    Trimmed = 34 "trimmed";
    /// Another member of the consumer's name reads the partition now.
    Superseded = 35 "superseded";
    /// Another consumer of this name insists on the partition.
    PartitionTaken = 36 "partition_taken";
    /// Metadata that the topic's validator does not take.
    InvalidMetadata = 37 "invalid_metadata";
    /// No stream of this number, any more: it ended with its connection, and nothing of it is stored.
    UnknownStream = 38 "unknown_stream";
    /// An event of a batch refers to data that it cannot refer to; `details.index` is its place in the batch.
    InvalidReference = 39 "invalid_reference";
    /// A bound was reached; later it may work.
    Overloaded = 40 "overloaded";
    /// A defect of the node.
    Internal = 50 "internal";
}

impl ErrorCode {
    /// Whether the same request may succeed later or elsewhere without anybody changing it.
    pub fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::NotOwner | Self::NoSpace | Self::ShuttingDown | Self::Overloaded
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An error as it goes over the wire: the body of an error frame is its JSON.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct WireError {
    /// What went wrong.
    pub code: ErrorCode,
    /// The same for people: what was tried, with which values, what to do.
    pub message: String,
    /// Facts for programs, by code: `addresses` (not_owner), `expected` (sequence_gap).
    pub details: Map<String, Value>,
}

/// Longest message that is sent or kept: a message may quote what a client sent.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

impl WireError {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(message.into()),
            details: Map::new(),
        }
    }

    /// The same error with one more fact.
    #[must_use]
    pub fn with_detail(mut self, key: &str, value: Value) -> Self {
        self.details.insert(key.to_owned(), value);
        self
    }

    /// Another shard or node serves what was asked for.
    pub fn not_owner(message: impl Into<String>, addresses: &[String]) -> Self {
        let addresses = addresses.iter().cloned().map(Value::String).collect();
        Self::new(ErrorCode::NotOwner, message).with_detail("addresses", Value::Array(addresses))
    }

    /// A producer's batch is missing.
    pub fn sequence_gap(message: impl Into<String>, expected: u64) -> Self {
        Self::new(ErrorCode::SequenceGap, message).with_detail("expected", Value::from(expected))
    }

    /// Of `not_owner`: where to go instead. Empty when the error does not say.
    pub fn addresses(&self) -> Vec<String> {
        let listed = self.details.get("addresses").and_then(Value::as_array);
        listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    /// Of `sequence_gap`: the sequence that the partition awaits.
    pub fn expected(&self) -> Option<u64> {
        self.details.get("expected").and_then(Value::as_u64)
    }

    /// The body of the error frame.
    pub fn to_json(&self) -> Vec<u8> {
        let body = ErrorBody {
            code: self.code.number(),
            name: self.code.name().to_owned(),
            message: self.message.clone(),
            details: self.details.clone(),
        };
        // Strings and a map with string keys always serialize.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Reads the body of an error frame. A code that this version does not know becomes `internal`, with the number
    /// and the name in the message.
    ///
    /// # Errors
    /// When it is not such a body.
    pub fn check(body: &[u8]) -> Result<Self, BodyError> {
        let body: ErrorBody = crate::control::decode("error", body)?;
        let known = ErrorCode::from_number(body.code);
        let message = match known {
            Some(_) => body.message,
            None => format!("error {} {}: {}", body.code, body.name, body.message),
        };
        let code = known.unwrap_or(ErrorCode::Internal);
        Ok(Self {
            code,
            message: bounded(message),
            details: body.details,
        })
    }
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let cut = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        message.truncate(cut);
    }
    message
}

#[derive(Serialize, Deserialize)]
struct ErrorBody {
    code: u16,
    name: String,
    message: String,
    #[serde(default)]
    details: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_and_a_name_of_its_own() {
        for (place, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_number(code.number()), Some(*code));
            for other in &ErrorCode::ALL[place + 1..] {
                assert_ne!(code.number(), other.number());
                assert_ne!(code.name(), other.name());
            }
        }
    }

    #[test]
    fn an_error_survives_the_wire() {
        let error = WireError::not_owner("partition 7 is elsewhere", &["tcp://a:1".to_owned()]);
        let back = WireError::check(&error.to_json()).unwrap();
        assert_eq!(back, error);
        assert_eq!(back.addresses(), ["tcp://a:1"]);
        assert_eq!(WireError::sequence_gap("", 5).expected(), Some(5));
    }

    #[test]
    fn an_unknown_code_is_kept_readable() {
        let error = WireError::check(br#"{"code":999,"name":"novel","message":"m"}"#).unwrap();
        assert_eq!(error.code, ErrorCode::Internal);
        assert_eq!(error.message, "error 999 novel: m");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = WireError::new(ErrorCode::Internal, "é".repeat(MESSAGE_BYTES_MAX));
        assert!(error.message.len() <= MESSAGE_BYTES_MAX);
    }
}
