//! Renders reports as JSON with structs of its own, so that reports can change.

use crate::coverage::Coverage;
use crate::key::index;
use crate::key::pgp::{Entity, KeyInfo, SecretState};
use crate::report::{
    CertificateFacts, Failure, Format, ObjectSummary, Report, Revocation, RuleName,
    SignatureReport, Signer, Standing, Subject,
};
use serde::Serialize;

/// The JSON of the originals (`--json`). Source: spec/sif.md 4.10.
///
/// An image that could not be judged gives the same text as an empty report.
pub fn original(report: &Report) -> String {
    let counted: Vec<_> = report
        .signatures
        .iter()
        .filter(|s| s.failure.as_ref().is_none_or(Failure::is_about_content))
        .collect();
    let mut entries = Vec::new();
    for signature in &counted {
        let good = signature.verified.iter().map(|object| (object, true));
        let bad = signature.damaged.iter().map(|object| (object, false));
        for (object, intact) in good.chain(bad) {
            entries.push(original_entry(signature, object, intact));
        }
    }
    pretty(&Original {
        signatures: counted.len(),
        signer_keys: (!entries.is_empty()).then_some(entries),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Original {
    signatures: usize,
    signer_keys: Option<Vec<OriginalEntry>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OriginalEntry {
    signer: OriginalSigner,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OriginalSigner {
    partition: &'static str,
    name: String,
    fingerprint: String,
    key_local: bool,
    key_check: bool,
    data_check: bool,
}

fn original_entry(
    signature: &SignatureReport,
    object: &ObjectSummary,
    intact: bool,
) -> OriginalEntry {
    let pgp = match &signature.signer {
        Some(Signer::Pgp(signer)) => Some(signer),
        _ => None,
    };
    OriginalEntry {
        signer: OriginalSigner {
            partition: object.data_type.name(),
            name: pgp
                .and_then(|signer| signer.user_id.clone())
                .unwrap_or_else(|| "unknown".to_owned()),
            fingerprint: pgp
                .map(|signer| signer.fingerprint.to_lowercase())
                .unwrap_or_default(),
            key_local: pgp.is_some_and(|signer| signer.in_local_keyring),
            key_check: pgp.is_some(),
            data_check: intact,
        },
    }
}

/// What an answer is about.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The name that was given.
    pub image: &'a str,
    /// What a line of a report says besides; without it the answer is for people's eyes as well,
    /// on lines of its own.
    pub facts: Option<&'a Facts>,
}

/// What a line of a report says of the file, besides the answer.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The name, in hexadecimal, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes: Option<String>,
    /// Where the file lies, if its place was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Size of the file in bytes, if it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was changed last: seconds since 1970, nine digits after the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// What the image was judged by.
    pub run: String,
}

impl Judged<'_> {
    /// Renders the answer.
    pub(super) fn json(&self, answer: &impl Serialize) -> String {
        match self.facts {
            Some(_) => compact(answer),
            None => pretty(answer),
        }
    }
}

/// The last line of a report on many images.
pub(crate) fn end(end: &super::line::End) -> String {
    compact(end).trim_end().to_owned()
}

/// The full answer (`--format json`); its schema is in `docs/verify-report.md`.
///
/// `at` is the time of judgement, seconds since 1970, if it is not now. With `--strict` the
/// coverage comes with its refusal, if it has one.
pub fn full(
    subject: &Judged<'_>,
    at: Option<u64>,
    outcome: Result<&Report, &str>,
    strict: Option<(&Coverage, Option<String>)>,
) -> String {
    let (coverage, refusal) = strict.unzip();
    let refusal = refusal.flatten();
    let (report, error) = match outcome {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    let verdict = match report {
        Some(report) if report.is_verified() && refusal.is_none() => "verified",
        Some(_) => "refused",
        None => "error",
    };
    let reason = report
        .and_then(Report::failure)
        .map(ToString::to_string)
        .or_else(|| error.map(ToOwned::to_owned))
        .or(refusal);
    let signatures = report.map(|r| r.signatures.iter().map(full_signature).collect());
    let standing = report.and_then(|r| r.standing.as_deref());
    let problems = report.map(|r| r.general.iter().map(ToString::to_string).collect());
    let missing = report.map(|r| {
        r.missing_keys
            .iter()
            .map(|id| format!("{id:016X}"))
            .collect()
    });
    subject.json(&Full {
        schema: "sigsif-verify-1",
        image: subject.image,
        facts: subject.facts,
        judged_at: at,
        verdict,
        reason,
        problems: problems.unwrap_or_default(),
        missing_keys: missing.unwrap_or_default(),
        signatures: signatures.unwrap_or_default(),
        policy: standing.map(|s| full_policy(s, report.and_then(|r| r.rule.as_ref()))),
        coverage: coverage.map(super::coverage::json),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Full<'a> {
    schema: &'static str,
    image: &'a str,
    #[serde(flatten)]
    facts: Option<&'a Facts>,
    judged_at: Option<u64>,
    verdict: &'static str,
    reason: Option<String>,
    problems: Vec<String>,
    missing_keys: Vec<String>,
    signatures: Vec<FullSignature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<FullPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<super::coverage::Json>,
}

#[derive(Serialize)]
pub(super) struct FullPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    verdict: &'static str,
    subjects: Vec<FullStanding>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullStanding {
    group: Option<u32>,
    only_object: Option<u32>,
    signers: Vec<FullSigner>,
    distinct: usize,
    unmet: Vec<String>,
}

pub(super) fn full_policy(standing: &[Standing], rule: Option<&RuleName>) -> FullPolicy {
    let is_met = standing.iter().all(|entry| entry.unmet.is_empty());
    let subject = |entry: &Standing| {
        let (group, only_object) = match entry.subject {
            Subject::Group(group) => (Some(group.get()), None),
            Subject::Object(group, id) => (Some(group.get()), Some(id)),
            Subject::Image => (None, None),
        };
        FullStanding {
            group,
            only_object,
            signers: entry.signers.iter().map(full_signer).collect(),
            distinct: entry.distinct,
            unmet: entry.unmet.iter().map(ToString::to_string).collect(),
        }
    };
    FullPolicy {
        file: rule.map(|rule| rule.file.clone()),
        rule: rule.map(|rule| rule.number),
        verdict: if is_met { "met" } else { "notMet" },
        subjects: standing.iter().map(subject).collect(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullSignature {
    object: u32,
    group: u32,
    only_object: Option<u32>,
    format: Option<&'static str>,
    legacy: bool,
    verdict: &'static str,
    reason: Option<String>,
    unknown_signer: bool,
    claimed_signers: Vec<String>,
    signer: Option<FullSigner>,
    objects: Vec<FullObject>,
}

#[derive(Serialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum FullSigner {
    Pgp {
        fingerprint: String,
        user_id: Option<String>,
        origin: String,
        signed_at: i64,
    },
    Keys {
        keys: Vec<FullKey>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullKey {
    key_id: String,
    spki: String,
    algorithm: String,
    certificate: Option<FullCertificate>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullCertificate {
    subject: String,
    issuer: String,
    serial: String,
    fingerprint: String,
    not_before: u64,
    not_after: u64,
    path: Vec<FullPathElement>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullPathElement {
    subject: String,
    revocation: Option<FullRevocation>,
}

#[derive(Serialize)]
#[serde(
    tag = "source",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum FullRevocation {
    NotChecked,
    Crl {
        this_update: u64,
        next_update: u64,
    },
    Ocsp {
        this_update: u64,
        next_update: Option<u64>,
        responder: Option<String>,
    },
}

fn full_certificate(facts: &CertificateFacts) -> FullCertificate {
    let revocation = |known: &Revocation| match known.clone() {
        Revocation::NotChecked => FullRevocation::NotChecked,
        Revocation::Crl {
            this_update,
            next_update,
        } => FullRevocation::Crl {
            this_update,
            next_update,
        },
        Revocation::Ocsp {
            this_update,
            next_update,
            responder,
        } => FullRevocation::Ocsp {
            this_update,
            next_update,
            responder,
        },
    };
    let path = facts.chain.iter().enumerate();
    FullCertificate {
        subject: facts.subject.clone(),
        issuer: facts.issuer.clone(),
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        path: path
            .map(|(index, subject)| FullPathElement {
                subject: subject.clone(),
                revocation: facts.revocation.get(index).map(revocation),
            })
            .collect(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FullObject {
    id: u32,
    group: Option<u32>,
    r#type: &'static str,
    size: i64,
    intact: bool,
}

fn full_signature(signature: &SignatureReport) -> FullSignature {
    let object = |object: &ObjectSummary, intact| FullObject {
        id: object.id,
        group: object.group.map(|group| group.get()),
        r#type: object.data_type.name(),
        size: object.size,
        intact,
    };
    let good = signature.verified.iter().map(|o| object(o, true));
    let bad = signature.damaged.iter().map(|o| object(o, false));
    FullSignature {
        object: signature.object,
        group: signature.group.get(),
        only_object: signature.only_object,
        format: signature.format.map(|format| match format {
            Format::Pgp => "pgp",
            Format::Dsse => "dsse",
        }),
        legacy: signature.legacy,
        verdict: match &signature.failure {
            None => "valid",
            Some(_) if signature.ignored => "ignored",
            Some(failure) if failure.is_about_content() => "refused",
            Some(_) => "notJudged",
        },
        reason: signature.failure.as_ref().map(ToString::to_string),
        unknown_signer: signature.unknown_signer,
        claimed_signers: signature.claimed.clone(),
        signer: signature.signer.as_ref().map(full_signer),
        objects: good.chain(bad).collect(),
    }
}

fn full_signer(signer: &Signer) -> FullSigner {
    match signer {
        Signer::Pgp(signer) => FullSigner::Pgp {
            fingerprint: signer.fingerprint.clone(),
            user_id: signer.user_id.clone(),
            origin: signer.origin.to_string().to_lowercase(),
            signed_at: signer.signed_at,
        },
        Signer::Keys(keys) => FullSigner::Keys {
            keys: keys
                .iter()
                .map(|key| FullKey {
                    key_id: key.key_id.clone(),
                    spki: key.spki.clone(),
                    algorithm: key.algorithm.clone(),
                    certificate: key.certificate.as_ref().map(full_certificate),
                })
                .collect(),
        },
    }
}

/// A keyring (`key list --json`) as it stands at `now`, seconds since 1970.
///
/// The schema is in `docs/manual.md`.
pub fn keys(file: &str, entities: &[Entity], now: u64) -> String {
    let entry = |(index, entity): (usize, &Entity)| ListedEntity {
        index,
        user_ids: entity
            .user_ids()
            .map(|user| ListedUserId {
                raw: user.raw.clone(),
                name: user.name.clone(),
                comment: user.comment.clone(),
                email: user.email.clone(),
            })
            .collect(),
        key: listed_key(entity.primary(), now),
        subkeys: entity.subkeys().map(|key| listed_key(key, now)).collect(),
    };
    pretty(&Listing {
        schema: "sigsif-keys-1",
        keyring: file,
        keys: entities.iter().enumerate().map(entry).collect(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    schema: &'static str,
    keyring: &'a str,
    keys: Vec<ListedEntity>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedEntity {
    index: usize,
    #[serde(flatten)]
    key: ListedKey,
    user_ids: Vec<ListedUserId>,
    subkeys: Vec<ListedKey>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedUserId {
    raw: String,
    name: String,
    comment: String,
    email: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedKey {
    fingerprint: String,
    key_id: String,
    algorithm: &'static str,
    curve: Option<&'static str>,
    bits: u16,
    created: u64,
    expires: Option<u64>,
    expired: bool,
    revoked: bool,
    can_sign: bool,
    secret: &'static str,
}

fn listed_key(key: KeyInfo<'_>, now: u64) -> ListedKey {
    ListedKey {
        fingerprint: key.fingerprint().to_string(),
        key_id: format!("{:016X}", key.key_id()),
        algorithm: key.algorithm(),
        curve: key.curve(),
        bits: key.bit_length(),
        created: key.created(),
        expires: key.expires(),
        expired: key.is_expired(now),
        revoked: key.is_revoked(now),
        can_sign: key.usable_for_signing(now).is_ok(),
        secret: match key.secret_state() {
            SecretState::None => "none",
            SecretState::Clear => "clear",
            SecretState::Encrypted => "encrypted",
            SecretState::Stub => "stub",
        },
    }
}

/// The keys that a key server listed (`key search --json`).
///
/// Fields that are no numbers are left out.
pub fn listed_keys(keys: &[index::ListedKey]) -> String {
    let found: Vec<_> = keys
        .iter()
        .map(|key| FoundKey {
            fingerprint: &key.fingerprint,
            algorithm: key.algorithm.parse().ok(),
            bits: key.bits.parse().ok(),
            created: key.created_at().ok().flatten(),
            expires: key.expires_at().ok().flatten(),
            status: key.status(),
            user_ids: &key.user_ids,
        })
        .collect();
    pretty(&FoundKeys {
        schema: "sigsif-key-search-1",
        keys: found,
    })
}

#[derive(Serialize)]
struct FoundKeys<'a> {
    schema: &'static str,
    keys: Vec<FoundKey<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundKey<'a> {
    fingerprint: &'a str,
    algorithm: Option<u8>,
    bits: Option<u32>,
    created: Option<i64>,
    expires: Option<i64>,
    status: &'static str,
    user_ids: &'a [String],
}

/// Two blanks of indentation, a final line feed, HTML characters escaped as Go does.
pub(super) fn pretty(value: &impl Serialize) -> String {
    // Structs of strings and numbers always serialise.
    masked(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// As [`pretty`], on one line.
pub(super) fn compact(value: &impl Serialize) -> String {
    masked(&serde_json::to_string(value).unwrap_or_default())
}

fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(1));
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if matches!(c, '<' | '>' | '&') || super::is_steering(c) => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}
