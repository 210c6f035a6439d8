//! What to do next after a failure, for somebody who looks on.
//!
//! The sentences of failures are those of the originals, and scripts read them; so this is told on
//! a terminal only.

use super::program::call;

/// Ends or parts of sentences, and what helps then; `{}` is a command of this program.
const HINTS: &[(&str, &str, &str)] = &[
    (
        "no key matching given fingerprint found",
        "'{}' shows fingerprints, with --secret those of private keys",
        "key list",
    ),
    (
        "failed to decode fingerprint",
        "A fingerprint has 40 hex digits; '{}' finds it",
        "key search NAME",
    ),
    (
        "command failed: openpgp: invalid data: private key checksum failure",
        "The passphrase is wrong",
        "",
    ),
    (
        "export command failed: keyring is empty",
        "'{}' makes a key, 'key import' and 'key pull' bring one",
        "key newpair",
    ),
    (
        " is not a remote",
        "'{}' shows the endpoints that there are",
        "remote list",
    ),
    (
        "no remote-endpoint with the name",
        "'{}' shows the endpoints that there are",
        "remote list",
    ),
    (
        "Docker/OCI registry requires a username",
        "Give the name with --username; the password is asked for",
        "",
    ),
    (
        " transport is not supported",
        "Registries begin with docker:// or oras://, key servers with https://",
        "",
    ),
    (
        "no external keyserver configuration found",
        "The administrator adds it first: '{}'",
        "keyserver add URL",
    ),
    (
        "Unsupported transport type",
        "There are docker://, oras://, library://, http:// and https://",
        "",
    ),
    (
        "--cosign verification requires a public --key",
        "The signer has it in a file, which often is called cosign.pub",
        "",
    ),
    (
        "--cosign signatures require a private --key",
        "'{}' makes one",
        "key generate-cosign-key-pair",
    ),
];

/// What helps after a failure with this sentence.
pub(super) fn of(sentence: &str) -> Option<String> {
    let (_, text, command) = HINTS.iter().find(|(part, _, _)| sentence.contains(part))?;
    Some(text.replace("{}", &call(command)))
}

/// What helps after the failure of a `sif` command.
pub(super) fn of_sif(command: &str, sentence: &str) -> Option<String> {
    match (command, sentence) {
        (_, "object not found") => Some(format!(
            "'{}' shows the ids of all objects",
            call("sif list IMAGE")
        )),
        (_, text) if text.starts_with("while converting id") => {
            Some("The id is a number, and stands in front of the image".to_owned())
        }
        ("add", text) if text.starts_with('-') => {
            Some(format!("'{}' has the numbers", call("sif add --help")))
        }
        _ => None,
    }
}
