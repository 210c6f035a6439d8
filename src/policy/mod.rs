//! Who must have signed.
//!
//! Without demands an image is verified if every signature holds, whoever made it. Demands are
//! judged on top of that: apart from [`Tolerated`] they only add refusals. A group is signed by
//! somebody if one of the signatures that were checked for it holds and is by a key of theirs; a
//! signature that covers only a part of a group does not hold for the group.

pub mod file;
pub mod pattern;

use crate::digest::Digest;
use crate::key::pgp::Fingerprint;
use crate::report::{
    CosignReport, Failure, KeySigner, Origin, Report, Signer, Standing, Subject, Unmet,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

/// What is demanded of the signers of every group that is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Each of them must have signed.
    pub required: Vec<Required>,
    /// So many distinct signers must have signed; 0 for no such demand.
    pub at_least: usize,
    /// Whose signatures count. `None`: those of every key at hand but the ones of key servers.
    pub accepted: Option<Vec<Accepted>>,
    /// Which failures are passed over.
    pub tolerated: Tolerated,
}

/// Somebody who must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// What the user calls them.
    pub label: String,
    /// Their keys; one is enough.
    pub keys: Vec<KeyName>,
}

/// A key whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The key.
    pub key: KeyName,
    /// Whose it is: keys of one party are one signer.
    pub party: Option<String>,
}

/// The one name of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyName {
    /// OpenPGP: fingerprint of the primary key, upper-case hexadecimal.
    Pgp(String),
    /// Public key: SHA-256 of its `SubjectPublicKeyInfo`, lower-case hexadecimal.
    Spki(String),
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pgp(name) | Self::Spki(name) => f.write_str(name),
        }
    }
}

/// Which failures of single signatures do not refuse an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tolerated {
    /// None.
    #[default]
    Nothing,
    /// Those of signatures that no key at hand can judge, [`SignatureReport::unknown_signer`]. At
    /// least one signature that counts is demanded then.
    ///
    /// [`SignatureReport::unknown_signer`]: crate::report::SignatureReport::unknown_signer
    UnknownSigners,
    /// Those of any signature that is not valid in itself, [`Failure::NotValid`]. Nothing is
    /// demanded instead: whoever uses this judges the report.
    NotValid,
}

/// Why a text names no OpenPGP key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signer is named by its whole fingerprint, 40 hexadecimal digits (64 of version 6)")]
pub struct NotWhole;

impl KeyName {
    /// Reads a whole fingerprint as people write it: any case, with or without `0x`, blanks
    /// between the digits allowed. `None` for a text that is no hexadecimal number at all.
    ///
    /// # Errors
    /// [`NotWhole`] for a shorter or longer number: others can make keys with the same end.
    pub fn fingerprint(text: &str) -> Option<Result<Self, NotWhole>> {
        let bare = text.trim();
        let bare = bare
            .strip_prefix("0x")
            .or_else(|| bare.strip_prefix("0X"))
            .unwrap_or(bare);
        let digits: String = bare.split_ascii_whitespace().collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let bytes = hex::decode(&digits).ok();
        let whole = bytes.and_then(|bytes| Fingerprint::from_bytes(&bytes));
        Some(whole.map(|f| Self::Pgp(f.to_string())).ok_or(NotWhole))
    }
}

impl Demands {
    /// Whether anything is demanded; if not, reports say nothing about it.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.at_least == 0
            && self.accepted.is_none()
            && self.tolerated != Tolerated::UnknownSigners
    }

    /// The least number of distinct signers: one, as soon as anything is demanded.
    pub fn least(&self) -> usize {
        match self.is_empty() {
            true => 0,
            false => self.at_least.max(1),
        }
    }

    /// The OpenPGP keys that count even if they come from a key server.
    pub fn named_fingerprints(&self) -> BTreeSet<Fingerprint> {
        let named: Vec<&KeyName> = match &self.accepted {
            Some(accepted) => accepted.iter().map(|a| &a.key).collect(),
            None => self.required.iter().flat_map(|r| &r.keys).collect(),
        };
        let pgp = named.into_iter().filter_map(|key| match key {
            KeyName::Pgp(fingerprint) => Fingerprint::from_bytes(&hex::decode(fingerprint).ok()?),
            KeyName::Spki(_) => None,
        });
        pgp.collect()
    }

    /// Whether signatures by other keys than the named ones are of no use, so that nobody has to
    /// look for these keys.
    pub fn only_named_count(&self) -> bool {
        self.accepted.is_some() || self.tolerated == Tolerated::UnknownSigners
    }

    /// Whether signatures by a key count, and what else the key is known by.
    fn counts(&self, signer: &Party<'_>) -> Option<BTreeSet<String>> {
        let mut tags = BTreeSet::from([format!("{:?}", signer.key)]);
        match &self.accepted {
            Some(accepted) => {
                let mut entries = accepted.iter().filter(|a| a.key == signer.key).peekable();
                entries.peek()?;
                tags.extend(entries.filter_map(|a| Some(format!("party {}", a.party.as_ref()?))));
            }
            None if signer.origin == Some(Origin::Remote) => {
                let mut required = self.required.iter();
                if !required.any(|r| r.keys.contains(&signer.key)) {
                    return None;
                }
            }
            None => {}
        }
        tags.extend(signer.subject.map(|subject| format!("subject {subject}")));
        Some(tags)
    }

    /// Judges who signed one subject: the signers of its valid signatures.
    pub fn judge<'s>(
        &self,
        subject: Subject,
        signers: impl IntoIterator<Item = &'s Signer>,
    ) -> Standing {
        let mut keys = BTreeSet::new();
        let mut tags = Vec::new();
        let mut counted = Vec::new();
        for party in signers.into_iter().flat_map(parties) {
            let Some(known) = self.counts(&party) else {
                continue;
            };
            if keys.insert(party.key.clone()) {
                counted.push(party.signer);
            }
            tags.push(known);
        }
        let distinct = components(tags);
        let mut unmet = Vec::new();
        for required in &self.required {
            if !required.keys.iter().any(|key| keys.contains(key)) {
                unmet.push(Unmet::NotBy {
                    subject,
                    signer: required.label.clone(),
                });
            }
        }
        let wanted = self.least();
        if distinct < wanted {
            unmet.push(Unmet::TooFew {
                subject,
                found: distinct,
                wanted,
            });
        }
        Standing {
            subject,
            signers: counted,
            distinct,
            unmet,
        }
    }
}

/// Adds to a report what is demanded of the signers, and refuses it where that is not met.
pub fn enforce(report: &mut Report, demands: &Demands) {
    if demands.is_empty() {
        return;
    }
    let mut signers: HashMap<Subject, Vec<&Signer>> = HashMap::new();
    for signature in report.signatures.iter().filter(|s| s.failure.is_none()) {
        let of_subject = signers.entry(signature.subject()).or_default();
        of_subject.extend(&signature.signer);
    }
    let standing: Vec<_> = report
        .checked
        .iter()
        .map(|subject| {
            let signers = signers.get(subject).into_iter().flatten();
            demands.judge(*subject, signers.copied())
        })
        .collect();
    for unmet in standing.iter().flat_map(|s| s.unmet.clone()) {
        report.refuse(Failure::Policy(unmet));
    }
    report.standing = Some(standing);
}

/// Judges who made the cosign signatures of an image; nothing if nothing is demanded.
///
/// All that is demanded has to be met by signatures for one digest: somebody who signed an index
/// and somebody who signed one image of it have not signed the same.
pub fn cosign(report: &CosignReport, demands: &Demands) -> Option<Standing> {
    if demands.is_empty() {
        return None;
    }
    let of = |digest: &Digest| {
        let valid = report.valid().filter(|s| s.subject == *digest);
        let signers: Vec<_> = valid
            .filter_map(|s| s.signer.clone())
            .map(|signer| Signer::Keys(vec![signer]))
            .collect();
        demands.judge(Subject::Image, &signers)
    };
    // The same signature can be there thousands of times.
    let mut seen = HashSet::new();
    let met = report
        .valid()
        .filter(|signature| seen.insert(&signature.subject))
        .map(|signature| of(&signature.subject))
        .find(|standing| standing.unmet.is_empty());
    Some(met.unwrap_or_else(|| of(&report.image)))
}

/// One key behind a signature.
struct Party<'s> {
    key: KeyName,
    origin: Option<Origin>,
    /// Owner of its certificate.
    subject: Option<&'s str>,
    signer: Signer,
}

fn parties(signer: &Signer) -> Vec<Party<'_>> {
    match signer {
        Signer::Pgp(pgp) => vec![Party {
            key: KeyName::Pgp(pgp.fingerprint.clone()),
            origin: Some(pgp.origin),
            subject: None,
            signer: signer.clone(),
        }],
        Signer::Keys(keys) => keys.iter().map(party_of_key).collect(),
    }
}

fn party_of_key(key: &KeySigner) -> Party<'_> {
    let certificate = key.certificate.as_ref();
    Party {
        key: KeyName::Spki(key.spki.clone()),
        origin: None,
        subject: certificate.map(|facts| facts.subject.as_str()),
        signer: Signer::Keys(vec![key.clone()]),
    }
}

/// Number of groups when sets with a common element belong together.
fn components(sets: Vec<BTreeSet<String>>) -> usize {
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for mut set in sets {
        let (joined, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|g| !g.is_disjoint(&set));
        set.extend(joined.into_iter().flatten());
        groups = apart;
        groups.push(set);
    }
    groups.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{CertificateFacts, PgpSigner};
    use crate::sif::GroupId;

    fn pgp(digit: &str, origin: Origin) -> Signer {
        Signer::Pgp(PgpSigner {
            fingerprint: digit.repeat(40),
            user_id: None,
            origin,
            in_local_keyring: false,
            signed_at: 0,
        })
    }

    fn key(spki: &str, subject: Option<&str>) -> Signer {
        Signer::Keys(vec![KeySigner {
            key_id: String::new(),
            spki: spki.to_owned(),
            algorithm: "Ed25519".to_owned(),
            certificate: subject.map(|subject| CertificateFacts {
                subject: subject.to_owned(),
                ..CertificateFacts::default()
            }),
        }])
    }

    fn group() -> Subject {
        Subject::Group(GroupId::new(1).unwrap())
    }

    fn required(digit: &str) -> Required {
        Required {
            label: digit.to_owned(),
            keys: vec![KeyName::Pgp(digit.repeat(40))],
        }
    }

    fn distinct(demands: &Demands, signers: &[Signer]) -> usize {
        demands.judge(group(), signers).distinct
    }

    #[test]
    fn fingerprints_are_whole_or_nothing() {
        let whole = "F343 71D0 ACD5 D09E B9BD  853A 8060 0A5F A11B BD29";
        let name = KeyName::Pgp("F34371D0ACD5D09EB9BD853A80600A5FA11BBD29".to_owned());
        for text in [whole, &whole.to_lowercase(), &format!("0x{whole}")] {
            assert_eq!(KeyName::fingerprint(text), Some(Ok(name.clone())), "{text}");
        }
        for short in [
            "A11BBD29",
            "80600A5FA11BBD29",
            "0x1",
            &"A".repeat(39),
            &"A".repeat(41),
        ] {
            assert_eq!(KeyName::fingerprint(short), Some(Err(NotWhole)), "{short}");
        }
        for other in ["", "0x", "key.pem", "./A11BBD29", "ä"] {
            assert_eq!(KeyName::fingerprint(other), None, "{other}");
        }
        let six = KeyName::fingerprint(&"ab".repeat(32));
        assert_eq!(six, Some(Ok(KeyName::Pgp("AB".repeat(32)))));
    }

    #[test]
    fn nothing_demanded_changes_nothing() {
        let demands = Demands::default();
        assert!(demands.is_empty());
        let standing = demands.judge(group(), []);
        assert_eq!(standing.unmet, []);
        let ecl = Demands {
            tolerated: Tolerated::NotValid,
            ..Demands::default()
        };
        assert_eq!(ecl.judge(group(), []).unmet, []);
    }

    #[test]
    fn one_signer_counts_once() {
        let two = Demands {
            at_least: 2,
            ..Demands::default()
        };
        let local = || pgp("A", Origin::Local);
        assert_eq!(distinct(&two, &[local(), local()]), 1);
        assert_eq!(distinct(&two, &[local(), pgp("A", Origin::Global)]), 1);
        assert_eq!(distinct(&two, &[local(), pgp("B", Origin::Local)]), 2);
        assert_eq!(distinct(&two, &[key("1", None), key("1", None)]), 1);
        assert_eq!(distinct(&two, &[key("1", None), key("2", None)]), 2);
        // One owner with two certificates, over one key or two.
        let alice = "CN=Alice";
        assert_eq!(
            distinct(&two, &[key("1", Some(alice)), key("2", Some(alice))]),
            1
        );
        let linked = [key("1", None), key("2", Some(alice)), key("1", Some(alice))];
        assert_eq!(distinct(&two, &linked), 1);
        let bob = key("3", Some("CN=Bob"));
        assert_eq!(distinct(&two, &[key("1", Some(alice)), bob]), 2);
    }

    #[test]
    fn keys_of_key_servers_count_only_if_they_were_named() {
        let one = |required: Vec<Required>| Demands {
            required,
            at_least: 1,
            ..Demands::default()
        };
        let remote = [pgp("A", Origin::Remote)];
        assert_eq!(distinct(&one(Vec::new()), &remote), 0);
        assert_eq!(distinct(&one(vec![required("B")]), &remote), 0);
        let named = one(vec![required("A")]);
        assert_eq!(named.judge(group(), &remote).unmet, []);
        assert_eq!(named.named_fingerprints().len(), 1);
    }

    #[test]
    fn only_accepted_keys_count_and_those_of_one_party_are_one() {
        let accept = |digit: &str, party: &str| Accepted {
            key: KeyName::Pgp(digit.repeat(40)),
            party: Some(party.to_owned()),
        };
        let demands = Demands {
            at_least: 2,
            accepted: Some(vec![
                accept("A", "alice"),
                accept("B", "alice"),
                accept("C", "ci"),
            ]),
            ..Demands::default()
        };
        let signers = |digits: &[&str]| -> Vec<Signer> {
            digits.iter().map(|d| pgp(d, Origin::Remote)).collect()
        };
        assert_eq!(distinct(&demands, &signers(&["A", "B"])), 1);
        assert_eq!(distinct(&demands, &signers(&["A", "D"])), 1);
        assert_eq!(distinct(&demands, &signers(&["A", "C", "D"])), 2);
        // To be required is not to be accepted.
        let other = Demands {
            required: vec![required("D")],
            ..demands
        };
        let standing = other.judge(group(), &signers(&["A", "C", "D"]));
        assert_eq!(standing.unmet.len(), 1);
        assert_eq!(other.named_fingerprints().len(), 3);
    }

    #[test]
    fn any_demand_wants_a_signature_that_counts() {
        let ignoring = Demands {
            tolerated: Tolerated::UnknownSigners,
            ..Demands::default()
        };
        let standing = ignoring.judge(group(), []);
        let unmet = standing.unmet.first().map(ToString::to_string);
        assert_eq!(
            unmet.as_deref(),
            Some("object group 1 has 0 of 1 accepted signers")
        );
        let remote = [pgp("A", Origin::Remote)];
        assert_eq!(ignoring.judge(group(), &remote).unmet.len(), 1);
    }
}
