//! New key pairs, as `key newpair` of Singularity makes them.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::{encoding::AsDer, rsa as lc_rsa};
use sequoia_openpgp::{
    Packet as SequoiaPacket,
    packet::{
        Key,
        key::{Key4, KeyRole, PrimaryRole, SecretParts, SubordinateRole},
    },
    serialize::MarshalInto,
    types::{Curve, HashAlgorithm},
};
use zeroize::Zeroizing;

use super::{
    Entity, Error, Fingerprint, Keyring, Malformed, SigningKey,
    packet::{self, Packets, tag},
    public::PublicKey,
    revocation::{Reason, certificate, revocation},
    secret::reprotect,
    signature::{flag, kind, write_salt, write_subpacket},
};

/// What a new key pair is made of.
#[derive(Default)]
pub struct Params<'a> {
    /// Name, may be empty.
    pub name: &'a str,
    /// Comment, may be empty.
    pub comment: &'a str,
    /// Address, may be empty.
    pub email: &'a str,
    /// Kind and size of both keys.
    pub key_type: KeyType,
    /// Seconds from creation to the end of both keys; without it they never expire.
    pub lifetime: Option<u32>,
    /// Protects both secret keys; without it they are stored in the clear.
    pub passphrase: Option<&'a [u8]>,
    /// Creation time, seconds since 1970.
    pub now: u64,
}

/// Kind and size of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// RSA with a modulus of this many bits; 0 means 2048.
    Rsa(i64),
    /// EdDSA on Ed25519, with a sub-key for ECDH on Curve25519.
    Ed25519,
}

impl Default for KeyType {
    fn default() -> Self {
        Self::Rsa(0)
    }
}

/// A new key pair.
pub struct NewPair {
    /// The transferable secret key.
    pub secret_bytes: Zeroizing<Vec<u8>>,
    /// The transferable public key.
    pub public_bytes: Vec<u8>,
    /// Fingerprint of the primary key.
    pub fingerprint: Fingerprint,
    /// Text of a file that can revoke the key without its secret part.
    pub revocation_certificate: String,
}

/// Makes a key that signs and certifies, with an encryption sub-key of the same kind, one user id
/// and a revocation certificate. With a passphrase both secret keys are encrypted.
///
/// # Errors
/// [`Error::TooFewBits`], [`Error::TooManyBits`], [`Error::UserIdCharacters`],
/// [`Error::UserIdTooLong`], [`Error::Generation`].
///
/// Source: go-crypto `NewEntity` with Singularity's configuration.
pub fn generate(params: &Params<'_>) -> Result<NewPair, Error> {
    let user_id = user_id(params)?;
    let created = u32::try_from(params.now).map_err(|_| Error::Generation)?;
    let (primary, subkey) = secret_bodies(params.key_type, created)?;
    let primary_public = PublicKey::parse(&primary)?;
    let subkey_public = PublicKey::parse(&subkey)?;
    let key = SigningKey::unlock(&primary_public, &primary, None)?;

    let key_prefix = primary_public.hash_prefix();
    let id_length = u32::try_from(user_id.len()).map_err(|_| Error::UserIdTooLong)?;
    let id_prefix = [&[0xb4], &id_length.to_be_bytes()[..]].concat();
    let certification = key.sign(
        kind::POSITIVE,
        HashAlgorithm::SHA384,
        &self_signature_area(&key, created, params.lifetime)?,
        &[
            &key_prefix,
            &primary_public.body,
            &id_prefix,
            user_id.as_bytes(),
        ],
    )?;
    let binding = key.sign(
        kind::SUBKEY_BINDING,
        HashAlgorithm::SHA384,
        &binding_area(&key, created, params.lifetime)?,
        &[
            &key_prefix,
            &primary_public.body,
            &subkey_public.hash_prefix(),
            &subkey_public.body,
        ],
    )?;

    // Sized beforehand so that growing leaves no copies of secrets behind.
    let size = primary.len() + subkey.len() + user_id.len() + certification.len() + binding.len();
    let mut clear = Zeroizing::new(Vec::with_capacity(size + 64));
    packet::write(&mut clear, tag::SECRET_KEY, &primary);
    packet::write(&mut clear, tag::USER_ID, user_id.as_bytes());
    packet::write(&mut clear, tag::SIGNATURE, &certification);
    packet::write(&mut clear, tag::SECRET_SUBKEY, &subkey);
    packet::write(&mut clear, tag::SIGNATURE, &binding);

    // Reading it back checks every signature.
    let entity = single(&clear)?;
    let revocation = revocation(&key, Reason::None, "", params.now)?;
    let secret_bytes = match params.passphrase {
        Some(passphrase) => reprotect(&entity, None, Some(passphrase))?,
        None => clear,
    };
    Ok(NewPair {
        secret_bytes,
        public_bytes: entity.public_bytes(),
        fingerprint: entity.fingerprint(),
        revocation_certificate: certificate(&entity, &revocation),
    })
}

/// AES-128.
const CIPHERS: &[u8] = &[7];
/// SHA-384, SHA-256.
const HASHES: &[u8] = &[9, 8];
const COMPRESSIONS: &[u8] = &[0];
/// Modification detection.
const FEATURES: &[u8] = &[1];
const CRITICAL: u8 = 0x80;
const SALT_LENGTH: usize = 24;
/// Encrypt communications and storage.
const ENCRYPTION_FLAGS: u8 = 0x0c;

fn self_signature_area(
    key: &SigningKey,
    created: u32,
    lifetime: Option<u32>,
) -> Result<Vec<u8>, Error> {
    let mut area = Vec::new();
    write_subpacket(&mut area, 2 | CRITICAL, &created.to_be_bytes());
    write_lifetime(&mut area, lifetime);
    write_subpacket(&mut area, 11, CIPHERS);
    write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
    write_salt(&mut area, &random::<SALT_LENGTH>()?);
    write_subpacket(&mut area, 21, HASHES);
    write_subpacket(&mut area, 22, COMPRESSIONS);
    write_subpacket(&mut area, 25, &[1]);
    write_subpacket(&mut area, 27 | CRITICAL, &[flag::CERTIFY | flag::SIGN]);
    write_subpacket(&mut area, 30, FEATURES);
    write_issuer(&mut area, key);
    Ok(area)
}

fn binding_area(key: &SigningKey, created: u32, lifetime: Option<u32>) -> Result<Vec<u8>, Error> {
    let mut area = Vec::new();
    write_subpacket(&mut area, 2 | CRITICAL, &created.to_be_bytes());
    write_lifetime(&mut area, lifetime);
    write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
    write_salt(&mut area, &random::<SALT_LENGTH>()?);
    write_subpacket(&mut area, 27 | CRITICAL, &[ENCRYPTION_FLAGS]);
    write_issuer(&mut area, key);
    Ok(area)
}

fn write_lifetime(area: &mut Vec<u8>, lifetime: Option<u32>) {
    if let Some(seconds) = lifetime {
        write_subpacket(area, 9 | CRITICAL, &seconds.to_be_bytes());
    }
}

fn write_issuer(area: &mut Vec<u8>, key: &SigningKey) {
    let body = [&[4], key.fingerprint().as_bytes()].concat();
    write_subpacket(area, 33, &body);
}

fn user_id(params: &Params<'_>) -> Result<String, Error> {
    let parts = [params.name, params.comment, params.email];
    if parts
        .iter()
        .any(|part| part.contains(['(', ')', '<', '>', '\0']))
    {
        return Err(Error::UserIdCharacters);
    }
    let mut words = Vec::new();
    if !params.name.is_empty() {
        words.push(params.name.to_owned());
    }
    if !params.comment.is_empty() {
        words.push(format!("({})", params.comment));
    }
    if !params.email.is_empty() {
        words.push(format!("<{}>", params.email));
    }
    let id = words.join(" ");
    if id.len() > 2048 {
        return Err(Error::UserIdTooLong);
    }
    Ok(id)
}

/// Primary key and sub-key as bodies of unprotected secret key packets.
fn secret_bodies(key_type: KeyType, created: u32) -> Result<(SecretBody, SecretBody), Error> {
    let bits = match key_type {
        KeyType::Ed25519 => {
            let time = UNIX_EPOCH + Duration::from_secs(u64::from(created));
            let mut primary = Key4::<_, PrimaryRole>::generate_ecc(true, Curve::Ed25519)
                .map_err(|_| Error::Generation)?;
            let mut subkey = Key4::<_, SubordinateRole>::generate_ecc(false, Curve::Cv25519)
                .map_err(|_| Error::Generation)?;
            primary
                .set_creation_time(time)
                .and_then(|_| subkey.set_creation_time(time))
                .map_err(|_| Error::Generation)?;
            return Ok((secret_body(primary)?, secret_body(subkey)?));
        }
        KeyType::Rsa(0) => 2048,
        KeyType::Rsa(..1024) => return Err(Error::TooFewBits),
        KeyType::Rsa(16385..) => return Err(Error::TooManyBits),
        KeyType::Rsa(bits) => usize::try_from(bits).map_err(|_| Error::TooManyBits)?,
    };
    Ok((
        secret_body(rsa::<PrimaryRole>(bits, created)?)?,
        secret_body(rsa::<SubordinateRole>(bits, created)?)?,
    ))
}

type SecretBody = Zeroizing<Vec<u8>>;

fn rsa<R: KeyRole>(bits: usize, created: u32) -> Result<Key4<SecretParts, R>, Error> {
    let created = UNIX_EPOCH + Duration::from_secs(u64::from(created));
    let size = match bits {
        2048 => Some(lc_rsa::KeySize::Rsa2048),
        3072 => Some(lc_rsa::KeySize::Rsa3072),
        4096 => Some(lc_rsa::KeySize::Rsa4096),
        8192 => Some(lc_rsa::KeySize::Rsa8192),
        _ => None,
    };
    if let Some(size) = size {
        return from_aws_lc(size, created);
    }
    let mut key = Key4::generate_rsa(bits).map_err(|_| Error::Generation)?;
    key.set_creation_time(created)
        .map_err(|_| Error::Generation)?;
    Ok(key)
}

fn secret_body<R: KeyRole>(key: Key4<SecretParts, R>) -> Result<SecretBody, Error>
where
    SequoiaPacket: From<Key<SecretParts, R>>,
{
    let framed = SequoiaPacket::from(Key::from(key))
        .to_vec()
        .map(Zeroizing::new)
        .map_err(|_| Error::Generation)?;
    let packet = Packets::new(&framed).next().ok_or(Malformed::Truncated)??;
    Ok(Zeroizing::new(packet.body.to_vec()))
}

fn from_aws_lc<R: KeyRole>(
    size: lc_rsa::KeySize,
    created: std::time::SystemTime,
) -> Result<Key4<SecretParts, R>, Error> {
    let pair = lc_rsa::KeyPair::generate(size).map_err(|_| Error::Generation)?;
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(|_| Error::Generation)?;
    let info = pkcs8::PrivateKeyInfo::try_from(der.as_ref()).map_err(|_| Error::Generation)?;
    let key = pkcs1::RsaPrivateKey::try_from(info.private_key).map_err(|_| Error::Generation)?;
    Key4::import_secret_rsa(
        key.private_exponent.as_bytes(),
        key.prime1.as_bytes(),
        key.prime2.as_bytes(),
        created,
    )
    .map_err(|_| Error::Generation)
}

fn single(bytes: &[u8]) -> Result<Entity, Error> {
    let keyring = Keyring::parse(bytes)?;
    let mut entities = keyring.into_entities();
    match (entities.pop(), entities.is_empty()) {
        (Some(entity), true) => Ok(entity),
        _ => Err(Error::Generation),
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    sequoia_openpgp::crypto::random(&mut bytes).map_err(|_| Error::Generation)?;
    Ok(bytes)
}
