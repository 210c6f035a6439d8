//! Key servers: a server on the loopback interface, in this process, that does what it is told.
//!
//! Nothing here needs a network.

#[path = "common/called.rs"]
mod called;
#[path = "net/gpg.rs"]
mod gpg;
#[path = "net/hostile.rs"]
mod hostile;
#[path = "net/keys.rs"]
mod keys;
#[path = "net/replay.rs"]
mod replay;
#[path = "net/server.rs"]
mod server;
#[path = "net/tool.rs"]
mod tool;
