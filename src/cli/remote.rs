//! `remote`: endpoints, and which one is in use.

use super::endpoint::{self, Discovery, Store, Words};
use super::passphrase::yes_or_no;
use super::program::{Program, called_as};
use super::{Error, go, login, servers, usage};
use crate::disk::config::read_token;
use crate::disk::errno_text;
use crate::net::endpoint as net;
use crate::remote::Secret;
use crate::remote::address::Address;
use crate::remote::config::{Endpoint, Owner};
use crate::ui::Ui;
use crate::ui::listing::{self, ServiceRow};
use crate::ui::prompt::{Console, Prompt, Stream};
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

/// Manage singularity remote endpoints
///
/// An endpoint is one address, such as cloud.sylabs.io, under which a key
/// server, a library and other services are found. The one in use answers the
/// key commands and verify.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote <command>",
    after_help = "Examples:\n  \
                  $ sigsif remote list\n  \
                  $ sigsif remote add SylabsCloud cloud.sylabs.io"
)]
pub(super) struct Args {
    /// path to the file holding remote endpoint configurations
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Add(AddArgs),
    Remove(RemoveArgs),
    Use(UseArgs),
    List(ListArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
    Status(StatusArgs),
    GetLoginPassword(GetLoginPasswordArgs),
}

/// Add a new singularity remote endpoint
///
/// The endpoint is put in use, and you are logged in to it.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote add [options] <remote_name> <remote_URI>",
    after_help = "Examples:\n  \
                  $ sigsif remote add lab cloud.example.org"
)]
struct AddArgs {
    /// edit the list of globally configured remote endpoints
    #[arg(short, long)]
    global: bool,
    /// allow connection to an insecure http remote
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    insecure: Option<bool>,
    /// do not designate the newly-added remote endpoint as the default
    #[arg(short, long)]
    no_default: bool,
    /// skip automatic login step
    #[arg(long)]
    no_login: bool,
    /// path to the file holding auth token for login (remote endpoints only)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    tokenfile: Option<PathBuf>,
    /// name and address
    #[arg(value_name = "remote_name remote_URI")]
    args: Vec<OsString>,
}

/// Remove an existing singularity remote endpoint
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote remove [options] <remote_name>",
    after_help = "Examples:\n  \
                  $ sigsif remote remove lab"
)]
struct RemoveArgs {
    /// edit the list of globally configured remote endpoints
    #[arg(short, long)]
    global: bool,
    /// name
    #[arg(value_name = "remote_name")]
    args: Vec<OsString>,
}

/// Set a singularity remote endpoint to be actively used
#[derive(clap::Args)]
#[command(
    name = "use",
    override_usage = "sigsif remote use [options] <remote_name>",
    after_help = "Examples:\n  \
                  $ sigsif remote use lab"
)]
struct UseArgs {
    /// edit the list of globally configured remote endpoints
    #[arg(short, long)]
    global: bool,
    /// set the endpoint as exclusive (root user only, imply --global)
    #[arg(short, long)]
    exclusive: bool,
    /// name
    #[arg(value_name = "remote_name")]
    args: Vec<OsString>,
}

/// List all singularity remote endpoints that are configured
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote list",
    after_help = "Examples:\n  \
                  $ sigsif remote list"
)]
struct ListArgs {
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// Login to a singularity remote endpoint
///
/// Stores an access token after the endpoint has accepted it.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote login [options] [remote_name]",
    after_help = "Examples:\n  \
                  $ sigsif remote login lab\n  \
                  $ sigsif remote login --tokenfile token lab"
)]
struct LoginArgs {
    /// path to the file holding auth token for login (remote endpoints only)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    tokenfile: Option<PathBuf>,
    // Without effect, as in SingularityCE; told so when used.
    #[arg(
        short,
        long,
        value_name = "string",
        allow_hyphen_values = true,
        hide = true
    )]
    username: Option<String>,
    #[arg(
        short,
        long,
        value_name = "string",
        allow_hyphen_values = true,
        hide = true
    )]
    password: Option<String>,
    #[arg(long, hide = true)]
    password_stdin: bool,
    #[arg(short, long, hide = true)]
    insecure: bool,
    /// name
    #[arg(value_name = "remote_name")]
    args: Vec<OsString>,
}

/// Log out from a singularity remote endpoint
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote logout [remote_name]",
    after_help = "Examples:\n  \
                  $ sigsif remote logout lab"
)]
struct LogoutArgs {
    /// name
    #[arg(value_name = "remote_name")]
    args: Vec<OsString>,
}

/// Check the status of the singularity services at an endpoint, and your authentication token
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote status [remote_name]",
    after_help = "Examples:\n  \
                  $ sigsif remote status\n  \
                  $ sigsif remote status lab"
)]
struct StatusArgs {
    /// name
    #[arg(value_name = "remote_name")]
    args: Vec<OsString>,
}

/// Retrieves the cli secret for the currently logged in user
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif remote get-login-password",
    after_help = "Examples:\n  \
                  $ sigsif remote get-login-password"
)]
struct GetLoginPasswordArgs {
    #[arg(hide = true)]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    let config = args.config;
    match args.command {
        Command::Add(args) => add(ui, config, &args),
        Command::Remove(args) => {
            usage::exactly(&["remote", "remove"], 1, &args.args)?;
            let name = text(&args.args, 0)?.unwrap_or_default();
            let store = store(ui, config, args.global)?;
            store.edit(|config| config.remove(store.owner(), name))?;
            ui.info(format_args!("Remote {name:?} removed."));
            Ok(())
        }
        Command::Use(args) => put_in_use(ui, config, &args),
        Command::List(args) => {
            usage::exactly(&["remote", "list"], 0, &args.args)?;
            let config = Store::user(ui, config, Words::Remote).load_for_listing()?;
            super::print(listing::remotes(&config))
        }
        Command::Login(args) => {
            usage::between(&["remote", "login"], (0, 1), &args.args)?;
            let name = text(&args.args, 0)?;
            if let Some(uri) = elsewhere(ui, "login", config.clone(), name)? {
                let store = Store::user(ui, config, Words::Plain);
                let flags = login::Args::new(args.username, args.password, args.password_stdin);
                return login::login(ui, &store, uri, &flags, None);
            }
            for (given, flag) in [
                (args.username.is_some(), "username"),
                (args.password.is_some(), "password"),
                (args.password_stdin, "password-stdin"),
                (args.insecure, "insecure"),
            ] {
                if given {
                    ui.warning(format_args!(
                        "--{flag} has no effect on the login to an endpoint"
                    ));
                }
            }
            let store = Store::user(ui, config, Words::Remote);
            login(ui, &store, name, args.tokenfile)
        }
        Command::Logout(args) => {
            usage::between(&["remote", "logout"], (0, 1), &args.args)?;
            let name = text(&args.args, 0)?;
            if let Some(uri) = elsewhere(ui, "logout", config.clone(), name)? {
                return login::logout(ui, &Store::user(ui, config, Words::Plain), uri, None);
            }
            Store::user(ui, config, Words::Remote).edit_merged(|config| {
                let name = config.resolve(name)?.to_owned();
                config.endpoint_mut(&name)?.token = Secret::default();
                Ok::<_, crate::remote::config::Error>(())
            })?;
            ui.info("Logout succeeded");
            Ok(())
        }
        Command::Status(args) => {
            usage::between(&["remote", "status"], (0, 1), &args.args)?;
            status(ui, config, text(&args.args, 0)?)
        }
        Command::GetLoginPassword(args) => {
            usage::exactly(&["remote", "get-login-password"], 0, &args.args)?;
            get_login_password(ui)
        }
    }
}

/// What is no endpoint but a registry or a key server: Apptainer still logs in to these, too.
fn elsewhere<'a>(
    ui: &Ui,
    command: &str,
    config: Option<PathBuf>,
    name: Option<&'a str>,
) -> Result<Option<&'a str>, Error> {
    let (Program::Apptainer, Some(name)) = (called_as(), name) else {
        return Ok(None);
    };
    let config = Store::user(ui, config, Words::Remote).load_merged()?;
    if config.remotes.contains_key(name) {
        return Ok(None);
    }
    ui.warning(format_args!(
        "'remote {command}' is deprecated for registries or keyservers and will be removed in a \
         future release; running 'registry {command}'"
    ));
    Ok(Some(name))
}

/// A positional argument as text.
pub(super) fn text(args: &[OsString], at: usize) -> Result<Option<&str>, Error> {
    let Some(arg) = args.get(at) else {
        return Ok(None);
    };
    let utf8 = arg.to_str();
    utf8.map(Some)
        .ok_or_else(|| Error::fatal("argument is not UTF-8 text"))
}

fn store(ui: &Ui, config: Option<PathBuf>, global: bool) -> Result<Store<'_>, Error> {
    if global {
        endpoint::require_root("global endpoint configuration file")?;
        return Ok(Store::system(ui));
    }
    Ok(Store::user(ui, config, Words::Remote))
}

fn add(ui: &Ui, config: Option<PathBuf>, args: &AddArgs) -> Result<(), Error> {
    usage::exactly(&["remote", "add"], 2, &args.args)?;
    let name = text(&args.args, 0)?.unwrap_or_default();
    let uri = text(&args.args, 1)?.unwrap_or_default();
    let insecure = super::switch(args.insecure, "insecure", "ADD_INSECURE")?;
    let store = store(ui, config, args.global)?;
    if called_as() == Program::Apptainer {
        check_scheme(ui, uri, insecure)?;
    }
    store.edit(|config| config.add(store.owner(), name, uri, insecure, !args.no_default))?;
    let scheme = Address::parse(uri)
        .ok()
        .filter(|address| !address.host.is_empty())
        .map(|address| address.scheme);
    let asked_by = if insecure { "http" } else { "https" };
    let told = called_as() == Program::Apptainer;
    let odd = |scheme: &String| !told && !scheme.is_empty() && scheme != asked_by;
    if let Some(scheme) = scheme.filter(odd) {
        ui.warning(format_args!(
            "{scheme}:// has no effect, remote {name:?} is asked by {asked_by} \
             (--insecure decides)"
        ));
    }
    ui.info(format_args!("Remote {name:?} added."));
    if args.no_login {
        return Ok(());
    }
    // The administrator's file is readable for all.
    if store.owner() == Owner::System {
        ui.info("Global option detected. Will not automatically log into remote.");
        return Ok(());
    }
    login(ui, &store, Some(name), args.tokenfile.clone())
}

/// What Apptainer says to the scheme of an endpoint's address, which has no effect.
fn check_scheme(ui: &Ui, uri: &str, insecure: bool) -> Result<(), Error> {
    match uri.split_once("://") {
        Some(("https", _)) => {
            ui.info("--insecure ignored for https remote");
            Ok(())
        }
        Some(("http", _)) if !insecure => Err(Error::fatal(
            "http URI requires --insecure or APPTAINER_ADD_INSECURE=true",
        )),
        _ => Ok(()),
    }
}

fn put_in_use(ui: &Ui, config: Option<PathBuf>, args: &UseArgs) -> Result<(), Error> {
    usage::exactly(&["remote", "use"], 1, &args.args)?;
    let name = text(&args.args, 0)?.unwrap_or_default();
    let root = rustix::process::getuid().is_root();
    if args.exclusive && !args.global && !root {
        return Err(Error::fatal(
            "unable to set endpoint as exclusive: not root user",
        ));
    }
    let store = store(ui, config, args.global || args.exclusive)?;
    match store.owner() {
        Owner::System => {
            store.edit(|config| config.put_in_use(Owner::System, name, args.exclusive))
        }
        Owner::User => store.edit_merged(|config| config.put_in_use(Owner::User, name, false)),
    }?;
    ui.info(format_args!("Remote {name:?} now in use."));
    Ok(())
}

fn login(
    ui: &Ui,
    store: &Store<'_>,
    name: Option<&str>,
    tokenfile: Option<PathBuf>,
) -> Result<(), Error> {
    let config = store.load_merged()?;
    let name = config.resolve(name).map_err(Error::fatal)?;
    let endpoint = config.endpoint(name).map_err(Error::fatal)?;
    let token = match tokenfile.filter(|file| !file.as_os_str().is_empty()) {
        Some(file) => read_token(&file)
            .map(|token| Some(Secret::new(token.as_str())))
            .map_err(|error| Error::fatal(format!("while reading tokenfile: {error}")))?,
        None => ask_for_token(endpoint, &mut Console)?,
    };
    let Some(token) = token else {
        return Ok(());
    };
    // Checked before it is stored: the old one survives a bad new one.
    check_token(ui, endpoint, &token, Discovery::Asked)
        .map_err(|text| Error::fatal(format!("while verifying token: {text}")))?;
    store.edit_merged(|config| {
        config.endpoint_mut(name)?.token = token;
        Ok::<_, crate::remote::config::Error>(())
    })?;
    ui.info(format_args!("Token stored in {}", store.path()));
    Ok(())
}

/// The token that the user types; none if the user does not want to.
fn ask_for_token(endpoint: &Endpoint, prompt: &mut dyn Prompt) -> Result<Option<Secret>, Error> {
    if !endpoint.token.is_empty() {
        let question = "An access token is already set for this remote. Replace it? [y/N] ";
        let replace = yes_or_no(prompt, question, false)
            .map_err(|text| Error::fatal(format!("while reading input: {text}")))?;
        if !replace {
            return Ok(None);
        }
    }
    let url = endpoint.url().map_err(Error::fatal)?;
    super::print(format!(
        "Generate an access token at {url}/auth/tokens, and paste it here.\n\
         Token entered will be hidden for security.\n"
    ))?;
    let answer = prompt
        .hidden("Access Token: ", Stream::Stdout)
        .map_err(|error| Error::fatal(errno_text(&error)))?;
    let token = Secret::new(answer.trim());
    Ok((!token.is_empty()).then_some(token))
}

fn check_token(
    ui: &Ui,
    endpoint: &Endpoint,
    token: &Secret,
    discovery: Discovery,
) -> Result<(), String> {
    let services = endpoint::services(endpoint, discovery)?;
    let service = services
        .uri("token")
        .map_err(|_| "no authentication service found".to_owned())?;
    let client = servers::client().map_err(|error| error.to_string())?;
    net::check_token(&client, service, token).map_err(|error| error.to_string())?;
    ui.info("Access Token Verified!");
    Ok(())
}

fn status(ui: &Ui, config: Option<PathBuf>, name: Option<&str>) -> Result<(), Error> {
    match name {
        Some(name) => ui.info(format_args!("Checking status of remote: {name}")),
        None => ui.info("Checking status of default remote."),
    }
    let config = Store::user(ui, config, Words::Remote).load_for_listing()?;
    let name = config.resolve(name).map_err(Error::fatal)?;
    let endpoint = config.endpoint(name).map_err(Error::fatal)?;
    let services = endpoint::services(endpoint, Discovery::Checked)
        .map_err(|text| Error::fatal(format!("while retrieving services: {text}")))?;
    let client = servers::client().map_err(Error::fatal)?;
    let rows: Vec<ServiceRow> = std::thread::scope(|scope| {
        let checks: Vec<_> = services
            .iter()
            .map(|(name, service)| {
                let client = &client;
                let uri = service.uri.trim_end_matches('/');
                let check = scope.spawn(move || net::version(client, uri));
                (name, &service.uri, check)
            })
            .collect();
        checks
            .into_iter()
            .map(|(name, uri, check)| ServiceRow {
                name: name.to_owned(),
                version: check.join().ok().flatten(),
                uri: uri.clone(),
            })
            .collect()
    });
    super::print(listing::services(&rows))?;
    let library = services.uri("library").map_err(|error| {
        Error::fatal(format!(
            "could not get library client configuration: \
             unable to get library service URI: {error}"
        ))
    })?;
    if let Ok(user) = net::current_user(&client, library, &endpoint.token)
        && !user.name.is_empty()
    {
        let user = crate::ui::one_line(&format!("{} <{}>", user.name, user.email));
        super::print(format!("\nLogged in as: {user}\n\n"))?;
    }
    if endpoint.token.is_empty() {
        return super::print("\nNo authentication token set (logged out).\n");
    }
    match check_token(ui, endpoint, &endpoint.token, Discovery::Known) {
        Ok(()) => super::print("\nValid authentication token set (logged in).\n"),
        Err(text) => {
            super::print("\nAuthentication token is invalid (please login again).\n")?;
            Err(Error::fatal(text))
        }
    }
}

fn get_login_password(ui: &Ui) -> Result<(), Error> {
    let fail = |text: String| Error::Failed {
        code: super::FATAL,
        text,
    };
    let setup = |text: String| fail(format!("Error initializing config: {text}"));
    let (endpoint, _) = endpoint::active(ui).map_err(setup)?;
    let library = endpoint::service(&endpoint, "library")
        .map_err(|text| setup(format!("unable to get library service URI: {text}")))?;
    let client = servers::client().map_err(|error| setup(error.to_string()))?;
    let user = net::current_user(&client, &library, &endpoint.token)
        .map_err(|error| fail(format!("error: {error}")))?;
    if user.secret.is_empty() {
        return Err(fail("error: no token was received from service".to_owned()));
    }
    super::print(format!("{}\n", user.secret.expose()))
}
