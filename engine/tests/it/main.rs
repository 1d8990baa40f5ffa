//! The engine on a simulated machine: crashes at every boundary, faults, restarts.

mod crash;
mod faults;
mod judge;
mod model;
mod partition;
mod recovering;
mod silent;
mod sweep;
mod world;
