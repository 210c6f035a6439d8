//! Opens the two standard forms of a password-protected key: PKCS#8 with
//! PBES2 (RFC 8018) and the older PEM headers (RFC 1421, RFC 1423).

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, KeyInit, KeyIvInit};
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader};
use md5::{Digest, Md5};
use pkcs5::pbes2::{
    DES_CBC_OID, DES_EDE3_CBC_OID, EncryptionScheme, Kdf, PBES2_OID, PBKDF2_OID, Parameters,
    SCRYPT_OID,
};
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

/// Upper bound of the PBKDF2 iteration count.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Upper bound of scrypt's memory, 128 * N * r, in bytes.
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
/// Upper bound of scrypt's total work, 128 * N * r * p, in bytes.
const MAX_SCRYPT_WORK: u64 = 1 << 30;
/// Block length of DES and Triple-DES, in bytes.
const DES_BLOCK: usize = 8;

/// Why a protected key could not be opened.
///
/// Wording: `youmark/pkcs8` for `pkcs8:`, Go `crypto/x509` for `x509:`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PKCS#8 envelope is not DER.
    #[error("pkcs8: only PKCS #5 v2.0 supported")]
    Envelope,
    /// PBES1 or a PKCS#12 scheme.
    #[error("pkcs8: only PBES2 supported")]
    NotPbes2,
    /// The PBES2 parameters are not DER.
    #[error("pkcs8: invalid PBES2 parameters")]
    Parameters,
    /// A key derivation function that is neither PBKDF2 nor scrypt.
    #[error("pkcs8: unsupported KDF (OID: {0})")]
    UnsupportedKdf(ObjectIdentifier),
    /// The key derivation parameters are malformed or name an unknown hash.
    #[error("pkcs8: invalid KDF parameters")]
    KdfParameters,
    /// The key derivation would cost more than is reasonable.
    #[error("pkcs8: key derivation too expensive ({what} {found}, limit {limit})")]
    KdfCost {
        /// Which parameter.
        what: &'static str,
        /// The value in the file.
        found: u64,
        /// The greatest value accepted.
        limit: u64,
    },
    /// A cipher other than AES-CBC, DES-CBC and DES-EDE3-CBC.
    #[error("pkcs8: unsupported cipher (OID: {0})")]
    UnsupportedCipher(ObjectIdentifier),
    /// The initialisation vector is malformed.
    #[error("pkcs8: invalid cipher parameters")]
    CipherParameters,
    /// The PKCS#8 password is wrong (or the file is damaged).
    #[error("pkcs8: incorrect password")]
    Pkcs8Password,
    /// The `DEK-Info` header is malformed.
    #[error("x509: malformed DEK-Info header")]
    DekInfo,
    /// The `DEK-Info` header names an unknown cipher.
    #[error("x509: unknown encryption mode")]
    UnknownMode,
    /// The `DEK-Info` vector does not have the cipher's block length.
    #[error("x509: incorrect IV size")]
    IvSize,
    /// The data length is no multiple of the block length.
    #[error("x509: encrypted PEM data is not a multiple of the block size")]
    BlockMultiple,
    /// There is no data.
    #[error("x509: invalid padding")]
    Padding,
    /// The password of the PEM block is wrong (or the file is damaged).
    #[error("x509: decryption password incorrect")]
    PemPassword,
}

/// Opens an `EncryptedPrivateKeyInfo`; returns the PKCS#8 DER inside.
///
/// # Errors
/// Any `pkcs8:` variant of [`Error`]. The cost parameters are checked before
/// the key derivation runs.
///
/// Source: RFC 5958, section 3; RFC 8018, section 6.2.
pub(super) fn open_pkcs8(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (scheme, data) = AnyRef::from_der(der)
        .and_then(|any| {
            any.sequence(|reader| {
                let scheme: AlgorithmIdentifierRef<'_> = reader.decode()?;
                let data: OctetStringRef<'_> = reader.decode()?;
                Ok((scheme, data))
            })
        })
        .map_err(|_| Error::Envelope)?;
    if scheme.oid != PBES2_OID {
        return Err(Error::NotPbes2);
    }
    let (kdf, cipher) = scheme
        .parameters
        .ok_or(Error::Parameters)?
        .sequence(|reader| Ok((reader.decode()?, reader.decode()?)))
        .map_err(|_| Error::Parameters)?;
    let parameters = Parameters {
        encryption: encryption_scheme(cipher)?,
        kdf: bounded_kdf(kdf)?,
    };
    let mut buffer = Zeroizing::new(data.as_bytes().to_vec());
    let length = match parameters.decrypt_in_place(password, &mut buffer) {
        Ok(plain) => plain.len(),
        Err(pkcs5::Error::EncryptFailed) => return Err(Error::Pkcs8Password),
        Err(_) => return Err(Error::KdfParameters),
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// Opens the body of a PEM block with the value of its `DEK-Info` header.
///
/// # Errors
/// Any `x509:` variant of [`Error`].
///
/// Source: RFC 1423, section 1.1; key derivation as OpenSSL's `EVP_BytesToKey`
/// with MD5, one round, the first 8 bytes of the vector as salt.
pub(super) fn open_pem(
    dek_info: &str,
    body: &[u8],
    password: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (mode, iv) = dek_info.split_once(',').ok_or(Error::DekInfo)?;
    let open = match mode {
        "AES-128-CBC" => open_cbc::<aes::Aes128>,
        "AES-192-CBC" => open_cbc::<aes::Aes192>,
        "AES-256-CBC" => open_cbc::<aes::Aes256>,
        "DES-EDE3-CBC" => open_cbc::<des::TdesEde3>,
        "DES-CBC" => open_cbc::<des::Des>,
        _ => return Err(Error::UnknownMode),
    };
    open(
        &hex::decode(iv).map_err(|_| Error::DekInfo)?,
        body,
        password,
    )
}

fn open_cbc<C>(iv: &[u8], body: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error>
where
    C: BlockDecryptMut + BlockCipher + KeyInit,
{
    let block = C::block_size();
    if iv.len() != block {
        return Err(Error::IvSize);
    }
    if !body.len().is_multiple_of(block) {
        return Err(Error::BlockMultiple);
    }
    if body.is_empty() {
        return Err(Error::Padding);
    }
    let salt = iv.get(..8).ok_or(Error::IvSize)?;
    let key = bytes_to_key(password, salt, C::key_size());
    let cipher = cbc::Decryptor::<C>::new_from_slices(&key, iv).map_err(|_| Error::IvSize)?;
    let mut buffer = Zeroizing::new(body.to_vec());
    let length = cipher
        .decrypt_padded_mut::<Pkcs7>(&mut buffer)
        .map_err(|_| Error::PemPassword)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn bytes_to_key(password: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(64));
    let mut last = Zeroizing::new([0u8; 16]);
    while key.len() < length {
        let mut hash = Md5::new();
        if !key.is_empty() {
            hash.update(*last);
        }
        hash.update(password);
        hash.update(salt);
        *last = hash.finalize().into();
        key.extend_from_slice(&*last);
    }
    key.truncate(length);
    key
}

fn encryption_scheme(cipher: AlgorithmIdentifierRef<'_>) -> Result<EncryptionScheme<'_>, Error> {
    // pkcs5 0.7 slices a DES vector without looking at its length
    if [DES_CBC_OID, DES_EDE3_CBC_OID].contains(&cipher.oid) {
        let iv = cipher.parameters.ok_or(Error::CipherParameters)?;
        if iv.value().len() != DES_BLOCK {
            return Err(Error::CipherParameters);
        }
    }
    EncryptionScheme::try_from(cipher).map_err(|e| match e.kind() {
        der::ErrorKind::OidUnknown { oid } => Error::UnsupportedCipher(oid),
        _ => Error::CipherParameters,
    })
}

fn bounded_kdf(kdf: AlgorithmIdentifierRef<'_>) -> Result<Kdf<'_>, Error> {
    if ![PBKDF2_OID, SCRYPT_OID].contains(&kdf.oid) {
        return Err(Error::UnsupportedKdf(kdf.oid));
    }
    let kdf = Kdf::try_from(kdf).map_err(|_| Error::KdfParameters)?;
    let within = |what, found: u64, limit: u64| match found <= limit {
        true => Ok(()),
        false => Err(Error::KdfCost { what, found, limit }),
    };
    match &kdf {
        Kdf::Pbkdf2(p) => {
            if p.iteration_count == 0 {
                return Err(Error::KdfParameters);
            }
            within(
                "PBKDF2 iterations",
                p.iteration_count.into(),
                MAX_ITERATIONS.into(),
            )?;
        }
        Kdf::Scrypt(p) => {
            // pkcs5 0.7 takes the logarithm of N unchecked
            if p.cost_parameter < 2 || !p.cost_parameter.is_power_of_two() {
                return Err(Error::KdfParameters);
            }
            let block = u64::from(p.block_size).saturating_mul(128);
            let memory = p.cost_parameter.saturating_mul(block);
            let work = memory.saturating_mul(p.parallelization.into());
            within("scrypt memory in bytes", memory, MAX_SCRYPT_MEMORY)?;
            within("scrypt work in bytes", work, MAX_SCRYPT_WORK)?;
        }
        _ => return Err(Error::KdfParameters),
    }
    Ok(kdf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    const AES_128_CBC: &str = "2.16.840.1.101.3.4.1.2";

    fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).unwrap();
        let head: &[u8] = if length < 128 {
            &[tag, length]
        } else {
            &[tag, 0x81, length]
        };
        [head, value].concat()
    }

    fn number(value: u64) -> Vec<u8> {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|b| **b == 0).count().min(7);
        let pad: &[u8] = if bytes[zeros] >= 0x80 { &[0] } else { &[] };
        tlv(2, &[pad, &bytes[zeros..]].concat())
    }

    fn algorithm(oid: &str, parameters: &[u8]) -> Vec<u8> {
        let oid: ObjectIdentifier = oid.parse().unwrap();
        tlv(
            0x30,
            &[tlv(6, oid.as_bytes()), parameters.to_vec()].concat(),
        )
    }

    fn locked(kdf: &[u8], cipher: &[u8]) -> Vec<u8> {
        let scheme = algorithm("1.2.840.113549.1.5.13", &tlv(0x30, &[kdf, cipher].concat()));
        tlv(0x30, &[scheme, tlv(4, &[0; 32])].concat())
    }

    fn aes(iv: usize) -> Vec<u8> {
        algorithm(AES_128_CBC, &tlv(4, &vec![0; iv]))
    }

    fn pbkdf2(iterations: u64) -> Vec<u8> {
        let parameters = [tlv(4, &[0; 8]), number(iterations)].concat();
        algorithm("1.2.840.113549.1.5.12", &tlv(0x30, &parameters))
    }

    fn scrypt(n: u64, r: u64, p: u64) -> Vec<u8> {
        let parameters = [tlv(4, &[0; 8]), number(n), number(r), number(p)].concat();
        algorithm("1.3.6.1.4.1.11591.4.11", &tlv(0x30, &parameters))
    }

    fn error(kdf: &[u8], cipher: &[u8]) -> String {
        open_pkcs8(&locked(kdf, cipher), b"secret")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn refuses_expensive_key_derivation_quickly() {
        let start = Instant::now();
        let expensive = "pkcs8: key derivation too expensive";
        for (kdf, text) in [
            (
                pbkdf2(10_000_001),
                "(PBKDF2 iterations 10000001, limit 10000000)",
            ),
            (
                pbkdf2(u32::MAX.into()),
                "(PBKDF2 iterations 4294967295, limit 10000000)",
            ),
            (
                scrypt(1 << 19, 8, 1),
                "(scrypt memory in bytes 536870912, limit 268435456)",
            ),
            (
                scrypt(1 << 62, 8, 1),
                "(scrypt memory in bytes 18446744073709551615, limit 268435456)",
            ),
            (
                scrypt(1 << 14, 8, 65),
                "(scrypt work in bytes 1090519040, limit 1073741824)",
            ),
        ] {
            assert_eq!(error(&kdf, &aes(16)), format!("{expensive} {text}"));
        }
        for kdf in [
            pbkdf2(0),
            pbkdf2(1 << 40),
            scrypt(0, 8, 1),
            scrypt(1, 8, 1),
            scrypt(3, 8, 1),
            scrypt(1024, 0, 1),
            scrypt(1024, 8, 0),
            scrypt(1024, 1 << 20, 1),
            scrypt(1 << 20, 1, 1 << 33),
        ] {
            assert_eq!(error(&kdf, &aes(16)), "pkcs8: invalid KDF parameters");
        }
        assert!(start.elapsed() < Duration::from_secs(2));
        for kdf in [pbkdf2(1), scrypt(2, 8, 1), scrypt(1024, 1, 1)] {
            assert_eq!(error(&kdf, &aes(16)), "pkcs8: incorrect password");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for iv in [0, 7, 9, 15, 17] {
            assert_eq!(
                error(&pbkdf2(1), &aes(iv)),
                "pkcs8: invalid cipher parameters"
            );
            for des in ["1.2.840.113549.3.7", "1.3.14.3.2.7"] {
                let cipher = algorithm(des, &tlv(4, &vec![0; iv]));
                assert_eq!(
                    error(&pbkdf2(1), &cipher),
                    "pkcs8: invalid cipher parameters"
                );
            }
        }
        assert_eq!(
            error(&pbkdf2(1), &algorithm(AES_128_CBC, &[])),
            "pkcs8: invalid cipher parameters"
        );
        assert_eq!(
            error(&pbkdf2(1), &algorithm("1.2.840.3", &tlv(4, &[0; 16]))),
            "pkcs8: unsupported cipher (OID: 1.2.840.3)"
        );
        assert_eq!(
            error(&algorithm("1.2.840.4", &[]), &aes(16)),
            "pkcs8: unsupported KDF (OID: 1.2.840.4)"
        );
        let text = open_pkcs8(b"", b"").unwrap_err().to_string();
        assert_eq!(text, "pkcs8: only PKCS #5 v2.0 supported");
        for (dek_info, body, text) in [
            ("AES-128-CBC", 16, "x509: malformed DEK-Info header"),
            ("AES-128-CBC,zz", 16, "x509: malformed DEK-Info header"),
            ("AES-128-CBC,00", 16, "x509: incorrect IV size"),
            ("DES-CBC,00", 16, "x509: incorrect IV size"),
            ("AES-128-GCM,00", 16, "x509: unknown encryption mode"),
            (
                "DES-CBC,0000000000000000",
                9,
                "x509: encrypted PEM data is not a multiple of the block size",
            ),
            ("DES-CBC,0000000000000000", 0, "x509: invalid padding"),
            (
                "DES-CBC,0000000000000000",
                8,
                "x509: decryption password incorrect",
            ),
        ] {
            let error = open_pem(dek_info, &vec![0; body], b"secret").unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn never_panics(oid in 0usize..4, parameters in proptest::collection::vec(any::<u8>(), 0..40), dek_info in "(AES-128|DES|DES-EDE3)-CBC,[0-9a-f]{0,34}") {
            let oids = ["1.2.840.113549.3.7", "1.3.14.3.2.7", AES_128_CBC, "1.2.840.113549.1.5.13"];
            let cipher = algorithm(oids[oid], &parameters);
            let _ = open_pkcs8(&locked(&pbkdf2(1), &cipher), b"secret");
            let _ = open_pem(&dek_info, &parameters, b"secret");
        }
    }
}
