//! The arguments of `fifo`.

use std::path::PathBuf;

use clap::Args;

use super::forward::LoggingArgs;

/// Connects named pipes (FIFOs) with topics, as they are told through a control FIFO, until it is stopped.
///
/// Lines for the control FIFO:
///   PATH -> TOPIC (OPTIONS)   each line written to the FIFO PATH becomes an event; PATH is made
///                             if it is not there
///   PATH <- TOPIC (OPTIONS)   each event becomes a line to be read from the FIFO PATH, which has
///                             to be there
///
/// OPTIONS may be left out, and are NAME=VALUE, with commas between them:
///   format=raw|json           a line is the text of a JSON string (raw, the default), or JSON
///   batch_size=N              events in a batch (128)
///   keep=true|false           go on with the next program when the one at the other end has ended
///                             (of -> false, of <- true)
///   acknowledge=true|false    of <-: events whose lines were read do not come again (true)
///   consumer=NAME             of <-: name of the consumer (PATH)
///
/// Logs to standard output; SIGINT and SIGTERM end it with what is on its way.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Then, from any other program, when there is a topic \"frames\":\n  \
                  echo './in -> frames (format=json)' > ./control\n  \
                  echo '{\"n\": 1}' > ./in"
)]
pub(crate) struct FifoArgs {
    /// The FIFO that takes commands. It is made, must not be there, and is removed at the end.
    #[arg(long, value_name = "PATH")]
    pub(crate) control_file: PathBuf,
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
}
