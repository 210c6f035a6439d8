//! HOW a payload is sealed: bytes in, bytes out. Nothing here knows an image.

pub mod dsse;
pub mod pgp;
