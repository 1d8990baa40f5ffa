//! The engine on a simulated machine: crashes at every boundary, faults, restarts.

mod crash;
mod model;
mod partition;
mod reading;
