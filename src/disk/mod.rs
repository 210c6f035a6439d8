//! EDGE: the only part that opens files.

pub mod config;
pub mod converter;
pub mod credential_helper;
pub mod files;
pub mod find;
pub mod keyring;
pub mod layout;
mod map;
pub mod new_file;
pub mod report_file;
pub mod roots;
pub mod sif_file;
pub mod trusted;

use std::io;
use std::process::Command;

/// Keeps the secrets that variables of this program and of the originals hold from a program that
/// is started.
fn without_secrets(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = [
            "SIGSIF_",
            "SINGULARITY_",
            "APPTAINER_",
            "COSIGN_",
            "DOCKER_",
        ];
        let is_ours = ours.iter().any(|front| text.starts_with(front));
        if is_ours && (text.ends_with("PASSWORD") || text.ends_with("PASSPHRASE")) {
            command.env_remove(&name);
        }
    }
}

/// Keeps secrets out of core files, as far as the system lets this process.
///
/// A core file of a program that crashes holds its memory, and lies where others may read it.
pub fn no_core_file() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit is always allowed.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

/// The text of a system error as the originals print it: `no such file or directory`.
pub fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        // `I/O error` stays as it is, `No such file` does not.
        Some(first) if chars.as_str().starts_with(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}
