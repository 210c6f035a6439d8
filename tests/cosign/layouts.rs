//! `verify --cosign --local-layout` beside what cosign 3.1.1 answered about the
//! same folders, and what is answered on purpose otherwise.

use crate::support::{Home, Outcome, parallel, peers, read_peers, run};
use flate2::read::GzDecoder;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Folders about which the answer differs on purpose: folder, whether the
/// image counts as verified by the key that fits, reason.
const DIFFERENT: &[(&str, bool, &str)] = &[
    (
        "sig/ed25519",
        true,
        "cosign signs Ed25519ph, which it cannot verify",
    ),
    ("bundle/ed25519", true, "as for sig/ed25519"),
    (
        "sig/p384",
        true,
        "P-384 signs SHA-384, and that is verified without a flag",
    ),
    (
        "sig/p521",
        true,
        "P-521 signs SHA-512, and that is verified without a flag",
    ),
    ("bundle/p384", true, "as for sig/p384"),
    ("bundle/p521", true, "as for sig/p521"),
    (
        "bundle/rsa2048-and-sig-p256",
        true,
        "a bundle by another key does not hide the signature",
    ),
    ("att/bundle-only", false, "an attestation is no signature"),
    ("made/b-stmt-spdx", false, "an attestation is no signature"),
    (
        "made/b-garbage-plus-sig",
        true,
        "an unreadable bundle does not hide the signature",
    ),
    (
        "made/b-message-plus-sig",
        true,
        "an unreadable bundle does not hide the signature",
    ),
    ("made/b-manifest-replaced", false, "the manifest is hashed"),
    (
        "made/sig-type-other",
        false,
        "critical.type must be cosign's",
    ),
    (
        "made/sig-type-atomic",
        false,
        "critical.type must be cosign's",
    ),
    (
        "index/bundle-index-only",
        true,
        "bundles of an index are found",
    ),
    (
        "oras/bundle-p256",
        true,
        "the image is found without cosign's mark",
    ),
];

/// The folders of the peers, unpacked.
fn unpacked() -> Home {
    let home = Home::new();
    for name in ["layouts", "made"] {
        let bytes = read_peers(&format!("cosign/{name}.tar.gz"));
        let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        archive.unpack(home.path()).expect("an archive");
    }
    home
}

fn records() -> Vec<Value> {
    let text = String::from_utf8(read_peers("cosign/expected.jsonl")).expect("text");
    let all = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"));
    all.filter(|record: &Value| record["peer"] == "cosign 3.1.1" && record["argv"][0] == "verify")
        .collect()
}

/// One call: key, folder, annotations; `None` for flags that have no counterpart.
struct Call {
    key: String,
    folder: String,
    annotations: Vec<String>,
    /// The digest that cosign was told to use.
    digest: bool,
}

fn call(record: &Value) -> Option<Call> {
    let argv = record["argv"].as_array()?.iter().filter_map(Value::as_str);
    let mut argv = argv.skip(1);
    let mut call = Call {
        key: String::new(),
        folder: String::new(),
        annotations: Vec::new(),
        digest: false,
    };
    while let Some(word) = argv.next() {
        match word {
            "--key" => call.key = argv.next()?.to_owned(),
            "-a" => call.annotations.push(argv.next()?.to_owned()),
            "--signature-digest-algorithm" => call.digest = argv.next().is_some(),
            "-o" => drop(argv.next()),
            "--insecure-ignore-tlog" | "--local-image" | "--new-bundle-format=false" => {}
            flag if flag.starts_with('-') => return None,
            folder => call.folder = folder.to_owned(),
        }
    }
    (!call.key.is_empty()).then_some(call)
}

fn verify(home: &Home, key: &str, folder: &str, more: &[&str]) -> Outcome {
    let mut command = home.sigsif(["verify", "--cosign", "--key"]);
    command.arg(peers("cosign").join(key)).args(more);
    // The layouts that are no archive are beside the keys.
    let here = home.join(folder);
    let folder = if here.exists() {
        here
    } else {
        peers("cosign").join(folder)
    };
    run(command.arg("--local-layout").arg(folder))
}

/// Without what cosign adds to them and nothing here has judged.
fn payloads(text: &[u8]) -> Option<Value> {
    let mut all: Value = serde_json::from_slice(text).ok()?;
    for payload in all.as_array_mut()? {
        let optional = payload["optional"].as_object_mut();
        let left = optional.map(|members| {
            members.remove("Bundle");
            members.remove("RFC3161Timestamp");
            members.len()
        });
        if left == Some(0) {
            payload["optional"] = Value::Null;
        }
    }
    Some(all)
}

#[test]
fn folders_are_judged_as_by_cosign() {
    let home = unpacked();
    let all = records();
    assert_eq!(all.len(), 440);
    let (known, logs): (Vec<_>, Vec<_>) = all.iter().partition(|record| call(record).is_some());
    // With a trusted root, timestamps or identities: there are no such flags, so
    // logs, timestamps and certificates are not judged.
    assert_eq!(logs.len(), 295);
    let mut command = home.sigsif([
        "verify",
        "--cosign",
        "--trusted-root",
        "x",
        "--key",
        "k",
        "y",
    ]);
    run(&mut command)
        .expect(1)
        .says("unknown flag: --trusted-root");
    let answers = parallel(&known, |record| {
        let call = call(record).expect("a call");
        let pairs = call
            .annotations
            .iter()
            .flat_map(|pair| ["--annotation", pair.as_str()]);
        verify(&home, &call.key, &call.folder, &pairs.collect::<Vec<_>>())
    });
    let mut faults = Vec::new();
    let mut healed: BTreeSet<&str> = DIFFERENT.iter().map(|(name, ..)| *name).collect();
    for (record, answer) in known.iter().zip(&answers) {
        let call = call(record).expect("a call");
        let verified = answer.code == Some(0);
        let wanted = record["rc"] == 0;
        let theirs = record["stdout"].as_str().unwrap_or_default();
        // cosign prints empty payloads for bundles.
        let same_text = theirs.contains("\"docker-manifest-digest\":\"\"")
            || record["argv"].to_string().contains("\"-o\"")
            || payloads(&answer.stdout) == payloads(theirs.as_bytes());
        // Asked for one digest, cosign refuses what was made over another one;
        // here the digest is found out.
        let other_digest = call.digest && !wanted;
        let listed = DIFFERENT.iter().find(|(name, ..)| *name == call.folder);
        match listed {
            _ if verified == wanted && (!wanted || same_text) => {}
            Some((name, expected, _)) if verified == *expected => {
                healed.remove(name);
            }
            None if other_digest && verified => {}
            _ => faults.push(format!(
                "{}: {answer}\nwanted: {}",
                record["argv"], record["stderr"]
            )),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(healed.is_empty(), "no longer different: {healed:?}");
}

#[test]
fn the_reason_is_told_for_every_bundle() {
    let home = unpacked();
    let key = "keys/p256.pub";
    for (folder, says) in [
        ("made/b-keyid", "the envelope names the key \"abc\""),
        ("made/b-message", "bundle does not contain a DSSE envelope"),
        (
            "made/b-stmt-othersubj",
            "the statement is not about sha256:d68bfcc5",
        ),
        (
            "made/b-stmt-spdx",
            "the payload's type is \"https://spdx.dev/Document\"",
        ),
        ("made/b-stmt-unknown", "unknown field `extra`"),
        ("made/b-twosigs", "exactly one signature is required"),
        ("made/b-unknownfield", "malformed bundle: unknown field"),
        ("made/b-v02", "is not one of version 0.3"),
        ("made/b-v04", "is not one of version 0.3"),
        ("made/b-v1-noproof", "without an inclusion proof"),
        ("made/b-manifest-replaced", "blob digest mismatch"),
        ("made/sig-manifest-replaced", "blob digest mismatch"),
        ("made/kb-good", "made with a certificate, not with a key"),
        ("oras/sig-tag-p256", "no matching image / index found"),
        ("keys", "while checking OCI layout"),
    ] {
        verify(&home, key, folder, &[]).expect(255).says(says);
    }
    let strict = |folder: &str| verify(&home, key, folder, &["--strict"]);
    strict("sig/p256").expect(0);
    strict("bundle/p256").expect(0);
    strict("made/b-p1363").expect(255).says("r || s");
    strict("sig/two-keys")
        .expect(255)
        .says("a signature is invalid");
    strict("att/att-and-sig")
        .expect(255)
        .says("no signature covers the entry");
    let outcome = verify(&home, key, "bundle/two-keys", &["--annotation", "who=p256"]).expect(0);
    let payloads: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(
        payloads[0]["critical"]["type"],
        "https://sigstore.dev/cosign/sign/v1"
    );
    assert_eq!(payloads[0]["optional"]["who"], "p256");
    let mut command = home.sigsif(["verify", "--local-layout", "x"]);
    run(&mut command)
        .expect(1)
        .says("--local-layout needs --cosign");
}

/// The reason in front of which cosign puts "Error: ".
fn reason(stderr: &str) -> Option<&str> {
    let reason = stderr.split("\nError: ").nth(1)?;
    reason.split("\nerror during").next()
}

#[test]
fn attestations_of_folders_are_judged_as_by_cosign() {
    let home = unpacked();
    let text = String::from_utf8(read_peers("cosign/expected.jsonl")).expect("text");
    let mut compared = 0;
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let argv: Vec<_> = record["argv"].as_array().expect("words").iter().collect();
        let argv: Vec<_> = argv.iter().filter_map(|word| word.as_str()).collect();
        // Others are about timestamps, which are not judged.
        let [
            "verify-attestation",
            "--key",
            key,
            "--insecure-ignore-tlog",
            "--type",
            kind,
            "--local-image",
            folder,
        ] = argv[..]
        else {
            continue;
        };
        compared += 1;
        let mut command = home.sigsif(["verify-attestation", "--key"]);
        command
            .arg(peers("cosign").join(key))
            .args(["--type", kind]);
        let ours = run(command.arg("--local-layout").arg(home.join(folder)));
        let stdout = record["stdout"].as_str().expect("text");
        assert_eq!(String::from_utf8_lossy(&ours.stdout), stdout, "{argv:?}");
        match reason(record["stderr"].as_str().expect("text")) {
            None => drop(ours.expect(0)),
            // That a signature is there is no news about attestations.
            Some(reason) => {
                let reason = reason.replace(",https://sigstore.dev/cosign/sign/v1", "");
                ours.expect(255).says(&format!("FATAL:   {reason}\n"));
            }
        }
    }
    assert_eq!(compared, 17);
}

#[test]
fn attestations_of_a_folder_need_the_whole_image() {
    let home = unpacked();
    let verify = |more: &[&str]| {
        let mut command = home.sigsif(["verify-attestation", "--type", "cyclonedx", "--key"]);
        run(command.arg(peers("cosign/keys/p256.pub")).args(more))
    };
    let folder = ["--local-layout", "att/bundle-only"];
    let outcome = verify(&[&["--json"], &folder[..]].concat()).expect(0);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(report["image"], "att/bundle-only");
    assert_eq!(report["verdict"], "verified");
    verify(&[&folder[..], &["image.sif"]].concat())
        .expect(1)
        .says("accepts 0 arg(s), received 1");
    verify(&["--local-layout", "nothing"])
        .expect(255)
        .says("nothing");
    let blobs = std::fs::read_dir(home.join("att/bundle-only/blobs/sha256"));
    let blobs = blobs.expect("a folder").map(|entry| entry.expect("a blob"));
    let mut refused = 0;
    for path in blobs.map(|entry| entry.path()) {
        let bytes = std::fs::read(&path).expect("a blob");
        let mut changed = bytes.clone();
        changed[0] ^= 1;
        std::fs::write(&path, changed).expect("a blob");
        refused += usize::from(verify(&folder).code == Some(255));
        std::fs::write(&path, bytes).expect("a blob");
    }
    // Manifest, config and layer; bundle and its manifest, but not the empty
    // config of that, which carries nothing.
    assert_eq!(refused, 5);
    verify(&folder).expect(0);
}

/// Every file of a layout, changed, cut or gone: refused, whatever it is.
#[test]
fn no_byte_of_an_image_in_a_folder_can_change() {
    let home = unpacked();
    for (folder, files) in [("sig/p256", 6), ("bundle/p256", 6)] {
        let from = home.join(folder);
        let blobs = from.join("blobs/sha256");
        let names: Vec<_> = std::fs::read_dir(&blobs)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), files);
        let spoils: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes[0] ^= 1,
            |bytes| bytes.truncate(bytes.len() - 1),
            |bytes| bytes.push(b' '),
        ];
        let work: Vec<_> = names
            .iter()
            .flat_map(|name| (0..4).map(move |how| (name, how)))
            .collect();
        let answers = parallel(&work, |(name, how)| {
            let copy = Home::new();
            copy_folder(&from, copy.path());
            let file = copy.join("blobs/sha256").join(name);
            match spoils.get(*how) {
                Some(spoil) => {
                    let mut bytes = std::fs::read(&file).expect("a blob");
                    spoil(&mut bytes);
                    std::fs::write(&file, bytes).expect("a blob");
                }
                None => std::fs::remove_file(&file).expect("a blob"),
            }
            let mut command = copy.sigsif(["verify", "--cosign", "--key"]);
            command
                .arg(peers("cosign/keys/p256.pub"))
                .arg("--local-layout")
                .arg(copy.path());
            run(&mut command)
        });
        for ((name, how), answer) in work.iter().zip(answers) {
            // The configs of signatures and of bundles carry nothing.
            let config = ["44136fa355b3", "d197b199b6be"];
            let free = config
                .iter()
                .any(|start| name.to_string_lossy().starts_with(start));
            assert_eq!(
                answer.code == Some(0),
                free,
                "{folder} {name:?} {how}: {answer}"
            );
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir_all(&to).expect("a folder");
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).expect("a file");
        }
    }
}
