//! The threads that answer by HTTP. No shard takes part but for a question when the last answer is older than [`FRESH`].
//!
//! Each connection has a thread, and may ask one thing within [`REQUEST_MAX`]. When there are as many as may be, the one that has
//! been silent longest makes way: whoever opens many and says nothing keeps nobody else out.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::exposition::Format;
use super::http::{Parsed, REQUEST_BYTES_MAX, Request, Response, parse};
use super::metrics::{self, Surroundings};
use super::process::{Disk, Process};
use super::{Monitoring, page, status};
use crate::measures::snapshot::NodeSnapshot;

/// How old what is told may be: so often at most are the shards asked.
pub const FRESH: Duration = Duration::from_millis(250);
/// How long a client has for its request, from its first byte to its last.
pub const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long it has to take the answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long is waited for the client to close, so that the answer is not lost with the connection.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// A thread's stack. What is large is on the heap.
const STACK_BYTES: usize = 256 << 10;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It opens its partitions.
    Starting,
    /// It serves.
    Serving,
    /// It finishes what it accepted.
    Stopping,
}

/// Where what is told comes from.
pub trait Source: Send + Sync + 'static {
    /// What the node does.
    fn phase(&self) -> Phase;

    /// A copy of all that is counted. Never called twice at once.
    ///
    /// # Errors
    /// Why there is none.
    fn snapshot(&self) -> Result<NodeSnapshot, String>;
}

/// What was told last.
struct Told {
    at: Instant,
    snapshot: NodeSnapshot,
    around: Surroundings,
    texts: HashMap<Form, Arc<Vec<u8>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Metrics(Format),
    Status,
}

struct Slot {
    number: u64,
    stream: Arc<TcpStream>,
    /// Its request has come.
    is_heard: bool,
}

struct Shared<S> {
    source: S,
    /// Changes while the node runs, but for where it listens.
    config: Arc<Mutex<Monitoring>>,
    on_loopback: bool,
    started_s: u64,
    told: Mutex<Option<Told>>,
    /// In the order in which they came.
    slots: Mutex<Vec<Slot>>,
    stop: AtomicBool,
}

/// See the module. Stops when dropped.
pub struct Server {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
    stop: Box<dyn Fn() + Send + Sync>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in there by a thread that panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Listens at this place.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(
        config: Arc<Mutex<Monitoring>>,
        (host, port): &(String, u16),
        source: impl Source,
    ) -> io::Result<Self> {
        let listener = Arc::new(TcpListener::bind((host.as_str(), *port))?);
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            source,
            config,
            on_loopback: is_loopback(address.ip()),
            started_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            told: Mutex::new(None),
            slots: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let (accepting, own) = (Arc::clone(&listener), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("mofka-http".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || accept(&accepting, &own))?;
        Ok(Self {
            address,
            listener,
            thread: Some(thread),
            stop: Box::new(move || {
                shared.stop.store(true, Ordering::SeqCst);
                for slot in &*lock(&shared.slots) {
                    slot.stream.shutdown(Shutdown::Both).ok();
                }
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether others than this machine's processes may reach it.
    pub fn is_open_to_others(&self) -> bool {
        !is_loopback(self.address.ip())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        (self.stop)();
        // The accept that waits ends with this.
        rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn accept<S: Source>(listener: &TcpListener, shared: &Arc<Shared<S>>) {
    let mut number = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if shared.stop.load(Ordering::SeqCst) => return,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection for metrics");
                // Running out of descriptors must not turn into a busy loop.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        number += 1;
        if let Some(stream) = shared.seat(number, stream) {
            serve_in_thread(shared, number, stream);
        }
    }
}

fn serve_in_thread<S: Source>(shared: &Arc<Shared<S>>, number: u64, stream: Arc<TcpStream>) {
    let own = Arc::clone(shared);
    let begun = std::thread::Builder::new()
        .name("mofka-http-peer".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _seat = Seat(&own, number);
            if let Err(error) = own.serve(number, &stream) {
                tracing::debug!(%error, "a connection for metrics ended");
            }
        });
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread for a connection for metrics");
        shared.leave(number);
    }
}

/// A place among the connections, given back when dropped.
struct Seat<'a, S>(&'a Shared<S>, u64);

impl<S> Drop for Seat<'_, S> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl<S> Shared<S> {
    /// Takes a connection in, if need be in place of the one that has been silent longest.
    fn seat(&self, number: u64, stream: TcpStream) -> Option<Arc<TcpStream>> {
        let stream = Arc::new(stream);
        let mut slots = lock(&self.slots);
        if slots.len() >= lock(&self.config).connections_max {
            let Some(silent) = slots.iter().position(|slot| !slot.is_heard) else {
                drop(slots);
                refuse(&stream);
                return None;
            };
            // Its thread ends by itself, and finds that its place is gone.
            let slot = slots.remove(silent);
            slot.stream.shutdown(Shutdown::Both).ok();
        }
        slots.push(Slot {
            number,
            stream: Arc::clone(&stream),
            is_heard: false,
        });
        Some(stream)
    }

    fn leave(&self, number: u64) {
        lock(&self.slots).retain(|slot| slot.number != number);
    }

    fn heard(&self, number: u64) {
        if let Some(slot) = lock(&self.slots).iter_mut().find(|slot| slot.number == number) {
            slot.is_heard = true;
        }
    }
}

/// All are being answered: this one is told so, if it can be done at once.
fn refuse(stream: &TcpStream) {
    let response = Response::text(503, "too many connections are being answered: try again later");
    let whole = [response.head(now()).as_slice(), response.body().as_slice()].concat();
    if stream.set_nonblocking(true).is_ok() {
        let mut stream = stream;
        stream.write_all(&whole).ok();
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl<S: Source> Shared<S> {
    fn serve(&self, number: u64, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (response, is_head) = match read_request(stream)? {
            Some(Parsed::Whole(request)) => {
                self.heard(number);
                (self.answer(&request), request.is_head)
            }
            Some(Parsed::Refused(response)) => (response, false),
            Some(Parsed::Partial) => (Response::text(408, "the request did not come in time"), false),
            None => return Ok(()),
        };
        let deadline = Instant::now() + ANSWER_MAX;
        write(stream, &response.head(now()), deadline)?;
        if !is_head {
            write(stream, response.body(), deadline)?;
        }
        linger(stream)
    }

    fn answer(&self, request: &Request) -> Response {
        if !request.has_known_host(self.on_loopback, &lock(&self.config).hosts) {
            let message = format!(
                "this is not \"{}\": ask by localhost or an address, or list the name under monitoring.hosts in the node's \
                 configuration",
                request.host.as_deref().unwrap_or_default()
            );
            return Response::text(421, &message);
        }
        match request.path.as_str() {
            "/" => page::response(),
            "/metrics" => {
                let format = match request.wants_openmetrics() {
                    true => Format::OpenMetrics,
                    false => Format::Prometheus,
                };
                self.tell(Form::Metrics(format), format.content_type())
                    .with_header("Vary", "Accept")
            }
            "/status.json" => self.tell(Form::Status, "application/json"),
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            other => Response::text(
                404,
                &format!(
                    "there is no {other:.100} here: /, /metrics, /status.json, /healthz and /readyz are"
                ),
            ),
        }
    }

    /// Whether the process should be left alone: its shards answer, or it opens or finishes something.
    fn health(&self) -> Response {
        match self.source.phase() {
            Phase::Starting => Response::text(200, "starting"),
            Phase::Stopping => Response::text(200, "stopping"),
            Phase::Serving => match self.with_told(|_| ()) {
                Ok(()) => Response::text(200, "ok"),
                Err(reason) => Response::text(503, &reason),
            },
        }
    }

    /// Whether clients should be sent here. A partition that is not well is no reason not to: the others are served.
    fn readiness(&self) -> Response {
        match self.source.phase() {
            Phase::Starting => Response::text(503, "starting: partitions are being opened"),
            Phase::Stopping => Response::text(503, "stopping"),
            Phase::Serving => match self.with_told(|_| ()) {
                Ok(()) => Response::text(200, "ready"),
                Err(reason) => Response::text(503, &reason),
            },
        }
    }

    fn tell(&self, form: Form, content_type: &'static str) -> Response {
        let text = self.with_told(|told| {
            if let Some(text) = told.texts.get(&form) {
                return Arc::clone(text);
            }
            let text = match form {
                Form::Metrics(format) => {
                    metrics::render(&told.snapshot, &told.around, &lock(&self.config), format).into_bytes()
                }
                Form::Status => {
                    let status = status::of(&told.snapshot, &told.around);
                    // Its structures have no maps with keys other than text.
                    serde_json::to_vec(&status).unwrap_or_default()
                }
            };
            let text = Arc::new(text);
            told.texts.insert(form, Arc::clone(&text));
            text
        });
        match text {
            Ok(text) => Response::new(200, content_type, text),
            Err(reason) => Response::text(503, &reason),
        }
    }

    /// Looks at what was told last or, when that is too old, asks anew. One at a time: who comes meanwhile gets the same.
    fn with_told<R>(&self, look: impl FnOnce(&mut Told) -> R) -> Result<R, String> {
        let mut told = lock(&self.told);
        let told = match told.take().filter(|told| told.at.elapsed() < FRESH) {
            Some(fresh) => told.insert(fresh),
            None => {
                match self.source.phase() {
                    Phase::Serving => {}
                    Phase::Starting => return Err("starting: partitions are being opened".to_owned()),
                    Phase::Stopping => return Err("stopping".to_owned()),
                }
                let snapshot = self.source.snapshot()?;
                let around = Surroundings {
                    process: Process::look(),
                    disk: Disk::look(&snapshot.data_dir),
                    started_s: self.started_s,
                };
                told.insert(Told {
                    at: Instant::now(),
                    snapshot,
                    around,
                    texts: HashMap::new(),
                })
            }
        };
        Ok(look(told))
    }
}

/// What came within the time that there is; `None` when that was nothing.
fn read_request(mut stream: &TcpStream) -> io::Result<Option<Parsed>> {
    let deadline = Instant::now() + REQUEST_MAX;
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((!bytes.is_empty()).then_some(Parsed::Partial));
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(read) => read,
            // Looks at the time again.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        bytes.truncate(REQUEST_BYTES_MAX);
        match parse(&bytes) {
            Parsed::Partial => {}
            parsed => return Ok(Some(parsed)),
        }
    }
}

fn write(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the client read all before the connection goes: what it may still send would make the system throw the answer away.
fn linger(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LINGER_MAX;
    let mut sink = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut sink) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}
