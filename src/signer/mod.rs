//! HOW a payload is sealed: bytes in, bytes out. Nothing here knows an image.

pub mod bundle;
pub mod dsse;
pub mod pgp;
