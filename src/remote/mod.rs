//! WHERE keys servers are configured: endpoints, key servers, credentials.
//!
//! Knows the files' text and the rules, but no files and no network.
//! Source: spec/cli.md 5.1, 5.5 and 6.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod address;
pub mod config;
pub mod docker_config;
pub mod endpoint;
mod yaml;

use zeroize::Zeroizing;

/// A token, password or ready `Authorization` value; wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of an `Authorization` header with a token; none for an empty
    /// one, since a bare `Bearer` is no credential.
    pub fn bearer(&self) -> Option<Self> {
        (!self.is_empty()).then(|| Self::new(format!("Bearer {}", self.expose())))
    }

    /// The value of an `Authorization` header with user and password.
    pub fn basic(user: &str, password: &Self) -> Self {
        let pair = Self::pair(user, password);
        Self::new(format!("Basic {}", pair.expose()))
    }

    /// `user:password` in Base64.
    pub(crate) fn pair(user: &str, password: &Self) -> Self {
        use base64::Engine;
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        Self::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()))
    }
}
