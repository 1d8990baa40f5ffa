//! The engine on a simulated machine: crashes at every boundary, faults, restarts.

mod crash;
mod crash_trim;
mod golden;
mod model;
mod partition;
mod reading;
mod retention;
