//! Plain and encrypted PEM keys: RSA, ECDSA over the NIST curves, Ed25519.
//!
//! Every signature is over SHA-256, except Ed25519, which takes the message
//! itself. RSA is PKCS#1 v1.5 and never PSS.

use super::block::{Block, first_block};
use super::public::{
    EC, ED25519, MIN_RSA_BITS, P224, P256, P384, P521, PublicKind, RSA, X25519, bit_length,
    pkcs1_v15,
};
use super::{cosign, ecdsa, locked};
use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature as aws};
use der::asn1::{AnyRef, BitStringRef, ContextSpecific, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, TagNumber};
use ed25519_dalek::Signer as _;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use super::block::encode_block;
pub use super::ecdsa::is_der as is_der_signature;
pub use super::public::{PublicKey, Scheme};

/// Why a PEM key could not be read or used.
///
/// Wording: sigstore `pkg/cryptoutils`, `pkg/signature`; Go `crypto/x509`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no complete PEM block.
    #[error("PEM decoding failed")]
    NoBlock,
    /// The label of the first block is not that of a private key.
    #[error("unknown private key PEM file type: {0}")]
    UnknownPrivateLabel(String),
    /// The label of the first block is not that of a public key.
    #[error("unknown Public key PEM file type: {0}. Are you passing the correct public key?")]
    UnknownPublicLabel(String),
    /// The key is encrypted and there is no password.
    #[error("private key is encrypted, but no password function was provided")]
    PasswordMissing,
    /// A sigstore envelope could not be opened.
    #[error(transparent)]
    Cosign(#[from] cosign::Error),
    /// A block with `DEK-Info` could not be opened.
    #[error("failed to decrypt legacy PEM block: {0}")]
    Legacy(#[source] locked::Error),
    /// An `ENCRYPTED PRIVATE KEY` could not be opened.
    #[error("failed to decrypt and parse encrypted private key: {0}")]
    EncryptedPkcs8(#[source] locked::Error),
    /// The label says one form, the content is another.
    #[error("x509: failed to parse {what} key (use {function} instead for this key format)")]
    WrongForm {
        /// `private` or `public`.
        what: &'static str,
        /// The Go function that reads the form found.
        function: &'static str,
    },
    /// The content is not the DER structure the label promises.
    #[error("asn1: structure error: {0}")]
    Asn1(#[from] der::Error),
    /// A PKCS#8 key of an algorithm nobody here knows.
    #[error("x509: PKCS#8 wrapping contained private key with unknown algorithm: {0}")]
    UnknownPrivateAlgorithm(ObjectIdentifier),
    /// A public key of an algorithm nobody here knows.
    #[error("x509: unknown public key algorithm")]
    UnknownPublicAlgorithm,
    /// A known algorithm that does not sign, or is not used here (X25519, DSA).
    #[error("unsupported public key type")]
    Unsupported,
    /// The curve of a private key is not P-224, P-256, P-384 or P-521.
    #[error("x509: unknown elliptic curve")]
    UnknownPrivateCurve,
    /// The curve of a public key is not P-224, P-256, P-384 or P-521.
    #[error("x509: unsupported elliptic curve")]
    UnknownPublicCurve,
    /// The key inside a PKCS#8 wrapping is at fault.
    #[error("x509: failed to parse {algorithm} private key embedded in PKCS#8: {source}")]
    Embedded {
        /// `EC` or `RSA`.
        algorithm: &'static str,
        /// The fault.
        source: Box<Error>,
    },
    /// An EC private key with another version than 1.
    #[error("x509: unknown EC private key version {0}")]
    EcVersion(u8),
    /// An EC private key that is longer than the curve's order.
    #[error("x509: invalid private key length")]
    EcLength,
    /// An EC private key that is zero or not below the curve's order.
    #[error("ecdsa: invalid private key")]
    EcScalar,
    /// The point of an EC public key is compressed or not on the curve.
    #[error("ecdsa: invalid uncompressed public key")]
    EcPoint,
    /// The numbers of an RSA private key do not fit together.
    #[error("x509: invalid RSA private key")]
    RsaPrivate,
    /// An RSA public key is malformed.
    #[error("x509: invalid RSA public key")]
    RsaPublic,
    /// The algorithm parameters of an RSA public key are not NULL.
    #[error("x509: RSA key missing NULL parameters")]
    RsaParameters,
    /// The RSA key is longer than this program signs with; modulus bits.
    #[error("RSA private key too large: {0} bits (limit 8192)")]
    RsaTooLarge(usize),
    /// The RSA key is too short to sign with; modulus bits.
    #[error(
        "crypto/rsa: {0}-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)"
    )]
    RsaTooSmall(usize),
    /// An Ed25519 key has algorithm parameters.
    #[error("x509: invalid Ed25519 private key parameters")]
    Ed25519Parameters,
    /// An Ed25519 private key is not 32 bytes long.
    #[error("x509: invalid Ed25519 private key length: {0}")]
    Ed25519Length(usize),
    /// An Ed25519 public key is malformed or not a point.
    #[error("x509: wrong Ed25519 public key size")]
    Ed25519Public,
    /// The cryptographic library refused to sign.
    #[error("signing failed")]
    SigningFailed,
    /// The system has no random bytes, or the library cannot write the key.
    #[error("key generation failed")]
    GenerationFailed,
}

/// A private key that makes signatures. Wiped from memory when dropped.
pub struct PrivateKey {
    pub(super) kind: PrivateKind,
    pub(super) public: PublicKey,
}

impl PrivateKey {
    /// Whether the key in the first PEM block is encrypted.
    ///
    /// # Errors
    /// [`Error::NoBlock`], [`Error::UnknownPrivateLabel`]: nobody need be asked
    /// for a password of a file that is no private key.
    pub fn needs_password(pem: &[u8]) -> Result<bool, Error> {
        let block = first_block(pem)?;
        match block.label.as_str() {
            _ if block.dek_info.is_some() => Ok(true),
            PKCS8_LABEL | RSA_LABEL | EC_LABEL => Ok(false),
            PBES2_LABEL | cosign::PEM_LABEL | cosign::OLD_PEM_LABEL => Ok(true),
            _ => Err(Error::UnknownPrivateLabel(block.label)),
        }
    }

    /// Reads the first PEM block; `password` is used only if it is encrypted.
    ///
    /// Labels: `PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY` (each also
    /// with RFC 1421 encryption), `ENCRYPTED PRIVATE KEY` (PBES2) and the two
    /// of [`cosign`]. Text before the block is skipped, later blocks are not
    /// looked at.
    ///
    /// # Errors
    /// Any variant of [`Error`] but [`Error::RsaTooSmall`] and
    /// [`Error::SigningFailed`].
    ///
    /// Source: sigstore `UnmarshalPEMToPrivateKey`.
    pub fn from_pem(pem: &[u8], password: Option<&[u8]>) -> Result<Self, Error> {
        let Block {
            label,
            dek_info,
            mut body,
        } = first_block(pem)?;
        let password = || password.ok_or(Error::PasswordMissing);
        let legacy = dek_info.is_some();
        if let Some(dek_info) = dek_info {
            body = locked::open_pem(&dek_info, &body, password()?).map_err(Error::Legacy)?;
        }
        let key = match label.as_str() {
            PKCS8_LABEL => Self::from_pkcs8_der(&body),
            RSA_LABEL => Self::from_pkcs1_der(&body),
            EC_LABEL => Self::from_sec1_der(None, &body),
            PBES2_LABEL => {
                let open = locked::open_pkcs8(&body, password()?).map_err(Error::EncryptedPkcs8)?;
                // a wrong password slips through the padding check now and then
                return Self::from_pkcs8_der(&open).map_err(|e| match e {
                    Error::Asn1(_) => Error::EncryptedPkcs8(locked::Error::Pkcs8Password),
                    other => other,
                });
            }
            cosign::PEM_LABEL | cosign::OLD_PEM_LABEL => {
                Self::from_pkcs8_der(&cosign::open(&body, password()?)?)
            }
            _ => Err(Error::UnknownPrivateLabel(label)),
        };
        match key {
            Err(Error::Asn1(_)) if legacy => Err(Error::Legacy(locked::Error::PemPassword)),
            other => other,
        }
    }

    /// Reads a DER PKCS#8 `PrivateKeyInfo`, version 1 or 2.
    ///
    /// # Errors
    /// As [`PrivateKey::from_pem`], for the content.
    ///
    /// Source: RFC 5958; Go `x509.ParsePKCS8PrivateKey`.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let info = pkcs8::PrivateKeyInfo::from_der(der).map_err(|e| match sniff(der) {
            Some(Form::Sec1) => wrong_form("private", "ParseECPrivateKey"),
            Some(Form::Pkcs1) => wrong_form("private", "ParsePKCS1PrivateKey"),
            _ => Error::Asn1(e),
        })?;
        let embedded = |algorithm| {
            move |source| Error::Embedded {
                algorithm,
                source: Box::new(source),
            }
        };
        let parameters = info.algorithm.parameters;
        match info.algorithm.oid {
            RSA => Self::from_pkcs1_der(info.private_key).map_err(embedded("RSA")),
            EC => {
                let curve = parameters.and_then(|p| p.decode_as().ok());
                Self::from_sec1_der(curve, info.private_key).map_err(embedded("EC"))
            }
            ED25519 if parameters.is_some() => Err(Error::Ed25519Parameters),
            ED25519 => {
                let seed = OctetStringRef::from_der(info.private_key)?.as_bytes();
                let seed = seed
                    .try_into()
                    .map_err(|_| Error::Ed25519Length(seed.len()))?;
                let key = ed25519_dalek::SigningKey::from_bytes(seed);
                let public = PublicKey::new(PublicKind::Ed25519(key.verifying_key()))?;
                Ok(Self {
                    kind: PrivateKind::Ed25519(key),
                    public,
                })
            }
            X25519 => Err(Error::Unsupported),
            oid => Err(Error::UnknownPrivateAlgorithm(oid)),
        }
    }

    /// Signs `message`: RSA PKCS#1 v1.5 or ECDSA (DER) over its SHA-256, or
    /// pure Ed25519. The same key and message always give the same bytes.
    ///
    /// The signature is checked before it is handed out: one that a fault has
    /// spoiled can give the key away.
    ///
    /// # Errors
    /// [`Error::RsaTooSmall`] below 1024 bits; [`Error::SigningFailed`] if the
    /// library refuses, or the signature does not hold.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.compute(message)?;
        match self.public.verify(message, &signature) {
            true => Ok(signature),
            false => Err(Error::SigningFailed),
        }
    }

    fn compute(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let digest: [u8; 32] = Sha256::digest(message).into();
        match &self.kind {
            PrivateKind::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &aws::RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .map_err(|_| Error::SigningFailed)?;
                Ok(signature)
            }
            PrivateKind::SmallRsa { bits, .. } if *bits < MIN_RSA_BITS => {
                Err(Error::RsaTooSmall(*bits))
            }
            PrivateKind::SmallRsa { key, .. } => key
                .sign_with_rng(&mut rand_core::OsRng, pkcs1_v15(), &digest)
                .map_err(|_| Error::SigningFailed),
            PrivateKind::P224(key) => ecdsa::sign(key, &digest).ok_or(Error::SigningFailed),
            PrivateKind::P256(key) => ecdsa::sign(key, &digest).ok_or(Error::SigningFailed),
            PrivateKind::P384(key) => ecdsa::sign(key, &digest).ok_or(Error::SigningFailed),
            PrivateKind::P521(key) => ecdsa::sign(key, &digest).ok_or(Error::SigningFailed),
            PrivateKind::Ed25519(key) => Ok(key.sign(message).to_vec()),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn from_pkcs1_der(der: &[u8]) -> Result<Self, Error> {
        let parts = pkcs1::RsaPrivateKey::from_der(der).map_err(|e| match sniff(der) {
            Some(Form::Sec1) => wrong_form("private", "ParseECPrivateKey"),
            Some(Form::Pkcs8) => wrong_form("private", "ParsePKCS8PrivateKey"),
            _ => Error::Asn1(e),
        })?;
        let public = PublicKey::from_rsa(&parts.public_key()).map_err(|_| Error::RsaPrivate)?;
        let modulus = parts.modulus.as_bytes();
        let bits = bit_length(modulus);
        if bits > MAX_PRIVATE_RSA_BITS {
            return Err(Error::RsaTooLarge(bits));
        }
        // no number may be longer than the modulus: bounds the arithmetic
        let numbers = [
            &parts.private_exponent,
            &parts.prime1,
            &parts.prime2,
            &parts.exponent1,
            &parts.exponent2,
            &parts.coefficient,
        ];
        if numbers
            .iter()
            .any(|n| n.as_bytes().len() > modulus.len() || bit_length(n.as_bytes()) == 0)
        {
            return Err(Error::RsaPrivate);
        }
        let kind = if bits >= MIN_AWS_RSA_BITS {
            PrivateKind::Rsa(KeyPair::from_der(der).map_err(|_| Error::RsaPrivate)?)
        } else {
            let key = rsa::RsaPrivateKey::from_pkcs1_der(der).map_err(|_| Error::RsaPrivate)?;
            PrivateKind::SmallRsa {
                key: Box::new(key),
                bits,
            }
        };
        Ok(Self { kind, public })
    }

    // The curve named by a PKCS#8 wrapping goes before the one inside.
    fn from_sec1_der(curve: Option<ObjectIdentifier>, der: &[u8]) -> Result<Self, Error> {
        let sec1 = Sec1::parse(der).map_err(|e| match sniff(der) {
            Some(Form::Pkcs8) => wrong_form("private", "ParsePKCS8PrivateKey"),
            Some(Form::Pkcs1) => wrong_form("private", "ParsePKCS1PrivateKey"),
            _ => Error::Asn1(e),
        })?;
        if sec1.version != 1 {
            return Err(Error::EcVersion(sec1.version));
        }
        let curve = curve.or(sec1.curve).ok_or(Error::UnknownPrivateCurve)?;
        let (kind, public) = PrivateKind::from_scalar(curve, sec1.scalar)?;
        Ok(Self {
            kind,
            public: PublicKey::new(public)?,
        })
    }
}

pub(super) enum PrivateKind {
    Rsa(KeyPair),
    SmallRsa {
        key: Box<rsa::RsaPrivateKey>,
        bits: usize,
    },
    P224(p224::SecretKey),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(p521::SecretKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl PrivateKind {
    fn from_scalar(curve: ObjectIdentifier, scalar: &[u8]) -> Result<(Self, PublicKind), Error> {
        match curve {
            P224 => {
                let key = p224::SecretKey::from_slice(&fit_scalar(scalar, 28)?);
                let key = key.map_err(|_| Error::EcScalar)?;
                let public = PublicKind::P224(key.public_key());
                Ok((Self::P224(key), public))
            }
            P256 => {
                let key = p256::SecretKey::from_slice(&fit_scalar(scalar, 32)?);
                let key = key.map_err(|_| Error::EcScalar)?;
                let public = PublicKind::P256(key.public_key());
                Ok((Self::P256(key), public))
            }
            P384 => {
                let key = p384::SecretKey::from_slice(&fit_scalar(scalar, 48)?);
                let key = key.map_err(|_| Error::EcScalar)?;
                let public = PublicKind::P384(key.public_key());
                Ok((Self::P384(key), public))
            }
            P521 => {
                let key = p521::SecretKey::from_slice(&fit_scalar(scalar, 66)?);
                let key = key.map_err(|_| Error::EcScalar)?;
                let public = PublicKind::P521(key.public_key());
                Ok((Self::P521(key), public))
            }
            _ => Err(Error::UnknownPrivateCurve),
        }
    }
}

/// Some writers drop leading zeros, some add them; `length` is in bytes.
fn fit_scalar(scalar: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let excess = scalar.len().saturating_sub(length);
    let (zeros, rest) = scalar.split_at_checked(excess).ok_or(Error::EcLength)?;
    if zeros.iter().any(|b| *b != 0) {
        return Err(Error::EcLength);
    }
    let mut fitted = Zeroizing::new(vec![0; length.saturating_sub(rest.len())]);
    fitted.extend_from_slice(rest);
    Ok(fitted)
}

struct Sec1<'a> {
    version: u8,
    scalar: &'a [u8],
    curve: Option<ObjectIdentifier>,
}

impl<'a> Sec1<'a> {
    // Parameters that are no name (an explicit curve) count as none, and the
    // public point is not needed.
    fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let sec1 = reader.sequence(|reader| {
            let version = reader.decode()?;
            let scalar = OctetStringRef::decode(reader)?.as_bytes();
            let named = ContextSpecific::<AnyRef<'_>>::decode_explicit(reader, TagNumber::N0)?;
            ContextSpecific::<BitStringRef<'_>>::decode_explicit(reader, TagNumber::N1)?;
            let curve = named.and_then(|field| field.value.decode_as().ok());
            Ok(Self {
                version,
                scalar,
                curve,
            })
        })?;
        reader.finish(sec1)
    }
}

enum Form {
    Pkcs1,
    Pkcs8,
    Sec1,
}

fn sniff(der: &[u8]) -> Option<Form> {
    if pkcs8::PrivateKeyInfo::from_der(der).is_ok() {
        Some(Form::Pkcs8)
    } else if pkcs1::RsaPrivateKey::from_der(der).is_ok() {
        Some(Form::Pkcs1)
    } else {
        Sec1::parse(der).ok().map(|_| Form::Sec1)
    }
}

pub(super) fn wrong_form(what: &'static str, function: &'static str) -> Error {
    Error::WrongForm { what, function }
}

const PKCS8_LABEL: &str = "PRIVATE KEY";
const RSA_LABEL: &str = "RSA PRIVATE KEY";
const EC_LABEL: &str = "EC PRIVATE KEY";
const PBES2_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// What AWS-LC signs with at least.
const MIN_AWS_RSA_BITS: usize = 2048;
const MAX_PRIVATE_RSA_BITS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! made {
        ($name:literal) => {
            &include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/fixtures/openssl/",
                $name
            ))[..]
        };
    }

    macro_rules! peer {
        ($name:literal) => {
            &include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/fixtures/peers/",
                $name
            ))[..]
        };
    }

    const SECRET: Option<&[u8]> = Some(b"secret");

    fn private_error(pem: &[u8], password: Option<&[u8]>) -> String {
        PrivateKey::from_pem(pem, password)
            .err()
            .unwrap()
            .to_string()
    }

    fn public_error(pem: &[u8]) -> String {
        PublicKey::from_pem(pem).unwrap_err().to_string()
    }

    #[test]
    fn signs_and_verifies_with_every_kind_of_key() {
        let cases = [
            (
                "ECDSA P-224",
                made!("p224.sec1.key"),
                made!("p224.pkcs8.key"),
                made!("p224.pub"),
            ),
            (
                "ECDSA P-256",
                made!("p256.sec1.key"),
                made!("p256.pkcs8.key"),
                made!("p256.pub"),
            ),
            (
                "ECDSA P-384",
                made!("p384.sec1.key"),
                made!("p384.pkcs8.key"),
                made!("p384.pub"),
            ),
            (
                "ECDSA P-521",
                made!("p521.sec1.key"),
                made!("p521.pkcs8.key"),
                made!("p521.pub"),
            ),
            (
                "RSA-1024",
                made!("rsa1024.pkcs1.key"),
                made!("rsa1024.pkcs8.key"),
                made!("rsa1024.pub"),
            ),
            (
                "RSA-1536",
                made!("rsa1536.pkcs1.key"),
                made!("rsa1536.pkcs8.key"),
                made!("rsa1536.pub"),
            ),
            (
                "RSA-2048",
                made!("rsa2048.pkcs1.key"),
                made!("rsa2048.pkcs8.key"),
                made!("rsa2048.pkcs1.pub"),
            ),
            (
                "RSA-3072",
                peer!("keys/rsa3072.key.pem"),
                peer!("keys/rsa3072.key.pem"),
                peer!("keys/rsa3072.pub.pem"),
            ),
            (
                "Ed25519",
                made!("ed25519.pkcs8.key"),
                peer!("keys/ed25519.key.pem"),
                made!("ed25519.pub"),
            ),
        ];
        for (name, first, second, public) in cases {
            assert!(!PrivateKey::needs_password(first).unwrap());
            let key = PrivateKey::from_pem(first, None).unwrap();
            let public = PublicKey::from_pem(public).unwrap();
            assert_eq!(public.algorithm(), name);
            assert!(key.public() == public);
            let signature = key.sign(b"message").unwrap();
            assert_eq!(key.sign(b"message").unwrap(), signature);
            assert!(public.verify(b"message", &signature));
            assert!(!public.verify(b"massage", &signature));
            assert!(!public.verify(b"message", &signature[1..]));
            assert!(!public.verify(b"message", &[]));
            for bit in [0, signature.len() * 4, signature.len() * 8 - 1] {
                let mut changed = signature.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!public.verify(b"message", &changed), "{name} bit {bit}");
            }
            if name != "Ed25519" {
                assert_eq!(
                    PrivateKey::from_pem(second, None)
                        .unwrap()
                        .sign(b"message")
                        .unwrap(),
                    signature
                );
            }
            let again = PublicKey::from_spki_der(&public.to_spki_der()).unwrap();
            assert_eq!(again, public);
            assert_eq!(
                PublicKey::from_pem(public.to_pem().as_bytes()).unwrap(),
                public
            );
        }
    }

    #[test]
    fn writes_public_keys_as_openssl_does() {
        for pem in [
            made!("p224.pub"),
            made!("p256.pub"),
            made!("p384.pub"),
            made!("p521.pub"),
            made!("rsa1024.pub"),
            made!("rsa2048.pub"),
            made!("ed25519.pub"),
        ] {
            assert_eq!(PublicKey::from_pem(pem).unwrap().to_pem().as_bytes(), pem);
        }
    }

    #[test]
    fn fingerprints_like_openssh() {
        // made with ssh-keygen -l, see fixtures/openssl/fingerprints.txt
        let expected = std::str::from_utf8(made!("fingerprints.txt")).unwrap();
        let keys = [
            ("p256", made!("p256.pub")),
            ("p384", made!("p384.pub")),
            ("p521", made!("p521.pub")),
            ("ed25519", made!("ed25519.pub")),
            ("rsa1024", made!("rsa1024.pub")),
            ("rsa2048", made!("rsa2048.pub")),
        ];
        for (name, pem) in keys {
            let line = format!(
                "{name} {}",
                PublicKey::from_pem(pem).unwrap().ssh_fingerprint()
            );
            assert!(expected.lines().any(|l| l == line), "{line}");
        }
        assert_eq!(
            PublicKey::from_pem(made!("p224.pub"))
                .unwrap()
                .ssh_fingerprint(),
            ""
        );
    }

    #[test]
    fn opens_every_encrypted_form() {
        let p256 = PublicKey::from_pem(made!("p256.pub")).unwrap();
        let rsa = PublicKey::from_pem(made!("rsa2048.pub")).unwrap();
        let ed25519 = PublicKey::from_pem(made!("ed25519.pub")).unwrap();
        let pkcs8 = "failed to decrypt and parse encrypted private key: pkcs8: incorrect password";
        let legacy = "failed to decrypt legacy PEM block: x509: decryption password incorrect";
        for (pem, public, wrong) in [
            (made!("p256.pbes2-default.key"), &p256, pkcs8),
            (made!("p256.pbes2-scrypt.key"), &p256, pkcs8),
            (made!("p256.pbes2-aes128.key"), &p256, pkcs8),
            (made!("p256.pbes2-aes192-sha512.key"), &p256, pkcs8),
            (made!("p256.pbes2-aes256-sha1.key"), &p256, pkcs8),
            (made!("p256.pbes2-des3.key"), &p256, pkcs8),
            (made!("ed25519.pbes2.key"), &ed25519, pkcs8),
            (made!("rsa2048.pbes2.key"), &rsa, pkcs8),
            (made!("rsa2048.legacy-aes128.key"), &rsa, legacy),
            (made!("p256.legacy-aes128.key"), &p256, legacy),
            (made!("p256.legacy-aes192.key"), &p256, legacy),
            (made!("p256.legacy-aes256.key"), &p256, legacy),
            (made!("p256.legacy-des3.key"), &p256, legacy),
            (made!("p256.legacy-des.key"), &p256, legacy),
        ] {
            assert!(PrivateKey::needs_password(pem).unwrap());
            assert!(PrivateKey::from_pem(pem, SECRET).unwrap().public() == *public);
            for password in [&b"wrong"[..], b"secret\n", b""] {
                assert_eq!(private_error(pem, Some(password)), wrong);
            }
            assert_eq!(
                private_error(pem, None),
                "private key is encrypted, but no password function was provided"
            );
        }
        assert_eq!(
            private_error(made!("p256.pbes1-sha1-3des.key"), SECRET),
            "failed to decrypt and parse encrypted private key: pkcs8: only PBES2 supported"
        );
        assert_eq!(
            private_error(made!("p256.pbes2-camellia.key"), SECRET),
            "failed to decrypt and parse encrypted private key: pkcs8: unsupported cipher (OID: 1.2.392.200011.61.1.1.1.2)"
        );
        assert_eq!(
            private_error(made!("p256.legacy-camellia.key"), SECRET),
            "failed to decrypt legacy PEM block: x509: unknown encryption mode"
        );
    }

    #[test]
    fn opens_cosigns_envelopes() {
        let public = PublicKey::from_pem(peer!("cosign/keys/envelope.pub")).unwrap();
        for (pem, password) in [
            (peer!("cosign/keys/envelope-crlf.key"), &b"secret"[..]),
            (peer!("cosign/keys/envelope-empty-password.key"), b""),
            (peer!("cosign/keys/envelope-n131072.key"), b"secret"),
            (peer!("cosign/keys/envelope-n32768.key"), b"secret"),
            (peer!("cosign/keys/envelope-n65536.key"), b"secret"),
            (
                peer!("cosign/keys/envelope-newline-password.key"),
                b"secret\n",
            ),
            (peer!("cosign/keys/envelope-old-type.key"), b"secret"),
            (peer!("cosign/keys/envelope-salt16.key"), b"secret"),
        ] {
            assert!(PrivateKey::needs_password(pem).unwrap());
            assert!(PrivateKey::from_pem(pem, Some(password)).unwrap().public() == public);
        }
        for (pem, text) in [
            (
                peer!("cosign/keys/envelope-newline-password.key"),
                "encrypted: decryption failed",
            ),
            (
                peer!("cosign/keys/envelope-n16384.key"),
                "unsupported scrypt parameters",
            ),
            (
                peer!("cosign/keys/envelope-short-nonce.key"),
                "encrypted: incorrect nonce size",
            ),
            (
                peer!("cosign/keys/envelope-unknown-cipher.key"),
                r#"encrypted: unknown cipher name "x""#,
            ),
            (
                peer!("cosign/keys/envelope-unknown-kdf.key"),
                r#"encrypted: unknown kdf name "x""#,
            ),
        ] {
            assert_eq!(private_error(pem, SECRET), text);
        }
        for (pem, public) in [
            (peer!("oci/cosign.key"), peer!("oci/cosign.pub")),
            (
                peer!("cosign/keys/singularity.key"),
                peer!("cosign/keys/singularity.pub"),
            ),
            (peer!("cosign/keys/p521.key"), peer!("cosign/keys/p521.pub")),
            (
                peer!("cosign/keys/ed25519.key"),
                peer!("cosign/keys/ed25519.pub"),
            ),
            (
                peer!("cosign/keys/rsa2048.key"),
                peer!("cosign/keys/rsa2048.pub"),
            ),
        ] {
            let public = PublicKey::from_pem(public).unwrap();
            assert!(PrivateKey::from_pem(pem, SECRET).unwrap().public() == public);
        }
        let body = first_block(made!("p256.pkcs8.key")).unwrap().body;
        let sealed = encode_block(cosign::PEM_LABEL, &cosign::seal(&body, b"secret").unwrap());
        assert!(sealed.lines().all(|line| line.len() <= 64));
        let key = PrivateKey::from_pem(sealed.as_bytes(), SECRET).unwrap();
        assert_eq!(key.public().to_pem().as_bytes(), made!("p256.pub"));
    }

    #[test]
    fn names_the_fault_as_the_originals_do() {
        let embedded =
            "x509: failed to parse EC private key embedded in PKCS#8: x509: unknown elliptic curve";
        let unknown = "x509: PKCS#8 wrapping contained private key with unknown algorithm";
        for (pem, text) in [
            (&b""[..], "PEM decoding failed"),
            (
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n",
                "PEM decoding failed",
            ),
            (
                made!("p256.ecparam.key"),
                "unknown private key PEM file type: EC PARAMETERS",
            ),
            (
                made!("p256.pub"),
                "unknown private key PEM file type: PUBLIC KEY",
            ),
            (made!("p256.explicit.key"), "x509: unknown elliptic curve"),
            (made!("secp256k1.sec1.key"), "x509: unknown elliptic curve"),
            (made!("secp256k1.pkcs8.key"), embedded),
            (made!("x25519.key"), "unsupported public key type"),
            (made!("ed448.key"), &format!("{unknown}: 1.3.101.113")),
            (
                made!("rsapss.key"),
                &format!("{unknown}: 1.2.840.113549.1.1.10"),
            ),
        ] {
            assert_eq!(private_error(pem, None), text);
        }
        let passing = "Are you passing the correct public key?";
        for (pem, text) in [
            (&b"nothing"[..], "PEM decoding failed"),
            (
                made!("p256.sec1.key"),
                &format!("unknown Public key PEM file type: EC PRIVATE KEY. {passing}"),
            ),
            (made!("secp256k1.pub"), "x509: unsupported elliptic curve"),
            (
                made!("p256.compressed.pub"),
                "ecdsa: invalid uncompressed public key",
            ),
            (made!("x25519.pub"), "unsupported public key type"),
            (made!("dsa.pub"), "unsupported public key type"),
            (made!("ed448.pub"), "x509: unknown public key algorithm"),
            (made!("rsapss.pub"), "x509: unknown public key algorithm"),
        ] {
            assert_eq!(public_error(pem), text);
        }
        for (pem, from, to, function) in [
            (
                made!("rsa2048.pkcs1.key"),
                "RSA PRIVATE",
                "PRIVATE",
                "ParsePKCS1PrivateKey",
            ),
            (
                made!("p256.sec1.key"),
                "EC PRIVATE",
                "PRIVATE",
                "ParseECPrivateKey",
            ),
            (
                made!("ed25519.pkcs8.key"),
                "PRIVATE",
                "RSA PRIVATE",
                "ParsePKCS8PrivateKey",
            ),
            (
                made!("ed25519.pkcs8.key"),
                "PRIVATE",
                "EC PRIVATE",
                "ParsePKCS8PrivateKey",
            ),
        ] {
            let pem = std::str::from_utf8(pem).unwrap().replace(from, to);
            let text = format!(
                "x509: failed to parse private key (use {function} instead for this key format)"
            );
            assert_eq!(private_error(pem.as_bytes(), None), text);
        }
        for name in ["DSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE"] {
            let pem = encode_block(name, b"x");
            let text = format!("unknown private key PEM file type: {name}");
            assert_eq!(private_error(pem.as_bytes(), None), text);
            assert_eq!(
                PrivateKey::needs_password(pem.as_bytes())
                    .unwrap_err()
                    .to_string(),
                text
            );
        }
    }

    #[test]
    fn loads_but_does_not_use_a_512_bit_rsa_key() {
        let key = PrivateKey::from_pem(made!("rsa512.pkcs1.key"), None).unwrap();
        assert_eq!(
            key.sign(b"x").unwrap_err().to_string(),
            "crypto/rsa: 512-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)"
        );
        assert!(
            !PublicKey::from_pem(made!("rsa512.pub"))
                .unwrap()
                .verify(b"x", &[0; 64])
        );
    }

    /// What a fault while computing gives, here by halves of two keys.
    #[test]
    fn hands_out_no_signature_that_does_not_hold() {
        for (one, other) in [
            (made!("p256.sec1.key"), made!("p384.sec1.key")),
            (made!("p521.sec1.key"), made!("p224.sec1.key")),
            (made!("rsa2048.pkcs1.key"), made!("rsa1024.pkcs1.key")),
            (made!("ed25519.pkcs8.key"), peer!("keys/ed25519.key.pem")),
        ] {
            let [one, other] = [one, other].map(|pem| PrivateKey::from_pem(pem, None).unwrap());
            assert!(one.public != other.public);
            for (kind, public) in [(one.kind, other.public), (other.kind, one.public)] {
                let mixed = PrivateKey { kind, public };
                assert!(matches!(mixed.sign(b"x"), Err(Error::SigningFailed)));
            }
        }
    }

    #[test]
    fn verifies_an_8704_bit_rsa_signature() {
        let public = PublicKey::from_pem(made!("rsa8704.pub")).unwrap();
        assert_eq!(public.algorithm(), "RSA-8704");
        assert!(public.verify(b"message", made!("rsa8704.sig")));
        assert!(!public.verify(b"massage", made!("rsa8704.sig")));
    }

    #[test]
    fn reads_keys_without_the_public_half_and_ed25519_version_2() {
        let public = PublicKey::from_pem(made!("p256.pub")).unwrap();
        for pem in [
            made!("p256.sec1-nopublic.key"),
            made!("p256.pkcs8-nopublic.key"),
        ] {
            assert!(PrivateKey::from_pem(pem, None).unwrap().public() == public);
        }
        // RFC 8410, section 10.3
        let v2 = b"-----BEGIN PRIVATE KEY-----\n\
            MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
            oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
            Z9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n";
        let public = PublicKey::from_pem(
            b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
        );
        assert!(PrivateKey::from_pem(v2, None).unwrap().public() == public.unwrap());
    }

    #[test]
    fn takes_the_first_whole_block() {
        let pem = std::str::from_utf8(made!("p256.pub")).unwrap();
        let other = std::str::from_utf8(made!("p384.pub")).unwrap();
        let public = PublicKey::from_pem(pem.as_bytes()).unwrap();
        for text in [
            format!("{pem}{other}"),
            format!("some text\n{pem}"),
            format!("-----BEGIN X-----\n{pem}"),
            format!("-----BEGIN X-----\n!\n-----END X-----\n{pem}"),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', " \t\n"),
            pem.trim_end().to_owned(),
            pem.replace("KEY-----\nM", "KEY-----\nName: value\n\nM"),
        ] {
            assert_eq!(
                PublicKey::from_pem(text.as_bytes()).unwrap(),
                public,
                "{text}"
            );
        }
        for text in [
            pem.replace("END PUBLIC", "END PRIVATE"),
            pem.replace("-----BEGIN", "x-----BEGIN"),
            pem.replace("KEY-----\n", "KEY----\n"),
            pem.replace("M", "*"),
        ] {
            assert_eq!(
                public_error(text.as_bytes()),
                "PEM decoding failed",
                "{text}"
            );
        }
    }

    #[test]
    fn fits_scalars_with_and_without_leading_zeros() {
        assert_eq!(*fit_scalar(&[1], 3).unwrap(), [0, 0, 1]);
        assert_eq!(*fit_scalar(&[0, 0, 1, 2], 2).unwrap(), [1, 2]);
        assert!(matches!(fit_scalar(&[1, 0, 0], 2), Err(Error::EcLength)));
        assert_eq!(bit_length(&[]), 0);
        assert_eq!(bit_length(&[0, 0]), 0);
        assert_eq!(bit_length(&[0, 1, 0]), 9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..150), kind in 0usize..6) {
            let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", cosign::PEM_LABEL, "PUBLIC KEY"];
            let pem = encode_block(labels[kind], &body);
            let _ = PrivateKey::from_pem(pem.as_bytes(), SECRET);
            let _ = PublicKey::from_pem(pem.as_bytes());
            let _ = PublicKey::from_pem(&body);
            let _ = PublicKey::from_pem(made!("p256.pub")).unwrap().verify(b"", &body);
        }

        #[test]
        fn never_panics_on_a_damaged_key(byte in 0usize..2000, value: u8, kind in 0usize..6) {
            let pems = [made!("p256.sec1.key"), made!("rsa1024.pkcs1.key"), made!("ed25519.pkcs8.key"), made!("p256.pbes2-des3.key"), made!("rsa1024.pub"), made!("p521.pub")];
            let Block { label, mut body, .. } = first_block(pems[kind]).unwrap();
            let index = byte % body.len();
            // a damaged iteration count may be large and legal
            prop_assume!(kind != 3 || !(25..60).contains(&index));
            body[index] = value;
            let pem = encode_block(&label, &body);
            if let Ok(key) = PrivateKey::from_pem(pem.as_bytes(), SECRET) {
                let _ = key.sign(b"x");
            }
            if let Ok(key) = PublicKey::from_pem(pem.as_bytes()) {
                let _ = key.verify(b"x", &[1; 128]);
            }
        }
    }
}
