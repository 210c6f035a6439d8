//! What integration tests share: fixtures, the program, a terminal.

pub mod called;
pub mod fixtures;
pub mod program;
pub mod terminal;
