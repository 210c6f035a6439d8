//! Assembles an entity from its packets and checks its self-signatures.
//!
//! Source: go-crypto `ReadEntity`, `addUserID`, `addSubkey`.

use std::collections::HashMap;

use super::{
    BadSignature, Malformed,
    entity::{Identity, Subkey, UserId},
    packet::{self, Packet, tag},
    public::PublicKey,
    signature::{Signature, kind},
};

/// Assembles an entity packet by packet.
pub(super) struct Reader<'a> {
    primary: &'a PublicKey,
    component: Component,
    /// The newest direct-key signature that names the primary key.
    direct: Option<Signature>,
    pub(super) revocations: Vec<Signature>,
    pub(super) identities: Vec<Identity>,
    /// Index of each user id, so that repeated ones are found in constant time.
    known: HashMap<Vec<u8>, usize>,
    pub(super) subkeys: Vec<Subkey>,
    /// Signatures that were checked.
    checked: usize,
}

/// What the signatures being read belong to.
enum Component {
    /// The primary key, or a packet whose signatures do not matter.
    Primary,
    UserId {
        identity: Identity,
        certified: bool,
    },
    Subkey {
        public: PublicKey,
        binding: Option<Signature>,
        revocations: Vec<Signature>,
    },
    /// A sub-key this program cannot use.
    UnknownSubkey,
}

impl<'a> Reader<'a> {
    pub(super) fn new(primary: &'a PublicKey) -> Self {
        Self {
            primary,
            component: Component::Primary,
            direct: None,
            revocations: Vec::new(),
            identities: Vec::new(),
            known: HashMap::new(),
            subkeys: Vec::new(),
            checked: 0,
        }
    }

    pub(super) fn read(&mut self, packet: &Packet<'_>) -> Result<(), Malformed> {
        match packet.tag {
            tag::SIGNATURE => return self.read_signature(packet.body),
            tag::MARKER if packet.body != packet::MARKER => {
                return Err(Malformed::Structural("invalid marker packet"));
            }
            tag::MARKER | tag::TRUST | tag::FIRST_NON_CRITICAL.. => return Ok(()),
            _ => self.end_component()?,
        }
        self.component = match packet.tag {
            tag::USER_ID if packet.body.len() > MAX_USER_ID => {
                return Err(Malformed::Structural("user ID too long"));
            }
            tag::USER_ID => Component::UserId {
                identity: Identity {
                    id: packet.body.to_vec(),
                    user_id: UserId::parse(packet.body),
                    self_signature: None,
                    revocations: Vec::new(),
                },
                certified: false,
            },
            tag::PUBLIC_SUBKEY | tag::SECRET_SUBKEY => match PublicKey::parse(packet.body) {
                Ok(public) => Component::Subkey {
                    public,
                    binding: None,
                    revocations: Vec::new(),
                },
                Err(Malformed::Unsupported(..)) => Component::UnknownSubkey,
                Err(error) => return Err(error),
            },
            _ => Component::Primary,
        };
        Ok(())
    }

    fn read_signature(&mut self, body: &[u8]) -> Result<(), Malformed> {
        if matches!(self.component, Component::UnknownSubkey) {
            return Ok(());
        }
        let signature = match Signature::parse(body) {
            Ok(signature) => signature,
            Err(Malformed::Unsupported(..) | Malformed::LocalSignature) => return Ok(()),
            Err(error) => return Err(error),
        };
        let primary = self.primary;
        let is_checked = match &self.component {
            Component::Primary => signature.kind == kind::KEY_REVOCATION,
            Component::UserId { .. } => signature.issued_by(&primary.fingerprint, primary.key_id),
            Component::Subkey { .. } => true,
            Component::UnknownSubkey => false,
        };
        self.checked = self.checked.saturating_add(usize::from(is_checked));
        if self.checked > MAX_CHECKED {
            return Err(Malformed::Structural("too many self-signatures"));
        }
        match &mut self.component {
            Component::Primary => match signature.kind {
                kind::KEY_REVOCATION => {
                    check_on_key(primary, &signature).map_err(|_| {
                        Malformed::Structural("revocation signature signed by alternate key")
                    })?;
                    self.revocations.push(signature);
                }
                kind::DIRECT
                    if newer(&signature, self.direct.as_ref())
                        && signature.issued_by(&primary.fingerprint, primary.key_id) =>
                {
                    self.direct = Some(signature);
                }
                _ => {}
            },
            Component::UserId {
                identity,
                certified,
            } => add_certification(primary, identity, certified, signature)?,
            Component::Subkey {
                public,
                binding,
                revocations,
            } => add_binding(primary, public, binding, revocations, signature)?,
            Component::UnknownSubkey => {}
        }
        Ok(())
    }

    pub(super) fn end_component(&mut self) -> Result<(), Malformed> {
        match std::mem::replace(&mut self.component, Component::Primary) {
            Component::UserId {
                identity,
                certified: true,
            } => {
                // The same user id twice: the later one counts, at the place of the first.
                let at = *self
                    .known
                    .entry(identity.id.clone())
                    .or_insert(self.identities.len());
                match self.identities.get_mut(at) {
                    Some(known) => *known = identity,
                    None => self.identities.push(identity),
                }
            }
            Component::Subkey {
                public,
                binding,
                revocations,
            } => {
                let binding = binding.ok_or(Malformed::Structural(
                    "subkey packet not followed by signature",
                ))?;
                self.subkeys.push(Subkey {
                    public,
                    binding,
                    revocations,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks what needs the whole entity; gives the direct-key signature of a version 6 key.
    pub(super) fn check_whole(&mut self) -> Result<Option<Signature>, Malformed> {
        let primary = self.primary;
        if primary.version < 6 {
            return match self.identities.is_empty() {
                true => Err(Malformed::Structural("v4 entity without any identities")),
                false => Ok(None),
            };
        }
        let signature = self.direct.take().ok_or(Malformed::Structural(
            "v6 entity without a valid direct-key signature",
        ))?;
        check_on_key(primary, &signature)
            .map_err(|error| Malformed::SelfSignature("direct-key self-signature", error))?;
        Ok(Some(signature))
    }
}

fn add_certification(
    primary: &PublicKey,
    identity: &mut Identity,
    certified: &mut bool,
    signature: Signature,
) -> Result<(), Malformed> {
    if !matches!(
        signature.kind,
        kind::GENERIC..=kind::POSITIVE | kind::USER_ID_REVOCATION
    ) {
        return Err(Malformed::Structural("user ID signature with wrong type"));
    }
    if !signature.issued_by(&primary.fingerprint, primary.key_id) {
        return Ok(());
    }
    check_certification(primary, tag::USER_ID, &identity.id, &signature)
        .map_err(|error| Malformed::SelfSignature("user ID self-signature", error))?;
    *certified = true;
    if signature.kind == kind::USER_ID_REVOCATION {
        identity.revocations.push(signature);
    } else if newer(&signature, identity.self_signature.as_ref()) {
        identity.self_signature = Some(signature);
    }
    Ok(())
}

fn add_binding(
    primary: &PublicKey,
    subkey: &PublicKey,
    binding: &mut Option<Signature>,
    revocations: &mut Vec<Signature>,
    signature: Signature,
) -> Result<(), Malformed> {
    check_binding(primary, subkey, &signature)?;
    if signature.kind == kind::SUBKEY_REVOCATION {
        revocations.push(signature);
    } else if newer(&signature, binding.as_ref()) {
        *binding = Some(signature);
    }
    Ok(())
}

/// Checks a revocation or direct-key signature of the primary key.
pub(super) fn check_on_key(primary: &PublicKey, signature: &Signature) -> Result<(), BadSignature> {
    primary.verify(signature, &[&primary.hash_prefix(), &primary.body])
}

/// Checks a signature of the primary key over one of its user ids or attributes.
pub(super) fn check_certification(
    primary: &PublicKey,
    component: u8,
    id: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    const USER_ID: u8 = 0xb4;
    const USER_ATTRIBUTE: u8 = 0xd1;
    let octet = match component {
        tag::USER_ID => USER_ID,
        _ => USER_ATTRIBUTE,
    };
    let length = u32::try_from(id.len()).unwrap_or(u32::MAX);
    let prefix = [&[octet], &length.to_be_bytes()[..]].concat();
    primary.verify(
        signature,
        &[&primary.hash_prefix(), &primary.body, &prefix, id],
    )
}

/// Checks a binding or revocation of a sub-key; a signing sub-key must have agreed.
pub(super) fn check_binding(
    primary: &PublicKey,
    subkey: &PublicKey,
    signature: &Signature,
) -> Result<(), Malformed> {
    if !matches!(
        signature.kind,
        kind::SUBKEY_BINDING | kind::SUBKEY_REVOCATION
    ) {
        return Err(Malformed::Structural("subkey signature with wrong type"));
    }
    let parts = [
        &primary.hash_prefix()[..],
        &primary.body,
        &subkey.hash_prefix(),
        &subkey.body,
    ];
    let invalid = |error: BadSignature| Malformed::SelfSignature("subkey signature", error);
    primary.verify(signature, &parts).map_err(invalid)?;
    if signature.may_sign() {
        // Without the sub-key's own consent anyone could claim it as theirs.
        let embedded = signature.embedded.as_ref().ok_or(Malformed::Structural(
            "subkey signature invalid: openpgp: invalid data: signing subkey is missing cross-signature",
        ))?;
        subkey
            .verify(embedded, &parts)
            .map_err(|error| Malformed::SelfSignature("cross-signature", error))?;
    }
    Ok(())
}

fn newer(signature: &Signature, known: Option<&Signature>) -> bool {
    known.is_none_or(|known| signature.created > known.created)
}

/// Self-signatures of one key; the slowest kinds take some hundredths of a second to check each.
pub(super) const MAX_CHECKED: usize = 2000;
/// GnuPG's own limit; a hash over the user id is made per self-signature.
const MAX_USER_ID: usize = 2048;
