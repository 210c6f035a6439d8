//! News about a key that is already known: user ids, sub-keys, signatures, revocations.

use std::collections::{HashMap, HashSet};

use zeroize::Zeroizing;

use super::{
    Entity, Error, Fingerprint, Malformed,
    armor::key_blocks,
    packet::{self, Packet, Packets, tag},
    public::{PublicKey, public_part},
    reader::{check_binding, check_certification, check_on_key},
    signature::{Signature, kind},
};

/// A transferable key from outside, or a revocation without its key.
///
/// Unlike an [`Entity`] it need not be usable alone: key servers send keys without user ids.
pub struct Update {
    raw: Zeroizing<Vec<u8>>,
    target: Target,
    entity: Result<Entity, Malformed>,
}

enum Target {
    Key(Fingerprint),
    /// The revocations; each may be of another key.
    Revocations(Vec<Signature>),
}

impl Update {
    /// The key as it is, if it is usable alone.
    ///
    /// # Errors
    /// Why it is not.
    pub fn entity(&self) -> Result<&Entity, &Malformed> {
        self.entity.as_ref()
    }

    /// Fingerprint of the key; nothing for a bare revocation.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.target {
            Target::Key(fingerprint) => Some(*fingerprint),
            Target::Revocations(_) => None,
        }
    }

    /// The key id that a bare revocation names.
    pub fn revoked_key_id(&self) -> Option<u64> {
        match &self.target {
            Target::Key(_) => None,
            Target::Revocations(signatures) => signatures.iter().find_map(|s| s.issuer),
        }
    }

    /// Whether this is about a key; a bare revocation has to hold under it.
    pub fn is_about(&self, stored: &Entity) -> bool {
        match &self.target {
            Target::Key(fingerprint) => *fingerprint == stored.fingerprint(),
            Target::Revocations(signatures) => signatures
                .iter()
                .any(|signature| is_own_revocation(stored.primary_key(), signature)),
        }
    }
}

/// Reads updates from a file that is binary or armored: keys, and revocations without key as
/// `gpg --gen-revoke` writes them.
///
/// # Errors
/// As [`entities_from_armored_or_binary`](super::entities_from_armored_or_binary), but keys that
/// are not usable alone are no error here.
pub fn updates_from_armored_or_binary(data: &[u8]) -> Result<Vec<Update>, Error> {
    if let Ok(updates) = split(data) {
        return Ok(updates);
    }
    let mut updates = Vec::new();
    for body in key_blocks(data) {
        updates.append(&mut split(&body?)?);
    }
    Ok(updates)
}

/// Adds to a stored key what an update brings; `None` if that is nothing.
///
/// Added are signatures of the key itself that hold, with the user ids, user attributes and
/// sub-keys that such signatures bind, and certifications by other keys, which nobody can check
/// here. Everything that is stored stays where it is, bytes and order. A packet that is already
/// there is not added again. Secret parts are neither added nor changed, and a secret key gets no
/// sub-keys whose secret part it does not have.
///
/// # Errors
/// [`Error::OtherKey`] if the update is not about this key, [`Error::Malformed`].
pub fn merge(stored: &Entity, update: &Update) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    if !update.is_about(stored) {
        return Err(Error::OtherKey(stored.fingerprint()));
    }
    let mut parts = parts(stored.raw());
    let mut index: HashMap<Name<'_>, usize> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        // Of a user id that is there twice the later one counts.
        index.insert(part.name, at);
    }
    let mut new_ids = Vec::new();
    let mut new_subkeys = Vec::new();
    let mut changed = false;
    for news in self::parts(&update.raw) {
        match index.get(&news.name) {
            Some(at) => {
                let Some(part) = parts.get_mut(*at) else {
                    continue;
                };
                let added = good_signatures(stored.primary_key(), &news, &part.known());
                changed |= !added.is_empty();
                part.added.extend(added);
            }
            None => {
                let signatures = good_signatures(stored.primary_key(), &news, &HashSet::new());
                let bound = signatures
                    .iter()
                    .any(|body| binds(stored.primary_key(), body));
                let Some((head, list)) = news.head().zip(match news.name {
                    Name::Id(..) => Some(&mut new_ids),
                    Name::Subkey(_) if !stored.has_secret() => Some(&mut new_subkeys),
                    _ => None,
                }) else {
                    continue;
                };
                if bound {
                    list.push((head, signatures));
                    changed = true;
                }
            }
        }
    }
    if !changed {
        return Ok(None);
    }
    let last_id = parts
        .iter()
        .rposition(|part| matches!(part.name, Name::Id(..)))
        .unwrap_or(0);
    // Sized beforehand so that growing leaves no copies of secrets behind.
    let room = stored.raw().len().saturating_add(update.raw.len());
    let mut out = Zeroizing::new(Vec::with_capacity(room.saturating_mul(2)));
    for (at, part) in parts.iter().enumerate() {
        for packet in &part.packets {
            out.extend_from_slice(packet.raw);
        }
        for body in &part.added {
            packet::write(&mut out, tag::SIGNATURE, body);
        }
        if at == last_id {
            write_new(&mut out, &new_ids);
        }
    }
    write_new(&mut out, &new_subkeys);
    // Nothing that came from outside may cost the stored key.
    Entity::read(&out)?;
    Ok(Some(out))
}

/// A new component: tag and body of its packet, and its signatures.
type New<'a> = ((u8, &'a [u8]), Vec<&'a [u8]>);

fn write_new(out: &mut Vec<u8>, list: &[New<'_>]) {
    for ((tag, body), signatures) in list {
        packet::write(out, *tag, body);
        for signature in signatures {
            packet::write(out, tag::SIGNATURE, signature);
        }
    }
}

/// What a component is recognised by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    Primary,
    /// Tag and body of a user id or user attribute.
    Id(u8, &'a [u8]),
    /// The public part.
    Subkey(&'a [u8]),
    /// A packet that cannot be merged, by its place.
    Other(usize),
}

/// A packet with the signatures behind it.
struct Part<'a> {
    name: Name<'a>,
    packets: Vec<Packet<'a>>,
    added: Vec<&'a [u8]>,
}

impl<'a> Part<'a> {
    fn signatures(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.packets
            .iter()
            .filter(|packet| packet.tag == tag::SIGNATURE)
            .map(|packet| packet.body)
    }

    fn known(&self) -> HashSet<&'a [u8]> {
        self.signatures()
            .chain(self.added.iter().copied())
            .collect()
    }

    /// Tag and body to store for a new component.
    fn head(&self) -> Option<(u8, &'a [u8])> {
        match self.name {
            Name::Id(tag, body) => Some((tag, body)),
            Name::Subkey(public) => Some((tag::PUBLIC_SUBKEY, public)),
            Name::Primary | Name::Other(_) => None,
        }
    }
}

/// Groups packets; those in front of the first key or user id belong to the primary key.
fn parts(raw: &[u8]) -> Vec<Part<'_>> {
    let mut parts = vec![Part {
        name: Name::Primary,
        packets: Vec::new(),
        added: Vec::new(),
    }];
    for (at, packet) in Packets::new(raw).filter_map(Result::ok).enumerate() {
        let name = match packet.tag {
            tag::USER_ID | tag::USER_ATTRIBUTE => Some(Name::Id(packet.tag, packet.body)),
            tag::PUBLIC_SUBKEY | tag::SECRET_SUBKEY => Some(
                public_part(packet.body)
                    .ok()
                    .and_then(|(length, _)| packet.body.get(..length))
                    .map_or(Name::Other(at), Name::Subkey),
            ),
            _ => None,
        };
        if let Some(name) = name {
            parts.push(Part {
                name,
                packets: Vec::new(),
                added: Vec::new(),
            });
        }
        if let Some(part) = parts.last_mut() {
            part.packets.push(packet);
        }
    }
    parts
}

/// The signatures of a component that may be stored and are not known, each once.
fn good_signatures<'a>(
    primary: &PublicKey,
    news: &Part<'a>,
    known: &HashSet<&[u8]>,
) -> Vec<&'a [u8]> {
    let subkey = match news.name {
        Name::Subkey(public) => PublicKey::parse(public).ok(),
        _ => None,
    };
    let mut seen = HashSet::new();
    news.signatures()
        .filter(|body| !known.contains(body) && seen.insert(*body))
        .filter(|body| {
            // What cannot be read, and what is not meant for others, is left out.
            let Ok(signature) = Signature::parse(body) else {
                return false;
            };
            let own = signature.issued_by(&primary.fingerprint, primary.key_id);
            match (news.name, signature.kind) {
                (Name::Primary, kind::KEY_REVOCATION) => is_own_revocation(primary, &signature),
                (Name::Primary, kind::DIRECT) => !own || check_on_key(primary, &signature).is_ok(),
                (Name::Id(tag, id), kind::GENERIC..=kind::POSITIVE | kind::USER_ID_REVOCATION) => {
                    !own || check_certification(primary, tag, id, &signature).is_ok()
                }
                (Name::Subkey(_), _) => subkey
                    .as_ref()
                    .is_some_and(|subkey| check_binding(primary, subkey, &signature).is_ok()),
                _ => false,
            }
        })
        .collect()
}

/// Whether one of these checked signatures makes a component part of the key.
fn binds(primary: &PublicKey, body: &[u8]) -> bool {
    Signature::parse(body).is_ok_and(|signature| {
        matches!(
            signature.kind,
            kind::GENERIC..=kind::POSITIVE | kind::SUBKEY_BINDING
        ) && signature.issued_by(&primary.fingerprint, primary.key_id)
    })
}

fn is_own_revocation(primary: &PublicKey, signature: &Signature) -> bool {
    signature.kind == kind::KEY_REVOCATION
        && signature.issued_by(&primary.fingerprint, primary.key_id)
        && check_on_key(primary, signature).is_ok()
}

/// Cuts concatenated packets at their primary keys.
fn split(data: &[u8]) -> Result<Vec<Update>, Malformed> {
    let mut updates = Vec::new();
    let mut rest = data;
    let mut length = 0usize;
    for packet in Packets::new(data) {
        let packet = packet?;
        if matches!(packet.tag, tag::PUBLIC_KEY | tag::SECRET_KEY) && length > 0 {
            let (head, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            updates.push(read(head)?);
            (rest, length) = (behind, 0);
        }
        length = length.saturating_add(packet.raw.len());
    }
    if !rest.is_empty() {
        updates.push(read(rest)?);
    }
    Ok(updates)
}

fn read(raw: &[u8]) -> Result<Update, Malformed> {
    const FAULT: Malformed = Malformed::Structural("first packet was not a public/private key");
    let first = Packets::new(raw).next().ok_or(Malformed::Truncated)??;
    let target = match first.tag {
        tag::PUBLIC_KEY | tag::SECRET_KEY => Target::Key(PublicKey::parse(first.body)?.fingerprint),
        _ => {
            let signatures: Vec<Signature> = Packets::new(raw)
                .filter_map(Result::ok)
                .filter(|packet| packet.tag == tag::SIGNATURE)
                .filter_map(|packet| Signature::parse(packet.body).ok())
                .filter(|signature| signature.kind == kind::KEY_REVOCATION)
                .collect();
            if signatures.is_empty() {
                return Err(FAULT);
            }
            Target::Revocations(signatures)
        }
    };
    Ok(Update {
        raw: Zeroizing::new(raw.to_vec()),
        entity: Entity::read(raw),
        target,
    })
}
