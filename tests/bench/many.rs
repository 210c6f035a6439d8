//! Many images in one run: `cargo bench --bench many`.
//!
//! Ten thousand small signed images beside a loop of `apptainer verify`
//! (`SIGSIF_APPTAINER`) or, without it, beside the start of `openssl dgst`; and
//! 64 images of 64 MiB on one core and on two.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tools::{Layout, MIB, SIGSIF, apptainer, fixture, run, sign, text};

const IMAGES: usize = 10_000;
/// Images of the loop that the peer gets.
const LOOP: usize = 100;
const ROUNDS: usize = 5;

fn main() {
    if !tools::is_wanted() {
        return;
    }
    let folder = tools::folder();
    println!("| what | time | beside | time | ratio | target |\n|---|---|---|---|---|---|");
    small(folder.path());
    large(folder.path());
}

/// `verify` with a keyring of its own.
fn verify(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(SIGSIF);
    command
        .env("SIGSIF_KEYSDIR", folder.join("keys"))
        .env("SIGSIF_SYSCONFDIR", folder.join("etc"))
        .args(["verify", "--local"])
        .args(args);
    command
}

fn small(folder: &Path) {
    let keys = folder.join("keys");
    fs::create_dir_all(&keys).expect("a folder");
    for name in ["pgp-public", "pgp-secret"] {
        fs::copy(fixture("keys/keyring").join(name), keys.join(name)).expect("a keyring");
    }
    let images = folder.join("images");
    fs::create_dir_all(&images).expect("a folder");
    let paths: Vec<PathBuf> = (0..IMAGES)
        .map(|n| images.join(format!("{n}.sif")))
        .collect();
    for path in &paths {
        fs::copy(fixture("native/pgp-one.sif"), path).expect("an image");
    }
    let images = images.to_str().expect("UTF-8");
    let report = folder.join("all.jsonl");
    let ours = || {
        let _ = fs::remove_file(&report);
        let report = report.to_str().expect("UTF-8");
        run(&mut verify(
            folder,
            &["--recursive", "--report", report, images],
        ));
    };
    type Peer<'p> = Box<dyn Fn(&Path) + 'p>;
    let (name, peer): (&str, Peer<'_>) = match apptainer(&[]) {
        Some(_) => (
            "`apptainer verify`",
            Box::new(|path| {
                let image = path.to_str().expect("UTF-8");
                let mut command = apptainer(&["verify", "--local", image]).expect("the peer");
                run(command.env("APPTAINER_KEYSDIR", &keys).env("HOME", folder));
            }),
        ),
        None => (
            "`openssl dgst -sha256`",
            Box::new(|path| run(Command::new("openssl").args(["dgst", "-sha256"]).arg(path))),
        ),
    };
    let theirs = || paths.iter().take(LOOP).for_each(|path| peer(path));
    let mut times = [Vec::new(), Vec::new()];
    ours();
    for _ in 0..ROUNDS {
        times[0].push(tools::time(&ours));
        times[1].push(tools::time(&theirs));
    }
    let [ours, theirs] = times.map(tools::median);
    let scaled = theirs * u32::try_from(IMAGES / LOOP).expect("a number");
    row(
        &format!("verify {IMAGES} signed images of 38 KiB, with a report"),
        ours,
        &format!("a loop of {name}, {LOOP} of them scaled"),
        scaled,
        scaled.as_secs_f64() / ours.as_secs_f64(),
        "at least 20",
    );
}

fn large(folder: &Path) {
    let images = folder.join("large");
    fs::create_dir_all(&images).expect("a folder");
    let first = images.join("0.sif");
    let layout = Layout {
        objects: &[(64 * MIB, 1)],
        capacity: 48,
        is_sparse: false,
    };
    tools::make_image(&first, &layout);
    sign(&first, &fixture("keys/ed25519.key.pem"));
    for number in 1..64 {
        fs::copy(&first, images.join(format!("{number}.sif"))).expect("an image");
    }
    let images = images.to_str().expect("UTF-8");
    let key = fixture("keys/ed25519.pub.pem");
    let key = key.to_str().expect("UTF-8");
    let by = |jobs: &'static str| {
        move || {
            run(&mut verify(
                folder,
                &["--key", key, "--jobs", jobs, "-r", images],
            ))
        }
    };
    // What the cores give at all: two programs that share nothing.
    let hash = |at: usize| {
        let path = format!("{images}/{at}.sif");
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256"]).args(vec![path; 16]);
        command
    };
    let alone = || {
        run(&mut hash(0));
        run(&mut hash(1));
    };
    let together = || {
        std::thread::scope(|scope| {
            for at in [0, 1] {
                scope.spawn(move || run(&mut hash(at)));
            }
        });
    };
    let mut times = [const { Vec::<Duration>::new() }; 4];
    by("2")();
    for _ in 0..ROUNDS {
        times[0].push(tools::time(&by("2")));
        times[1].push(tools::time(&by("1")));
        times[2].push(tools::time(&together));
        times[3].push(tools::time(&alone));
    }
    let [two, one, together, alone] = times.map(tools::median);
    let gain = |two: Duration, one: Duration| one.as_secs_f64() / two.as_secs_f64();
    row(
        "verify 64 images of 64 MiB, two jobs",
        two,
        "one job",
        one,
        gain(two, one),
        "at least 1.8",
    );
    row(
        "`openssl dgst` of 1 GiB twice, at once",
        together,
        "one after the other",
        alone,
        gain(together, alone),
        "what two cores give",
    );
}

fn row(what: &str, time: Duration, beside: &str, other: Duration, ratio: f64, target: &str) {
    println!(
        "| {what} | {} | {beside} | {} | {ratio:.2} | {target} |",
        text(time),
        text(other)
    );
}
