//! What is written about the program, held against the program.

mod support;

#[path = "docs/completion.rs"]
mod completion;
#[path = "docs/pages.rs"]
mod pages;
