//! What is written about the program, held against the program.

mod support;

#[path = "docs/blocks.rs"]
mod blocks;
#[path = "docs/book.rs"]
mod book;
#[path = "docs/claims.rs"]
mod claims;
#[path = "docs/completion.rs"]
mod completion;
#[path = "docs/help.rs"]
mod help;
#[path = "docs/packaging.rs"]
mod packaging;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/work.rs"]
mod work;
