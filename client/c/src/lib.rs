//! C interface of the client: `libmofka_c`, with `include/mofka.h`, which is made of these sources.
//!
//! The header's beginning (`header.txt`) says what holds for all functions: ownership, threads, errors, forks. What one
//! function means is its own comment. Here is how that is kept:
//!
//! - No panic crosses the border: everything that can fail runs in `status::guard`, all else cannot panic, and what is freed
//!   runs in `status::quietly`.
//! - A pointer that may be null and otherwise leads to a handle is an `Option` of a reference or of a box, which C calls as
//!   the same pointer: such functions need no unsafe block. Only texts, bytes and options have to be read (`border.rs`).
//! - Handles are shared by threads. What a handle changes is behind a lock, and a forked child asks who it is before it takes it.
#![deny(unsafe_code)]
#![allow(non_camel_case_types, reason = "the names are those of the header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "what callers promise is the same for all functions, and stands in header.txt"
)]
#![allow(unreachable_pub, reason = "they are reached from C")]

#[allow(unsafe_code)]
mod border;
#[allow(unsafe_code)]
mod callbacks;
#[allow(unsafe_code)]
mod components;
#[allow(unsafe_code)]
mod consumer;
#[allow(unsafe_code)]
mod data;
#[allow(unsafe_code)]
mod descriptor;
#[allow(unsafe_code)]
mod driver;
#[allow(unsafe_code)]
mod event;
#[allow(unsafe_code)]
mod fork;
#[allow(unsafe_code)]
mod future;
#[allow(unsafe_code)]
mod in_place;
#[allow(unsafe_code)]
mod options;
#[allow(unsafe_code)]
mod pool;
#[allow(unsafe_code)]
mod producer;
#[allow(unsafe_code)]
mod reference;
#[allow(unsafe_code)]
mod status;
#[allow(unsafe_code)]
mod stream;
#[allow(unsafe_code)]
mod topic;

/// What the header promises of handles: all threads may use them, also at the same time.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<driver::mofka_driver>();
    is_shared::<topic::mofka_topic>();
    is_shared::<producer::mofka_producer>();
    is_shared::<consumer::mofka_consumer>();
    is_shared::<event::mofka_event>();
    is_shared::<event::mofka_event_future>();
    is_shared::<future::mofka_future>();
    is_shared::<descriptor::mofka_descriptor>();
    is_shared::<in_place::mofka_in_place>();
    is_shared::<stream::mofka_writer>();
    is_shared::<stream::mofka_reader>();
    is_shared::<pool::mofka_thread_pool>();
    is_shared::<reference::mofka_data_ref>();
};
