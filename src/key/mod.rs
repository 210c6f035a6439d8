//! WHO signs: keys and the files that hold them.

mod block;
pub mod cosign;
mod ecdsa;
pub mod generate;
pub mod index;
mod locked;
pub mod pem;
pub mod pgp;
mod public;
