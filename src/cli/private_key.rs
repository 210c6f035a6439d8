//! PEM private keys of files, and the passwords that open or seal them.

use super::Error;
use super::passphrase::{self, Secret, Source};
use crate::disk::errno_text;
use crate::disk::files::{self, MAX_KEY_FILE};
use crate::key::cosign;
use crate::key::pem::{self, PrivateKey};
use crate::ui;
use crate::ui::prompt::{Prompt, Stream};
use std::path::Path;
use zeroize::Zeroizing;

/// How the originals begin what they say about keys in files.
pub(super) const NO_KEY: &str = "failed to load key material: ";
const QUESTION: &str = "Enter password for private key: ";
const AGAIN: &str = "Enter again: ";

/// The bytes of a file with a key.
pub(super) fn key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    files::read(path, MAX_KEY_FILE).map_err(|error| {
        let reason = errno_text(&error);
        Error::fatal(format!("{NO_KEY}open {}: {reason}", path.display()))
    })
}

/// A private key and the password that opened it.
pub(super) struct Unlocked {
    pub(super) key: PrivateKey,
    /// Nothing if the file was not encrypted.
    pub(super) password: Option<Secret>,
}

/// Reads a PEM private key; asks for its password if it has one.
///
/// # Errors
/// In the words of the originals, with a line that names the file.
pub(super) fn load(
    path: &Path,
    source: &Source,
    prompt: &mut dyn Prompt,
) -> Result<Unlocked, Error> {
    let fail = passphrase::fatal(NO_KEY);
    let pem = key_file(path)?;
    let unreadable = |error: pem::Error| Error::Fatal {
        text: format!("{NO_KEY}{error}"),
        detail: Some(format!("'{}' gave no private key", path.display())),
    };
    let password = match PrivateKey::needs_password(&pem).map_err(unreadable)? {
        true => Some(password(source, prompt).map_err(fail)?),
        false => None,
    };
    unlock(&pem, password).map_err(unreadable)
}

/// A piped password keeps its line end in the originals, so a key may have
/// been sealed with one.
fn unlock(pem: &[u8], mut password: Option<Secret>) -> Result<Unlocked, pem::Error> {
    let open = |password: &Option<Secret>| {
        PrivateKey::from_pem(pem, password.as_ref().map(|p| p.as_slice()))
    };
    let mut key = open(&password);
    if let (Err(pem::Error::Cosign(cosign::Error::DecryptionFailed)), Some(given)) =
        (&key, &password)
    {
        let mut with_end = Zeroizing::new(Vec::with_capacity(given.len().saturating_add(1)));
        with_end.extend_from_slice(given);
        with_end.push(b'\n');
        let again = Some(with_end);
        if let Ok(opened) = open(&again) {
            (key, password) = (Ok(opened), again);
        }
    }
    key.map(|key| Unlocked { key, password })
}

/// Flags, then `COSIGN_PASSWORD`, then `SIGSIF_PASSPHRASE`, then the question.
fn password(source: &Source, prompt: &mut dyn Prompt) -> Result<Secret, String> {
    match without_question(source, &[QUESTION])? {
        Some(given) => Ok(given),
        None => passphrase::ask(prompt, QUESTION, Stream::Stderr),
    }
}

/// As [`load`] for a key that is to be sealed; asked for twice.
///
/// # Errors
/// The sentence to tell.
pub(super) fn new_password(source: &Source, prompt: &mut dyn Prompt) -> Result<Secret, String> {
    if let Some(given) = without_question(source, &[QUESTION, AGAIN])? {
        return Ok(given);
    }
    let first = passphrase::ask(prompt, QUESTION, Stream::Stderr)?;
    let second = passphrase::ask(prompt, AGAIN, Stream::Stderr)?;
    if first == second {
        Ok(first)
    } else {
        Err("passwords do not match".to_owned())
    }
}

fn without_question(source: &Source, questions: &[&str]) -> Result<Option<Secret>, String> {
    if source.has_flag() {
        return source.given();
    }
    if let Some(given) = passphrase::environment("COSIGN_PASSWORD") {
        // The originals show the questions all the same.
        questions.iter().for_each(ui::note);
        return Ok(Some(given));
    }
    source.given()
}
