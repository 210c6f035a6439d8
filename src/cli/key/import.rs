//! `key import`: add keys from a file.

use super::{failed, open_folder};
use crate::cli::passphrase::{self, Source};
use crate::cli::sign::{KeyringError, parse_keyring};
use crate::cli::{self, Error, usage};
use crate::disk::errno_text;
use crate::disk::files::{self, MAX_KEYRING};
use crate::disk::keyring::{GlobalKeyring, KeyringFolder, Purpose, Which};
use crate::key::pgp::{Entity, Keyring, SecretState, entities_from_armored_or_binary, reprotect};
use crate::ui::Ui;
use crate::ui::prompt::{Console, Prompt, Stream};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Import a local key into the local or global keyring
///
/// The file is binary or armored and may hold several keys. Private keys are
/// stored in the local keyring, encrypted as they are or anew.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] key [key options...] import [import options...] <input-key>"
)]
pub(super) struct Args {
    /// import to the global public keyring
    #[arg(short, long)]
    global: bool,
    /// set a new password to the private key
    #[arg(long)]
    new_password: bool,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    /// path of the key file
    #[arg(value_name = "input-key")]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["key", "import"], 1, &args.args)?;
    let path = PathBuf::from(args.args.first().cloned().unwrap_or_default());
    import_file(ui, args, &path)
        .map_err(|text| failed(format!("key import command failed: {text}")))
}

fn import_file(ui: &Ui, args: &Args, path: &Path) -> Result<(), String> {
    let named = |text: String| format!("unable to get entity from: {}: {text}", path.display());
    let bytes = files::read(path, MAX_KEYRING).map_err(|error| {
        let verb = if path.is_dir() { "read" } else { "open" };
        named(format!("{verb} {}: {}", path.display(), errno_text(&error)))
    })?;
    let entities = entities_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
    let target = if args.global {
        Target::Global(cli::global_keyring())
    } else {
        Target::Local(open_folder(ui, args.keysdir.clone(), Purpose::Write)?)
    };
    let mut prompt = Console;
    for entity in &entities {
        if entity.has_secret() {
            let Target::Local(folder) = &target else {
                return Err("global keyring doesn't contain private keys".to_owned());
            };
            import_secret(ui, args, entity, folder, &mut prompt)?;
            tell_added(entity, "private")?;
        }
        import_public(ui, entity, &target)?;
        tell_added(entity, "public")?;
    }
    Ok(())
}

enum Target {
    Local(KeyringFolder),
    Global(GlobalKeyring),
}

fn import_secret(
    ui: &Ui,
    args: &Args,
    entity: &Entity,
    folder: &KeyringFolder,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    let file = folder.file(Which::Secret);
    let require_new = || {
        let bytes = folder.read(Which::Secret).map_err(|e| e.to_string())?;
        require_absent(ui, &bytes, &file, entity)
    };
    // Before the questions, and again under the lock.
    require_new()?;
    let bytes = protected(ui, args, entity, prompt)?;
    let lock = folder.lock().map_err(|e| e.to_string())?;
    require_new()?;
    folder
        .append(&lock, Which::Secret, &bytes)
        .map_err(|e| e.to_string())
}

/// The secret key as it will be stored: every secret part under one passphrase.
fn protected(
    ui: &Ui,
    args: &Args,
    entity: &Entity,
    prompt: &mut dyn Prompt,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let old = if entity.secret_state() == SecretState::Encrypted {
        let given = match args.passphrase.given()? {
            Some(given) => given,
            None => passphrase::ask(prompt, "Enter your key password : ", Stream::Stdout)?,
        };
        // A wrong passphrase is told before a new one is asked for.
        entity
            .unlock(Some(&given))
            .map_err(|error| error.to_string())?;
        Some(given)
    } else {
        None
    };
    let new = if args.new_password {
        Some(passphrase::ask_new(
            ui,
            prompt,
            "Enter a new password for this key : ",
        )?)
    } else {
        old.clone()
    };
    match (&old, new) {
        // Nothing to unlock and nothing to lock: the packets as they came.
        (None, None) => Ok(entity.rewritten()),
        (old, new) => {
            let new = new.filter(|new| !new.is_empty());
            let old = old.as_ref().map(|old| old.as_slice());
            reprotect(entity, old, new.as_ref().map(|new| new.as_slice()))
                .map_err(|error| error.to_string())
        }
    }
}

fn import_public(ui: &Ui, entity: &Entity, target: &Target) -> Result<(), String> {
    let text = |error: crate::disk::keyring::Error| error.to_string();
    let keys = entity.public_bytes();
    match target {
        Target::Local(folder) => {
            let lock = folder.lock().map_err(text)?;
            let bytes = folder.read(Which::Public).map_err(text)?;
            require_absent(ui, &bytes, &folder.file(Which::Public), entity)?;
            folder.append(&lock, Which::Public, &keys).map_err(text)
        }
        Target::Global(global) => {
            let lock = global.lock().map_err(text)?;
            let bytes = global.read().map_err(text)?;
            require_absent(ui, &bytes, global.file(), entity)?;
            global.append(&lock, &keys).map_err(text)
        }
    }
}

fn require_absent(ui: &Ui, bytes: &[u8], file: &Path, entity: &Entity) -> Result<(), String> {
    let keyring: Keyring =
        parse_keyring(ui, bytes, file).map_err(|error: KeyringError| error.to_string())?;
    let fingerprint = entity.fingerprint();
    if keyring.position(&fingerprint).is_some() {
        return Err(format!(
            "the key with fingerprint {fingerprint} already belongs to the keyring"
        ));
    }
    Ok(())
}

fn tell_added(entity: &Entity, kind: &str) -> Result<(), String> {
    cli::print(format!(
        "Key with fingerprint {} successfully added to the {kind} keyring\n",
        entity.fingerprint()
    ))
    .map_err(|error| match error {
        Error::Fatal { text, .. } => text,
        _ => "write /dev/stdout: broken pipe".to_owned(),
    })
}
