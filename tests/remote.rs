//! Endpoints, key servers and registries: the whole program against a server in this process.
//!
//! Nothing here needs a network, and nothing leaves the machine.

#[path = "common/called.rs"]
mod called;
#[path = "remote/durable.rs"]
mod durable;
#[path = "remote/hostile.rs"]
mod hostile;
#[path = "remote/lab.rs"]
mod lab;
#[path = "remote/replay.rs"]
mod replay;
#[path = "remote/tables.rs"]
mod tables;
