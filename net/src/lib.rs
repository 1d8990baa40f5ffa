//! Wire protocol of Mofka: frames, requests and answers, data descriptors, addresses, the group file, and the
//! state machines of a session and of credit.
//!
//! Everything but [`shm`] is a function of bytes and values: no sockets, no files, no clock, no threads. Bytes from the
//! other side are *checked into* types that can then be trusted; nothing panics on any bytes, and every length is
//! bounded before it sizes anything. The formats are told in `docs/PROTOCOL.md`.
//!
//! | module | concept |
//! |---|---|
//! | `frame` | the 32-byte header of every frame, opcodes |
//! | `error` | error codes and the body of an error frame |
//! | [`control`] | requests and answers that are JSON |
//! | `produce`, `feed`, `fetch`, `acknowledge`, `credit`, `flush`, `stream` | bodies that are binary |
//! | `picked` | events that were taken out of their batches for one consumer |
//! | `descriptor`, `flatten`, `recipe` | which bytes of an event's data are meant |
//! | `address`, `group` | where nodes are |
//! | `pattern`, `schema` | which metadata is meant, which is allowed |
//! | `session` | what the server remembers of a connection; credit |
//! | [`shm`] | frames through shared memory, for clients on the same machine |
//! | [`limits`] | every bound |
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod acknowledge;
mod address;
mod body;
pub mod control;
mod credit;
mod descriptor;
mod error;
mod feed;
mod fetch;
mod flatten;
mod flush;
mod frame;
mod group;
pub mod limits;
mod pattern;
mod picked;
mod produce;
mod recipe;
mod reference;
mod schema;
mod selection;
mod session;
pub mod shm;
mod stream;
mod width;

pub use acknowledge::{AcknowledgeRequest, AcknowledgeResponse};
pub use address::{Address, AddressError};
pub use body::BodyError;
pub use credit::CreditRequest;
pub use descriptor::{DataDescriptor, DescriptorError, ViewError};
pub use error::{ErrorCode, WireError};
pub use feed::{FEED_HEADER_BYTES, FEED_ITEM_BYTES, Feed, FeedHeader, FeedItem, FeedItemView, FeedPart};
pub use fetch::{FetchItemError, FetchRequest, FetchResponse};
pub use flatten::{Flatten, Range};
pub use flush::FlushRequest;
pub use frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameKind, Opcode};
pub use group::{GroupError, GroupFile, GroupMember};
pub use pattern::{Pattern, PatternError};
pub use picked::{PICKED_EVENT_BYTES, PICKED_HEADER_BYTES, Picked, PickedBuilder, PickedEvent};
pub use produce::{
    PRODUCE_HINT_BYTES, PRODUCE_PREFIX_BYTES, PRODUCE_RESPONSE_BYTES, ProducePrefix, ProduceRequest,
    ProduceResponse, produce_data_at,
};
pub use recipe::Recipe;
pub use reference::{DataReference, ReferenceError};
pub use schema::{MetadataSchema, SchemaError};
pub use selection::{Segment, Selection, Strided};
pub use session::{Credits, Negotiated, ServerSession};
pub use stream::{STREAM_PREFIX_BYTES, StreamCommit, StreamPart, StreamPartResponse, StreamPrefix};
