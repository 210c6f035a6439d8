//! `key remove`: take keys out of a keyring.

use super::{Ring, open_folder};
use crate::cli::{self, Error, go, usage};
use crate::disk::keyring::{Purpose, Which};
use crate::key::pgp::Selector;
use crate::ui::Ui;
use std::ffi::OsString;
use std::path::PathBuf;

/// Remove a local public key from your local or the global keyring
///
/// The key is named by its fingerprint or by its key id of 16 or 8 digits. All
/// other keys stay as they are, byte for byte.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key remove [options] <fingerprint>",
    after_help = "Examples:\n  \
                  $ sigsif key remove D87FE3AF5C1F063FCBCC9B02F812842B5EEE5934\n  \
                  $ sigsif key remove --secret 0x5EEE5934"
)]
pub(super) struct Args {
    /// remove the public key (the default)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    public: Option<bool>,
    /// remove the private key
    #[arg(short, long, visible_alias = "private", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    secret: Option<bool>,
    /// remove both the public and the private key
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    both: Option<bool>,
    /// manage global public keys
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    global: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    /// fingerprint or key id
    #[arg(value_name = "fingerprint")]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["key", "remove"], 1, &args.args)?;
    let text = args.args.first().cloned().unwrap_or_default();
    let selector = Selector::new(&text.to_string_lossy());
    let on = |flag: Option<bool>| flag.unwrap_or(false);
    let both = on(args.both) || (on(args.public) && on(args.secret));
    let public = || remove(ui, args, &selector, Which::Public);
    let secret = || remove(ui, args, &selector, Which::Secret);
    if both {
        return match (public(), secret()) {
            (Err(e1), Err(e2)) => Err(Error::fatal(format!(
                "Unable to remove neither public key: {e1}, nor private key: {e2}"
            ))),
            _ => Ok(()),
        };
    }
    let (kind, result) = if on(args.secret) {
        ("private", secret())
    } else {
        ("public", public())
    };
    result.map_err(|text| Error::fatal(format!("Unable to remove {kind} key: {text}")))
}

fn remove(ui: &Ui, args: &Args, selector: &Selector, which: Which) -> Result<(), String> {
    if args.global.unwrap_or(false) {
        if which == Which::Secret {
            return Err("global keyring only holds public keys".to_owned());
        }
        return remove_from(ui, Ring::Global(&cli::global_keyring()), selector);
    }
    let folder = open_folder(ui, args.keysdir.clone(), Purpose::Write)?;
    remove_from(ui, Ring::Local(&folder, which), selector)
}

fn remove_from(ui: &Ui, ring: Ring<'_>, selector: &Selector) -> Result<(), String> {
    let select = || {
        let keyring = ring.load(ui)?;
        let found = selector.find(keyring.entities());
        let key = found.map(|(_, entity)| entity.fingerprint());
        let key = key.map_err(|e| e.to_string())?;
        Ok::<_, String>((keyring, key))
    };
    // What is not there needs no lock, which takes a folder that can be locked.
    select()?;
    let lock = ring.lock()?;
    let (keyring, key) = select()?;
    // All copies: what was removed must not count any more.
    ring.replace(ui, &lock, &keyring.without(&key))
}
