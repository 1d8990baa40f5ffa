//! A cursor moves forward.
//!
//! ```text
//! at  0               16             24          26        32
//!     partition uuid  next_event_id  name_bytes  reserved  consumer's name, UTF-8
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::{BufMut, Bytes, BytesMut};
use mofka_log::EventId;
use mofka_log::le::{Le16, Le64};
use mofka_log::limits::CONSUMER_NAME_BYTES_MAX;
use uuid::Uuid;

use crate::body::{BodyError, BodyReader};
use crate::width::wide;

const WHAT: &str = "acknowledge request";

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawAcknowledge {
    partition: [u8; 16],
    next_event_id: Le64,
    name_bytes: Le16,
    reserved: [u8; 6],
}

const _: () = {
    assert!(size_of::<RawAcknowledge>() == 32);
    assert!(std::mem::offset_of!(RawAcknowledge, name_bytes) == 24);
};

/// All events before `next_event_id` are done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgeRequest {
    /// Of which partition.
    pub partition: Uuid,
    /// The first event that is not acknowledged.
    pub next_event_id: EventId,
    /// The consumer's name, 1 to 256 bytes.
    pub consumer: String,
}

impl AcknowledgeRequest {
    /// The request as it is sent.
    ///
    /// # Errors
    /// When the name is empty or too long.
    pub fn encode(&self) -> Result<Bytes, BodyError> {
        check_name(&self.consumer)?;
        let raw = RawAcknowledge {
            partition: self.partition.into_bytes(),
            next_event_id: Le64::from(self.next_event_id.get()),
            // The bound is far below 64 KiB.
            name_bytes: Le16::from(u16::try_from(self.consumer.len()).unwrap_or(u16::MAX)),
            reserved: [0; 6],
        };
        let mut body =
            BytesMut::with_capacity(size_of::<RawAcknowledge>().saturating_add(self.consumer.len()));
        body.put_slice(bytemuck::bytes_of(&raw));
        body.put_slice(self.consumer.as_bytes());
        Ok(body.freeze())
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When the lengths do not fit, reserved bytes are set, or the name is none.
    pub fn check(body: &Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new(WHAT, body.clone());
        let raw: RawAcknowledge = reader.pod()?;
        reader.reserved(&raw.reserved)?;
        let name = reader.take(u64::from(raw.name_bytes.get()))?;
        reader.finish()?;
        let consumer = std::str::from_utf8(&name)
            .map_err(|_| BodyError::NotText {
                what: WHAT,
                field: "the consumer's name",
            })?
            .to_owned();
        check_name(&consumer)?;
        Ok(Self {
            partition: Uuid::from_bytes(raw.partition),
            next_event_id: EventId::new(raw.next_event_id.get()),
            consumer,
        })
    }
}

fn check_name(name: &str) -> Result<(), BodyError> {
    let (field, value, max) = (
        "the length of the consumer's name",
        wide(name.len()),
        wide(CONSUMER_NAME_BYTES_MAX),
    );
    if value == 0 {
        return Err(BodyError::Invalid {
            what: WHAT,
            field,
            value,
            rule: "a consumer must have a name",
        });
    }
    if value > max {
        return Err(BodyError::TooLarge {
            what: WHAT,
            field,
            value,
            max,
        });
    }
    Ok(())
}

/// The cursor is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgeResponse {
    /// Where it is now: not before what was asked for, maybe beyond.
    pub next_event_id: EventId,
}

impl AcknowledgeResponse {
    /// The answer as it is sent: 8 bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.next_event_id.get().to_le_bytes())
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is not 8 bytes.
    pub fn check(body: &Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("acknowledge answer", body.clone());
        let next: Le64 = reader.pod()?;
        reader.finish()?;
        Ok(Self {
            next_event_id: EventId::new(next.get()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encode_then_check_is_identity(partition: u128, next: u64, consumer in "\\PC{1,60}") {
            let request = AcknowledgeRequest {
                partition: Uuid::from_u128(partition),
                next_event_id: EventId::new(next),
                consumer,
            };
            prop_assert_eq!(&AcknowledgeRequest::check(&request.encode().unwrap()).unwrap(), &request);
            let answer = AcknowledgeResponse { next_event_id: request.next_event_id };
            prop_assert_eq!(AcknowledgeResponse::check(&answer.encode()).unwrap(), answer);
        }

        #[test]
        fn check_never_panics(bytes: Vec<u8>) {
            AcknowledgeRequest::check(&bytes.clone().into()).ok();
            AcknowledgeResponse::check(&bytes.into()).ok();
        }
    }

    #[test]
    fn names_are_bounded_and_whole() {
        let named = |consumer: String| AcknowledgeRequest {
            partition: Uuid::nil(),
            next_event_id: EventId::new(1),
            consumer,
        };
        assert!(named(String::new()).encode().is_err());
        assert!(named("x".repeat(CONSUMER_NAME_BYTES_MAX + 1)).encode().is_err());
        let body = named("é".to_owned()).encode().unwrap();
        assert!(AcknowledgeRequest::check(&body.slice(..body.len() - 1)).is_err());
        let mut cut = body.to_vec();
        cut.truncate(body.len() - 1);
        cut[24] = 1;
        assert!(matches!(
            AcknowledgeRequest::check(&cut.into()),
            Err(BodyError::NotText { .. })
        ));
    }
}
