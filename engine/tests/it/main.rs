//! The engine on a simulated machine: crashes at every boundary, faults, restarts.

mod crash;
mod crash_references;
mod crash_trim;
mod evidence;
mod faults;
mod golden;
mod hostile;
mod id_end;
mod judge;
mod kept;
mod lost_segments;
mod memory_node;
mod memory_retention;
mod model;
mod partition;
mod reading;
mod recovering;
mod retention;
mod silent;
mod sources;
mod states;
mod streams;
mod sweep;
mod underway;
mod world;
