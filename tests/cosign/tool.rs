//! Calls with input, and the peers.

use crate::support::{self, Home, Outcome};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a program that reads `input`.
#[track_caller]
pub fn run_with(command: &mut Command, input: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that asks nothing closes the pipe.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    support::finish(child, Duration::from_secs(60), &format!("{command:?}"))
}

/// A peer that may be missing.
pub struct Peer(Vec<String>);

impl Peer {
    /// The real cosign.
    pub fn cosign() -> Option<Self> {
        Self::find("SIGSIF_COSIGN", "cosign")
    }

    fn find(variable: &str, name: &str) -> Option<Self> {
        match std::env::var(variable) {
            Ok(words) => Some(Self(words.split_whitespace().map(str::to_owned).collect())),
            Err(_) if support::tool(name).is_some() => Some(Self(vec![name.to_owned()])),
            Err(_) => {
                support::skip(&format!(
                    "{name} is not installed and {variable} is not set"
                ));
                None
            }
        }
    }

    /// A call of it in a folder.
    pub fn call(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.clean(&self.0[0]);
        command.args(&self.0[1..]).args(args);
        command
    }
}
