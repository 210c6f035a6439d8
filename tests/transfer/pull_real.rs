//! `pull` from a real registry, of images that other programs made, signed and read.

use crate::layers::{Archive, gzip, listing};
use crate::peer::Peer;
use crate::pull_faults::names;
use crate::server::{INDEX, MANIFEST, digest};
use crate::support::{Home, peers, project, read_peers, run, skip, skip_without, tool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tar::EntryType;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An OCI layout that skopeo copies from.
pub struct Layout(PathBuf);

impl Layout {
    pub fn new(home: &Home) -> Self {
        let this = Self(home.join("layout"));
        fs::create_dir_all(this.0.join("blobs/sha256")).unwrap();
        fs::write(
            this.0.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        this
    }

    pub fn blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        fs::write(self.0.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        digest
    }

    /// An image; returns its entry for an index.
    pub fn image(&self, arch: &str, layers: &[Vec<u8>]) -> Value {
        self.image_of(arch, layers, LAYER)
    }

    /// As [`Layout::image`], with layers of another type; only tar is compressed.
    pub fn image_of(&self, arch: &str, layers: &[Vec<u8>], media_type: &str) -> Value {
        let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({"architecture": arch, "os": "linux", "created": "2024-05-06T07:08:09Z",
            "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string().into_bytes();
        let entries: Vec<_> = layers
            .iter()
            .map(|layer| {
                let layer = match media_type {
                    LAYER => gzip(layer),
                    _ => layer.clone(),
                };
                json!({"mediaType": media_type, "size": layer.len(), "digest": self.blob(&layer)})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": config.len(), "digest": self.blob(&config)},
            "layers": entries});
        let manifest = manifest.to_string();
        json!({"mediaType": MANIFEST, "digest": self.blob(manifest.as_bytes()),
            "size": manifest.len(), "platform": {"architecture": arch, "os": "linux"}})
    }

    /// Names what skopeo takes.
    pub fn finish(&self, entry: &Value) {
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }

    pub fn index(&self, images: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        let index = index.to_string();
        json!({"mediaType": INDEX, "digest": self.blob(index.as_bytes()), "size": index.len()})
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

pub fn lower() -> Vec<u8> {
    let noise: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    Archive::new()
        .folder("etc")
        .file("etc/kept", b"kept")
        .file("etc/gone", b"gone")
        .file("etc/changed", b"before")
        .folder("opt")
        .file("opt/hidden", b"hidden")
        .folder("tree")
        .file("tree/leaf", b"leaf")
        .file("big", &noise)
        .link(EntryType::Symlink, "bin", "usr/bin")
        .link(EntryType::Link, "etc/again", "etc/kept")
        .device(EntryType::Char, "null", 1, 3)
        .bytes()
}

pub fn upper() -> Vec<u8> {
    Archive::new()
        .file("etc/.wh.gone", b"")
        .file("etc/changed", b"after")
        .folder("opt")
        .file("opt/.wh..wh..opq", b"")
        .file("opt/new", b"new")
        .file(".wh.tree", b"")
        .file("added/deep/file", b"x")
        .bytes()
}

pub fn sigsif_pull(peer: &Peer, args: &[&str], output: &str, name: &str) -> std::process::Command {
    let mut pull = peer.home.sigsif(["pull", "--arch", "amd64"]);
    pull.args(args)
        .arg(output)
        .arg(format!("docker://{}/{name}", peer.host()));
    pull
}

/// Objects of a file by their order: the bytes of each.
pub fn objects(home: &Home, file: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let number = (all.len() + 1).to_string();
        let outcome = run(&mut home.sigsif(["sif", "dump", &number, file]));
        match outcome.code {
            Some(0) => all.push(outcome.stdout),
            _ => return all,
        }
    }
}

/// The file systems of all squashfs layers, unpacked by another program.
pub fn unpacked(home: &Home, file: &str) -> Vec<BTreeMap<String, String>> {
    let layers = objects(home, file)
        .into_iter()
        .filter(|o| o.starts_with(b"hsqs"));
    let unpack = |bytes: Vec<u8>| {
        let folder = home.join("unpacked");
        let _ = fs::remove_dir_all(&folder);
        let image = home.write("layer.squashfs", &bytes);
        let mut command = home.clean("unsquashfs");
        command.args(["-q", "-n", "-d"]).arg(&folder).arg(image);
        run(&mut command).expect(0);
        listing(&folder)
    };
    layers.map(unpack).collect()
}

/// Without what says nothing: the permissions of a whiteout, and the mark of a hidden folder,
/// which tar2sqfs leaves out of what SingularityCE makes.
fn comparable(layers: &[BTreeMap<String, String>]) -> Vec<BTreeMap<String, String>> {
    let entry = |(name, text): (&String, &String)| {
        let text = match text.starts_with("20") && text.contains(" device 0 ") {
            true => "whiteout".to_owned(),
            false => text.replace("trusted.overlay.opaque=[121]", ""),
        };
        (name.clone(), text)
    };
    let layers = layers.iter();
    layers
        .map(|layer| layer.iter().map(entry).collect())
        .collect()
}

#[test]
fn an_image_that_is_not_there_is_told_as_that() {
    let Some(peer) = Peer::start() else { return };
    let mut pull = sigsif_pull(&peer, &[], "x.sif", "none/here:1");
    run(&mut pull)
        .expect(255)
        .says("no such image in the registry");
    assert!(!peer.home.join("x.sif").exists());
}

#[test]
fn converted_layers_have_what_singularity_makes_of_them() {
    if tool("unsquashfs").is_none() {
        return skip_without("unsquashfs");
    }
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    layout.finish(&layout.image("amd64", &[lower(), upper()]));
    if !peer.fill(layout.path(), "lab/two:1") {
        return;
    }
    run(&mut sigsif_pull(&peer, &[], "one.sif", "lab/two:1")).expect(0);
    run(&mut sigsif_pull(
        &peer,
        &["--keep-layers"],
        "kept.sif",
        "lab/two:1",
    ))
    .expect(0);
    let one = unpacked(&peer.home, "one.sif");
    let kept = unpacked(&peer.home, "kept.sif");
    assert_eq!((one.len(), kept.len()), (1, 2));
    let names: Vec<&str> = one[0].keys().map(String::as_str).collect();
    let expected = [
        "added",
        "added/deep",
        "added/deep/file",
        "big",
        "bin",
        "etc",
        "etc/again",
        "etc/changed",
        "etc/kept",
        "null",
        "opt",
        "opt/new",
    ];
    assert_eq!(names, expected);
    for (number, name) in [(0, "etc/gone"), (1, "etc/gone"), (1, "tree")] {
        let entry = &kept[number][name];
        assert_eq!(entry.contains("device 0"), number == 1, "{name}: {entry}");
    }
    assert!(
        kept[1]["opt"].contains("trusted.overlay.opaque=[121]"),
        "{}",
        kept[1]["opt"]
    );
    let Some(mut theirs) = peer.singularity() else {
        return;
    };
    for (args, file, ours) in [
        (vec![], "their-one.sif", &one),
        (vec!["--keep-layers"], "their-kept.sif", &kept),
    ] {
        let program = theirs.get_program().to_owned();
        let mut command = peer.home.clean(program);
        for (name, value) in theirs.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
            .args(["pull", "--oci", "--no-https", "--arch", "amd64"])
            .args(args)
            .arg(file)
            .arg(format!("docker://{}/lab/two:1", peer.host()));
        run(&mut command).expect(0);
        let theirs = unpacked(&peer.home, file);
        assert_eq!(comparable(&theirs), comparable(ours), "{file}");
    }
    // And it takes what we made.
    theirs.args(["sif", "list", "one.sif"]);
    run(&mut theirs).expect(0);
}

#[test]
fn with_cosign_every_byte_stays_and_what_cosign_signed_is_verified() {
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    let image = layout.image("amd64", &[lower(), upper()]);
    layout.finish(&image);
    if !peer.fill(layout.path(), "lab/signed:1") {
        return;
    }
    let source = image["digest"].as_str().unwrap();
    run(&mut sigsif_pull(
        &peer,
        &["--with-cosign"],
        "plain.sif",
        "lab/signed:1",
    ))
    .expect(0)
    .says("The registry has no cosign signatures of this image")
    .says("Layers stay as they are");
    let stored: Vec<String> = objects(&peer.home, "plain.sif")
        .iter()
        .map(|object| digest(object))
        .collect();
    let blobs = names(&layout.0.join("blobs/sha256"));
    for name in &blobs {
        assert!(stored.contains(&format!("sha256:{name}")), "{name}");
    }
    // The image, and the index of the file.
    assert_eq!(stored.len(), blobs.len() + 1);
    let Some(mut sign) = peer.cosign() else {
        return;
    };
    let keys = project().join("fixtures/peers/cosign/keys");
    let name = format!("{}/lab/signed@{source}", peer.host());
    sign.env("COSIGN_PASSWORD", "secret")
        .args([
            "sign",
            "-y",
            "--use-signing-config=false",
            "--tlog-upload=false",
        ])
        .args(["--new-bundle-format=false", "--key"])
        .arg(keys.join("p256.key"))
        .arg(&name);
    run(&mut sign).expect(0);
    let key = keys.join("p256.pub").display().to_string();
    let other = keys.join("p384.pub").display().to_string();
    let mut pull = sigsif_pull(
        &peer,
        &["--with-cosign", "--key", &key, "--json"],
        "signed.sif",
        "lab/signed:1",
    );
    let outcome = run(&mut pull)
        .expect(0)
        .says("Image has 1 signatures that are valid with provided key material");
    let summary: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(summary["signatures"]["verified"], true);
    assert_eq!(summary["image"]["signatures"], 1);
    run(&mut peer
        .home
        .sigsif(["verify", "--cosign", "--key", &key, "signed.sif"]))
    .expect(0);
    // Somebody else's signature is not enough, and there is no file then.
    for demand in ["--key", "--require"] {
        let args = ["--with-cosign", demand, &other];
        run(&mut sigsif_pull(
            &peer,
            &args,
            "refused.sif",
            "lab/signed:1",
        ))
        .expect(255)
        .says("failed to verify container: no valid signatures found");
        assert!(!peer.home.join("refused.sif").exists());
    }
    // SingularityCE's own code reads and judges the file.
    if let Some(mut theirs) = peer.command("SIGSIF_CE_COSIGN", "ce-cosign") {
        theirs.args(["verify", &key, "signed.sif"]);
        run(&mut theirs).expect(0);
    }
}

#[test]
fn a_signature_of_an_index_comes_with_the_image_that_was_chosen() {
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    let amd = layout.image("amd64", &[lower()]);
    let arm = layout.image("arm64", &[upper()]);
    let index = layout.index(&[amd, arm]);
    layout.finish(&index);
    if !peer.fill(layout.path(), "lab/many:1") {
        return;
    }
    run(&mut sigsif_pull(
        &peer,
        &["--platform", "linux/s390x"],
        "x.sif",
        "lab/many:1",
    ))
    .expect(255)
    .says("cannot be used together");
    let mut pull = peer
        .home
        .sigsif(["pull", "--platform", "linux/s390x", "x.sif"]);
    pull.arg(format!("docker://{}/lab/many:1", peer.host()));
    run(&mut pull)
        .expect(255)
        .says("no image for linux/s390x")
        .says("It has linux/amd64, linux/arm64");
    let Some(mut sign) = peer.cosign() else {
        return;
    };
    let keys = project().join("fixtures/peers/cosign/keys");
    let digest = index["digest"].as_str().unwrap();
    sign.env("COSIGN_PASSWORD", "secret")
        .args([
            "sign",
            "-y",
            "--use-signing-config=false",
            "--tlog-upload=false",
        ])
        .args(["--new-bundle-format=false", "--key"])
        .arg(keys.join("p256.key"))
        .arg(format!("{}/lab/many@{digest}", peer.host()));
    run(&mut sign).expect(0);
    let key = keys.join("p256.pub").display().to_string();
    for arch in ["amd64", "arm64"] {
        let mut pull = peer.home.sigsif(["pull", "--with-cosign", "--arch", arch]);
        pull.args(["--key", &key, &format!("{arch}.sif")])
            .arg(format!("docker://{}/lab/many:1", peer.host()));
        let outcome = run(&mut pull)
            .expect(0)
            .says("Image has 1 signatures that are valid")
            .says(&format!("The signatures are for the index {digest}"));
        // That the other images of the index are not in the file is no fault.
        assert!(!outcome.stderr.contains("WARNING"), "{outcome}");
        run(&mut peer.home.sigsif(["sif", "check", &format!("{arch}.sif")])).expect(0);
        // SingularityCE's own code passes over the index, and keeps it when it signs.
        if let Some(mut theirs) = peer.command("SIGSIF_CE_COSIGN", "ce-cosign") {
            let other = keys.join("p384.key");
            theirs
                .env("COSIGN_PASSWORD", "secret")
                .arg("sign")
                .arg(other);
            run(theirs.arg(format!("{arch}.sif"))).expect(0);
            for (name, count) in [("p256.pub", 1), ("p384.pub", 1)] {
                let mut verify = peer.home.sigsif(["verify", "--cosign", "--key"]);
                verify.arg(keys.join(name)).arg(format!("{arch}.sif"));
                run(&mut verify)
                    .expect(0)
                    .says("Image has 2 associated signatures")
                    .says(&format!("Image has {count} signatures that are valid"));
            }
        }
        // One of another key does not count, nor one for another digest.
        let other = keys.join("ed25519.pub");
        let mut verify = peer.home.sigsif(["verify", "--cosign", "--key"]);
        verify.arg(other).arg(format!("{arch}.sif"));
        run(&mut verify).expect(255);
    }
}

#[test]
fn bundles_and_attestations_come_along_also_after_a_copy_by_oras() {
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    let image = layout.image("amd64", &[lower()]);
    layout.finish(&image);
    if !peer.fill(layout.path(), "lab/image:1") {
        return;
    }
    let keys = project().join("fixtures/peers/cosign/keys");
    let name = format!(
        "{}/lab/image@{}",
        peer.host(),
        image["digest"].as_str().unwrap()
    );
    let predicate = peer.home.write("predicate.json", br#"{"a":1}"#);
    let with_cosign = |verb: &str, more: &[&str]| {
        let mut command = peer.cosign()?;
        command
            .env("COSIGN_PASSWORD", "secret")
            .args([
                verb,
                "-y",
                "--use-signing-config=false",
                "--tlog-upload=false",
                "--key",
            ])
            .arg(keys.join("p256.key"))
            .args(more)
            .arg(&name);
        Some(run(&mut command).expect(0))
    };
    // cosign 3 makes bundles, which refer to the image.
    let Some(_) = with_cosign("sign", &[]) else {
        return;
    };
    let predicate = predicate.display().to_string();
    let attest = [
        "--new-bundle-format=false",
        "--type",
        "custom",
        "--predicate",
        &predicate,
    ];
    with_cosign("attest", &attest).expect("cosign");
    let key = keys.join("p256.pub").display().to_string();
    let pull = |name: &str| {
        let args = ["--with-cosign", "--key", &key, "--json", "--force"];
        let outcome = run(&mut sigsif_pull(&peer, &args, "x.sif", name)).expect(0);
        let summary: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(summary["signatures"]["verified"], true, "{outcome}");
        [
            summary["image"]["bundles"].as_u64(),
            summary["image"]["attestations"].as_u64(),
        ]
        .map(Option::unwrap)
    };
    assert_eq!(pull("lab/image:1"), [1, 1]);
    let mut verify = peer
        .home
        .sigsif(["verify-attestation", "--key", &key, "x.sif"]);
    run(&mut verify).expect(0);
    // oras copies what refers to the image; tags are names for it.
    let Some(mut copy) = peer.oras() else { return };
    copy.args(["copy", "-r", "--from-plain-http", "--to-plain-http"])
        .args(["image", "copy"].map(|name| format!("{}/lab/{name}:1", peer.host())));
    run(&mut copy).expect(0);
    assert_eq!(pull("lab/copy:1"), [1, 0]);
}

#[test]
fn what_is_pulled_signed_and_pushed_by_singularity_comes_back() {
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    layout.finish(&layout.image("amd64", &[lower(), upper()]));
    if !peer.fill(layout.path(), "lab/image:1") {
        return;
    }
    let keys = project().join("fixtures/peers/cosign/keys");
    let (secret, key) = (keys.join("p256.key"), keys.join("p256.pub"));
    let key = key.display().to_string();
    run(&mut sigsif_pull(&peer, &[], "squashed.sif", "lab/image:1")).expect(0);
    let mut sign = peer.home.sigsif(["sign", "--cosign", "--key"]);
    sign.env("COSIGN_PASSWORD", "secret")
        .arg(secret)
        .arg("squashed.sif");
    run(&mut sign).expect(0);
    let Some(mut push) = peer.command("SIGSIF_CE_COSIGN", "ce-cosign") else {
        return;
    };
    let uri = format!("docker://{}/lab/signed:1", peer.host());
    run(push.args(["push", "squashed.sif", &uri, "--with-cosign"])).expect(0);
    let args = ["--with-cosign", "--key", &key];
    let outcome = run(&mut sigsif_pull(&peer, &args, "back.sif", "lab/signed:1")).expect(0);
    // Layers that are squashfs already need no word.
    assert!(!outcome.stderr.contains("Layers stay"), "{outcome}");
    let digests = |file: &str| {
        let objects = objects(&peer.home, file);
        let mut digests: Vec<String> = objects.iter().map(|object| digest(object)).collect();
        digests.sort();
        digests
    };
    // The same blobs in the same index.
    assert_eq!(digests("back.sif"), digests("squashed.sif"));
    let mut theirs = peer
        .command("SIGSIF_CE_COSIGN", "ce-cosign")
        .expect("as before");
    run(theirs.args(["verify", &key, "back.sif"])).expect(0);
}

#[test]
fn a_sif_that_oras_pushed_comes_back_and_its_signatures_decide() {
    let Some(peer) = Peer::start() else { return };
    let Some(mut push) = peer.oras() else { return };
    fs::write(peer.home.join("config"), b"{}").unwrap();
    let sif = read_peers("native/dsse-p256.sif");
    peer.home.write("image.sif", &sif);
    let uri = format!("oras://{}/lab/sif:1", peer.host());
    push.args(["push", "--plain-http"])
        .arg(format!("{}/lab/sif:1", peer.host()))
        .args([
            "--config",
            "config:application/vnd.sylabs.sif.config.v1+json",
        ])
        .arg("image.sif:application/vnd.sylabs.sif.layer.v1.sif");
    run(&mut push).expect(0);
    judged(&peer.home, &uri, &sif);
}

/// Pulls a SIF that the key `p256` signed, with all kinds of demands.
pub fn judged(home: &Home, uri: &str, sif: &[u8]) {
    let key = |name: &str| peers(&format!("keys/{name}.pub.pem")).display().to_string();
    let (good, bad) = (key("p256"), key("p384"));
    let policy = |name: &str, key: &str, folder: &Path| {
        let text = format!(
            "version = 1\n[[signer]]\nname = \"lab\"\nkey-files = [{key:?}]\n\
             [[rule]]\npath = \"{}/*\"\nsigners = [\"lab\"]\n",
            folder.display()
        );
        home.write(name, text.as_bytes()).display().to_string()
    };
    let folder = fs::canonicalize(home.path()).unwrap();
    let accepts = policy("good.toml", &good, &folder);
    let refuses = policy("bad.toml", &bad, &folder);
    let elsewhere = policy("none.toml", &good, Path::new("/elsewhere"));
    let pull = |args: &[&str]| {
        let _ = fs::remove_file(home.join("x.sif"));
        let mut pull = home.sigsif(["pull"]);
        pull.args(args).args(["x.sif", uri]);
        run(&mut pull)
    };
    for args in [
        vec!["--key", &good],
        vec!["--require", &good],
        vec!["--key", &good, "--require-any", "1"],
        vec!["--policy", &accepts],
    ] {
        pull(&args)
            .expect(0)
            .says("Verified signature(s) from image 'x.sif'");
        assert!(fs::read(home.join("x.sif")).unwrap() == sif, "{args:?}");
    }
    for args in [
        vec!["--key", &bad],
        vec!["--require", &bad],
        vec!["--key", &good, "--require-any", "2"],
        vec!["--policy", &refuses],
        vec!["--policy", &elsewhere],
        vec!["--key", "missing.pem"],
    ] {
        pull(&args).expect(255);
        assert!(!home.join("x.sif").exists(), "{args:?}");
    }
    // Nothing is demanded: the answer is only told.
    pull(&["--local"])
        .expect(0)
        .says("WARNING: failed to verify container: ")
        .says("WARNING: Skipping container verification");
    assert!(home.join("x.sif").exists());
    pull(&["--key", &good, "--allow-unsigned"])
        .expect(1)
        .says("--allow-unsigned cannot be used");
}

/// A layer with one program and what it is linked with; nothing where these are not found.
fn program_layer() -> Option<Vec<u8>> {
    let mut archive = Archive::new();
    for (name, from) in [
        ("bin/true", "/bin/true"),
        ("bin/sh", "/bin/sh"),
        ("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
        (
            "lib/x86_64-linux-gnu/libc.so.6",
            "/lib/x86_64-linux-gnu/libc.so.6",
        ),
    ] {
        let data = fs::read(from).ok()?;
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        header.set_entry_type(EntryType::Regular);
        archive = archive.entry(name, header, &data);
    }
    let folders = ["etc", "tmp", "proc", "sys", "dev"];
    archive = folders
        .iter()
        .fold(archive, |archive, name| archive.folder(name));
    let archive = archive.file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
    let archive = archive.file("etc/gone", b"");
    Some(archive.file("etc/group", b"root:x:0:\n").bytes())
}

#[test]
fn what_is_pulled_runs_under_singularity() {
    let Some(peer) = Peer::start() else { return };
    let Some(program) = program_layer() else {
        return skip("no /bin/true of x86-64 with glibc");
    };
    let layout = Layout::new(&peer.home);
    let upper = Archive::new().file("etc/.wh.gone", b"").bytes();
    layout.finish(&layout.image("amd64", &[program, upper]));
    if !peer.fill(layout.path(), "lab/run:1") {
        return;
    }
    let runs = |file: &str| {
        let mut theirs = peer.singularity()?;
        let script = "[ ! -e /etc/gone ] && [ -e /etc/passwd ] && /bin/true && echo it runs";
        theirs.args(["exec", "--oci", file, "/bin/sh", "-c", script]);
        Some(run(&mut theirs))
    };
    let uri = format!("docker://{}/lab/run:1", peer.host());
    let Some(mut theirs) = peer.singularity() else {
        return;
    };
    run(theirs.args(["pull", "--oci", "--no-https", "theirs.sif", &uri])).expect(0);
    let own = runs("theirs.sif").unwrap();
    if own.code != Some(0) {
        return skip(&format!("SingularityCE does not run what it pulled: {own}"));
    }
    let turned = format!("docker://{}/lab/turned:1", peer.host());
    let forms: [&[&str]; 4] = [
        &[],
        &["--keep-layers"],
        &["--converter", "tar2sqfs"],
        &["--converter", "mksquashfs", "--keep-layers"],
    ];
    for args in forms {
        let args = [args, &["--force"]].concat();
        run(&mut sigsif_pull(&peer, &args, "ours.sif", "lab/run:1")).expect(0);
        let outcome = runs("ours.sif").unwrap().expect(0);
        assert_eq!(outcome.stdout, b"it runs\n", "{args:?}");
        // And what becomes tar again, in the hands of SingularityCE.
        let push = ["push", "--layer-format", "tar", "ours.sif", &turned];
        run(&mut peer.home.sigsif(push)).expect(0);
        let mut theirs = peer.singularity().unwrap();
        theirs.args([
            "pull",
            "--oci",
            "--no-https",
            "--force",
            "back.sif",
            &turned,
        ]);
        run(&mut theirs).expect(0);
        runs("back.sif").unwrap().expect(0);
    }
}

#[test]
fn layers_that_skopeo_compressed_with_zstd_are_those_that_it_was_given() {
    let mut made = Vec::new();
    for format in ["gzip", "zstd", "zstd:chunked"] {
        // One registry each: skopeo does not compress again what a registry has in another form.
        let Some(peer) = Peer::start() else { return };
        let layout = Layout::new(&peer.home);
        let tar = "application/vnd.oci.image.layer.v1.tar";
        layout.finish(&layout.image_of("amd64", &[lower(), upper()], tar));
        let from = format!("oci:{}", layout.path());
        let image = format!("docker://{}/lab/x:1", peer.host());
        let copy = ["copy", "--dest-tls-verify=false", "--dest-compress-format"];
        let copied = peer.skopeo(&[&copy[..], &[format, &from, &image]].concat());
        let Some(copied) = copied else { return };
        copied.expect(0);
        let raw = peer.skopeo(&["inspect", "--raw", "--tls-verify=false", &image]);
        let raw: Value = serde_json::from_slice(&raw.unwrap().expect(0).stdout).unwrap();
        let named = format!("{tar}+{}", format.split(':').next().unwrap());
        assert_eq!(raw["layers"][0]["mediaType"], named);
        let layers = ["--keep-layers=false", "--keep-layers"].map(|keep| {
            let args = ["--no-https", "--force", keep];
            run(&mut sigsif_pull(&peer, &args, "x.sif", "lab/x:1")).expect(0);
            unpacked(&peer.home, "x.sif")
        });
        assert_eq!(layers.each_ref().map(Vec::len), [1, 2]);
        made.push(layers);
    }
    assert!(made.iter().all(|layers| *layers == made[0]));
}
