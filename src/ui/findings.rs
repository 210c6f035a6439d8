//! Renders what an examination of an image found.

use super::{json, one_line};
use crate::check::repair::Plan;
use crate::check::{Finding, Problem, Severity};
use serde::Serialize;
use std::fmt::Write as _;
use std::ops::Range;

/// One line per finding, in the order of the file.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let repair = match finding.problem.is_repairable() {
            true => " [can be repaired]",
            false => "",
        };
        let _ = writeln!(
            out,
            "{:<8} {}{repair}",
            finding.severity.to_string(),
            line(finding)
        );
    }
    out
}

/// What a repair did, and what it left.
pub fn repaired(plan: &Plan) -> String {
    let mut out = String::new();
    for finding in &plan.repaired {
        let _ = writeln!(out, "repaired {}", line(finding));
    }
    for remark in &plan.remarks {
        let _ = writeln!(out, "note     {}", one_line(remark));
    }
    for finding in &plan.left {
        let _ = writeln!(out, "left     {}", line(finding));
    }
    out
}

/// `bytes 45-48: architecture is arm, must be amd64`
fn line(finding: &Finding) -> String {
    // The sentences about faults name the object themselves.
    let named = !matches!(finding.problem, Problem::Fault(_));
    let object = finding.object.filter(|_| named);
    let object = object.map(|id| format!("object {id}: "));
    let text = format!("{}{}", object.unwrap_or_default(), finding.problem);
    let Range { start, end } = finding.range;
    format!("bytes {start}-{end}: {}", one_line(&text))
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
