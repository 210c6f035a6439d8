//! `verify` of many images in one run.

#[path = "many/answers.rs"]
mod answers;
#[path = "many/faults.rs"]
mod faults;
#[path = "many/listing.rs"]
mod listing;
#[path = "many/report.rs"]
mod report;
#[path = "net/server.rs"]
#[allow(dead_code, reason = "every test binary uses only a part")]
mod server;
#[path = "many/servers.rs"]
mod servers;
mod support;
#[path = "many/ten_thousand.rs"]
mod ten_thousand;

use serde_json::Value;
use std::collections::BTreeMap;
use support::Outcome;

/// The fingerprint in the keyring of the fixtures.
const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";

/// The lines of a report, without the one at its end.
fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    let all = text.lines().map(|line| match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {line}"),
    });
    all.filter(|line: &Value| line["schema"] != "sigsif-verify-run-1")
        .collect()
}

/// Verdict by image; each image has one line.
fn verdicts(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in std::str::from_utf8(&outcome.stdout).expect("UTF-8").lines() {
        let (verdict, rest) = line.split_once(' ').expect("a verdict");
        let (image, _) = rest.trim_start().split_once(": ").expect("a path");
        let twice = all.insert(image.to_owned(), verdict.to_owned());
        assert!(twice.is_none(), "two lines for {image}");
    }
    all
}
