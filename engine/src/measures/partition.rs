//! What is counted of one partition since it was opened.

use super::{Count, Histogram, HistogramValues};

/// The cells, on the shard that has the partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionMeasures {
    pub(crate) accepted_batches: Count,
    pub(crate) accepted_events: Count,
    pub(crate) accepted_meta_bytes: Count,
    pub(crate) accepted_data_bytes: Count,
    pub(crate) duplicate_batches: Count,
    pub(crate) refused_batches: Count,
    pub(crate) commits: Count,
    pub(crate) committed_bytes: Count,
    pub(crate) feeds: Count,
    pub(crate) fed_events: Count,
    pub(crate) fed_bytes: Count,
    pub(crate) fetches: Count,
    pub(crate) fetched_events: Count,
    pub(crate) fetched_bytes: Count,
    pub(crate) acknowledgements: Count,
    pub(crate) rolled_segments: Count,
    pub(crate) dropped_segments: Count,
    /// From the arrival of a batch to its answer.
    pub(crate) produce: Histogram,
    /// From the begin of a commit until it is durable.
    pub(crate) commit: Histogram,
    /// From a request for data to its answer.
    pub(crate) fetch: Histogram,
}

impl PartitionMeasures {
    /// A batch was answered.
    pub(crate) fn note_answer(&self, is_ok: bool) {
        self.refused_batches.add(u64::from(!is_ok));
    }

    /// A request for the data of so many events was answered with so many bytes.
    pub(crate) fn note_fetch(&self, events: usize, bytes: u64, took_us: u64) {
        self.fetches.add(1);
        self.fetched_events.add(events as u64);
        self.fetched_bytes.add(bytes);
        self.fetch.record(took_us);
    }
}

macro_rules! counts {
    ($( $(#[doc = $doc:literal])+ $name:ident; )+) => {
        /// A copy of what was counted, or the sum of several partitions'.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct PartitionCounts {
            $( $(#[doc = $doc])+ pub $name: u64, )+
            /// How long batches took from their arrival to their answer.
            pub produce: HistogramValues,
            /// How long commits took from their begin until they were durable.
            pub commit: HistogramValues,
            /// How long requests for data took.
            pub fetch: HistogramValues,
        }

        impl PartitionCounts {
            /// Takes another one's counts in.
            pub fn add(&mut self, other: &Self) {
                $( self.$name = self.$name.wrapping_add(other.$name); )+
                self.produce.add(&other.produce);
                self.commit.add(&other.commit);
                self.fetch.add(&other.fetch);
            }
        }

        impl PartitionMeasures {
            /// A copy.
            pub(crate) fn counts(&self) -> PartitionCounts {
                PartitionCounts {
                    $( $name: self.$name.get(), )+
                    produce: self.produce.values(),
                    commit: self.commit.values(),
                    fetch: self.fetch.values(),
                }
            }
        }
    };
}

counts! {
    /// Batches that got ids.
    accepted_batches;
    /// Events in them.
    accepted_events;
    /// Bytes of their frames: headers, tables and metadata.
    accepted_meta_bytes;
    /// Bytes of their data.
    accepted_data_bytes;
    /// Batches that had been accepted before and got their first answer again.
    duplicate_batches;
    /// Batches that were answered with an error.
    refused_batches;
    /// Commits that are durable.
    commits;
    /// Bytes that they wrote, in whole blocks.
    committed_bytes;
    /// Feeds that were sent to consumers.
    feeds;
    /// Events in them.
    fed_events;
    /// Bytes of them.
    fed_bytes;
    /// Requests for data.
    fetches;
    /// Events whose data they asked for.
    fetched_events;
    /// Bytes of data that were sent for them.
    fetched_bytes;
    /// Acknowledgements of consumers.
    acknowledgements;
    /// Segments that were closed for good, since there was a next one.
    rolled_segments;
    /// Segments that retention dropped.
    dropped_segments;
}
