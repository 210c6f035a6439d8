//! `key`: OpenPGP keys of the local and the global keyring; cosign key files.

mod cosign;
mod expiry;
mod export;
mod import;
mod list;
mod newpair;
mod remote;
mod remove;
mod revoke;

use super::Error;
use super::sign::parse_keyring;
use crate::disk::files::Lock;
use crate::disk::keyring::{GlobalKeyring, KeyringFolder, Purpose, Which};
use crate::key::pgp::Keyring;
use crate::ui::Ui;
use clap::Subcommand;
use std::path::PathBuf;

/// Exit code of a failed `newpair` or `import`.
const FAILED: u8 = 2;

/// Manage OpenPGP keys and cosign key files
#[derive(clap::Args)]
#[command(
    visible_alias = "keys",
    override_usage = "sigsif key <command>",
    after_help = "Examples:\n  \
                  $ sigsif key newpair\n  \
                  $ sigsif key list\n  \
                  $ sigsif key import alice.asc"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Newpair(newpair::Args),
    List(list::Args),
    Import(import::Args),
    Export(export::Args),
    Remove(remove::Args),
    Revoke(revoke::Args),
    Search(remote::SearchArgs),
    Pull(remote::PullArgs),
    Push(remote::PushArgs),
    Refresh(remote::RefreshArgs),
    GenerateCosignKeyPair(cosign::GenerateArgs),
    ImportKeyPair(cosign::ImportArgs),
    PublicKey(cosign::PublicArgs),
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    match args.command {
        Command::Newpair(args) => newpair::run(ui, &args),
        Command::List(args) => list::run(ui, &args),
        Command::Import(args) => import::run(ui, &args),
        Command::Export(args) => export::run(ui, &args),
        Command::Remove(args) => remove::run(ui, &args),
        Command::Revoke(args) => revoke::run(ui, &args),
        Command::Search(args) => remote::search(ui, &args),
        Command::Pull(args) => remote::pull(ui, &args),
        Command::Push(args) => remote::push(ui, &args),
        Command::Refresh(args) => remote::refresh(ui, &args),
        Command::GenerateCosignKeyPair(args) => cosign::generate(ui, &args),
        Command::ImportKeyPair(args) => cosign::import(ui, &args),
        Command::PublicKey(args) => cosign::public(&args),
    }
}

/// One keyring file.
#[derive(Clone, Copy)]
enum Ring<'a> {
    Local(&'a KeyringFolder, Which),
    Global(&'a GlobalKeyring),
}

impl Ring<'_> {
    fn file(&self) -> PathBuf {
        match self {
            Self::Local(folder, which) => folder.file(*which),
            Self::Global(global) => global.file().to_owned(),
        }
    }

    fn load(&self, ui: &Ui) -> Result<Keyring, String> {
        let bytes = match self {
            Self::Local(folder, which) => folder.read(*which),
            Self::Global(global) => global.read(),
        };
        let bytes = bytes.map_err(|error| error.to_string())?;
        parse_keyring(ui, &bytes, &self.file()).map_err(|error| error.to_string())
    }

    fn lock(&self) -> Result<Lock, String> {
        match self {
            Self::Local(folder, _) => folder.lock(),
            Self::Global(global) => global.lock(),
        }
        .map_err(|error| error.to_string())
    }

    fn append(&self, lock: &Lock, keys: &[u8]) -> Result<(), String> {
        match self {
            Self::Local(folder, which) => folder.append(lock, *which, keys),
            Self::Global(global) => global.append(lock, keys),
        }
        .map_err(|error| error.to_string())
    }

    fn replace(&self, ui: &Ui, lock: &Lock, content: &[u8]) -> Result<(), String> {
        let (kind, replaced) = match self {
            Self::Local(folder, which) => ("local", folder.replace(lock, *which, content)),
            Self::Global(global) => ("global", global.replace(lock, content)),
        };
        ui.verbose(format_args!(
            "Updating {kind} keyring: {}",
            self.file().display()
        ));
        replaced.map_err(|error| error.to_string())
    }
}

fn open_folder(ui: &Ui, flag: Option<PathBuf>, purpose: Purpose) -> Result<KeyringFolder, String> {
    let mut warnings = Vec::new();
    let folder = KeyringFolder::open(&super::keyring_folder(flag), purpose, &mut warnings);
    for warning in warnings {
        ui.warning(warning);
    }
    folder.map_err(|error| error.to_string())
}

/// The sentence of an error, for commands that put their own words in front.
fn sentence(error: Error) -> String {
    match error {
        Error::Fatal { text, .. } | Error::Failed { text, .. } => text,
        _ => "write /dev/stdout: broken pipe".to_owned(),
    }
}

fn failed(text: String) -> Error {
    Error::Failed { code: FAILED, text }
}
