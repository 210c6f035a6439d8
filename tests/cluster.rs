//! The commands of `docs/cluster.md`, run by the schedulers they are for.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use support::{Home, Outcome, finish, project, run, skip, start, tool};

/// Blocks of shell commands of the page.
fn blocks() -> Vec<String> {
    let page = fs::read_to_string(project().join("docs/cluster.md")).expect("the page");
    let parts = page.split("```sh\n").skip(1);
    parts
        .map(|part| part.split("```").next().expect("an end").to_owned())
        .collect()
}

fn block(mark: &str) -> String {
    let mut all = blocks().into_iter().filter(|block| block.contains(mark));
    let found = all.next().expect("a block");
    assert!(all.next().is_none(), "two blocks with {mark}");
    found
}

/// Thirty images, three of them bad, in `images`; the whole report in `whole.jsonl`.
fn site() -> Home {
    let home = Home::with_keys();
    fs::create_dir(home.join("images")).expect("a folder");
    for number in 0..30 {
        let from = match number {
            11 => "native/unsigned.sif",
            12 => "native/pgp-one.tampered-object.sif",
            13 => "native/pgp-one.truncated.sif",
            _ => "native/pgp-one.sif",
        };
        home.copy(from, &format!("images/{number}.sif"));
    }
    let flags = [
        "verify",
        "--local",
        "-r",
        "--report",
        "whole.jsonl",
        "images",
    ];
    run(&mut home.sigsif(flags)).expect(255);
    home
}

fn set(home: &Home, name: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(home.join(name)).expect("a report");
    text.lines().map(ToOwned::to_owned).collect()
}

/// Runs a script in which `sigsif` is the program under test.
fn script(home: &Home, text: &str, mut command: Command, minutes: u64) -> Outcome {
    let bin = home.join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let link = bin.join("sigsif");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sigsif"), &link).expect("a link");
    }
    home.write("script", text.as_bytes());
    let path = std::env::var("PATH").expect("PATH");
    command
        .args(["bash", "-eu", "script"])
        .env("PATH", format!("{}:{path}", bin.display()));
    finish(
        start(&mut command),
        Duration::from_secs(60 * minutes),
        "the script",
    )
}

fn slurm() -> Option<&'static str> {
    let there =
        |name: &str| tool(name).is_some() || PathBuf::from("/usr/sbin").join(name).is_file();
    if !rustix::process::geteuid().is_root() {
        return Some("only root can start Slurm here");
    }
    match ["slurmctld", "slurmd", "munged", "sbatch"]
        .iter()
        .all(|name| there(name))
    {
        true => None,
        false => Some("Slurm is not installed"),
    }
}

#[test]
fn a_job_array_of_slurm_answers_as_one_run_does() {
    if let Some(reason) = slurm() {
        return skip(reason);
    }
    let home = site();
    home.write("verify-images.sbatch", block("#SBATCH").as_bytes());
    // The page ends with the joining job; here somebody waits for it.
    let submit = block("--dependency").replace("sbatch --dependency", "sbatch --wait --dependency");
    let folder = home.join("slurm");
    let command = || {
        let mut command = home.clean(project().join("tests/cluster/slurm"));
        command.arg(&folder);
        command
    };
    let text = format!("({submit}) || echo \"joined with $?\"\n");
    let outcome = script(&home, &text, command(), 3).expect(0);
    let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let logs = || {
        let mut all = format!("{outcome}");
        for entry in fs::read_dir(home.path()).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|end| end == "out") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                all += &format!("\n{}: {text}", path.display());
            }
        }
        all
    };
    // Three images are not in order, so the joining job fails, after it has joined.
    assert!(said.contains("joined with"), "{}", logs());
    let reports: BTreeSet<_> = (1..=4)
        .map(|n| home.join(&format!("reports/{n}.jsonl")))
        .collect();
    assert!(reports.iter().all(|report| report.is_file()), "{}", logs());
    assert_eq!(
        set(&home, "all.jsonl"),
        set(&home, "whole.jsonl"),
        "{}",
        logs()
    );
}

#[test]
fn gnu_parallel_answers_as_one_run_does() {
    if tool("parallel").is_none() {
        return skip("GNU parallel is not installed");
    }
    let home = site();
    let mut command = home.clean("env");
    command.arg("NODES=:");
    let outcome = script(&home, &block("parallel --jobs"), command, 2);
    // Two parts have images that are not in order; `parallel` counts them.
    assert_ne!(outcome.code, Some(0), "{outcome}");
    assert!(
        (1..=4).all(|n| home.join(&format!("reports/{n}.jsonl")).is_file()),
        "{outcome}"
    );
    let reports = (1..=4).map(|n| format!("reports/{n}.jsonl"));
    let mut merge = home.sigsif(["report", "merge", "all.jsonl"]);
    run(merge.args(reports))
        .expect(255)
        .says("30 images: 27 verified");
    assert_eq!(set(&home, "all.jsonl"), set(&home, "whole.jsonl"));
}
