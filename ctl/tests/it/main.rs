//! Runs the real `mofka-ctl`, and the real `mofkad` where a test needs one.

mod command_line;
mod config_file;
mod events;
mod log;
mod node;
mod run;
mod schema;
mod walk_through;
