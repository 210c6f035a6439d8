//! Files that change while they are verified.

use crate::lines;
use crate::support::{Home, finish, peers, read_peers, start};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is done to a file again and again.
type Unrest = fn(&Path, u64);

/// Vanishes and comes back.
fn vanish(path: &Path, round: u64) {
    let away = path.with_extension("away");
    match round % 2 {
        0 => drop(fs::rename(path, away)),
        _ => drop(fs::rename(away, path)),
    }
}

/// Is replaced, by a good image and by a bad one.
fn replace(path: &Path, round: u64) {
    let from = match round % 2 {
        0 => "native/pgp-one.tampered-object.sif",
        _ => "native/pgp-one.sif",
    };
    let new = path.with_extension("new");
    fs::write(&new, read_peers(from)).expect("a new file");
    fs::rename(new, path).expect("rename");
}

/// Grows and shrinks behind its end.
fn grow(path: &Path, round: u64) {
    if let Ok(file) = File::options().write(true).open(path) {
        let _ = file.set_len(38_529 + 4096 * (round % 5));
    }
}

/// Is cut and filled again.
fn shrink(path: &Path, round: u64) {
    if let Ok(file) = File::options().write(true).open(path) {
        match round % 2 {
            0 => drop(file.set_len(36_000)),
            _ => drop(file.write_all_at(&read_peers("native/pgp-one.sif"), 0)),
        }
    }
}

/// Becomes a pipe, which nobody writes to.
fn pipe(path: &Path, round: u64) {
    let _ = fs::remove_file(path);
    match round % 2 {
        0 => drop(std::process::Command::new("mkfifo").arg(path).status()),
        _ => drop(fs::write(path, read_peers("native/pgp-one.sif"))),
    }
}

#[test]
fn unrest_ends_nothing_and_says_yes_to_nothing_wrong() {
    let home = Home::with_keys();
    fs::create_dir(home.join("t")).expect("a folder");
    let unrest: [(&str, Unrest); 5] = [
        ("vanish", vanish),
        ("replace", replace),
        ("grow", grow),
        ("shrink", shrink),
        ("pipe", pipe),
    ];
    for (name, _) in unrest {
        for number in 0..40 {
            home.copy("native/pgp-one.sif", &format!("t/{name}{number}.sif"));
        }
    }
    // These never are in order, whatever happens.
    for number in 0..40 {
        let bad = home.copy(
            "native/pgp-one.tampered-object.sif",
            &format!("t/bad{number}.sif"),
        );
        assert!(bad.is_file());
    }
    let stop = AtomicBool::new(false);
    let mut seen = BTreeMap::<String, usize>::new();
    std::thread::scope(|scope| {
        for (name, work) in unrest {
            let (home, stop) = (&home, &stop);
            scope.spawn(move || {
                for round in 0.. {
                    for number in 0..40 {
                        if stop.load(Ordering::Relaxed) && round % 2 == 0 {
                            return;
                        }
                        work(&home.join(&format!("t/{name}{number}.sif")), round);
                    }
                }
            });
        }
        // The list is made once, so that every name is asked for.
        let names: Vec<_> = unrest
            .iter()
            .map(|(name, _)| *name)
            .chain(["bad"])
            .flat_map(|name| (0..40).map(move |number| format!("t/{name}{number}.sif")))
            .collect();
        home.write("list", names.join("\n").as_bytes());
        for _ in 0..5 {
            let flags = [
                "verify",
                "--local",
                "--format",
                "json",
                "--from-file",
                "list",
            ];
            let child = start(&mut home.sigsif(flags));
            let outcome = finish(child, Duration::from_secs(60), "the run");
            let lines = lines(&outcome.stdout);
            if lines.len() != names.len() || outcome.code != Some(255) {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(lines.len(), names.len(), "{outcome}");
            for line in lines {
                let image = line["image"].as_str().expect("a name").to_owned();
                let verdict = line["verdict"].as_str().expect("a verdict");
                if image.starts_with("t/bad") && verdict != "refused" {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{image}: {line}");
                }
                *seen.entry(verdict.to_owned()).or_default() += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("{seen:?}");
    assert!(
        seen["refused"] >= 200 && seen.contains_key("verified"),
        "{seen:?}"
    );
    assert!(peers("native/pgp-one.sif").is_file());
}
