//! Reports: flushed, gone on with, joined.

use crate::lines;
use crate::support::{Home, Outcome, finish, run, skip_without, start, strace, tool};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

const GOOD: &str = "native/pgp-one.sif";

/// Images in `t`, some of them bad.
fn tree(count: usize) -> Home {
    let home = Home::with_keys();
    fs::create_dir(home.join("t")).expect("a folder");
    for number in 0..count {
        let from = match number % 10 {
            7 => "native/unsigned.sif",
            8 => "native/pgp-one.tampered-object.sif",
            9 => "native/pgp-one.truncated.sif",
            _ => GOOD,
        };
        home.copy(from, &format!("t/{number}.sif"));
    }
    symlink("nowhere", home.join("t/gone.sif")).expect("a link");
    home
}

fn verify(home: &Home, more: &[&str]) -> Outcome {
    run(home
        .sigsif(["verify", "--local", "--recursive"])
        .args(more)
        .arg("t"))
}

/// The lines of a report as a set.
fn set(home: &Home, name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(home.join(name)).expect("a report");
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_report_has_a_line_for_each_image_and_one_at_its_end() {
    let home = tree(20);
    let outcome = verify(&home, &["--report", "r.jsonl", "--format", "json"]).expect(255);
    let text = fs::read(home.join("r.jsonl")).expect("a report");
    let report = lines(&text);
    assert_eq!(report, lines(&outcome.stdout));
    assert_eq!(report.len(), 21);
    let last = String::from_utf8(text).expect("UTF-8");
    let last: Value = serde_json::from_str(last.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["schema"], "sigsif-verify-run-1");
    assert_eq!(last["images"], 21);
    // 14 good ones; 2 without signature, 2 changed, 2 cut short and a link to nowhere.
    assert_eq!(last["verdicts"]["verified"], 14);
    assert_eq!(last["verdicts"]["unsigned"], 2);
    let bad = ["refused", "error"].map(|word| last["verdicts"][word].as_u64().expect("a number"));
    assert_eq!(bad.iter().sum::<u64>(), 5);
    assert!(report.iter().all(|line| line["run"] == last["run"]));
}

#[test]
fn a_killed_run_is_gone_on_with_to_the_same_report() {
    let home = tree(60);
    verify(&home, &["--report", "whole.jsonl"]).expect(255);
    let whole = set(&home, "whole.jsonl");
    let mut began = BTreeSet::new();
    for round in 0..12_u64 {
        let mut command = home.sigsif(["verify", "--local", "--recursive", "--jobs", "2"]);
        let mut child = start(command.args(["--report", "r.jsonl", "t"]));
        std::thread::sleep(Duration::from_millis(4 * round));
        let _ = child.kill();
        finish(child, Duration::from_secs(9), "the killed run");
        let report = fs::read(home.join("r.jsonl")).unwrap_or_default();
        began.insert(report.iter().filter(|b| **b == b'\n').count());
        verify(&home, &["--report", "r.jsonl", "--resume"]).expect(255);
        assert_eq!(set(&home, "r.jsonl"), whole, "after {round}");
        fs::remove_file(home.join("r.jsonl")).expect("remove");
    }
    eprintln!("killed with so many lines written: {began:?}");
    let left: Vec<_> = fs::read_dir(home.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with(".sigsif"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_report_that_is_cut_anywhere_is_gone_on_with() {
    let home = tree(10);
    verify(&home, &["--report", "whole.jsonl"]).expect(255);
    let whole = set(&home, "whole.jsonl");
    let bytes = fs::read(home.join("whole.jsonl")).expect("a report");
    let step = bytes.len() / 40;
    for len in (0..bytes.len()).step_by(step) {
        home.write("r.jsonl", &bytes[..len]);
        verify(&home, &["--report", "r.jsonl", "--resume"]).expect(255);
        assert_eq!(set(&home, "r.jsonl"), whole, "cut at {len}");
        fs::remove_file(home.join("r.jsonl")).expect("remove");
    }
}

#[test]
fn only_what_has_not_changed_is_kept() {
    let home = tree(10);
    verify(&home, &["--report", "r.jsonl"]).expect(255);
    // Same length, same time of modification, another content.
    let path = home.join("t/0.sif");
    let before = fs::metadata(&path).expect("an image");
    let mut bytes = fs::read(&path).expect("an image");
    let bad = fs::read(home.join("t/8.sif")).expect("an image");
    assert_eq!(bytes.len(), bad.len());
    bytes.copy_from_slice(&bad);
    fs::write(&path, bytes).expect("another image");
    let file = fs::File::options().write(true).open(&path).expect("open");
    file.set_modified(before.modified().expect("a time"))
        .expect("a time");
    drop(file);
    fs::remove_file(home.join("t/1.sif")).expect("remove");
    home.copy(GOOD, "t/new.sif");
    verify(&home, &["--report", "r.jsonl", "--resume"]).expect(255);
    let report = lines(&fs::read(home.join("r.jsonl")).expect("a report"));
    let verdict = |image: &str| {
        let mut found = report.iter().filter(|line| line["image"] == image);
        let verdict = found
            .next()
            .map(|line| line["verdict"].as_str().expect("a verdict"));
        assert!(found.next().is_none(), "{image} twice");
        verdict
    };
    assert_eq!(verdict("t/0.sif"), Some("refused"));
    assert_eq!(verdict("t/1.sif"), None);
    assert_eq!(verdict("t/new.sif"), Some("verified"));
    assert_eq!(verdict("t/2.sif"), Some("verified"));
}

#[test]
fn answers_by_other_keys_or_flags_are_not_taken_over() {
    let home = tree(10);
    verify(&home, &["--report", "r.jsonl"]).expect(255);
    let before = fs::read(home.join("r.jsonl")).expect("a report");
    let key = crate::support::peers("keys/p256.pub.pem")
        .display()
        .to_string();
    for flags in [
        &["--strict"][..],
        &["--key", &key],
        &["--require", crate::ONE],
        &["--ignore-unknown"],
        &["--group-id", "1"],
        &["--at", "2030-01-01T00:00:00Z"],
    ] {
        let mut all = vec!["--report", "r.jsonl", "--resume"];
        all.extend(flags);
        verify(&home, &all)
            .expect(255)
            .says("made with other keys, flags or another version");
        assert_eq!(fs::read(home.join("r.jsonl")).expect("a report"), before);
    }
    // A key less in the keyring.
    run(&mut home.sigsif(["key", "remove", crate::ONE])).expect(0);
    verify(&home, &["--report", "r.jsonl", "--resume"])
        .expect(255)
        .says("made with other keys");
}

#[test]
fn a_policy_and_what_it_names_decide_whether_answers_count() {
    let home = tree(10);
    let key = crate::support::read_peers("keys/p256.pub.pem");
    home.write("key.pem", &key);
    let policy = format!(
        "version = 1\n[[signer]]\nname = 'a'\npgp = ['{}']\nkey-files = ['key.pem']\n\
         [[rule]]\nsigners = ['a']\n",
        crate::ONE
    );
    home.write("policy.toml", policy.as_bytes());
    let flags = ["--policy", "policy.toml", "--report", "r.jsonl"];
    verify(&home, &flags).expect(255);
    let resume: Vec<_> = flags.iter().copied().chain(["--resume"]).collect();
    verify(&home, &resume)
        .expect(255)
        .says("image(s) are in the report already");
    home.write(
        "key.pem",
        &crate::support::read_peers("keys/ed25519.pub.pem"),
    );
    verify(&home, &resume)
        .expect(255)
        .says("made with other keys");
}

#[test]
fn a_report_is_never_overwritten_or_written_by_two() {
    let home = tree(3);
    verify(&home, &["--report", "r.jsonl"]).expect(255);
    let before = fs::read(home.join("r.jsonl")).expect("a report");
    verify(&home, &["--report", "r.jsonl"])
        .expect(255)
        .says("'r.jsonl' exists and is not empty");
    let held = fs::File::open(home.join("r.jsonl")).expect("open");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    verify(&home, &["--report", "r.jsonl", "--resume"])
        .expect(255)
        .says("is being written by another program");
    drop(held);
    assert_eq!(fs::read(home.join("r.jsonl")).expect("a report"), before);
    home.write("other.jsonl", b"some notes\nof mine\n");
    verify(&home, &["--report", "other.jsonl", "--resume"])
        .expect(255)
        .says("report '")
        .says("line 1");
    let notes = fs::read(home.join("other.jsonl")).expect("the notes");
    assert_eq!(notes, b"some notes\nof mine\n");
}

#[test]
fn a_report_that_cannot_be_written_ends_the_run() {
    let home = tree(3);
    verify(&home, &["--report", "none/r.jsonl"])
        .expect(255)
        .says("no such file or directory");
    verify(&home, &["--report", "t/../t"]).expect(1);
    symlink("/dev/full", home.join("full.jsonl")).expect("a link");
    verify(&home, &["--report", "full.jsonl"])
        .expect(255)
        .says("not a regular file");
    verify(&home, &["--report", "none/r.html"])
        .expect(255)
        .says("while writing 'none/r.html'");
}

#[test]
fn a_reader_that_goes_away_does_not_stop_a_report() {
    let home = tree(40);
    let mut command = home.sigsif(["verify", "--local", "--recursive", "--jobs", "1"]);
    let mut child = start(command.args(["--report", "r.jsonl", "t"]));
    drop(child.stdout.take());
    finish(child, Duration::from_secs(60), "the run").expect(255);
    let report = lines(&fs::read(home.join("r.jsonl")).expect("a report"));
    assert_eq!(report.len(), 41);
}

#[test]
fn the_page_has_what_the_lines_have_also_after_a_pause() {
    let home = tree(20);
    verify(&home, &["--report", "r.jsonl", "--report", "one.html"]).expect(255);
    let bytes = fs::read(home.join("r.jsonl")).expect("a report");
    home.write("half.jsonl", &bytes[..bytes.len() / 2]);
    let flags = ["--report", "half.jsonl", "--resume", "--report", "two.html"];
    verify(&home, &flags).expect(255);
    run(&mut home.sigsif(["report", "html", "three.html", "r.jsonl"])).expect(0);
    for page in ["one.html", "two.html", "three.html"] {
        let text = fs::read_to_string(home.join(page)).expect("a page");
        assert!(text.contains("<dt>Verified</dt><dd><b>14</b>"), "{page}");
        for number in 0..20 {
            assert!(
                text.contains(&format!("t/{number}.sif")),
                "{page}: {number}"
            );
        }
    }
}

/// Three shards, and the report of all.
fn shards() -> Home {
    let home = tree(30);
    verify(&home, &["--report", "whole.jsonl"]).expect(255);
    for number in 1..=3 {
        let (shard, report) = (format!("{number}/3"), format!("{number}.jsonl"));
        verify(&home, &["--shard", &shard, "--report", &report]);
    }
    home
}

fn merge(home: &Home, args: &[&str]) -> Outcome {
    run(home.sigsif(["report", "merge"]).args(args))
}

#[test]
fn shards_join_to_the_report_of_all() {
    let home = shards();
    merge(&home, &["all.jsonl", "3.jsonl", "1.jsonl", "2.jsonl"])
        .expect(255)
        .says("31 images: 21 verified")
        .says("10 of 31 image(s) not verified");
    assert_eq!(set(&home, "all.jsonl"), set(&home, "whole.jsonl"));
    merge(&home, &["all.html", "1.jsonl", "2.jsonl", "3.jsonl"]).expect(255);
    let page = fs::read_to_string(home.join("all.html")).expect("a page");
    assert!(page.contains("<dt>Verified</dt><dd><b>21</b>"));
}

#[test]
fn joining_good_reports_is_a_success() {
    let home = Home::with_keys();
    for folder in ["a", "b"] {
        fs::create_dir(home.join(folder)).expect("a folder");
        home.copy(GOOD, &format!("{folder}/x.sif"));
        let report = format!("{folder}.jsonl");
        let flags = ["verify", "--local", "-r", "--report", &report, folder];
        run(&mut home.sigsif(flags)).expect(0);
    }
    merge(&home, &["all.jsonl", "a.jsonl", "b.jsonl"])
        .expect(0)
        .says("2 images: 2 verified");
}

#[test]
fn nothing_is_joined_that_is_not_whole() {
    let home = shards();
    let text = |name: &str| fs::read_to_string(home.join(name)).expect("a report");
    let part = text("2.jsonl");
    let without_end: Vec<_> = part.lines().collect();
    let without_end = without_end[..without_end.len() - 1].join("\n") + "\n";
    home.write("cut.jsonl", without_end.as_bytes());
    let mut less: Vec<_> = part.lines().collect();
    less.remove(0);
    home.write("less.jsonl", (less.join("\n") + "\n").as_bytes());
    home.write("torn.jsonl", part.trim_end().as_bytes());
    home.write(
        "behind.jsonl",
        format!("{part}{}", text("1.jsonl")).as_bytes(),
    );
    let key = crate::support::peers("keys/p256.pub.pem")
        .display()
        .to_string();
    verify(
        &home,
        &["--key", &key, "--shard", "2/3", "--report", "other.jsonl"],
    );
    verify(&home, &["--shard", "2/4", "--report", "fourth.jsonl"]);
    home.write("garbage.jsonl", b"{\"schema\":\"sigsif-verify-9\"}\n");
    for (reports, why) in [
        (
            &["1.jsonl", "3.jsonl"][..],
            "the report of shard 2/3 is missing",
        ),
        (
            &["1.jsonl", "cut.jsonl", "3.jsonl"],
            "the run was interrupted",
        ),
        (
            &["1.jsonl", "torn.jsonl", "3.jsonl"],
            "the run was interrupted",
        ),
        (&["1.jsonl", "less.jsonl", "3.jsonl"], "it has"),
        (&["2.jsonl", "2.jsonl"], "has a line already"),
        (&["behind.jsonl"], "stands behind the end of the run"),
        (
            &["1.jsonl", "other.jsonl", "3.jsonl"],
            "made with other keys",
        ),
        (&["1.jsonl", "fourth.jsonl"], ""),
        (&["1.jsonl", "whole.jsonl"], ""),
        (
            &["1.jsonl", "garbage.jsonl"],
            "schema \"sigsif-verify-9\" is not known",
        ),
        (&["1.jsonl", "missing.jsonl"], "no such file or directory"),
    ] {
        let mut args = vec!["all.jsonl"];
        args.extend(reports);
        let outcome = merge(&home, &args);
        assert_eq!(outcome.code, Some(255), "{reports:?}: {outcome}");
        assert!(outcome.stderr.contains(why), "{reports:?}: {outcome}");
        assert!(!home.join("all.jsonl").exists(), "{reports:?}");
        args[0] = "all.html";
        merge(&home, &args).expect(255);
        assert!(!home.join("all.html").exists(), "{reports:?}");
    }
    merge(&home, &["all.txt", "1.jsonl"])
        .expect(255)
        .says("must end in .jsonl or .html");
    merge(&home, &["all.jsonl"]).expect(1);
}

/// Each line is one call of the system, so that it is there as soon as it is said, and whole.
#[test]
fn a_report_is_flushed_line_by_line() {
    if tool("strace").is_none() {
        return skip_without("strace");
    }
    let home = tree(20);
    let flags = ["verify", "--local", "-r", "--report", "r.jsonl", "t"];
    let options = ["-y", "-e", "trace=write"].map(ToOwned::to_owned);
    run(&mut strace(&home.sigsif(flags), &options)).expect(255);
    let trace = fs::read_to_string(home.join("trace")).expect("a trace");
    let writes = trace.lines().filter(|line| line.contains("/r.jsonl>, "));
    assert_eq!(writes.count(), 22);
}
