//! What `remote`, `keyserver`, `registry` and the key commands share: the
//! configuration files and the services of an endpoint.

use super::program::{call, called_as};
use super::{Error, servers};
use crate::disk::config::{self as files, ConfigFile, DiscoveryCache};
use crate::net::{Url, endpoint as net, http};
use crate::remote::config::{Config, Endpoint, MAX_SIZE, Owner};
use crate::remote::endpoint::{self, MAX_DISCOVERY, Services};
use crate::ui::Ui;
use std::path::PathBuf;

/// A `remote.yaml` and how errors about it begin.
pub(super) struct Store<'a> {
    ui: &'a Ui,
    file: ConfigFile,
    owner: Owner,
    words: Words,
}

/// The originals' name of the file in errors.
#[derive(Clone, Copy)]
pub(super) enum Words {
    /// Of `remote` and `keyserver`.
    Remote,
    /// Of `registry`, and of every logout.
    Plain,
}

impl Words {
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Remote => ("remote config file", "remote config data"),
            Self::Plain => ("configuration file", "configuration data"),
        }
    }
}

impl<'a> Store<'a> {
    /// The user's file, or the one of `--config`.
    pub(super) fn user(ui: &'a Ui, given: Option<PathBuf>, words: Words) -> Self {
        let folder = super::config_folder();
        for warning in files::prepare(&folder) {
            ui.warning(warning);
        }
        let path = given.unwrap_or_else(|| folder.join(files::REMOTE_FILE));
        Self {
            ui,
            file: ConfigFile::new(path, 0o600, MAX_SIZE),
            owner: Owner::User,
            words,
        }
    }

    /// The administrator's file.
    pub(super) fn system(ui: &'a Ui) -> Self {
        Self {
            ui,
            file: system_file(),
            owner: Owner::System,
            words: Words::Remote,
        }
    }

    /// Path of the file, to be told.
    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.file.path().display()
    }

    /// Whose file it is.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// What the file says, alone.
    pub(super) fn load(&self) -> Result<Config, Error> {
        let bytes = self.file.read().map_err(|error| self.unreadable(&error))?;
        self.parse(bytes.as_ref().map(|bytes| bytes.as_slice()))
    }

    /// What the file and the administrator say; the file is created if missing.
    pub(super) fn load_for_listing(&self) -> Result<Config, Error> {
        let bytes = self.file.read_or_create();
        let bytes = bytes.map_err(|error| self.unreadable(&error))?;
        let mut config = self.parse(Some(&bytes))?;
        self.merge(&mut config)?;
        Ok(config)
    }

    /// What the file and the administrator say.
    pub(super) fn load_merged(&self) -> Result<Config, Error> {
        let mut config = self.load()?;
        self.merge(&mut config)?;
        Ok(config)
    }

    /// Changes the file under its lock.
    pub(super) fn edit<T, E: ToString>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<T, E>,
    ) -> Result<T, Error> {
        self.change(false, change)
    }

    /// As [`Store::edit`], and takes over what the administrator says.
    pub(super) fn edit_merged<T, E: ToString>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<T, E>,
    ) -> Result<T, Error> {
        self.change(true, change)
    }

    fn change<T, E: ToString>(
        &self,
        merged: bool,
        change: impl FnOnce(&mut Config) -> Result<T, E>,
    ) -> Result<T, Error> {
        let lock = self.file.lock().map_err(|error| self.unreadable(&error))?;
        let mut config = self.load()?;
        if merged {
            self.merge(&mut config)?;
        }
        let result = change(&mut config).map_err(Error::fatal)?;
        self.file
            .replace(&lock, config.to_yaml().as_bytes())
            .map_err(|error| self.unreadable(&error))?;
        Ok(result)
    }

    fn parse(&self, bytes: Option<&[u8]>) -> Result<Config, Error> {
        let config = match (bytes, self.owner) {
            (None, Owner::System) => called_as().built_in(),
            (bytes, _) => Config::parse(bytes.unwrap_or_default()).map_err(|error| {
                Error::fatal(format!("while parsing {}: {error}", self.words.name().1))
            })?,
        };
        for key in config.unknown_keys() {
            self.ui.warning(format_args!(
                "{}: {key} is unknown and has no effect",
                self.path()
            ));
        }
        Ok(config)
    }

    fn merge(&self, config: &mut Config) -> Result<(), Error> {
        let system = Self::system(self.ui).load()?;
        config.merge_system(&system).map_err(Error::fatal)
    }

    fn unreadable(&self, error: &files::Error) -> Error {
        Error::fatal(format!("while opening {}: {error}", self.words.name().0))
    }
}

fn system_file() -> ConfigFile {
    let path = super::system_folder().join(files::REMOTE_FILE);
    ConfigFile::new(path, 0o644, MAX_SIZE)
}

/// Refuses everybody but root, by the real user.
pub(super) fn require_root(what: &str) -> Result<(), Error> {
    if rustix::process::getuid().is_root() {
        return Ok(());
    }
    Err(Error::fatal(format!(
        "Unable to modify {what}: not root user"
    )))
}

/// The endpoint in use with all logins, as the key commands see it.
///
/// Files that cannot be used are told and left out.
///
/// # Errors
/// The sentence to tell: nothing is in use.
pub(super) fn active(ui: &Ui) -> Result<(Endpoint, Config), String> {
    let prefix = "unable to load remote configuration: ";
    let folder = super::config_folder();
    if folder.is_dir() {
        for warning in files::prepare(&folder) {
            ui.warning(warning);
        }
    }
    let user = ConfigFile::new(folder.join(files::REMOTE_FILE), 0o600, MAX_SIZE);
    let user = usable(ui, &user, Config::default());
    let system = usable(ui, &system_file(), called_as().built_in());
    let mut config = match (user, system) {
        (Some(mut user), Some(system)) => {
            user.merge_system(&system)
                .map_err(|error| format!("{prefix}{error}"))?;
            user
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => Config::default(),
    };
    if config.active.is_empty() && config.remotes.is_empty() {
        ui.warning(format_args!(
            "No default remote in use, falling back to default keyserver: {}",
            called_as().built_in_keyserver()
        ));
        config = called_as().built_in();
    }
    if config.active.is_empty() {
        let names: Vec<&str> = config.remotes.keys().map(String::as_str).collect();
        return Err(format!(
            "{prefix}no default endpoint set: use '{}', \
             available endpoints are: {}",
            call("remote use <endpoint>"),
            names.join(", ")
        ));
    }
    let active = config
        .endpoint(&config.active)
        .map_err(|error| format!("{prefix}{error}"))?
        .clone();
    Ok((active, config))
}

fn usable(ui: &Ui, file: &ConfigFile, missing: Config) -> Option<Config> {
    let path = file.path().display();
    match file.read() {
        Ok(None) => Some(missing),
        Ok(Some(bytes)) => match Config::parse(&bytes) {
            Ok(config) => Some(config),
            Err(error) => {
                ui.warning(format_args!("{path} is not used: {error}"));
                None
            }
        },
        Err(error) => {
            ui.warning(format_args!("{path} is not used: {error}"));
            None
        }
    }
}

/// Whether an endpoint is asked although its services are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Discovery {
    /// Known services are good enough.
    Known,
    /// Asked; known services if there is no answer.
    Asked,
    /// Asked; no answer is an error.
    Checked,
}

/// The services of an endpoint.
///
/// # Errors
/// The sentence to tell.
pub(super) fn services(endpoint: &Endpoint, discovery: Discovery) -> Result<Services, String> {
    let url = endpoint.url().map_err(|error| error.to_string())?;
    let cache = DiscoveryCache::new(&super::config_folder());
    let name = endpoint::cache_name(&url);
    let known = || {
        let document = cache.read(&name, MAX_DISCOVERY)?;
        let stored = endpoint::from_cache(&document, &url)?;
        let is_fine = stored.is_placed || require_outside(&url, &stored.services).is_ok();
        is_fine.then_some(stored.services)
    };
    if discovery == Discovery::Known
        && let Some(services) = known()
    {
        return Ok(services);
    }
    let asked = servers::client()
        .map_err(|error| error.to_string())
        .and_then(|client| net::discover(&client, &url).map_err(|error| error.to_string()))
        .and_then(|document| {
            let services = Services::parse(&document).map_err(|error| error.to_string())?;
            require_outside(&url, &services)?;
            Ok((document, services))
        });
    match asked {
        Ok((document, services)) => {
            // Without a stored copy the endpoint is asked again.
            if let Ok(document) = endpoint::to_cache(&document, &url) {
                let _ = cache.write(&name, &document);
            }
            Ok(services)
        }
        Err(error) if discovery == Discovery::Checked => Err(error),
        Err(error) => known().ok_or(error),
    }
}

/// Refuses services that an endpoint of the net says to be inside of our network.
fn require_outside(endpoint: &str, services: &Services) -> Result<(), String> {
    let is_inside = |uri: &str| Url::parse(uri).is_ok_and(|url| http::is_inside(&url));
    if is_inside(endpoint) {
        return Ok(());
    }
    match services.iter().find(|(_, service)| is_inside(&service.uri)) {
        Some((name, service)) => Err(format!(
            "service {name} of {endpoint} is at {}, an address of a private network, \
             and not used",
            service.uri
        )),
        None => Ok(()),
    }
}

/// Address of an endpoint's own key server; the public endpoints need not be asked.
///
/// # Errors
/// The sentence to tell.
pub(super) fn own_keyserver(endpoint: &Endpoint) -> Result<String, String> {
    service(endpoint, "keyserver")
}

/// Address of a service, as [`own_keyserver`].
///
/// # Errors
/// The sentence to tell.
pub(super) fn service(endpoint: &Endpoint, name: &'static str) -> Result<String, String> {
    let services = match Services::built_in(&endpoint.uri) {
        Some(services) => services,
        None => services(endpoint, Discovery::Known)?,
    };
    let uri = services.uri(name).map_err(|error| error.to_string())?;
    Ok(uri.to_owned())
}
