//! Which keys count: files, keyrings, the environment.

use super::super::sign::{KeyringError, parse_keyring};
use super::super::{self as cli, Cause, Error, go, public_key};
use super::FAILED;
use super::demands::Wanted;
use crate::disk::keyring::{KeyringFolder, Purpose, Which};
use crate::key::pgp::Keyring;
use crate::report::Origin;
use crate::ui::Ui;
use crate::verify::{KeyMaterial, TrustedKey};
use std::path::{Path, PathBuf};

/// Flags that name keys.
#[derive(clap::Args, Default)]
pub(super) struct KeyArgs {
    /// path to a public key file (PEM); may be given again
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    pub(super) key: Vec<PathBuf>,
    /// with --key or --certificate: judge OpenPGP signatures as well, by the keyrings
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    pub(super) pgp: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    pub(super) keysdir: Option<PathBuf>,
}

impl KeyArgs {
    /// Reads the keys, and adds those that are required. The keys of `certificates` come later,
    /// from a judgement of their own.
    ///
    /// The environment names a key only if nothing else does.
    ///
    /// # Errors
    /// A file or a keyring cannot be read or used.
    pub(super) fn load(
        self,
        ui: &Ui,
        certificates: bool,
        wanted: &Wanted,
    ) -> Result<KeyMaterial, Error> {
        let mut files = self.key;
        if files.is_empty() && wanted.keys().next().is_none() && !certificates {
            files.extend(cli::env_value("VERIFY_KEY").map(PathBuf::from));
        }
        let mut material = KeyMaterial::default();
        let mut add = |key: TrustedKey| {
            if !material.keys.iter().any(|known| known.key == key.key) {
                material.keys.push(key);
            }
        };
        let tell = |file: &Path| {
            ui.info(format_args!(
                "Verifying image with key material from '{}'",
                file.display()
            ));
        };
        for file in &files {
            tell(file);
            add(public_key::load(file)?.into());
        }
        for (file, key) in wanted.keys() {
            tell(file);
            add(key.clone());
        }
        let others = !material.keys.is_empty() || certificates;
        if self.pgp == Some(true) || wanted.names_pgp() || !others {
            ui.info("Verifying image with PGP key material");
            let keyrings = load_keyrings(ui, self.keysdir)
                .map_err(|error| Cause::plain(error).fatal(FAILED))?;
            material.keyrings = KeyMaterial::of_keyrings(keyrings).keyrings;
        }
        Ok(material)
    }
}

/// Global keyring first, then the user's.
pub(in crate::cli) fn load_keyrings(
    ui: &Ui,
    flag: Option<PathBuf>,
) -> Result<Vec<(Origin, Keyring)>, KeyringError> {
    let global = cli::global_keyring();
    let bytes = global.read().map_err(KeyringError::Folder)?;
    let global = parse_keyring(ui, &bytes, global.file())?;
    let mut warnings = Vec::new();
    let folder = cli::keyring_folder(flag);
    let opened = KeyringFolder::open(&folder, Purpose::Read, &mut warnings);
    for warning in warnings {
        ui.warning(warning);
    }
    let opened = opened.map_err(KeyringError::Folder)?;
    let bytes = opened.read(Which::Public).map_err(KeyringError::Folder)?;
    let local = parse_keyring(ui, &bytes, &opened.file(Which::Public))?;
    Ok(vec![(Origin::Global, global), (Origin::Local, local)])
}
