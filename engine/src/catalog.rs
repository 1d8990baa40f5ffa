//! The node's catalog: topics and partitions, durable, with a view that every shard reads.
//!
//! One shard (the first) owns the log behind it and makes every change; a change is visible after it is durable.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use mofka_log::{Catalog, CatalogRecord, PartitionKind, SegmentKind};
use mofka_net::{ErrorCode, WireError};
use uuid::Uuid;

use crate::facts::NodeFacts;
use crate::io::Io;
use crate::partition_dirs;
use crate::promise::promise;
use crate::record_log::{RecordLog, RecordLogSpec};
use crate::recover::OpenError;
use crate::room::is_full;

const REWRITE_BYTES: u64 = 4 << 20;
/// Bytes of one record. A topic's validator is the largest thing in one, and has to fit a request.
const RECORD_BYTES_MAX: u64 = 8 << 20;
/// Bytes of the records of one change, which are stored as one batch.
pub(crate) const CHANGE_BYTES_MAX: u64 = 32 << 20;
/// Bytes of all records that make the catalog. Every change copies it, and every start reads it.
const CATALOG_BYTES_MAX: u64 = 64 << 20;

/// What every shard sees of the catalog: replaced as a whole, never changed in place.
#[derive(Clone, Default)]
pub struct CatalogView(Arc<Shared>);

#[derive(Default)]
struct Shared {
    catalog: RwLock<Arc<Catalog>>,
    /// The catalog has been read, so that the other shards may open what it lists.
    loaded: AtomicBool,
}

impl CatalogView {
    /// The catalog as it is now.
    pub fn get(&self) -> Arc<Catalog> {
        // A poisoned lock means a panic while an Arc was swapped, which cannot leave half a catalog behind.
        Arc::clone(
            &self
                .0
                .catalog
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// Lets the other shards see the catalog for the first time.
    pub(crate) fn publish(&self) {
        self.0.loaded.store(true, Ordering::Release);
    }

    /// Waits until the catalog has been read.
    ///
    /// # Errors
    /// When the node stops before that.
    pub(crate) async fn wait<I: Io>(&self, io: &I, facts: &NodeFacts) -> Result<Arc<Catalog>, OpenError> {
        // Acquire: pairs with the release in `publish`.
        while !self.0.loaded.load(Ordering::Acquire) {
            if facts.stop.load(Ordering::SeqCst) {
                return Err(OpenError::new(
                    "the node stopped before its catalog was read".to_owned(),
                ));
            }
            io.sleep(Duration::from_millis(1)).await;
        }
        Ok(self.get())
    }

    fn set(&self, catalog: Arc<Catalog>) {
        *self
            .0
            .catalog
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = catalog;
    }
}

/// The catalog where it is changed.
pub(crate) struct CatalogStore<I: Io> {
    io: I,
    log: RecordLog<I>,
    view: CatalogView,
    /// Partitions of topics that were deleted, since the file was written anew: their files may be there still.
    deleted: RefCell<BTreeSet<Uuid>>,
    /// The file had no record when it was opened.
    was_empty: bool,
    size: Cell<Size>,
    changing: Arc<async_lock::Mutex<()>>,
}

/// How large the catalog is at most.
#[derive(Clone, Copy)]
struct Size {
    bytes: u64,
    /// Nothing was deleted since it was counted.
    is_counted: bool,
}

/// A change that is about to be stored.
struct Change {
    next: Catalog,
    records: Vec<CatalogRecord>,
    encoded: Vec<Vec<u8>>,
    /// Partitions that go with it.
    gone: Vec<Uuid>,
}

impl<I: Io> CatalogStore<I> {
    /// Opens the catalog of `node` in `path`.
    ///
    /// # Errors
    /// When it cannot be read, is of another node, or is damaged.
    pub(crate) async fn open(
        io: I,
        path: PathBuf,
        node: Uuid,
        view: CatalogView,
    ) -> Result<Rc<Self>, OpenError> {
        let spec = RecordLogSpec {
            path,
            kind: SegmentKind::Catalog,
            owner: node,
            rewrite_bytes: REWRITE_BYTES,
        };
        let mut catalog = Catalog::default();
        let mut deleted = BTreeSet::new();
        let mut was_empty = true;
        let mut bytes_read = 0;
        let log = RecordLog::open(io.clone(), spec, |bytes| {
            was_empty = false;
            bytes_read += bytes.len() as u64;
            let record = CatalogRecord::decode(bytes).map_err(|error| error.to_string())?;
            deleted.extend(catalog.gone_with(&record));
            catalog.apply(&record).map_err(|error| error.to_string())
        })
        .await?;
        view.set(Arc::new(catalog));
        Ok(Rc::new(Self {
            io,
            log,
            view,
            deleted: RefCell::new(deleted),
            was_empty,
            size: Cell::new(Size {
                bytes: bytes_read,
                is_counted: false,
            }),
            changing: Arc::default(),
        }))
    }

    /// Whether this partition's topic was deleted.
    pub(crate) fn is_deleted(&self, partition: Uuid) -> bool {
        self.deleted.borrow().contains(&partition)
    }

    /// Whether there was no record in its file, or no file, when it was opened.
    pub(crate) fn was_empty(&self) -> bool {
        self.was_empty
    }

    /// Makes one change: `plan` looks at the catalog and gives the records, which are stored as a whole, then shown.
    /// Changes are made one after the other. Whoever asked for one may be gone before it is made: it is made all the same, since
    /// nobody could go on behind half of one.
    ///
    /// # Errors
    /// What `plan` objects to, or why the change could not be stored.
    pub(crate) async fn change(
        self: &Rc<Self>,
        plan: impl FnOnce(&Catalog) -> Result<Vec<CatalogRecord>, WireError>,
    ) -> Result<Arc<Catalog>, WireError> {
        let one_at_a_time = self.changing.lock_arc().await;
        let mut next = Catalog::clone(&self.view.get());
        let records = plan(&next)?;
        if records.is_empty() {
            return Ok(self.view.get());
        }
        let mut gone = Vec::new();
        for record in &records {
            gone.extend(next.gone_with(record));
            next.apply(record)
                .map_err(|error| WireError::new(ErrorCode::InvalidArgument, error.to_string()))?;
        }
        let encoded: Vec<Vec<u8>> = records.iter().map(CatalogRecord::encode).collect();
        self.check_size(&records, &encoded)?;
        let change = Change {
            next,
            records,
            encoded,
            gone,
        };
        let (keep, kept) = promise();
        let me = Rc::clone(self);
        self.io.spawn(async move {
            let made = me.make(change).await;
            drop(one_at_a_time);
            keep(made);
        });
        kept.await
    }

    async fn make(&self, change: Change) -> Result<Arc<Catalog>, WireError> {
        self.make_places(&change.records).await?;
        self.rewrite_when_grown().await;
        let (sender, receiver) = promise();
        self.log.append(&change.encoded, Box::new(sender));
        receiver.await.map_err(|poison| {
            let code = if poison.passes {
                ErrorCode::NoSpace
            } else {
                ErrorCode::Poisoned
            };
            WireError::new(
                code,
                format!("the catalog could not be stored: {}", poison.reason),
            )
        })?;
        // Only so can damage to the last change be told from one that was being made when the node died.
        self.log.witness().await;
        self.deleted.borrow_mut().extend(change.gone);
        let next = Arc::new(change.next);
        self.view.set(Arc::clone(&next));
        Ok(next)
    }

    /// Whether a change is within the bounds of the catalog, and notes how large that becomes by it.
    fn check_size(&self, records: &[CatalogRecord], encoded: &[Vec<u8>]) -> Result<(), WireError> {
        let too_large = |what: &str, bytes: u64, max: u64| {
            let message = format!("{what} of {bytes} bytes is more than the catalog takes, which is {max}");
            Err(WireError::new(ErrorCode::TooLarge, message))
        };
        let sizes = || encoded.iter().map(|record| record.len() as u64);
        if let Some(bytes) = sizes().find(|bytes| *bytes > RECORD_BYTES_MAX) {
            return too_large("a topic or partition", bytes, RECORD_BYTES_MAX);
        }
        let bytes = sizes().sum();
        if bytes > CHANGE_BYTES_MAX {
            return too_large("a change (add fewer partitions at once)", bytes, CHANGE_BYTES_MAX);
        }
        let deletes = |record: &CatalogRecord| matches!(record, CatalogRecord::TopicDeleted { .. });
        let adds = |record: &CatalogRecord| {
            matches!(
                record,
                CatalogRecord::TopicCreated(_)
                    | CatalogRecord::PartitionAdded(_)
                    | CatalogRecord::ProducerDone { .. }
            )
        };
        if records.iter().any(deletes) {
            let size = self.size.get();
            self.size.set(Size {
                is_counted: false,
                ..size
            });
        }
        match records.iter().any(adds) {
            true => self.grow(bytes),
            false => Ok(()),
        }
    }

    fn grow(&self, more: u64) -> Result<(), WireError> {
        let mut size = self.size.get();
        if size.bytes.saturating_add(more) > CATALOG_BYTES_MAX && !size.is_counted {
            let snapshot = self.view.get().snapshot();
            size = Size {
                bytes: snapshot.iter().map(|record| record.encode().len() as u64).sum(),
                is_counted: true,
            };
            self.size.set(size);
        }
        let bytes = size.bytes.saturating_add(more);
        if bytes > CATALOG_BYTES_MAX {
            let message = format!(
                "the node's topics and partitions would take {bytes} bytes, and its catalog holds {CATALOG_BYTES_MAX}: delete \
                 topics first"
            );
            return Err(WireError::new(ErrorCode::Overloaded, message));
        }
        self.size.set(Size { bytes, ..size });
        Ok(())
    }

    /// Makes the directories of new partitions, durably and before the catalog names them: so one that it names and that is not there
    /// was lost.
    async fn make_places(&self, records: &[CatalogRecord]) -> Result<(), WireError> {
        let data_dir = self.log.directory();
        let stored = records.iter().filter_map(|record| match record {
            CatalogRecord::PartitionAdded(partition) if partition.kind == PartitionKind::Default => {
                Some(partition_dirs::dir_of(data_dir, partition.id))
            }
            _ => None,
        });
        let failed = |what: &str, dir: &Path, error: &std::io::Error| {
            let code = if is_full(error) {
                ErrorCode::NoSpace
            } else {
                ErrorCode::Poisoned
            };
            WireError::new(code, format!("{what} {}: {error}", dir.display()))
        };
        let mut has_any = false;
        for dir in stored {
            let made = self.io.list(&dir).await;
            made.map_err(|error| failed("making the directory", &dir, &error))?;
            has_any = true;
        }
        if has_any {
            for dir in [&*partition_dirs::all_in(data_dir), data_dir] {
                let synced = self.io.sync_dir(dir).await;
                synced.map_err(|error| failed("syncing the directory", dir, &error))?;
            }
        }
        Ok(())
    }

    /// Many changes leave a long file behind a small state. Not while files of deleted partitions are left: a new file would not
    /// say that they may go.
    async fn rewrite_when_grown(&self) {
        if !self.log.wants_rewrite(0) {
            return;
        }
        match partition_dirs::listed(&self.io, self.log.directory()).await {
            Ok(ids) if ids.is_disjoint(&self.deleted.borrow()) => {}
            _ => return,
        }
        self.deleted.borrow_mut().clear();
        let snapshot: Vec<Vec<u8>> = self
            .view
            .get()
            .snapshot()
            .iter()
            .map(CatalogRecord::encode)
            .collect();
        let snapshot_bytes: u64 = snapshot.iter().map(|record| record.len() as u64).sum();
        if self.log.wants_rewrite(snapshot_bytes)
            && let Err(error) = self.log.rewrite(snapshot).await
        {
            tracing::warn!(%error, "the catalog could not be rewritten; it goes on in its old file");
        }
    }

    pub(crate) async fn stop(&self) {
        let _one_at_a_time = self.changing.lock().await;
        self.log.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future;
    use mofka_log::{Durability, Retention, TopicRecord};
    use serde_json::json;

    use super::*;
    use crate::sim::{Image, SimIo};

    const NODE: Uuid = Uuid::from_u128(7);

    async fn open(io: SimIo) -> Rc<CatalogStore<SimIo>> {
        let path = PathBuf::from("/d/catalog");
        let store = CatalogStore::open(io, path, NODE, CatalogView::default()).await;
        store.map_err(|error| error.to_string()).unwrap()
    }

    fn topic(name: &str, validator_bytes: usize) -> Vec<CatalogRecord> {
        vec![CatalogRecord::TopicCreated(TopicRecord {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            durability: Durability::Synced,
            validator: json!({"type": "v".repeat(validator_bytes)}),
            partition_selector: json!({}),
            serializer: json!({}),
            created_us: 1,
            complete: false,
            retention: Retention::default(),
            producers_expected: 0,
            producers_done: BTreeSet::new(),
        })]
    }

    async fn create(store: Rc<CatalogStore<SimIo>>, name: &str) {
        store.change(|_| Ok(topic(name, 10))).await.unwrap();
    }

    #[test]
    fn a_change_is_made_although_nobody_waits_for_it_any_more() {
        // Given up after each of its steps; the file is written anew by the first ones that get so far.
        for steps in 0..60 {
            let io = SimIo::stepping(&Image::new(), 3);
            let store = io.block_on(open(io.clone()));
            let own = Rc::clone(&store);
            io.block_on(async move {
                own.change(|_| Ok(topic("large", 5 << 20))).await.unwrap();
                let delete = |catalog: &Catalog| {
                    let topic = catalog.topic("large").unwrap().id;
                    Ok(vec![CatalogRecord::TopicDeleted { topic }])
                };
                own.change(delete).await.unwrap();
            });
            let mut given_up = Box::pin(create(Rc::clone(&store), "given-up"));
            let mut is_done = future::block_on(future::poll_once(&mut given_up)).is_some();
            for _ in 0..steps {
                is_done =
                    is_done || !io.step() || future::block_on(future::poll_once(&mut given_up)).is_some();
            }
            drop(given_up);
            io.block_on(create(Rc::clone(&store), "after-it"));
            io.block_on(async move { store.stop().await });
            let again = io.block_on(open(io.clone()));
            let names: Vec<String> = again
                .view
                .get()
                .topics()
                .map(|topic| topic.name.clone())
                .collect();
            assert_eq!(names, ["after-it", "given-up"], "after {steps} steps");
            io.shut_down();
            if is_done {
                return;
            }
        }
        panic!("it takes more steps than were tried");
    }
}
