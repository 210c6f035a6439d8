//! `key import`: add keys from a file.

use super::{Ring, failed, open_folder, sentence};
use crate::cli::passphrase::{self, Source};
use crate::cli::{self, Error, go, usage};
use crate::disk::errno_text;
use crate::disk::files::{self, Lock, MAX_KEYRING};
use crate::disk::keyring::{GlobalKeyring, KeyringFolder, Purpose, Which};
use crate::key::pgp::{
    self, Entity, Fingerprint, Keyring, SecretState, Update, entities_from_armored_or_binary,
    reprotect, updates_from_armored_or_binary,
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
        for run in updates.chunk_by(|one, next| !one.has_secret() && !next.has_secret()) {
            match run {
                [update] if update.has_secret() => {
                    import_update(ui, args, update, &target, &named, &mut prompt)?;
                }
                run => merge_all(ui, run, &target, false, &named)?,
            }
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

/// Adds a key with a secret part, or what is new about a known one.
fn import_update(
    ui: &Ui,
    args: &Args,
    update: &Update,
    target: &Target,
    named: &dyn Fn(String) -> String,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    let entity = update.entity().ok().filter(Entity::has_secret);
    let mut told = false;
    if let Some(entity) = &entity
        && !target.secret()?.holds(ui, entity)?
    {
        if import_pair(ui, args, entity, target, prompt)? {
            return Ok(());
        }
        told = true;
    }
    let is_told = entity.is_some() && !told;
    merge_all(ui, std::slice::from_ref(update), target, is_told, named)
}

/// Adds keys, or what is new about known ones, up to the first fault. The keyrings are read and
/// written once: a file may hold any number of keys.
fn merge_all(
    ui: &Ui,
    updates: &[Update],
    target: &Target,
    tells_of_secret: bool,
    named: &dyn Fn(String) -> String,
) -> Result<(), String> {
    let lock = target.public().lock()?;
    let mut public = Work::load(ui, target.public())?;
    let mut secret = match target {
        Target::Local(folder) => Some(Work::load(ui, Ring::Local(folder, Which::Secret))?),
        Target::Global(_) => None,
    };
    let mut told = Vec::new();
    let outcome = updates.iter().try_for_each(|update| {
        let merged = secret.as_mut().map(|secret| secret.merge(update));
        let merged = merged.transpose()?.flatten();
        match merged {
            Some((fingerprint, true)) => told.push((fingerprint, MERGED, "private")),
            Some((fingerprint, false)) if tells_of_secret => {
                told.push((fingerprint, UNCHANGED, "private"));
            }
            _ => {}
        }
        if let Some((fingerprint, changed)) = public.merge(update)? {
            let what = if changed { MERGED } else { UNCHANGED };
            told.push((fingerprint, what, "public"));
            return Ok(());
        }
        match update.entity() {
            Ok(entity) => {
                public.add(&entity)?;
                told.push((entity.fingerprint(), ADDED, "public"));
                Ok(())
            }
            Err(_) if merged.is_some() => Ok(()),
            Err(reason) => Err(match update.revoked_key_id() {
                Some(id) => format!("the revoked key {id:016X} is not in the keyring"),
                None => named(reason.to_string()),
            }),
        }
    });
    for work in secret.iter().chain([&public]) {
        work.write(ui, &lock)?;
    }
    for (fingerprint, what, kind) in told {
        tell(fingerprint, what, kind)?;
    }
    outcome
}

/// A ring that is changed in memory and then written, once.
struct Work<'a> {
    ring: Ring<'a>,
    keyring: Keyring,
    changed: bool,
}

impl<'a> Work<'a> {
    fn load(ui: &Ui, ring: Ring<'a>) -> Result<Self, String> {
        Ok(Self {
            ring,
            keyring: ring.load(ui)?,
            changed: false,
        })
    }

    /// Adds what an update brings; the key and whether it changed, nothing if it is not there.
    fn merge(&mut self, update: &Update) -> Result<Option<(Fingerprint, bool)>, String> {
        let entities = self.keyring.entities();
        let index = match update.fingerprint() {
            Some(fingerprint) => self.keyring.position(&fingerprint),
            None => entities.iter().position(|stored| update.is_about(stored)),
        };
        let Some((index, stored)) = index.and_then(|at| Some((at, entities.get(at)?))) else {
            return Ok(None);
        };
        let fingerprint = stored.fingerprint();
        let merged = pgp::merge(stored, update).map_err(|error| error.to_string())?;
        let changed = merged.is_some();
        if let Some(packets) = merged {
            let entity = Entity::read(&packets).map_err(|error| error.to_string())?;
            self.keyring.put(Some(index), entity);
            self.changed = true;
        }
        Ok(Some((fingerprint, changed)))
    }

    /// Adds the public half of a key at the end.
    fn add(&mut self, entity: &Entity) -> Result<(), String> {
        let public = Entity::read(&entity.public_bytes()).map_err(|error| error.to_string())?;
        self.keyring.put(None, public);
        self.changed = true;
        Ok(())
    }

    fn write(&self, ui: &Ui, lock: &Lock) -> Result<(), String> {
        match self.changed {
            true => self.ring.replace(ui, lock, &self.keyring.to_bytes()),
            false => Ok(()),
        }
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
    let mut work = Work::load(ui, ring)?;
    let mut found = None;
    for update in updates {
        found = work
            .merge(update)?
            .map(|(fingerprint, _)| fingerprint)
            .or(found);
    }
    work.write(ui, lock)?;
    Ok(found.map(|fingerprint| (fingerprint, work.changed)))
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
