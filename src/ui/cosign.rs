//! Renders reports about cosign signatures.

use super::json::{Facts, FullPolicy, Judged, full_policy};
use crate::gojson;
use crate::report::{CosignReport, CosignSignature, CosignVerdict, RuleName, Standing};
use serde::Serialize;

/// The valid payloads as the originals print them: one line of JSON.
///
/// Source: SingularityCE `cmd/internal/cli/verify.go`; spec/oci-sif-cosign.md 4.2.
pub fn payloads(report: &CosignReport) -> String {
    let payloads: Vec<_> = report
        .valid()
        .filter_map(|signature| signature.payload.as_ref())
        .map(|payload| payload.to_value())
        .collect();
    let json = gojson::to_vec(&payloads).unwrap_or_default();
    format!("{}\n", String::from_utf8_lossy(&json))
}

/// The whole report as JSON; `Err` is the reason why there is none, and
/// `refusal` the one why the image is refused all the same. `standing` tells about demands on the
/// signers.
pub fn json(
    subject: &Judged<'_>,
    outcome: Result<&CosignReport, &str>,
    refusal: Option<&str>,
    standing: Option<&Standing>,
    rule: Option<&RuleName>,
) -> String {
    let (verdict, reason) = match (outcome, refusal) {
        (Err(reason), _) => ("error", Some(reason)),
        (Ok(_), Some(reason)) => ("refused", Some(reason)),
        (Ok(report), None) if report.is_verified() => ("verified", None),
        (Ok(_), None) => ("refused", Some("no valid signatures found")),
    };
    let report = outcome.ok();
    let document = Document {
        schema: "sigsif-verify-cosign-1",
        image: subject.image,
        facts: subject.facts,
        verdict,
        reason,
        digest: report.map(|report| report.image.to_string()),
        blobs: report.map_or(0, |report| report.blobs),
        problems: report
            .map(|report| report.problems.as_slice())
            .unwrap_or_default(),
        signatures: report
            .map(|report| report.signatures.iter().map(Signature::from).collect())
            .unwrap_or_default(),
        policy: standing.map(|standing| full_policy(std::slice::from_ref(standing), rule)),
    };
    subject.json(&document)
}

#[derive(Serialize)]
struct Document<'r> {
    schema: &'static str,
    image: &'r str,
    #[serde(flatten)]
    facts: Option<&'r Facts>,
    verdict: &'static str,
    reason: Option<&'r str>,
    digest: Option<String>,
    blobs: usize,
    problems: &'r [String],
    signatures: Vec<Signature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<FullPolicy>,
}

#[derive(Serialize)]
struct Signature {
    subject: String,
    verdict: &'static str,
    reason: Option<String>,
    signer: Option<Signer>,
    scheme: Option<&'static str>,
    payload: Option<serde_json::Value>,
    oddities: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signer {
    key_id: String,
    spki: String,
    algorithm: String,
}

impl From<&CosignSignature> for Signature {
    fn from(signature: &CosignSignature) -> Self {
        let payload = signature.payload.as_ref();
        Self {
            subject: signature.subject.to_string(),
            verdict: match &signature.verdict {
                CosignVerdict::Valid => "valid",
                CosignVerdict::NotByKey(_) => "notJudged",
                CosignVerdict::OtherImage(_) | CosignVerdict::Refused(_) => "refused",
            },
            reason: signature.reason(),
            signer: signature.signer.as_ref().map(|signer| Signer {
                key_id: signer.key_id.clone(),
                spki: signer.spki.clone(),
                algorithm: signer.algorithm.clone(),
            }),
            scheme: signature.scheme,
            payload: payload.and_then(|payload| serde_json::to_value(payload.to_value()).ok()),
            oddities: payload
                .map(|payload| payload.oddities.clone())
                .unwrap_or_default(),
        }
    }
}
