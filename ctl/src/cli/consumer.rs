//! The command line of `consumer`.

use clap::{Args, Subcommand};

use super::From;

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerCommand {
    /// List the consumers of a topic with their cursors and lag.
    List {
        /// Name of the topic.
        topic: String,
    },
    /// Describe a consumer: its cursor and lag in each partition.
    Describe {
        /// Name of the topic.
        topic: String,
        /// Name of the consumer.
        consumer: String,
    },
    /// Show how many events consumers have not acknowledged yet, of all partitions together.
    Lag(LagArgs),
    /// Move a consumer's cursor, in all partitions or, where one of them has no such event, in none. A consumer that is at work goes
    /// on where it is.
    Seek {
        /// Name of the topic.
        topic: String,
        /// Name of the consumer.
        consumer: String,
        /// first, last, an event id, or @TIME (Unix seconds; @-SECONDS for so long ago).
        to: From,
        /// Partition to move in [default: all]
        #[arg(long, value_name = "INDEX")]
        partition: Option<usize>,
    },
    /// Forget a consumer's cursor: a consumer of that name begins anew. Refused while one is at work.
    Delete {
        /// Name of the topic.
        topic: String,
        /// Name of the consumer.
        consumer: String,
        /// Only in this partition, by its index [default: in all]
        #[arg(long, value_name = "INDEX")]
        partition: Option<usize>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LagArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Name of a consumer [default: all]
    pub(crate) consumer: Option<String>,
    /// Exit with 4 when a consumer has not acknowledged more than N events.
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u64>,
}
