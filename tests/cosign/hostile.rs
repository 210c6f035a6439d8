//! Documents that are made to break a reader: a sentence and an exit code, in
//! little memory and time.

use super::made::{INDEX, MANIFEST, content, index, manifest, oci_sif, sha};
use crate::support::{Home, Outcome, finish, peers, start};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a command on a file in 600 MB of address space; half a minute at most.
fn limited(home: &Home, words: &[&str], file: &Path) -> Outcome {
    let mut command: Command = home.clean("sh");
    command
        .args(["-c", "ulimit -v 614400; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .args(words)
        .arg(file);
    let outcome = finish(
        start(&mut command),
        Duration::from_secs(30),
        &format!("{words:?} {}", file.display()),
    );
    assert_eq!(outcome.signal, None, "{}: {outcome}", file.display());
    outcome
}

#[test]
fn hostile_documents_get_a_clear_answer() {
    let home = Home::new();
    let image = manifest(b"{}", b"layer");
    let entry = content(MANIFEST, &image, "");
    let plain = |root: Vec<u8>| oci_sif(&[b"layer", b"{}", &image], &root);
    let text = |root: String| plain(root.into_bytes());
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    // An index in an index in an index ...
    let mut nested: Vec<Vec<u8>> = vec![index(std::slice::from_ref(&entry))];
    for _ in 0..200 {
        let inner = nested.last().expect("an index");
        nested.push(index(&[content(INDEX, inner, "")]));
    }
    let blobs: Vec<&[u8]> = nested
        .iter()
        .map(Vec::as_slice)
        .chain([&image[..], b"layer", b"{}"])
        .collect();
    let top = index(&[content(INDEX, nested.last().expect("an index"), "")]);
    // Ten entries of an index that names ten entries ...: a tree of 10^6 leaves.
    let mut wide = index(&vec![entry.clone(); 100]);
    let mut levels = vec![wide.clone()];
    for _ in 0..2 {
        wide = index(&vec![content(INDEX, &wide, ""); 100]);
        levels.push(wide.clone());
    }
    let wide_blobs: Vec<&[u8]> = levels
        .iter()
        .map(Vec::as_slice)
        .chain([&image[..], b"layer", b"{}"])
        .collect();
    let wide_top = index(&[content(INDEX, &wide, "")]);
    let looping = index(&[content(INDEX, b"x", "")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "deep",
            text(format!(
                r#"{{"manifests":[{entry}],"x":{}}}"#,
                deep(100_000)
            )),
            "no valid signatures",
        ),
        (
            "deep-entry",
            text(format!(r#"{{"manifests":{}}}"#, deep(100_000))),
            "malformed JSON",
        ),
        (
            "large",
            text(format!(
                r#"{{"manifests":[{entry}]{}}}"#,
                " ".repeat(5 << 20)
            )),
            "more than the 4194304",
        ),
        (
            "twice",
            text(format!(r#"{{"manifests":[{entry}],"manifests":[]}}"#)),
            "duplicate member",
        ),
        (
            "case",
            text(format!(r#"{{"manifests":[{entry}],"Manifests":[]}}"#)),
            "\"Manifests\"",
        ),
        (
            "huge-size",
            text(index_with(&entry.replace(
                &format!("\"size\":{}", image.len()),
                "\"size\":1e999",
            ))),
            "malformed JSON",
        ),
        (
            "negative",
            text(index_with(&entry.replace(
                &format!("\"size\":{}", image.len()),
                "\"size\":-1",
            ))),
            "malformed JSON",
        ),
        (
            "other-size",
            text(index_with(&entry.replace(
                &format!("\"size\":{}", image.len()),
                "\"size\":18446744073709551615",
            ))),
            "bytes, 18446744073709551615 are named",
        ),
        (
            "upper-digest",
            text(index_with(
                &entry
                    .to_uppercase()
                    .replace("MEDIATYPE", "mediaType")
                    .replace("SIZE", "size")
                    .replace("DIGEST", "digest"),
            )),
            "malformed digest",
        ),
        (
            "sha512",
            text(index_with(&entry.replace("sha256:", "sha512:"))),
            "malformed digest",
        ),
        (
            "traversal",
            text(index_with(&entry.replace(
                &sha(&image).to_string(),
                "sha256:../../etc/passwd",
            ))),
            "malformed digest",
        ),
        (
            "wrong-type",
            text(index_with(&content(INDEX, &image, ""))),
            "media type",
        ),
        (
            "text-type",
            text(index_with(&content("text/plain", &image, ""))),
            "no matching image",
        ),
        (
            "no-entries",
            text(r#"{"schemaVersion":2}"#.to_owned()),
            "no matching image",
        ),
        ("not-an-object", text("[]".to_owned()), "malformed JSON"),
        ("empty", text(String::new()), "malformed JSON"),
        (
            "escape",
            text(index_with(&content(
                MANIFEST,
                &image,
                ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"\\u001b]0;x\\u0007\"}",
            ))),
            "no valid signatures",
        ),
        ("nested", oci_sif(&blobs, &top), "no valid signatures"),
        (
            "wide",
            oci_sif(&wide_blobs, &wide_top),
            "no valid signatures",
        ),
        (
            "unfound-index",
            oci_sif(&[&looping], &index(&[content(INDEX, &looping, "")])),
            "object not found",
        ),
    ];
    let key = peers("oci/cosign.pub");
    let key = key.to_str().expect("a path");
    for (name, bytes, says) in &cases {
        let file = home.write(&format!("{name}.oci.sif"), bytes);
        limited(&home, &["verify", "--cosign", "--key", key], &file)
            .expect(255)
            .says(says);
        for words in [&["sif", "tree"][..], &["sif", "check"], &["sif", "list"]] {
            let outcome = limited(&home, words, &file);
            let shown = String::from_utf8_lossy(&outcome.stdout).into_owned() + &outcome.stderr;
            assert!(
                !shown.contains('\u{1b}'),
                "{name} {words:?}: a control character"
            );
            assert!(
                matches!(outcome.code, Some(0 | 1)),
                "{name} {words:?}: {outcome}"
            );
        }
    }
}

fn index_with(entry: &str) -> String {
    String::from_utf8(index(&[entry.to_owned()])).expect("text")
}

#[test]
fn a_tree_shows_signers_and_what_is_missing() {
    let home = Home::new();
    let tree = |words: &[&str], file: &str| {
        let mut call = home.sigsif(["sif", "tree"]);
        call.args(words)
            .arg(peers(&format!("cosign/sif/{file}.oci.sif")));
        String::from_utf8(crate::support::run(&mut call).expect(0).stdout).expect("text")
    };
    let key = peers("cosign/keys/p256.pub");
    let key = ["--key", key.to_str().expect("a path")];
    let signed = tree(&key, "two-keys");
    // The fingerprint as `ssh-keygen -lf` prints it for this key.
    assert!(
        signed.contains("made by ECDSA P-256 SHA256:JEXNwKFq3ihWBQQPrlFeR1O537VlAVKqxcplmLgEjRI"),
        "{signed}"
    );
    assert!(signed.contains("made by none of the keys"), "{signed}");
    assert!(tree(&[], "one-1sig").contains("signer not checked"));
    assert!(tree(&key, "with-att").contains("attestation sha256:705824aef5da"));
    let missing = tree(&[], "mut-layer-missing");
    assert!(
        missing.contains("! sha256:b79b10447feb") && missing.contains("object not found"),
        "{missing}"
    );
    let changed = tree(&[], "mut-root-digest-wrong");
    assert!(
        changed.contains("OCI root index digest mismatch"),
        "{changed}"
    );
    let json: serde_json::Value = serde_json::from_str(&tree(
        &[&key[..], &["--json"]].concat(),
        "two-platforms-signed",
    ))
    .expect("JSON");
    assert_eq!(
        json["root"]["children"][0]["children"][1]["platform"],
        "linux/arm64"
    );
    assert_eq!(json["root"]["children"][1]["children"][0]["verified"], true);
}
