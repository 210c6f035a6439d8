//! Certificates: paths, revocation, the command. Suites of others, OpenSSL as a peer.

mod support;

#[path = "x509/limbo.rs"]
mod limbo;
#[path = "x509/paths.rs"]
mod paths;
#[path = "x509/wycheproof.rs"]
mod wycheproof;
