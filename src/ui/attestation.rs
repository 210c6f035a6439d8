//! Renders reports about attestations.

use super::json::pretty;
use super::one_line;
use crate::report::{Attestation, AttestationReport};
use serde::Serialize;

/// The envelopes that hold and say something of that kind, one a line, as cosign prints them.
pub fn envelopes(report: &AttestationReport<'_>, kind: &str) -> String {
    let mut output = String::new();
    for held in report.held().filter(|held| held.predicate_type == kind) {
        // One line each: line ends in JSON stand between its parts only.
        let envelope = String::from_utf8_lossy(&held.envelope);
        output.push_str(&one_line(&envelope));
        output.push('\n');
    }
    output
}

/// The whole report as JSON; `Err` is the reason why there is none, and `refusal` the one why
/// nothing of the kind that was asked for holds.
pub fn json(
    image: &str,
    outcome: Result<&AttestationReport<'_>, &str>,
    refusal: Option<&str>,
    kind: &str,
) -> String {
    let (verdict, reason) = match (outcome, refusal) {
        (Err(reason), _) => ("error", Some(reason)),
        (Ok(_), Some(reason)) => ("refused", Some(reason)),
        (Ok(_), None) => ("verified", None),
    };
    let report = outcome.ok();
    pretty(&Document {
        schema: "sigsif-verify-attestation-1",
        image,
        verdict,
        reason,
        predicate_type: kind,
        digest: report.map(|report| report.image.to_string()),
        problems: report
            .map(|report| report.problems.as_slice())
            .unwrap_or_default(),
        attestations: report
            .map(|report| report.attestations.iter().map(Row::from).collect())
            .unwrap_or_default(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'r> {
    schema: &'static str,
    image: &'r str,
    verdict: &'static str,
    reason: Option<&'r str>,
    predicate_type: &'r str,
    digest: Option<String>,
    problems: &'r [String],
    attestations: Vec<Row<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'r> {
    subject: String,
    verdict: &'static str,
    reason: Option<&'r str>,
    predicate_type: Option<&'r str>,
    signer: Option<Signer<'r>>,
    statement: Option<serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signer<'r> {
    key_id: &'r str,
    spki: &'r str,
    algorithm: &'r str,
}

impl<'r> From<&'r Attestation<'_>> for Row<'r> {
    fn from(attestation: &'r Attestation<'_>) -> Self {
        let held = attestation.outcome.as_ref().ok();
        Self {
            subject: attestation.subject.to_string(),
            verdict: match held {
                Some(_) => "valid",
                None => "refused",
            },
            reason: attestation.outcome.as_ref().err().map(String::as_str),
            predicate_type: held.map(|held| held.predicate_type.as_str()),
            signer: held.map(|held| Signer {
                key_id: &held.signer.key_id,
                spki: &held.signer.spki,
                algorithm: &held.signer.algorithm,
            }),
            statement: held.and_then(|held| serde_json::from_slice(&held.statement).ok()),
        }
    }
}
