//! How the threads for metrics ask the shards: they ring a socket that the first shard listens to like to any client's, and
//! it asks the others.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use glommio::net::UnixStream;

use super::UringIo;
use super::mesh::Mesh;
use super::watch::Watched;
use crate::facts::NodeFacts;
use crate::measures::snapshot::NodeSnapshot;
use crate::monitor::server::{Phase, Source};
use crate::shard::{Shard, gather};

/// How long the shards have to answer: longer than anything that they do in one go.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A question has a number, so that an answer that came too late is not taken for the next one's.
type Answer = (u64, Result<NodeSnapshot, String>);

/// The side of the threads.
pub(super) struct Asker {
    facts: Arc<NodeFacts>,
    inner: Mutex<Inner>,
}

struct Inner {
    bell: StdStream,
    answers: mpsc::Receiver<Answer>,
    last: u64,
}

/// The side of the first shard.
pub(super) struct Asked {
    bell: StdStream,
    answers: mpsc::Sender<Answer>,
}

/// Both sides.
///
/// # Errors
/// When the system gives no sockets.
pub(super) fn pair(facts: Arc<NodeFacts>) -> io::Result<(Asker, Asked)> {
    let (near, far) = StdStream::pair()?;
    far.set_nonblocking(true)?;
    near.set_write_timeout(Some(ANSWER_MAX))?;
    let (answers, receiver) = mpsc::channel();
    let inner = Inner {
        bell: near,
        answers: receiver,
        last: 0,
    };
    let asker = Asker {
        facts,
        inner: Mutex::new(inner),
    };
    Ok((asker, Asked { bell: far, answers }))
}

impl Source for Asker {
    fn phase(&self) -> Phase {
        if self.facts.stop.load(Ordering::SeqCst) {
            Phase::Stopping
        } else if self.facts.is_ready() {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }

    fn snapshot(&self) -> Result<NodeSnapshot, String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        let number = inner.last;
        inner
            .bell
            .write_all(&number.to_le_bytes())
            .map_err(|error| format!("the first shard does not listen: {error}"))?;
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match inner.answers.recv_timeout(left) {
                Ok((answered, answer)) if answered == number => return answer,
                // To a question that nobody waits for any more.
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "the shards did not answer within {} s",
                        ANSWER_MAX.as_secs()
                    ));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("the shards have stopped".to_owned()),
            }
        }
    }
}

impl Asked {
    /// Answers, one question after the other, until nobody can ask any more.
    pub(super) async fn answer(self, shard: &Rc<Shard<UringIo, Mesh>>) {
        let fd = self.bell.as_raw_fd();
        // SAFETY: the descriptor is open and given away here; the stream closes it.
        let bell = unsafe { UnixStream::from_raw_fd(self.bell.into_raw_fd()) };
        let mut bell = Watched::new(bell, fd, shard.io().watches());
        let mut number = [0; 8];
        while bell.read_exact(&mut number).await.is_ok() {
            let snapshot = gather(shard).await.map_err(|error| error.to_string());
            if self.answers.send((u64::from_le_bytes(number), snapshot)).is_err() {
                return;
            }
        }
    }
}
