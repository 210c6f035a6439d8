//! Start-up: `cargo bench --bench startup`.
//!
//! Instructions by `valgrind --tool=callgrind`, which load of the machine does
//! not change, and times beside other programs. `SIGSIF_BENCH_STATIC` names a
//! second build, such as a static one, to be measured in the same runs.

#![allow(missing_docs, reason = "a program, not a library")]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tools::{SIGSIF, fixture, run, text};

const ROUNDS: usize = 101;

fn main() {
    if !tools::is_wanted() {
        return;
    }
    let mut builds = vec![("sigsif", PathBuf::from(SIGSIF))];
    builds.extend(
        std::env::var_os("SIGSIF_BENCH_STATIC").map(|path| ("static", PathBuf::from(path))),
    );
    let small = fixture("native/dsse-ed25519.sif");
    let small = small.to_string_lossy();
    let key = fixture("keys/ed25519.pub.pem");
    let key = key.to_string_lossy();
    let commands: [&[&str]; 4] = [
        &["--version"],
        &["sif", "list", &small],
        &["verify", "--key", &key, &small],
        &["verify", "--help"],
    ];
    for (name, path) in &builds {
        let bytes = fs::metadata(path).expect("program").len();
        println!("{name}: {:.1} MiB", bytes as f64 / (1 << 20) as f64);
    }
    let mut rows: Vec<(String, Box<dyn Fn() -> Command>)> = Vec::new();
    for args in commands {
        for (name, path) in &builds {
            let path = path.clone();
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            let shown = args
                .iter()
                .map(|arg| file_name(arg))
                .collect::<Vec<_>>()
                .join(" ");
            rows.push((
                format!("{name} {shown}"),
                Box::new(move || {
                    let mut command = Command::new(&path);
                    command.args(&args);
                    command
                }),
            ));
        }
    }
    let other = |words: &[&str]| -> (String, Box<dyn Fn() -> Command>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        (
            words.join(" "),
            Box::new(move || {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }),
        )
    };
    rows.push(other(&["true"]));
    rows.push(other(&["openssl", "version"]));
    rows.push(other(&["gpg", "--version"]));
    // Alternating, so that the load of the machine meets all alike.
    let mut times = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (times, (_, command)) in times.iter_mut().zip(&rows) {
            times.push(tools::time(&|| run(&mut command())));
        }
    }
    println!("\n| command | median of {ROUNDS} | least | instructions |\n|---|---|---|---|");
    for (times, (name, command)) in times.into_iter().zip(&rows) {
        let least = times.iter().min().copied().unwrap_or_default();
        println!(
            "| {name} | {} | {} | {} |",
            text(tools::median(times)),
            text(least),
            instructions(&command()).unwrap_or_else(|| "valgrind is not installed".to_owned())
        );
    }
}

fn file_name(argument: &str) -> String {
    let path = Path::new(argument);
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Instructions in user mode, from the first one of the dynamic loader.
fn instructions(command: &Command) -> Option<String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, count) = text.split_once("Collected : ")?;
    let count: f64 = count.lines().next()?.trim().parse().ok()?;
    Some(format!("{:.2} million", count / 1e6))
}
