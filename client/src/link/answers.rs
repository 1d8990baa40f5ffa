//! What becomes of requests, and who is told.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mofka_net::WireError;

use super::connection::Connection;
use super::kept::Kept;

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) reason: Arc<str>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Response(Bytes),
    Refused(WireError),
    /// The connection ended first: it may or may not have been done.
    Lost(Lost),
}

/// Who takes the feeds of a subscription. Nothing here may block.
pub(crate) trait Sink: Send + Sync {
    /// A feed came.
    fn feed(&self, connection: &Arc<Connection>, body: Bytes);
    /// The node ended the subscription.
    fn ended(&self, connection: &Arc<Connection>, error: WireError);
    /// The connection ended.
    fn lost(&self, connection: &Arc<Connection>, lost: &Lost);
}

/// Who numbers what it asks for, so that nothing has to be made for each request.
pub(crate) trait Asker: Send + Sync {
    /// The answer to the request with this number, once, from the reader thread or whoever ends the connection, with no lock
    /// held. Must not block.
    fn answered(&self, connection: &Arc<Connection>, number: u64, answer: Answer);
}

/// Who is told, once, as an [`Asker`] is.
pub(super) enum Handler {
    Call(Box<dyn FnOnce(Answer) + Send>),
    Asker {
        asker: Arc<dyn Asker>,
        number: u64,
        /// The node may read it until it has answered, whatever becomes of the request meanwhile.
        kept: Option<Arc<Kept>>,
    },
}

impl Handler {
    pub(super) fn tell(self, connection: &Arc<Connection>, answer: Answer) {
        match self {
            Self::Call(call) => call(answer),
            Self::Asker { asker, number, kept } => {
                drop(kept);
                asker.answered(connection, number, answer);
            }
        }
    }
}

/// A frame whose parts stay where they are as long as it is sent: what is copied into a ring needs no more than that.
pub(crate) struct LentFrame<'a> {
    /// Its header, and what goes before what is kept.
    pub(crate) head: &'a [u8],
    pub(crate) first: &'a Bytes,
    pub(crate) others: &'a [Bytes],
}

/// Parts that are lent at once; a frame of more is sent in pieces.
const PARTS_MAX: usize = 6;

impl LentFrame<'_> {
    /// Calls `send` with the parts; `None`: they are too many.
    pub(super) fn with_parts<T>(&self, send: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        let mut parts: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
        let parts = parts.get_mut(..2 + self.others.len())?;
        let all = [self.head, self.first].into_iter();
        let all = all.chain(self.others.iter().map(Bytes::as_ref));
        parts.iter_mut().zip(all).for_each(|(to, part)| *to = part);
        Some(send(parts))
    }

    /// The same as pieces that can be kept.
    pub(super) fn to_pieces(&self) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(2 + self.others.len());
        pieces.extend([Bytes::copy_from_slice(self.head), self.first.clone()]);
        pieces.extend_from_slice(self.others);
        pieces
    }
}
