//! Ten thousand images, one in a hundred of them damaged in a way of its own.

use crate::support::{Home, peers, read_peers, run, skip};
use crate::{lines, verdicts};
use std::fs;
use std::path::Path;

const IMAGES: usize = 10_000;
/// Most resident memory, in KiB, that ten times the images may need more.
const MORE: u64 = 4 << 10;

/// How the image with this number is damaged, if it is.
fn damage(number: usize) -> Option<Vec<u8>> {
    if number % 100 != 41 {
        return None;
    }
    let kind = number / 100;
    let mut bytes = read_peers("native/pgp-one.sif");
    let len = bytes.len();
    match kind % 10 {
        // Inside of the three objects, each time another byte.
        0 => bytes[32768 + kind] ^= 1,
        1 => bytes[len - 200 - kind] ^= 0x20,
        // Names of the first descriptors, counts, positions.
        2 => bytes[4096 + 57 + kind % 100] ^= 0x40,
        3 => bytes[4096 + 5] ^= 1 << (kind % 3),
        4 => bytes[32..42].fill(0),
        5 => bytes.truncate(len - 1 - kind),
        6 => bytes.truncate(kind),
        7 => bytes[4096 + 585 + 17..4096 + 585 + 25].fill(0xff),
        8 => bytes = read_peers("native/unsigned.sif"),
        _ => bytes = read_peers("native/dsse-p256.tampered-signature.sif"),
    }
    Some(bytes)
}

/// Fills a folder; undamaged images are names of one file, which costs no disk.
fn fill(home: &Home, folder: &str, count: usize) {
    fs::create_dir(home.join(folder)).expect("a folder");
    let good = home.join("good");
    if !good.exists() {
        home.copy("native/pgp-one.sif", "good");
    }
    for number in 0..count {
        let path = home.join(&format!("{folder}/{number}.sif"));
        match damage(number) {
            Some(bytes) => fs::write(path, bytes).expect("an image"),
            None => fs::hard_link(&good, path).expect("a link"),
        }
    }
}

#[test]
fn every_answer_is_right_none_is_missing_and_memory_is_flat() {
    let home = Home::with_keys();
    fill(&home, "few", IMAGES / 10);
    fill(&home, "all", IMAGES);
    let mut peaks = Vec::new();
    for (folder, count) in [("few", IMAGES / 10), ("all", IMAGES)] {
        let report = format!("{folder}.jsonl");
        let flags = [
            "verify",
            "--local",
            "--recursive",
            "--report",
            &report,
            folder,
        ];
        let mut command = home.sigsif(flags);
        let time = Path::new("/usr/bin/time");
        if time.is_file() {
            let peak = home.join("peak");
            let mut timed = home.clean(time);
            timed.args(["-f", "%M", "-o"]).arg(&peak);
            timed.arg(command.get_program()).args(command.get_args());
            command = timed;
        }
        let outcome = run(&mut command).expect(255);
        let found = verdicts(&outcome);
        assert_eq!(found.len(), count);
        for number in 0..count {
            let verdict = &found[&format!("{folder}/{number}.sif")];
            assert_eq!(damage(number).is_none(), verdict == "verified", "{number}");
        }
        let bad = count / 100;
        let sum = format!("{count} images: {} verified", count - bad);
        let report = lines(&fs::read(home.join(&report)).expect("a report"));
        assert_eq!(report.len(), count);
        outcome
            .says(&sum)
            .says(&format!("{bad} of {count} image(s) not verified"));
        if let Ok(peak) = fs::read_to_string(home.join("peak")) {
            let peak = peak
                .lines()
                .last()
                .and_then(|line| line.trim().parse::<u64>().ok());
            peaks.push(peak.expect("a figure"));
        }
    }
    match peaks.as_slice() {
        [few, all] => {
            eprintln!("{} images: {few} KiB, {IMAGES}: {all} KiB", IMAGES / 10);
            assert!(*all <= few + MORE, "{few} KiB grew to {all} KiB");
        }
        _ => skip("GNU time is not installed: memory was not measured"),
    }
}

#[test]
fn damaged_images_are_refused_alone_as_well() {
    let home = Home::with_keys();
    let key = peers("keys/p256.pub.pem").display().to_string();
    for number in (41..1041).step_by(100) {
        let bytes = damage(number).expect("damage");
        let image = home.write("x.sif", &bytes);
        for flags in [&["--local"][..], &["--key", &key]] {
            run(home.sigsif(["verify"]).args(flags).arg(&image)).expect(255);
        }
    }
}
