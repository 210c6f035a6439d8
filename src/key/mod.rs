//! WHO signs: keys and the files that hold them.

mod block;
pub mod cosign;
pub mod crl;
mod ecdsa;
pub mod generate;
pub mod index;
mod locked;
pub mod ocsp;
pub mod pem;
pub mod pgp;
mod public;
mod signed;
pub mod x509;
