//! Renders what an examination of an image found.

use super::{json, one_line};
use crate::check::{Finding, Problem, Severity};
use serde::Serialize;
use std::fmt::Write as _;

/// One line per finding, in the order of the file.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        // The sentences about faults name the object themselves.
        let named = !matches!(finding.problem, Problem::Fault(_));
        let object = finding.object.filter(|_| named);
        let object = object.map(|id| format!("object {id}: "));
        let text = format!("{}{}", object.unwrap_or_default(), finding.problem);
        let repair = match finding.problem.is_repairable() {
            true => " [can be repaired]",
            false => "",
        };
        let _ = writeln!(
            out,
            "{:<8} bytes {}-{}: {}{repair}",
            finding.severity.to_string(),
            finding.range.start,
            finding.range.end,
            one_line(&text)
        );
    }
    out
}

/// The answer of `sif check --json`; its schema is in `docs/manual.md`.
pub fn check(image: &str, objects: usize, findings: &[Finding]) -> String {
    json::pretty(&Check {
        schema: "sigsif-check-1",
        image,
        clean: findings.iter().all(|f| f.severity == Severity::Note),
        objects,
        findings: findings.iter().map(listed).collect(),
    })
}

#[derive(Serialize)]
struct Check<'a> {
    schema: &'static str,
    image: &'a str,
    clean: bool,
    objects: usize,
    findings: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    severity: String,
    code: &'static str,
    start: u64,
    end: u64,
    object: Option<u32>,
    text: String,
    repairable: bool,
}

fn listed(finding: &Finding) -> Listed {
    Listed {
        severity: finding.severity.to_string(),
        code: finding.problem.code(),
        start: finding.range.start,
        end: finding.range.end,
        object: finding.object,
        text: finding.problem.to_string(),
        repairable: finding.problem.is_repairable(),
    }
}
