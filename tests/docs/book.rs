//! The pages themselves: README and everything in `docs`.

use crate::support;
use std::fs;
use std::path::{Path, PathBuf};

/// A page and where it lies in the project.
pub struct Page {
    /// Relative to the project: `docs/manual.md`.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// Line of its fence, from 1.
    pub line: usize,
    /// The word behind the fence.
    pub language: String,
    /// Its lines.
    pub text: String,
    /// What is said about it in comments in front: `<!-- word: value -->`.
    pub notes: Vec<(String, String)>,
}

impl Block {
    /// Values of a kind of note, in order.
    pub fn notes<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        let of_kind = move |(name, _): &&(String, String)| name == kind;
        self.notes
            .iter()
            .filter(of_kind)
            .map(|(_, value)| value.as_str())
    }
}

/// README and all pages of the book.
pub fn pages() -> Vec<Page> {
    let mut pages = pages_in(support::project(), "docs");
    let readme = support::project().join("README.md");
    pages.push(Page {
        text: fs::read_to_string(readme).expect("README"),
        path: PathBuf::from("README.md"),
    });
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    pages
}

/// All pages in a folder of `base` and in the folders below.
fn pages_in(base: &Path, folder: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(base.join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(Page {
                    text: fs::read_to_string(base.join(&path)).expect("a page"),
                    path,
                });
            }
        }
    }
    pages
}

/// The fenced blocks of a page.
pub fn blocks(page: &Page) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut notes = Vec::new();
    let mut lines = page.text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(note) = line
            .strip_prefix("<!-- ")
            .and_then(|l| l.strip_suffix(" -->"))
        {
            if let Some((kind, value)) = note.split_once(": ") {
                notes.push((kind.to_owned(), value.to_owned()));
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let mut text = String::new();
            loop {
                match lines.next() {
                    Some((_, line)) if line.trim() == "```" => break,
                    Some((_, line)) => text += &format!("{line}\n"),
                    None => panic!("{}:{}: no end", page.path.display(), number + 1),
                }
            }
            blocks.push(Block {
                line: number + 1,
                language: language.to_owned(),
                text,
                notes: std::mem::take(&mut notes),
            });
        } else if !line.is_empty() {
            notes.clear();
        }
    }
    blocks
}

#[test]
fn the_table_of_contents_names_every_page_once() {
    contents_name_every_page(&pages_in(support::project(), "docs"), Path::new("docs"));
}

fn contents_name_every_page(pages: &[Page], folder: &Path) {
    let is_contents = |page: &&Page| page.path.ends_with("SUMMARY.md");
    let contents = pages.iter().find(is_contents).expect("SUMMARY.md");
    let links = links(&contents.text).into_iter();
    let mut named: Vec<_> = links.map(|link| folder.join(link)).collect();
    named.sort();
    let others = pages.iter().filter(|page| !is_contents(page));
    let mut there: Vec<_> = others.map(|page| page.path.clone()).collect();
    there.sort();
    assert_eq!(named, there);
}

#[test]
fn every_link_leads_somewhere() {
    let broken = broken_links(support::project(), &pages());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The manual is one page; in the book it is one for each command.
#[test]
fn the_book_has_a_page_for_every_command() {
    if support::tool("python3").is_none() {
        return support::skip_without("python3");
    }
    let home = support::Home::new();
    let mut command = std::process::Command::new(support::project().join(".ci/book"));
    // Without mdbook: the pages are what is judged.
    command
        .arg(home.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    support::run(&mut command).expect(0);
    let pages = pages_in(home.path(), "src");
    contents_name_every_page(&pages, Path::new("src"));
    let broken = broken_links(home.path(), &pages);
    let of_readme = |link: &String| link.contains("README.md");
    assert!(broken.iter().all(of_readme), "{broken:#?}");
    for command in sigsif::cli::command()
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
    {
        let name = match command.get_name() {
            "verify-attestation" => "attest",
            "man" => "completion",
            name => name,
        };
        let path = Path::new("src/commands").join(format!("{name}.md"));
        let page = pages.iter().find(|page| page.path == path);
        let page = page.unwrap_or_else(|| panic!("the manual has no section about {name}"));
        assert!(
            page.text.starts_with(&format!("# {name}")),
            "{}",
            path.display()
        );
        assert!(page.text.contains(command.get_name()), "{}", path.display());
    }
}

/// Links that lead nowhere, of pages whose paths are those in `base`.
fn broken_links(base: &Path, pages: &[Page]) -> Vec<String> {
    let mut broken = Vec::new();
    for page in pages {
        for link in links(&without_blocks(&page.text)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => normal(&page.path.parent().expect("a folder").join(file)),
            };
            if !base.join(&target).exists() {
                broken.push(format!("{}: {link}", page.path.display()));
                continue;
            }
            let Some(target) = pages.iter().find(|page| page.path == target) else {
                continue;
            };
            if !anchor.is_empty() && !anchors(&target.text).iter().any(|has| has == anchor) {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    broken
}

/// Pages say `file.rs::name` where a test shows what they claim.
#[test]
fn every_test_that_a_page_names_is_there() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for word in page.text.split('`').skip(1).step_by(2) {
            let Some((file, name)) = word.split_once(".rs::") else {
                continue;
            };
            seen += 1;
            let path = support::project().join(format!("{file}.rs"));
            let text = fs::read_to_string(&path).unwrap_or_default();
            let test = format!("fn {}(", name.trim_start_matches("tests::"));
            let is_there = text
                .match_indices(&test)
                .any(|(at, _)| is_test(text.get(..at).unwrap_or_default()));
            if !is_there {
                missing.push(format!("{}: {word}", page.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 20, "only {seen} tests are named");
}

/// Whether a function that begins here is marked as a test.
fn is_test(before: &str) -> bool {
    let mut lines = before.lines().rev().map(str::trim);
    lines
        .by_ref()
        .take_while(|line| line.is_empty() || line.starts_with('#') || line.starts_with("//"))
        .any(|line| line == "#[test]")
}

/// Targets of all links in a text.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for part in text.split("](").skip(1) {
        if let Some((target, _)) = part.split_once(')') {
            links.push(target.to_owned());
        }
    }
    links
}

fn without_blocks(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim().starts_with("```") {
            inside = !inside;
        } else if !inside {
            // Code in a line may hold brackets.
            for part in line.split('`').step_by(2) {
                out += part;
            }
            out.push('\n');
        }
    }
    out
}

/// Names of the headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// Resolves `..` without looking at the disk.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}
