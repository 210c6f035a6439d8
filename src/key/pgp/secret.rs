//! Secret keys: unlocking, signing, changing the passphrase.

use aws_lc_rs::{digest as lc_digest, rsa as lc_rsa, signature as lc_signature};
use num_bigint_dig::BigUint;
use sequoia_openpgp::{
    Packet as SequoiaPacket,
    crypto::{KeyPair, Password, S2K, Signer, mpi},
    packet::{
        Key,
        key::{KeyRole, SecretKeyMaterial, SecretParts, UnspecifiedRole},
    },
    parse::Parse,
    serialize::MarshalInto,
    types::{HashAlgorithm, SymmetricAlgorithm},
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Entity, Error, Fingerprint, Malformed, SecretState,
    packet::{self, Fields, Packets, tag},
    public::{BadSignature, PublicKey, public_part},
    signature::{self, Signature},
};

/// An unlocked primary key. Secret numbers live in memory that is wiped on drop.
pub struct SigningKey {
    public: PublicKey,
    backend: Backend,
}

/// AWS-LC blinds its RSA operations, sequoia's Rust backend does not: it gets what AWS-LC refuses.
enum Backend {
    AwsLc(Box<lc_rsa::KeyPair>),
    Sequoia(Box<KeyPair>),
}

/// Re-encrypts the secret parts of an entity, primary key and sub-keys alike, or stores them
/// without protection when there is no new passphrase. All other packets stay as they are, stubs
/// too.
///
/// The protection is AES-256, iterated and salted SHA-256 over 65,011,712 bytes, SHA-1 check: what
/// GnuPG and go-crypto read. A part that is in the clear although others are encrypted is taken
/// as it is.
///
/// # Errors
/// [`Error::Locked`] if a part is encrypted and no passphrase was given, [`Error::Checksum`] for a
/// wrong one, [`Error::UnsupportedSecret`].
pub fn reprotect(
    entity: &Entity,
    old_passphrase: Option<&[u8]>,
    new_passphrase: Option<&[u8]>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    require_affordable(entity)?;
    let mut out = Zeroizing::new(Vec::with_capacity(
        entity.raw().len().saturating_mul(2).saturating_add(1024),
    ));
    for packet in entity.packets() {
        if !matches!(packet.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY) {
            packet::write(&mut out, packet.tag, packet.body);
            continue;
        }
        let (public_length, _) = public_part(packet.body)?;
        if state(packet.body, public_length)? == SecretState::Stub {
            packet::write(&mut out, packet.tag, packet.body);
            continue;
        }
        let body = match parse(packet.tag, packet.body, entity.fingerprint())? {
            SequoiaPacket::SecretKey(key) => {
                let key = open(key, old_passphrase, entity.fingerprint())?;
                close(key, new_passphrase)?
            }
            SequoiaPacket::SecretSubkey(key) => {
                let key = open(key, old_passphrase, entity.fingerprint())?;
                close(key, new_passphrase)?
            }
            _ => return Err(Error::UnsupportedSecret(entity.fingerprint())),
        };
        // The public part keeps its very bytes; only what follows is new.
        let (new_public_length, _) = public_part(&body)?;
        let mut kept = Zeroizing::new(Fields(packet.body).take(public_length)?.to_vec());
        kept.reserve_exact(body.len());
        kept.extend_from_slice(body.get(new_public_length..).unwrap_or_default());
        packet::write(&mut out, packet.tag, &kept);
    }
    Ok(out)
}

/// Each part may have a costly protection of its own, and a key any number of parts.
fn require_affordable(entity: &Entity) -> Result<(), Error> {
    let whose = entity.fingerprint();
    let (mut argon2, mut iterated) = (0u64, 0u64);
    for packet in entity.packets() {
        if !matches!(packet.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY) {
            continue;
        }
        let (public_length, _) = public_part(packet.body)?;
        if state(packet.body, public_length)? != SecretState::Encrypted {
            continue;
        }
        let parsed = parse(packet.tag, packet.body, whose)?;
        let secret = match &parsed {
            SequoiaPacket::SecretKey(key) => key.secret(),
            SequoiaPacket::SecretSubkey(key) => key.secret(),
            _ => continue,
        };
        let SecretKeyMaterial::Encrypted(encrypted) = secret else {
            continue;
        };
        match encrypted.s2k() {
            S2K::Argon2 { t, m, .. } => {
                let kibibytes = 1u64.checked_shl(u32::from(*m)).unwrap_or(u64::MAX);
                argon2 = argon2.saturating_add(kibibytes.saturating_mul(u64::from(*t)));
            }
            S2K::Iterated { hash_bytes, .. } => {
                iterated = iterated.saturating_add(u64::from(*hash_bytes));
            }
            _ => {}
        }
    }
    match argon2 > MAX_ARGON2_OF_ALL || iterated > MAX_ITERATED_OF_ALL {
        true => Err(Error::CostlySecret(whose)),
        false => Ok(()),
    }
}

/// State of the secret part behind the public part of a secret key packet.
pub(crate) fn state(body: &[u8], public_length: usize) -> Result<SecretState, Malformed> {
    const GNU_EXTENSION: u8 = 101;
    let version = body.first().copied().unwrap_or(0);
    let mut fields = Fields(body);
    fields.take(public_length)?;
    let usage = fields.u8()?;
    if usage == 0 {
        return Ok(SecretState::Clear);
    }
    if !(253..=255).contains(&usage) {
        return Ok(SecretState::Encrypted);
    }
    if version == 6 {
        fields.u8()?;
    }
    fields.u8()?;
    if usage == 253 {
        fields.u8()?;
    }
    if version == 6 {
        fields.u8()?;
    }
    match fields.u8()? {
        GNU_EXTENSION => Ok(SecretState::Stub),
        _ => Ok(SecretState::Encrypted),
    }
}

impl SigningKey {
    /// Fingerprint of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint
    }

    /// 64-bit key id.
    pub fn key_id(&self) -> u64 {
        self.public.key_id
    }

    /// The hash signatures are made with: SHA-384 on P-384, SHA-512 on P-521 and Ed448, else
    /// SHA-256.
    pub(crate) fn preferred_hash(&self) -> HashAlgorithm {
        self.public.preferred_hash()
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn unlock(
        public: &PublicKey,
        body: &[u8],
        passphrase: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let unsupported = || Error::UnsupportedSecret(public.fingerprint);
        let SequoiaPacket::SecretKey(key) = parse(tag::SECRET_KEY, body, public.fingerprint)?
        else {
            return Err(unsupported());
        };
        if public.version != 4 {
            return Err(unsupported());
        }
        let key = open(key, passphrase, public.fingerprint)?;
        let backend = match rsa_key_pair(&key) {
            Some(pair) => Backend::AwsLc(Box::new(pair)),
            None => {
                let key: Key<SecretParts, UnspecifiedRole> = key.role_into_unspecified();
                Backend::Sequoia(Box::new(key.into_keypair().map_err(|_| unsupported())?))
            }
        };
        Ok(Self {
            public: public.clone(),
            backend,
        })
    }

    /// Makes a version 4 signature packet body over the concatenation of `parts`.
    ///
    /// The hashed sub-packets are taken as they are, the unhashed area is empty. The signature is
    /// checked before it is handed out.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub(crate) fn sign(
        &self,
        kind: u8,
        hash: HashAlgorithm,
        hashed_area: &[u8],
        parts: &[&[u8]],
    ) -> Result<Vec<u8>, Error> {
        let suffix = signature::suffix(4, kind, self.public.algorithm, u8::from(hash), hashed_area);
        let hashed = [parts, &[&suffix]].concat();
        let digest = signature::digest(hash, &hashed).map_err(|_| Error::Signing)?;
        let mpis = match &self.backend {
            Backend::AwsLc(pair) => sign_rsa(pair, hash, &digest),
            Backend::Sequoia(pair) => pair.as_ref().clone().sign(hash, &digest).ok(),
        };
        let body = mpis
            .and_then(|mpis| signature::body_v4(&suffix, &digest, &mpis))
            .ok_or(Error::Signing)?;
        let made = Signature::parse(&body)?;
        self.public
            .verify(&made, parts)
            .map_err(|_: BadSignature| Error::Signing)?;
        Ok(body)
    }
}

fn parse(number: u8, body: &[u8], whose: Fingerprint) -> Result<SequoiaPacket, Error> {
    let mut framed = Zeroizing::new(Vec::with_capacity(body.len().saturating_add(6)));
    packet::write(&mut framed, number, body);
    match SequoiaPacket::from_bytes(framed.as_slice()) {
        Ok(packet @ (SequoiaPacket::SecretKey(_) | SequoiaPacket::SecretSubkey(_))) => Ok(packet),
        _ => {
            let (length, _) = public_part(body)?;
            match body.get(length) {
                Some(0 | 255) => Err(Error::Checksum),
                _ => Err(Error::UnsupportedSecret(whose)),
            }
        }
    }
}

fn open<R: KeyRole>(
    key: Key<SecretParts, R>,
    passphrase: Option<&[u8]>,
    whose: Fingerprint,
) -> Result<Key<SecretParts, R>, Error> {
    let SecretKeyMaterial::Encrypted(encrypted) = key.secret() else {
        return Ok(key);
    };
    let passphrase = passphrase.ok_or(Error::Locked(whose.key_id()))?;
    if !encrypted.s2k().is_supported() {
        return Err(Error::UnsupportedSecret(whose));
    }
    if let S2K::Argon2 { t, m, .. } = encrypted.s2k()
        && (*m > MAX_ARGON2_MEMORY || *t > MAX_ARGON2_PASSES)
    {
        return Err(Error::CostlySecret(whose));
    }
    key.decrypt_secret(&Password::from(passphrase))
        .map_err(|_| Error::Checksum)
}

/// Body of the secret packet of an open key.
fn close<R: KeyRole>(
    key: Key<SecretParts, R>,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<Vec<u8>>, Error>
where
    SequoiaPacket: From<Key<SecretParts, R>>,
{
    let whose = || {
        Fingerprint::from_bytes(key.fingerprint().as_bytes())
            .map_or(Error::Signing, Error::UnsupportedSecret)
    };
    let key = match passphrase {
        None => key.clone(),
        Some(passphrase) => {
            let mut salt = [0; 8];
            sequoia_openpgp::crypto::random(&mut salt).map_err(|_| whose())?;
            let s2k = S2K::Iterated {
                hash: HashAlgorithm::SHA256,
                salt,
                hash_bytes: S2K_BYTES,
            };
            let (public, secret) = key.clone().take_secret();
            let secret = secret
                .encrypt_with(
                    &public,
                    s2k,
                    SymmetricAlgorithm::AES256,
                    None,
                    &Password::from(passphrase),
                )
                .map_err(|_| whose())?;
            public.add_secret(secret).0
        }
    };
    let framed = SequoiaPacket::from(key)
        .to_vec()
        .map(Zeroizing::new)
        .map_err(|_| Error::Signing)?;
    let packet = Packets::new(&framed).next().ok_or(Malformed::Truncated)??;
    Ok(Zeroizing::new(packet.body.to_vec()))
}

/// The most that the one-byte count can say; GnuPG ends up there too on a current machine.
const S2K_BYTES: u32 = 65_011_712;

/// Largest Argon2 memory in a key file: 2 to this power KiB, 1 GiB.
const MAX_ARGON2_MEMORY: u8 = 20;
/// Most Argon2 passes over that memory in a key file.
const MAX_ARGON2_PASSES: u8 = 16;
/// KiB that Argon2 may pass over for all parts of a key: four parts at the limits above.
const MAX_ARGON2_OF_ALL: u64 = (4 * 16) << 20;
/// Bytes that may be hashed for all parts of a key: a hundred parts as costly as those made here.
const MAX_ITERATED_OF_ALL: u64 = 100 * S2K_BYTES as u64;

/// The key as AWS-LC wants it; nothing if it is no RSA key or AWS-LC refuses it.
fn rsa_key_pair<R: KeyRole>(key: &Key<SecretParts, R>) -> Option<lc_rsa::KeyPair> {
    let (mpi::PublicKey::RSA { e, n }, SecretKeyMaterial::Unencrypted(secret)) =
        (key.mpis(), key.secret())
    else {
        return None;
    };
    let der = secret.map(|secret| {
        let mpi::SecretKeyMaterial::RSA { d, p, q, u } = secret else {
            return None;
        };
        // OpenPGP has u = p^-1 mod q, PKCS#1 wants prime2^-1 mod prime1: p and q change places.
        let e1 = exponent(d.value(), q.value())?;
        let e2 = exponent(d.value(), p.value())?;
        let int = |value| der::asn1::UintRef::new(value).ok();
        let key = pkcs1::RsaPrivateKey {
            modulus: int(n.value())?,
            public_exponent: int(e.value())?,
            private_exponent: int(d.value())?,
            prime1: int(q.value())?,
            prime2: int(p.value())?,
            exponent1: int(&e1)?,
            exponent2: int(&e2)?,
            coefficient: int(u.value())?,
            other_prime_infos: None,
        };
        der::Encode::to_der(&key).ok().map(Zeroizing::new)
    })?;
    lc_rsa::KeyPair::from_der(&der).ok()
}

/// d mod (prime - 1).
fn exponent(d: &[u8], prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut d = BigUint::from_bytes_be(d);
    let mut order = BigUint::from_bytes_be(prime);
    let one = BigUint::from(1u8);
    if order <= one {
        return None;
    }
    order -= one;
    let mut remainder = &d % &order;
    let bytes = Zeroizing::new(remainder.to_bytes_be());
    d.zeroize();
    order.zeroize();
    remainder.zeroize();
    Some(bytes)
}

fn sign_rsa(pair: &lc_rsa::KeyPair, hash: HashAlgorithm, digest: &[u8]) -> Option<mpi::Signature> {
    let (algorithm, encoding): (_, &'static dyn lc_signature::RsaEncoding) = match hash {
        HashAlgorithm::SHA256 => (&lc_digest::SHA256, &lc_signature::RSA_PKCS1_SHA256),
        HashAlgorithm::SHA384 => (&lc_digest::SHA384, &lc_signature::RSA_PKCS1_SHA384),
        HashAlgorithm::SHA512 => (&lc_digest::SHA512, &lc_signature::RSA_PKCS1_SHA512),
        _ => return None,
    };
    let digest = lc_digest::Digest::import_less_safe(digest, algorithm).ok()?;
    let mut value = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, &digest, &mut value).ok()?;
    Some(mpi::Signature::RSA {
        s: mpi::MPI::new(&value),
    })
}
