//! How the answer is told.

use super::super::program::call;
use super::super::{Cause, Error};
use super::strict::{self, Judged};
use crate::report::{self, Failure, Report, SignatureReport, Unmet};
use crate::ui::{coverage, json, one_line, text};
use std::path::Path;

/// What is written to standard output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Original,
    Json,
}

/// The value of --format.
pub(super) fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// How the answer is told.
pub(super) struct Output<'a> {
    pub(super) path: &'a Path,
    pub(super) format: Format,
    pub(super) color: bool,
    /// The time of judgement, if it is not now.
    pub(super) at: Option<u64>,
    /// What a line of a report says besides.
    pub(super) facts: Option<&'a json::Facts>,
}

impl Output<'_> {
    /// The whole answer.
    pub(super) fn json(&self, outcome: &Result<Judged, Cause>) -> String {
        let coverage = outcome.as_ref().ok().and_then(|j| j.coverage.as_ref());
        let outcome = outcome.as_ref().map(|judged| &judged.report);
        let outcome = outcome.map_err(|cause| cause.text.as_str());
        let refusal = coverage.filter(|c| !c.is_complete()).map(strict::refusal);
        let subject = json::Judged {
            image: &self.path.to_string_lossy(),
            facts: self.facts,
        };
        json::full(&subject, self.at, outcome, coverage.zip(Some(refusal)))
    }

    pub(super) fn render(&self, outcome: &Result<Judged, Cause>) -> Result<(), Error> {
        let printed = match (self.format, outcome) {
            (Format::Text, Err(_)) => return Ok(()),
            (Format::Text, Ok(judged)) => {
                let blocks = judged
                    .report
                    .signatures
                    .iter()
                    .filter(|s| {
                        s.ignored || s.failure.as_ref().is_none_or(Failure::is_about_content)
                    })
                    .map(|signature| text::signature(signature, self.color));
                let head = self.at.map(text::judged_at);
                let mut printed: String = head.into_iter().chain(blocks).collect();
                let standing = judged.report.standing.as_deref();
                printed.extend(standing.map(text::standing));
                if let Some(coverage) = judged.coverage_of_verified() {
                    printed.push_str(&coverage::text(coverage));
                }
                printed
            }
            (Format::Original, Ok(judged)) => json::original(&judged.report),
            (Format::Original, Err(_)) => json::original(&Report::default()),
            (Format::Json, outcome) => self.json(outcome),
        };
        match super::super::print(printed) {
            // The verdict counts even if nobody reads the report.
            Err(Error::Quiet(_)) => Ok(()),
            other => other,
        }
    }
}

/// Which check refuses; the sentences about demands say so themselves.
pub(super) fn about(failure: &Failure) -> &'static str {
    match failure {
        Failure::Policy(_) => "",
        _ => "integrity: ",
    }
}

/// What to say of a signature by nobody whom the rule of a policy accepts.
pub(super) fn outside_rule(signature: &SignatureReport) -> String {
    let by = match signature.claimed.is_empty() {
        true => String::new(),
        false => format!(", which names the key {}", signature.claimed.join(", ")),
    };
    one_line(&format!(
        "The rule accepts no key that could judge this signature{by}"
    ))
}

/// What to do about a refusal whose sentence alone does not tell.
pub(super) fn hint(report: &Report, failure: &Failure) -> Option<String> {
    let unknown = report.by_unknown(failure);
    let names = unknown.map_or(&[][..], |signature| &signature.claimed);
    let names = one_line(&names.join(", "));
    match failure {
        Failure::NoSignatureForGroup(group) => Some(format!(
            "No signature of the current format names group {group}: it is not signed, or only \
             with a legacy signature"
        )),
        Failure::UngroupedObject(id) => Some(format!(
            "Object {id} is in no group, so no signature can cover it"
        )),
        Failure::SignatureCut(id) => Some(format!(
            "Signature object {id} reaches past the end of the file: the image is cut short"
        )),
        Failure::NoKeyForDsse if names.is_empty() => {
            Some("The signature was made with a PEM key; give its public key with --key".to_owned())
        }
        Failure::NoKeyForDsse => Some(format!(
            "The signature was made with a PEM key, {names}; give its public key with --key"
        )),
        Failure::NoKeyForPgp => Some(
            "The signature was made with an OpenPGP key; --pgp judges such signatures too"
                .to_owned(),
        ),
        Failure::Policy(Unmet::TooFew { .. }) => Some(
            "A signer counts once; a key that only a key server has does not count unless its \
             fingerprint is required"
                .to_owned(),
        ),
        Failure::NotValid { object, .. } if !names.is_empty() => {
            Some(match unknown.and_then(|signature| signature.format) {
                Some(report::Format::Pgp) => format!(
                    "Signature object {object} names the key {names}, which no keyring has; \
                     '{}' or '{}' brings a key",
                    call("key import"),
                    call("key pull")
                ),
                _ => format!(
                    "Signature object {object} names the key {names}, which is none of those given"
                ),
            })
        }
        _ => None,
    }
}
