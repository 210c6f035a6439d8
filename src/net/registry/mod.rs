//! Registries: logins, manifests, blobs and what refers to them.
//!
//! The originals never send the password to a registry with basic
//! authentication, so any password is good there; here it has to be accepted.
//!
//! Source: spec/cli.md 6.9; spec/oci-sif-cosign.md 5.1; OCI distribution specification 1.1;
//! RFC 9110, 11.

mod challenge;
mod content;
mod session;
mod upload;

use super::Url;
use super::http::{self, Authorization, Client, Request, Response};
use crate::remote::Secret;
use crate::remote::address::Address;
use serde::Deserialize;

pub use challenge::Challenge;
pub use content::{Blob, Manifest, Referrers, Stored, next_page};
pub use session::{Access, Credential, Session};
pub use upload::Source;

/// Bytes of an answer that are told in an error.
const TOLD: usize = 512;
/// Largest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

/// What a registry says about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The password was asked for and accepted.
    Accepted,
    /// The registry asks nobody for a password.
    NotAsked,
}

/// Why a registry is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No host with an optional port.
    #[error("registries must be valid RFC 3986 URI authorities: {0}")]
    Name(String),
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A refusal.
    #[error("{method} {url}: unexpected status code {status}{body}")]
    Status {
        /// `GET`.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// Status code.
        code: u16,
        /// `401 Unauthorized`.
        status: String,
        /// The registry's explanation with `: ` in front, if it sent one.
        body: String,
    },
    /// The question whether a login is good was sent on to another host.
    #[error("login is not checked: the registry redirects to {0}")]
    Elsewhere(String),
    /// Neither `Basic` nor `Bearer`.
    #[error("unsupported challenge {0:?}")]
    Challenge(String),
    /// A token service that would get the password in clear, or no address.
    #[error("malformed WWW-Authenticate, token service {0:?} is not used")]
    TokenService(String),
    /// The token service sends no token.
    #[error("no token in bearer response")]
    NoToken,
    /// A password would go over the network in clear.
    #[error(
        "{0} answers only without encryption: user and password are not sent (--no-https allows it)"
    )]
    PlainPassword(String),
    /// Content that is not what its digest says.
    #[error("{what} has the digest {found}, expected {expected}")]
    Digest {
        /// `blob` or `manifest`, with its address.
        what: String,
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// Content of another length.
    #[error("{what} has {found} bytes, expected {expected}")]
    Size {
        /// What it is.
        what: String,
        /// Bytes that were announced before.
        expected: u64,
        /// Bytes that came, or that the server says will come.
        found: u64,
    },
    /// A part that begins somewhere else than was asked for.
    #[error("{what}: server sends another part than was asked for: {found:?}")]
    Range {
        /// What it is.
        what: String,
        /// The server's header.
        found: String,
    },
    /// An address for an upload that is not used.
    #[error("upload address {0:?} of the registry is not used")]
    Location(String),
    /// An answer that lacks what the specification demands.
    #[error("{0}")]
    Answer(String),
    /// The receiver of a blob cannot store it.
    #[error("{0}")]
    Sink(String),
}

impl Error {
    /// Status code of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Asks a registry whether it accepts user and password.
///
/// # Errors
/// It does not, or it cannot be asked.
pub fn check_login(
    client: &Client,
    registry: &str,
    user: &str,
    password: &Secret,
) -> Result<Login, Error> {
    let (url, answer) = ping(client, &Candidates::of(registry, false)?.without_guesses())?;
    let basic = || Authorization::basic(user, password.expose());
    let challenge = answer.challenge(&url);
    match (answer.status, challenge) {
        (401, Some(challenge)) if challenge.scheme == "bearer" => {
            let scope: Vec<_> = challenge.value("scope").into_iter().collect();
            let with = Some(TokenLogin::Basic(basic()));
            let token = fetch_token(client, &challenge, &url, &scope, with)?;
            accepted(client, &url, Some(token))?;
            Ok(Login::Accepted)
        }
        (401, Some(challenge)) if challenge.scheme == "basic" => {
            accepted(client, &url, Some(basic()))?;
            Ok(Login::Accepted)
        }
        (401, Some(challenge)) => Err(Error::Challenge(challenge.scheme)),
        (200, _) => {
            // Some let everybody in but look at a password that they get.
            accepted(client, &url, Some(basic()))?;
            Ok(Login::NotAsked)
        }
        _ => Err(refusal("GET", &url, &answer, None)),
    }
}

/// Addresses under which a registry may be found, in the order of trying.
struct Candidates {
    urls: Vec<Url>,
    /// The first one is http, which servers that want TLS answer with 400.
    plain_first: bool,
}

impl Candidates {
    /// https; this machine by plain http first, as is what the user wants so; private networks by
    /// http if there is no https.
    fn of(registry: &str, plain: bool) -> Result<Self, Error> {
        let invalid = || Error::Name(registry.to_owned());
        let host = match registry {
            "docker.io" => "index.docker.io",
            other => other,
        };
        if host.is_empty() || host.contains(['/', '@', '?', '#']) {
            return Err(invalid());
        }
        let address = Address::parse(&format!("//{host}")).map_err(|_| invalid())?;
        let url =
            |scheme: &str| Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|_| invalid());
        let (secure, open) = (url("https")?, url("http")?);
        let plain_first = plain || address.is_loopback();
        let guessed =
            http::is_private(&open) || address.host_name().to_ascii_lowercase().ends_with(".local");
        let urls = match (plain_first, guessed) {
            (true, _) => vec![open, secure],
            (false, true) => vec![secure, open],
            (false, false) => vec![secure],
        };
        Ok(Self { urls, plain_first })
    }

    /// Without plain http for anybody but this machine: a password is going to be sent.
    fn without_guesses(mut self) -> Self {
        if !self.plain_first {
            self.urls.retain(|url| url.scheme() == "https");
        }
        self
    }
}

/// Asks without a credential who is there.
fn ping(client: &Client, candidates: &Candidates) -> Result<(Url, Response), Error> {
    let mut failure = None;
    for (at, url) in candidates.urls.iter().enumerate() {
        let is_last = at.saturating_add(1) == candidates.urls.len();
        match client.send(&Request::get(url.clone())) {
            // What a server that wants TLS says.
            Ok(answer) if answer.status == 400 && candidates.plain_first && !is_last => {}
            Ok(answer) => return Ok((url.clone(), answer)),
            // The first failure tells most: what comes later is a guess. But whoever has a
            // certificate speaks TLS, and it is that which is wrong.
            Err(error) => {
                let is_certificate = matches!(
                    &error,
                    http::Error::Exchange {
                        fault: http::Fault::Certificate(_),
                        ..
                    }
                );
                if is_certificate || failure.is_none() {
                    failure = Some(error);
                }
            }
        }
    }
    Err(failure.map_or_else(|| Error::Name(String::new()), Error::Http))
}

fn accepted(client: &Client, url: &Url, with: Option<Authorization>) -> Result<(), Error> {
    let mut request = Request::get(url.clone());
    request.authorization = with;
    let answer = client.send(&request)?;
    if answer.url().origin() != url.origin() {
        // Who answers there got no login.
        let host = answer.url().host_str().unwrap_or_default().to_owned();
        Err(Error::Elsewhere(host))
    } else if answer.status == 200 {
        Ok(())
    } else {
        Err(refusal("GET", url, &answer, request.authorization.as_ref()))
    }
}

impl Response {
    /// What is demanded by the server that was asked; whoever it redirects to demands nothing of
    /// its login.
    fn challenge(&self, asked: &Url) -> Option<Challenge> {
        (self.url().origin() == asked.origin())
            .then(|| Challenge::choose(self.headers("www-authenticate")))
            .flatten()
    }
}

/// How somebody identifies to a token service.
enum TokenLogin {
    /// User and password.
    Basic(Authorization),
    /// A token that buys others.
    Identity(Secret),
}

/// Gets a token for these scopes.
fn fetch_token(
    client: &Client,
    challenge: &Challenge,
    registry: &Url,
    scopes: &[&str],
    login: Option<TokenLogin>,
) -> Result<Authorization, Error> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let realm = challenge.value("realm").unwrap_or_default();
    let unusable = || Error::TokenService(realm.to_owned());
    let mut url = Url::parse(realm).map_err(|_| unusable())?;
    let is_open = url.scheme() == "https" || http::is_loopback(&url);
    // A registry out there names no service of this machine or network.
    if !is_open || http::check_hop(registry, registry, &url).is_err() {
        return Err(unusable());
    }
    let service = challenge.value("service");
    let request = if let Some(TokenLogin::Identity(identity)) = &login {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "sigsif")
            .append_pair("refresh_token", identity.expose())
            .append_pair("scope", &scopes.join(" "));
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        Request::post(
            url.clone(),
            "application/x-www-form-urlencoded",
            form.finish().into_bytes(),
        )
    } else {
        for scope in scopes {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        Request::get(url.clone())
    };
    let method = match &login {
        Some(TokenLogin::Identity(_)) => "POST",
        _ => "GET",
    };
    let (authorization, secret) = match login {
        Some(TokenLogin::Basic(basic)) => (Some(basic.clone()), Some(basic)),
        Some(TokenLogin::Identity(token)) => (None, Authorization::bearer(token.expose())),
        None => (None, None),
    };
    let request = Request {
        authorization,
        secret_body: method == "POST",
        max_body: MAX_TOKEN,
        ..request
    };
    let answer = client.send(&request)?;
    if answer.status != 200 {
        return Err(refusal(method, &url, &answer, secret.as_ref()));
    }
    let body = zeroize::Zeroizing::new(answer.body);
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| Error::NoToken)?;
    let token = Secret::new(if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    });
    Authorization::bearer(token.expose()).ok_or(Error::NoToken)
}

/// `secret` was sent, so the answer may have it.
pub(super) fn refusal(
    method: &'static str,
    url: &Url,
    answer: &Response,
    secret: Option<&Authorization>,
) -> Error {
    let body = told(&answer.body);
    let body = secret.map_or_else(|| body.clone(), |secret| secret.redact(&body));
    Error::Status {
        method,
        url: url.to_string(),
        code: answer.status,
        status: answer.status_text(),
        body: if body.is_empty() {
            body
        } else {
            format!(": {body}")
        },
    }
}

/// What a server says about a refusal, on one line.
///
/// Registries send `{"errors":[{"code":..,"message":..}]}`.
fn told(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => {
            let items = body.errors.iter().map(|item| match item.message.as_str() {
                "" => item.code.clone(),
                message => format!("{}: {message}", item.code),
            });
            items.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    // A server must not forge lines of ours.
    let shown = text.trim().chars().filter(|c| !c.is_control());
    shown.take(TOLD).collect()
}
