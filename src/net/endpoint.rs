//! Endpoints: what they offer, and whether a token is good.
//!
//! Source: spec/cli.md 6.5 to 6.8.

use super::Url;
use super::http::{self, Authorization, Client, Request, Response};
use crate::remote::Secret;
use crate::remote::endpoint::{DISCOVERY_PATH, MAX_DISCOVERY};
use serde::Deserialize;
use std::time::Duration;

/// Time for discovery and the check of a token.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the version of a service.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an endpoint or a key server gave no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("error making request to server: {0}")]
    Http(#[from] http::Error),
    /// Another status than 200.
    #[error("error response from server: {0}")]
    Status(String),
    /// The address of a service is none.
    #[error("parse {text:?}: {source}")]
    Address {
        /// What should be an address.
        text: String,
        /// What is wrong with it.
        source: url::ParseError,
    },
}

/// Why there is no user data.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No answer.
    #[error("error making request: {0}")]
    Http(#[from] http::Error),
    /// The token is not accepted, or there is none.
    #[error("must be logged in to retrieve user data")]
    LoggedOut,
    /// The service has no users.
    #[error("user endpoint not found")]
    NotFound,
    /// Another status.
    #[error("status is not ok: {0}")]
    Status(u16),
    /// The answer is not what was asked for.
    #[error("error decoding json response: {0}")]
    Json(String),
    /// The address of the service is none.
    #[error("error creating new request: {0}")]
    Address(#[from] url::ParseError),
}

/// The user whom a token belongs to.
pub struct User {
    /// Name of the account.
    pub name: String,
    /// Mail address.
    pub email: String,
    /// Password for the registry of the endpoint; empty if there is none.
    pub secret: Secret,
}

/// Asks an endpoint for its discovery document.
///
/// # Errors
/// As [`Error`] says.
pub fn discover(client: &Client, endpoint: &str) -> Result<Vec<u8>, Error> {
    let mut request = Request::get(address(&format!("{endpoint}{DISCOVERY_PATH}"))?);
    request.timeout = TIMEOUT;
    request.max_body = MAX_DISCOVERY;
    let answer = client.send(&request)?;
    if answer.status != 200 {
        return Err(Error::Status(answer.status_text()));
    }
    Ok(answer.body)
}

/// Asks the token service whether a token is good.
///
/// # Errors
/// It is not, in the originals' words, or there is no answer.
pub fn check_token(client: &Client, service: &str, token: &Secret) -> Result<(), Error> {
    let mut request = Request::get(address(&format!("{service}/v1/token-status"))?);
    request.timeout = TIMEOUT;
    request.authorization = Authorization::bearer(token.expose());
    match client.send(&request)?.status {
        200 => Ok(()),
        404 => Err(Error::Status("Invalid Credentials".to_owned())),
        500 => Err(Error::Status("Internal Server Error".to_owned())),
        _ => Err(Error::Status("Unknown".to_owned())),
    }
}

/// Version of a service, empty if it does not say; none if it does not work.
pub fn version(client: &Client, service: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        data: Version,
    }
    #[derive(Deserialize, Default)]
    struct Version {
        #[serde(default)]
        version: String,
    }
    let mut request = Request::get(Url::parse(&format!("{service}/version")).ok()?);
    request.timeout = VERSION_TIMEOUT;
    let answer = client.send(&request).ok().filter(|a| a.status == 200)?;
    let answer: Answer = serde_json::from_slice(&answer.body).ok()?;
    Some(answer.data.version)
}

/// Asks a library whom a token belongs to.
///
/// # Errors
/// As [`UserError`] says.
pub fn current_user(client: &Client, library: &str, token: &Secret) -> Result<User, UserError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        username: String,
        #[serde(default)]
        email: String,
        #[serde(default)]
        oidc_user_meta: Meta,
    }
    #[derive(Deserialize, Default)]
    struct Meta {
        #[serde(default)]
        secret: String,
    }
    let authorization = Authorization::bearer(token.expose()).ok_or(UserError::LoggedOut)?;
    let mut request = Request::get(Url::parse(&format!("{library}/v1/rbac/users/current"))?);
    request.authorization = Some(authorization);
    let answer: Response = client.send(&request)?;
    match answer.status {
        200 => {}
        401 => return Err(UserError::LoggedOut),
        404 => return Err(UserError::NotFound),
        other => return Err(UserError::Status(other)),
    }
    let answer: Answer = serde_json::from_slice(&answer.body).map_err(|error| {
        // Without the text around, which could be the secret.
        UserError::Json(format!("line {} column {}", error.line(), error.column()))
    })?;
    Ok(User {
        name: answer.username,
        email: answer.email,
        secret: Secret::new(answer.oidc_user_meta.secret),
    })
}

/// Asks a key server whether it accepts a credential.
///
/// # Errors
/// As [`Error`] says; every status but 200 is a refusal.
pub fn check_login(
    client: &Client,
    server: &str,
    authorization: &Secret,
    insecure: bool,
) -> Result<(), Error> {
    let mut request = Request::get(address(server)?);
    request.authorization = Authorization::from_header(authorization.expose());
    request.insecure = insecure;
    let answer = client.send(&request)?;
    if answer.status != 200 {
        return Err(Error::Status(answer.status_text()));
    }
    Ok(())
}

fn address(text: &str) -> Result<Url, Error> {
    let parsed = match text.contains('\\') {
        // What browsers take for a slash, and Go for no address.
        true => Err(url::ParseError::InvalidDomainCharacter),
        false => Url::parse(text),
    };
    parsed.map_err(|source| Error::Address {
        text: text.to_owned(),
        source,
    })
}
