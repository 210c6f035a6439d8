//! EDGE: the only part that connects.

pub mod http;

pub use url::Url;
