//! EDGE: the only part that connects.

pub mod http;
pub mod keystore;

pub use url::Url;
