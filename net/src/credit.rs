//! More feeds are welcome. There is no answer.
//!
//! ```text
//! at  0             8        12        16
//!     subscription  credits  reserved
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use mofka_log::le::{Le32, Le64};

use crate::body::{BodyError, BodyReader};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawCredit {
    subscription: Le64,
    credits: Le32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<RawCredit>() == 16);

/// Allows a subscription more feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditRequest {
    /// Which one.
    pub subscription: u64,
    /// How many more.
    pub credits: u32,
}

impl CreditRequest {
    /// The request as it is sent.
    pub fn encode(&self) -> Bytes {
        let raw = RawCredit {
            subscription: Le64::from(self.subscription),
            credits: Le32::from(self.credits),
            reserved: [0; 4],
        };
        Bytes::copy_from_slice(bytemuck::bytes_of(&raw))
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is not 16 bytes or reserved ones are set.
    pub fn check(body: &Bytes) -> Result<Self, BodyError> {
        let mut reader = BodyReader::new("credit request", body.clone());
        let raw: RawCredit = reader.pod()?;
        reader.reserved(&raw.reserved)?;
        reader.finish()?;
        Ok(Self {
            subscription: raw.subscription.get(),
            credits: raw.credits.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn credit_survives(subscription: u64, credits: u32, junk: Vec<u8>) {
            let request = CreditRequest { subscription, credits };
            prop_assert_eq!(CreditRequest::check(&request.encode()).unwrap(), request);
            CreditRequest::check(&junk.into()).ok();
        }
    }
}
