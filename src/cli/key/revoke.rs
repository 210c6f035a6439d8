//! `key revoke`: make a key useless for new and old signatures.

use super::import::merge_into;
use super::{Ring, open_folder};
use crate::cli::passphrase::{self, Source};
use crate::cli::program::call;
use crate::cli::{self, Error, usage};
use crate::disk::keyring::{KeyringFolder, Purpose, Which};
use crate::key::pgp::{self, Entity, Keyring, Reason, SecretState, Selector};
use crate::ui::Ui;
use crate::ui::prompt::{Console, Prompt, Stream};
use std::ffi::OsString;
use std::path::PathBuf;

/// Revoke a key of your keyring
///
/// Signatures by a revoked key are no longer accepted, older ones included,
/// by everyone who has its new public key. This cannot be undone.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key revoke [options] <fingerprint>",
    after_help = "Examples:\n  \
                  $ sigsif key revoke --reason superseded 0x5EEE5934\n  \
                  $ sigsif key export 0x5EEE5934 revoked.gpg"
)]
pub(super) struct Args {
    /// why: none, superseded, compromised or no-longer-used (default none)
    #[arg(long, value_name = "string", value_parser = reason)]
    reason: Option<Reason>,
    /// a text that is published with the reason
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    comment: Option<String>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    /// fingerprint or key id
    #[arg(value_name = "fingerprint")]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["key", "revoke"], 1, &args.args)?;
    let text = args.args.first().cloned().unwrap_or_default();
    let selector = Selector::new(&text.to_string_lossy());
    let fail = passphrase::fatal("Unable to revoke key: ");
    let fingerprint = revoke(ui, args, &selector, &mut Console).map_err(fail)?;
    cli::print(format!("Key with fingerprint {fingerprint} revoked\n"))?;
    ui.info(format_args!(
        "Others learn of it from the new public key: '{}'",
        call(&format!("key export {fingerprint} FILE"))
    ));
    Ok(())
}

fn reason(text: &str) -> Result<Reason, String> {
    match text {
        "none" => Ok(Reason::None),
        "superseded" => Ok(Reason::Superseded),
        "compromised" => Ok(Reason::Compromised),
        "no-longer-used" => Ok(Reason::NoLongerUsed),
        _ => Err("must be none, superseded, compromised or no-longer-used".to_owned()),
    }
}

fn revoke(
    ui: &Ui,
    args: &Args,
    selector: &Selector,
    prompt: &mut dyn Prompt,
) -> Result<pgp::Fingerprint, String> {
    let folder = open_folder(ui, args.keysdir.clone(), Purpose::Write)?;
    let now = u64::try_from(cli::wall_clock()).unwrap_or_default();
    let (secret, index) = select(ui, &folder, selector)?;
    let entity = secret.entities().get(index).ok_or_else(String::new)?;
    let fingerprint = entity.fingerprint();
    let public = find_public(ui, &folder, entity)?;
    let states = [Some(entity), public.as_ref()]
        .into_iter()
        .flatten()
        .map(|entity| entity.is_revoked(now));
    let states: Vec<bool> = states.collect();
    if states.iter().all(|revoked| *revoked) {
        return Err(format!("key {fingerprint} is already revoked"));
    }
    // A call that was cut short left one half: it is the other half's update.
    let packets = match (entity.is_revoked(now), &public) {
        (true, _) => entity.public_bytes(),
        (false, Some(public)) if public.is_revoked(now) => public.public_bytes(),
        _ => make(args, entity, now, prompt)?,
    };
    let updates = pgp::updates_from_armored_or_binary(&packets).map_err(|e| e.to_string())?;
    let update = updates.get(..1).ok_or_else(String::new)?;

    let lock = folder.lock().map_err(|error| error.to_string())?;
    let ring = |which| Ring::Local(&folder, which);
    // Without its public half nobody could be told of the revocation.
    if find_public(ui, &folder, entity)?.is_none() {
        ring(Which::Public).append(&lock, &entity.public_bytes())?;
    }
    // Verifiers first: a crash in between refuses what `sign` would still make.
    for which in [Which::Public, Which::Secret] {
        merge_into(ui, &lock, ring(which), update)?;
    }
    Ok(fingerprint)
}

fn select(
    ui: &Ui,
    folder: &KeyringFolder,
    selector: &Selector,
) -> Result<(Keyring, usize), String> {
    let keyring = Ring::Local(folder, Which::Secret).load(ui)?;
    let (index, _) = selector
        .find(keyring.entities())
        .map_err(|error| error.to_string())?;
    Ok((keyring, index))
}

fn find_public(ui: &Ui, folder: &KeyringFolder, entity: &Entity) -> Result<Option<Entity>, String> {
    let keyring = Ring::Local(folder, Which::Public).load(ui)?;
    let at = keyring.position(&entity.fingerprint());
    Ok(at.and_then(|at| keyring.into_entities().into_iter().nth(at)))
}

fn make(
    args: &Args,
    entity: &Entity,
    now: u64,
    prompt: &mut dyn Prompt,
) -> Result<Vec<u8>, String> {
    let passphrase = match entity.secret_state() {
        SecretState::Encrypted => Some(match args.passphrase.given()? {
            Some(given) => given,
            None => passphrase::ask(prompt, "Enter key passphrase : ", Stream::Stdout)?,
        }),
        _ => None,
    };
    let key = entity
        .unlock(passphrase.as_ref().map(|p| p.as_slice()))
        .map_err(|error| error.to_string())?;
    let reason = args.reason.unwrap_or(Reason::None);
    let comment = args.comment.as_deref().unwrap_or_default();
    pgp::revocation(&key, reason, comment, now).map_err(|error| error.to_string())
}
