//! The answers are those of a run on each image alone.

use crate::lines;
use crate::support::{Home, peers, run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

fn images(folder: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(peers(folder))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "sif"))
        .collect();
    all.sort();
    assert!(all.len() > 8, "{folder}");
    all
}

/// Judges all at once and each alone, with the same flags.
fn compare(home: &Home, flags: &[&str], images: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut many = home.sigsif(["verify", "--format", "json"]);
    let many = run(many.args(flags).args(images));
    let mut answers = BTreeMap::new();
    for line in lines(&many.stdout) {
        let image = line["image"].as_str().expect("a name").to_owned();
        assert!(answers.insert(image, line).is_none(), "two lines");
    }
    assert_eq!(answers.len(), images.len(), "{flags:?}: {many}");
    let mut verdicts = BTreeMap::new();
    let mut worst = 0;
    for image in images {
        let mut alone = home.sigsif(["verify", "--format", "json"]);
        let alone = run(alone.args(flags).arg(image));
        let wanted: Value = serde_json::from_slice(&alone.stdout)
            .unwrap_or_else(|error| panic!("{error}: {alone}"));
        let got = &answers[image.to_str().expect("UTF-8")];
        let size = fs::metadata(image).expect("an image").len();
        assert_eq!(got["size"], size, "{flags:?}");
        assert!(got["changed"].is_string() && got["run"].is_string());
        let mut got = got.clone();
        for more in ["size", "changed", "run", "path"] {
            got.as_object_mut().expect("an object").remove(more);
        }
        assert_eq!(got, wanted, "{flags:?} {}", image.display());
        let verdict = got["verdict"].as_str().expect("a verdict").to_owned();
        assert_eq!(alone.code == Some(0), verdict == "verified");
        worst = worst.max(alone.code.expect("an exit code"));
        *verdicts.entry(verdict).or_default() += 1;
    }
    assert_eq!(many.code, Some(worst), "{many}");
    verdicts
}

#[test]
fn native_images_by_every_kind_of_key() {
    let home = Home::with_keys();
    let images = images("native");
    let path = |name: &str| peers(name).display().to_string();
    let key = path("keys/p256.pub.pem");
    let (leaf, root) = (path("x509/leaf.pem"), path("x509/root.pem"));
    let intermediate = path("x509/intermediate.pem");
    let certificate = [
        "--certificate",
        &leaf,
        "--certificate-roots",
        &root,
        "--certificate-intermediates",
        &intermediate,
    ];
    for flags in [
        vec!["--local"],
        vec!["--local", "--strict"],
        vec!["--local", "--group-id", "1"],
        vec!["--local", "--ignore-unknown"],
        vec!["--local", "--legacy-insecure"],
        vec!["--local", "--at", "2030-01-01T00:00:00Z"],
        vec!["--local", "--require-any", "2"],
        vec!["--local", "--require", crate::ONE],
        vec!["--key", &key],
        vec!["--key", &key, "--pgp", "--local"],
        certificate.to_vec(),
    ] {
        let verdicts = compare(&home, &flags, &images);
        eprintln!("{flags:?}: {verdicts:?}");
        let legacy = flags.contains(&"--legacy-insecure");
        let both = verdicts.contains_key("verified") && verdicts.contains_key("refused");
        assert!(legacy || both || flags.contains(&"2"), "{verdicts:?}");
    }
}

#[test]
fn images_with_cosign_signatures() {
    let home = Home::new();
    let images = images("cosign/sif");
    for key in ["p256", "ed25519"] {
        let key = peers(&format!("cosign/keys/{key}.pub"))
            .display()
            .to_string();
        for more in [&[][..], &["--strict"]] {
            let flags: Vec<_> = ["--cosign", "--key", &key]
                .into_iter()
                .chain(more.iter().copied())
                .collect();
            let verdicts = compare(&home, &flags, &images);
            eprintln!("{flags:?}: {verdicts:?}");
        }
    }
}

#[test]
fn each_image_by_its_rule_of_a_policy() {
    let home = Home::with_keys();
    fs::create_dir(home.join("prod")).expect("a folder");
    fs::create_dir(home.join("test")).expect("a folder");
    fs::create_dir(home.join("other")).expect("a folder");
    let key = peers("keys/p256.pub.pem").display().to_string();
    let cosign = peers("cosign/keys/p256.pub").display().to_string();
    let text = format!(
        "version = 1\n[[signer]]\nname = 'alice'\npgp = ['{}']\n\
         [[signer]]\nname = 'ci'\nkey-files = ['{key}']\ncosign-key-files = ['{cosign}']\n\
         [[rule]]\npath = 'prod/*'\nsigners = ['alice']\n\
         [[rule]]\npath = 'test/*'\nsigners = ['alice', 'ci']\n",
        crate::ONE
    );
    fs::write(home.join("policy.toml"), text).expect("a policy");
    let mut all = Vec::new();
    for folder in ["prod", "test", "other"] {
        for name in [
            "pgp-one",
            "dsse-p256",
            "unsigned",
            "pgp-one.tampered-object",
        ] {
            let to = format!("{folder}/{name}.sif");
            all.push(home.copy(&format!("native/{name}.sif"), &to));
        }
    }
    let mut command = home.sigsif(["verify", "--local", "--policy", "policy.toml"]);
    let outcome = run(command.args(["--recursive", "prod", "test", "other"])).expect(255);
    let got = crate::verdicts(&outcome);
    for (image, verdict) in [
        ("prod/pgp-one.sif", "verified"),
        ("test/pgp-one.sif", "verified"),
        ("test/dsse-p256.sif", "verified"),
        ("prod/unsigned.sif", "unsigned"),
        ("prod/pgp-one.tampered-object.sif", "refused"),
    ] {
        assert_eq!(got[image], verdict, "{image}");
    }
    assert_ne!(got["prod/dsse-p256.sif"], "verified");
    let others = got.iter().filter(|(image, _)| image.starts_with("other/"));
    assert!(others.clone().count() == 4 && others.clone().all(|(_, v)| v != "verified"));
    // The single run shows the path with its links resolved.
    for image in &all {
        let mut alone = home.sigsif(["verify", "--local", "--policy", "policy.toml"]);
        let alone = run(alone.arg(image));
        let name = image.strip_prefix(home.path()).expect("a path").display();
        let name = name.to_string();
        assert_eq!(alone.code == Some(0), got[&name] == "verified", "{name}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_worst() {
    let home = Home::with_keys();
    let good = home.copy("native/pgp-one.sif", "good.sif");
    home.copy("native/pgp-one.sif", "also.sif");
    run(&mut home.sigsif(["verify", "--local", "good.sif", "also.sif"]))
        .expect(0)
        .says("2 images: 2 verified");
    home.copy("native/unsigned.sif", "unsigned.sif");
    for bad in ["unsigned.sif", "missing.sif", "."] {
        run(home.sigsif(["verify", "--local"]).arg(&good).arg(bad))
            .expect(255)
            .says("1 of 2 image(s) not verified");
    }
}

#[test]
fn flags_that_are_about_one_image_are_refused() {
    let home = Home::with_keys();
    home.copy("native/pgp-one.sif", "a.sif");
    for (flags, why) in [
        (
            &["--json", "a.sif", "b.sif"][..],
            "--json is the answer about one image",
        ),
        (&["--null", "a.sif"], "--null needs --from-file"),
        (&["--resume", "a.sif"], "--resume needs --report NAME.jsonl"),
        (
            &["--report", "x.txt", "a.sif"],
            "must end in .jsonl or .html",
        ),
        (
            &["--report", "x.html", "--report", "y.html", "a.sif"],
            "two files of one form",
        ),
        (&["--shard", "3/2", "a.sif"], "must be I/N"),
        (&["--shard", "0/2", "a.sif"], "must be I/N"),
        (&["--jobs", "0", "a.sif"], "must be a number"),
        (&["--jobs", "1000", "a.sif"], "at most 128"),
        (
            &["--strict", "--legacy-insecure", "a.sif", "a.sif"],
            "cannot be used together",
        ),
        (
            &["--cosign", "--key", "k", "a.sif", "docker://x/y"],
            "is verified alone",
        ),
    ] {
        let outcome = run(home.sigsif(["verify"]).args(flags));
        assert_ne!(outcome.code, Some(0), "{flags:?}");
        assert!(outcome.stderr.contains(why), "{flags:?}: {outcome}");
        assert!(outcome.stdout.is_empty(), "{flags:?}: {outcome}");
    }
}

/// Text stops at the first refusal, as the originals do; JSON has everything.
#[test]
fn the_full_report_goes_on_behind_the_first_refusal() {
    let home = Home::with_keys();
    let image = peers("native/pgp-group-2-of-2.sif");
    let mut command = home.sigsif(["verify", "--local", "--format", "json"]);
    let outcome = run(command.arg(&image)).expect(255);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(
        report["problems"],
        serde_json::json!(["signature not found for object group 1"])
    );
    let signatures = report["signatures"].as_array().expect("a list");
    assert_eq!(signatures.len(), 1, "{report}");
    assert_eq!(signatures[0]["verdict"], "valid");
    assert_eq!(signatures[0]["group"], 2);

    // Nor does it stop at a signature that nobody judges here.
    let image = peers("native/mixed-pgp-dsse.sif");
    let key = peers("keys/p256.pub.pem");
    let mut command = home.sigsif(["verify", "--format", "json", "--key"]);
    let outcome = run(command.args([&key, &image])).expect(255);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let verdicts: Vec<_> = report["signatures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|signature| signature["verdict"].as_str().expect("a verdict"))
        .collect();
    assert_eq!(verdicts, ["notJudged", "valid"], "{report}");
}
