//! OCI-SIF images and cosign: keys, signing, verifying, attestations, layouts.
//!
//! Peers are looked for in `PATH` or started with the words of a variable:
//! cosign of `SIGSIF_COSIGN`, a program over the code of SingularityCE of
//! `SIGSIF_CE_COSIGN`. A test whose peer is missing says so and does nothing.

mod support;

#[path = "cosign/attest.rs"]
mod attest;
#[path = "cosign/hostile.rs"]
mod hostile;
#[path = "cosign/keys.rs"]
mod keys;
#[path = "cosign/layout.rs"]
mod layout;
#[path = "cosign/layouts.rs"]
mod layouts;
#[path = "cosign/made.rs"]
mod made;
#[path = "cosign/replay.rs"]
mod replay;
#[path = "cosign/tamper.rs"]
mod tamper;
#[path = "cosign/tool.rs"]
mod tool;
#[path = "cosign/views.rs"]
mod views;
#[path = "cosign/write.rs"]
mod write;
