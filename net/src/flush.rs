//! The barrier: answered, with an empty body, when all that a partition accepted before is durable.

use bytes::Bytes;
use uuid::Uuid;

use crate::body::{BodyError, BodyReader};

/// Asks for the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushRequest {
    /// Of which partition.
    pub partition: Uuid,
}

impl FlushRequest {
    /// The request as it is sent: the 16 bytes of the id.
    pub fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(self.partition.as_bytes())
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is not 16 bytes.
    pub fn check(body: &Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("flush request", body.clone());
        let partition: [u8; 16] = reader.pod()?;
        reader.finish()?;
        Ok(Self {
            partition: Uuid::from_bytes(partition),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_an_id() {
        let request = FlushRequest {
            partition: Uuid::from_u128(3),
        };
        assert_eq!(FlushRequest::check(&request.encode()).unwrap(), request);
        assert!(FlushRequest::check(&Bytes::from_static(&[0; 15])).is_err());
        assert!(FlushRequest::check(&Bytes::from_static(&[0; 17])).is_err());
    }
}
