//! Whether a shard has anything to do beside waiting for its files.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::AsyncRead;

/// Counts what happens on a shard. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Activity(Rc<Counts>);

#[derive(Default)]
struct Counts {
    all: Cell<u64>,
    arrivals: Cell<u64>,
}

impl Activity {
    /// Something happened.
    pub(super) fn note(&self) {
        self.0.all.set(self.0.all.get().wrapping_add(1));
    }

    /// Something came from a socket.
    fn note_arrival(&self) {
        self.note();
        self.0.arrivals.set(self.0.arrivals.get().wrapping_add(1));
    }

    /// Changes when something happens.
    pub(super) fn count(&self) -> u64 {
        self.0.all.get()
    }

    /// Changes when something comes from a socket.
    pub(super) fn arrivals(&self) -> u64 {
        self.0.arrivals.get()
    }
}

/// A reader whose every arrival counts.
pub(super) struct Watched<R> {
    reader: R,
    activity: Activity,
}

impl<R> Watched<R> {
    pub(super) fn new(reader: R, activity: Activity) -> Self {
        Self { reader, activity }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.reader).poll_read(context, buf);
        if read.is_ready() {
            this.activity.note_arrival();
        }
        read
    }
}
