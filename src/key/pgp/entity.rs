//! One transferable key with its user ids and sub-keys.

use zeroize::Zeroizing;

use super::{
    Error, Fingerprint, Malformed, SigningKey,
    packet::{self, Packet, Packets, tag},
    public::{PublicKey, public_part},
    reader::Reader,
    secret,
    signature::Signature,
};

/// A transferable key: primary key, user ids, sub-keys and their self-signatures.
///
/// The original packets are kept; secret bytes are wiped on drop.
#[derive(Clone)]
pub struct Entity {
    raw: Zeroizing<Vec<u8>>,
    primary: PublicKey,
    secret: SecretState,
    direct: Option<Signature>,
    revocations: Vec<Signature>,
    identities: Vec<Identity>,
    subkeys: Vec<Subkey>,
}

/// What is known of the secret part of a primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretState {
    /// A public key.
    None,
    /// Not protected.
    Clear,
    /// Protected by a passphrase.
    Encrypted,
    /// A GnuPG stub: the secret part is on a smartcard or was left out.
    Stub,
}

/// A user id, split as go-crypto does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId {
    /// The whole text; bytes that are not UTF-8 are replaced.
    pub raw: String,
    /// Text in front of the comment or address.
    pub name: String,
    /// Text in parentheses.
    pub comment: String,
    /// Text in angle brackets, or a bare address.
    pub email: String,
}

/// Why signatures of a key do not count at a given time; the sentences are go-crypto's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A notation marked critical that nobody here understands.
    #[error("openpgp: invalid signature: unknown critical notation: {0}")]
    CriticalNotation(String),
    /// Primary key, signing sub-key or primary user id is revoked.
    #[error("openpgp: signature made by revoked key")]
    Revoked,
    /// Primary key or signing sub-key is expired or not yet valid.
    #[error("openpgp: key expired")]
    KeyExpired,
    /// The signature or a self-signature is expired or not yet valid.
    #[error("openpgp: signature expired")]
    SignatureExpired,
    /// The primary key carries no key flags with the sign bit.
    #[error("the primary key is not marked for signing")]
    NotForSigning,
}

/// A key of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRef {
    Primary,
    Subkey(usize),
}

#[derive(Clone)]
pub(super) struct Identity {
    pub(super) id: Vec<u8>,
    pub(super) user_id: UserId,
    pub(super) self_signature: Option<Signature>,
    pub(super) revocations: Vec<Signature>,
}

#[derive(Clone)]
pub(super) struct Subkey {
    pub(super) public: PublicKey,
    pub(super) binding: Signature,
    pub(super) revocations: Vec<Signature>,
}

impl Entity {
    /// Fingerprint of the primary key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.primary.fingerprint
    }

    /// 64-bit key id of the primary key.
    pub fn key_id(&self) -> u64 {
        self.primary.key_id
    }

    /// User ids with a valid self-signature, in key order.
    pub fn user_ids(&self) -> impl Iterator<Item = &UserId> {
        self.identities.iter().map(|identity| &identity.user_id)
    }

    /// The first user id flagged as primary, else the first.
    pub fn primary_user_id(&self) -> Option<&UserId> {
        let flagged = self.identities.iter().find(|identity| {
            identity
                .self_signature
                .as_ref()
                .is_some_and(|signature| signature.primary_user_id == Some(true))
        });
        flagged
            .or(self.identities.first())
            .map(|identity| &identity.user_id)
    }

    /// Creation time of the primary key, seconds since 1970.
    pub fn created(&self) -> u64 {
        u64::from(self.primary.created)
    }

    /// Size as Singularity lists it: bits of the RSA modulus, of DSA's p, of the encoded point.
    pub fn bit_length(&self) -> u16 {
        self.primary.bits
    }

    /// Whether there is a secret packet for the primary key, stubs included.
    pub fn has_secret(&self) -> bool {
        self.secret != SecretState::None
    }

    /// State of the primary key's secret part.
    pub fn secret_state(&self) -> SecretState {
        self.secret
    }

    /// The original packets.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The packets as they are, each with a new-format header as go-crypto writes keyrings.
    pub fn rewritten(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.raw.len().saturating_mul(2)));
        for packet in self.packets() {
            packet::write(&mut out, packet.tag, packet.body);
        }
        out
    }

    /// The transferable public key: secret key packets become public ones, all else is unchanged
    /// but for packet headers, which are written anew in the new format. A secret sub-key of
    /// unknown algorithm is left out with its signatures.
    pub fn public_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.raw.len());
        let mut leave_out = false;
        for packet in self.packets() {
            let public_tag = match packet.tag {
                tag::SECRET_KEY => tag::PUBLIC_KEY,
                tag::SECRET_SUBKEY => tag::PUBLIC_SUBKEY,
                tag::SIGNATURE if leave_out => continue,
                _ => {
                    leave_out = false;
                    packet::write(&mut out, packet.tag, packet.body);
                    continue;
                }
            };
            let public = public_part(packet.body)
                .ok()
                .and_then(|(length, _)| packet.body.get(..length));
            leave_out = public.is_none();
            if let Some(public) = public {
                packet::write(&mut out, public_tag, public);
            }
        }
        out
    }

    /// Opens the primary key for signing; sub-keys are never used.
    ///
    /// # Errors
    /// [`Error::NoSecret`], [`Error::Stub`], [`Error::Locked`] without a passphrase,
    /// [`Error::Checksum`] for a wrong one.
    pub fn unlock(&self, passphrase: Option<&[u8]>) -> Result<SigningKey, Error> {
        let packet = match self.secret {
            SecretState::None => None,
            SecretState::Stub => return Err(Error::Stub(self.fingerprint())),
            SecretState::Clear | SecretState::Encrypted => {
                self.packets().find(|packet| packet.tag == tag::SECRET_KEY)
            }
        };
        let packet = packet.ok_or(Error::NoSecret(self.fingerprint()))?;
        SigningKey::unlock(&self.primary, packet.body, passphrase)
    }

    /// Whether a signature made now by the primary key would verify.
    ///
    /// # Errors
    /// The reason why it would not.
    pub fn usable_for_signing(&self, now: u64) -> Result<(), Unusable> {
        if !self.may_sign(KeyRef::Primary) {
            return Err(Unusable::NotForSigning);
        }
        self.check(KeyRef::Primary, None, now)
    }

    /// Whether the primary key or a sub-key has this 64-bit id.
    pub fn has_key_id(&self, key_id: u64) -> bool {
        self.keys().any(|(id, _)| id == key_id)
    }

    /// Whether the primary key or a sub-key has this fingerprint, in hexadecimal of any case.
    pub fn has_fingerprint(&self, text: &str) -> bool {
        self.keys()
            .filter_map(|(_, key)| self.public_key(key))
            .any(|key| key.fingerprint.to_string().eq_ignore_ascii_case(text))
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        Packets::new(&self.raw).filter_map(Result::ok)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (u64, KeyRef)> + '_ {
        let subkeys = self.subkeys.iter().enumerate();
        std::iter::once((self.primary.key_id, KeyRef::Primary))
            .chain(subkeys.map(|(at, subkey)| (subkey.public.key_id, KeyRef::Subkey(at))))
    }

    pub(crate) fn public_key(&self, key: KeyRef) -> Option<&PublicKey> {
        match key {
            KeyRef::Primary => Some(&self.primary),
            KeyRef::Subkey(at) => self.subkeys.get(at).map(|subkey| &subkey.public),
        }
    }

    /// Whether the key's self-signature carries the sign flag.
    pub(crate) fn may_sign(&self, key: KeyRef) -> bool {
        match key {
            KeyRef::Primary => self.self_signature().is_some_and(Signature::may_sign),
            KeyRef::Subkey(at) => self
                .subkeys
                .get(at)
                .is_some_and(|subkey| subkey.binding.may_sign()),
        }
    }

    /// Judges key and signature at `now`, in go-crypto's order.
    ///
    /// Source: go-crypto `checkMessageSignatureDetails`.
    pub(crate) fn check(
        &self,
        key: KeyRef,
        signature: Option<&Signature>,
        now: u64,
    ) -> Result<(), Unusable> {
        // Only a user id without any certification has no self-signature: it is revoked.
        let own = self.self_signature().ok_or(Unusable::Revoked)?;
        let subkey = match key {
            KeyRef::Primary => None,
            KeyRef::Subkey(at) => self.subkeys.get(at),
        };
        let signatures: Vec<&Signature> = signature
            .into_iter()
            .chain([own])
            .chain(subkey.map(|subkey| &subkey.binding))
            .chain(subkey.and_then(|subkey| subkey.binding.embedded.as_deref()))
            .collect();
        let notation = signatures
            .iter()
            .find_map(|signature| signature.critical_notations.first());
        if let Some(name) = notation {
            return Err(Unusable::CriticalNotation(name.clone()));
        }
        let identity = self.primary_identity();
        if revoked(&self.revocations, now)
            || subkey.is_some_and(|subkey| revoked(&subkey.revocations, now))
            || identity.is_some_and(|identity| revoked(&identity.revocations, now))
        {
            return Err(Unusable::Revoked);
        }
        if self.primary.expired(own, now)
            || subkey.is_some_and(|subkey| subkey.public.expired(&subkey.binding, now))
        {
            return Err(Unusable::KeyExpired);
        }
        if signatures.iter().any(|signature| signature.expired(now)) {
            return Err(Unusable::SignatureExpired);
        }
        // Behind all that go-crypto looks at, so that its reasons stay. Nothing in a signature
        // proves when it was made: whoever stole the key signs for the time before, too.
        if revoked_later(&self.revocations, now)
            || subkey.is_some_and(|subkey| revoked_later(&subkey.revocations, now))
            || identity.is_some_and(|identity| revoked_later(&identity.revocations, now))
        {
            return Err(Unusable::Revoked);
        }
        Ok(())
    }

    /// Whether this copy of an entity says that the key with this fingerprint is revoked, or the
    /// primary key.
    pub(crate) fn revokes(&self, fingerprint: &Fingerprint, now: u64) -> bool {
        let keys = self.keys().map(|(_, key)| key);
        let mut named = keys.filter(|key| {
            *key == KeyRef::Primary
                || self
                    .public_key(*key)
                    .is_some_and(|public| public.fingerprint == *fingerprint)
        });
        named.any(|key| self.is_revoked_key(key, now))
    }

    /// Whether this copy of an entity has a newer signature than `other` by which the key with
    /// this fingerprint, or the primary key, has expired.
    pub(crate) fn ends_before(&self, other: &Self, fingerprint: &Fingerprint, now: u64) -> bool {
        let ended = |key: &PublicKey, new: &Signature, old: &Signature| {
            new.created > old.created && key.expired(new, now)
        };
        let own = self.self_signature().zip(other.self_signature());
        let same = |subkey: &&Subkey| subkey.public.fingerprint == *fingerprint;
        let subkey = self.subkeys.iter().find(same);
        let subkey = subkey.zip(other.subkeys.iter().find(same));
        own.is_some_and(|(new, old)| ended(&self.primary, new, old))
            || subkey.is_some_and(|(new, old)| ended(&new.public, &new.binding, &old.binding))
    }

    pub(super) fn primary_key(&self) -> &PublicKey {
        &self.primary
    }

    /// The signature that carries the properties of a key.
    pub(super) fn self_signature_of(&self, key: KeyRef) -> Option<&Signature> {
        match key {
            KeyRef::Primary => self.self_signature(),
            KeyRef::Subkey(at) => self.subkeys.get(at).map(|subkey| &subkey.binding),
        }
    }

    /// Whether a key or its primary key is revoked; user ids play no part.
    pub(super) fn is_revoked_key(&self, key: KeyRef, now: u64) -> bool {
        let subkey = match key {
            KeyRef::Primary => None,
            KeyRef::Subkey(at) => self.subkeys.get(at),
        };
        let known = |all: &[Signature]| revoked(all, now) || revoked_later(all, now);
        known(&self.revocations) || subkey.is_some_and(|subkey| known(&subkey.revocations))
    }

    /// The signature that carries the primary key's properties.
    fn self_signature(&self) -> Option<&Signature> {
        match self.primary.version {
            6 => self.direct.as_ref(),
            _ => self.primary_identity()?.self_signature.as_ref(),
        }
    }

    /// Fewest revocations first, then the primary flag, then the newest; ties go to key order.
    fn primary_identity(&self) -> Option<&Identity> {
        if self.primary.version == 6 {
            return None;
        }
        self.identities
            .iter()
            .reduce(|best, next| if next.preferred_to(best) { next } else { best })
    }

    /// Reads the packets of one entity, the primary key first.
    ///
    /// # Errors
    /// Whatever makes go-crypto skip the entity.
    pub(crate) fn read(raw: &[u8]) -> Result<Self, Malformed> {
        let mut packets = Packets::new(raw);
        let first = packets.next().ok_or(Malformed::Truncated)??;
        if !matches!(first.tag, tag::PUBLIC_KEY | tag::SECRET_KEY) {
            return Err(Malformed::Structural(
                "first packet was not a public/private key",
            ));
        }
        let primary = PublicKey::parse(first.body)?;
        if !primary.can_sign() {
            return Err(Malformed::Structural(
                "primary key cannot be used for signatures",
            ));
        }
        let secret = match first.tag {
            tag::PUBLIC_KEY => SecretState::None,
            _ => secret::state(first.body, primary.body.len())?,
        };
        let mut reader = Reader::new(&primary);
        for packet in packets {
            reader.read(&packet?)?;
        }
        reader.end_component()?;
        let direct = reader.check_whole()?;
        let revocations = reader.revocations;
        let (identities, subkeys) = (reader.identities, reader.subkeys);
        Ok(Self {
            raw: Zeroizing::new(raw.to_vec()),
            primary,
            secret,
            direct,
            revocations,
            identities,
            subkeys,
        })
    }
}

impl UserId {
    /// Splits `Name (Comment) <address>`.
    ///
    /// Source: go-crypto `parseUserId`.
    pub fn parse(id: &[u8]) -> Self {
        let part = |range: Option<(usize, usize)>| {
            let bytes = range.and_then(|(start, end)| id.get(start..end));
            String::from_utf8_lossy(bytes.unwrap_or_default())
                .trim()
                .to_owned()
        };
        let find = |from: usize, wanted: &[u8]| {
            let tail = id.get(from..).unwrap_or_default();
            let at = tail.iter().position(|byte| wanted.contains(byte));
            at.map_or(id.len(), |at| from.saturating_add(at))
        };
        let name_end = if id.is_empty() { 0 } else { find(0, b"(<") };
        let (mut comment, mut email) = (None, None);
        let mut mail_start = name_end;
        if id.get(name_end) == Some(&b'(') {
            // The first character of the comment may be the closing parenthesis.
            let start = name_end.saturating_add(1);
            let end = find(start, b")");
            comment = Some((start, end));
            mail_start = find(end.saturating_add(1), b"<");
        }
        if id.get(mail_start) == Some(&b'<') {
            let start = mail_start.saturating_add(1);
            email = Some((start, find(start, b">")));
        }
        let (mut name, mut email) = (part(Some((0, name_end))), part(email));
        if email.is_empty() && name.contains('@') {
            email = std::mem::take(&mut name);
        }
        Self {
            raw: String::from_utf8_lossy(id).into_owned(),
            name,
            comment: part(comment),
            email,
        }
    }
}

impl Identity {
    /// Source: go-crypto `shouldPreferIdentity`.
    fn preferred_to(&self, best: &Self) -> bool {
        if self.revocations.len() != best.revocations.len() {
            return self.revocations.len() < best.revocations.len();
        }
        let (Some(mine), Some(theirs)) = (&self.self_signature, &best.self_signature) else {
            return best.self_signature.is_none() && self.self_signature.is_some();
        };
        let flag = |signature: &Signature| signature.primary_user_id == Some(true);
        (flag(mine), mine.created) > (flag(theirs), theirs.created)
    }
}

/// Whether there is a revocation that was made behind the time of judgement.
fn revoked_later(revocations: &[Signature], now: u64) -> bool {
    let mut made = revocations.iter().map(|signature| signature.created);
    made.any(|created| u64::from(created) > now)
}

/// A compromised key is revoked from the start, whatever the date of the revocation.
fn revoked(revocations: &[Signature], now: u64) -> bool {
    const COMPROMISED: u8 = 2;
    revocations.iter().any(|signature| {
        signature.revocation_reason == Some(COMPROMISED) || !signature.expired(now)
    })
}
