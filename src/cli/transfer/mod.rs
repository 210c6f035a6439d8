//! What `pull`, `push` and the commands about images in registries share: who we are, where the
//! image is, and what belongs to it.

pub(super) mod artifacts;
pub(super) mod judge;
pub(super) mod library;
pub(super) mod merge;
pub(super) mod sign;

use super::program::{Program, call, called_as, docker_file, followed};
use super::{Error, env_value, servers};
use crate::disk::config::ConfigFile;
use crate::disk::credential_helper;
use crate::net::http::Client;
use crate::net::registry::{self, Access, Credential, Session};
use crate::oci::reference::Reference;
use crate::remote::Secret;
use crate::remote::docker_config::{self, DockerConfig, auth_keys};
use crate::ui::Ui;
use crate::ui::prompt::{Console, Prompt, Stream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Transfers that go on at the same time.
pub(super) const AT_ONCE: usize = 3;

/// How a registry is reached, and as whom.
#[derive(clap::Args, Default)]
pub(super) struct RegistryArgs {
    /// username for a registry; the password is asked for, or comes from the environment
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    docker_username: Option<String>,
    /// password for a registry
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    docker_password: Option<String>,
    /// ask for the username and the password of a registry
    #[arg(long)]
    docker_login: bool,
    /// Docker-style authentication file used for the credentials
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    authfile: Option<PathBuf>,
    /// reach the registry or library without encryption
    #[arg(long, alias = "nohttps", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::go::bool, value_name = "bool")]
    no_https: Option<bool>,
}

/// A client with the user's wishes.
pub(super) struct Connection {
    client: Client,
    /// No encryption.
    pub(super) plain: bool,
    given: Option<Credential>,
    authfile: Option<PathBuf>,
}

/// What is before a reference of a registry.
pub(super) const SCHEME: &str = "docker://";

impl RegistryArgs {
    /// Whether any of the flags is there.
    pub(super) fn is_given(&self) -> bool {
        self.docker_username.is_some()
            || self.docker_password.is_some()
            || self.docker_login
            || self.authfile.is_some()
            || self.no_https.is_some()
    }

    /// Tells that flags about registries do nothing for a file.
    pub(super) fn tell_idle(&self, ui: &Ui) {
        if self.is_given() {
            ui.warning("Flags about registries have no effect: the image is a file");
        }
    }

    /// Looks at the flags and the environment; asks if that was wished.
    ///
    /// # Errors
    /// A bad value, or nobody to ask.
    pub(super) fn connect(&self) -> Result<Connection, Error> {
        let text = |name| env_value(name).map(|value| value.to_string_lossy().into_owned());
        // The originals take these two without a prefix as well.
        let bare = |name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.filter(|_| called_as() != Program::Sigsif)
        };
        let user = self
            .docker_username
            .clone()
            .or_else(|| text("DOCKER_USERNAME").or_else(|| bare("DOCKER_USERNAME")));
        let password = self
            .docker_password
            .clone()
            .or_else(|| text("DOCKER_PASSWORD").or_else(|| bare("DOCKER_PASSWORD")));
        let given = match (self.docker_login, user, password) {
            (false, None, None) => None,
            (false, Some(user), Some(password)) => {
                Some(Credential::Login(user, Secret::new(password)))
            }
            (false, None, Some(_)) => {
                return Err(Error::fatal(
                    "a password for the registry needs --docker-username",
                ));
            }
            (_, user, _) => Some(ask(user)?),
        };
        let plain = match self.no_https {
            Some(plain) => plain,
            None => {
                super::switch(None, "no-https", "NO_HTTPS")?
                    || super::switch(None, "no-https", "NOHTTPS")?
            }
        };
        Ok(Connection {
            client: servers::client().map_err(Error::fatal)?,
            plain,
            given,
            authfile: self
                .authfile
                .clone()
                .or_else(|| env_value(called_as().authfile()).map(PathBuf::from))
                .filter(|file| !file.as_os_str().is_empty()),
        })
    }
}

fn ask(user: Option<String>) -> Result<Credential, Error> {
    let fail = |error: std::io::Error| {
        let reason = crate::disk::errno_text(&error);
        Error::fatal(format!("failed to read login: {reason}"))
    };
    let user = match user {
        Some(user) => user,
        None => Console
            .line("Enter Docker Username: ")
            .map_err(fail)?
            .trim()
            .to_owned(),
    };
    let password = Console
        .hidden("Enter Docker Password: ", Stream::Stderr)
        .map_err(fail)?;
    Ok(Credential::Login(user, Secret::new(password.as_str())))
}

impl Connection {
    /// The client itself.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A repository, as whoever we are there.
    ///
    /// # Errors
    /// A file with logins cannot be used.
    pub(super) fn session<'s>(
        &'s self,
        ui: &Ui,
        reference: &Reference,
        access: Access,
    ) -> Result<Session<'s>, Error> {
        let credential = match &self.given {
            Some(given) => Some(given.clone()),
            None => self.stored(ui, &reference.registry, &reference.repository)?,
        };
        Ok(Session::new(
            &self.client,
            &reference.registry,
            &reference.repository,
            access,
            credential,
            self.plain,
        ))
    }

    /// What the files with logins have for a repository.
    fn stored(
        &self,
        ui: &Ui,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, Error> {
        if let Some(file) = &self.authfile {
            let found = match lookup(&followed(file), registry, repository) {
                Ok(found) => found,
                Err(error) => return without_login(ui, error),
            };
            if found.is_none() {
                ui.warning(format_args!(
                    "{} has no login to {registry}",
                    file.display()
                ));
            }
            return Ok(found);
        }
        if called_as() != Program::Sigsif {
            let found = lookup(&followed(&docker_file()), registry, repository);
            return found.or_else(|error| without_login(ui, error));
        }
        let docker = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
        let docker = docker.map(|folder| folder.join("config.json"));
        let own = docker_file();
        for (file, is_own) in [Some((own, true)), docker.map(|file| (file, false))]
            .into_iter()
            .flatten()
        {
            match lookup(&followed(&file), registry, repository) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if is_own => return Err(Error::fatal(error)),
                Err(error) => ui.warning(error),
            }
        }
        Ok(None)
    }
}

/// A file with logins that cannot be used: the originals go on as nobody.
fn without_login(ui: &Ui, error: String) -> Result<Option<Credential>, Error> {
    if called_as() == Program::Sigsif {
        return Err(Error::fatal(error));
    }
    ui.warning(error);
    Ok(None)
}

/// The login to a repository in a file, or in the program that the file names.
fn lookup(path: &Path, registry: &str, repository: &str) -> Result<Option<Credential>, String> {
    let fail = |text: String| format!("couldn't read auth file {}: {text}", path.display());
    let file = ConfigFile::new(path.to_owned(), 0o600, docker_config::MAX_SIZE);
    let bytes = file.read().map_err(|error| fail(error.to_string()))?;
    let config = DockerConfig::parse(bytes.as_ref().map_or(&[], |bytes| bytes.as_slice()))
        .map_err(|error| fail(error.to_string()))?;
    for key in auth_keys(registry, repository) {
        if let Some(helper) = config.helper(&key) {
            let login = credential_helper::get(helper, &key).map_err(|error| error.to_string())?;
            if let Some((user, secret)) = login {
                let secret = Secret::new(secret.as_str());
                return Ok(Some(match user.as_str() {
                    // What Docker writes instead of a name.
                    "<token>" => Credential::Identity(secret),
                    _ => Credential::Login(user, secret),
                }));
            }
        }
        match config.tokens(&key) {
            (Some(identity), _) => return Ok(Some(Credential::Identity(identity))),
            (None, Some(token)) => return Ok(Some(Credential::Token(token))),
            (None, None) => {}
        }
        if let Some((user, password)) = config.login(&key).filter(|(user, _)| !user.is_empty()) {
            return Ok(Some(Credential::Login(user, password)));
        }
    }
    Ok(None)
}

/// The reference behind `docker://` or `oras://`, in the words of the originals.
pub(super) fn parse_reference(text: &str) -> Result<Reference, String> {
    let bare = text.trim_start_matches("//");
    Reference::parse(bare).map_err(|error| format!("invalid reference {text:?}: {error}"))
}

/// Splits `transport:rest` as the originals do; a name with a colon is none.
pub(super) fn split_uri(uri: &str) -> (&str, &str) {
    const KNOWN: [&str; 10] = [
        "library",
        "shub",
        "docker",
        "docker-archive",
        "docker-daemon",
        "oci",
        "oci-archive",
        "http",
        "https",
        "oras",
    ];
    match uri.split_once(':') {
        Some((transport, rest)) if rest.starts_with("//") || KNOWN.contains(&transport) => {
            (transport, rest)
        }
        _ => ("", uri),
    }
}

/// Why a registry said no, and what helps.
pub(super) fn hint(error: &registry::Error) -> Option<String> {
    match error.status() {
        Some(401) => Some(format!(
            "The registry wants a login: '{}', or --docker-username",
            call("registry login docker://HOST")
        )),
        Some(403) => Some("The login does not allow this in that repository".to_owned()),
        _ => match error {
            registry::Error::Http(crate::net::http::Error::Exchange {
                fault: crate::net::http::Fault::Certificate(_),
                ..
            }) => Some(
                "Name the registry's own certificate authority with SIGSIF_CA_FILE=FILE".to_owned(),
            ),
            _ => None,
        },
    }
}

/// Does `work` for every item, a few at a time; the first failure ends it, and is told to those
/// that are at work.
pub(super) fn at_once<T: Sync, E: Send>(
    items: &[T],
    work: impl Fn(&T, &AtomicBool) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let (next, stop, failure_of, work) = (&next, &stop, &failure, &work);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(move || {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = work(item, stop) {
                        let failure = failure_of.lock();
                        let mut failure = failure.unwrap_or_else(PoisonError::into_inner);
                        failure.get_or_insert(error);
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Ends a transfer when another one failed.
pub(super) fn going_on(stop: &AtomicBool) -> std::io::Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(std::io::Error::other(
            "stopped because another transfer failed",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_split_as_in_the_originals() {
        for (uri, parts) in [
            ("docker://ubuntu:18.04", ("docker", "//ubuntu:18.04")),
            ("oci-archive:path/to", ("oci-archive", "path/to")),
            ("other://x", ("other", "//x")),
            ("ubuntu:18.04.img", ("", "ubuntu:18.04.img")),
            ("alpine", ("", "alpine")),
        ] {
            assert_eq!(split_uri(uri), parts);
        }
    }

    #[test]
    fn all_items_are_done_until_one_fails() {
        let items: Vec<usize> = (0..100).collect();
        let done = std::sync::atomic::AtomicUsize::new(0);
        let count = |_: &usize, _: &AtomicBool| {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, usize>(())
        };
        assert_eq!(at_once(&items, count), Ok(()));
        assert_eq!(done.into_inner(), 100);
        let fail = |item: &usize, _: &AtomicBool| if *item == 7 { Err(7) } else { Ok(()) };
        assert_eq!(at_once(&items, fail), Err(7));
        let wait = |item: &usize, stop: &AtomicBool| match *item {
            1 => Err("first".to_owned()),
            _ => loop {
                going_on(stop).map_err(|error| error.to_string())?;
                std::thread::yield_now();
            },
        };
        assert_eq!(at_once(&items, wait), Err("first".to_owned()));
    }
}
