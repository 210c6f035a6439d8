//! EDGE: the only part that connects.

pub mod endpoint;
pub mod http;
pub mod keystore;
pub mod ocsp;
pub mod registry;

pub use url::Url;
