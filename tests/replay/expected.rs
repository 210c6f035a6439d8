//! `expected.jsonl`: verify and view every image of the peers.

use super::common::fixtures;
use super::common::program::{Call, Input, Sandbox, run};
use super::judge::{Judge, on_all_cores};
use super::record::{self, Record};
use super::wording;

#[test]
fn expected_answers_as_recorded() {
    let judge = Judge::new("expected");
    let records: Vec<_> = record::read(&fixtures::peers().join("expected.jsonl"))
        .into_iter()
        .map(|json| {
            Record::new(json, |json| {
                let words: Vec<_> = record::array(&json["argv"])
                    .iter()
                    .map(record::text)
                    .collect();
                words.join(" ")
            })
        })
        .collect();
    assert_eq!(records.len(), 527, "records in expected.jsonl");
    let sandbox = Sandbox::new();
    fixtures::keyring(&sandbox.keys(), &["pgp-public", "pgp-secret"]);
    let env = sandbox.env();
    on_all_cores(&records, |record| {
        let answer = run(&Call {
            args: &record.argv,
            folder: &fixtures::peers(),
            env: &env,
            input: Input::Empty,
        });
        judge.compare(record, &answer, wording::mask_current_time);
    });
    judge.finish();
}
