//! Every block of commands in README and docs is run.
//!
//! The blocks of a page run in order in one folder of their own. `console`
//! blocks show commands behind `$ ` and what they print, with `...` for lines
//! left out; `sh` blocks show commands that succeed. The folder is the home
//! folder, `/home/alice` in what is shown. In front of a block may stand
//! comments that readers do not see:
//!
//! - `setup: COMMAND` runs before it; `$PEERS` is `fixtures/peers`,
//! - `stdin: TEXT|TEXT` are the lines that are typed,
//! - `needs: PROGRAM`: where it is missing, the rest of the page is not run,
//! - `not run: REASON`.

use super::book::{Block, Page, blocks, pages};
use crate::support::{self, Home};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn every_block_of_commands_does_what_it_shows() {
    let pages = pages();
    let results = support::parallel(&pages, run_page);
    let mut faults = Vec::new();
    let (mut run, mut skipped) = (0, 0);
    for result in results {
        run += result.run;
        skipped += result.skipped.len();
        faults.extend(result.faults);
        for reason in result.skipped {
            support::skip(&reason);
        }
    }
    eprintln!("{run} blocks run, {skipped} not");
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
    assert!(run > 10 && run > skipped, "{run} blocks run, {skipped} not");
}

#[derive(Default)]
struct PageResult {
    run: usize,
    skipped: Vec<String>,
    faults: Vec<String>,
}

fn run_page(page: &Page) -> PageResult {
    let home = Home::new();
    let mut result = PageResult::default();
    for block in blocks(page) {
        let place = format!("{}:{}", page.path.display(), block.line);
        let missing = block
            .notes("needs")
            .find(|tool| support::tool(tool).is_none());
        if let Some(missing) = missing {
            support::skip_without(missing);
            result
                .skipped
                .push(format!("{place} and what follows: {missing}"));
            break;
        }
        let shell = matches!(block.language.as_str(), "console" | "sh" | "bash" | "shell");
        if let Some(reason) = block.notes("not run").next() {
            result.skipped.push(format!("{place}: {reason}"));
        } else if shell {
            result.run += 1;
            let told = run_block(&home, &block);
            result
                .faults
                .extend(told.map(|fault| format!("{place}: {fault}")));
        } else {
            result.run += usize::from(block.language == "yaml");
            let told = parse_block(&home, &block);
            result
                .faults
                .extend(told.map(|fault| format!("{place}: {fault}")));
        }
    }
    result
}

/// A command of a console block and what it is said to print.
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if block.language != "console" {
        return vec![Step {
            command: block.text.clone(),
            shown: Vec::new(),
        }];
    }
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else if let Some(step) = steps.last_mut() {
            if step.command.ends_with('\\') && step.shown.is_empty() {
                step.command += &format!("\n{}", line.strip_prefix("> ").unwrap_or(line));
            } else {
                step.shown.push(line.to_owned());
            }
        }
    }
    steps
}

/// Runs a block; what is wrong with it.
fn run_block(home: &Home, block: &Block) -> Option<String> {
    for setup in block.notes("setup") {
        let (code, said) = shell(home, setup, "");
        if code != Some(0) {
            return Some(format!("setup {setup:?} ends with {code:?}:\n{said}"));
        }
    }
    let input: String = block
        .notes("stdin")
        .flat_map(|text| text.split('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    for step in steps(block) {
        let (code, said) = shell(home, &step.command, &input);
        let refused = step.shown.iter().any(|line| {
            ["FATAL:", "ERROR:", "Error"]
                .iter()
                .any(|word| line.starts_with(word))
        });
        let right_code = if refused {
            code != Some(0)
        } else {
            code == Some(0)
        };
        let wanted = lines(step.shown.iter().map(String::as_str));
        let got = lines(said.lines());
        let same = block.language != "console" || fits(&wanted, &got);
        if code.is_none() || !right_code || !same {
            let shown = step.shown.join("\n");
            let command = step.command;
            return Some(format!(
                "$ {command}\nexit {code:?}\n{said}\nbut it shows\n{shown}"
            ));
        }
    }
    None
}

/// Runs a text as bash does; its exit code and both its streams.
fn shell(home: &Home, text: &str, input: &str) -> (Option<i32>, String) {
    let script = home.path().join(".script");
    fs::write(&script, format!("set -e -o pipefail\nexec 2>&1\n{text}\n")).expect("a script");
    let typed = home.path().join(".typed");
    fs::write(&typed, input).expect("input");
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sigsif"));
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = program.parent().expect("a folder").display();
    let mut command = Command::new("bash");
    command
        .arg(&script)
        .env_clear()
        .env("PATH", format!("{folder}:{path}"))
        .env("HOME", home.path())
        .env("LC_ALL", "C")
        .env("PEERS", support::peers(""))
        .env("SIGSIF_SYSCONFDIR", home.join("etc"))
        .current_dir(home.path())
        .stdin(fs::File::open(&typed).expect("input"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("bash");
    let ended = support::finish(child, Duration::from_secs(120), text);
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.stderr;
    let folder = home.path().to_str().expect("UTF-8");
    (ended.code, said.replace(folder, "/home/alice"))
}

/// Whether lines are those that are shown, where `...` is any number of them.
fn fits(wanted: &[String], got: &[String]) -> bool {
    match wanted.split_first() {
        None => got.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=got.len()).any(|skip| fits(rest, got.get(skip..).unwrap_or_default()))
        }
        Some((first, rest)) => match got.split_first() {
            Some((line, others)) => line == first && fits(rest, others),
            None => false,
        },
    }
}

/// Lines as they are compared, without empty ones at the end.
fn lines<'a>(text: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<_> = text.map(masked).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// A line without what differs from run to run: digits of fingerprints,
/// digests and ids, times, blanks at the end.
fn masked(line: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in line.trim_end().chars().chain(std::iter::once('\n')) {
        if c.is_ascii_hexdigit() || (matches!(c, '-' | ':') && !word.is_empty()) {
            word.push(c);
            continue;
        }
        let digits = word.chars().filter(char::is_ascii_hexdigit).count();
        let time = word.len() >= 5 && word.matches([':', '-']).count() >= 1 && digits >= 5;
        let plain = word
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ':' | '-'));
        if digits >= 16 {
            out.push('#');
        } else if plain && (time || digits >= 10) {
            out.push('@');
        } else {
            out += &word;
        }
        word.clear();
        if c != '\n' {
            out.push(c);
        }
    }
    out
}

#[test]
fn what_differs_from_run_to_run_is_masked_and_nothing_else() {
    let mask = |line| masked(line);
    assert_eq!(mask("31359731D5C34C90C977AAF822CC73292934D01F"), "#");
    assert_eq!(mask("at 2026-11-22 09:19:17 +0000 UTC"), "at @ @ +0000 UTC");
    assert_eq!(
        mask("3    |1       |NONE    |FS  "),
        "3    |1       |NONE    |FS"
    );
    assert_eq!(
        mask("added 15 of 4096: deadbeef"),
        "added 15 of 4096: deadbeef"
    );
    assert_ne!(mask("verified"), mask("refused"));
}

/// Blocks of data must be what they are called; of YAML the steps that call
/// `sigsif` are run as well.
fn parse_block(home: &Home, block: &Block) -> Option<String> {
    let told = |error: &dyn std::fmt::Display| Some(error.to_string());
    match block.language.as_str() {
        "json" => match serde_json::from_str::<serde_json::Value>(&block.text) {
            Ok(_) => None,
            Err(error) => told(&error),
        },
        "toml" => match block.text.parse::<toml::Table>() {
            Ok(_) => None,
            Err(error) => told(&error),
        },
        "yaml" => match serde_saphyr::from_str::<serde_json::Value>(&block.text) {
            Ok(value) => {
                let mut scripts = Vec::new();
                collect_scripts(&value, &mut scripts);
                let of_ours = scripts
                    .iter()
                    .filter(|script| script.starts_with("sigsif "));
                of_ours.into_iter().find_map(|script| {
                    let block = Block {
                        line: block.line,
                        language: "sh".into(),
                        text: script.clone(),
                        notes: block.notes.clone(),
                    };
                    run_block(home, &block)
                })
            }
            Err(error) => told(&error),
        },
        "text" | "ruby" | "dockerfile" | "make" => None,
        other => Some(format!("a block of {other:?}: nobody checks it")),
    }
}

/// The shell texts of a workflow: `run` of GitHub, `script` of GitLab.
fn collect_scripts(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("run", serde_json::Value::String(text)) => into.push(text.clone()),
                    ("script", serde_json::Value::Array(lines)) => {
                        into.extend(
                            lines
                                .iter()
                                .filter_map(|line| line.as_str())
                                .map(str::to_owned),
                        );
                    }
                    (_, member) => collect_scripts(member, into),
                }
            }
        }
        serde_json::Value::Array(members) => {
            members
                .iter()
                .for_each(|member| collect_scripts(member, into));
        }
        _ => {}
    }
}

#[test]
fn the_command_of_the_readme_verifies_a_file_that_is_shipped() {
    let readme = pages().remove(0);
    let line = readme
        .text
        .lines()
        .find_map(|line| line.strip_prefix("cargo run --release -- "))
        .expect("the command");
    let home = Home::new();
    let mut command = home.sigsif(line.split(' '));
    command.current_dir(support::project());
    support::run(&mut command)
        .expect(0)
        .says("Verified signature(s)");
}
