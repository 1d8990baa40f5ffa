//! The engine on a simulated machine: crashes at every boundary, faults, restarts.

mod crash;
mod golden;
mod model;
mod partition;
