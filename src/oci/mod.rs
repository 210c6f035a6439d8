//! WHERE: OCI images inside a SIF.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod build;
mod json;
pub mod layout;
pub mod layout_view;
pub mod manifest;
pub mod ocisif;
pub mod pulled;
pub mod reference;
pub mod select;
pub mod tree;
pub mod update;
