//! OpenPGP keys: keyrings, entities, and what they may be used for.
//!
//! The verdicts follow ProtonMail/go-crypto 1.4.1, which Singularity uses: which keys of a
//! keyring are usable, which key may sign, when a key counts as expired or revoked. Packets are
//! read here and not by sequoia's certificate parser, because every packet must be written back
//! as it was found and because the rules for self-signatures differ. Sequoia does the arithmetic.
//!
//! Deliberately laxer than go-crypto: a sub-key of an unknown algorithm, an unknown packet or a
//! truncated packet body costs at most its own entity, never the file. Stricter: numbers above
//! 16384 bits and user ids above 2048 bytes are refused, so that checking a keyring stays linear.

mod armor;
mod entity;
mod generate;
mod inspect;
mod merge;
pub(crate) mod packet;
pub(crate) mod public;
mod reader;
mod revocation;
mod secret;
mod selector;
pub(crate) mod signature;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::HashMap, fmt};

use zeroize::Zeroizing;

pub use self::{
    armor::{
        ArmorKind, Selected, encode as encode_armor, entities_from_armored_or_binary,
        select_entities,
    },
    entity::{Entity, SecretState, Unusable, UserId},
    generate::{KeyType, NewPair, Params, generate},
    inspect::KeyInfo,
    merge::{Update, merge, updates_from_armored_or_binary},
    public::BadSignature,
    revocation::{Reason, certificate, revocation},
    secret::{SigningKey, reprotect},
    selector::{NoSuchKey, Selector},
};
pub(crate) use self::{
    armor::{checksum as armor_checksum, decode as decode_armor},
    entity::KeyRef,
};

use self::packet::{Packets, tag};

/// Why OpenPGP packets could not be read; the sentences are go-crypto's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A packet does not start with a packet tag.
    #[error("openpgp: invalid data: tag byte does not have MSB set")]
    NoPacketTag,
    /// A length that only data packets may have.
    #[error("openpgp: invalid data: partial length outside a data packet")]
    PartialLength,
    /// The data end inside a packet or field.
    #[error("unexpected EOF")]
    Truncated,
    /// A signature marked as not for export.
    #[error("openpgp: unsupported feature: signature with non-exportable certification")]
    LocalSignature,
    /// A version or algorithm this program does not know.
    #[error("openpgp: unsupported feature: {0} {1}")]
    Unsupported(&'static str, u8),
    /// A field or a sequence of packets that breaks the format.
    #[error("openpgp: invalid data: {0}")]
    Structural(&'static str),
    /// A self-signature that does not hold.
    #[error("openpgp: invalid data: {0} invalid: {1}")]
    SelfSignature(&'static str, BadSignature),
}

/// Errors of this module. Those with a go-crypto counterpart use its sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or entity is not readable.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Neither packets nor armor.
    #[error("openpgp: invalid argument: no armored data found")]
    NoArmor,
    /// Armor of another kind, for example a signature.
    #[error("openpgp: invalid argument: expected public or private key block, got: {0}")]
    NotAKeyBlock(String),
    /// The base64 text of an armored block is broken.
    #[error("openpgp: invalid data: armor invalid")]
    Armor,
    /// The entity holds only public keys.
    #[error("key {0} has no secret part")]
    NoSecret(Fingerprint),
    /// The secret part is a GnuPG stub.
    #[error("secret part of key {0} is kept offline or on a smartcard, it cannot be used here")]
    Stub(Fingerprint),
    /// The secret part is encrypted and no passphrase was given.
    #[error("openpgp: invalid argument: signing key {0:016X} is encrypted")]
    Locked(u64),
    /// Wrong passphrase, or a damaged secret part.
    #[error("openpgp: invalid data: private key checksum failure")]
    Checksum,
    /// The secret part cannot be used with this key type.
    #[error("secret part of key {0} is of an unsupported kind")]
    UnsupportedSecret(Fingerprint),
    /// The protection of the secret part costs more memory or time than is spent on a file.
    #[error(
        "secret part of key {0} is too costly to unlock (Argon2 above 1 GiB or 16 passes, or too many parts)"
    )]
    CostlySecret(Fingerprint),
    /// The private operation failed.
    #[error("signing failed")]
    Signing,
    /// Key size below the limit.
    #[error("openpgp: invalid argument: bits must be >= 1024")]
    TooFewBits,
    /// Key size above the limit.
    #[error("openpgp: invalid argument: bits must be <= 16384")]
    TooManyBits,
    /// One of `(`, `)`, `<`, `>`, NUL in a part of the user id.
    #[error("openpgp: invalid argument: user id field contained invalid characters")]
    UserIdCharacters,
    /// The user id would not be read back.
    #[error("user id longer than 2048 bytes")]
    UserIdTooLong,
    /// Key generation failed.
    #[error("key generation failed")]
    Generation,
    /// An update of another key.
    #[error("the update is not for key {0}")]
    OtherKey(Fingerprint),
    /// A text that does not fit into a signature.
    #[error("comment longer than 1024 bytes")]
    CommentTooLong,
}

/// Fingerprint of a key: 20 bytes (version 4) or 32 (version 6). Displayed as upper-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    bytes: [u8; 32],
    length: u8,
}

impl Fingerprint {
    /// Takes 20 or 32 bytes; nothing for any other length.
    pub fn from_bytes(source: &[u8]) -> Option<Self> {
        if source.len() != 20 && source.len() != 32 {
            return None;
        }
        let mut bytes = [0; 32];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Self {
            bytes,
            length: u8::try_from(source.len()).ok()?,
        })
    }

    /// The 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&[])
    }

    /// The 64-bit key id: the last 8 bytes of version 4, the first 8 of version 6.
    pub fn key_id(&self) -> u64 {
        let from = if self.length == 20 { 12 } else { 0 };
        let id = self.bytes.get(from..).and_then(|tail| tail.first_chunk());
        id.copied().map_or(0, u64::from_be_bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// A binary keyring: concatenated transferable keys, in file order.
///
/// Parts of the file that are no usable entity are skipped but kept, see [`Keyring::without`].
#[derive(Default)]
pub struct Keyring {
    entities: Vec<Entity>,
    parts: Vec<Part>,
    by_id: HashMap<u64, Vec<(usize, KeyRef)>>,
}

/// A stretch of the keyring file.
enum Part {
    Entity(usize),
    Skipped(Zeroizing<Vec<u8>>, Malformed),
}

impl Keyring {
    /// Reads a keyring file. Entities that cannot be used are skipped; empty input is an empty
    /// keyring.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the sequence of packets cannot be followed, for example
    /// "tag byte does not have MSB set" for armored text.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let mut keyring = Self::default();
        for raw in Self::split(data)? {
            keyring.add(raw);
        }
        Ok(keyring)
    }

    /// Cuts concatenated packets at their primary keys.
    pub(super) fn split(data: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
        let mut parts = Vec::new();
        let mut rest = data;
        let mut length = 0usize;
        for packet in Packets::new(data) {
            let packet = packet?;
            if matches!(packet.tag, tag::PUBLIC_KEY | tag::SECRET_KEY) && length > 0 {
                let (part, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                parts.push(part);
                (rest, length) = (behind, 0);
            }
            length = length.saturating_add(packet.raw.len());
        }
        if !rest.is_empty() {
            parts.push(rest);
        }
        Ok(parts)
    }

    /// Makes a keyring of entities, for example those fetched from a server.
    pub fn from_entities(entities: impl IntoIterator<Item = Entity>) -> Self {
        let mut keyring = Self::default();
        for entity in entities {
            keyring.push(entity);
        }
        keyring
    }

    /// The usable entities in file order.
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// Gives up the keyring for its usable entities.
    pub fn into_entities(self) -> Vec<Entity> {
        self.entities
    }

    /// Why parts of the file were skipped, in file order; for adjoining parts the last reason.
    pub fn skipped(&self) -> impl Iterator<Item = &Malformed> {
        self.parts.iter().filter_map(|part| match part {
            Part::Entity(_) => None,
            Part::Skipped(_, reason) => Some(reason),
        })
    }

    /// Index of the first entity with this primary fingerprint.
    pub fn position(&self, fingerprint: &Fingerprint) -> Option<usize> {
        self.places(fingerprint).min()
    }

    /// Whether a key with this id, primary or sub-key, may sign.
    ///
    /// As go-crypto's `KeysByIdUsage`: the self-signature must carry key flags with the sign bit.
    /// Expiry and revocation play no part here.
    pub fn has_signing_key(&self, key_id: u64) -> bool {
        self.signing_keys(key_id).next().is_some()
    }

    /// Entities with a signing key of this id, in file order.
    pub fn signers(&self, key_id: u64) -> impl Iterator<Item = &Entity> {
        self.signing_keys(key_id)
            .filter_map(|(index, _)| self.entities.get(index))
    }

    /// Entities with this primary fingerprint, in file order: one, unless the file is odd.
    pub(crate) fn copies(&self, fingerprint: &Fingerprint) -> impl Iterator<Item = &Entity> {
        self.places(fingerprint)
            .filter_map(|index| self.entities.get(index))
    }

    /// Indices of the entities with this primary fingerprint.
    fn places(&self, fingerprint: &Fingerprint) -> impl Iterator<Item = usize> {
        let places = self.by_id.get(&fingerprint.key_id()).into_iter().flatten();
        places
            .filter(|(_, key)| *key == KeyRef::Primary)
            .map(|(index, _)| *index)
            .filter(move |index| {
                let entity = self.entities.get(*index);
                entity.is_some_and(|entity| entity.fingerprint() == *fingerprint)
            })
    }

    /// Puts an entity in the place of one that is there, or at the end.
    pub(crate) fn put(&mut self, index: Option<usize>, entity: Entity) {
        let Some((index, place)) = index.and_then(|at| Some((at, self.entities.get_mut(at)?)))
        else {
            return self.push(entity);
        };
        for (key_id, _) in place.keys() {
            let known = self.by_id.entry(key_id).or_default();
            known.retain(|(at, _)| *at != index);
        }
        for (key_id, key) in entity.keys() {
            self.by_id.entry(key_id).or_default().push((index, key));
        }
        *place = entity;
    }

    /// The keyring file.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.replaced(&[], |_, _| false)
    }

    /// The keyring file without any copy of a key; everything else, skipped parts included, is
    /// unchanged.
    pub fn without(&self, fingerprint: &Fingerprint) -> Zeroizing<Vec<u8>> {
        self.replaced(&[], |_, entity| entity.fingerprint() == *fingerprint)
    }

    fn replaced(
        &self,
        packets: &[u8],
        is_meant: impl Fn(usize, &Entity) -> bool,
    ) -> Zeroizing<Vec<u8>> {
        // Sized beforehand so that growing leaves no copies of secrets behind.
        let size: usize = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Entity(at) => self.entities.get(*at).map_or(0, |e| e.raw().len()),
                Part::Skipped(bytes, _) => bytes.len(),
            })
            .sum();
        let mut out = Zeroizing::new(Vec::with_capacity(size.saturating_add(packets.len())));
        for part in &self.parts {
            let bytes = match part {
                Part::Entity(at) => match self.entities.get(*at) {
                    Some(entity) if is_meant(*at, entity) => packets,
                    Some(entity) => entity.raw(),
                    None => &[],
                },
                Part::Skipped(bytes, _) => bytes,
            };
            out.extend_from_slice(bytes);
        }
        out
    }

    pub(crate) fn signing_keys(&self, key_id: u64) -> impl Iterator<Item = (usize, KeyRef)> + '_ {
        self.by_id
            .get(&key_id)
            .into_iter()
            .flatten()
            .copied()
            .filter(|(index, key)| {
                self.entities
                    .get(*index)
                    .is_some_and(|entity| entity.may_sign(*key))
            })
    }

    fn add(&mut self, raw: &[u8]) {
        match (Entity::read(raw), self.parts.last_mut()) {
            (Ok(entity), _) => self.push(entity),
            // Neighbours are joined: a file of nothing but scraps stays one part.
            (Err(reason), Some(Part::Skipped(bytes, last))) => {
                bytes.extend_from_slice(raw);
                *last = reason;
            }
            (Err(reason), _) => {
                let bytes = Zeroizing::new(raw.to_vec());
                self.parts.push(Part::Skipped(bytes, reason));
            }
        }
    }

    fn push(&mut self, entity: Entity) {
        let index = self.entities.len();
        for (key_id, key) in entity.keys() {
            self.by_id.entry(key_id).or_default().push((index, key));
        }
        self.parts.push(Part::Entity(index));
        self.entities.push(entity);
    }
}
