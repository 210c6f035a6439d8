//! Passphrases: from a file, a descriptor, the environment or the user.

use super::Error;
use crate::disk::{errno_text, files};
use crate::ui::Ui;
use crate::ui::prompt::{Prompt, Stream};
use std::io;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Tries before a new passphrase is given up.
const TRIES: usize = 3;

/// Flags that give a passphrase without a question.
#[derive(clap::Args)]
pub(super) struct Source {
    /// read the passphrase from the first line of a file
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    passphrase_file: Option<PathBuf>,
    /// read the passphrase from the first line of an open file descriptor
    #[arg(long, value_name = "int", value_parser = super::go::int, allow_hyphen_values = true)]
    passphrase_fd: Option<i64>,
}

pub(super) type Secret = Zeroizing<Vec<u8>>;

impl Source {
    /// A passphrase that needs no question: flags first, then `SIGSIF_PASSPHRASE`.
    ///
    /// # Errors
    /// The sentence to tell; the file or descriptor cannot be read.
    pub(super) fn given(&self) -> Result<Option<Secret>, String> {
        if let Some(path) = &self.passphrase_file {
            return files::read_first_line(path)
                .map(Some)
                .map_err(|e| format!("open {}: {}", path.display(), errno_text(&e)));
        }
        if let Some(number) = self.passphrase_fd {
            return i32::try_from(number)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
                .and_then(files::read_line_from_fd)
                .map(Some)
                .map_err(|e| format!("reading file descriptor {number}: {}", errno_text(&e)));
        }
        Ok(environment("SIGSIF_PASSPHRASE"))
    }

    /// Whether a flag gives the passphrase.
    pub(super) fn has_flag(&self) -> bool {
        self.passphrase_file.is_some() || self.passphrase_fd.is_some()
    }
}

/// Value of a variable that holds a secret, an empty one included.
pub(super) fn environment(name: &str) -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))
}

/// Asks for the passphrase of an existing key, once.
///
/// # Errors
/// The sentence to tell.
pub(super) fn ask(
    prompt: &mut dyn Prompt,
    question: &str,
    stream: Stream,
) -> Result<Secret, String> {
    let answer = prompt
        .hidden(question, stream)
        .map_err(|e| errno_text(&e))?;
    Ok(Zeroizing::new(answer.as_bytes().to_vec()))
}

/// Asks for a new passphrase until two answers agree; an empty one is questioned.
///
/// # Errors
/// The sentence to tell: three disagreements, or an empty one that is not wanted.
pub(super) fn ask_new(ui: &Ui, prompt: &mut dyn Prompt, question: &str) -> Result<Secret, String> {
    for _ in 0..TRIES {
        let first = ask(prompt, question, Stream::Stdout)?;
        let second = ask(prompt, "Retype your passphrase : ", Stream::Stdout)?;
        if first != second {
            ui.warning("passphrases do not match");
            continue;
        }
        if first.is_empty()
            && !yes_or_no(
                prompt,
                "WARNING: if there is no password set, your key is not secure. \
                 Do you want to continue? [y/n] ",
                false,
            )?
        {
            return Err("empty passphrase".to_owned());
        }
        return Ok(first);
    }
    Err("too many retries while getting a passphrase".to_owned())
}

/// Asks a yes or no question.
///
/// # Errors
/// The sentence to tell: another answer.
pub(super) fn yes_or_no(
    prompt: &mut dyn Prompt,
    question: &str,
    default: bool,
) -> Result<bool, String> {
    let answer = prompt.line(question).map_err(|e| errno_text(&e))?;
    match answer.to_lowercase().as_str() {
        "" => Ok(default),
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        other => Err(format!("invalid answer: {other:?}")),
    }
}

/// Wraps a sentence for the FATAL line of a command.
pub(super) fn fatal(prefix: &str) -> impl Fn(String) -> Error {
    let prefix = prefix.to_owned();
    move |text| Error::fatal(format!("{prefix}{text}"))
}
