//! Documents that are made to break a reader: a sentence and an exit code, in
//! little memory and time.

use super::made::{CONFIG, INDEX, LAYER, MANIFEST, content, index, manifest, oci_sif, sha};
use crate::support::{Home, Outcome, finish, peers, start};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a command on a file in 600 MB of address space; twenty seconds of a processor at most,
/// however busy the machine is.
fn limited(home: &Home, words: &[&str], file: &Path) -> Outcome {
    let mut command: Command = home.clean("sh");
    command
        .args(["-c", "ulimit -v 614400; ulimit -t 20; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .args(words)
        .arg(file);
    let outcome = finish(
        start(&mut command),
        Duration::from_secs(300),
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

/// A file of some megabytes can name the same thing a hundred thousand times.
#[test]
fn what_is_named_again_and_again_is_read_once() {
    let home = Home::new();
    let image = manifest(b"{}", b"layer");
    let entry = content(MANIFEST, &image, "");
    let key = peers("oci/cosign.pub");
    let key = key.to_str().expect("a path");
    let list = |count: usize, item: &dyn Fn(usize) -> String| {
        let items: Vec<_> = (0..count).map(item).collect();
        items.join(",")
    };
    let named =
        |name: &str| format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
    let document = |config: &[u8], layers: &str, more: &str| {
        let config = content(CONFIG, config, "");
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]{more}}}"#
        )
        .into_bytes()
    };
    let cosign: &[&str] = &["verify", "--cosign", "--key", key];
    // An entry with more annotations than anybody reads.
    let names = list(200_000, &|n| format!(r#""{n:x}":"""#));
    let annotated = content(MANIFEST, &image, &format!(r#","annotations":{{{names}}}"#));
    let file = home.write(
        "annotations.sif",
        &oci_sif(&[b"layer", b"{}", &image], &index(&[annotated])),
    );
    limited(&home, cosign, &file)
        .expect(255)
        .says("no valid signatures");
    limited(&home, &["sif", "check"], &file).expect(0);
    // A manifest whose layers are all missing.
    let missing = list(38_000, &|n| {
        format!(r#"{{"mediaType":"l","size":1,"digest":"sha256:{n:064x}"}}"#)
    });
    let missing = document(b"{}", &missing, "");
    let root = index(&[content(MANIFEST, &missing, "")]);
    let file = home.write("missing.sif", &oci_sif(&[b"{}", &missing], &root));
    limited(&home, &["sif", "check"], &file).expect(1);
    let folder = home.join("out");
    let folder = folder.to_str().expect("a path");
    limited(&home, &["sif", "export", "--oci-layout", folder], &file)
        .expect(1)
        .says("object not found");
    // A large manifest, named many times, in a file and in a folder.
    let numbers = list(800_000, &|_| "1".to_owned());
    let layer = content(LAYER, b"layer", "");
    let large = document(b"{}", &layer, &format!(r#","x":[{numbers}]"#));
    let same = index(&vec![content(MANIFEST, &large, ""); 20_000]);
    let file = home.write("large.sif", &oci_sif(&[b"layer", b"{}", &large], &same));
    limited(&home, &["sif", "tree"], &file).expect(0);
    let signatures = named(&format!(
        "_cosign:{}.sig",
        sha(&image).to_string().replace(':', "-")
    ));
    let mut entries = vec![content(MANIFEST, &large, &signatures); 14_000];
    entries.push(entry.clone());
    let blobs: [&[u8]; 4] = [b"layer", b"{}", &large, &image];
    let file = home.write("signatures.sif", &oci_sif(&blobs, &index(&entries)));
    limited(&home, cosign, &file)
        .expect(255)
        .says("no valid signatures");
    // A large envelope, named many times by one manifest.
    let mut envelope = br#"{"payloadType":"application/vnd.in-toto+json","payload":""#.to_vec();
    envelope.extend(vec![b'A'; 8 << 20]);
    envelope.extend_from_slice(br#"","signatures":[{"sig":"MEUC"}]}"#);
    let layer = content("application/vnd.dsse.envelope.v1+json", &envelope, "");
    let attestations = document(b"{}", &list(5_000, &|_| layer.clone()), "");
    let name = sha(&image).to_string().replace(':', "-");
    let name = named(&format!("_cosign:{name}.att"));
    let root = index(&[entry.clone(), content(MANIFEST, &attestations, &name)]);
    let blobs: [&[u8]; 5] = [b"layer", b"{}", &image, &envelope, &attestations];
    let file = home.write("attestations.sif", &oci_sif(&blobs, &root));
    limited(&home, &["verify-attestation", "--key", key], &file)
        .expect(255)
        .says("no matching attestations");
    let tree = limited(&home, &["sif", "tree", "--key", key], &file).expect(0);
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert_eq!(tree.matches("made by none of the keys").count(), 5_000);
    // The same by many manifests.
    let mut entries = vec![entry.clone()];
    let mut blobs: Vec<Vec<u8>> = vec![
        b"layer".to_vec(),
        b"{}".to_vec(),
        image.clone(),
        envelope.clone(),
    ];
    for number in 0..2_000 {
        let config = format!("{number}");
        let manifest = document(config.as_bytes(), &layer, "");
        entries.push(content(MANIFEST, &manifest, &name));
        blobs.extend([config.into_bytes(), manifest]);
    }
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    let file = home.write("each.sif", &oci_sif(&blobs, &index(&entries)));
    limited(&home, &["verify-attestation", "--key", key], &file)
        .expect(255)
        .says("no matching attestations");
    // A large index, named by manifests that an index names.
    let wide = index(&vec![content("text/plain", b"layer", ""); 15_000]);
    let source = document(b"{}", &list(10_000, &|_| content(INDEX, &wide, "")), "");
    let mut entries = vec![content(MANIFEST, &source, &named("_cosign-index:x")); 14_000];
    entries.push(entry.clone());
    let blobs: [&[u8]; 5] = [b"layer", b"{}", &image, &wide, &source];
    let file = home.write("source.sif", &oci_sif(&blobs, &index(&entries)));
    limited(&home, cosign, &file)
        .expect(255)
        .says("no valid signatures");
    // The same in layouts.
    let layout = |name: &str, blobs: &[&[u8]], index: &[u8]| {
        let folder = home.join(name);
        std::fs::create_dir_all(folder.join("blobs/sha256")).expect("folders");
        for blob in blobs {
            let name = sha(blob).to_string().replace("sha256:", "blobs/sha256/");
            std::fs::write(folder.join(name), blob).expect("a blob");
        }
        let mark = r#"{"imageLayoutVersion":"1.0.0"}"#;
        std::fs::write(folder.join("oci-layout"), mark).expect("a mark");
        std::fs::write(folder.join("index.json"), index).expect("an index");
        folder
    };
    let in_folder = [cosign, &["--local-layout"]].concat();
    let folder = layout("large", &[b"layer", b"{}", &large], &same);
    limited(&home, &in_folder, &folder)
        .expect(255)
        .says("no valid signatures");
    let shown = folder.to_str().expect("a path");
    limited(
        &home,
        &["sif", "import-layout", shown],
        &home.join("made.sif"),
    )
    .expect(0);
    let entries = vec![content(INDEX, &wide, ""); 15_000];
    let folder = layout("wide", &[b"layer", &wide], &index(&entries));
    limited(&home, &in_folder, &folder).expect(255);
    let digest = format!("sha256:{}", "0".repeat(64));
    let by_digest = [
        &in_folder[..2],
        &["--key", key, "--digest", &digest, "--local-layout"],
    ]
    .concat();
    limited(&home, &by_digest, &folder)
        .expect(255)
        .says("no matching image");
}

#[test]
fn a_large_claim_is_shown_in_part_however_often_it_is_named() {
    let home = Home::new();
    let image = manifest(b"{}", b"layer");
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{}"}},"type":"cosign container image signature"}},"optional":{{"x":"{}"}}}}"#,
        sha(&image),
        "y".repeat(1_000_000)
    );
    let layer = content(
        "application/vnd.dev.cosign.simplesigning.v1+json",
        payload.as_bytes(),
        "",
    );
    let config = content(CONFIG, b"{}", "");
    let signatures = format!(
        r#"{{"mediaType":"{MANIFEST}","config":{config},"layers":[{}]}}"#,
        vec![layer; 2_000].join(",")
    );
    let name = format!("_cosign:{}.sig", sha(&image).to_string().replace(':', "-"));
    let named = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
    let root = index(&[
        content(MANIFEST, &image, ""),
        content(MANIFEST, signatures.as_bytes(), &named),
    ]);
    let blobs: [&[u8]; 5] = [
        b"layer",
        b"{}",
        &image,
        payload.as_bytes(),
        signatures.as_bytes(),
    ];
    let file = home.write("claims.sif", &oci_sif(&blobs, &root));
    let shown = limited(&home, &["sif", "tree"], &file).expect(0).stdout;
    assert!(shown.len() < 2_000_000, "{}", shown.len());
    assert_eq!(
        String::from_utf8_lossy(&shown)
            .matches("claims: x=yyyy")
            .count(),
        2_000
    );
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
