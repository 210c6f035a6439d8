//! `key`: OpenPGP keys of the local and the global keyring.

mod import;
mod list;
mod newpair;
mod remote;

use super::Error;
use crate::disk::keyring::{KeyringFolder, Purpose};
use crate::ui::Ui;
use clap::Subcommand;
use std::path::PathBuf;

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
    Newpair(newpair::Args),
    List(list::Args),
    Import(import::Args),
    Search(remote::SearchArgs),
    Pull(remote::PullArgs),
    Push(remote::PushArgs),
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    match args.command {
        Command::Newpair(args) => newpair::run(ui, &args),
        Command::List(args) => list::run(ui, &args),
        Command::Import(args) => import::run(ui, &args),
        Command::Search(args) => remote::search(ui, &args),
        Command::Pull(args) => remote::pull(ui, &args),
        Command::Push(args) => remote::push(ui, &args),
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

fn failed(text: String) -> Error {
    Error::Failed { code: FAILED, text }
}
