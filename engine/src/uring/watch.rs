//! Sockets that the ring of a shard notices while the shard waits in it.
//!
//! A socket is watched with one poll at a time, and only while its reader waits for more: what nobody is going to read yet
//! must not wake the shard again and again.
//!
//! What the ring noticed is read from the socket at once. The runtime polls it too, for when it is the runtime that the shard
//! sleeps in; but it would find out only when it looks at its own rings, which costs four system calls.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::AsyncRead;
use rustix::net::RecvFlags;

/// The sockets of one shard. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Watches(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    sockets: Vec<Socket>,
    free: Vec<usize>,
    /// Places whose socket may have to be polled, or no longer.
    changed: Vec<usize>,
    /// Something came that nobody has read yet.
    came: bool,
    /// Places of bells that rang.
    rang: Vec<usize>,
    /// Reads that brought something, in all.
    reads: u64,
    /// Who carries out the changes, when he sleeps.
    attendant: Option<Waker>,
    /// Whose sockets have something, and who were not told.
    woken: Vec<Waker>,
}

#[derive(Clone, Debug, Default)]
struct Socket {
    fd: RawFd,
    /// It is the bell of a ring in shared memory.
    is_bell: bool,
    /// Its reader waits for more.
    waits: bool,
    /// To be woken then.
    waker: Option<Waker>,
    /// A poll said that there is something, which was not all read yet.
    is_ready: bool,
    /// A poll is under way.
    polled: bool,
    /// Something was read since that poll began.
    read: bool,
    /// Its reader is gone: the place is free when no poll is under way any more.
    gone: bool,
    /// The place is among the changed ones.
    listed: bool,
}

/// What the ring is to do for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Say when something comes.
    Poll { place: usize, fd: RawFd },
    /// Give that up.
    Cancel { place: usize },
}

impl Watches {
    /// What is to be done now. The caller does it.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut table = self.0.borrow_mut();
        let table = &mut *table;
        let mut changes = Vec::new();
        for place in table.changed.drain(..) {
            let Some(socket) = table.sockets.get_mut(place) else {
                unreachable!("places are never taken away")
            };
            socket.listed = false;
            match socket {
                Socket {
                    gone: true,
                    polled: true,
                    ..
                } => changes.push(Change::Cancel { place }),
                Socket { gone: true, .. } => table.free.push(place),
                Socket {
                    waits: true,
                    polled: false,
                    fd,
                    ..
                } => {
                    changes.push(Change::Poll { place, fd: *fd });
                    socket.polled = true;
                    socket.read = false;
                }
                _ => {}
            }
        }
        changes
    }

    /// The poll of this place is over, for whatever reason.
    pub(super) fn ended(&self, place: usize) {
        let mut table = self.0.borrow_mut();
        let Some(socket) = table.sockets.get_mut(place) else {
            unreachable!("a poll of a socket that was never watched")
        };
        socket.polled = false;
        let (is_news, is_open) = (socket.waits && !socket.read, socket.waits || socket.gone);
        socket.is_ready |= is_news;
        let woken = socket.waker.take_if(|_| is_news);
        match socket.is_bell {
            true if is_news => table.rang.push(place),
            _ => table.came |= is_news,
        }
        table.woken.extend(woken);
        if is_open {
            table.list(place);
        }
    }

    /// Whether something came that nobody had read yet. Asked once, it is forgotten.
    pub(super) fn take_came(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().came)
    }

    /// Who is to read what came. Asked once, they are forgotten.
    pub(super) fn take_woken(&self) -> Vec<Waker> {
        std::mem::take(&mut self.0.borrow_mut().woken)
    }

    /// Whether [`Watches::take_came`] would say so.
    pub(super) fn has_come(&self) -> bool {
        self.0.borrow().came
    }

    /// Whether a bell rang that nobody knows of.
    pub(super) fn has_rung(&self) -> bool {
        !self.0.borrow().rang.is_empty()
    }

    /// The places of those that did. Asked once, they are forgotten.
    pub(super) fn take_rung(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.borrow_mut().rang)
    }

    /// Watches the bell of a ring in shared memory, as long as what this returns is held.
    pub(super) fn watch_bell(&self, fd: RawFd) -> Watch {
        let place = self.add(fd, true);
        Watch {
            watches: self.clone(),
            place,
        }
    }

    /// Changes when something is read.
    pub(super) fn reads(&self) -> u64 {
        self.0.borrow().reads
    }

    /// Whether polls of sockets that are gone must be given up; if not, `attendant` is woken when they must.
    pub(super) fn is_urgent(&self, attendant: &Waker) -> bool {
        let mut table = self.0.borrow_mut();
        let is_urgent = table
            .changed
            .iter()
            .filter_map(|place| table.sockets.get(*place))
            .any(|socket| socket.gone && socket.polled);
        if !is_urgent {
            table.attendant = Some(attendant.clone());
        }
        is_urgent
    }

    fn add(&self, fd: RawFd, is_bell: bool) -> usize {
        let mut table = self.0.borrow_mut();
        let socket = Socket {
            fd,
            is_bell,
            ..Socket::default()
        };
        match table.free.pop() {
            Some(place) => {
                if let Some(free) = table.sockets.get_mut(place) {
                    *free = socket;
                }
                place
            }
            None => {
                table.sockets.push(socket);
                table.sockets.len() - 1
            }
        }
    }

    /// Its reader read something, or waits and is to be woken.
    fn note_read(&self, place: usize, is_read: bool, waker: Option<&Waker>) {
        let mut table = self.0.borrow_mut();
        table.reads = table.reads.wrapping_add(u64::from(is_read));
        let Some(socket) = table.sockets.get_mut(place) else {
            unreachable!("a watched socket has a place")
        };
        socket.waits = !is_read;
        socket.read |= is_read;
        match (waker, &mut socket.waker) {
            (Some(waker), Some(known)) => known.clone_from(waker),
            (waker, known) => *known = waker.cloned(),
        }
        if socket.waits && !socket.polled {
            table.list(place);
        }
    }

    /// Whether a poll said that there is something to read: until [`Watches::note_emptied`].
    fn is_ready(&self, place: usize) -> bool {
        self.0
            .borrow()
            .sockets
            .get(place)
            .is_some_and(|socket| socket.is_ready)
    }

    /// Nothing is left to be read, as far as is known.
    fn note_emptied(&self, place: usize) {
        if let Some(socket) = self.0.borrow_mut().sockets.get_mut(place) {
            socket.is_ready = false;
        }
    }

    fn remove(&self, place: usize) {
        let mut table = self.0.borrow_mut();
        let Some(socket) = table.sockets.get_mut(place) else {
            unreachable!("a watched socket has a place")
        };
        socket.gone = true;
        socket.waits = false;
        if !socket.polled {
            // Nobody may look for changes for a long time: a node without log partitions never waits in its ring.
            table.changed.retain(|changed| *changed != place);
            table.free.push(place);
            return;
        }
        table.list(place);
        let attendant = table.attendant.take();
        drop(table);
        // Until its poll is given up the socket stays open, whoever closes it.
        attendant.into_iter().for_each(Waker::wake);
    }
}

impl Table {
    fn list(&mut self, place: usize) {
        if let Some(socket) = self.sockets.get_mut(place)
            && !std::mem::replace(&mut socket.listed, true)
        {
            self.changed.push(place);
        }
    }
}

/// A descriptor that is watched.
pub(super) struct Watch {
    watches: Watches,
    place: usize,
}

impl Watch {
    /// Which one it is.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Somebody waits for it to become readable.
    pub(super) fn waits(&self) {
        self.watches.note_read(self.place, false, None);
    }

    /// Nobody waits any more: it is read.
    pub(super) fn came(&self) {
        self.watches.note_read(self.place, true, None);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watches.remove(self.place);
    }
}

/// A reader whose socket is watched.
pub(super) struct Watched<R> {
    /// The runtime's. It has the socket.
    reader: R,
    fd: RawFd,
    watch: Watch,
}

impl<R> Watched<R> {
    /// Watches the socket that `reader` reads from, and closes.
    pub(super) fn new(reader: R, fd: RawFd, watches: Watches) -> Self {
        let place = watches.add(fd, false);
        Self {
            reader,
            fd,
            watch: Watch { watches, place },
        }
    }

    /// Reads what the ring noticed; `None` when there is nothing, or nobody knows.
    fn read_noticed(&self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let Watch { watches, place } = &self.watch;
        if !watches.is_ready(*place) {
            return None;
        }
        // SAFETY: `reader` has the socket, which is open as long as it lives.
        let socket = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let room = buf.len();
        let read = match rustix::net::recv(socket, buf, RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => Some(Ok(bytes)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(error) => Some(Err(error.into())),
        };
        if !matches!(read, Some(Ok(bytes)) if bytes == room) {
            watches.note_emptied(*place);
        }
        read
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let read = match this.read_noticed(buf) {
            Some(read) => Poll::Ready(read),
            None => Pin::new(&mut this.reader).poll_read(context, buf),
        };
        let waker = read.is_pending().then(|| context.waker());
        this.watch
            .watches
            .note_read(this.watch.place, read.is_ready(), waker);
        read
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use futures_lite::AsyncReadExt;
    use futures_lite::future::{self, block_on};

    use super::*;

    /// Gives one byte when it may.
    #[derive(Clone, Default)]
    struct Tap(Rc<std::cell::Cell<bool>>);

    impl AsyncRead for Tap {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            match self.0.take() {
                true => Poll::Ready(Ok(1)),
                false => Poll::Pending,
            }
        }
    }

    fn try_read(reader: &mut Watched<Tap>) -> bool {
        let mut byte = [0];
        block_on(future::poll_once(reader.read(&mut byte))).is_some()
    }

    #[test]
    fn a_socket_is_polled_once_while_its_reader_waits() {
        let (watches, tap) = (Watches::default(), Tap::default());
        let (socket, _other) = UnixStream::pair().unwrap();
        let fd = socket.as_raw_fd();
        let mut reader = Watched::new(tap.clone(), fd, watches.clone());
        assert_eq!(watches.changes(), [], "nobody reads yet");
        assert!(!try_read(&mut reader) && !try_read(&mut reader));
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd }]);
        assert!(!try_read(&mut reader));
        assert_eq!(watches.changes(), [], "it is polled already");
        watches.ended(0);
        assert!(watches.take_came() && !watches.take_came());
        tap.0.set(true);
        assert!(try_read(&mut reader));
        assert_eq!(watches.changes(), [], "its reader does not wait");
        assert!(!try_read(&mut reader));
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd }]);
    }

    #[test]
    fn what_the_ring_noticed_is_read_though_the_runtime_does_not_know_of_it() {
        let (socket, mut other) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let fd = socket.as_raw_fd();
        let (watches, tap) = (Watches::default(), Tap::default());
        let mut reader = Watched::new(tap.clone(), fd, watches.clone());
        let read = |reader: &mut Watched<Tap>| {
            let mut buf = [0; 4];
            let read = block_on(future::poll_once(reader.read(&mut buf)));
            read.map(|read| buf[..read.unwrap()].to_vec())
        };
        other.write_all(b"abcdefg").unwrap();
        assert_eq!(read(&mut reader), None, "nobody knows of it");
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd }]);
        watches.ended(0);
        assert_eq!((watches.take_woken().len(), watches.take_woken().len()), (1, 0));
        assert_eq!(read(&mut reader), Some(b"abcd".to_vec()));
        assert_eq!(
            read(&mut reader),
            Some(b"efg".to_vec()),
            "a full read does not say that it was all"
        );
        other.write_all(b"hi").unwrap();
        assert_eq!(read(&mut reader), None, "a short one does, as far as is known");
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd }]);
        drop(other);
        watches.ended(0);
        assert_eq!(read(&mut reader), Some(b"hi".to_vec()));
        assert_eq!(read(&mut reader), None);
        watches.changes();
        watches.ended(0);
        assert_eq!(read(&mut reader), Some(Vec::new()), "the end");
        // And what the runtime finds first.
        tap.0.set(true);
        assert_eq!(read(&mut reader), Some(vec![0]));
    }

    #[test]
    fn what_was_read_before_its_poll_ended_is_no_news() {
        let (watches, tap) = (Watches::default(), Tap::default());
        let mut reader = Watched::new(tap.clone(), 7, watches.clone());
        assert!(!try_read(&mut reader));
        assert_eq!(watches.changes().len(), 1);
        tap.0.set(true);
        assert!(try_read(&mut reader) && !try_read(&mut reader));
        watches.ended(0);
        assert!(!watches.take_came());
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd: 7 }]);
    }

    #[test]
    fn a_bell_that_rings_is_told_by_its_place_and_is_nothing_to_read() {
        let watches = Watches::default();
        let bell = watches.watch_bell(7);
        bell.waits();
        assert_eq!(watches.changes(), [Change::Poll { place: 0, fd: 7 }]);
        watches.ended(0);
        assert!(watches.has_rung() && !watches.has_come());
        assert_eq!((watches.take_rung(), watches.take_rung()), (vec![0], vec![]));
        bell.came();
        assert_eq!(watches.changes(), [], "nobody waits for it");
        watches.ended(0);
        assert!(!watches.has_rung());
    }

    #[test]
    fn a_place_is_used_again_when_its_poll_is_over() {
        let watches = Watches::default();
        let mut reader = Watched::new(Tap::default(), 7, watches.clone());
        assert!(!try_read(&mut reader));
        assert_eq!(watches.changes().len(), 1);
        drop(reader);
        assert!(watches.is_urgent(Waker::noop()));
        assert_eq!(watches.changes(), [Change::Cancel { place: 0 }]);
        let other = Watched::new(Tap::default(), 8, watches.clone());
        assert_eq!(other.watch.place, 1, "the first place is still in use");
        watches.ended(0);
        assert_eq!(watches.changes(), []);
        assert!(!watches.is_urgent(Waker::noop()));
        assert_eq!(Watched::new(Tap::default(), 9, watches.clone()).watch.place, 0);
        drop(other);
        assert!(!watches.take_came());
    }

    #[test]
    fn places_are_used_again_although_nobody_looks_for_changes() {
        let watches = Watches::default();
        for _ in 0..10 {
            let mut reader = Watched::new(Tap::default(), 7, watches.clone());
            assert_eq!(reader.watch.place, 0);
            assert!(!try_read(&mut reader));
        }
        assert_eq!(watches.changes(), []);
    }
}
