//! `edit/edit.jsonl`: looking at images, and later changing them.
//!
//! A step whose command is not in [`BUILT`] is left out. If it changed an
//! image, steps that look at it are left out too until no such step follows:
//! then the image is the one that was kept at the end of the scenario. With
//! every command in the list the whole file is replayed, and the final images
//! are compared as well.

use super::common::fixtures;
use super::common::program::{Call, Input, Sandbox, run};
use super::judge::{Judge, on_all_cores};
use super::record::{self, Record};
use super::wording;
use std::fs;
use std::path::Path;

/// Subcommands that exist.
const BUILT: &[&str] = &["header", "list", "info", "dump"];

/// All subcommands of the records.
const RECORDED: &[&str] = &[
    "header", "list", "info", "dump", "new", "add", "del", "setprim",
];

/// Scenarios on images without times and id: nothing in them varies.
const DETERMINISTIC: &[&str] = &["deterministic", "full-table", "odd-objects"];

/// The image that a scenario works on.
const IMAGE: &str = "image.sif";

#[test]
fn edit_viewing_answers_as_recorded() {
    let judge = Judge::new("edit");
    let mut scenarios: Vec<Vec<serde_json::Value>> = Vec::new();
    for json in record::read(&fixtures::peers().join("edit/edit.jsonl")) {
        match scenarios.last_mut() {
            Some(steps) if steps[0]["scenario"] == json["scenario"] => steps.push(json),
            _ => scenarios.push(vec![json]),
        }
    }
    assert_eq!(scenarios.len(), 20, "scenarios in edit.jsonl");
    on_all_cores(&scenarios, |steps| replay(&judge, steps));
    // The number shows when an image that was to be looked at goes missing.
    let wanted = if BUILT.len() == RECORDED.len() {
        341
    } else {
        VIEWED
    };
    if judge.compared() != wanted {
        judge.note(format!(
            "{} records compared, not {wanted}",
            judge.compared()
        ));
    }
    judge.finish();
}

/// Records that can be replayed with today's list.
const VIEWED: usize = 139;

fn replay(judge: &Judge, steps: &[serde_json::Value]) {
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    let folder = fixtures::peers().join("edit");
    for input in fs::read_dir(folder.join("inputs")).expect("inputs") {
        let input = input.expect("input").path();
        fixtures::copy(&input, &work.join(input.file_name().expect("name")));
    }
    let scenario = record::text(&steps[0]["scenario"]);
    let kept = folder.join("images").join(format!("{scenario}.sif"));
    let left_out: Vec<bool> = steps.iter().map(changes_without_us).collect();
    let deterministic = DETERMINISTIC.contains(&scenario.as_str());
    // Times and id are the recorded ones.
    let mut fixed = true;
    let mut unknown = false;
    for (index, json) in steps.iter().enumerate() {
        if let [from, to] = record::array(&json["copy"]) {
            fixtures::copy(&work.join(record::text(from)), &work.join(record::text(to)));
            continue;
        }
        let record = Record::new(json.clone(), |json| format!("{scenario} {}", json["step"]));
        let command = record.argv[1].as_str();
        if left_out[index] {
            unknown |= record.has(IMAGE);
            fixed &= deterministic || !record.has(IMAGE);
            if unknown && !left_out[index + 1..].contains(&true) && kept.is_file() {
                fixtures::copy(&kept, &work.join(IMAGE));
                unknown = false;
            }
            continue;
        }
        if !BUILT.contains(&command) || (unknown && record.has(IMAGE)) {
            continue;
        }
        if !matches!(command, "header" | "list" | "info" | "dump") {
            fixed &= deterministic || !record.has(IMAGE);
        }
        let answer = run(&Call {
            args: &record.argv,
            folder: &work,
            env: &sandbox.env(),
            input: Input::Empty,
        });
        judge.compare(&record, &answer, |text| match fixed {
            true => text.to_owned(),
            false => wording::mask_image(text),
        });
    }
    if BUILT.len() == RECORDED.len() && kept.is_file() {
        compare_images(judge, &scenario, &work.join(IMAGE), &kept);
    }
}

/// Whether a step changed something by a command that does not exist here.
fn changes_without_us(json: &serde_json::Value) -> bool {
    let command = record::text(&json["argv"][1]);
    assert!(
        json["copy"].is_array() || RECORDED.contains(&command.as_str()),
        "unknown command {command}"
    );
    json["copy"].is_null() && !BUILT.contains(&command.as_str()) && json["rc"] == 0
}

/// Compares final images; ids and times vary, unless the image has none.
fn compare_images(judge: &Judge, scenario: &str, found: &Path, wanted: &Path) {
    let read = |path: &Path| {
        let mut bytes = fs::read(path).unwrap_or_default();
        if !DETERMINISTIC.contains(&scenario) {
            mask_image_file(&mut bytes);
        }
        bytes
    };
    if read(found) != read(wanted) {
        judge.note(format!("{scenario}: the final image differs"));
    }
}

/// Blanks id and times of the header, and the times of used descriptors.
fn mask_image_file(image: &mut [u8]) {
    let number = |image: &[u8], at: usize| {
        let bytes = image.get(at..at + 8).and_then(|b| b.try_into().ok());
        usize::try_from(i64::from_le_bytes(bytes.unwrap_or_default())).unwrap_or_default()
    };
    let (total, table) = (number(image, 88), number(image, 96));
    if let Some(header) = image.get_mut(48..80) {
        header.fill(0);
    }
    for slot in 0..total {
        let at = table + slot * 585;
        if image.get(at + 4).is_some_and(|used| *used != 0) {
            image[at + 41..at + 57].fill(0);
        }
    }
}
