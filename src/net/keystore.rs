//! Key servers: HKP and Sylabs' dialect of it.
//!
//! Source: spec/cli.md 5.1 to 5.5; draft-shaw-openpgp-hkp-00.

use super::Url;
use super::http::{self, Authorization, Client, Request, Response};
use crate::key::index::Index;
use crate::key::pgp::{self, Entity, Fingerprint, select_entities};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// A key server and how to talk to it.
#[derive(Clone)]
pub struct Server {
    /// Address; its path is not used.
    pub url: Url,
    /// Credential for it.
    pub authorization: Option<Authorization>,
    /// Whether to accept any certificate.
    pub insecure: bool,
}

/// An address that cannot be a key server's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not http, https, hkp or hkps.
    #[error("unsupported protocol scheme {0}")]
    Scheme(String),
    /// No address at all.
    #[error("parse {0:?}: {1}")]
    Syntax(String, &'static str),
}

/// Why a key server gave no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A refusal, with the server's explanation if it sent one.
    #[error("{text}")]
    Status {
        /// Status code.
        status: u16,
        /// `404 Not Found: nothing here`.
        text: String,
    },
    /// The answer holds no keys that can be read.
    #[error(transparent)]
    Unreadable(#[from] pgp::Error),
    /// An armored answer without keys.
    #[error("no keys in keyring")]
    NoKeys,
    /// The answer holds keys, but not the one that was asked for.
    #[error("key server sent key {0}, which was not asked for")]
    OtherKey(Fingerprint),
    /// Several keys fit.
    #[error("server returned more than one key for unique fingerprint")]
    SeveralKeys,
    /// There is nobody to ask.
    #[error("no keyserver configured")]
    NoServer,
}

impl Error {
    /// Status code of a refusal.
    /// Whether another key might still get an answer from this server.
    pub fn is_about_this_key(&self) -> bool {
        match self {
            Self::Http(http::Error::Exchange { fault, .. }) => {
                matches!(fault, http::Fault::TooLarge(_))
            }
            Self::Http(_) => false,
            Self::Status { status, .. } => {
                (400..500).contains(status) && *status != 401 && *status != 429
            }
            Self::Unreadable(_) | Self::NoKeys | Self::OtherKey(_) | Self::SeveralKeys => true,
            Self::NoServer => false,
        }
    }

    /// Status code of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The key that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A primary key, or a sub-key that signs.
    Fingerprint(Fingerprint),
    /// The same by its last 16 digits.
    KeyId(u64),
    /// The same by its last 8 digits.
    ShortId(u32),
}

impl Wanted {
    /// The search term: `0x` and all digits, leading zeros included.
    fn term(&self) -> String {
        match self {
            Self::Fingerprint(fingerprint) => {
                format!("0x{}", fingerprint.to_string().to_lowercase())
            }
            Self::KeyId(id) => format!("0x{id:016x}"),
            Self::ShortId(id) => format!("0x{id:08x}"),
        }
    }

    fn names(&self, fingerprint: &Fingerprint) -> bool {
        match self {
            Self::Fingerprint(wanted) => fingerprint == wanted,
            Self::KeyId(id) => fingerprint.key_id() == *id,
            Self::ShortId(id) => fingerprint.key_id() & 0xffff_ffff == u64::from(*id),
        }
    }

    fn is(&self, entity: &Entity) -> bool {
        // Anybody can adopt a sub-key that does not sign.
        entity.keys().any(|(_, key)| {
            let by_right = key == pgp::KeyRef::Primary || entity.may_sign(key);
            let public = entity.public_key(key);
            by_right && public.is_some_and(|k| self.names(&k.fingerprint))
        })
    }
}

/// Reads the address of a key server; hkp and hkps become http and https.
///
/// # Errors
/// [`BadUrl`].
pub fn parse_url(text: &str) -> Result<Url, BadUrl> {
    // What browsers take for a slash, and Go for no address.
    if text.contains('\\') {
        return Err(BadUrl::Syntax(printable(text), "invalid address"));
    }
    let parsed = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => BadUrl::Scheme(String::new()),
        _ => BadUrl::Syntax(printable(text), "invalid address"),
    })?;
    let (scheme, port) = match parsed.scheme() {
        "http" => ("http", None),
        "https" => ("https", None),
        "hkp" => ("http", Some(11371)),
        "hkps" => ("https", None),
        other => return Err(BadUrl::Scheme(other.to_owned())),
    };
    let syntax = |what| BadUrl::Syntax(printable(text), what);
    let host = parsed
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| syntax("no host"))?;
    let mut url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| syntax("invalid host"))?;
    let set = url
        .set_port(parsed.port().or(port))
        .and_then(|()| url.set_username(parsed.username()))
        .and_then(|()| url.set_password(parsed.password()));
    set.map_err(|()| syntax("invalid address"))?;
    Ok(url)
}

/// Lists the keys that fit a text, over at most [`MAX_PAGES`] pages.
///
/// # Errors
/// [`Error::Http`], [`Error::Status`].
pub fn search(client: &Client, server: &Server, text: &str) -> Result<Index, Error> {
    let mut index = Index::default();
    let mut token = String::new();
    for page in 0..MAX_PAGES {
        let mut query = vec![
            ("fingerprint", "on"),
            ("op", "index"),
            ("options", "mr"),
            ("search", text),
            ("x-pagesize", PAGE_SIZE),
        ];
        if page > 0 {
            query.push(("x-pagetoken", &token));
        }
        let answer = lookup(client, server, &query)?;
        let listed = Index::parse(&String::from_utf8_lossy(&answer.body));
        let empty = listed.keys.is_empty();
        if page == 0 {
            index = listed;
        } else {
            index.append(listed);
        }
        match answer.header("x-hkp-next-page-token") {
            Some(next) if !next.is_empty() && next != token && !empty => {
                next.clone_into(&mut token)
            }
            _ => break,
        }
    }
    Ok(index)
}

/// Fetches the answer to a request for a key, unread.
///
/// # Errors
/// [`Error::Http`], [`Error::Status`].
pub fn fetch(client: &Client, server: &Server, wanted: &Wanted) -> Result<Vec<u8>, Error> {
    let term = wanted.term();
    let query = [("exact", "on"), ("op", "get"), ("search", &term)];
    Ok(lookup(client, server, &query)?.body)
}

/// Fetches the one key that is asked for; others in the answer do not count.
///
/// # Errors
/// [`Error`].
pub fn get(client: &Client, server: &Server, wanted: &Wanted) -> Result<Entity, Error> {
    let mut entities = fetch_entities(client, server, wanted)?.into_iter();
    match (entities.next(), entities.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => Err(Error::SeveralKeys),
        (None, _) => Err(Error::NoKeys),
    }
}

/// Looks for the signing keys with an id, one server after the other.
///
/// Whatever is no such key moves on to the next server; the last answer is final.
///
/// # Errors
/// The error of the last server, [`Error::NoServer`] without any.
pub fn find_signers(
    client: &Client,
    servers: &[Server],
    key_id: u64,
) -> Result<Vec<Entity>, Error> {
    let wanted = Wanted::KeyId(key_id);
    let mut last = Error::NoServer;
    for server in servers {
        match fetch_entities(client, server, &wanted) {
            Ok(entities) => return Ok(entities),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends an armored public key; returns what the server says about it.
///
/// # Errors
/// [`Error::Http`], [`Error::Status`].
pub fn add(client: &Client, server: &Server, armored: &str) -> Result<String, Error> {
    let body = Serializer::new(String::new())
        .append_pair("keytext", armored)
        .finish();
    let mut request = Request::post(
        at(server, "/pks/add"),
        "application/x-www-form-urlencoded",
        body.into_bytes(),
    );
    request.max_body = MAX_INDEX;
    let answer = send(client, server, request)?;
    let text = String::from_utf8_lossy(&answer.body);
    Ok(text.chars().take(MAX_MESSAGE).collect())
}

/// Pages of a search that are read at most.
pub const MAX_PAGES: usize = 8;

/// Keys per page, as the originals ask for.
const PAGE_SIZE: &str = "256";
/// Largest list, in bytes.
const MAX_INDEX: u64 = 4 << 20;
/// Largest key, in bytes. Larger ones exist, flooded with certifications to do harm.
const MAX_KEY: u64 = 4 << 20;

/// The keys of an answer that were asked for: at least one, each once.
fn fetch_entities(client: &Client, server: &Server, wanted: &Wanted) -> Result<Vec<Entity>, Error> {
    let body = fetch(client, server, wanted)?;
    if body.trim_ascii().is_empty() {
        return Err(pgp::Error::NoArmor.into());
    }
    let selected = select_entities(&body, &|fingerprint| wanted.names(fingerprint))?;
    let mut entities = selected.entities;
    let adopted = entities.first().map(Entity::fingerprint);
    entities.retain(|entity| wanted.is(entity));
    match (entities.is_empty(), adopted.or(selected.other)) {
        (false, _) => Ok(entities),
        (true, Some(other)) => Err(Error::OtherKey(other)),
        (true, None) => Err(Error::NoKeys),
    }
}

/// `query` is in alphabetical order, as the originals send it.
fn lookup(client: &Client, server: &Server, query: &[(&str, &str)]) -> Result<Response, Error> {
    let mut url = at(server, "/pks/lookup");
    let encoded = Serializer::new(String::new()).extend_pairs(query).finish();
    url.set_query(Some(&encoded));
    let mut request = Request::get(url);
    let is_list = query.contains(&("op", "index"));
    request.max_body = if is_list { MAX_INDEX } else { MAX_KEY };
    send(client, server, request)
}

fn at(server: &Server, path: &str) -> Url {
    let mut url = server.url.clone();
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn send(client: &Client, server: &Server, mut request: Request) -> Result<Response, Error> {
    request.authorization = server.authorization.clone();
    request.insecure = server.insecure;
    let answer = client.send(&request)?;
    if answer.is_success() {
        return Ok(answer);
    }
    let mut text = answer.status_text();
    if let Ok(told) = serde_json::from_slice::<Refusal>(&answer.body)
        && !told.error.message.is_empty()
    {
        text.push_str(": ");
        // A server must not forge lines of ours.
        let shown = told.error.message.chars().filter(|c| !c.is_control());
        text.extend(shown.take(MAX_MESSAGE));
    }
    Err(Error::Status {
        status: answer.status,
        text,
    })
}

/// Characters of a server's explanation that are shown.
const MAX_MESSAGE: usize = 1000;

#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    #[serde(default)]
    message: String,
}

/// An address that could not be read, without what may be a password in it.
fn printable(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = front.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://{host}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_originals() {
        for (text, url) in [
            ("http://h", "http://h/"),
            ("https://h/keys?x#y", "https://h/"),
            ("hkp://h", "http://h:11371/"),
            ("hkp://h:8081/sub/path", "http://h:8081/"),
            ("hkps://u:p@h", "https://u:p@h/"),
            ("hkp://[::1]", "http://[::1]:11371/"),
        ] {
            assert_eq!(parse_url(text).map(String::from), Ok(url.to_owned()));
        }
        for (text, reason) in [
            ("localhost:8081", "unsupported protocol scheme localhost"),
            ("ftp://x", "unsupported protocol scheme ftp"),
            ("keys.example", "unsupported protocol scheme "),
            ("http://", "parse \"http://\": invalid address"),
            (
                "https://evil\\@good",
                "parse \"https://good\": invalid address",
            ),
        ] {
            assert_eq!(parse_url(text).unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn key_ids_keep_their_leading_zeros() {
        assert_eq!(Wanted::KeyId(0xab).term(), "0x00000000000000ab");
        assert_eq!(Wanted::ShortId(0xab).term(), "0x000000ab");
    }
}
