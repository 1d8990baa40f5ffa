//! What all futures of this library have in common.
//!
//! A future is self-contained: it may outlive what it came from. A timeout cancels nothing; waiting again is allowed
//! at any time and gives the same value again. Time is measured by the monotonic clock.

use std::task::Waker;

use crate::promise::Deadline;

/// How the public futures get their value.
pub(crate) trait Settle {
    type Value;
    type Error;

    /// Waits; `None` when the deadline is over.
    fn settle(&self, deadline: Deadline) -> Option<Result<Self::Value, Self::Error>>;

    /// The value, or else a promise to wake.
    fn settle_or_wake(&self, waker: &Waker) -> Option<Result<Self::Value, Self::Error>>;

    /// Whether waiting would return at once. Never blocks.
    fn is_settled(&self) -> bool;

    /// The same, or else a promise to wake. Takes nothing.
    fn is_settled_or_wake(&self, waker: &Waker) -> bool {
        self.settle_or_wake(waker).is_some()
    }
}

/// Gives a public future its methods.
macro_rules! future_methods {
    ($future:ty, $value:ty, $error:ty) => {
        impl $future {
            /// Waits as long as it takes.
            ///
            /// # Errors
            /// What went wrong; the same each time.
            pub fn wait(&self) -> Result<$value, $error> {
                use $crate::future::Settle;
                loop {
                    if let Some(settled) = self.settle($crate::promise::Deadline::Never) {
                        return settled;
                    }
                }
            }

            /// Waits at most this long; `None`: it did not come. Zero only looks.
            ///
            /// # Errors
            /// What went wrong; the same each time.
            pub fn wait_timeout(&self, timeout: std::time::Duration) -> Result<Option<$value>, $error> {
                $crate::future::Settle::settle(self, $crate::promise::Deadline::after(timeout)).transpose()
            }

            /// Waits at most this many milliseconds; negative: as long as it takes; 0 only looks.
            ///
            /// # Errors
            /// What went wrong; the same each time.
            pub fn wait_ms(&self, timeout_ms: i64) -> Result<Option<$value>, $error> {
                $crate::future::Settle::settle(self, $crate::promise::Deadline::after_ms(timeout_ms))
                    .transpose()
            }

            /// Whether waiting would return at once. Never blocks.
            pub fn completed(&self) -> bool {
                $crate::future::Settle::is_settled(self)
            }

            /// Whether waiting would return at once; if not, the waker is woken when it may. For those who share a future that others
            /// poll or wait for at the same time.
            pub fn completed_or_wake(&self, waker: &std::task::Waker) -> bool {
                $crate::future::Settle::is_settled_or_wake(self, waker)
            }
        }

        impl std::future::Future for $future {
            type Output = Result<$value, $error>;

            fn poll(
                self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                match $crate::future::Settle::settle_or_wake(&*self, context.waker()) {
                    Some(settled) => std::task::Poll::Ready(settled),
                    None => std::task::Poll::Pending,
                }
            }
        }
    };
}
pub(crate) use future_methods;
