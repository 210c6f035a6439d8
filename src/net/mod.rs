//! EDGE: the only part that connects.

pub mod download;
pub mod endpoint;
pub mod http;
pub mod keystore;
pub mod library;
pub mod ocsp;
pub mod registry;

pub use url::Url;
