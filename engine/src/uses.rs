//! What the frames of a partition use that programs from before it do not know.
//!
//! The catalog says it before the first such frame is stored. A program from before cannot read that catalog, and so never takes
//! such frames for torn ones, which it would cut.

use std::rc::Rc;

use mofka_log::{Catalog, CatalogRecord, PartitionKind, PartitionRecord};
use mofka_net::{ErrorCode, WireError};
use uuid::Uuid;

use crate::io::Io;
use crate::partition::Partition;
use crate::shard::{HOME_SHARD, Peers, Shard, ShardCall};

/// What frames may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Events that refer to data of others.
    References,
    /// Batches that say which places of a source they cover.
    Sources,
}

impl Use {
    fn is_noted(self, record: &PartitionRecord) -> bool {
        match self {
            Self::References => record.refers,
            Self::Sources => record.sourced,
        }
    }

    fn note(self, record: &PartitionRecord) -> CatalogRecord {
        let (topic, index) = (record.topic, record.index);
        match self {
            Self::References => CatalogRecord::PartitionRefers { topic, index },
            Self::Sources => CatalogRecord::PartitionSourced { topic, index },
        }
    }
}

/// Makes sure that the catalog says it, durably. Whatever is in memory needs nothing: no other program will read it.
///
/// # Errors
/// When the catalog takes no change.
pub(crate) async fn ensure<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partition: &Partition<I>,
    what: Use,
) -> Result<(), WireError> {
    let own = &partition.spec().record;
    if own.kind != PartitionKind::Default {
        return Ok(());
    }
    // Of a partition that was deleted nothing is said, and nothing will be stored.
    let is_missing = shard
        .catalog()
        .partition(own.id)
        .is_some_and(|record| !what.is_noted(record));
    if is_missing {
        shard.ask(HOME_SHARD, ShardCall::Uses(own.id, what)).await?;
    }
    Ok(())
}

/// Notes it, once; on the shard that owns the catalog.
///
/// # Errors
/// When the partition is not there, or the catalog takes no change.
pub(crate) async fn note<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    partition: Uuid,
    what: Use,
) -> Result<(), WireError> {
    let store = crate::control::home(shard)?;
    let plan = |catalog: &Catalog| match catalog.partition(partition) {
        None => {
            let message = format!("partition {partition} was deleted");
            Err(WireError::new(ErrorCode::UnknownPartition, message))
        }
        Some(record) if what.is_noted(record) => Ok(Vec::new()),
        Some(record) => Ok(vec![what.note(record)]),
    };
    store.change(plan).await.map(|_| ())
}
