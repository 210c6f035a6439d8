//! Which key servers are asked, and the client that asks them.

use super::endpoint;
use super::program::called_as;
use crate::disk::errno_text;
use crate::disk::files::{self, MAX_KEY_FILE};
use crate::net::http::{Authorization, Client};
use crate::net::keystore::{BadUrl, Server, parse_url};
pub(super) use crate::remote::endpoint::Asked;
use crate::ui::Ui;
use std::path::PathBuf;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// `--url` is no address of a key server.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// The configuration does not allow it or cannot be used.
    #[error("{0}")]
    Config(String),
}

/// The key servers to ask, in order; never empty.
///
/// `url` is the value of `--url`: only that server, without credentials.
///
/// Source: spec/cli.md 5.5.
pub(super) fn servers(ui: &Ui, url: Option<&str>, asked: Asked) -> Result<Vec<Server>, Error> {
    // A bad address is told before the configuration is looked at.
    if let Some(url) = url {
        parse_url(url)?;
    }
    let (mut active, config) = endpoint::active(ui).map_err(Error::Config)?;
    if active.needs_discovery(url) {
        let own = endpoint::own_keyserver(&active).map_err(Error::Config)?;
        active.fill_keyservers(&own);
    }
    let chosen = active
        .key_servers(&config.credentials, url, asked)
        .map_err(|error| Error::Config(error.to_string()))?;
    let servers = chosen.into_iter().map(|server| {
        Ok(Server {
            url: parse_url(&server.uri)?,
            authorization: server
                .authorization
                .and_then(|value| Authorization::from_header(value.expose())),
            insecure: server.insecure,
        })
    });
    servers.collect()
}

/// The value of `--url`, else of the environment; an empty one does not count.
pub(super) fn url_option(flag: Option<&str>) -> Option<String> {
    match flag {
        Some(flag) => Some(flag.to_owned()),
        None => super::env_value("URL").map(|url| url.to_string_lossy().into_owned()),
    }
    .filter(|url| !url.is_empty())
}

/// A client that also trusts the authorities in the file that `SIGSIF_CA_FILE` names.
pub(super) fn client() -> Result<Client, Error> {
    let file = std::env::var_os("SIGSIF_CA_FILE")
        .map(PathBuf::from)
        .filter(|file| !file.as_os_str().is_empty());
    let fail = |text: String| Error::Config(format!("SIGSIF_CA_FILE: {text}"));
    let pem = file
        .map(|file| {
            files::read(&file, MAX_KEY_FILE)
                .map_err(|e| fail(format!("open {}: {}", file.display(), errno_text(&e))))
        })
        .transpose()?;
    Client::new(pem.as_ref().map(|pem| pem.as_slice())).map_err(|error| fail(error.to_string()))
}

/// Tells how to get a token; `push` is the key that could not be pushed.
pub(super) fn tell_unauthorized(ui: &Ui, push: Option<&str>) {
    let name = called_as().name();
    let mut text = format!(
        "Access token is expired or missing. To update or obtain a token:\n  \
         1) View configured remotes using \"{name} remote list\"\n  \
         2) Identify default remote. It will be listed with square brackets.\n  \
         3) Login to default remote with \"{name} remote login <RemoteName>\""
    );
    if let Some(key) = push {
        text.push_str(&format!("\n  4) Push key using \"{name} key push {key}\""));
    }
    ui.info(text);
}
