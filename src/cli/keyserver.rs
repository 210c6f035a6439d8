//! `keyserver`: the key servers of an endpoint, and logins to them.

use super::endpoint::{self, Store, Words};
use super::program::call;
use super::remote::text;
use super::{Error, go, login, usage};
use crate::remote::config::Endpoint;
use crate::ui::Ui;
use crate::ui::listing;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

/// Manage singularity keyservers
///
/// The key servers of the endpoint in use are asked by verify and by the key
/// commands, in their order.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver <command>",
    after_help = "Examples:\n  \
                  $ sigsif keyserver list\n  \
                  $ sigsif keyserver add --order 1 https://keys.example.com"
)]
pub(super) struct Args {
    /// path to the file holding keyserver configurations
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(AddArgs),
    Remove(RemoveArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    List(ListArgs),
}

/// Add a keyserver (root user only)
///
/// It is asked after the others, or at the place that --order names.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver add [options] [remoteName] <keyserver_url>",
    after_help = "Examples:\n  \
                  $ sigsif keyserver add --order 1 https://keys.example.org"
)]
struct AddArgs {
    /// define the keyserver order
    #[arg(short, long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    order: Option<u32>,
    /// allow insecure connection to keyserver
    #[arg(short, long)]
    insecure: bool,
    /// name and address
    #[arg(value_name = "remoteName keyserver_url")]
    args: Vec<OsString>,
}

/// Remove a keyserver (root user only)
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver remove [remoteName] <keyserver_url>",
    after_help = "Examples:\n  \
                  $ sigsif keyserver remove https://keys.example.org"
)]
struct RemoveArgs {
    /// name and address
    #[arg(value_name = "remoteName keyserver_url")]
    args: Vec<OsString>,
}

/// Login to a keyserver
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver login [options] <keyserver>",
    after_help = "Examples:\n  \
                  $ sigsif keyserver login --username alice https://keys.example.org"
)]
struct LoginArgs {
    #[command(flatten)]
    login: login::Args,
    /// address
    #[arg(value_name = "keyserver")]
    args: Vec<OsString>,
}

/// Logout from a keyserver
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver logout <keyserver>",
    after_help = "Examples:\n  \
                  $ sigsif keyserver logout https://keys.example.org"
)]
struct LogoutArgs {
    /// address
    #[arg(value_name = "keyserver")]
    args: Vec<OsString>,
}

/// List all keyservers that are configured
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif keyserver list [remoteName]",
    after_help = "Examples:\n  \
                  $ sigsif keyserver list"
)]
struct ListArgs {
    /// name
    #[arg(value_name = "remoteName")]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    let config = args.config;
    match args.command {
        Command::Add(args) => {
            usage::between(&["keyserver", "add"], (1, 2), &args.args)?;
            endpoint::require_root("keyserver configuration")?;
            if args.order == Some(0) {
                return Err(Error::fatal("order must be > 0"));
            }
            let (name, uri) = name_and_uri(&args.args)?;
            change(ui, name, uri, |endpoint| {
                endpoint.add_keyserver(uri, args.order, args.insecure)
            })
        }
        Command::Remove(args) => {
            usage::between(&["keyserver", "remove"], (1, 2), &args.args)?;
            endpoint::require_root("keyserver configuration")?;
            let (name, uri) = name_and_uri(&args.args)?;
            change(ui, name, uri, |endpoint| endpoint.remove_keyserver(uri))
        }
        Command::Login(args) => {
            usage::exactly(&["keyserver", "login"], 1, &args.args)?;
            let uri = text(&args.args, 0)?.unwrap_or_default();
            let store = Store::user(ui, config, Words::Remote);
            login::login(ui, &store, uri, &args.login, None)
        }
        Command::Logout(args) => {
            usage::between(&["keyserver", "logout"], (0, 1), &args.args)?;
            let Some(uri) = text(&args.args, 0)? else {
                return Err(Error::fatal(format!(
                    "no keyserver given: {}",
                    call("keyserver logout <keyserver>")
                )));
            };
            let store = Store::user(ui, config, Words::Plain);
            login::logout(ui, &store, uri, None)
        }
        Command::List(args) => {
            usage::between(&["keyserver", "list"], (0, 1), &args.args)?;
            list(ui, config, text(&args.args, 0)?)
        }
    }
}

fn name_and_uri(args: &[OsString]) -> Result<(Option<&str>, &str), Error> {
    let first = text(args, 0)?.unwrap_or_default();
    Ok(match text(args, 1)? {
        Some(second) => (Some(first), second),
        None => (None, first),
    })
}

/// Changes the list of an endpoint in the administrator's file.
fn change(
    ui: &Ui,
    name: Option<&str>,
    uri: &str,
    change: impl FnOnce(&mut Endpoint) -> Result<(), crate::remote::config::Error>,
) -> Result<(), Error> {
    if uri.trim().is_empty() {
        return Err(Error::fatal(crate::remote::config::Error::EmptyUri));
    }
    let store = Store::system(ui);
    let config = store.load()?;
    let not_found = |error| Error::fatal(format!("no endpoint found: {error}"));
    let name = config.resolve(name).map_err(not_found)?;
    let endpoint = config.endpoint(name).map_err(not_found)?;
    if !endpoint.system {
        return Err(Error::fatal(
            "current endpoint is not a system defined endpoint",
        ));
    }
    // Nobody is asked while the file is locked.
    let own = if endpoint.keyservers.is_empty() {
        Some(endpoint::own_keyserver(endpoint).map_err(Error::fatal)?)
    } else {
        None
    };
    store.edit(|config| {
        let endpoint = config.endpoint_mut(name)?;
        if let Some(own) = &own {
            endpoint.fill_keyservers(own);
        }
        change(endpoint)
    })
}

fn list(ui: &Ui, config: Option<PathBuf>, wanted: Option<&str>) -> Result<(), Error> {
    let config = Store::user(ui, config, Words::Remote).load_for_listing()?;
    config
        .resolve(None)
        .map_err(|error| Error::fatal(format!("error getting default remote-endpoint: {error}")))?;
    if let Some(wanted) = wanted
        && !config.remotes.contains_key(wanted)
    {
        return Err(Error::fatal(format!(
            "no remote-endpoint with the name {wanted:?} found"
        )));
    }
    let mut out = String::new();
    for (name, endpoint) in &config.remotes {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        out.push_str(&listing::keyserver_heading(&config, name, endpoint));
        let mut endpoint = endpoint.clone();
        if endpoint.keyservers.is_empty() {
            match endpoint::own_keyserver(&endpoint) {
                Ok(own) => endpoint.fill_keyservers(&own),
                Err(_) => {
                    out.push_str(listing::no_keyservers());
                    continue;
                }
            }
        }
        out.push_str(&listing::keyservers(&endpoint, &config.credentials));
    }
    out.push_str(listing::keyserver_legend());
    super::print(out)
}
