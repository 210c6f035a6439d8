//! `registry`: logins to OCI registries.

use super::endpoint::{Store, Words};
use super::program::{call, called_as};
use super::remote::text;
use super::{Error, login, usage};
use crate::ui::Ui;
use crate::ui::listing;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

/// Manage authentication to OCI/Docker registries
///
/// Registries are those of docker:// and oras:// addresses.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif registry <command>",
    after_help = "Examples:\n  \
                  $ sigsif registry login --username foo docker://docker.io\n  \
                  $ sigsif registry list"
)]
pub(super) struct Args {
    /// path to the file holding registry configurations
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Login(LoginArgs),
    Logout(LogoutArgs),
    List(ListArgs),
}

/// Login to an OCI/Docker registry
///
/// User and password are stored only if the registry accepts them.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif registry login [options] <registry_uri>",
    after_help = "Examples:\n  \
                  $ sigsif registry login --username foo oras://myregistry.example.com\n\n\
                  Registries that work with tokens take the token as password; a username is \
                  needed all the same."
)]
struct LoginArgs {
    #[command(flatten)]
    login: login::Args,
    /// Docker-style authentication file used for the credentials
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    authfile: Option<PathBuf>,
    /// address
    #[arg(value_name = "registry_uri")]
    args: Vec<OsString>,
}

/// Logout from an OCI/Docker registry
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif registry logout [options] <registry_uri>",
    after_help = "Examples:\n  \
                  $ sigsif registry logout docker://registry.example.org"
)]
struct LogoutArgs {
    /// Docker-style authentication file used for the credentials
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    authfile: Option<PathBuf>,
    /// address
    #[arg(value_name = "registry_uri")]
    args: Vec<OsString>,
}

/// List all OCI credentials that are configured
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif registry list",
    after_help = "Examples:\n  \
                  $ sigsif registry list"
)]
struct ListArgs {
    #[arg(hide = true)]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    let config = args.config;
    match args.command {
        Command::Login(args) => {
            usage::exactly(&["registry", "login"], 1, &args.args)?;
            let uri = text(&args.args, 0)?.unwrap_or_default();
            let store = Store::user(ui, config, Words::Plain);
            login::login(ui, &store, uri, &args.login, authfile(args.authfile))
        }
        Command::Logout(args) => {
            usage::between(&["registry", "logout"], (0, 1), &args.args)?;
            let Some(uri) = text(&args.args, 0)? else {
                return Err(Error::fatal(format!(
                    "no registry given: {}",
                    call("registry logout <registry_uri>")
                )));
            };
            let store = Store::user(ui, config, Words::Plain);
            login::logout(ui, &store, uri, authfile(args.authfile))
        }
        Command::List(args) => {
            usage::exactly(&["registry", "list"], 0, &args.args)?;
            let config = Store::user(ui, config, Words::Remote).load_for_listing()?;
            super::print(listing::registries(&config.credentials))
        }
    }
}

fn authfile(flag: Option<PathBuf>) -> Option<PathBuf> {
    flag.or_else(|| super::env_value(called_as().authfile()).map(PathBuf::from))
        .filter(|file| !file.as_os_str().is_empty())
}
