//! Golden command lines, and what holds for every command line.

mod goldens;
mod injection;
mod real;
pub(crate) mod sample;
