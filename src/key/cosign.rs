//! The encrypted key envelope of sigstore: JSON with scrypt and NaCl secretbox
//! around a PKCS#8 key. cosign writes it as `ENCRYPTED SIGSTORE PRIVATE KEY`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, Nonce, XSalsa20Poly1305};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// PEM label that is written, and read.
pub const PEM_LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// Older PEM label, only read.
pub const OLD_PEM_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;
const WRITE_COST: Cost = Cost {
    n: 65536,
    r: 8,
    p: 1,
};
/// The only costs accepted: 32, 64 and 128 MiB of memory.
const READ_COSTS: [(Cost, u8); 3] = [
    (
        Cost {
            n: 32768,
            r: 8,
            p: 1,
        },
        15,
    ),
    (WRITE_COST, 16),
    (
        Cost {
            n: 131_072,
            r: 8,
            p: 1,
        },
        17,
    ),
];

/// Why an envelope could not be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON object, or a member is not base64.
    #[error("encrypted: malformed envelope: {0}")]
    Malformed(String),
    /// A key derivation function other than scrypt.
    #[error("encrypted: unknown kdf name {0:?}")]
    UnknownKdf(String),
    /// A cipher other than NaCl secretbox.
    #[error("encrypted: unknown cipher name {0:?}")]
    UnknownCipher(String),
    /// scrypt parameters other than N 2^15, 2^16 or 2^17, r 8, p 1.
    #[error("unsupported scrypt parameters")]
    UnsupportedCost,
    /// The nonce is not 24 bytes long.
    #[error("encrypted: incorrect nonce size")]
    NonceSize,
    /// The password is wrong (or the file is damaged).
    #[error("encrypted: decryption failed")]
    DecryptionFailed,
    /// The system gave no random bytes, or the key is too long to seal.
    #[error("encrypted: encryption failed")]
    EncryptionFailed,
}

/// Opens an envelope; returns the PKCS#8 DER inside.
///
/// # Errors
/// [`Error::DecryptionFailed`] for a wrong password; the other variants for an
/// envelope this program does not understand. The scrypt cost is checked
/// before it is paid.
///
/// Source: go-securesystemslib, `encrypted.Decrypt`.
pub fn open(json: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let envelope: Envelope =
        serde_json::from_slice(json).map_err(|e| Error::Malformed(e.to_string()))?;
    if envelope.kdf.name != KDF {
        return Err(Error::UnknownKdf(envelope.kdf.name));
    }
    if envelope.cipher.name != CIPHER {
        return Err(Error::UnknownCipher(envelope.cipher.name));
    }
    let log_n = READ_COSTS
        .iter()
        .find(|(cost, _)| *cost == envelope.kdf.params)
        .map(|(_, log_n)| *log_n)
        .ok_or(Error::UnsupportedCost)?;
    let nonce: [u8; NONCE_LENGTH] = decode(&envelope.cipher.nonce)?
        .try_into()
        .map_err(|_| Error::NonceSize)?;
    let salt = decode(&envelope.kdf.salt)?;
    let ciphertext = decode(&envelope.ciphertext)?;
    let key = derive(password, &salt, log_n).ok_or(Error::UnsupportedCost)?;
    XSalsa20Poly1305::new((&*key).into())
        .decrypt(&Nonce::from(nonce), ciphertext.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| Error::DecryptionFailed)
}

/// Seals a PKCS#8 DER key with a fresh salt and nonce, scrypt N 65536.
///
/// Returns the JSON, to be put into a PEM block with [`PEM_LABEL`].
///
/// # Errors
/// [`Error::EncryptionFailed`] if the system has no random bytes.
///
/// Source: go-securesystemslib, `encrypted.Encrypt`.
pub fn seal(pkcs8: &[u8], password: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut salt, mut nonce) = ([0u8; SALT_LENGTH], [0u8; NONCE_LENGTH]);
    for bytes in [&mut salt[..], &mut nonce[..]] {
        OsRng
            .try_fill_bytes(bytes)
            .map_err(|_| Error::EncryptionFailed)?;
    }
    let key = derive(password, &salt, 16).ok_or(Error::EncryptionFailed)?;
    let ciphertext = XSalsa20Poly1305::new((&*key).into())
        .encrypt(&Nonce::from(nonce), pkcs8)
        .map_err(|_| Error::EncryptionFailed)?;
    let envelope = Envelope {
        kdf: Derivation {
            name: KDF.to_owned(),
            params: WRITE_COST,
            salt: BASE64_STANDARD.encode(salt),
        },
        cipher: Cipher {
            name: CIPHER.to_owned(),
            nonce: BASE64_STANDARD.encode(nonce),
        },
        ciphertext: BASE64_STANDARD.encode(ciphertext),
    };
    serde_json::to_vec(&envelope).map_err(|_| Error::EncryptionFailed)
}

fn derive(password: &[u8], salt: &[u8], log_n: u8) -> Option<Zeroizing<[u8; 32]>> {
    let params = scrypt::Params::new(log_n, 8, 1, 32).ok()?;
    let mut key = Zeroizing::new([0u8; 32]);
    scrypt::scrypt(password, salt, &params, &mut *key).ok()?;
    Some(key)
}

fn decode(text: &str) -> Result<Vec<u8>, Error> {
    BASE64_STANDARD
        .decode(text)
        .map_err(|e| Error::Malformed(e.to_string()))
}

// Field order is the order in the file; missing members read as zero values.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Envelope {
    kdf: Derivation,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Derivation {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Cost {
    #[serde(rename = "N")]
    n: u64,
    r: u64,
    p: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Cipher {
    name: String,
    nonce: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn envelope(n: u64, nonce: usize) -> Vec<u8> {
        format!(
            r#"{{"kdf":{{"name":"scrypt","params":{{"N":{n},"r":8,"p":1}},"salt":""}},"cipher":{{"name":"nacl/secretbox","nonce":"{}"}},"ciphertext":"AAAA"}}"#,
            BASE64_STANDARD.encode(vec![0; nonce])
        )
        .into_bytes()
    }

    #[test]
    fn opens_what_it_sealed() {
        for password in [&b"secret"[..], b"", b"secret\n"] {
            let sealed = seal(b"not really a key", password).unwrap();
            assert_eq!(*open(&sealed, password).unwrap(), b"not really a key");
        }
        let sealed = seal(b"x", b"secret").unwrap();
        assert_eq!(
            open(&sealed, b"wrong").unwrap_err().to_string(),
            "encrypted: decryption failed"
        );
        assert_ne!(sealed, seal(b"x", b"secret").unwrap());
    }

    #[test]
    fn seals_in_cosigns_form() {
        let sealed = String::from_utf8(seal(&[0; 138], b"").unwrap()).unwrap();
        let shape: String = sealed
            .split('"')
            .map(|part| if part.len() > 20 { "B64" } else { part })
            .collect::<Vec<_>>()
            .join("\"");
        assert_eq!(
            shape,
            r#"{"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":"B64"},"cipher":{"name":"nacl/secretbox","nonce":"B64"},"ciphertext":"B64"}"#
        );
        let parsed: Envelope = serde_json::from_str(&sealed).unwrap();
        assert_eq!(decode(&parsed.kdf.salt).unwrap().len(), 32);
        assert_eq!(decode(&parsed.cipher.nonce).unwrap().len(), 24);
        assert_eq!(decode(&parsed.ciphertext).unwrap().len(), 154);
    }

    #[test]
    fn says_what_is_unsupported() {
        let start = Instant::now();
        for n in [0, 1, 16384, 65535, 262_144, 1 << 62, u64::MAX] {
            let error = open(&envelope(n, 24), b"secret").unwrap_err();
            assert_eq!(error.to_string(), "unsupported scrypt parameters");
        }
        let error = open(&envelope(65536, 23), b"secret").unwrap_err();
        assert_eq!(error.to_string(), "encrypted: incorrect nonce size");
        let error = open(b"{}", b"secret").unwrap_err();
        assert_eq!(error.to_string(), r#"encrypted: unknown kdf name """#);
        let error = open(br#"{"kdf":{"name":"scrypt"},"cipher":{"name":"x"}}"#, b"");
        let error = error.unwrap_err().to_string();
        assert_eq!(error, r#"encrypted: unknown cipher name "x""#);
        for malformed in [&b""[..], b"{", b"5", b"{} x", br#"{"kdf":5}"#, b"\xff"] {
            let error = open(malformed, b"secret").unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
