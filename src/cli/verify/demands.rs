//! `--require`, `--require-any`, `--ignore-unknown`: what is demanded of the signers.

use super::super::private_key::{NO_KEY, key_file};
use super::super::program::call;
use super::super::{Error, go, passphrase, usage};
use crate::key::pem::{self, PublicKey};
use crate::policy::{Demands, KeyName, Required, Tolerated};
use crate::verify::TrustedKey;
use std::ffi::OsString;
use std::path::PathBuf;

/// Flags that demand signers.
#[derive(clap::Args, Default)]
pub(super) struct DemandArgs {
    /// this signer must have signed all that is checked: a whole OpenPGP fingerprint, or a file
    /// with a public key or a certificate (PEM); may be given again
    #[arg(long, value_name = "fingerprint|file", allow_hyphen_values = true)]
    require: Vec<OsString>,
    /// at least so many distinct signers must have signed all that is checked
    #[arg(long, value_name = "number", value_parser = go::count, allow_hyphen_values = true)]
    require_any: Option<usize>,
    /// report signatures by unknown keys, but do not refuse the image for them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    ignore_unknown: Option<bool>,
}

/// The flags, and the files that they name.
pub(super) struct Wanted {
    signers: Vec<Signer>,
    at_least: usize,
    ignore_unknown: bool,
}

/// Somebody named by `--require`.
enum Signer {
    Pgp(KeyName),
    Key(PathBuf, Box<TrustedKey>),
    Certificate(PathBuf),
}

impl DemandArgs {
    /// Whether somebody has to have signed.
    pub(super) fn is_given(&self) -> bool {
        !self.require.is_empty() || self.require_any.is_some()
    }

    /// `--ignore-unknown`.
    pub(super) fn ignores_unknown(&self) -> bool {
        self.ignore_unknown == Some(true)
    }

    /// Reads the files; `command` is for errors about the command line.
    ///
    /// # Errors
    /// A fingerprint that is not whole; a file that cannot be read or holds neither a public key
    /// nor a certificate.
    pub(super) fn load(self, command: &str) -> Result<Wanted, Error> {
        let signers = self.require.into_iter().map(|text| signer(text, command));
        Ok(Wanted {
            signers: signers.collect::<Result<_, _>>()?,
            at_least: self.require_any.unwrap_or(0),
            ignore_unknown: self.ignore_unknown == Some(true),
        })
    }
}

fn signer(text: OsString, command: &str) -> Result<Signer, Error> {
    match text.to_str().and_then(KeyName::fingerprint) {
        Some(Ok(name)) => return Ok(Signer::Pgp(name)),
        Some(Err(error)) => {
            let text = text.to_string_lossy();
            return Err(usage::bad_flags(
                &[command],
                &format!("--require {text}: {error}; a file of that name is written ./{text}"),
            ));
        }
        None => {}
    }
    let path = PathBuf::from(text);
    let fail = passphrase::fatal(NO_KEY);
    let pem = key_file(&path)?;
    match PublicKey::from_pem(&pem) {
        Ok(key) => Ok(Signer::Key(path, Box::new(key.into()))),
        Err(pem::Error::UnknownPublicLabel(label)) if label == "CERTIFICATE" => {
            Ok(Signer::Certificate(path))
        }
        Err(_) if pem.trim_ascii_start().starts_with(b"-----BEGIN PGP ") => Err(fail(format!(
            "{}: an OpenPGP key is required by its fingerprint; '{}' brings it into the keyring",
            path.display(),
            call("key import")
        ))),
        Err(error) => Err(fail(format!("{}: {error}", path.display()))),
    }
}

impl Wanted {
    /// The public keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&PathBuf, &TrustedKey)> {
        self.signers.iter().filter_map(|signer| match signer {
            Signer::Key(path, key) => Some((path, key.as_ref())),
            _ => None,
        })
    }

    /// The files of certificates.
    pub(super) fn certificates(&self) -> Vec<PathBuf> {
        let files = self.signers.iter().filter_map(|signer| match signer {
            Signer::Certificate(path) => Some(path.clone()),
            _ => None,
        });
        files.collect()
    }

    /// `--ignore-unknown`.
    pub(super) fn ignores_unknown(&self) -> bool {
        self.ignore_unknown
    }

    /// Whether a signer is in a keyring.
    pub(super) fn names_pgp(&self) -> bool {
        let mut signers = self.signers.iter();
        signers.any(|signer| matches!(signer, Signer::Pgp(_)))
    }

    /// The demands, with the keys of the certificates in the order of [`Wanted::certificates`].
    pub(super) fn demands<'k>(
        &self,
        certified: impl IntoIterator<Item = &'k TrustedKey>,
    ) -> Demands {
        let mut certified = certified.into_iter();
        let required = self.signers.iter().map(|signer| {
            let (label, key) = match signer {
                Signer::Pgp(name) => (name.to_string(), Some(name.clone())),
                Signer::Key(path, trusted) => (label(path), Some(name(trusted))),
                Signer::Certificate(path) => (label(path), certified.next().map(name)),
            };
            // Without a key nobody can have signed.
            Required {
                label,
                keys: key.into_iter().collect(),
            }
        });
        Demands {
            required: required.collect(),
            at_least: self.at_least,
            accepted: None,
            tolerated: match self.ignore_unknown {
                true => Tolerated::UnknownSigners,
                false => Tolerated::Nothing,
            },
        }
    }
}

fn label(path: &std::path::Path) -> String {
    format!("'{}'", path.display())
}

fn name(trusted: &TrustedKey) -> KeyName {
    KeyName::Spki(trusted.key.spki_sha256())
}
