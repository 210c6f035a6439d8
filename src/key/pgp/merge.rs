//! News about a key that is already known: user ids, sub-keys, signatures, revocations.

use std::collections::{HashMap, HashSet};

use zeroize::Zeroizing;

use super::{
    Entity, Error, Fingerprint, Keyring, Malformed,
    armor::key_blocks,
    packet::{self, Packet, Packets, tag},
    public::{PublicKey, public_part},
    reader::{MAX_CHECKED, check_binding, check_certification, check_on_key},
    signature::{Signature, kind},
};

/// A transferable key from outside, or a revocation without its key.
///
/// Unlike an [`Entity`] it need not be usable alone: key servers send keys without user ids.
pub struct Update {
    raw: Zeroizing<Vec<u8>>,
    with_foreign: bool,
    target: Target,
}

enum Target {
    Key(Fingerprint),
    /// The revocations; each may be of another key.
    Revocations(Vec<Signature>),
}

impl Update {
    /// The key as it is, if it is usable alone. All its signatures are checked here, and not
    /// before: of what a server sends most may be of no use.
    ///
    /// # Errors
    /// Why it is not.
    pub fn entity(&self) -> Result<Entity, Malformed> {
        Entity::read(&self.raw)
    }

    /// Whether it comes with a secret part of the key.
    pub fn has_secret(&self) -> bool {
        let first = Packets::new(&self.raw).next();
        first.is_some_and(|packet| packet.is_ok_and(|packet| packet.tag == tag::SECRET_KEY))
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

    /// Leaves out certifications by other keys, which nobody can check and of
    /// which a key server may send any number.
    #[must_use]
    pub fn without_foreign_signatures(mut self) -> Self {
        self.with_foreign = false;
        self
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
    let mut budget = MAX_CHECKED;
    for news in self::parts(&update.raw) {
        match index.get(&news.name) {
            Some(at) => {
                let Some(part) = parts.get_mut(*at) else {
                    continue;
                };
                let added = good_signatures(
                    stored.primary_key(),
                    &news,
                    &part.known(),
                    update.with_foreign,
                    &mut budget,
                );
                changed |= !added.is_empty();
                part.added.extend(added);
            }
            None => {
                let signatures = good_signatures(
                    stored.primary_key(),
                    &news,
                    &HashSet::new(),
                    update.with_foreign,
                    &mut budget,
                );
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

/// The signatures of a component that may be stored and are not known, each once. `budget` is the
/// number of those that may still be checked.
///
/// Two signatures of the key itself that sign the same say the same: what stands unsigned in a
/// packet can be anything, and who sends keys could make any number of packets of one signature.
fn good_signatures<'a>(
    primary: &PublicKey,
    news: &Part<'a>,
    known: &HashSet<&[u8]>,
    with_foreign: bool,
    budget: &mut usize,
) -> Vec<&'a [u8]> {
    let subkey = match news.name {
        Name::Subkey(public) => PublicKey::parse(public).ok(),
        _ => None,
    };
    let holds = |signature: &Signature| match (news.name, signature.kind) {
        (Name::Primary, kind::KEY_REVOCATION) => is_own_revocation(primary, signature),
        (Name::Primary, kind::DIRECT) => check_on_key(primary, signature).is_ok(),
        (Name::Id(tag, id), kind::GENERIC..=kind::POSITIVE | kind::USER_ID_REVOCATION) => {
            check_certification(primary, tag, id, signature).is_ok()
        }
        (Name::Subkey(_), _) => subkey
            .as_ref()
            .is_some_and(|subkey| check_binding(primary, subkey, signature).is_ok()),
        _ => false,
    };
    let is_own = |signature: &Signature| signature.issued_by(&primary.fingerprint, primary.key_id);
    // Stored ones hold: else the entity would not have been read.
    let mut said: HashSet<Vec<u8>> = known
        .iter()
        .filter_map(|body| Signature::parse(body).ok())
        .filter(is_own)
        .map(|signature| signature.suffix)
        .collect();
    let mut seen = HashSet::new();
    let mut good = Vec::new();
    for body in news.signatures() {
        if known.contains(body) || !seen.insert(body) {
            continue;
        }
        // What cannot be read, and what is not meant for others, is left out.
        let Ok(signature) = Signature::parse(body) else {
            continue;
        };
        if !is_own(&signature) && !matches!(news.name, Name::Subkey(_)) {
            // Nobody can check it here.
            let fits = matches!(
                (news.name, signature.kind),
                (Name::Primary, kind::DIRECT)
                    | (
                        Name::Id(..),
                        kind::GENERIC..=kind::POSITIVE | kind::USER_ID_REVOCATION
                    )
            );
            if fits && with_foreign {
                good.push(body);
            }
            continue;
        }
        if !is_own(&signature) && !with_foreign || said.contains(&signature.suffix) {
            continue;
        }
        let Some(left) = budget.checked_sub(1) else {
            break;
        };
        *budget = left;
        if holds(&signature) {
            good.push(body);
            said.insert(signature.suffix);
        }
    }
    good
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

fn split(data: &[u8]) -> Result<Vec<Update>, Malformed> {
    Keyring::split(data)?.into_iter().map(read).collect()
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
        with_foreign: true,
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::pgp::{
        ArmorKind, Reason, encode_armor, revocation,
        signature::write_subpacket,
        tests::{NOW, fixture},
    };
    use sequoia_openpgp::types::HashAlgorithm;

    fn entity(raw: &[u8]) -> Entity {
        let mut entities = Keyring::parse(raw).unwrap().into_entities();
        assert_eq!(entities.len(), 1);
        entities.remove(0)
    }

    fn update(raw: &[u8]) -> Update {
        let mut updates = updates_from_armored_or_binary(raw).unwrap();
        assert_eq!(updates.len(), 1);
        updates.remove(0)
    }

    fn merged(stored: &[u8], news: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        merge(&entity(stored), &update(news)).unwrap()
    }

    fn bodies(raw: &[u8]) -> Vec<(u8, &[u8])> {
        let packets = Packets::new(raw).map(Result::unwrap);
        packets.map(|p| (p.tag, p.body)).collect()
    }

    /// Only some packets of a key, by their place.
    fn picked(raw: &[u8], keep: impl Fn(usize, u8) -> bool) -> Vec<u8> {
        let packets = Packets::new(raw).map(Result::unwrap).enumerate();
        packets
            .filter(|(at, packet)| keep(*at, packet.tag))
            .flat_map(|(_, packet)| packet.raw.to_vec())
            .collect()
    }

    #[test]
    fn a_poor_copy_becomes_the_full_key_again() {
        // User ids and a photo, sub-keys, revocations of key, sub-key and user id.
        for name in [
            "uids", "subkey", "revoked", "revsub", "revuid", "oldsub", "rsa",
        ] {
            let full = fixture(&format!("gpg/{name}.pub"));
            let first_id = bodies(&full)
                .iter()
                .position(|(tag, _)| *tag == tag::USER_ID)
                .unwrap();
            let poor = picked(&full, |at, _| {
                at == 0 || at == first_id || at == first_id + 1
            });
            let packets = merged(&poor, &full);
            let packets = packets.unwrap_or_else(|| Zeroizing::new(poor.clone()));
            let sorted = |raw: &[u8]| {
                let mut list: Vec<_> = bodies(raw)
                    .into_iter()
                    .map(|(tag, body)| (tag, body.to_vec()))
                    .collect();
                list.sort();
                list
            };
            assert_eq!(sorted(&packets), sorted(&full), "{name}");
            assert!(packets.starts_with(&poor[..picked(&full, |at, _| at == 0).len()]));
            assert_eq!(merged(&packets, &full), None, "{name}: twice");
            assert_eq!(
                entity(&packets).usable_for_signing(NOW),
                entity(&full).usable_for_signing(NOW),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_stored_stays_in_its_place() {
        let full = fixture("gpg/uids.pub");
        // Without the second user id and its certification.
        let ids: Vec<usize> = bodies(&full)
            .iter()
            .enumerate()
            .filter(|(_, (tag, _))| *tag == tag::USER_ID)
            .map(|(at, _)| at)
            .collect();
        let poor = picked(&full, |at, _| !(ids[1]..ids[2]).contains(&at));
        let packets = merged(&poor, &full).unwrap();
        let left: Vec<_> = bodies(&packets)
            .into_iter()
            .filter(|packet| bodies(&poor).contains(packet))
            .collect();
        assert_eq!(left, bodies(&poor));
    }

    #[test]
    fn a_bare_revocation_revokes_and_only_its_own_key() {
        let secret = fixture("gpg/ed25519.sec");
        let key = entity(&secret).unlock(None).unwrap();
        let packet = revocation(&key, Reason::Compromised, "gone", NOW).unwrap();
        let armored = encode_armor(ArmorKind::Public, &packet);
        for form in [packet.as_slice(), armored.as_bytes()] {
            let bare = update(form);
            assert_eq!(bare.revoked_key_id(), Some(key.key_id()));
            for stored in [&secret, &fixture("gpg/ed25519.pub")] {
                let revoked = merge(&entity(stored), &bare).unwrap().unwrap();
                let revoked = entity(&revoked);
                assert!(revoked.is_revoked(NOW));
                assert_eq!(
                    revoked.usable_for_signing(NOW).unwrap_err().to_string(),
                    "openpgp: signature made by revoked key"
                );
                assert!(merge(&revoked, &bare).unwrap().is_none());
            }
            let other = entity(&fixture("gpg/p256.pub"));
            assert!(!bare.is_about(&other));
            assert!(merge(&other, &bare).is_err());
        }
        // GnuPG's own revocation of another key, cut out of its public key.
        let revoked = fixture("gpg/revoked.pub");
        let bare = picked(&revoked, |at, _| at == 1);
        let good = picked(&revoked, |at, _| at != 1);
        assert!(!entity(&good).is_revoked(NOW));
        assert_eq!(
            bodies(&merged(&good, &bare).unwrap()),
            bodies(&revoked),
            "the same place as GnuPG's"
        );
    }

    #[test]
    fn forged_news_are_left_out() {
        let full = fixture("gpg/uids.pub");
        let poor = picked(&full, |at, _| at < 3);
        let sound = bodies(&merged(&poor, &full).unwrap()).len();
        let length = full.len();
        for at in 0..length {
            let mut forged = full.clone();
            forged[at] ^= 1;
            let Ok(updates) = updates_from_armored_or_binary(&forged) else {
                continue;
            };
            let Some(update) = updates.first().filter(|u| u.is_about(&entity(&poor))) else {
                continue;
            };
            if let Some(packets) = merge(&entity(&poor), update).unwrap() {
                for packet in bodies(&packets) {
                    // Unhashed parts of a signature are nobody's word; one with a changed
                    // issuer is someone else's.
                    let known = bodies(&full).contains(&packet);
                    assert!(known || packet.0 == tag::SIGNATURE, "byte {at}");
                }
                assert!(bodies(&packets).len() <= sound + 1, "byte {at}");
                assert_eq!(
                    entity(&packets).usable_for_signing(NOW),
                    entity(&poor).usable_for_signing(NOW)
                );
            }
        }
    }

    #[test]
    fn parts_of_another_key_are_left_out() {
        let mine = fixture("gpg/ed25519.pub");
        for name in ["subkey", "uids", "revoked", "p256"] {
            let foreign = fixture(&format!("gpg/{name}.pub"));
            let head = picked(&mine, |at, _| at == 0);
            let glued = [head, picked(&foreign, |at, _| at > 0)].concat();
            let packets = merged(&mine, &glued);
            // Certifications of others count only on user ids that are there.
            assert_eq!(packets, None, "{name}");
        }
    }

    #[test]
    fn certifications_by_others_are_kept() {
        let mine = fixture("gpg/ed25519.pub");
        let other = entity(&fixture("gpg/p256.sec")).unlock(None).unwrap();
        let primary = entity(&mine).primary_key().clone();
        let id = bodies(&mine)[1].1;
        let mut area = Vec::new();
        write_subpacket(&mut area, 2, &1_795_000_000u32.to_be_bytes());
        write_subpacket(&mut area, 16, &other.key_id().to_be_bytes());
        let length = u32::try_from(id.len()).unwrap().to_be_bytes();
        let prefix = [&[0xb4], &length[..]].concat();
        let body = other
            .sign(
                kind::GENERIC,
                HashAlgorithm::SHA256,
                &area,
                &[&primary.hash_prefix(), &primary.body, &prefix, id],
            )
            .unwrap();
        let mut certified = picked(&mine, |at, _| at < 3);
        packet::write(&mut certified, tag::SIGNATURE, &body);
        let packets = merged(&mine, &certified).unwrap();
        assert_eq!(bodies(&packets).len(), bodies(&mine).len() + 1);
        assert_eq!(bodies(&packets)[3], (tag::SIGNATURE, body.as_slice()));
        assert_eq!(merged(&packets, &certified), None);
    }

    #[test]
    fn a_secret_key_keeps_its_secrets_and_gets_no_half_subkeys() {
        let secret = fixture("gpg/subkey.sec");
        let bare = picked(&secret, |at, _| at < 3);
        assert!(merged(&bare, &fixture("gpg/subkey.pub")).is_none());
        let revoked = fixture("gpg/revoked.sec");
        let good = picked(&revoked, |at, _| at != 1);
        let packets = merged(&good, &fixture("gpg/revoked.pub")).unwrap();
        assert_eq!(bodies(&packets), bodies(&revoked));
        // Nor does a public key get secret packets.
        let public = picked(&fixture("gpg/subkey.pub"), |at, _| at < 3);
        let packets = merged(&public, &secret).unwrap();
        assert_eq!(bodies(&packets), bodies(&fixture("gpg/subkey.pub")));
    }

    #[test]
    fn news_without_user_id_are_news() {
        // keys.openpgp.org sends keys without user ids.
        let revoked = fixture("gpg/revoked.pub");
        let news = picked(&revoked, |at, _| at < 2);
        assert!(update(&news).entity().is_err());
        let good = picked(&revoked, |at, _| at != 1);
        assert!(entity(&merged(&good, &news).unwrap()).is_revoked(NOW));
    }

    #[test]
    fn files_without_news_are_named() {
        let fail = |data: &[u8]| {
            let result = updates_from_armored_or_binary(data);
            result.err().unwrap().to_string()
        };
        assert_eq!(
            fail(b"nothing here"),
            "openpgp: invalid argument: no armored data found"
        );
        // A certification without its key.
        let signature = picked(&fixture("gpg/ed25519.pub"), |at, _| at == 2);
        let armored = encode_armor(ArmorKind::Public, &signature);
        assert_eq!(
            fail(armored.as_bytes()),
            "openpgp: invalid data: first packet was not a public/private key"
        );
        assert!(updates_from_armored_or_binary(b"").unwrap().is_empty());
    }
}
