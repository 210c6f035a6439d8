//! `verify --strict`, `sif list --coverage`, `sif check`, `sif repair`: every
//! byte of a file is accounted for, and what is found wrong is put right.

mod support;

#[path = "strict/check.rs"]
mod check;
#[path = "strict/edits.rs"]
mod edits;
#[path = "strict/flips.rs"]
mod flips;
#[path = "strict/forms.rs"]
mod forms;
#[path = "strict/hostile.rs"]
mod hostile;
#[path = "strict/repair.rs"]
mod repair;
#[path = "strict/show.rs"]
mod show;
