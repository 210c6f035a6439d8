//! Manual pages.

use crate::support::{self, Home};
use clap::Command;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every command that help shows, with its full name: `sigsif-key-list`.
fn commands() -> Vec<(String, Command)> {
    fn walk(command: &Command, name: &str, all: &mut Vec<(String, Command)>) {
        all.push((name.to_owned(), command.clone()));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            walk(sub, &format!("{name}-{}", sub.get_name()), all);
        }
    }
    let mut all = Vec::new();
    walk(&sigsif::cli::command(), "sigsif", &mut all);
    all
}

fn write_pages(home: &Home) -> std::path::PathBuf {
    let folder = home.join("man");
    fs::create_dir(&folder).expect("a folder");
    let made = home.sigsif(["man", "man"]).output().expect("sigsif man");
    assert!(made.status.success(), "{made:?}");
    folder
}

#[test]
fn every_command_has_a_page_and_no_other_has() {
    let home = Home::new();
    let folder = write_pages(&home);
    let wanted: BTreeSet<_> = commands()
        .into_iter()
        .map(|(name, _)| format!("{name}.1"))
        .collect();
    let found: BTreeSet<_> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    assert!(wanted.len() > 50, "{wanted:?}");
    assert_eq!(wanted, found);
}

#[test]
fn every_page_names_every_option_and_shows_the_examples() {
    let home = Home::new();
    let folder = write_pages(&home);
    for (name, command) in commands() {
        let page = plain(&folder.join(format!("{name}.1")));
        for option in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if let Some(long) = option.get_long() {
                assert!(page.contains(&format!("--{long}")), "{name}: no --{long}");
            }
        }
        let Some(examples) = command.get_after_help() else {
            continue;
        };
        let examples = examples.to_string();
        assert!(examples.starts_with("Examples:\n"), "{name}: {examples}");
        for line in examples.lines().skip(1).filter(|line| !line.is_empty()) {
            assert!(page.contains(line.trim()), "{name}: no {line:?}");
        }
    }
}

/// The text of a page, without the marks of its format.
fn plain(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("a page");
    text.replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
        .replace("\\\\", "\\")
        .replace("\\&", "")
}

#[test]
fn a_reader_of_manual_pages_has_no_complaint() {
    let Some(mandoc) = support::tool("mandoc") else {
        return support::skip_without("mandoc");
    };
    let home = Home::new();
    let folder = write_pages(&home);
    let pages = fs::read_dir(&folder).expect("a folder");
    let judged = home
        .clean(mandoc)
        .args(["-T", "lint", "-W", "warning"])
        .args(pages.map(|page| page.expect("an entry").path()))
        .output()
        .expect("mandoc");
    let said = String::from_utf8_lossy(&judged.stdout);
    // Pages carry no date: two builds give the same bytes. The two about `br`
    // come from values below an option, as clap_mangen sets them.
    let complaints: Vec<_> = said
        .lines()
        .filter(|line| !line.contains("parse date") && !line.contains("paragraph macro: br"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(said.contains("parse date"), "mandoc read nothing: {said}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let home = Home::new();
    let failed = home.sigsif(["man", "none"]).output().expect("sigsif man");
    assert_eq!(failed.status.code(), Some(255));
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(
        said.contains("'none/sigsif.1': no such file or directory"),
        "{said}"
    );
}
