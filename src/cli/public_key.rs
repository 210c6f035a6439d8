//! PEM public keys of files.

use super::Error;
use super::private_key::{NO_KEY, key_file};
use super::program::call;
use crate::key::pem::PublicKey;
use std::path::Path;

/// Reads a PEM public key.
///
/// # Errors
/// In the words of the originals, with a line that says what the file is instead.
pub(super) fn load(path: &Path) -> Result<PublicKey, Error> {
    let pem = key_file(path)?;
    PublicKey::from_pem(&pem).map_err(|error| Error::Fatal {
        text: format!("{NO_KEY}{error}"),
        detail: Some(instead(path, &pem)),
    })
}

fn instead(path: &Path, pem: &[u8]) -> String {
    let has = |part: &[u8]| pem.windows(part.len()).any(|window| window == part);
    let path = path.display();
    if has(b"-----BEGIN PGP ") {
        let import = call("key import");
        format!(
            "'{path}' is an OpenPGP key: '{import}' brings it into the keyring, which counts \
             without --key"
        )
    } else if has(b" PRIVATE KEY-----") {
        format!(
            "'{path}' is a private key: '{}' writes its public one",
            call("key public-key")
        )
    } else if has(b"-----BEGIN CERTIFICATE-----") {
        format!("'{path}' is a certificate, which goes with --certificate")
    } else {
        format!("'{path}' is not a public key in PEM")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_file_is_instead() {
        let told = |pem: &str| instead(Path::new("k"), pem.as_bytes());
        for (pem, part) in [
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "key import"),
            ("-----BEGIN RSA PRIVATE KEY-----\n", "key public-key"),
            ("-----BEGIN CERTIFICATE-----\n", "--certificate"),
            ("anything", "'k' is not a public key in PEM"),
            ("", "'k' is not a public key in PEM"),
        ] {
            assert!(told(pem).contains(part), "{}", told(pem));
        }
    }
}
