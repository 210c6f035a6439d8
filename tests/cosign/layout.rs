//! `sif export --oci-layout` and `sif import-layout`.

use super::support::{Home, Outcome, peers, run};
use super::tool::{Peer, Stored};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const IMAGE: &str = "sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9";
const INDEX: &str = "sha256:5a6f26999e6717ed4cb0b9e443ecb39f50a862e576ef2ec689a62f38f688c7cc";

fn key(name: &str) -> PathBuf {
    peers("cosign/keys").join(name)
}

fn import(home: &Home, layout: impl AsRef<Path>) -> Outcome {
    let mut command = home.sigsif(["sif", "import-layout"]);
    run(command.arg(layout.as_ref()).arg("image.sif"))
}

fn export(home: &Home) -> Outcome {
    run(&mut home.sigsif(["sif", "export", "--oci-layout", "layout", "image.sif"]))
}

fn verify(home: &Home, name: &str) -> Outcome {
    let mut command = home.sigsif(["verify", "--cosign", "image.sif", "--key"]);
    run(command.arg(key(name)))
}

/// Names of the blobs of a layout, each of which has that digest.
fn blobs(layout: &Path) -> BTreeSet<String> {
    let folder = fs::read_dir(layout.join("blobs/sha256")).expect("blobs");
    let check = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let data = fs::read(path).expect("a blob");
        assert_eq!(hex::encode(Sha256::digest(data)), name);
        name
    };
    folder.map(check).collect()
}

fn copy_layout(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs/sha256")).expect("a folder");
    for name in ["index.json", "oci-layout"] {
        fs::copy(from.join(name), to.join(name)).expect("a file");
    }
    for entry in fs::read_dir(from.join("blobs/sha256")).expect("blobs") {
        let entry = entry.expect("an entry");
        fs::copy(
            entry.path(),
            to.join("blobs/sha256").join(entry.file_name()),
        )
        .expect("a blob");
    }
}

/// No file but those of the test.
fn assert_nothing_made(home: &Home) {
    for entry in fs::read_dir(home.path()).expect("the folder") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        assert!(name == "layout" || name == "elsewhere", "{name}");
    }
}

#[test]
fn what_cosign_saved_verifies_in_the_file() {
    let singularity = Peer::singularity();
    for (layout, names) in [
        ("sig/p256", vec!["p256"]),
        ("sig/p384", vec!["p384"]),
        ("sig/rsa2048", vec!["rsa2048"]),
        ("sig/two-keys", vec!["p256", "rsa2048"]),
        ("sig/annotations", vec!["p256"]),
        ("att/att-and-sig", vec!["p256"]),
        ("index/sig-index-only", vec!["p256"]),
        ("index/sig-recursive", vec!["p256"]),
    ] {
        let home = Home::new();
        let from = peers("cosign").join(layout);
        import(&home, &from)
            .expect(0)
            .says("the layers are no squashfs: SingularityCE verifies and pushes the file, but cannot run it");
        for name in &names {
            verify(&home, &format!("{name}.pub")).expect(0);
            // It looks for the signatures of an index, and compares them with the image.
            let theirs = !layout.starts_with("index") && *name != "p384";
            if let Some(singularity) = singularity.as_ref().filter(|_| theirs) {
                let public = key(&format!("{name}.pub")).display().to_string();
                run(&mut singularity.call(&home, &["verify", &public, "image.sif"])).expect(0);
            }
        }
        verify(&home, "ed25519.pub").expect(255);
        let stored = Stored::read(&home.join("image.sif"));
        let inside: BTreeSet<_> = stored.objects[..stored.objects.len() - 1]
            .iter()
            .map(|object| object.digest[7..].to_owned())
            .collect();
        assert_eq!(
            inside.len(),
            stored.objects.len() - 1,
            "a blob is stored twice"
        );
        assert_eq!(inside, blobs(&from));
        assert_eq!(stored.free(), 8);
        // And out again, for cosign.
        export(&home).expect(0);
        assert_eq!(blobs(&home.join("layout")), blobs(&from));
        if let Some(cosign) = Peer::cosign() {
            for name in names {
                fs::copy(key(&format!("{name}.pub")), home.join("k.pub")).expect("a key");
                let digest = if name == "p384" { "sha384" } else { "sha256" };
                let args = [
                    "verify",
                    "--key",
                    "k.pub",
                    "--insecure-ignore-tlog",
                    "--signature-digest-algorithm",
                    digest,
                    "--local-image",
                    "layout",
                ];
                run(&mut cosign.call(&home, &args)).expect(0);
            }
        }
    }
}

#[test]
fn a_file_goes_out_and_comes_back_with_everything() {
    let cosign = Peer::cosign();
    for (name, subject) in [
        ("one-3sig", IMAGE),
        ("with-att-signed-again", IMAGE),
        ("same-second-pulled", IMAGE),
        ("two-platforms", INDEX),
    ] {
        let home = Home::new();
        let image = home.copy(&format!("cosign/sif/{name}.oci.sif"), "image.sif");
        let mut sign = home.sigsif(["sign", "--cosign", "image.sif", "--recursive", "--key"]);
        run(sign.arg(key("p256.pem"))).expect(0);
        let before = Stored::read(&image);
        export(&home).expect(0).says(" blobs written to 'layout'");
        let index: Value =
            serde_json::from_slice(&fs::read(home.join("layout/index.json")).expect("an index"))
                .expect("JSON");
        let kinds: Vec<_> = index["manifests"]
            .as_array()
            .expect("entries")
            .iter()
            .filter_map(|entry| entry["annotations"]["kind"].as_str())
            .collect();
        assert!(
            kinds.contains(&"dev.cosignproject.cosign/sigs"),
            "{kinds:?}"
        );
        if let Some(cosign) = &cosign {
            fs::copy(key("p256.pub"), home.join("k.pub")).expect("a key");
            let args = [
                "verify",
                "--key",
                "k.pub",
                "--insecure-ignore-tlog",
                "--local-image",
                "layout",
            ];
            run(&mut cosign.call(&home, &args)).expect(0);
        }
        fs::remove_file(&image).expect("the image");
        import(&home, "layout").expect(0);
        let after = Stored::read(&image);
        let digests = |stored: &Stored| -> BTreeSet<String> {
            stored.objects.iter().map(|o| o.digest.clone()).collect()
        };
        let (before_all, after_all) = (digests(&before), digests(&after));
        assert!(
            before_all.difference(&after_all).count() <= 1,
            "only the index is another"
        );
        for suffix in ["sig", "att"] {
            assert_eq!(
                after.signatures(subject, suffix),
                before.signatures(subject, suffix)
            );
        }
        verify(&home, "p256.pub").expect(0);
    }
}

#[test]
fn bundles_without_an_entry_are_carried() {
    for layout in [
        "bundle/p256",
        "bundle/rsa2048-and-sig-p256",
        "oras/image-bundle",
    ] {
        let from = peers("cosign").join(layout);
        if !from.exists() {
            continue;
        }
        let home = Home::new();
        import(&home, &from).expect(0);
        let stored = Stored::read(&home.join("image.sif"));
        assert_eq!(stored.objects.len(), blobs(&from).len() + 1, "{layout}");
        export(&home).expect(0);
        assert_eq!(blobs(&home.join("layout")), blobs(&from));
        let Some(cosign) = Peer::cosign().filter(|_| layout.starts_with("bundle")) else {
            continue;
        };
        let name = if layout.contains("rsa") {
            "rsa2048.pub"
        } else {
            "p256.pub"
        };
        fs::copy(key(name), home.join("k.pub")).expect("a key");
        let args = [
            "verify",
            "--key",
            "k.pub",
            "--insecure-ignore-tlog",
            "--local-image",
            "layout",
        ];
        run(&mut cosign.call(&home, &args)).expect(0);
    }
}

#[test]
fn a_tag_does_not_hide_the_only_image() {
    let home = Home::new();
    copy_layout(&peers("cosign/layout/one"), &home.join("layout"));
    let index = fs::read_to_string(home.join("layout/index.json")).expect("an index");
    let mut index: Value = serde_json::from_str(&index).expect("JSON");
    index["manifests"][0]["annotations"] =
        serde_json::json!({"org.opencontainers.image.ref.name": "1.0", "x": "y"});
    fs::write(home.join("layout/index.json"), index.to_string()).expect("an index");
    import(&home, "layout").expect(0);
    let stored = Stored::read(&home.join("image.sif"));
    let root = stored.objects.last().expect("a root index");
    let root: Value = serde_json::from_slice(&root.data).expect("JSON");
    assert_eq!(
        root["manifests"][0]["annotations"],
        serde_json::json!({"x": "y"})
    );
    let mut sign = home.sigsif(["sign", "--cosign", "image.sif", "--key"]);
    run(sign.arg(key("p256.pem"))).expect(0);
    verify(&home, "p256.pub").expect(0);
}

#[test]
fn a_layout_that_is_not_what_it_says_makes_no_file() {
    let layer = "b79b10447feb3eb9eed513d75cd574affcd91ae0e8aad67693522ab7a5eb0128";
    let manifest = &IMAGE[7..];
    let blob = |home: &Home, name: &str| home.join("layout/blobs/sha256").join(name);
    let edit_index = |home: &Home, from: &str, to: &str| {
        let path = home.join("layout/index.json");
        let index = fs::read_to_string(&path).expect("an index");
        assert!(index.contains(from));
        fs::write(path, index.replace(from, to)).expect("an index");
    };
    type Damage<'d> = &'d dyn Fn(&Home);
    let cases: [(&str, Damage<'_>); 12] = [
        ("blob digest mismatch", &|home| {
            let path = blob(home, layer);
            let mut bytes = fs::read(&path).expect("a blob");
            bytes[9] ^= 1;
            fs::write(path, bytes).expect("a blob");
        }),
        ("bytes, 127 are named", &|home| {
            fs::write(blob(home, layer), b"short").expect("a blob")
        }),
        ("blob not found", &|home| {
            fs::remove_file(blob(home, layer)).expect("a blob")
        }),
        ("blob not found", &|home| {
            fs::remove_file(blob(home, manifest)).expect("a blob")
        }),
        ("too many levels of symbolic links", &|home| {
            fs::rename(blob(home, layer), home.join("elsewhere")).expect("a blob");
            symlink(home.join("elsewhere"), blob(home, layer)).expect("a link");
        }),
        ("not a regular file", &|home| {
            fs::remove_file(blob(home, layer)).expect("a blob");
            fs::create_dir(blob(home, layer)).expect("a folder");
        }),
        ("malformed digest", &|home| {
            edit_index(home, IMAGE, "sha256:../../../../etc/passwd")
        }),
        ("malformed digest", &|home| {
            edit_index(home, "sha256:d", "sha256:D")
        }),
        ("bytes, 402 are named", &|home| {
            edit_index(home, "401", "402")
        }),
        ("not an OCI image layout of version 1.0.0", &|home| {
            fs::write(
                home.join("layout/oci-layout"),
                r#"{"imageLayoutVersion":"2.0.0"}"#,
            )
            .expect("a file");
        }),
        ("no such file or directory", &|home| {
            fs::remove_file(home.join("layout/oci-layout")).expect("a file");
        }),
        ("is larger than 4194304 bytes", &|home| {
            fs::write(home.join("layout/index.json"), vec![b' '; (4 << 20) + 1]).expect("a file");
        }),
    ];
    for (told, damage) in cases {
        let home = Home::new();
        copy_layout(&peers("cosign/layout/one"), &home.join("layout"));
        damage(&home);
        import(&home, "layout").expect(1).says(told);
        assert_nothing_made(&home);
    }
    let home = Home::new();
    import(&home, "missing")
        .expect(1)
        .says("no such file or directory");
    let image = home.write("image.sif", b"precious");
    import(&home, peers("cosign/layout/one"))
        .expect(1)
        .says("file exists, will not overwrite: image.sif");
    assert_eq!(fs::read(image).expect("a file"), b"precious");
}

#[test]
fn a_damaged_image_makes_no_layout_and_nothing_is_overwritten() {
    for (name, told) in [
        ("mut-layer-bit-flip", "blob digest mismatch"),
        ("mut-layer-missing", "object not found"),
        ("mut-root-digest-wrong", "OCI root index digest mismatch"),
        ("one-broken-by-7th", "not an OCI-SIF"),
    ] {
        let home = Home::new();
        home.copy(&format!("cosign/sif/{name}.oci.sif"), "image.sif");
        export(&home).expect(1).says(told);
        let left: Vec<_> = fs::read_dir(home.path()).expect("a folder").collect();
        assert_eq!(left.len(), 1, "{name}: {left:?}");
    }
    let home = Home::new();
    home.copy("cosign/sif/one.oci.sif", "image.sif");
    fs::create_dir(home.join("layout")).expect("a folder");
    export(&home).expect(0);
    export(&home)
        .expect(1)
        .says("folder is not empty, will not overwrite");
    run(&mut home.sigsif(["sif", "export", "image.sif"]))
        .expect(1)
        .says("required flag(s) \"oci-layout\" not set");
}

#[test]
fn several_images_keep_their_names() {
    let home = Home::new();
    copy_layout(&peers("cosign/layout/one"), &home.join("layout"));
    let other = peers("cosign/layout/other");
    for entry in fs::read_dir(other.join("blobs/sha256")).expect("blobs") {
        let entry = entry.expect("an entry");
        let to = home.join("layout/blobs/sha256").join(entry.file_name());
        fs::copy(entry.path(), to).expect("a blob");
    }
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("an index")).expect("JSON")
    };
    let (mut index, more) = (
        read(&home.join("layout/index.json")),
        read(&other.join("index.json")),
    );
    let mut second = more["manifests"][0].clone();
    second["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "two"});
    let entries = index["manifests"].as_array_mut().expect("entries");
    entries.push(second);
    fs::write(home.join("layout/index.json"), index.to_string()).expect("an index");
    import(&home, "layout").expect(0);
    let mut sign = home.sigsif(["sign", "--cosign", "image.sif", "--key"]);
    run(sign.arg(key("p256.pem"))).expect(0).says(IMAGE);
    fs::remove_dir_all(home.join("layout")).expect("the layout");
    export(&home).expect(0);
    let index = read(&home.join("layout/index.json"));
    let names: Vec<_> = index["manifests"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["annotations"].clone())
        .collect();
    assert_eq!(
        names[0],
        serde_json::json!({"kind": "dev.cosignproject.cosign/image"})
    );
    assert_eq!(
        names[1],
        serde_json::json!({"org.opencontainers.image.ref.name": "two"})
    );
    assert_eq!(names[2]["kind"], "dev.cosignproject.cosign/sigs");
}
