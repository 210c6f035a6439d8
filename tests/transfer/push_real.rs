//! `push` to a real registry: other programs find and accept what is there.

use crate::peer::Peer;
use crate::support::{Outcome, peers, project, read_peers, run};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn key(name: &str) -> String {
    let keys = project().join("fixtures/peers/cosign/keys");
    keys.join(name).display().to_string()
}

/// A copy of a recorded OCI-SIF.
fn image(peer: &Peer, name: &str) -> PathBuf {
    let bytes = read_peers(&format!("cosign/sif/{name}.oci.sif"));
    peer.home.write(&format!("{name}.oci.sif"), &bytes)
}

/// Signs a file; every signature of it by every key has the same payload.
fn sign(peer: &Peer, file: &str, with: &str) {
    let mut sign = peer
        .home
        .sigsif(["sign", "--cosign", "--key", &key(with), file]);
    sign.env("COSIGN_PASSWORD", "secret")
        .env("SOURCE_DATE_EPOCH", "1700000000");
    run(&mut sign).expect(0);
}

fn push(peer: &Peer, args: &[&str], file: &str, to: &str) -> Outcome {
    let before = fs::read(peer.home.join(file)).unwrap();
    let mut push = peer.home.sigsif(["push", "--json"]);
    push.args(args)
        .arg(file)
        .arg(format!("docker://{}/{to}", peer.host()));
    let outcome = run(&mut push);
    assert!(
        fs::read(peer.home.join(file)).unwrap() == before,
        "the file is only read"
    );
    outcome
}

fn summary(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.expect(0).stdout).unwrap()
}

/// Whether the registry's image counts as signed by a key, after a pull into a fresh file.
fn is_signed_by(peer: &Peer, name: &str, key_file: &str) -> bool {
    let _ = fs::remove_file(peer.home.join("back.sif"));
    let uri = format!("docker://{}/{name}", peer.host());
    let mut pull = peer
        .home
        .sigsif(["pull", "--with-cosign", "--arch", "amd64", "back.sif"]);
    run(pull.arg(uri)).expect(0);
    let args = ["verify", "--cosign", "--key", &key(key_file), "back.sif"];
    run(&mut peer.home.sigsif(args)).code == Some(0)
}

#[test]
fn what_is_signed_here_and_pushed_is_accepted_by_cosign_and_singularity() {
    let Some(peer) = Peer::start() else { return };
    // Of tar layers SingularityCE would make another image.
    image(&peer, "squashfs-one");
    sign(&peer, "squashfs-one.oci.sif", "p256.key");
    let told = summary(push(
        &peer,
        &["--with-cosign"],
        "squashfs-one.oci.sif",
        "lab/one:1",
    ));
    assert_eq!(told["signatures"][0]["added"], 1);
    assert_eq!(told["present"], 0);
    assert!(is_signed_by(&peer, "lab/one:1", "p256.pub"));
    assert!(!is_signed_by(&peer, "lab/one:1", "rsa2048.pub"));
    // Nothing is sent twice.
    let again = summary(push(
        &peer,
        &["--with-cosign"],
        "squashfs-one.oci.sif",
        "lab/one:1",
    ));
    assert_eq!(
        (&again["sent"], &again["present"]),
        (&told["present"], &told["sent"])
    );
    assert_eq!(again["signatures"][0]["added"], 0);
    let digest = told["digest"].as_str().unwrap();
    let name = format!("{}/lab/one@{digest}", peer.host());
    if let Some(mut cosign) = peer.cosign() {
        cosign.args([
            "verify",
            "--insecure-ignore-tlog",
            "--key",
            &key("p256.pub"),
            &name,
        ]);
        run(&mut cosign).expect(0);
    }
    if let Some(mut cosign) = peer.cosign() {
        cosign.args([
            "verify",
            "--insecure-ignore-tlog",
            "--key",
            &key("rsa2048.pub"),
            &name,
        ]);
        assert_ne!(run(&mut cosign).code, Some(0));
    }
    if let Some(mut theirs) = peer.command("SIGSIF_CE_COSIGN", "ce-cosign") {
        let uri = format!("docker://{}/lab/one:1", peer.host());
        theirs.env("TMPDIR", peer.home.path());
        run(theirs.args(["pull", &uri, "theirs.sif", "--with-cosign"])).expect(0);
        let mut theirs = peer.command("SIGSIF_CE_COSIGN", "ce-cosign").unwrap();
        run(theirs.args(["verify", &key("p256.pub"), "theirs.sif"])).expect(0);
    }
}

#[test]
fn signatures_of_the_registry_stay_also_those_over_the_same_payload() {
    let Some(peer) = Peer::start() else { return };
    for (file, with) in [("one", "p256.key"), ("one-too", "rsa2048.key")] {
        let bytes = read_peers("cosign/sif/one.oci.sif");
        let name = format!("{file}.oci.sif");
        peer.home.write(&name, &bytes);
        sign(&peer, &name, with);
        let told = summary(push(&peer, &["--with-cosign"], &name, "lab/both:1"));
        assert_eq!(told["signatures"][0]["added"], 1);
    }
    assert!(is_signed_by(&peer, "lab/both:1", "p256.pub"));
    assert!(is_signed_by(&peer, "lab/both:1", "rsa2048.pub"));
    // Neither a file without signatures nor a push without the flag empties anything.
    image(&peer, "one");
    push(&peer, &["--with-cosign"], "one.oci.sif", "lab/both:1")
        .expect(0)
        .says("those of the registry stay");
    push(&peer, &[], "one.oci.sif", "lab/both:1").expect(0);
    assert!(is_signed_by(&peer, "lab/both:1", "p256.pub"));
    // Other programs add theirs, and a push afterwards keeps it.
    if let Some(mut cosign) = peer.cosign() {
        let told = summary(push(&peer, &[], "one.oci.sif", "lab/both:1"));
        let name = format!(
            "{}/lab/both@{}",
            peer.host(),
            told["digest"].as_str().unwrap()
        );
        cosign.env("COSIGN_PASSWORD", "secret");
        cosign.args([
            "sign",
            "-y",
            "--use-signing-config=false",
            "--tlog-upload=false",
        ]);
        cosign.args([
            "--new-bundle-format=false",
            "--key",
            &key("p384.key"),
            &name,
        ]);
        run(&mut cosign).expect(0);
        push(&peer, &["--with-cosign"], "one-too.oci.sif", "lab/both:1").expect(0);
        for signer in ["p256.pub", "rsa2048.pub", "p384.pub"] {
            assert!(is_signed_by(&peer, "lab/both:1", signer), "{signer}");
        }
    }
}

#[test]
fn attestations_travel() {
    let Some(peer) = Peer::start() else { return };
    image(&peer, "with-att");
    let told = summary(push(
        &peer,
        &["--with-cosign"],
        "with-att.oci.sif",
        "lab/att:1",
    ));
    let names: Vec<_> = told["signatures"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2);
    assert!(
        names
            .iter()
            .any(|n| n["name"].as_str().unwrap().ends_with(".att"))
    );
    let digest = told["digest"].as_str().unwrap();
    let Some(mut cosign) = peer.cosign() else {
        return;
    };
    cosign.args([
        "verify-attestation",
        "--insecure-ignore-tlog",
        "--key",
        &key("p256.pub"),
    ]);
    cosign.args(["--type", "custom"]);
    let outcome = run(cosign.arg(format!("{}/lab/att@{digest}", peer.host())));
    assert!(
        outcome.stderr.contains("signatures were verified"),
        "{outcome}"
    );
}

#[test]
fn blobs_of_another_repository_and_copies_by_skopeo_are_found() {
    let Some(peer) = Peer::start() else { return };
    image(&peer, "one");
    sign(&peer, "one.oci.sif", "p256.key");
    let first = summary(push(&peer, &["--with-cosign"], "one.oci.sif", "lab/from:1"));
    let args = ["--with-cosign", "--mount-from", "lab/from"];
    let second = summary(push(&peer, &args, "one.oci.sif", "lab/to:1"));
    assert_eq!(
        (&second["sent"], &second["present"]),
        (&first["present"], &first["sent"])
    );
    assert!(is_signed_by(&peer, "lab/to:1", "p256.pub"));
    let digest = first["digest"].as_str().unwrap().replace(':', "-");
    for tag in ["1".to_owned(), format!("{digest}.sig")] {
        let name = |repository: &str| format!("docker://{}/{repository}:{tag}", peer.host());
        let (from, to) = (name("lab/from"), name("lab/copied"));
        let mut args = vec!["copy", "-q", "--preserve-digests", "--src-tls-verify=false"];
        args.extend(["--dest-tls-verify=false", from.as_str(), to.as_str()]);
        match peer.skopeo(&args) {
            Some(outcome) => outcome.expect(0),
            None => return,
        };
    }
    assert!(is_signed_by(&peer, "lab/copied:1", "p256.pub"));
}

#[test]
fn a_sif_goes_as_an_artifact_and_comes_back_byte_for_byte() {
    let Some(peer) = Peer::start() else { return };
    let sif = read_peers("native/dsse-p256.sif");
    peer.home.write("image.sif", &sif);
    let uri = format!("oras://{}/lab/sif:1", peer.host());
    run(&mut peer
        .home
        .sigsif(["push", "--with-cosign", "image.sif", &uri]))
    .expect(0)
    .says("WARNING: --with-cosign has no effect with oras://");
    let key = peers("keys/p256.pub.pem").display().to_string();
    run(&mut peer.home.sigsif(["pull", "--key", &key, "back.sif", &uri])).expect(0);
    assert!(fs::read(peer.home.join("back.sif")).unwrap() == sif);
    if let Some(mut oras) = peer.oras() {
        oras.args(["pull", "--plain-http", "-o", "out"]);
        run(oras.arg(format!("{}/lab/sif:1", peer.host()))).expect(0);
        assert!(fs::read(peer.home.join("out/image.sif")).unwrap() == sif);
    }
    if let Some(mut theirs) = peer.singularity() {
        run(theirs.args(["pull", "--no-https", "theirs.sif", &uri])).expect(0);
        assert!(fs::read(peer.home.join("theirs.sif")).unwrap() == sif);
    }
}

#[test]
fn what_is_not_whole_is_not_sent() {
    let Some(peer) = Peer::start() else { return };
    for (name, reason) in [
        ("mut-layer-bit-flip", "digest"),
        ("mut-layer-missing", "image is not complete"),
    ] {
        image(&peer, name);
        let file = format!("{name}.oci.sif");
        push(&peer, &["--with-cosign"], &file, "lab/bad:1")
            .expect(255)
            .says(reason);
        let uri = format!("docker://{}/lab/bad:1", peer.host());
        run(&mut peer.home.sigsif(["pull", "x.sif", &uri]))
            .expect(255)
            .says("no such image in the registry");
    }
    peer.home
        .write("plain.sif", &read_peers("native/unsigned.sif"));
    push(&peer, &[], "plain.sif", "lab/bad:1")
        .expect(255)
        .says("non OCI SIF images can only be pushed to OCI registries via oras://");
}
