//! Registries: the check of a login.
//!
//! The originals never send the password to a registry with basic
//! authentication, so any password is good there; here it has to be accepted.
//!
//! Source: spec/cli.md 6.9; OCI distribution specification; RFC 9110, 11.

use super::Url;
use super::http::{self, Authorization, Client, Request, Response};
use crate::remote::Secret;
use crate::remote::address::Address;
use serde::Deserialize;

/// Bytes of an answer that are told in an error.
const TOLD: usize = 512;

/// What a registry says about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// The password was asked for and accepted.
    Accepted,
    /// The registry asks nobody for a password.
    NotAsked,
}

/// Why a login is no good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No host with an optional port.
    #[error("registries must be valid RFC 3986 URI authorities: {0}")]
    Name(String),
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A refusal.
    #[error("GET {url}: unexpected status code {status}{body}")]
    Status {
        /// What was asked for.
        url: String,
        /// `401 Unauthorized`.
        status: String,
        /// The registry's explanation with `: ` in front, if it sent one.
        body: String,
    },
    /// Neither `Basic` nor `Bearer`.
    #[error("unsupported challenge {0:?}")]
    Challenge(String),
    /// A token service that would get the password in clear, or no address.
    #[error("malformed WWW-Authenticate, token service {0:?} is not used")]
    TokenService(String),
    /// The token service sends no token.
    #[error("no token in bearer response")]
    NoToken,
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
    let (url, answer) = ping(client, registry)?;
    let basic = || Authorization::basic(user, password.expose());
    let challenge = answer.header("www-authenticate").map(Challenge::parse);
    match (answer.status, challenge) {
        (401, Some(challenge)) if challenge.scheme == "bearer" => {
            let token = fetch_token(client, &challenge, basic())?;
            accepted(client, &url, token)?;
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
        _ => Err(refusal(&url, &answer)),
    }
}

/// Asks without a credential; this machine by plain http first.
fn ping(client: &Client, registry: &str) -> Result<(Url, Response), Error> {
    let invalid = || Error::Name(registry.to_owned());
    let host = match registry {
        "docker.io" => "index.docker.io",
        other => other,
    };
    if host.is_empty() || host.contains(['/', '@', '?', '#']) {
        return Err(invalid());
    }
    let address = Address::parse(&format!("//{host}")).map_err(|_| invalid())?;
    let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|_| invalid());
    let secure = url("https")?;
    if address.is_loopback() {
        let plain = url("http")?;
        match client.send(&Request::get(plain.clone())) {
            // What a server that wants TLS says.
            Ok(answer) if answer.status != 400 => return Ok((plain, answer)),
            Err(error) => {
                let again = client.send(&Request::get(secure.clone()));
                return again
                    .map(|answer| (secure, answer))
                    .map_err(|_| error.into());
            }
            Ok(_) => {}
        }
    }
    let answer = client.send(&Request::get(secure.clone()))?;
    Ok((secure, answer))
}

fn accepted(client: &Client, url: &Url, with: Option<Authorization>) -> Result<(), Error> {
    let mut request = Request::get(url.clone());
    request.authorization = with;
    let answer = client.send(&request)?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(refusal(url, &answer))
    }
}

fn fetch_token(
    client: &Client,
    challenge: &Challenge,
    basic: Authorization,
) -> Result<Option<Authorization>, Error> {
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
    if url.scheme() != "https" && !http::is_loopback(&url) {
        return Err(unusable());
    }
    for name in ["scope", "service"] {
        if let Some(value) = challenge.value(name) {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let mut request = Request::get(url.clone());
    request.authorization = Some(basic);
    let answer = client.send(&request)?;
    if answer.status != 200 {
        return Err(refusal(&url, &answer));
    }
    let answer: Answer = serde_json::from_slice(&answer.body).map_err(|_| Error::NoToken)?;
    let token = Secret::new(if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    });
    if token.is_empty() {
        return Err(Error::NoToken);
    }
    Ok(Authorization::bearer(token.expose()))
}

fn refusal(url: &Url, answer: &Response) -> Error {
    let body = String::from_utf8_lossy(&answer.body);
    // A server must not forge lines of ours.
    let shown = body.trim().chars().filter(|c| !c.is_control());
    let body: String = shown.take(TOLD).collect();
    Error::Status {
        url: url.to_string(),
        status: answer.status_text(),
        body: if body.is_empty() {
            body
        } else {
            format!(": {body}")
        },
    }
}

/// The first challenge of a `WWW-Authenticate` header.
struct Challenge {
    /// In lower case.
    scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    fn parse(header: &str) -> Self {
        let header = header.trim();
        let (scheme, mut rest) = header.split_once(' ').unwrap_or((header, ""));
        let mut values = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_once(',').unwrap_or((after, "")),
            };
            values.push((name, value.trim().to_owned()));
            rest = after;
        }
        Self {
            scheme: scheme.to_ascii_lowercase(),
            values,
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_split() {
        let challenge =
            Challenge::parse(r#"Bearer realm="https://h/t?a=b,c", service=svc,scope="a b""#);
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.value("realm"), Some("https://h/t?a=b,c"));
        assert_eq!(challenge.value("service"), Some("svc"));
        assert_eq!(challenge.value("scope"), Some("a b"));
        assert_eq!(challenge.value("other"), None);
        for odd in ["", "Basic", "Bearer =", "Bearer a=\"b", "Basic realm"] {
            Challenge::parse(odd);
        }
    }
}
