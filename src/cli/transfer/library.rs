//! Container libraries, as `pull` and `push` find them.
//!
//! Source: spec/cli.md 9.1 and 9.2.

use super::super::{Error, endpoint};
use super::Connection;
use crate::net::Url;
use crate::net::library::Library;
use crate::remote::address::same_service;
use crate::ui::{Ui, one_line};

/// Tag of references without one.
const DEFAULT_TAG: &str = "latest";

/// `library://[host/]entity/collection/container[:tag[,tag]]`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct LibraryReference {
    /// A library of its own, with port if one is given.
    pub(in crate::cli) host: Option<String>,
    /// `entity/collection/container`.
    pub(in crate::cli) path: String,
    /// At least one.
    pub(in crate::cli) tags: Vec<String>,
}

impl LibraryReference {
    /// Reads what stands behind `library:`, or a reference without scheme.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('/');
        let (host, rest) = match bare.split_once('/') {
            Some((host, rest)) if bare.matches('/').count() > 2 => (Some(host), rest),
            _ => (None, bare),
        };
        let (path, tags) = rest.split_once(':').unwrap_or((rest, DEFAULT_TAG));
        let name = |text: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            text.chars().all(inner) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        if !path.split('/').all(name) || path.matches('/').count() > 2 {
            return Err(format!(
                "{:?} is not entity/collection/container",
                one_line(path)
            ));
        }
        let tags: Vec<String> = tags.split(',').map(str::to_owned).collect();
        if let Some(bad) = tags.iter().find(|tag| !name(tag)) {
            return Err(format!("{:?} is no tag", one_line(bad)));
        }
        Ok(Self {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            tags,
        })
    }
}

/// A library with its address.
pub(in crate::cli) struct Opened<'c> {
    /// The library, with the token of the endpoint if it is the endpoint's.
    pub(in crate::cli) library: Library<'c>,
    /// Host and port.
    pub(in crate::cli) host: String,
    /// Whether it comes with a token.
    pub(in crate::cli) has_token: bool,
}

/// The library of `--library`, of the reference, or of the endpoint in use: only the last gets
/// the token.
///
/// # Errors
/// There is none, or only another one may be used.
pub(in crate::cli) fn open<'c>(
    ui: &Ui,
    connection: &'c Connection,
    given: Option<&str>,
    reference: &LibraryReference,
) -> Result<Opened<'c>, Error> {
    let prefix = "Unable to get library client configuration: ";
    let fail = |text: String| Error::fatal(format!("{prefix}{}", one_line(&text)));
    let named = match (given, &reference.host) {
        (Some(_), Some(_)) => {
            return Err(Error::fatal(
                "Conflicting arguments; do not use --library with a library URI containing host name",
            ));
        }
        (Some(given), None) => Some(given.to_owned()),
        (None, Some(host)) if connection.plain => Some(format!("http://{host}")),
        (None, Some(host)) => Some(format!("https://{host}")),
        (None, None) => None,
    };
    // A library that is named needs no endpoint, unless the administrator allows only one.
    let active = endpoint::active(ui);
    let of_endpoint = |endpoint| {
        endpoint::service(endpoint, "library")
            .map_err(|error| fail(format!("unable to get library service URI: {error}")))
    };
    let (uri, token) = match (named, active) {
        (None, active) => {
            let (endpoint, _) = active.map_err(fail)?;
            let token = endpoint.token.clone();
            (
                of_endpoint(&endpoint)?,
                (!token.is_empty()).then_some(token),
            )
        }
        (Some(uri), Ok((endpoint, _))) if endpoint.exclusive => {
            let only = of_endpoint(&endpoint)?;
            if !same_service(&uri, &only) {
                return Err(fail(format!(
                    "endpoint is set as exclusive by the system administrator: only {only:?} can be used"
                )));
            }
            (uri, None)
        }
        (Some(uri), _) => (uri, None),
    };
    let url = Url::parse(&uri)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| fail("it is no address of http or https".to_owned()))?;
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    Ok(Opened {
        has_token: token.is_some(),
        library: Library::new(connection.client(), url, token).with_plain(connection.plain),
        host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_a_host_if_they_have_four_parts() {
        let parsed = |text: &str| {
            let reference = LibraryReference::parse(text).ok()?;
            Some((
                reference.host.unwrap_or_default(),
                reference.path,
                reference.tags.join("+"),
            ))
        };
        let owned = |host: &str, path: &str, tags: &str| {
            Some((host.to_owned(), path.to_owned(), tags.to_owned()))
        };
        for (text, expected) in [
            ("//lab/default/x:1,2", owned("", "lab/default/x", "1+2")),
            ("lab/x", owned("", "lab/x", "latest")),
            ("alpine", owned("", "alpine", "latest")),
            (
                "//127.0.0.1:80/a/b/c:v",
                owned("127.0.0.1:80", "a/b/c", "v"),
            ),
            ("///a/b/c", owned("", "a/b/c", "latest")),
            ("//a/../c", None),
            ("//a/b/c?x=y", None),
            ("//a/b/c:", None),
            ("//a/b/c:x/../../y", None),
            ("//h/a/b/c/d", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
