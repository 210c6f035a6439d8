//! Logins to key servers and registries, which share flags and flow.

use super::endpoint::Store;
use super::program::{Program, called_as, docker_file, followed};
use super::{Error, servers};
use crate::disk::config::ConfigFile;
use crate::disk::{credential_helper, errno_text};
use crate::net::registry::{self, Login};
use crate::remote::Secret;
use crate::remote::address::{Address, without_user};
use crate::remote::config::Config;
use crate::remote::docker_config::{self, DockerConfig, auth_key};
use crate::ui::Ui;
use crate::ui::prompt::{self, Console, Prompt, Stream};
use std::path::PathBuf;

/// User and password.
#[derive(clap::Args)]
pub(super) struct Args {
    /// username to authenticate with (required for Docker/OCI registry login)
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    username: Option<String>,
    /// password / token to authenticate with
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    password: Option<String>,
    /// take password from standard input
    #[arg(long)]
    password_stdin: bool,
}

impl Args {
    /// Flags of another command.
    pub(super) fn new(
        username: Option<String>,
        password: Option<String>,
        password_stdin: bool,
    ) -> Self {
        Self {
            username,
            password,
            password_stdin,
        }
    }

    fn user(&self) -> String {
        self.username.clone().unwrap_or_else(|| {
            super::env_value("LOGIN_USERNAME")
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        })
    }

    /// The password from flag, environment or standard input; may be empty.
    fn given_password(&self) -> Result<Secret, Error> {
        if self.password_stdin {
            let password = prompt::read_all().map_err(|error| {
                let reason = errno_text(&error);
                Error::fatal(format!("Failed to read password from stdin: {reason}"))
            })?;
            return Ok(Secret::new(password.as_str()));
        }
        let password = self.password.clone().or_else(|| {
            super::env_value("LOGIN_PASSWORD").map(|word| word.to_string_lossy().into_owned())
        });
        Ok(Secret::new(password.unwrap_or_default()))
    }
}

/// Logs in to what an address names and stores that.
pub(super) fn login(
    ui: &Ui,
    store: &Store<'_>,
    uri: &str,
    args: &Args,
    authfile: Option<PathBuf>,
) -> Result<(), Error> {
    let uri = &told(ui, uri);
    let user = args.user();
    let password = args.given_password()?;
    let config = store.load_merged()?;
    let fail = |text: String| Error::fatal(format!("while login to {uri}: {text}"));
    let stored = check(ui, &config, uri, &user, password, authfile.clone()).map_err(fail)?;
    if authfile.is_none() {
        store.edit_merged(|config| {
            config.store_credential(&stored.uri, stored.auth, stored.insecure);
            Ok::<_, String>(())
        })?;
    }
    if !stored.is_registry || called_as() == Program::Apptainer {
        ui.info(format_args!("Token stored in {}", store.path()));
    }
    Ok(())
}

/// An address without user and password, which go into messages and files otherwise.
fn told(ui: &Ui, uri: &str) -> String {
    let bare = without_user(uri);
    if bare != uri {
        ui.warning("user and password in the address have no effect, --username names the user");
    }
    bare
}

struct Checked {
    uri: String,
    auth: Secret,
    insecure: bool,
    is_registry: bool,
}

fn check(
    ui: &Ui,
    config: &Config,
    uri: &str,
    user: &str,
    password: Secret,
    authfile: Option<PathBuf>,
) -> Result<Checked, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut insecure = false;
    if Address::keyserver(uri).is_ok() {
        insecure = config
            .external_keyserver(uri)
            .map_err(|e| text(&e))?
            .insecure;
        if insecure {
            ui.warning(format_args!(
                "{uri} is configured as insecure, forcing insecure flag for login"
            ));
        }
    }
    let address = Address::parse(uri).map_err(|e| text(&e))?;
    match address.scheme.as_str() {
        "http" | "https" => {
            let password = ask_if_empty(password)?;
            let auth = if user.is_empty() {
                password.bearer().unwrap_or_default()
            } else {
                if address.scheme == "http" && !address.is_loopback() {
                    ui.warning(format_args!(
                        "the password is sent to {uri} without encryption"
                    ));
                }
                Secret::basic(user, &password)
            };
            let client = servers::client().map_err(|e| text(&e))?;
            crate::net::endpoint::check_login(&client, &address.to_string(), &auth, insecure)
                .map_err(|e| text(&e))?;
            Ok(Checked {
                uri: address.to_string(),
                auth,
                insecure,
                is_registry: false,
            })
        }
        "docker" | "oras" => {
            let registry = format!("{}{}", address.host, address.path);
            if user.is_empty() {
                return Err("Docker/OCI registry requires a username".to_owned());
            }
            let password = ask_if_empty(password)?;
            let client = servers::client().map_err(|e| text(&e))?;
            let login =
                registry::check_login(&client, &registry, user, &password).map_err(|e| text(&e))?;
            if login == Login::NotAsked {
                ui.warning(format_args!(
                    "{registry} lets everybody in: the password could not be checked"
                ));
            }
            let file = AuthFile::new(authfile);
            file.store(auth_key(&registry), user, &password)?;
            ui.info(format_args!("Token stored in {}", file.shown.display()));
            Ok(Checked {
                uri: address.to_string(),
                auth: Secret::default(),
                insecure,
                is_registry: true,
            })
        }
        other => Err(format!("{other} transport is not supported")),
    }
}

fn ask_if_empty(password: Secret) -> Result<Secret, String> {
    if !password.is_empty() {
        return Ok(password);
    }
    let answer = Console
        .hidden("Password / Token: ", Stream::Stdout)
        .map_err(|error| format!("failed to read password: {}", errno_text(&error)))?;
    if answer.is_empty() {
        return Err("a password is required".to_owned());
    }
    Ok(Secret::new(answer.as_str()))
}

/// Forgets the login to what an address names.
pub(super) fn logout(
    ui: &Ui,
    store: &Store<'_>,
    uri: &str,
    authfile: Option<PathBuf>,
) -> Result<(), Error> {
    let uri = &told(ui, uri);
    // A file that cannot be read is told first.
    store.load_merged()?;
    let fail = |text: String| Error::fatal(format!("while verifying token: {text}"));
    let address = Address::parse(uri).map_err(|error| fail(error.to_string()))?;
    match address.scheme.as_str() {
        "http" | "https" => {}
        "docker" | "oras" => {
            let registry = format!("{}{}", address.host, address.path);
            let file = AuthFile::new(authfile.clone());
            if file.remove(auth_key(&registry)).map_err(fail)? {
                ui.info(format_args!("Token removed from {}", file.shown.display()));
            } else {
                ui.warning(format_args!(
                    "There is no existing login to registry {registry:?}."
                ));
            }
        }
        other => return Err(fail(format!("{other} transport is not supported"))),
    }
    if authfile.is_none() {
        store.edit_merged(|config| {
            config.remove_credentials(uri);
            Ok::<_, String>(())
        })?;
    }
    ui.info("Logout succeeded");
    Ok(())
}

/// The file with registry logins.
struct AuthFile {
    /// As the user knows it.
    shown: PathBuf,
    file: ConfigFile,
}

impl AuthFile {
    fn new(given: Option<PathBuf>) -> Self {
        let shown = given.unwrap_or_else(docker_file);
        let path = followed(&shown);
        Self {
            shown,
            file: ConfigFile::new(path, 0o600, docker_config::MAX_SIZE),
        }
    }

    fn load(&self) -> Result<DockerConfig, String> {
        let fail = |error: &dyn std::fmt::Display| {
            format!(
                "while loading existing OCI registry credentials from {:?}: {error}",
                self.shown.display().to_string()
            )
        };
        let bytes = self.file.read().map_err(|error| fail(&error))?;
        DockerConfig::parse(&bytes.unwrap_or_default()).map_err(|error| fail(&error))
    }

    fn store(&self, key: &str, user: &str, password: &Secret) -> Result<(), String> {
        let fail = |error: &dyn std::fmt::Display| {
            format!("while trying to store new credentials: {error}")
        };
        if called_as() == Program::Apptainer {
            // Docker's folder, which nobody may have made yet.
            self.file.make_folder().map_err(|error| fail(&error))?;
        }
        let lock = self.file.lock().map_err(|error| fail(&error))?;
        let mut config = self.load()?;
        match config.helper(key).map(str::to_owned) {
            Some(helper) => {
                credential_helper::store(&helper, key, user, password.expose())
                    .map_err(|error| fail(&error))?;
                config.store_elsewhere(key);
            }
            None => config.store(key, user, password),
        }
        self.file
            .replace(&lock, &config.to_json())
            .map_err(|error| fail(&error))
    }

    /// Removes a login; false if there is none.
    fn remove(&self, key: &str) -> Result<bool, String> {
        if !self.load()?.contains(key) {
            return Ok(false);
        }
        let fail = |error: &dyn std::fmt::Display| {
            format!("while deleting OCI credentials for registry {key:?}: {error}")
        };
        let lock = self.file.lock().map_err(|error| fail(&error))?;
        let mut config = self.load()?;
        if let Some(helper) = config.helper(key) {
            credential_helper::erase(helper, key).map_err(|error| fail(&error))?;
        }
        config.remove(key);
        self.file
            .replace(&lock, &config.to_json())
            .map_err(|error| fail(&error))?;
        Ok(true)
    }
}
