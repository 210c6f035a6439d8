//! New private keys, and the PKCS#8 form in which all of them are stored.

use super::pem::{Error, PrivateKey, PrivateKind};
use super::public::{PublicKey, PublicKind};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use pkcs8::EncodePrivateKey;
use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

/// Kinds of keys that are made here; cosign and SingularityCE read all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on NIST P-256, the kind of the originals.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
}

impl PrivateKey {
    /// Makes a key from random bytes of the system.
    ///
    /// # Errors
    /// [`Error::GenerationFailed`] if the system has no random bytes.
    pub fn generate(kind: KeyType) -> Result<Self, Error> {
        let rsa = |size| {
            let pair = KeyPair::generate(size).map_err(|_| Error::GenerationFailed)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| Error::GenerationFailed)?;
            Self::from_pkcs8_der(der.as_ref())
        };
        // The curves' libraries panic without random bytes: find out first.
        OsRng
            .try_fill_bytes(&mut [0])
            .map_err(|_| Error::GenerationFailed)?;
        let (kind, public) = match kind {
            KeyType::Rsa3072 => return rsa(KeySize::Rsa3072),
            KeyType::Rsa4096 => return rsa(KeySize::Rsa4096),
            KeyType::P256 => {
                let key = p256::SecretKey::random(&mut OsRng);
                let public = PublicKind::P256(key.public_key());
                (PrivateKind::P256(key), public)
            }
            KeyType::P384 => {
                let key = p384::SecretKey::random(&mut OsRng);
                let public = PublicKind::P384(key.public_key());
                (PrivateKind::P384(key), public)
            }
            KeyType::P521 => {
                let key = p521::SecretKey::random(&mut OsRng);
                let public = PublicKind::P521(key.public_key());
                (PrivateKind::P521(key), public)
            }
            KeyType::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                OsRng
                    .try_fill_bytes(&mut *seed)
                    .map_err(|_| Error::GenerationFailed)?;
                let key = ed25519_dalek::SigningKey::from_bytes(&seed);
                let public = PublicKind::Ed25519(key.verifying_key());
                (PrivateKind::Ed25519(key), public)
            }
        };
        let public = PublicKey::new(public)?;
        Ok(Self { kind, public })
    }

    /// Whether cosign and SingularityCE sign with keys of this kind: ECDSA on
    /// P-256, P-384, P-521; Ed25519; RSA of 2048, 3072 or 4096 bits.
    ///
    /// Source: sigstore `pkg/signature`, `GetDefaultAlgorithmDetails`; cosign,
    /// `import-key-pair`.
    pub fn is_for_cosign(&self) -> bool {
        match &self.kind {
            PrivateKind::P256(_)
            | PrivateKind::P384(_)
            | PrivateKind::P521(_)
            | PrivateKind::Ed25519(_) => true,
            PrivateKind::Rsa(key) => matches!(key.public_modulus_len(), 256 | 384 | 512),
            PrivateKind::P224(_) | PrivateKind::SmallRsa { .. } => false,
        }
    }

    /// The key as DER `PrivateKeyInfo`, version 1, as Go writes it: an EC key
    /// with its public point and without a second name of its curve, an
    /// Ed25519 key without its public half.
    ///
    /// # Errors
    /// [`Error::GenerationFailed`] if the library cannot write it.
    ///
    /// Source: Go `x509.MarshalPKCS8PrivateKey`.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let der = match &self.kind {
            PrivateKind::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| Error::GenerationFailed)?;
                return Ok(Zeroizing::new(der.as_ref().to_vec()));
            }
            PrivateKind::SmallRsa { key, .. } => key.to_pkcs8_der(),
            PrivateKind::P224(key) => key.to_pkcs8_der(),
            PrivateKind::P256(key) => key.to_pkcs8_der(),
            PrivateKind::P384(key) => key.to_pkcs8_der(),
            PrivateKind::P521(key) => key.to_pkcs8_der(),
            PrivateKind::Ed25519(key) => ed25519_dalek::pkcs8::KeypairBytes {
                secret_key: key.to_bytes(),
                public_key: None,
            }
            .to_pkcs8_der(),
        };
        der.map(|der| der.to_bytes())
            .map_err(|_| Error::GenerationFailed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_keys_of_every_kind_in_the_form_of_go() {
        // Lengths that Go writes: spec of the envelope, ciphertext less 16 bytes.
        for (kind, name, length) in [
            (KeyType::P256, "ECDSA P-256", 138..=138),
            (KeyType::P384, "ECDSA P-384", 185..=185),
            (KeyType::P521, "ECDSA P-521", 241..=241),
            (KeyType::Ed25519, "Ed25519", 48..=48),
            (KeyType::Rsa3072, "RSA-3072", 1790..=1800),
            (KeyType::Rsa4096, "RSA-4096", 2370..=2380),
        ] {
            let key = PrivateKey::generate(kind).unwrap();
            assert!(key.is_for_cosign());
            assert_eq!(key.public().algorithm(), name);
            let der = key.to_pkcs8_der().unwrap();
            assert!(length.contains(&der.len()), "{name}: {}", der.len());
            let again = PrivateKey::from_pkcs8_der(&der).unwrap();
            assert!(again.public() == key.public());
            let signature = again.sign(b"message").unwrap();
            assert!(key.public().verify(b"message", &signature));
            if kind != KeyType::Rsa4096 && kind != KeyType::Rsa3072 {
                let other = PrivateKey::generate(kind).unwrap();
                assert!(other.public() != key.public());
            }
        }
    }

    #[test]
    fn writes_what_go_and_openssl_wrote() {
        // `openssl genpkey`, and the same keys sealed by cosign.
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/peers/cosign/keys/");
        for name in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
            let read = |kind: &str| std::fs::read(format!("{keys}{name}.{kind}")).unwrap();
            let key = PrivateKey::from_pem(&read("pem"), None).unwrap();
            let sealed = PrivateKey::from_pem(&read("key"), Some(b"secret")).unwrap();
            let der = key.to_pkcs8_der().unwrap();
            assert_eq!(der, sealed.to_pkcs8_der().unwrap());
            let block = super::super::block::first_block(&read("key")).unwrap();
            let by_go = super::super::cosign::open(&block.body, b"secret").unwrap();
            assert_eq!(der, by_go, "{name}");
        }
    }
}
