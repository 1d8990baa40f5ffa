//! The command line of `produce`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What a line of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// The event's metadata, as JSON.
    Metadata,
    /// The event's data as it is, with the metadata of --metadata.
    Raw,
    /// The event's data in hexadecimal digits, with the metadata of --metadata.
    Hex,
    /// The whole event, as consume and tail print it.
    Event,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// Name of the topic.
    pub(crate) topic: String,
    /// File with one event a line; - is standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// What a line is.
    #[arg(long, value_name = "WHAT", default_value = "metadata")]
    pub(crate) format: LineFormat,
    /// The same as --format raw.
    #[arg(long, conflicts_with = "format")]
    pub(crate) raw: bool,
    /// JSON object that every event's metadata starts from.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) metadata: String,
    /// File whose bytes are each event's data.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub(crate) data_file: Option<PathBuf>,
    /// One event whose data is all of this file, of any size, sent in pieces, with the metadata of --metadata; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "format", "data_file", "file", "batch_size"])]
    pub(crate) stream: Option<PathBuf>,
    /// Events in a batch [default: adaptive]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_size: Option<u32>,
    /// Partition for every event, by its index, which the topic must have [default: as the topic's selector says]
    #[arg(long, value_name = "INDEX")]
    pub(crate) partition: Option<usize>,
}
