//! `push --layer-format tar`: what other programs find in the registry.

use crate::peer::Peer;
use crate::pull_real::{Layout, lower, objects, sigsif_pull, unpacked, upper};
use crate::server::{Registry, digest};
use crate::support::{Home, Outcome, project, read_peers, run, skip_without, tool};
use crate::unsquash::entries;
use serde_json::Value;
use sigsif::layer::tar::{Entry, Kind};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

type Entries = BTreeMap<String, (Entry, Vec<u8>)>;

fn push(peer: &Peer, args: &[&str], file: &str, to: &str) -> Outcome {
    let before = fs::read(peer.home.join(file)).unwrap();
    let mut push = peer
        .home
        .sigsif(["push", "--layer-format", "tar", "--json"]);
    push.args(args)
        .arg(file)
        .arg(format!("docker://{}/{to}", peer.host()));
    let outcome = run(&mut push);
    assert!(fs::read(peer.home.join(file)).unwrap() == before);
    outcome
}

/// The parts of an image of a registry, after a copy by skopeo: manifest, config, layers.
fn parts(peer: &Peer, name: &str) -> Option<(Value, Value, Vec<Vec<u8>>)> {
    let folder = peer.home.join("copy");
    let _ = fs::remove_dir_all(&folder);
    let from = format!("docker://{}/{name}", peer.host());
    let to = format!("dir:{}", folder.display());
    let args = ["copy", "-q", "--preserve-digests", "--src-tls-verify=false"];
    peer.skopeo(&[&args[..], &[&from, &to]].concat())?.expect(0);
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let blob = |entry: &Value| {
        let hex = entry["digest"]
            .as_str()
            .unwrap()
            .trim_start_matches("sha256:");
        let bytes = fs::read(folder.join(hex)).unwrap();
        assert_eq!(entry["size"].as_u64(), Some(bytes.len() as u64));
        bytes
    };
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    let expand = |entry: &Value| {
        let mut out = Vec::new();
        let packed = blob(entry);
        flate2::read::MultiGzDecoder::new(packed.as_slice())
            .read_to_end(&mut out)
            .unwrap();
        out
    };
    let layers = manifest["layers"].as_array().unwrap().iter().map(expand);
    let layers: Vec<_> = layers.collect();
    // What engines check when they unpack.
    let ids = layers.iter().map(|layer| Value::from(digest(layer)));
    assert_eq!(config["rootfs"]["diff_ids"], ids.collect::<Value>());
    Some((manifest, config, layers))
}

/// Entries without what two makers may choose: names of folders that only lead somewhere, the
/// attributes of whiteouts, and which of two names is the link.
fn comparable(layer: &[u8]) -> Entries {
    let mut all = entries(layer);
    let data: BTreeMap<_, _> = all
        .iter()
        .map(|(name, found)| (name.clone(), found.clone()))
        .collect();
    for (name, (entry, bytes)) in &mut all {
        if let Kind::HardLink(target) = &entry.kind {
            let target = String::from_utf8(target.clone()).unwrap();
            (entry.kind, entry.size, *bytes) = {
                let (found, bytes) = &data[&target];
                (found.kind.clone(), found.size, bytes.clone())
            };
        }
        let last = name.rsplit('/').next().unwrap();
        if last.starts_with(".wh.") {
            entry.mode = 0;
            entry.mtime = 0;
        }
    }
    all.remove(".");
    all
}

#[test]
fn layers_come_to_the_registry_as_the_tar_that_they_were() {
    let Some(peer) = Peer::start() else { return };
    let layout = Layout::new(&peer.home);
    layout.finish(&layout.image("amd64", &[lower(), upper()]));
    if !peer.fill(layout.path(), "lab/two:1") {
        return;
    }
    let keep = ["--keep-layers"];
    run(&mut sigsif_pull(&peer, &keep, "kept.sif", "lab/two:1")).expect(0);
    let outcome = push(&peer, &[], "kept.sif", "lab/tar:1").expect(0);
    assert!(
        outcome.stderr.contains("Converting layers to tar"),
        "{outcome}"
    );
    let told: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(told["converted"], true);
    let (manifest, config, layers) = parts(&peer, "lab/tar:1").unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
    }
    assert_eq!(config["config"]["Cmd"][0], "sh");
    assert_eq!(layers.len(), 2);
    for (ours, original) in layers.iter().zip([lower(), upper()]) {
        let (mut ours, original) = (comparable(ours), comparable(&original));
        for (name, expected) in &original {
            assert_eq!(ours.remove(name).as_ref(), Some(expected), "{name}");
        }
        let more: Vec<_> = ours.keys().map(String::as_str).collect();
        let implied = ["added", "added/deep", "etc"];
        assert!(more.iter().all(|name| implied.contains(name)), "{more:?}");
    }
    // The way back gives the same file systems.
    if tool("unsquashfs").is_none() {
        return skip_without("unsquashfs");
    }
    run(&mut sigsif_pull(&peer, &keep, "back.sif", "lab/tar:1")).expect(0);
    assert_eq!(
        unpacked(&peer.home, "back.sif"),
        unpacked(&peer.home, "kept.sif")
    );
    // And again the same image: nothing is sent.
    let again = push(&peer, &[], "kept.sif", "lab/tar:1").expect(0);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["digest"], told["digest"]);
    assert_eq!(again["sent"], 0);
    // Tar that came as tar stays, and so do its signatures.
    let tar = ["--layer-format", "tar"];
    run(&mut sigsif_pull(&peer, &tar, "tar.sif", "lab/two:1")).expect(0);
    let same = push(&peer, &["--with-cosign"], "tar.sif", "lab/same:1").expect(0);
    let same: Value = serde_json::from_slice(&same.stdout).unwrap();
    assert_eq!(same["converted"], false);
    assert_eq!(parts(&peer, "lab/same:1"), parts(&peer, "lab/two:1"));
}

#[test]
fn layers_are_those_that_singularity_pushes() {
    let Some(peer) = Peer::start() else { return };
    for name in ["squashfs-one", "squashfs-squashed", "squashfs-three"] {
        let file = format!("{name}.oci.sif");
        peer.home
            .write(&file, &read_peers(&format!("cosign/sif/{file}")));
        push(&peer, &[], &file, "lab/ours:1").expect(0);
        let Some((ours, _, our_layers)) = parts(&peer, "lab/ours:1") else {
            return;
        };
        assert_eq!(our_layers.len(), ours["layers"].as_array().unwrap().len());
        let Some(mut theirs) = peer.singularity() else {
            return;
        };
        let uri = format!("docker://{}/lab/theirs:1", peer.host());
        run(theirs.args(["push", "--layer-format", "tar", &file, &uri])).expect(0);
        let (_, _, layers) = parts(&peer, "lab/theirs:1").unwrap();
        assert_eq!(our_layers.len(), layers.len());
        for (ours, theirs) in our_layers.iter().zip(&layers) {
            assert!(comparable(ours) == comparable(theirs), "{name}");
        }
    }
}

#[test]
fn signatures_of_what_becomes_another_image_do_not_go_with_it() {
    let Some(peer) = Peer::start() else { return };
    peer.home.write(
        "signed.sif",
        &read_peers("cosign/sif/squashfs-three-signed.oci.sif"),
    );
    push(&peer, &["--with-cosign"], "signed.sif", "lab/signed:1")
        .expect(255)
        .says("cannot push signature - invalidated by transforming layer format to tar");
    let uri = format!("docker://{}/lab/signed:1", peer.host());
    run(&mut peer.home.sigsif(["pull", "x.sif", &uri]))
        .expect(255)
        .says("no such image in the registry");
    // What is there can be signed there.
    push(&peer, &[], "signed.sif", "lab/signed:1").expect(0);
    let keys = project().join("fixtures/peers/cosign/keys");
    let key = |name: &str| keys.join(name).display().to_string();
    let mut sign = peer
        .home
        .sigsif(["sign", "--cosign", "--key", &key("p256.key"), &uri]);
    run(sign.env("COSIGN_PASSWORD", "secret")).expect(0);
    let args = ["verify", "--cosign", "--key", &key("p256.pub"), &uri];
    run(&mut peer.home.sigsif(args)).expect(0);
}

#[test]
fn an_index_names_the_images_of_tar() {
    let Some(peer) = Peer::start() else { return };
    let registry = peer.home.join("squashed");
    fs::create_dir(&registry).unwrap();
    // Two platforms, one of squashfs and one of tar, made an OCI-SIF by way of a layout.
    let layout = Layout::new(&peer.home);
    let image = sigsif_squashfs();
    let squashed = layout.image_of("amd64", &[image], SQUASHFS);
    let plain = layout.image("arm64", &[lower()]);
    layout.finish(&layout.index(&[squashed, plain]));
    let args = ["sif", "import-layout", layout.path(), "both.sif"];
    run(&mut peer.home.sigsif(args)).expect(0);
    push(&peer, &[], "both.sif", "lab/both:1").expect(0);
    for (arch, expected) in [("amd64", upper()), ("arm64", lower())] {
        let uri = format!("docker://{}/lab/both:1", peer.host());
        let mut pull = peer
            .home
            .sigsif(["pull", "--force", "--layer-format", "tar"]);
        run(pull.args(["--arch", arch, "image.sif", &uri])).expect(0);
        let layers = objects(&peer.home, "image.sif");
        let layer = layers.iter().find(|bytes| bytes.starts_with(&[0x1f, 0x8b]));
        let mut out = Vec::new();
        flate2::read::MultiGzDecoder::new(layer.unwrap().as_slice())
            .read_to_end(&mut out)
            .unwrap();
        let found = comparable(&out);
        for (name, expected) in comparable(&expected) {
            assert_eq!(found.get(&name), Some(&expected), "{arch} {name}");
        }
    }
}

const SQUASHFS: &str = "application/vnd.sylabs.image.layer.v1.squashfs";

fn sigsif_squashfs() -> Vec<u8> {
    let keep = sigsif::layer::tree::Whiteouts::Keep;
    crate::layers::squashfs(&[upper()], keep).unwrap()
}

#[test]
fn a_layer_that_is_no_squashfs_is_not_sent() {
    let home = Home::new();
    let layout = Layout::new(&home);
    let mut bad = sigsif_squashfs();
    // The root is said to be elsewhere.
    bad[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    layout.finish(&layout.image_of("amd64", &[bad], SQUASHFS));
    let args = ["sif", "import-layout", layout.path(), "bad.sif"];
    run(&mut home.sigsif(args)).expect(0);
    let registry = Registry::new();
    let uri = format!("docker://{}/lab/bad:1", registry.host());
    let mut push = home.sigsif(["push", "--layer-format", "tar", "bad.sif", &uri]);
    run(&mut push)
        .expect(255)
        .says("while converting layers: layer sha256:")
        .says("malformed squashfs: a place behind its end");
    assert!(registry.store.lock().unwrap().blobs.is_empty());
    // As they are they may go.
    run(&mut home.sigsif(["push", "bad.sif", &uri])).expect(0);
    // A folder that cannot be written to is named.
    let args = [
        "push",
        "--layer-format",
        "tar",
        "--tmpdir",
        "/none",
        "bad.sif",
    ];
    run(home.sigsif(args).arg(&uri))
        .expect(255)
        .says("/none: no such file or directory");
}
