//! Who may have signed: combined keys, demands on the command line, policies, execution control.

mod support;

#[path = "policy/keys.rs"]
mod keys;
