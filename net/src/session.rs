//! What the server remembers of one connection, and credit. No sockets: the caller brings the bytes.

use crate::control::HelloRequest;
use crate::error::{ErrorCode, WireError};
use crate::frame::{FrameHeader, Opcode};
use crate::limits::{
    CLIENT_NAME_BYTES_MAX, CREDITS_MAX, FEATURES_EVERYWHERE, FRAME_BYTES_CEILING, HELLO_BYTES_MAX,
    VERSION_MAX, VERSION_MIN,
};

/// What hello led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The version to speak.
    pub version: u16,
    /// Features that both sides have, of [`FEATURES`](crate::limits::FEATURES).
    pub features: Vec<String>,
}

impl Negotiated {
    /// Whether both sides have this feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }
}

/// A connection, seen from the server: it greets, then works.
#[derive(Clone, Debug)]
pub struct ServerSession {
    frame_bytes_max: u64,
    offered: &'static [&'static str],
    negotiated: Option<Negotiated>,
}

impl ServerSession {
    /// A connection on which nothing was said yet. `frame_bytes_max` counts header and body, and holds after hello;
    /// before it frames are at most [`HELLO_BYTES_MAX`].
    pub fn new(frame_bytes_max: u64) -> Self {
        Self {
            frame_bytes_max: frame_bytes_max.min(FRAME_BYTES_CEILING),
            offered: &FEATURES_EVERYWHERE,
            negotiated: None,
        }
    }

    /// The same, on which these features can be had, and not only those that every connection has.
    #[must_use]
    pub fn offering(self, offered: &'static [&'static str]) -> Self {
        Self { offered, ..self }
    }

    /// Checks the header of the next frame. May be called again with the same bytes.
    ///
    /// # Errors
    /// When it is not a header, or announces more than may be sent now. The connection has to be closed: where the
    /// next frame begins is not known.
    pub fn check_header(&self, bytes: &[u8]) -> Result<FrameHeader, WireError> {
        let frame_bytes_max = match self.negotiated {
            Some(_) => self.frame_bytes_max,
            None => self.frame_bytes_max.min(HELLO_BYTES_MAX),
        };
        Ok(FrameHeader::check(bytes, frame_bytes_max)?)
    }

    /// Checks a frame's body against its header.
    ///
    /// # Errors
    /// When it has another length or checksum.
    pub fn check_body(&self, header: &FrameHeader, body: &[u8]) -> Result<(), WireError> {
        Ok(header.check_body(body)?)
    }

    /// Whether a request may be made now: hello first, and once.
    ///
    /// # Errors
    /// When it may not. The connection can go on.
    pub fn admit(&self, opcode: Opcode) -> Result<(), WireError> {
        let refused = |message: &str| Err(WireError::new(ErrorCode::InvalidArgument, message));
        match (opcode, &self.negotiated) {
            (Opcode::Hello, Some(_)) => refused("hello was said before on this connection"),
            (Opcode::Hello, None) | (_, Some(_)) => Ok(()),
            (_, None) => refused("a connection begins with hello"),
        }
    }

    /// Takes the client's hello.
    ///
    /// # Errors
    /// When there is no version that both sides speak, or the request makes no sense.
    pub fn hello(&mut self, request: &HelloRequest) -> Result<Negotiated, WireError> {
        self.admit(Opcode::Hello)?;
        let (min, max) = (request.version_min, request.version_max);
        if min > max || request.client.len() > CLIENT_NAME_BYTES_MAX {
            let message = format!(
                "hello with versions {min} to {max} and a name of {} bytes (at most {CLIENT_NAME_BYTES_MAX})",
                request.client.len()
            );
            return Err(WireError::new(ErrorCode::InvalidArgument, message));
        }
        let version = max.min(VERSION_MAX);
        if version < min || version < VERSION_MIN {
            let message = format!(
                "the client speaks versions {min} to {max} of the protocol, this node {VERSION_MIN} to {VERSION_MAX}"
            );
            return Err(WireError::new(ErrorCode::UnsupportedVersion, message));
        }
        let offered = self.offered.iter().map(|feature| (*feature).to_owned());
        let negotiated = Negotiated {
            version,
            features: offered
                .filter(|feature| request.features.contains(feature))
                .collect(),
        };
        self.negotiated = Some(negotiated.clone());
        Ok(negotiated)
    }

    /// Whether both sides have this feature.
    pub fn has(&self, feature: &str) -> bool {
        self.negotiated.as_ref().is_some_and(|agreed| agreed.has(feature))
    }

    /// What hello led to, if it was said.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }
}

/// What a peer may still send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    available: u32,
}

impl Credits {
    /// Adds credit.
    ///
    /// # Errors
    /// When the sum is beyond [`CREDITS_MAX`]; nothing is added then.
    pub fn grant(&mut self, more: u32) -> Result<(), WireError> {
        match self.available.checked_add(more).filter(|sum| *sum <= CREDITS_MAX) {
            Some(sum) => {
                self.available = sum;
                Ok(())
            }
            None => Err(WireError::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{more} credits on top of {} are more than the {CREDITS_MAX} that make sense",
                    self.available
                ),
            )),
        }
    }

    /// Uses one credit; `false` when there is none.
    #[must_use]
    pub fn take(&mut self) -> bool {
        match self.available.checked_sub(1) {
            Some(rest) => {
                self.available = rest;
                true
            }
            None => false,
        }
    }

    /// What is left.
    pub fn available(&self) -> u32 {
        self.available
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(version_min: u16, version_max: u16) -> HelloRequest {
        HelloRequest {
            version_min,
            version_max,
            client: "test".into(),
            features: vec![],
            token: None,
        }
    }

    #[test]
    fn hello_comes_first_and_once() {
        let mut session = ServerSession::new(1 << 30);
        assert!(session.admit(Opcode::Produce).is_err());
        session.admit(Opcode::Hello).unwrap();
        assert_eq!(session.hello(&hello(1, 7)).unwrap().version, 1);
        session.admit(Opcode::Produce).unwrap();
        assert!(session.admit(Opcode::Hello).is_err());
        assert!(session.hello(&hello(1, 1)).is_err());
    }

    #[test]
    fn a_refused_hello_may_be_said_better() {
        let mut session = ServerSession::new(1 << 30);
        assert_eq!(
            session.hello(&hello(2, 9)).unwrap_err().code,
            ErrorCode::UnsupportedVersion
        );
        assert_eq!(
            session.hello(&hello(0, 0)).unwrap_err().code,
            ErrorCode::UnsupportedVersion
        );
        assert_eq!(
            session.hello(&hello(2, 1)).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
        assert!(session.negotiated().is_none());
        session.hello(&hello(0, 1)).unwrap();
    }

    #[test]
    fn strangers_get_small_frames() {
        let mut session = ServerSession::new(1 << 30);
        let large = FrameHeader::self_checked(Opcode::Produce, 1, 1 << 20);
        assert_eq!(
            session.check_header(&large).unwrap_err().code,
            ErrorCode::TooLarge
        );
        session.hello(&hello(1, 1)).unwrap();
        session.check_header(&large).unwrap();
        let limited = ServerSession::new(100);
        assert!(
            limited
                .check_header(&FrameHeader::request(Opcode::Hello, 1, &[0; 69]))
                .is_err()
        );
        assert!(
            limited
                .check_header(&FrameHeader::request(Opcode::Hello, 1, &[0; 68]))
                .is_ok()
        );
    }

    proptest! {
        #[test]
        fn credit_is_what_was_granted_less_what_was_taken(steps: Vec<Option<u32>>) {
            let (mut credits, mut model) = (Credits::default(), 0_u64);
            for step in steps {
                match step {
                    Some(more) => {
                        let fits = model + u64::from(more) <= u64::from(CREDITS_MAX);
                        prop_assert_eq!(credits.grant(more).is_ok(), fits);
                        model += if fits { u64::from(more) } else { 0 };
                    }
                    None => {
                        prop_assert_eq!(credits.take(), model > 0);
                        model = model.saturating_sub(1);
                    }
                }
                prop_assert_eq!(u64::from(credits.available()), model);
            }
        }
    }
}
