//! A node for tests: partitions in memory, real frames on real sockets, and trouble on demand.

mod serving;
mod state;

use std::collections::HashMap;
use std::future::Future;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use mofka_client::{Driver, DriverOptions, TopicHandle, TopicOptions};
use mofka_net::GroupFile;
use uuid::Uuid;

pub(crate) use state::{Action, State};

/// A node, until it is dropped.
pub(crate) struct Node {
    shared: Arc<Shared>,
    group_file: PathBuf,
    listening: Mutex<Option<Listening>>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    connections: Mutex<HashMap<u64, TcpStream>>,
}

struct Listening {
    address: String,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Node {
    /// A node that listens on a port of its own and has written its group file.
    pub(crate) fn start() -> Self {
        let group_file = std::env::temp_dir().join(format!("mofka-client-it-{}.json", Uuid::new_v4()));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            connections: Mutex::default(),
        });
        let node = Self {
            shared,
            group_file,
            listening: Mutex::new(None),
        };
        node.come_back();
        node
    }

    /// Listens, on another port than before, and writes the group file anew.
    pub(crate) fn come_back(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        self.state().moved_to(&address);
        let group = GroupFile::of_node(vec![vec![address.clone()]], Uuid::from_u128(1)).unwrap();
        std::fs::write(&self.group_file, group.to_json()).unwrap();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serving::accept(&shared, &listener, &stopped));
        *self.listening.lock().unwrap() = Some(Listening {
            address,
            stop,
            thread,
        });
    }

    /// Stops listening and ends every connection, like a process that is killed. What it stored stays.
    pub(crate) fn go_away(&self) {
        if let Some(listening) = self.listening.lock().unwrap().take() {
            listening.stop.store(true, std::sync::atomic::Ordering::SeqCst);
            // Wakes the thread.
            TcpStream::connect(listening.address.trim_start_matches("tcp://")).ok();
            listening.thread.join().unwrap();
        }
        self.drop_connections();
    }

    /// Ends every connection.
    pub(crate) fn drop_connections(&self) {
        let connections = std::mem::take(&mut *self.shared.connections.lock().unwrap());
        self.state().forget_connections();
        for connection in connections.into_values() {
            connection.shutdown(Shutdown::Both).ok();
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Does something to the state, and sends the feeds that come of it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let changed = change(&mut state);
        serving::pump(&self.shared, state);
        changed
    }

    /// What to do with each batch that comes.
    pub(crate) fn on_produce(&self, mut action: impl FnMut(&mofka_log::Batch) -> Action + Send + 'static) {
        self.on_produce_at(move |_, batch| action(batch));
    }

    /// The same, with the partition that it is for.
    pub(crate) fn on_produce_at(
        &self,
        action: impl FnMut(Uuid, &mofka_log::Batch) -> Action + Send + 'static,
    ) {
        self.state().on_produce = Box::new(action);
    }

    pub(crate) fn options(&self) -> DriverOptions {
        DriverOptions {
            connect_timeout: Duration::from_millis(500),
            reconnect_timeout: Duration::from_secs(10),
            ..DriverOptions::group_file(&self.group_file)
        }
    }

    pub(crate) fn driver(&self) -> Driver {
        Driver::connect(self.options()).unwrap()
    }

    /// A new topic with this many partitions.
    pub(crate) fn topic(&self, partitions: u32) -> TopicHandle {
        let name = format!("t{}", Uuid::new_v4().simple());
        self.driver()
            .create_topic(TopicOptions::new(name).partitions(partitions))
            .unwrap()
    }

    /// The metadata of all stored events of a partition, as text.
    pub(crate) fn stored(&self, topic: &TopicHandle, partition: usize) -> Vec<String> {
        self.state().stored(topic.partitions()[partition].id)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.go_away();
        std::fs::remove_file(&self.group_file).ok();
    }
}

/// Waits until something holds; panics when it does not within ten seconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The smallest executor there is.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
