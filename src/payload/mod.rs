//! WHAT is signed: the text inside a signature. Nothing here knows a key.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod intoto;
pub mod legacy;
pub mod native;
pub mod simple;
