//! Reads the source and fails where it breaks the map in `src/lib.rs`: imports
//! point down, and only the edges touch the world.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each top module may use; itself always.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "ui", "disk", "net", "remote", "sign", "verify", "ecl", "policy", "check", "coverage",
            "report", "scope", "payload", "signer", "key", "layer", "oci", "sif", "digest",
        ],
    ),
    // `ui` renders reports and listings, `disk` writes patches.
    (
        "ui",
        &[
            "remote", "check", "coverage", "report", "payload", "key", "sif", "digest", "gojson",
        ],
    ),
    ("disk", &["sif", "digest"]),
    ("net", &["remote", "key", "digest"]),
    ("remote", &[]),
    (
        "sign",
        &["scope", "payload", "signer", "key", "oci", "sif", "digest"],
    ),
    (
        "ecl",
        &["verify", "policy", "report", "scope", "sif", "digest"],
    ),
    (
        "verify",
        &[
            "policy", "report", "check", "scope", "payload", "signer", "key", "oci", "sif",
            "digest", "gojson",
        ],
    ),
    (
        "check",
        &["payload", "signer", "key", "oci", "sif", "digest"],
    ),
    (
        "coverage",
        &["report", "payload", "signer", "key", "sif", "digest"],
    ),
    ("policy", &["report", "key", "digest"]),
    ("report", &["payload", "sif", "digest"]),
    ("scope", &["sif", "digest"]),
    ("payload", &["sif", "digest", "gojson"]),
    ("signer", &["key", "digest", "gojson"]),
    ("key", &["digest"]),
    ("oci", &["sif", "digest", "gojson"]),
    ("layer", &[]),
    ("sif", &["digest"]),
    ("digest", &[]),
    ("gojson", &[]),
];

/// Modules that may touch the world, and the start of the program.
const EDGES: &[&str] = &["cli", "ui", "disk", "net", "main"];

/// What only the edges may say.
const WORLD: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "SystemTime::now",
    "UNIX_EPOCH.elapsed",
    "Instant::now",
    "rustix::",
    "libc::",
    "memmap2",
    "tempfile::",
];

#[test]
fn imports_point_down() {
    let mut faults = Vec::new();
    for (module, file) in sources() {
        for (line, used) in crate_paths(&file) {
            if let Some(fault) = upward(&module, &used) {
                faults.push(format!("{}:{line}: {fault}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_edges_touch_the_world() {
    let mut faults = Vec::new();
    for (module, file) in sources() {
        if EDGES.contains(&module.as_str()) {
            continue;
        }
        for (line, text) in code(&file) {
            for word in worldly(&text) {
                faults.push(format!("{}:{line}: {module} uses {word}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_disk_opens_and_only_ui_prints() {
    let mut faults = Vec::new();
    for (module, file) in sources() {
        for (line, text) in code(&file) {
            let text = without_strings(&text);
            let opens = ["std::fs", "File::open", "OpenOptions", "memmap2"];
            if module == "cli" && opens.iter().any(|word| says(&text, word)) {
                faults.push(format!("{}:{line}: cli opens files", file.display()));
            }
            let prints = [
                "println!",
                "eprintln!",
                "print!",
                "eprint!",
                "io::stdout()",
                "io::stderr()",
            ];
            let may_print = module == "ui" || module == "main";
            if !may_print && prints.iter().any(|word| says(&text, word)) {
                faults.push(format!("{}:{line}: {module} prints", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_one_file_has_unsafe_code() {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    let allowed: Vec<_> = files
        .iter()
        .filter(|file| fs::read_to_string(file).is_ok_and(|text| text.contains("unsafe_code")))
        .map(|file| file.display().to_string())
        .collect();
    assert_eq!(allowed, ["src/disk/map.rs"]);
    let manifest = fs::read_to_string("Cargo.toml").expect("Cargo.toml");
    assert!(
        manifest.contains("\nunsafe_code = \"deny\"\n"),
        "{manifest}"
    );
    // Each block says why it is sound.
    let text = fs::read_to_string("src/disk/map.rs").expect("a file");
    assert_eq!(
        text.matches("unsafe {").count(),
        text.matches("// SAFETY:").count()
    );
}

#[test]
fn the_rules_name_every_module() {
    let known: BTreeSet<_> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<_> = sources().into_keys_of_modules();
    let unknown: Vec<_> = found
        .iter()
        .filter(|name| !known.contains(name.as_str()) && *name != "main" && *name != "lib")
        .collect();
    assert!(unknown.is_empty(), "no rule for {unknown:?}");
    // The rules themselves must be an order: no circle.
    for (module, uses) in MAY_USE {
        for used in *uses {
            assert!(
                upward(used, module).is_some() || module == used,
                "{module} and {used} may use each other"
            );
        }
    }
}

#[test]
fn the_reader_sees_what_it_looks_for() {
    let used = |text: &str| {
        let mut names: Vec<_> = names_in(text).into_iter().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(used("use crate::sif::{Image, Link};"), "sif");
    assert_eq!(
        used("use crate::{cli, sif::{Image, types}, ui as x};"),
        "cli sif ui"
    );
    assert_eq!(
        used("fn f(d: crate::digest::Digest) -> sigsif::key::Key"),
        "digest key"
    );
    assert_eq!(used("let x = \"crate::cli\"; // crate::ui"), "");
    assert_eq!(
        upward("signer", "sif"),
        Some("signer must not use sif".to_owned())
    );
    assert_eq!(
        upward("payload", "key"),
        Some("payload must not use key".to_owned())
    );
    assert_eq!(
        upward("ui", "disk"),
        Some("ui must not use disk".to_owned())
    );
    assert_eq!(upward("cli", "disk"), None);
    assert_eq!(worldly("let f = std::fs::read(p)?;"), ["std::fs"]);
    assert_eq!(worldly("use std::{fs, io};"), ["std::fs"]);
    assert_eq!(worldly("// std::fs is not used, \"println!\""), [""; 0]);
}

/// Module of the first level and file of every source file.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "only {} source files found", files.len());
    let module = |file: &Path| {
        let inner = file.strip_prefix(&root).expect("inside src");
        let first = inner.iter().next().expect("a name").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    };
    Sources(
        files
            .into_iter()
            .map(|file| (module(&file), file))
            .collect(),
    )
}

struct Sources(Vec<(String, PathBuf)>);

impl IntoIterator for Sources {
    type Item = (String, PathBuf);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Sources {
    fn into_keys_of_modules(self) -> BTreeSet<String> {
        self.0.into_iter().map(|(module, _)| module).collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// Lines of code with their number; a `use` of several lines comes as one.
///
/// What stands behind `#[cfg(test)]` to the end of a file is left out, and so
/// are files of tests: they may read fixtures.
fn code(file: &Path) -> Vec<(usize, String)> {
    if file.file_name().is_some_and(|name| name == "tests.rs") {
        return Vec::new();
    }
    let text = fs::read_to_string(file).expect("a source file");
    let mut lines = text.lines().enumerate().peekable();
    let mut out = Vec::new();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        let tests_follow = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|(_, next)| next.contains("mod ") && next.contains('{'));
        if tests_follow {
            break;
        }
        let mut line = line.to_owned();
        if line.starts_with("use ") || line.starts_with("pub use ") {
            while !line.contains(';') {
                let Some((_, more)) = lines.next() else { break };
                line.push(' ');
                line.push_str(more.trim());
            }
        }
        out.push((number + 1, line));
    }
    out
}

/// Modules of this crate that a file names, by line.
fn crate_paths(file: &Path) -> Vec<(usize, String)> {
    let lines = code(file).into_iter();
    lines
        .flat_map(|(line, text)| names_in(&text).into_iter().map(move |name| (line, name)))
        .collect()
}

/// First path elements behind `crate::` and `sigsif::`.
fn names_in(text: &str) -> BTreeSet<String> {
    let text = without_strings(text);
    let mut names = BTreeSet::new();
    for start in ["crate::", "sigsif::"] {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(list) => names.extend(tops_of_list(list)),
                None => names.extend(identifier(rest)),
            }
        }
    }
    names
}

/// Names at the outer level of `a::{b, c}, d as e}`.
fn tops_of_list(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut expecting = true;
    let mut names = Vec::new();
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            _ if expecting && depth == 0 && !c.is_whitespace() => {
                names.extend(identifier(&list[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Why a module must not use another one, if it must not.
fn upward(module: &str, used: &str) -> Option<String> {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let is_module = rules.contains_key(used);
    let may = module == used
        || matches!(module, "main" | "lib")
        || !is_module
        || rules.get(module).is_some_and(|uses| uses.contains(&used));
    (!may).then(|| format!("{module} must not use {used}"))
}

/// Worldly words of a line.
fn worldly(text: &str) -> Vec<&'static str> {
    let mut text = without_strings(text);
    if let Some(list) = text.strip_prefix("use std::{") {
        let names = tops_of_list(list);
        text = names.iter().map(|name| format!("std::{name} ")).collect();
    }
    WORLD
        .iter()
        .copied()
        .filter(|word| says(&text, word))
        .collect()
}

/// Whether a line has a word that is not the end of a longer one.
fn says(text: &str, word: &str) -> bool {
    let longer = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(longer))
}

/// The code of a line without its comment and the text in its quotes.
fn without_strings(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if inside => {
                chars.next();
            }
            '"' => inside = !inside,
            '/' if !inside && chars.peek() == Some(&'/') => break,
            _ if inside => {}
            _ => out.push(c),
        }
    }
    out
}
