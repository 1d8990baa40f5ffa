//! Starts and stops a node: a thread and an executor for each shard, the addresses, the group file.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use mofka_net::GroupFile;

use super::activity::Activity;
use super::asking::{self, Asked};
use super::mesh::{self, Mesh};
use super::panics;
use super::server::{self, Listeners};
use super::{UringIo, self_test};
use crate::catalog::CatalogView;
use crate::config::{Loaded, NodeConfig};
use crate::facts::NodeFacts;
use crate::home::{Home, HomeError, write_durably};
use crate::monitor::server::Server;
use crate::shard::{HOME_SHARD, Shard, ShardParts};

/// How long the runtime lets tasks run before it looks at its rings although some are ready: much longer than any of them
/// takes, because tasks of a shard wait for something sooner or later, and its ring makes the runtime look every millisecond
/// (see `ring::attend`). A short time loses wake-ups with glommio-ng 0.12: when it is over before the first task had its
/// turn, because the thread had no core, the runtime takes it that no task is ready, and sleeps. See
/// `docs/decisions/0001-runtime.md`.
pub const PREEMPT_TIMER: Duration = Duration::from_secs(10);

/// What a shard's thread needs of the machine.
const NEEDS: &str = "io_uring needs kernel 5.8 or newer, must not be blocked by a seccomp filter, as it is in many containers, and \
                     needs at least 512 KiB of locked memory: ulimit -l";

/// Why a node could not be started, or what went wrong with it later.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A shard could not start.
    #[error("shard {shard}: {reason}")]
    Shard {
        /// Which one.
        shard: usize,
        /// Why.
        reason: String,
    },
    /// Metrics and the status page cannot be served.
    #[error("cannot listen on {address} for metrics and the status page: {source}")]
    Monitoring {
        /// What was tried.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The group file cannot be written.
    #[error("could not write the group file {path}: {reason}", path = path.display())]
    GroupFile {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A node at work.
pub struct RunningNode {
    facts: Arc<NodeFacts>,
    threads: Vec<ExecutorJoinHandle<Result<(), String>>>,
    monitoring: Option<Server>,
    // Held until the end: it keeps a second daemon out of the data directory.
    home: Home,
}

enum Report {
    Ready {
        shard: usize,
        addresses: Vec<String>,
        sockets: Vec<PathBuf>,
    },
    Failed {
        shard: usize,
        reason: String,
    },
}

/// Starts every shard, recovers every partition, listens, and writes the group file, in this order: whoever finds the
/// group file finds a node that answers.
///
/// # Errors
/// When anything of that fails; nothing is left running then.
pub fn start(loaded: Loaded) -> Result<RunningNode, NodeError> {
    panics::end_the_process();
    let Loaded { config, notes, file } = loaded;
    let home = Home::open(&config.data_dir)?;
    let direct = home.direct_io(config.direct_io)?;
    if !direct {
        tracing::warn!(
            data_dir = %home.dir().display(),
            "this file system has no direct I/O: log files go through the page cache (direct_io is \"auto\")"
        );
    }
    if home.lacks_journal() {
        tracing::warn!(
            data_dir = %home.dir().display(),
            "this file system has no journal: what is acknowledged survives kill -9, but in a power cut the file system can lose \
             it (mofka-ctl doctor says more)"
        );
    }
    for note in &notes {
        tracing::info!("configuration: {note}");
    }
    let cores = cores();
    let shards = config.shards.unwrap_or(cores.len()).max(1);
    let facts = Arc::new(NodeFacts::new(&home, &config, shards, direct).with_file(file));
    let (monitoring, asked) = match monitoring(&config, &facts)? {
        Some((server, asked)) => (Some(server), Some(asked)),
        None => (None, None),
    };
    let asked = Arc::new(Mutex::new(asked));
    let (report, reports) = mpsc::channel();
    let builder = (shards > 1).then(|| mesh::Builder::full(shards, mesh::DEPTH));
    let view = CatalogView::default();
    let mut node = RunningNode {
        facts: Arc::clone(&facts),
        threads: Vec::new(),
        monitoring,
        home,
    };
    for number in 0..shards {
        let placement = match cores.get(number) {
            Some(core) if config.pin => Placement::Fixed(*core),
            _ => Placement::Unbound,
        };
        let (facts, view, builder) = (Arc::clone(&facts), view.clone(), builder.clone());
        let (report, config, asked) = (report.clone(), config.clone(), Arc::clone(&asked));
        let thread = LocalExecutorBuilder::new(placement)
            .name("mofka-shard")
            .preempt_timer(PREEMPT_TIMER)
            .spawn(move || async move { run_shard(facts, view, builder, config, report, &asked).await });
        match thread {
            Ok(thread) => node.threads.push(thread),
            Err(error) => {
                node.stop();
                let reason = format!("its thread could not be started: {error} ({NEEDS})");
                return Err(NodeError::Shard {
                    shard: number,
                    reason,
                });
            }
        }
    }
    drop(report);
    let mut addresses = vec![Vec::new(); shards];
    let mut sockets = Vec::new();
    for _ in 0..shards {
        match reports.recv() {
            Ok(Report::Ready {
                shard,
                addresses: of_shard,
                sockets: its_sockets,
            }) => {
                sockets.extend(its_sockets);
                if let Some(place) = addresses.get_mut(shard) {
                    *place = of_shard;
                }
            }
            Ok(Report::Failed { shard, reason }) => {
                node.stop_and_join();
                return Err(NodeError::Shard { shard, reason });
            }
            Err(mpsc::RecvError) => {
                // Those that ended know why.
                node.stop();
                let (shard, why) = match node.join_threads() {
                    Err(NodeError::Shard { shard, reason }) => (shard, reason),
                    Err(error) => (0, error.to_string()),
                    Ok(()) => (0, "its thread ended".to_owned()),
                };
                let reason = format!("before it was ready: {why} ({NEEDS})");
                return Err(NodeError::Shard { shard, reason });
            }
        }
    }
    node.facts.set_sockets(sockets);
    node.facts.set_addresses(addresses.clone());
    if let Err(error) = write_group_file(&config, &node.facts, addresses) {
        node.stop_and_join();
        return Err(error);
    }
    Ok(node)
}

impl RunningNode {
    /// What the node is.
    pub fn facts(&self) -> &Arc<NodeFacts> {
        &self.facts
    }

    /// Where metrics and the status page are, if they are anywhere.
    pub fn monitoring(&self) -> Option<String> {
        self.facts.monitoring.get().cloned()
    }

    /// Asks every shard to finish what it accepted and stop.
    pub fn stop(&self) {
        self.facts.stop.store(true, Ordering::SeqCst);
    }

    /// Waits until every shard has stopped.
    ///
    /// # Errors
    /// What a shard could not finish.
    pub fn join(mut self) -> Result<(), NodeError> {
        self.join_threads()
    }

    fn stop_and_join(&mut self) {
        self.stop();
        if let Err(error) = self.join_threads() {
            tracing::debug!(%error, "while stopping");
        }
    }

    fn join_threads(&mut self) -> Result<(), NodeError> {
        let mut first = Ok(());
        for (shard, thread) in self.threads.drain(..).enumerate() {
            let outcome = match thread.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(reason)) => Err(NodeError::Shard { shard, reason }),
                Err(error) => Err(NodeError::Shard {
                    shard,
                    reason: format!("its thread ended badly: {error}"),
                }),
            };
            first = first.and(outcome);
        }
        self.monitoring.take();
        self.home.release();
        first
    }
}

/// Metrics and the status page, when the configuration wants them. They answer before the partitions are open: that the node
/// starts is something to tell, too.
fn monitoring(config: &NodeConfig, facts: &Arc<NodeFacts>) -> Result<Option<(Server, Asked)>, NodeError> {
    let failed = |source: std::io::Error| NodeError::Monitoring {
        address: config.monitoring.listen.clone().unwrap_or_default(),
        source,
    };
    let place = config
        .monitoring
        .place()
        .map_err(|reason| failed(std::io::Error::other(reason)))?;
    let Some(place) = place else { return Ok(None) };
    let (asker, asked) = asking::pair(Arc::clone(facts)).map_err(failed)?;
    let server = Server::start(Arc::clone(&facts.monitoring_config), &place, asker).map_err(failed)?;
    if server.is_open_to_others() {
        tracing::warn!(
            address = %server.address(),
            "metrics and the status page can be read by everybody who reaches this address: names of topics and consumers are \
             among them"
        );
    }
    facts.monitoring.set(format!("http://{}", server.address())).ok();
    Ok(Some((server, asked)))
}

/// A shard's life, on its own executor.
async fn run_shard(
    facts: Arc<NodeFacts>,
    view: CatalogView,
    builder: Option<mesh::Builder>,
    config: NodeConfig,
    report: mpsc::Sender<Report>,
    asked: &Mutex<Option<Asked>>,
) -> Result<(), String> {
    let activity = Activity::default();
    let (mesh, receivers) = Mesh::join(builder, activity.clone()).await;
    let shard = mesh.place();
    panics::this_thread_is(shard);
    tracing::debug!(shard, "joined");
    let started = async {
        let io = UringIo::start_beside(facts.direct_io, activity)
            .map_err(|error| format!("no ring for its files: {error}"))?;
        self_test::run(&io, &facts.data_dir, shard)
            .await
            .map_err(|error| error.to_string())?;
        tracing::debug!(shard, "self-test passed");
        let parts = ShardParts {
            io,
            peers: mesh.clone(),
            facts: Arc::clone(&facts),
            view,
        };
        let shard = Shard::open(parts).await.map_err(|error| error.to_string())?;
        tracing::debug!("partitions are open");
        let is_open = config.local_clients.is_open_to_others();
        let listeners = Listeners::bind(&config.listen, mesh.place(), &facts.data_dir, is_open)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>((shard, listeners))
    };
    let (this, listeners) = match started.await {
        Ok(started) => started,
        Err(reason) => {
            facts.stop.store(true, Ordering::SeqCst);
            // The receiver is gone only when the node gave up already.
            report
                .send(Report::Failed {
                    shard,
                    reason: reason.clone(),
                })
                .ok();
            return Err(reason);
        }
    };
    let handler = std::rc::Rc::clone(&this);
    mesh.serve(receivers, move |call| {
        let shard = std::rc::Rc::clone(&handler);
        async move { shard.handle(call).await }
    });
    report
        .send(Report::Ready {
            shard,
            addresses: listeners.addresses(),
            sockets: listeners.sockets(),
        })
        .ok();
    let asked = match shard {
        HOME_SHARD => asked.lock().unwrap_or_else(PoisonError::into_inner).take(),
        _ => None,
    };
    let answering = asked.map(|asked| {
        let shard = std::rc::Rc::clone(&this);
        glommio::spawn_local(async move { asked.answer(&shard).await })
    });
    server::run(&this, &facts, listeners).await;
    if let Some(answering) = answering {
        answering.cancel().await;
    }
    tracing::debug!("stopping");
    this.stop().await;
    tracing::debug!("stopped");
    Ok(())
}

/// Cores that this process may use.
fn cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect(),
        Err(_) => vec![0],
    }
}

fn write_group_file(
    config: &NodeConfig,
    facts: &NodeFacts,
    addresses: Vec<Vec<String>>,
) -> Result<(), NodeError> {
    let failed = |reason: String| NodeError::GroupFile {
        path: config.group_file.clone(),
        reason,
    };
    let group = GroupFile::of_node(addresses, facts.node).map_err(|error| failed(error.to_string()))?;
    write_durably(&config.group_file, group.to_json().as_bytes()).map_err(|error| failed(error.to_string()))
}
