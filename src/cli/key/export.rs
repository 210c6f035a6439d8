//! `key export`: write one key into a file.

use super::{Ring, open_folder, sentence};
use crate::cli::passphrase::{self, Source};
use crate::cli::{self, Error, go, usage};
use crate::disk::keyring::{Purpose, Which};
use crate::disk::{errno_text, files};
use crate::key::pgp::{ArmorKind, Entity, Keyring, SecretState, Selector, encode_armor};
use crate::ui::prompt::{Console, Prompt, Stream};
use crate::ui::{Ui, text};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Exit code of a failed `export`.
const FAILED: u8 = 10;

/// Export a public or private key into a specific file
///
/// With a fingerprint, or a key id of 16 or 8 digits, in front of the file
/// nothing is asked; else the key is chosen from a list. A private key stays
/// encrypted; its passphrase is asked for all the same.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key export [options] [fingerprint] <output-file>",
    after_help = "Examples:\n  \
                  $ sigsif key export public.gpg\n  \
                  $ sigsif key export --armor 0x5EEE5934 public.asc\n  \
                  $ sigsif key export --secret --armor private.asc"
)]
pub(super) struct Args {
    /// export a private key instead of a public one
    #[arg(short, long, visible_alias = "private", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    secret: Option<bool>,
    /// ascii armored format
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    armor: Option<bool>,
    /// export from the global keyring
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    global: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    /// fingerprint or key id, and path of the output file
    #[arg(value_name = "output-file")]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    let (selector, path) = match args.args.as_slice() {
        [selector, path] => (Some(Selector::new(&selector.to_string_lossy())), path),
        [path] => (None, path),
        given => return usage::exactly(&["key", "export"], 1, given),
    };
    let path = Path::new(path);
    let secret = args.secret.unwrap_or(false);
    export(ui, args, secret, selector.as_ref(), path).map_err(|text| Error::Failed {
        code: FAILED,
        text: format!("key export command failed: {text}"),
    })
}

fn export(
    ui: &Ui,
    args: &Args,
    secret: bool,
    selector: Option<&Selector>,
    path: &Path,
) -> Result<(), String> {
    let mut prompt = Console;
    let keyring = load(ui, args, secret)?;
    let entity = match selector {
        Some(selector) => {
            let found = selector.find(keyring.entities());
            found.map(|(_, entity)| entity).map_err(|e| e.to_string())?
        }
        None => choose(keyring.entities(), secret, &mut prompt)?,
    };
    let packets = if secret {
        require_passphrase(&args.passphrase, entity, &mut prompt)?;
        entity.rewritten()
    } else {
        Zeroizing::new(entity.public_bytes())
    };
    // The modes of SingularityCE.
    let (kind, armor_kind, mode) = if secret {
        ("Private", ArmorKind::Private, 0o600)
    } else {
        ("Public", ArmorKind::Public, 0o644)
    };
    let armored;
    let content = if args.armor.unwrap_or(false) {
        armored = encode_armor(armor_kind, &packets);
        armored.as_bytes()
    } else {
        packets.as_slice()
    };
    files::write_named(path, content, mode).map_err(|error| {
        let reason = errno_text(&error);
        format!("unable to create file: open {}: {reason}", path.display())
    })?;
    cli::print(format!(
        "{kind} key with fingerprint {} correctly exported to file: {}\n",
        entity.fingerprint(),
        path.display()
    ))
    .map_err(sentence)
}

fn load(ui: &Ui, args: &Args, secret: bool) -> Result<Keyring, String> {
    if args.global.unwrap_or(false) {
        if secret {
            return Err("global keyring doesn't contain private keys".to_owned());
        }
        return Ring::Global(&cli::global_keyring()).load(ui);
    }
    let (which, purpose) = if secret {
        (Which::Secret, Purpose::Write)
    } else {
        (Which::Public, Purpose::Read)
    };
    let folder = open_folder(ui, args.keysdir.clone(), purpose)?;
    Ring::Local(&folder, which).load(ui)
}

fn choose<'e>(
    entities: &'e [Entity],
    secret: bool,
    prompt: &mut dyn Prompt,
) -> Result<&'e Entity, String> {
    if entities.is_empty() {
        return Err("keyring is empty".to_owned());
    }
    let kind = if secret { "private" } else { "public" };
    let question = format!("{}Enter # of {kind} key to use : ", text::keys(entities));
    let answer = prompt.line(&question).map_err(|e| errno_text(&e))?;
    let index = go::decimal_int(&answer)?;
    usize::try_from(index)
        .ok()
        .and_then(|index| entities.get(index))
        .ok_or_else(|| "invalid choice".to_owned())
}

/// Who exports a private key has to know its passphrase.
fn require_passphrase(
    source: &Source,
    entity: &Entity,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    match entity.secret_state() {
        SecretState::None => Err(format!(
            "key {} has no private part in this keyring",
            entity.fingerprint()
        )),
        SecretState::Clear | SecretState::Stub => Ok(()),
        SecretState::Encrypted => {
            let passphrase = match source.given()? {
                Some(given) => given,
                None => passphrase::ask(prompt, "Enter key passphrase : ", Stream::Stdout)?,
            };
            let unlocked = entity.unlock(Some(&passphrase));
            unlocked.map(drop).map_err(|error| error.to_string())
        }
    }
}
