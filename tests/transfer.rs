//! Registries and libraries: push, pull, and what is checked on the way.

mod support;

#[path = "transfer/layers.rs"]
mod layers;
#[path = "transfer/protocol.rs"]
mod protocol;
#[path = "transfer/server.rs"]
mod server;
