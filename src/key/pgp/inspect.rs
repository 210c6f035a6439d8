//! What can be told of the keys of an entity.

use super::{
    Entity, Fingerprint, SecretState, Unusable,
    entity::KeyRef,
    packet::tag,
    public::{PublicKey, public_part},
    secret,
    signature::Signature,
};

/// A primary key or sub-key with its self-signatures.
#[derive(Clone, Copy)]
pub struct KeyInfo<'e> {
    entity: &'e Entity,
    key: KeyRef,
    public: &'e PublicKey,
}

impl Entity {
    /// The primary key.
    pub fn primary(&self) -> KeyInfo<'_> {
        KeyInfo {
            entity: self,
            key: KeyRef::Primary,
            public: self.primary_key(),
        }
    }

    /// The sub-keys in key order.
    pub fn subkeys(&self) -> impl Iterator<Item = KeyInfo<'_>> {
        self.keys()
            .filter(|(_, key)| *key != KeyRef::Primary)
            .filter_map(|(_, key)| {
                let public = self.public_key(key)?;
                Some(KeyInfo {
                    entity: self,
                    key,
                    public,
                })
            })
    }

    /// Whether the key as a whole is revoked at `now`, seconds since 1970.
    pub fn is_revoked(&self, now: u64) -> bool {
        self.primary().is_revoked(now)
    }
}

impl KeyInfo<'_> {
    /// Fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint
    }

    /// 64-bit key id.
    pub fn key_id(&self) -> u64 {
        self.public.key_id
    }

    /// Name of the algorithm in RFC 9580, section 9.1, or the older name: `RSA`, `EdDSA`.
    pub fn algorithm(&self) -> &'static str {
        self.public.algorithm_name()
    }

    /// Name of the curve, of keys whose algorithm does not name it.
    pub fn curve(&self) -> Option<&'static str> {
        self.public.curve_name()
    }

    /// Size in bits, see [`Entity::bit_length`].
    pub fn bit_length(&self) -> u16 {
        self.public.bits
    }

    /// Creation time, seconds since 1970.
    pub fn created(&self) -> u64 {
        u64::from(self.public.created)
    }

    /// When the key ends by its own self-signature, seconds since 1970.
    pub fn expires(&self) -> Option<u64> {
        let lifetime = u64::from(self.self_signature()?.key_lifetime?);
        (lifetime != 0).then(|| self.created().saturating_add(lifetime))
    }

    /// Whether the end of the key has passed at `now`.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires().is_some_and(|end| now > end)
    }

    /// Whether there is a revocation of the key or, for a sub-key, of its primary key.
    pub fn is_revoked(&self, now: u64) -> bool {
        self.entity.is_revoked_key(self.key, now)
    }

    /// Whether a signature made at `now` by this key would verify.
    ///
    /// # Errors
    /// The reason why it would not.
    pub fn usable_for_signing(&self, now: u64) -> Result<(), Unusable> {
        if !self.entity.may_sign(self.key) {
            return Err(Unusable::NotForSigning);
        }
        self.entity.check(self.key, None, now)
    }

    /// State of the secret part.
    pub fn secret_state(&self) -> SecretState {
        if self.key == KeyRef::Primary {
            return self.entity.secret_state();
        }
        self.entity
            .packets()
            .filter(|packet| packet.tag == tag::SECRET_SUBKEY)
            .find_map(|packet| {
                let (length, _) = public_part(packet.body).ok()?;
                let ours = packet.body.get(..length)? == self.public.body;
                ours.then(|| secret::state(packet.body, length).ok())?
            })
            .unwrap_or(SecretState::None)
    }

    fn self_signature(&self) -> Option<&Signature> {
        self.entity.self_signature_of(self.key)
    }
}
