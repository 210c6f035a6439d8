//! `key`: make, list and import OpenPGP keys.

use super::passphrase::{self, Secret, Source};
use super::sign::parse_keyring;
use super::{Error, go, usage};
use crate::disk::errno_text;
use crate::disk::files::{self, MAX_KEYRING};
use crate::disk::keyring::{GlobalKeyring, KeyringFolder, Purpose, Which};
use crate::key::pgp::{
    Entity, Params, SecretState, entities_from_armored_or_binary, generate, reprotect,
};
use crate::ui::prompt::{Console, Prompt, Stream};
use crate::ui::{Ui, text};
use clap::Subcommand;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Exit code of a failed `newpair` or `import`.
const FAILED: u8 = 2;

/// Manage OpenPGP keys
#[derive(clap::Args)]
#[command(
    visible_alias = "keys",
    override_usage = "sigsif [global options...] key [key options...] <command>"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Newpair(NewpairArgs),
    List(ListArgs),
    Import(ImportArgs),
}

/// Create a new PGP key-pair
///
/// Makes an RSA key that signs and an RSA sub-key that encrypts, and stores
/// them in the local keyring. What no flag gives is asked for.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] key [key options...] newpair [newpair options...]"
)]
struct NewpairArgs {
    /// key owner name
    #[arg(short = 'N', long, value_name = "string", allow_hyphen_values = true)]
    name: Option<String>,
    /// key owner email
    #[arg(short = 'E', long, value_name = "string", allow_hyphen_values = true)]
    email: Option<String>,
    /// key comment
    #[arg(short = 'C', long, value_name = "string", allow_hyphen_values = true)]
    comment: Option<String>,
    /// key password; others can see it, better use --passphrase-file
    #[arg(short = 'P', long, value_name = "string", allow_hyphen_values = true)]
    password: Option<String>,
    /// specify key bit length (default 4096)
    #[arg(short, long, value_name = "int", value_parser = go::int, allow_hyphen_values = true)]
    bit_length: Option<i64>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// List keys in your local or in the global keyring
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] key [key options...] list [list options...]"
)]
struct ListArgs {
    /// list private keys instead of the default which displays public ones
    #[arg(short, long, visible_alias = "private", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    secret: Option<bool>,
    /// manage global public keys
    #[arg(short, long)]
    global: bool,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// Import a local key into the local or global keyring
///
/// The file is binary or armored and may hold several keys. Private keys are
/// stored in the local keyring, encrypted as they are or anew.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] key [key options...] import [import options...] <input-key>"
)]
struct ImportArgs {
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

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    match args.command {
        Command::Newpair(args) => newpair(ui, &args),
        Command::List(args) => list(ui, &args),
        Command::Import(args) => import(ui, &args),
    }
}

fn newpair(ui: &Ui, args: &NewpairArgs) -> Result<(), Error> {
    usage::exactly(&["key", "newpair"], 0, &args.args)?;
    let mut prompt = Console;
    let asked = ask_for_pair(ui, args, &mut prompt);
    let (name, email, comment, passphrase) =
        asked.map_err(|text| failed(format!("could not collect user input: {text}")))?;
    super::print("Generating Entity and OpenPGP Key Pair... ")?;
    let made = make_pair(ui, args, &name, &email, &comment, &passphrase);
    if let Err(text) = made {
        super::print("\n")?;
        return Err(failed(format!("creating newpair failed: {text}")));
    }
    super::print("done\n")
}

fn ask_for_pair(
    ui: &Ui,
    args: &NewpairArgs,
    prompt: &mut dyn Prompt,
) -> Result<(String, String, String, Secret), String> {
    let mut part = |given: &Option<String>, question: &str| match given {
        Some(given) => Ok(given.clone()),
        None => prompt.line(question).map_err(|e| errno_text(&e)),
    };
    let name = part(&args.name, "Enter your name (e.g., John Doe) : ")?;
    let email = part(
        &args.email,
        "Enter your email address (e.g., john.doe@example.com) : ",
    )?;
    let comment = part(
        &args.comment,
        "Enter optional comment (e.g., development keys) : ",
    )?;
    let passphrase = match (&args.password, args.passphrase.given()?) {
        (Some(given), _) => Zeroizing::new(given.clone().into_bytes()),
        (None, Some(given)) => given,
        (None, None) => passphrase::ask_new(ui, prompt, "Enter a passphrase : ")?,
    };
    Ok((name, email, comment, passphrase))
}

fn make_pair(
    ui: &Ui,
    args: &NewpairArgs,
    name: &str,
    email: &str,
    comment: &str,
    passphrase: &Secret,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // A keyring that cannot be used is found before the long work.
    let folder = open_folder(ui, args.keysdir.clone(), Purpose::Write)?;
    let now = super::signing_time().map_err(|error| match error {
        Error::Fatal { text, .. } => text,
        _ => String::new(),
    })?;
    let pair = generate(&Params {
        name,
        comment,
        email,
        bits: args.bit_length.unwrap_or(4096),
        passphrase: (!passphrase.is_empty()).then_some(passphrase.as_slice()),
        now: u64::try_from(now).unwrap_or_default(),
    })
    .map_err(|e| text(&e))?;
    let lock = folder.lock().map_err(|e| text(&e))?;
    // Public first: a crash in between leaves a key that can be removed, not
    // a secret that nobody can verify.
    folder
        .append(&lock, Which::Public, &pair.public_bytes)
        .and_then(|()| folder.append(&lock, Which::Secret, &pair.secret_bytes))
        .map_err(|e| text(&e))
}

fn open_folder(ui: &Ui, flag: Option<PathBuf>, purpose: Purpose) -> Result<KeyringFolder, String> {
    let mut warnings = Vec::new();
    let folder = KeyringFolder::open(&super::keyring_folder(flag), purpose, &mut warnings);
    for warning in warnings {
        ui.warning(warning);
    }
    folder.map_err(|error| error.to_string())
}

fn list(ui: &Ui, args: &ListArgs) -> Result<(), Error> {
    usage::exactly(&["key", "list"], 0, &args.args)?;
    let secret = super::switch(args.secret, "secret", "SECRET")?;
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
    let heading =
        |path: &Path| super::print(format!("{kind} key listing ({}):\n\n", path.display()));
    let (bytes, path) = if args.global {
        let global = super::global_keyring();
        if secret {
            heading(&global.file().with_file_name("pgp-secret"))?;
            return Err(fail(&"global keyring doesn't contain private keys"));
        }
        heading(global.file())?;
        let bytes = global.read().map_err(|e| fail(&e))?;
        (bytes, global.file().to_owned())
    } else {
        let path = super::keyring_folder(args.keysdir.clone());
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
    super::print(text::keys(keyring.entities()))
}

fn import(ui: &Ui, args: &ImportArgs) -> Result<(), Error> {
    usage::exactly(&["key", "import"], 1, &args.args)?;
    let path = PathBuf::from(args.args.first().cloned().unwrap_or_default());
    import_file(ui, args, &path)
        .map_err(|text| failed(format!("key import command failed: {text}")))
}

fn import_file(ui: &Ui, args: &ImportArgs, path: &Path) -> Result<(), String> {
    let named = |text: String| format!("unable to get entity from: {}: {text}", path.display());
    let bytes = files::read(path, MAX_KEYRING).map_err(|error| {
        let verb = if path.is_dir() { "read" } else { "open" };
        named(format!("{verb} {}: {}", path.display(), errno_text(&error)))
    })?;
    let entities = entities_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
    let target = if args.global {
        Target::Global(super::global_keyring())
    } else {
        Target::Local(open_folder(ui, args.keysdir.clone(), Purpose::Write)?)
    };
    let mut prompt = Console;
    for entity in &entities {
        if entity.has_secret() {
            let Target::Local(folder) = &target else {
                return Err("global keyring doesn't contain private keys".to_owned());
            };
            import_pair(ui, args, entity, folder, &mut prompt)?;
        } else {
            import_public(ui, entity, &target)?;
        }
    }
    Ok(())
}

enum Target {
    Local(KeyringFolder),
    Global(GlobalKeyring),
}

/// Stores both halves of a key; a half that is alone gets its other one.
fn import_pair(
    ui: &Ui,
    args: &ImportArgs,
    entity: &Entity,
    folder: &KeyringFolder,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    let text = |error: crate::disk::keyring::Error| error.to_string();
    let there = |which| {
        let bytes = folder.read(which).map_err(text)?;
        contains(ui, &bytes, &folder.file(which), entity)
    };
    // Before the questions, and again under the lock.
    if there(Which::Secret)? {
        return import_public(ui, entity, &Target::Local(folder.clone()));
    }
    let secret = protected(ui, args, entity, prompt)?;
    let lock = folder.lock().map_err(text)?;
    if there(Which::Secret)? {
        return Err(already_there(entity));
    }
    let public_there = there(Which::Public)?;
    if !public_there {
        // First, so that a crash in between leaves no secret key that nobody
        // can verify.
        folder
            .append(&lock, Which::Public, &entity.public_bytes())
            .map_err(text)?;
    }
    folder.append(&lock, Which::Secret, &secret).map_err(text)?;
    tell_added(entity, "private")?;
    if public_there {
        // As the originals: the call failed in its second half.
        return Err(already_there(entity));
    }
    tell_added(entity, "public")
}

/// The secret key as it will be stored: every secret part under one passphrase.
fn protected(
    ui: &Ui,
    args: &ImportArgs,
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
    let added = match target {
        Target::Local(folder) => {
            let lock = folder.lock().map_err(text)?;
            let bytes = folder.read(Which::Public).map_err(text)?;
            if contains(ui, &bytes, &folder.file(Which::Public), entity)? {
                return Err(already_there(entity));
            }
            folder.append(&lock, Which::Public, &keys)
        }
        Target::Global(global) => {
            let lock = global.lock().map_err(text)?;
            let bytes = global.read().map_err(text)?;
            if contains(ui, &bytes, global.file(), entity)? {
                return Err(already_there(entity));
            }
            global.append(&lock, &keys)
        }
    };
    added.map_err(text)?;
    tell_added(entity, "public")
}

fn contains(ui: &Ui, bytes: &[u8], file: &Path, entity: &Entity) -> Result<bool, String> {
    let keyring = parse_keyring(ui, bytes, file).map_err(|error| error.to_string())?;
    Ok(keyring.position(&entity.fingerprint()).is_some())
}

fn already_there(entity: &Entity) -> String {
    format!(
        "the key with fingerprint {} already belongs to the keyring",
        entity.fingerprint()
    )
}

fn tell_added(entity: &Entity, kind: &str) -> Result<(), String> {
    super::print(format!(
        "Key with fingerprint {} successfully added to the {kind} keyring\n",
        entity.fingerprint()
    ))
    .map_err(|error| match error {
        Error::Fatal { text, .. } => text,
        _ => "write /dev/stdout: broken pipe".to_owned(),
    })
}

fn failed(text: String) -> Error {
    Error::Failed { code: FAILED, text }
}
