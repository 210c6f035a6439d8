//! What the page keeps of one image.

use super::super::line::{self, Line, Verdict};
use super::Page;
use crate::ui::escaped;
use crate::ui::text::utc;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Age of the newest signature that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// By its own account made after the report.
    Future,
    Month,
    Quarter,
    Year,
    TwoYears,
    FiveYears,
    Older,
    /// Its format has no time.
    Untold,
    /// There is no such signature.
    None,
}

impl Age {
    pub const ALL: [Self; 9] = [
        Self::Future,
        Self::Month,
        Self::Quarter,
        Self::Year,
        Self::TwoYears,
        Self::FiveYears,
        Self::Older,
        Self::Untold,
        Self::None,
    ];

    /// Of seconds from the signature to the report.
    fn of(seconds: i64) -> Self {
        match seconds.div_euclid(86_400) {
            ..0 => Self::Future,
            0..=30 => Self::Month,
            31..=90 => Self::Quarter,
            91..=365 => Self::Year,
            366..=730 => Self::TwoYears,
            731..=1826 => Self::FiveYears,
            _ => Self::Older,
        }
    }
}

/// One image.
#[derive(Debug)]
pub(super) struct Row {
    pub path: String,
    pub verdict: Verdict,
    /// Number of a text.
    pub reason: Option<usize>,
    pub size: Option<u64>,
    /// Bytes that accepted signatures cover, if that is known.
    pub covered: Option<u64>,
    pub signed_at: Option<i64>,
    pub age: Age,
    /// Numbers of the signers whose signatures count, each once.
    pub accepted: Vec<usize>,
    /// Numbers of those that are named by signatures that do not count.
    pub others: Vec<usize>,
    /// JSON of a [`Details`].
    pub details: String,
}

/// Somebody who signs, however often and by whatever certificate.
#[derive(Debug, Serialize)]
pub(super) struct Signer {
    pub name: String,
    pub id: String,
}

/// What is known of a signer of one signature.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    /// Number of the signer.
    #[serde(rename = "n")]
    pub signer: usize,
    #[serde(rename = "f")]
    pub facts: Vec<(&'static str, String)>,
}

/// What is shown of an image on demand; numbers stand for texts.
#[derive(Serialize)]
struct Details {
    #[serde(rename = "p", skip_serializing_if = "Vec::is_empty")]
    problems: Vec<usize>,
    #[serde(rename = "m", skip_serializing_if = "Vec::is_empty")]
    missing_keys: Vec<String>,
    /// Free text in front, numbers of demands that are not met.
    #[serde(rename = "y", skip_serializing_if = "Option::is_none")]
    policy: Option<(String, Vec<usize>)>,
    /// Fixed, free, uncovered bytes.
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    coverage: Option<[u64; 3]>,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(rename = "s", skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Signature>,
}

#[derive(Serialize)]
struct Signature {
    /// Which signature.
    #[serde(rename = "w")]
    which: usize,
    #[serde(rename = "f")]
    format: usize,
    /// 0 valid, 1 refused, 2 not judged, 3 passed over.
    #[serde(rename = "v")]
    verdict: u8,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    reason: Option<usize>,
    /// Numbers of facts.
    #[serde(rename = "k", skip_serializing_if = "Vec::is_empty")]
    signers: Vec<usize>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    signed_at: Option<i64>,
    #[serde(rename = "o", skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
}

impl Page {
    /// Makes a row of a line.
    pub(super) fn row(&mut self, line: Line) -> Row {
        let verdict = line.verdict();
        let signed_at = line
            .signatures
            .iter()
            .filter(|signature| signature.is_accepted())
            .filter_map(signed_at)
            .max();
        let is_signed = line.signatures.iter().any(line::Signature::is_accepted);
        let age = match signed_at {
            Some(at) => Age::of(self.made_at.saturating_sub(at)),
            None if is_signed => Age::Untold,
            None => Age::None,
        };
        let mut accepted = Vec::new();
        let mut others = Vec::new();
        let (mut known, mut known_others) = (HashSet::new(), HashSet::new());
        let mut signatures = Vec::new();
        for signature in &line.signatures {
            let facts = self.facts_of(signature.signer.as_ref());
            let (list, seen) = match signature.is_accepted() {
                true => (&mut accepted, &mut known),
                false => (&mut others, &mut known_others),
            };
            for number in &facts {
                let signer = self.facts.all.get(*number).map(|facts| facts.signer);
                list.extend(signer.filter(|signer| seen.insert(*signer)));
            }
            signatures.push(self.signature(signature, facts));
        }
        others.retain(|signer| !known.contains(signer));
        let policy = line.policy.as_ref().map(|policy| {
            let rule = match (&policy.file, policy.rule) {
                (Some(file), Some(rule)) => format!("rule {rule} of {file}"),
                _ => "demands of the command line".to_owned(),
            };
            let unmet = policy.subjects.iter().flat_map(|subject| &subject.unmet);
            let unmet = unmet.map(|text| self.text(text)).collect();
            (escaped(rule.as_bytes()), unmet)
        });
        let details = Details {
            problems: line.problems.iter().map(|text| self.text(text)).collect(),
            missing_keys: line
                .missing_keys
                .iter()
                .map(|id| escaped(id.as_bytes()))
                .collect(),
            policy,
            coverage: line
                .coverage
                .as_ref()
                .map(|c| [c.bytes.fixed, c.bytes.free, c.bytes.uncovered]),
            digest: line
                .digest
                .as_ref()
                .map(|digest| escaped(digest.as_bytes())),
            signatures,
        };
        Row {
            path: escaped(line.path.as_ref().unwrap_or(&line.image).as_bytes()),
            verdict,
            reason: line.reason.as_ref().map(|reason| self.text(reason)),
            size: line.size,
            covered: covered(&line),
            signed_at,
            age,
            accepted,
            others,
            // Numbers and strings always serialise.
            details: serde_json::to_string(&details).unwrap_or_default(),
        }
    }

    /// The number of a text.
    fn text(&mut self, text: &str) -> usize {
        self.texts
            .number(text.to_owned(), || escaped(text.as_bytes()))
    }

    fn signature(&mut self, signature: &line::Signature, signers: Vec<usize>) -> Signature {
        let which = match (signature.object, &signature.subject) {
            (Some(object), _) => match (signature.only_object, signature.group) {
                (Some(only), _) => format!("object {object}, for object {only}"),
                (None, Some(group)) => format!("object {object}, for group {group}"),
                (None, None) => format!("object {object}"),
            },
            (None, Some(subject)) => format!("for {subject}"),
            (None, None) => String::new(),
        };
        let name = match signature.format.as_deref() {
            Some("pgp") => "OpenPGP",
            Some("dsse") => "DSSE",
            Some(other) => other,
            None => signature.scheme.as_deref().unwrap_or("not known"),
        };
        let format = match signature.legacy {
            true => format!("{name}, old form"),
            false => name.to_owned(),
        };
        let reasons: Vec<_> = signature.reason.iter().chain(&signature.oddities).collect();
        let reason = (!reasons.is_empty()).then(|| {
            let all: Vec<_> = reasons.iter().map(|text| text.as_str()).collect();
            self.text(&all.join("; "))
        });
        let mut objects = String::new();
        for object in &signature.objects {
            let mark = if object.intact { "" } else { " changed" };
            let comma = if objects.is_empty() { "" } else { ", " };
            objects += &format!("{comma}{} {}{mark}", object.id, object.r#type);
        }
        Signature {
            which: self.text(&which),
            format: self.text(&format),
            verdict: match signature.verdict.as_str() {
                "valid" => 0,
                "notJudged" => 2,
                "ignored" => 3,
                _ => 1,
            },
            reason,
            signers,
            signed_at: signed_at(signature),
            objects: (!objects.is_empty()).then(|| self.text(&objects)),
        }
    }

    /// Numbers of what is known of the signers of a signature.
    fn facts_of(&mut self, signer: Option<&line::Signer>) -> Vec<usize> {
        match signer {
            None => Vec::new(),
            Some(line::Signer::Pgp {
                fingerprint,
                user_id,
                origin,
                ..
            }) => {
                let name = user_id.as_deref().unwrap_or("OpenPGP key without a name");
                let facts = vec![
                    ("OpenPGP fingerprint", fingerprint.clone()),
                    ("User ID", name.to_owned()),
                    ("Keyring", origin.clone()),
                ];
                vec![self.facts(name, fingerprint, facts)]
            }
            Some(line::Signer::Keys { keys }) => {
                keys.iter().map(|key| self.facts_of_key(key)).collect()
            }
            Some(line::Signer::Key(key)) => vec![self.facts_of_key(key)],
        }
    }

    fn facts_of_key(&mut self, key: &line::Key) -> usize {
        let mut facts = vec![("Key", key.algorithm.clone())];
        if !key.key_id.is_empty() {
            facts.push(("SSH fingerprint", key.key_id.clone()));
        }
        facts.push(("SHA-256 of the public key", key.spki.clone()));
        let Some(certificate) = &key.certificate else {
            let id = match key.key_id.is_empty() {
                true => &key.spki,
                false => &key.key_id,
            };
            return self.facts(&format!("{} key", key.algorithm), id, facts);
        };
        let day = |seconds: u64| i64::try_from(seconds).map_or_else(|_| seconds.to_string(), utc);
        let path: Vec<_> = certificate.path.iter().map(path_element).collect();
        facts.extend([
            ("Certificate of", certificate.subject.clone()),
            ("Issued by", certificate.issuer.clone()),
            ("Serial number", certificate.serial.clone()),
            (
                "SHA-256 of the certificate",
                certificate.fingerprint.clone(),
            ),
            ("Valid from", day(certificate.not_before)),
            ("Valid until", day(certificate.not_after)),
        ]);
        if !path.is_empty() {
            facts.push(("Path to the root", path.join(" → ")));
        }
        self.facts(&certificate.subject, &certificate.fingerprint, facts)
    }

    /// The number of facts about the signer with this id, which is the key or the certificate.
    fn facts(&mut self, name: &str, id: &str, facts: Vec<(&'static str, String)>) -> usize {
        let signer = self.signers.number(id.to_owned(), || Signer {
            name: escaped(name.as_bytes()),
            id: escaped(id.as_bytes()),
        });
        // Pairs of strings always serialise.
        let key = serde_json::to_string(&facts).unwrap_or_default();
        let facts = facts.into_iter();
        self.facts.number(key, || Facts {
            signer,
            facts: facts
                .map(|(name, value)| (name, escaped(value.as_bytes())))
                .collect(),
        })
    }
}

fn path_element(element: &line::PathElement) -> String {
    let Some(revocation) = &element.revocation else {
        return element.subject.clone();
    };
    let at = revocation.this_update.and_then(|at| i64::try_from(at).ok());
    let known = match (revocation.source.as_str(), at) {
        ("notChecked", _) => "revocation not checked".to_owned(),
        (source, Some(at)) => format!("not revoked, {} of {}", source.to_uppercase(), utc(at)),
        (source, None) => format!("not revoked, {}", source.to_uppercase()),
    };
    format!("{} ({known})", element.subject)
}

fn signed_at(signature: &line::Signature) -> Option<i64> {
    match signature.signer {
        Some(line::Signer::Pgp { signed_at, .. }) => Some(signed_at),
        _ => None,
    }
}

/// Bytes of the file that signatures cover which count.
///
/// Without `--strict` these are the data of objects, each counted once.
fn covered(line: &Line) -> Option<u64> {
    if let Some(coverage) = &line.coverage {
        return Some(coverage.bytes.signed);
    }
    let accepted = line.signatures.iter().filter(|s| s.is_accepted());
    let objects = accepted.flat_map(|signature| &signature.objects);
    let mut sizes = BTreeMap::new();
    for object in objects.filter(|object| object.intact) {
        sizes.insert(object.id, u64::try_from(object.size?).ok()?);
    }
    let is_of_oci = line.signatures.iter().any(|s| s.subject.is_some());
    (!is_of_oci).then(|| {
        sizes
            .values()
            .fold(0_u64, |sum, size| sum.saturating_add(*size))
    })
}
