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
    // One kind at a time, in the order of the file.
    if args.merge.unwrap_or(false) {
        let updates = updates_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
        let target = target()?;
        for run in updates.chunk_by(|one, next| one.has_secret() == next.has_secret()) {
            if run.first().is_some_and(Update::has_secret) {
                import_updates(ui, args, run, &target, &named, &mut prompt)?;
            } else {
                let run: Vec<_> = run.iter().map(|update| (update, false)).collect();
                merge_all(ui, &run, &target, &named)?;
            }
        }
        return Ok(());
    }
    let entities = entities_from_armored_or_binary(&bytes).map_err(|e| named(e.to_string()))?;
    let target = target()?;
    for run in entities.chunk_by(|one, next| one.has_secret() == next.has_secret()) {
        match run.first().is_some_and(Entity::has_secret) {
            true => import_pairs(ui, args, run, &target, &mut prompt)?,
            false => import_public(ui, run, target.public())?,
        }
    }
    Ok(())
}

/// Adds keys with secret parts, or what is new about known ones, up to the first fault.
fn import_updates(
    ui: &Ui,
    args: &Args,
    updates: &[Update],
    target: &Target,
    named: &dyn Fn(String) -> String,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    let entities: Vec<_> = updates
        .iter()
        .map(|update| update.entity().ok().filter(Entity::has_secret))
        .collect();
    let mut outcome = Ok(());
    let mut ready = Vec::new();
    // What is merged then, whether its private key was known, and what it is if not.
    let mut others = Vec::new();
    let mut known = match entities.iter().any(Option::is_some) {
        true => fingerprints(&target.secret()?.load(ui)?),
        false => HashSet::new(),
    };
    for (update, entity) in updates.iter().zip(&entities) {
        match entity {
            Some(entity) if known.insert(entity.fingerprint()) => {
                match protected(ui, args, entity, prompt) {
                    Ok(packets) => ready.push((entity, Some(packets))),
                    Err(fault) => {
                        outcome = Err(fault);
                        break;
                    }
                }
                others.push((update, false, Some(entity.fingerprint())));
            }
            Some(_) => others.push((update, true, None)),
            None => others.push((update, false, None)),
        }
    }
    let stored: HashSet<_> = match ready.is_empty() {
        true => HashSet::new(),
        false => add_pairs(ui, &ready, target, true)?.into_iter().collect(),
    };
    // Both halves that came are there now.
    let is_done = |new: &Option<Fingerprint>| new.is_some_and(|new| stored.contains(&new));
    let others = others.iter().filter(|(_, _, new)| !is_done(new));
    let others: Vec<_> = others.map(|(update, told, _)| (*update, *told)).collect();
    merge_all(ui, &others, target, named).and(outcome)
}

/// Adds keys, or what is new about known ones. The keyrings are read and written once: a file may
/// hold any number of keys.
///
/// What is of no use is told, and an error only if nothing else is there. With each stands whether
/// it is told that nothing is new about its private key.
fn merge_all(
    ui: &Ui,
    updates: &[(&Update, bool)],
    target: &Target,
    named: &dyn Fn(String) -> String,
) -> Result<(), String> {
    let lock = target.public().lock()?;
    let mut public = Work::load(ui, target.public())?;
    let mut secret = match target {
        Target::Local(folder) => Some(Work::load(ui, Ring::Local(folder, Which::Secret))?),
        Target::Global(_) => None,
    };
    let (mut told, mut useless) = (Vec::new(), Vec::new());
    let outcome = updates.iter().try_for_each(|(update, tells_of_secret)| {
        let merged = secret.as_mut().map(|secret| secret.merge(update));
        let merged = merged.transpose()?.flatten();
        match merged {
            Some((fingerprint, true)) => told.push((fingerprint, MERGED, "private")),
            Some((fingerprint, false)) if *tells_of_secret => {
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
            Err(reason) => {
                useless.push(match update.revoked_key_id() {
                    Some(id) => format!("the revoked key {id:016X} is not in the keyring"),
                    None => named(reason.to_string()),
                });
                Ok(())
            }
        }
    });
    for work in secret.iter().chain([&public]) {
        work.write(ui, &lock)?;
    }
    if told.is_empty() && outcome.is_ok() && !useless.is_empty() {
        return Err(useless.swap_remove(0));
    }
    for text in useless {
        ui.warning(text);
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

/// Stores both halves of keys, up to the first that is known; a half that is alone gets its other
/// one. The keyrings are read and written once: a file may hold any number of keys.
fn import_pairs(
    ui: &Ui,
    args: &Args,
    entities: &[Entity],
    target: &Target,
    prompt: &mut dyn Prompt,
) -> Result<(), String> {
    // Before the questions, and again under the lock.
    let mut known = fingerprints(&target.secret()?.load(ui)?);
    let mut ready = Vec::new();
    let mut outcome = Ok(());
    for entity in entities {
        let packets = match known.insert(entity.fingerprint()) {
            true => protected(ui, args, entity, prompt).map(Some),
            false => Ok(None),
        };
        match packets {
            Ok(packets) => ready.push((entity, packets)),
            Err(fault) => {
                outcome = Err(fault);
                break;
            }
        }
    }
    add_pairs(ui, &ready, target, false).and(outcome)
}

/// A key with its secret part as it will be stored; nothing if that is in the keyring.
type Ready<'e> = (&'e Entity, Option<Zeroizing<Vec<u8>>>);

/// Adds what the keyrings do not have of these keys. A public half that is there ends it, unless
/// `is_merged` says that it will be merged then.
///
/// Returns the keys whose public half was added.
fn add_pairs(
    ui: &Ui,
    ready: &[Ready<'_>],
    target: &Target,
    is_merged: bool,
) -> Result<Vec<Fingerprint>, String> {
    let (secret, public) = (target.secret()?, target.public());
    let lock = secret.lock()?;
    let mut secrets = fingerprints(&secret.load(ui)?);
    let mut publics = fingerprints(&public.load(ui)?);
    let room = ready.iter().flat_map(|(_, packets)| packets);
    let room = room.map(|packets| packets.len()).sum();
    let mut new_secret = Zeroizing::new(Vec::with_capacity(room));
    let mut new_public = Vec::new();
    let (mut told, mut added) = (Vec::new(), Vec::new());
    let mut known = None;
    for (entity, packets) in ready {
        let fingerprint = entity.fingerprint();
        match packets {
            // Somebody else was faster.
            Some(_) if !secrets.insert(fingerprint) => {
                known = Some(entity);
                break;
            }
            Some(packets) => {
                new_secret.extend_from_slice(packets);
                told.push((fingerprint, "private"));
            }
            None => {}
        }
        if publics.insert(fingerprint) {
            new_public.extend(entity.public_bytes());
            told.push((fingerprint, "public"));
            added.push(fingerprint);
        } else if !is_merged {
            known = Some(entity);
            break;
        }
    }
    // First, so that a crash in between leaves no secret key that nobody can verify.
    if !new_public.is_empty() {
        public.append(&lock, &new_public)?;
    }
    if !new_secret.is_empty() {
        secret.append(&lock, &new_secret)?;
    }
    for (fingerprint, kind) in told {
        tell(fingerprint, ADDED, kind)?;
    }
    match known {
        Some(entity) => Err(already_there(entity)),
        None => Ok(added),
    }
}

fn fingerprints(keyring: &Keyring) -> HashSet<Fingerprint> {
    keyring.entities().iter().map(Entity::fingerprint).collect()
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
    let mut known = fingerprints(&ring.load(ui)?);
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
