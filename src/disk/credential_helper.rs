//! The programs that keep registry passwords for Docker's command line.
//!
//! `docker-credential-<name> store|get|erase` reads its input from stdin.
//! Source: spec/cli.md 6.2; docker/docker-credential-helpers.

use super::errno_text;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// Why a password is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is no program's.
    #[error("invalid credential helper name {0:?}")]
    Name(String),
    /// The program does not run.
    #[error("docker-credential-{name}: {}", errno_text(source))]
    Run {
        /// The helper.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The program refuses.
    #[error("docker-credential-{name}: {text}")]
    Refused {
        /// The helper.
        name: String,
        /// What it says.
        text: String,
    },
}

/// Gives a login to a helper.
///
/// # Errors
/// As [`Error`] says.
pub fn store(name: &str, server: &str, user: &str, password: &str) -> Result<(), Error> {
    let login = serde_json::json!({
        "ServerURL": server,
        "Username": user,
        "Secret": password,
    });
    run(name, "store", &Zeroizing::new(login.to_string()))
}

/// User and password that a helper has for a server; nothing if it has none.
///
/// # Errors
/// As [`Error`] says.
pub fn get(name: &str, server: &str) -> Result<Option<(String, Zeroizing<String>)>, Error> {
    #[derive(serde::Deserialize)]
    struct Login {
        #[serde(rename = "Username", default)]
        user: String,
        #[serde(rename = "Secret", default)]
        secret: String,
    }
    let answer = match call(name, "get", server)? {
        Ok(answer) => answer,
        // What all helpers say.
        Err(text) if text.contains("credentials not found") => return Ok(None),
        Err(text) => return Err(refused(name, text)),
    };
    let login: Login = serde_json::from_slice(&answer)
        .map_err(|_| refused(name, "answer is no login".to_owned()))?;
    Ok(Some((login.user, Zeroizing::new(login.secret))))
}

/// Lets a helper forget a login.
///
/// # Errors
/// As [`Error`] says.
pub fn erase(name: &str, server: &str) -> Result<(), Error> {
    run(name, "erase", server)
}

fn run(name: &str, action: &str, input: &str) -> Result<(), Error> {
    match call(name, action, input)? {
        Ok(_) => Ok(()),
        Err(text) => Err(refused(name, text)),
    }
}

fn refused(name: &str, text: String) -> Error {
    Error::Refused {
        name: name.to_owned(),
        text,
    }
}

/// What a helper writes; if it fails, as text.
fn call(
    name: &str,
    action: &str,
    input: &str,
) -> Result<Result<Zeroizing<Vec<u8>>, String>, Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Error::Name(name.to_owned()));
    }
    let fail = |source| Error::Run {
        name: name.to_owned(),
        source,
    };
    let mut command = Command::new(format!("docker-credential-{name}"));
    // Secrets of others are nothing for it.
    super::without_secrets(&mut command);
    let mut child = command
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why in its answer.
        let _ = stdin.write_all(input.as_bytes());
    }
    let answer = child.wait_with_output().map_err(fail)?;
    let stdout = Zeroizing::new(answer.stdout);
    if answer.status.success() {
        return Ok(Ok(stdout));
    }
    Ok(Err(String::from_utf8_lossy(&stdout).trim().to_owned()))
}
