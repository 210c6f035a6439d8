//! Verification of what is not in the page cache: `cargo bench --bench reading`.
//!
//! The file is put out of the cache before every run (`posix_fadvise`), then
//! read from the disk as fast as it gives, and from one that is slowed down to
//! fixed rates by a control group (version 1, `blkio.throttle`, needs root).
//! Beside each figure stands the time of reading alone, and what it would be
//! without overlap: reading, and then hashing.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use rustix::fs::{Advice, fadvise, fstat, major, minor};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tools::{Layout, MIB, SIGSIF, fixture, make_image, run, sign, text};

const ROUNDS: usize = 5;

fn main() {
    if !tools::is_wanted() {
        return;
    }
    let folder = tools::folder();
    let one = folder.path().join("one.sif");
    let four = folder.path().join("four.sif");
    for (path, objects) in [(&one, &[(512 * MIB, 1)][..]), (&four, &[(128 * MIB, 1); 4])] {
        let layout = Layout {
            objects,
            capacity: 48,
            is_sparse: false,
        };
        make_image(path, &layout);
        sign(path, &fixture("keys/ed25519.key.pem"));
    }
    println!("512 MiB, median of {ROUNDS} alternating runs, out of the page cache before each\n");
    println!(
        "| reader | image | verify | reading alone | hashing alone | one after the other | verify / the longer of the two |"
    );
    println!("|---|---|---|---|---|---|---|");
    let group = Group::new();
    for rate in [None, Some(800), Some(400), Some(200)] {
        let group = match (rate, &group) {
            (None, _) => None,
            (Some(rate), Some(group)) if group.limit(&one, rate * MIB).is_some() => Some(group),
            (Some(_), _) => {
                println!("no control group with blkio.throttle here: no slow readers");
                return;
            }
        };
        let reader = rate.map_or("the disk".to_owned(), |rate| format!("{rate} MiB/s"));
        for (name, image) in [("one object", &one), ("four objects", &four)] {
            row(&reader, name, image, group);
        }
    }
}

fn row(reader: &str, name: &str, image: &Path, group: Option<&Group>) {
    let public = fixture("keys/ed25519.pub.pem");
    let verify = [
        Path::new(SIGSIF),
        Path::new("verify"),
        Path::new("--key"),
        &public,
        image,
    ];
    let read = [
        Path::new("dd"),
        Path::new("bs=1M"),
        Path::new("of=/dev/null"),
        &input(image),
    ]
    .map(Path::to_owned);
    let read: Vec<&Path> = read.iter().map(PathBuf::as_path).collect();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        times[0].push(cold(image, group, &verify));
        times[1].push(cold(image, group, &read));
        // Warm, and on as many cores.
        run(&mut command(None, &verify));
        times[2].push(tools::time(&|| run(&mut command(None, &verify))));
    }
    let [both, reading, hashing] = times.map(tools::median);
    let ratio = both.as_secs_f64() / reading.max(hashing).as_secs_f64();
    println!(
        "| {reader} | {name} | {} | {} | {} | {} | {ratio:.2} |",
        text(both),
        text(reading),
        text(hashing),
        text(reading + hashing)
    );
}

fn input(image: &Path) -> PathBuf {
    let mut argument = std::ffi::OsString::from("if=");
    argument.push(image);
    argument.into()
}

/// Time of a command that has to read the file from the disk.
fn cold(image: &Path, group: Option<&Group>, words: &[&Path]) -> Duration {
    let file = File::open(image).expect("open");
    file.sync_all().expect("sync");
    fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
    let started = std::time::Instant::now();
    run(&mut command(group, words));
    started.elapsed()
}

fn command(group: Option<&Group>, words: &[&Path]) -> Command {
    let Some(group) = group else {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        return command;
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(group.0.join("cgroup.procs"))
        .args(words);
    command
}

/// A control group whose reads from a disk are limited.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let folder = PathBuf::from("/sys/fs/cgroup/blkio/sigsif-bench");
        if !folder.exists() {
            fs::create_dir(&folder).ok()?;
        }
        Some(Self(folder))
    }

    /// Of the disk that a file is on, at most `rate` bytes in a second.
    fn limit(&self, file: &Path, rate: u64) -> Option<()> {
        let device = fstat(File::open(file).ok()?).ok()?.st_dev;
        let limit = format!("{}:{} {rate}", major(device), minor(device));
        fs::write(self.0.join("blkio.throttle.read_bps_device"), limit).ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
