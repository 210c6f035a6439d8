//! Who may have signed: combined keys, demands on the command line, policies, execution control.

mod support;

#[path = "policy/bench.rs"]
mod bench;
#[path = "policy/demands.rs"]
mod demands;
#[path = "policy/ecl.rs"]
mod ecl;
#[path = "policy/file.rs"]
mod file;
#[path = "policy/keys.rs"]
mod keys;
#[path = "policy/matrix.rs"]
mod matrix;
#[allow(dead_code, reason = "written for more than is asked of it here")]
#[path = "net/server.rs"]
mod server;
#[path = "policy/subjects.rs"]
mod subjects;
