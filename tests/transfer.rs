//! Registries and libraries: push, pull, and what is checked on the way.

mod support;

#[path = "transfer/converters.rs"]
mod converters;
#[path = "transfer/hostile.rs"]
mod hostile;
#[path = "transfer/layers.rs"]
mod layers;
#[path = "transfer/peer.rs"]
mod peer;
#[path = "transfer/protocol.rs"]
mod protocol;
#[path = "transfer/pull_faults.rs"]
mod pull_faults;
#[path = "transfer/pull_forms.rs"]
mod pull_forms;
#[path = "transfer/pull_real.rs"]
mod pull_real;
#[path = "transfer/push_faults.rs"]
mod push_faults;
#[path = "transfer/push_real.rs"]
mod push_real;
#[path = "transfer/push_tar.rs"]
mod push_tar;
#[path = "transfer/registry_attest.rs"]
mod registry_attest;
#[path = "transfer/registry_sign.rs"]
mod registry_sign;
#[path = "transfer/server.rs"]
mod server;
#[allow(dead_code, reason = "of the key servers only TLS is used")]
#[path = "net/server.rs"]
mod tls;
#[path = "transfer/unsquash.rs"]
mod unsquash;
