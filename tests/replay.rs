//! Replays what the real tools answered, and compares.
//!
//! Answers recorded from Apptainer 1.4.5 lie in `fixtures/peers`; they are read
//! in SingularityCE's words (`replay/wording.rs`). Those of SingularityCE 4.5.1
//! are compared as they are. Where this program answers
//! otherwise on purpose, `replay/differences.rs` says so with the reason; a
//! difference that is not in that list fails, and so does one that healed.

mod common;

#[path = "replay/advice.rs"]
mod advice;
#[path = "replay/cli.rs"]
mod cli;
#[path = "replay/corpus.rs"]
mod corpus;
#[path = "replay/differences.rs"]
mod differences;
#[path = "replay/edit.rs"]
mod edit;
#[path = "replay/expected.rs"]
mod expected;
#[path = "replay/judge.rs"]
mod judge;
#[path = "replay/record.rs"]
mod record;
#[path = "net/server.rs"]
#[allow(dead_code, reason = "this test needs a part of it")]
mod server;
#[path = "replay/singularity.rs"]
mod singularity;
#[path = "replay/streams.rs"]
mod streams;
#[path = "replay/wording.rs"]
mod wording;
