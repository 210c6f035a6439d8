//! WHERE signatures and signed objects live: the SIF container format.
//!
//! [`Image`] is the one view of a parsed and checked image; [`edit`] plans
//! changes. Bytes come from the edge, nothing here opens a file.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod descriptor;
pub mod digests;
pub mod edit;
pub mod fresh;
mod header;
mod image;
pub mod layout;
pub mod types;

pub use descriptor::{DESCRIPTOR_LEN, Descriptor, Extra, ExtraError, GROUP_MASK, Link, RelativeId};
pub use header::{HEADER_LEN, Header, MAGIC, MAGIC_OFFSET, UNSET_TIME};
pub use image::{Backing, Error, Fault, Image, Lookup, MAX_SIGNATURE_LEN, Place, Snapshot};
pub use types::{GroupId, ObjectId};
