//! Signs and verifies container images in the SIF format.
//!
//! Imports point down:
//!
//! ```text
//! cli                        EDGE   flags -> request -> core -> ui
//! ui disk net                EDGE   print and ask; open files; connect
//! sign verify check          STORY  what happens, in order
//! ecl                        who must have signed what is run
//! policy                     who must have signed
//! coverage                   who answers for which byte
//! report scope               the answer; which objects
//! payload    signer          WHAT is signed    HOW it is sealed
//! sif oci    key    remote   WHERE it lives    WHO signs    WHERE keys are kept
//! digest     layer           file systems inside of layers
//! ```
//!
//! The core takes bytes, values and the time, and returns values; only the
//! edges touch the world. `tests/layers.rs` checks both rules.

pub mod check;
pub mod cli;
pub mod coverage;
pub mod digest;
pub mod disk;
pub mod ecl;
pub mod gojson;
pub mod key;
pub mod layer;
pub mod net;
pub mod oci;
pub mod payload;
pub mod policy;
pub mod remote;
pub mod report;
pub mod scope;
pub mod sif;
pub mod sign;
pub mod signer;
pub mod ui;
pub mod verify;
