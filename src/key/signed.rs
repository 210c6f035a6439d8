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
