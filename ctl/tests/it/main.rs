//! Runs the real `mofka-ctl`, and the real `mofkad` where a test needs one.

mod bench;
mod command_line;
mod config_file;
mod copying;
mod diaspora;
mod doctor;
mod events;
mod log;
mod moving;
mod node;
mod run;
mod schema;
mod top;
mod walk_through;
