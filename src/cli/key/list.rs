//! `key list`: show a keyring.

use super::open_folder;
use crate::cli::sign::parse_keyring;
use crate::cli::{self, Error, go, usage};
use crate::disk::keyring::{Purpose, Which};
use crate::ui::{Ui, json, text};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// List keys in your local or in the global keyring
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key list [options]",
    after_help = "Examples:\n  \
                  $ sigsif key list\n  \
                  $ sigsif key list --secret"
)]
pub(super) struct Args {
    /// list private keys instead of the default which displays public ones
    #[arg(short, long, visible_alias = "private", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    secret: Option<bool>,
    /// manage global public keys
    #[arg(short, long)]
    global: bool,
    /// print JSON: every key with its state and its sub-keys
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    json: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["key", "list"], 0, &args.args)?;
    let secret = cli::switch(args.secret, "secret", "SECRET")?;
    let (kind, which) = if secret {
        ("Private", Which::Secret)
    } else {
        ("Public", Which::Public)
    };
    let fail = |text: &dyn std::fmt::Display| {
        let kind = kind.to_lowercase();
        Error::fatal(format!(
            "While listing keys: could not list {kind} keys: {text}"
        ))
    };
    let as_json = args.json.unwrap_or(false);
    let heading = |path: &Path| match as_json {
        true => Ok(()),
        false => cli::print(format!("{kind} key listing ({}):\n\n", path.display())),
    };
    let (bytes, path) = if args.global {
        let global = cli::global_keyring();
        if secret {
            heading(&global.file().with_file_name("pgp-secret"))?;
            return Err(fail(&"global keyring doesn't contain private keys"));
        }
        heading(global.file())?;
        let bytes = global.read().map_err(|e| fail(&e))?;
        (bytes, global.file().to_owned())
    } else {
        let path = cli::keyring_folder(args.keysdir.clone());
        let purpose = if secret {
            Purpose::Write
        } else {
            Purpose::Read
        };
        let folder = open_folder(ui, args.keysdir.clone(), purpose);
        heading(&path.join(if secret { "pgp-secret" } else { "pgp-public" }))?;
        let folder = folder.map_err(|e| fail(&e))?;
        let bytes = folder.read(which).map_err(|e| fail(&e))?;
        (bytes, folder.file(which))
    };
    let keyring = parse_keyring(ui, &bytes, &path).map_err(|e| fail(&e))?;
    let entities = keyring.entities();
    if as_json {
        let now = u64::try_from(cli::wall_clock()).unwrap_or_default();
        return cli::print(json::keys(&path.to_string_lossy(), entities, now));
    }
    cli::print(text::keys(entities))
}
