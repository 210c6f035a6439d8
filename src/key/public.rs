//! Public keys: reading, writing, verifying, naming.

use super::block::{encode_block, first_block};
use super::ecdsa;
use super::pem::{Error, wrong_form};
use aws_lc_rs::signature as aws;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use der::asn1::{AnyRef, BitStringRef, Null, ObjectIdentifier};
use der::{Decode, Encode};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use rsa::BigUint;
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// How a signature of cosign was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSA or ECDSA over SHA-256: what every verifier of cosign takes.
    Sha256,
    /// ECDSA over SHA-384: a P-384 key's own digest.
    Sha384,
    /// ECDSA over SHA-512: a P-521 key's own digest.
    Sha512,
    /// Ed25519 over the message.
    Ed25519,
    /// Ed25519ph, over SHA-512 of the message: what cosign and SingularityCE
    /// make with such a key, and do not verify.
    Ed25519ph,
}

impl Scheme {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Ed25519 => "Ed25519",
            Self::Ed25519ph => "Ed25519ph",
        }
    }
}

/// A public key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: PublicKind,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads the first PEM block: `PUBLIC KEY` or `RSA PUBLIC KEY`.
    ///
    /// Text before the block is skipped, later blocks are not looked at.
    ///
    /// # Errors
    /// [`Error::NoBlock`], [`Error::UnknownPublicLabel`], and those of
    /// [`PublicKey::from_spki_der`].
    ///
    /// Source: sigstore `UnmarshalPEMToPublicKey`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let block = first_block(pem)?;
        match block.label.as_str() {
            "PUBLIC KEY" => Self::from_spki_der(&block.body),
            "RSA PUBLIC KEY" => Self::from_pkcs1_der(&block.body),
            _ => Err(Error::UnknownPublicLabel(block.label)),
        }
    }

    /// Reads a DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`Error::Asn1`] or [`Error::WrongForm`] for another structure; the
    /// variants for algorithms, curves and key values for an unusable key.
    ///
    /// Source: Go `x509.ParsePKIXPublicKey`.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        let spki =
            SubjectPublicKeyInfoRef::from_der(der).map_err(
                |e| match pkcs1::RsaPublicKey::from_der(der) {
                    Ok(_) => wrong_form("public", "ParsePKCS1PublicKey"),
                    Err(_) => Error::Asn1(e),
                },
            )?;
        let parameters = spki.algorithm.parameters;
        let bytes = spki.subject_public_key.as_bytes();
        match spki.algorithm.oid {
            RSA => match parameters.map(|p| p.is_null()) {
                Some(true) => Self::from_pkcs1_der(bytes.ok_or(Error::RsaPublic)?),
                _ => Err(Error::RsaParameters),
            },
            EC => {
                let curve = parameters.and_then(|p| p.decode_as().ok());
                let bytes = bytes.filter(|b| b.first() == Some(&UNCOMPRESSED));
                let kind = PublicKind::from_point(curve.ok_or(Error::UnknownPublicCurve)?, bytes)?;
                Self::new(kind)
            }
            ED25519 => {
                let bytes = bytes.and_then(|b| b.try_into().ok());
                let key = bytes.and_then(|b| ed25519_dalek::VerifyingKey::from_bytes(b).ok());
                match parameters {
                    None => Self::new(PublicKind::Ed25519(key.ok_or(Error::Ed25519Public)?)),
                    Some(_) => Err(Error::Ed25519Public),
                }
            }
            X25519 | DSA => Err(Error::Unsupported),
            _ => Err(Error::UnknownPublicAlgorithm),
        }
    }

    /// The key as a DER `SubjectPublicKeyInfo`.
    pub fn to_spki_der(&self) -> Vec<u8> {
        self.spki.clone()
    }

    /// The key as a PEM block `PUBLIC KEY`.
    pub fn to_pem(&self) -> String {
        encode_block("PUBLIC KEY", &self.spki)
    }

    /// Whether `signature` is this key's signature over `message`.
    ///
    /// ECDSA signatures may be DER or `r || s`. RSA keys below 1024 bits or
    /// above 16384 bits accept nothing.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(message).into();
        match &self.kind {
            PublicKind::Rsa(key) => key.verify(message, &digest, signature),
            PublicKind::P224(key) => ecdsa::verify(key, &digest, signature),
            PublicKind::P256(key) => ecdsa::verify(key, &digest, signature),
            PublicKind::P384(key) => ecdsa::verify(key, &digest, signature),
            PublicKind::P521(key) => ecdsa::verify(key, &digest, signature),
            PublicKind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|s| key.verify_strict(message, &s).is_ok()),
        }
    }

    /// How this key made `signature` over `message`, if it did, in any of the
    /// ways in which signers of cosign use it.
    ///
    /// Signers take the digest of the curve, verifiers of cosign always SHA-256.
    ///
    /// Source: sigstore `pkg/signature`, `LoadDefaultSigner`; spec/oci-sif-cosign.md 6.2.
    pub fn verify_cosign(&self, message: &[u8], signature: &[u8]) -> Option<Scheme> {
        if self.verify(message, signature) {
            return Some(match &self.kind {
                PublicKind::Ed25519(_) => Scheme::Ed25519,
                _ => Scheme::Sha256,
            });
        }
        match &self.kind {
            PublicKind::P384(key) => {
                ecdsa::verify(key, &Sha384::digest(message), signature).then_some(Scheme::Sha384)
            }
            PublicKind::P521(key) => {
                ecdsa::verify(key, &Sha512::digest(message), signature).then_some(Scheme::Sha512)
            }
            PublicKind::Ed25519(key) => {
                verify_ed25519ph(key, message, signature).then_some(Scheme::Ed25519ph)
            }
            _ => None,
        }
    }

    /// What sigstore says about a signature that this key did not make.
    ///
    /// Source: sigstore `pkg/signature/{rsapkcs1v15,ecdsa,ed25519}.go`.
    pub fn refusal(&self, signature: &[u8]) -> &'static str {
        match &self.kind {
            PublicKind::Rsa(_) => "crypto/rsa: verification error",
            PublicKind::Ed25519(_) => "failed to verify signature",
            _ => ecdsa::refusal(signature),
        }
    }

    /// The OpenSSH fingerprint, `SHA256:` and unpadded base64: the DSSE key id.
    ///
    /// Empty for P-224, which OpenSSH cannot express.
    ///
    /// Source: RFC 4253, section 6.6; RFC 5656, section 3.1; RFC 8709.
    pub fn ssh_fingerprint(&self) -> String {
        let wire = match &self.kind {
            PublicKind::Rsa(key) => ssh_wire(&[
                b"ssh-rsa",
                &ssh_integer(&key.exponent),
                &ssh_integer(&key.modulus),
            ]),
            PublicKind::P224(_) => return String::new(),
            PublicKind::P256(key) => ssh_ecdsa("nistp256", key.to_encoded_point(false).as_bytes()),
            PublicKind::P384(key) => ssh_ecdsa("nistp384", key.to_encoded_point(false).as_bytes()),
            PublicKind::P521(key) => ssh_ecdsa("nistp521", key.to_encoded_point(false).as_bytes()),
            PublicKind::Ed25519(key) => ssh_wire(&[b"ssh-ed25519", key.as_bytes()]),
        };
        format!(
            "SHA256:{}",
            BASE64_STANDARD_NO_PAD.encode(Sha256::digest(wire))
        )
    }

    /// SHA-256 of [`PublicKey::to_spki_der`], hexadecimal: the same for the same key, whatever
    /// file it came in.
    pub fn spki_sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.spki))
    }

    /// The algorithm and size for display, such as `RSA-3072` or `ECDSA P-256`.
    pub fn algorithm(&self) -> String {
        match &self.kind {
            PublicKind::Rsa(key) => format!("RSA-{}", bit_length(&key.modulus)),
            PublicKind::P224(_) => "ECDSA P-224".to_owned(),
            PublicKind::P256(_) => "ECDSA P-256".to_owned(),
            PublicKind::P384(_) => "ECDSA P-384".to_owned(),
            PublicKind::P521(_) => "ECDSA P-521".to_owned(),
            PublicKind::Ed25519(_) => "Ed25519".to_owned(),
        }
    }

    fn from_pkcs1_der(der: &[u8]) -> Result<Self, Error> {
        let key =
            pkcs1::RsaPublicKey::from_der(der).map_err(
                |_| match SubjectPublicKeyInfoRef::from_der(der) {
                    Ok(_) => wrong_form("public", "ParsePKIXPublicKey"),
                    Err(_) => Error::RsaPublic,
                },
            )?;
        Self::from_rsa(&key)
    }

    pub(super) fn from_rsa(key: &pkcs1::RsaPublicKey<'_>) -> Result<Self, Error> {
        let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
        // an exponent of at most 32 bits; neither number is zero
        if bit_length(modulus) == 0 || exponent.len() > 4 || bit_length(exponent) == 0 {
            return Err(Error::RsaPublic);
        }
        Self::new(PublicKind::Rsa(RsaPublic {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        }))
    }

    pub(super) fn new(kind: PublicKind) -> Result<Self, Error> {
        let spki = kind.encode()?;
        Ok(Self { kind, spki })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKind {
    Rsa(RsaPublic),
    P224(p224::PublicKey),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl PublicKind {
    fn from_point(curve: ObjectIdentifier, point: Option<&[u8]>) -> Result<Self, Error> {
        let sec1 = point.unwrap_or_default();
        let kind = match curve {
            P224 => p224::PublicKey::from_sec1_bytes(sec1).map(Self::P224),
            P256 => p256::PublicKey::from_sec1_bytes(sec1).map(Self::P256),
            P384 => p384::PublicKey::from_sec1_bytes(sec1).map(Self::P384),
            P521 => p521::PublicKey::from_sec1_bytes(sec1).map(Self::P521),
            _ => return Err(Error::UnknownPublicCurve),
        };
        kind.map_err(|_| Error::EcPoint)
    }

    fn encode(&self) -> der::Result<Vec<u8>> {
        let ec =
            |curve: ObjectIdentifier, point: &[u8]| encode_spki(EC, Some((&curve).into()), point);
        match self {
            Self::Rsa(key) => encode_spki(RSA, Some(Null.into()), &key.to_pkcs1_der()?),
            Self::P224(key) => ec(P224, key.to_encoded_point(false).as_bytes()),
            Self::P256(key) => ec(P256, key.to_encoded_point(false).as_bytes()),
            Self::P384(key) => ec(P384, key.to_encoded_point(false).as_bytes()),
            Self::P521(key) => ec(P521, key.to_encoded_point(false).as_bytes()),
            Self::Ed25519(key) => encode_spki(ED25519, None, key.as_bytes()),
        }
    }
}

fn encode_spki(
    oid: ObjectIdentifier,
    parameters: Option<AnyRef<'_>>,
    key: &[u8],
) -> der::Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef { oid, parameters };
    let subject_public_key = BitStringRef::from_bytes(key)?;
    SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key,
    }
    .to_der()
}

/// Big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RsaPublic {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RsaPublic {
    fn to_pkcs1_der(&self) -> der::Result<Vec<u8>> {
        let modulus = der::asn1::UintRef::new(&self.modulus)?;
        let public_exponent = der::asn1::UintRef::new(&self.exponent)?;
        pkcs1::RsaPublicKey {
            modulus,
            public_exponent,
        }
        .to_der()
    }

    // AWS-LC stops at 8192 bits; a public operation has no secret to leak.
    fn verify(&self, message: &[u8], digest: &[u8; 32], signature: &[u8]) -> bool {
        let bits = bit_length(&self.modulus);
        let Ok(der) = self.to_pkcs1_der() else {
            return false;
        };
        if (MIN_RSA_BITS..=MAX_AWS_RSA_BITS).contains(&bits) {
            let algorithm = &aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
            return aws::UnparsedPublicKey::new(algorithm, der)
                .verify(message, signature)
                .is_ok();
        }
        if !(MIN_RSA_BITS..=MAX_PUBLIC_RSA_BITS).contains(&bits) {
            return false;
        }
        let (n, e) = (
            BigUint::from_bytes_be(&self.modulus),
            BigUint::from_bytes_be(&self.exponent),
        );
        rsa::RsaPublicKey::new_with_max_size(n, e, MAX_PUBLIC_RSA_BITS)
            .is_ok_and(|key| key.verify(pkcs1_v15(), digest, signature).is_ok())
    }
}

pub(super) fn pkcs1_v15() -> rsa::Pkcs1v15Sign {
    rsa::Pkcs1v15Sign {
        hash_len: Some(32),
        prefix: Box::new(SHA256_DIGEST_INFO),
    }
}

pub(super) fn bit_length(number: &[u8]) -> usize {
    let mut digits = number.iter().skip_while(|b| **b == 0);
    let first = digits.next().map_or(0, |b| 8 - b.leading_zeros());
    digits.count() * 8 + usize::try_from(first).unwrap_or(0)
}

/// Ed25519ph without a context, as strict as the pure kind is verified: a canonical scalar, no point
/// of small order.
///
/// Source: RFC 8032, 5.1.
fn verify_ed25519ph(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    // The library takes the hash of an older generation only.
    use ed25519_dalek::{Digest as _, Sha512};
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
        return false;
    };
    let hashed = Sha512::new().chain_update(message);
    key.verify_prehashed_strict(hashed, None, &signature)
        .is_ok()
}

fn ssh_ecdsa(curve: &str, point: &[u8]) -> Vec<u8> {
    let name = format!("ecdsa-sha2-{curve}");
    ssh_wire(&[name.as_bytes(), curve.as_bytes(), point])
}

fn ssh_wire(strings: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    for string in strings {
        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(string);
    }
    wire
}

/// A zero byte in front keeps a number with the top bit set positive.
fn ssh_integer(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(first) if *first >= 0x80 => [&[0], number].concat(),
        _ => number.to_vec(),
    }
}

pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(super) const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const DSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10040.4.1");
pub(super) const P224: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.33");
pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// First byte of an uncompressed point. Source: SEC 1, section 2.3.3.
const UNCOMPRESSED: u8 = 4;

/// What Go signs and verifies with at least.
pub(super) const MIN_RSA_BITS: usize = 1024;
const MAX_AWS_RSA_BITS: usize = 8192;
const MAX_PUBLIC_RSA_BITS: usize = 16384;

/// DER of `DigestInfo` up to the SHA-256 digest. Source: RFC 8017, section 9.2.
const SHA256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_hashed_ed25519_of_the_rfc_and_no_change_of_it() {
        // RFC 8032, section 7.3.
        let key = hex::decode("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
        let signature = hex::decode(
            "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
        );
        let (key, signature) = (key.unwrap(), signature.unwrap());
        let kind = ed25519_dalek::VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
        let key = PublicKey::new(PublicKind::Ed25519(kind)).unwrap();
        assert_eq!(
            key.verify_cosign(b"abc", &signature),
            Some(Scheme::Ed25519ph)
        );
        assert!(!key.verify(b"abc", &signature));
        assert_eq!(key.verify_cosign(b"abd", &signature), None);
        for at in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(key.verify_cosign(b"abc", &changed), None, "bit {at}");
        }
        // The same scalar, written as one that is larger by the group's order.
        let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let order = hex::decode(order).unwrap();
        let mut twin = signature.clone();
        let mut carry = 0;
        for (byte, add) in twin[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        assert_eq!(key.verify_cosign(b"abc", &twin), None);
        assert_eq!(key.verify_cosign(b"abc", &[0; 64]), None);
        assert_eq!(key.verify_cosign(b"abc", &signature[..63]), None);
    }
}
