//! How many rings the node gives, and how much memory for them.

use std::sync::{Arc, Mutex, PoisonError};

use mofka_net::{ErrorCode, WireError};

use crate::limits::EngineLimits;

/// What the rings of all shards take. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RingQuota(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    bytes: u64,
}

/// A ring's part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    quota: RingQuota,
    bytes: u64,
}

impl RingQuota {
    /// Takes a place for one ring with so much memory.
    ///
    /// # Errors
    /// When that would be too much.
    pub(super) fn take(&self, bytes: u64, limits: &EngineLimits) -> Result<Seat, WireError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all_bytes = taken.bytes.saturating_add(bytes);
        let refused = |message: String| Err(WireError::new(ErrorCode::Overloaded, message));
        if taken.count >= limits.rings_max {
            return refused(format!(
                "this node has {} rings, as many as it gives (rings_max): go on over the socket",
                taken.count
            ));
        }
        if all_bytes > limits.rings_bytes_max {
            return refused(format!(
                "{bytes} bytes for a ring beside the {} that others have are more than this node gives (rings_bytes_max \
                 {}): go on over the socket, or ask for less",
                taken.bytes, limits.rings_bytes_max
            ));
        }
        taken.count += 1;
        taken.bytes = all_bytes;
        Ok(Seat {
            quota: self.clone(),
            bytes,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.quota.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.count -= 1;
        taken.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_given_up_to_their_number_and_their_bytes_and_again_when_one_went() {
        let limits = EngineLimits {
            rings_max: 2,
            rings_bytes_max: 100,
            ..EngineLimits::default()
        };
        let quota = RingQuota::default();
        let first = quota.take(60, &limits).unwrap();
        let refused = quota.take(41, &limits).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        let second = quota.take(40, &limits).unwrap();
        assert!(quota.take(0, &limits).unwrap_err().message.contains("rings_max"));
        drop(first);
        assert!(quota.take(61, &limits).is_err());
        drop((quota.take(60, &limits).unwrap(), second));
        drop(quota.take(100, &limits).unwrap());
    }
}
