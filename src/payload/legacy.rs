//! Text of a legacy signature: `SIFHASH:`, a line feed and one hex digest.
//!
//! Source: sylabs/sif `pkg/integrity/verify.go`; spec/sif.md 4.4.

use crate::digest::{self, Digest, HashAlgorithm};
use crate::sif::types::SignatureHash;

const PREFIX: &[u8] = b"SIFHASH:\n";

/// Whether a clear-signed text is a legacy signature.
pub fn is_legacy(plaintext: &[u8]) -> bool {
    plaintext.starts_with(PREFIX)
}

/// Reads the digest; its algorithm stands in the signature object's extra field.
///
/// # Errors
/// In the words of the originals: unsupported algorithm, bad hex, wrong length.
pub fn parse(plaintext: &[u8], hash: SignatureHash) -> Result<Digest, Error> {
    let text = plaintext.strip_prefix(PREFIX).unwrap_or(plaintext);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let algorithm = match hash {
        SignatureHash::Sha256 => HashAlgorithm::Sha256,
        SignatureHash::Sha384 => HashAlgorithm::Sha384,
        SignatureHash::Sha512 => HashAlgorithm::Sha512,
        _ => return Err(Error::Digest(digest::Error::Unsupported)),
    };
    let text = String::from_utf8_lossy(text);
    let bytes = digest::decode_hex(&text)?;
    Ok(Digest::from_bytes(algorithm, &bytes)?)
}

/// Why a legacy text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not hexadecimal.
    #[error(transparent)]
    Hex(#[from] digest::HexError),
    /// Unsupported algorithm or wrong length.
    #[error(transparent)]
    Digest(#[from] digest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_either_case_and_checks_the_length() {
        let hex = "AB".repeat(48);
        let text = format!("SIFHASH:\n{hex}\n");
        assert!(is_legacy(text.as_bytes()));
        let digest = parse(text.as_bytes(), SignatureHash::Sha384).unwrap();
        assert_eq!(digest.bytes(), [0xab; 48]);
        for (bytes, hash) in [(32, SignatureHash::Sha256), (64, SignatureHash::Sha512)] {
            let text = format!("SIFHASH:\n{}\n", "0f".repeat(bytes));
            assert_eq!(
                parse(text.as_bytes(), hash).unwrap().bytes(),
                vec![15; bytes]
            );
        }
        let reason = |text: &str, hash| parse(text.as_bytes(), hash).unwrap_err().to_string();
        assert_eq!(reason(&text, SignatureHash::Sha256), "digest malformed");
        assert_eq!(
            reason(&text, SignatureHash::Blake2b256),
            "hash algorithm unsupported"
        );
        assert_eq!(
            reason("{\"version\":1}", SignatureHash::Sha256),
            "encoding/hex: invalid byte: U+007B '{'"
        );
    }
}
