//! `edit/edit.jsonl`: looking at images and changing them.

use super::common::fixtures;
use super::common::program::{Call, Input, Sandbox, run};
use super::differences::{FinalImage, IMAGES};
use super::judge::{Judge, on_all_cores};
use super::record::{self, Record};
use super::wording;
use std::fs;
use std::path::Path;

/// Scenarios on images without times and id: nothing in them varies.
const DETERMINISTIC: &[&str] = &["deterministic", "full-table", "odd-objects"];

/// The image that a scenario works on.
const IMAGE: &str = "image.sif";

#[test]
fn edit_answers_as_recorded() {
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
    assert_eq!(judge.compared(), 341, "records with a command");
    judge.finish();
}

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
    let deterministic = DETERMINISTIC.contains(&scenario.as_str());
    // Times and id are the recorded ones.
    let mut fixed = true;
    for json in steps {
        if let [from, to] = record::array(&json["copy"]) {
            fixtures::copy(&work.join(record::text(from)), &work.join(record::text(to)));
            continue;
        }
        let record = Record::new(json.clone(), |json| format!("{scenario} {}", json["step"]));
        let command = record.argv[1].as_str();
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
    if kept.is_file() {
        compare_images(judge, &scenario, &work.join(IMAGE), &kept);
    }
}

/// Compares final images; ids and times vary, unless the image has none.
fn compare_images(judge: &Judge, scenario: &str, found: &Path, kept: &Path) {
    let other = IMAGES.iter().find(|(name, ..)| *name == scenario);
    let read = |path: &Path| {
        let mut bytes = fs::read(path).unwrap_or_default();
        if !DETERMINISTIC.contains(&scenario) {
            mask_image_file(&mut bytes);
        }
        bytes
    };
    let (found, recorded) = (read(found), read(kept));
    let wanted = match other.map(|(_, image, _)| *image) {
        None => recorded.clone(),
        Some(FinalImage::Tidy) => tidy(&recorded),
        Some(FinalImage::Of(name)) => read(&kept.with_file_name(format!("{name}.sif"))),
        Some(FinalImage::Listed) => return,
    };
    if found != wanted {
        judge.note(format!("{scenario}: the final image differs"));
    }
    if other.is_some() && found == recorded {
        judge.note(format!("{scenario}: HEALED, strike it from the list"));
    }
}

/// Makes everything behind the table zero that is not data, and ends the file behind the data.
fn tidy(image: &[u8]) -> Vec<u8> {
    let table = image[..number(image, 112)].to_vec();
    let mut new = table.clone();
    for slot in 0..number(image, 88) {
        let at = number(image, 96) + slot * 585;
        if table[at + 4] != 0 {
            let start = number(&table, at + 17);
            let end = start + number(&table, at + 25);
            new.resize(new.len().max(end), 0);
            new[start..end].copy_from_slice(&image[start..end]);
        }
    }
    new
}

fn number(image: &[u8], at: usize) -> usize {
    let bytes = image.get(at..at + 8).and_then(|b| b.try_into().ok());
    usize::try_from(i64::from_le_bytes(bytes.unwrap_or_default())).unwrap_or_default()
}

/// Blanks id and times of the header, and the times of used descriptors.
fn mask_image_file(image: &mut [u8]) {
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
