//! Certificates: paths, revocation, the command. Suites of others, OpenSSL as a peer.

mod support;

#[path = "x509/command.rs"]
mod command;
#[path = "x509/crl.rs"]
mod crl;
#[path = "x509/lab.rs"]
mod lab;
#[path = "x509/limbo.rs"]
mod limbo;
#[path = "x509/ocsp.rs"]
mod ocsp;
#[path = "x509/paths.rs"]
mod paths;
#[path = "x509/server.rs"]
mod server;
#[path = "x509/wycheproof.rs"]
mod wycheproof;
