//! `key import`: add keys from a file.

use super::{Ring, failed, open_folder, sentence};
use crate::cli::passphrase::{self, Source};
use crate::cli::{self, Error, go, usage};
use crate::disk::errno_text;
use crate::disk::files::{self, Lock, MAX_KEYRING};
use crate::disk::keyring::{GlobalKeyring, KeyringFolder, Purpose, Which};
use crate::key::pgp::{
    self, Entity, Fingerprint, SecretState, Update, entities_from_armored_or_binary, reprotect,
    updates_from_armored_or_binary,
};
use crate::ui::Ui;
use crate::ui::prompt::{Console, Prompt, Stream};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Import a local key into the local or global keyring
///
/// The file is binary or armored and may hold several keys. Private keys are
/// stored in the local keyring, encrypted as they are or anew.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key import [options] <input-key>",
    after_help = "Examples:\n  \
                  $ sigsif key import alice.asc\n  \
                  $ sigsif key import --merge alice.asc"
)]
pub(super) struct Args {
    /// import to the global public keyring
    #[arg(short, long)]
    global: bool,
    /// set a new password to the private key
    #[arg(long)]
    new_password: bool,
    /// add what is new to keys that are already there; also take bare revocations
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    merge: Option<bool>,
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
    let target = || Target::open(ui, args.global, args.keysdir.clone(), Purpose::Write);
    let mut prompt = Console;
    if args.merge.unwrap_or(false) {
        let updates = updates_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
        let target = target()?;
        for update in &updates {
            import_update(ui, args, update, &target, &named, &mut prompt)?;
        }
        return Ok(());
    }
    let entities = entities_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
    let target = target()?;
    for run in entities.chunk_by(|one, next| !one.has_secret() && !next.has_secret()) {
        match run {
            [entity] if entity.has_secret() => {
                let told = import_pair(ui, args, entity, &target, &mut prompt)?;
                if !told {
                    return Err(already_there(entity));
                }
            }
            run => import_public(ui, run, target.public())?,
        }
    }
    Ok(())
}

/// Adds a key, or what is new about a known one.
fn import_update(
    ui: &Ui,
    args: &Args,
    update: &Update,
    target: &Target,
    named: &dyn Fn(String) -> String,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    let alone = update.entity();
    let with_secret = alone.as_ref().ok().filter(|entity| entity.has_secret());
    let mut told = false;
    if let Some(entity) = with_secret
        && !target.secret()?.holds(ui, entity)?
    {
        if import_pair(ui, args, entity, target, prompt)? {
            return Ok(());
        }
        told = true;
    }
    let lock = target.public().lock()?;
    let mut known = false;
    if let Target::Local(folder) = target {
        let ring = Ring::Local(folder, Which::Secret);
        let merged = merge_into(ui, &lock, ring, std::slice::from_ref(update))?;
        known = merged.is_some();
        match merged {
            Some((fingerprint, true)) => tell(fingerprint, MERGED, "private")?,
            Some((fingerprint, false)) if with_secret.is_some() && !told => {
                tell(fingerprint, UNCHANGED, "private")?;
            }
            _ => {}
        }
    }
    match (
        merge_into(ui, &lock, target.public(), std::slice::from_ref(update))?,
        &alone,
    ) {
        (Some((fingerprint, true)), _) => tell(fingerprint, MERGED, "public"),
        (Some((fingerprint, false)), _) => tell(fingerprint, UNCHANGED, "public"),
        (None, Ok(entity)) => {
            target.public().append(&lock, &entity.public_bytes())?;
            tell(entity.fingerprint(), ADDED, "public")
        }
        (None, Err(_)) if known => Ok(()),
        (None, Err(reason)) => Err(match update.revoked_key_id() {
            Some(id) => format!("the revoked key {id:016X} is not in the keyring"),
            None => named(reason.to_string()),
        }),
    }
}

/// Adds to a key of a ring what updates about it bring. The caller holds the lock.
///
/// Returns the key and whether it changed, or nothing if the ring does not have it.
///
/// # Errors
/// The sentence to tell.
pub(super) fn merge_into(
    ui: &Ui,
    lock: &Lock,
    ring: Ring<'_>,
    updates: &[Update],
) -> Result<Option<(Fingerprint, bool)>, String> {
    let keyring = ring.load(ui)?;
    let is_meant = |stored: &Entity| updates.iter().any(|update| update.is_about(stored));
    let mut entities = keyring.entities().iter().enumerate();
    let Some((index, stored)) = entities.find(|(_, stored)| is_meant(stored)) else {
        return Ok(None);
    };
    let mut news = None;
    let mut current = stored.clone();
    for update in updates.iter().filter(|update| update.is_about(stored)) {
        let merged = pgp::merge(&current, update).map_err(|error| error.to_string())?;
        if let Some(packets) = merged {
            current = Entity::read(&packets).map_err(|error| error.to_string())?;
            news = Some(packets);
        }
    }
    if let Some(packets) = &news {
        ring.replace(ui, lock, &keyring.with(index, packets))?;
    }
    Ok(Some((stored.fingerprint(), news.is_some())))
}

/// The keyring that a command is about.
pub(super) enum Target {
    Local(KeyringFolder),
    Global(GlobalKeyring),
}

impl Target {
    /// The administrator's keyring, or the user's in its folder.
    pub(super) fn open(
        ui: &Ui,
        global: bool,
        keysdir: Option<PathBuf>,
        purpose: Purpose,
    ) -> Result<Self, String> {
        Ok(if global {
            Self::Global(cli::global_keyring())
        } else {
            Self::Local(open_folder(ui, keysdir, purpose)?)
        })
    }

    pub(super) fn public(&self) -> Ring<'_> {
        match self {
            Self::Local(folder) => Ring::Local(folder, Which::Public),
            Self::Global(global) => Ring::Global(global),
        }
    }

    fn secret(&self) -> Result<Ring<'_>, String> {
        match self {
            Self::Local(folder) => Ok(Ring::Local(folder, Which::Secret)),
            Self::Global(_) => Err("global keyring doesn't contain private keys".to_owned()),
        }
    }
}

/// Stores both halves of a key; a half that is alone gets its other one.
///
/// Returns whether the public half was stored, and not there already.
fn import_pair(
    ui: &Ui,
    args: &Args,
    entity: &Entity,
    target: &Target,
    prompt: &mut dyn Prompt,
) -> Result<bool, String> {
    let (secret, public) = (target.secret()?, target.public());
    // Before the questions, and again under the lock.
    if secret.holds(ui, entity)? {
        import_public(ui, std::slice::from_ref(entity), public)?;
        return Ok(true);
    }
    let bytes = protected(ui, args, entity, prompt)?;
    let lock = secret.lock()?;
    if secret.holds(ui, entity)? {
        return Err(already_there(entity));
    }
    let public_there = public.holds(ui, entity)?;
    if !public_there {
        // First, so that a crash in between leaves no secret key that nobody
        // can verify.
        public.append(&lock, &entity.public_bytes())?;
    }
    secret.append(&lock, &bytes)?;
    tell(entity.fingerprint(), ADDED, "private")?;
    if !public_there {
        tell(entity.fingerprint(), ADDED, "public")?;
    }
    Ok(!public_there)
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

/// Adds keys up to the first that is known. The keyring is read and written once: a file may hold
/// any number of keys.
fn import_public(ui: &Ui, entities: &[Entity], ring: Ring<'_>) -> Result<(), String> {
    let lock = ring.lock()?;
    let stored = ring.load(ui)?;
    let mut known: HashSet<_> = stored.entities().iter().map(Entity::fingerprint).collect();
    let count = entities
        .iter()
        .take_while(|e| known.insert(e.fingerprint()));
    let (new, rest) = entities.split_at_checked(count.count()).unwrap_or_default();
    if !new.is_empty() {
        let packets: Vec<u8> = new.iter().flat_map(Entity::public_bytes).collect();
        ring.append(&lock, &packets)?;
    }
    for entity in new {
        tell(entity.fingerprint(), ADDED, "public")?;
    }
    match rest.first() {
        Some(known) => Err(already_there(known)),
        None => Ok(()),
    }
}

fn already_there(entity: &Entity) -> String {
    format!(
        "the key with fingerprint {} already belongs to the keyring",
        entity.fingerprint()
    )
}

const ADDED: &str = "successfully added to";
const MERGED: &str = "merged into";
const UNCHANGED: &str = "unchanged in";

fn tell(fingerprint: Fingerprint, what: &str, kind: &str) -> Result<(), String> {
    cli::print(format!(
        "Key with fingerprint {fingerprint} {what} the {kind} keyring\n"
    ))
    .map_err(sentence)
}
