//! `sign --cosign`: what is written, who reads it, what is refused.

use super::support::{self, Home, Outcome, peers, project, run};
use super::tool::{Peer, Stored, openssl_verifies, run_with};
use serde_json::Value;
use sigsif::key::pem::PublicKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE: &str = "sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9";
const ARM_IMAGE: &str = "sha256:6c699cbcc32a41e1f4fceda0dfe074538dab56c927dcc0aff5b5d6b7c7aaff12";
const INDEX: &str = "sha256:5a6f26999e6717ed4cb0b9e443ecb39f50a862e576ef2ec689a62f38f688c7cc";

/// A home with a copy of a file of the peers.
fn scene(sif: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let image = home.copy(&format!("cosign/sif/{sif}.oci.sif"), "image.sif");
    (home, image)
}

fn key(name: &str) -> PathBuf {
    peers("cosign/keys").join(name)
}

/// A signing at a fixed time.
fn sign(home: &Home, name: &str, time: u64, args: &[&str]) -> Command {
    let mut command = home.sigsif(["sign", "--cosign", "--key"]);
    command
        .arg(key(name))
        .args(args)
        .arg("image.sif")
        .env("COSIGN_PASSWORD", "secret")
        .env("SOURCE_DATE_EPOCH", time.to_string());
    command
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_pem(&fs::read(key(name)).expect("a key")).expect("a public key")
}

/// Signatures of an image in a file whose signature the key made.
fn valid(image: &Path, subject: &str, key: &PublicKey) -> usize {
    let stored = Stored::read(image);
    let signatures = stored.signatures(subject, "sig");
    let holds = |(payload, signature): &(Vec<u8>, Vec<u8>)| key.verify(payload, signature);
    signatures.iter().filter(|s| holds(s)).count()
}

#[test]
fn signs_once_and_twice_and_leaves_the_image_alone() {
    let (home, image) = scene("one");
    let before = Stored::read(&image);
    for count in 1..=2 {
        let outcome = run(&mut sign(&home, "p256.key", 1_795_000_000 + count, &[])).expect(0);
        assert!(outcome.stdout.is_empty());
        assert_eq!(
            outcome.stderr,
            format!(
                "INFO:    Sigstore/cosign compatible signature, using key material from '{}'\n\
                 Enter password for private key: \n\
                 INFO:    Signature of {IMAGE} added\n",
                key("p256.key").display()
            )
        );
        let after = Stored::read(&image);
        assert_eq!(valid(&image, IMAGE, &public("p256.pub")), count as usize);
        // The objects of the image are where and what they were.
        assert_eq!(after.objects[..3], before.objects[..3]);
        // Payloads, config, manifest.
        assert_eq!(after.objects.len(), 4 + count as usize + 2);
        assert_eq!(after.roots(), 1);
    }
    let stored = Stored::read(&image);
    let (payload, _) = &stored.signatures(IMAGE, "sig")[0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        String::from_utf8_lossy(payload),
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{IMAGE}"}},"type":"cosign container image signature"}},"optional":{{"creator":"sigsif/{version} (Linux {})","timestamp":1795000001}}}}"#,
            if cfg!(target_arch = "x86_64") {
                "amd64"
            } else {
                "arm64"
            }
        )
    );
}

#[test]
fn what_the_signature_states_is_chosen() {
    let (home, image) = scene("one");
    let args = [
        "--annotation",
        "b=2",
        "--annotation",
        "a=<x&y>=",
        "--reference",
        "registry.example.org/img",
        "--creator",
        "",
    ];
    run(&mut sign(&home, "p256.pem", 7, &args)).expect(0);
    let (payload, _) = &Stored::read(&image).signatures(IMAGE, "sig")[0];
    assert_eq!(
        String::from_utf8_lossy(payload),
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"registry.example.org/img"}},"image":{{"docker-manifest-digest":"{IMAGE}"}},"type":"cosign container image signature"}},"optional":{{"a":"\u003cx\u0026y\u003e=","b":"2","timestamp":7}}}}"#
        )
    );
    for (args, told) in [
        (["--annotation", "x"], "must be key=value"),
        (["--annotation", "=x"], "must be key=value"),
        (
            ["--annotation", "creator=x"],
            "the annotation \"creator\" is set by --creator",
        ),
        (
            ["--annotation", "timestamp=1"],
            "is set by SOURCE_DATE_EPOCH",
        ),
        (
            ["--platform", "linux"],
            "must be os/architecture or os/architecture/variant",
        ),
        (["--digest", "sha256:x"], "malformed digest"),
    ] {
        run(&mut sign(&home, "p256.pem", 7, &args))
            .expect(1)
            .says(told);
    }
    let twice = ["--annotation", "a=1", "--annotation", "a=2"];
    run(&mut sign(&home, "p256.pem", 7, &twice))
        .expect(1)
        .says("given twice");
}

#[test]
fn refuses_what_the_originals_refuse_in_their_words() {
    let (home, image) = scene("one");
    let before = fs::read(&image).expect("the image");
    let key = key("p256.key").display().to_string();
    let call = |args: &[&str]| {
        let mut command = home.sigsif(["sign", "--cosign"]);
        run(command
            .args(args)
            .arg("image.sif")
            .env("COSIGN_PASSWORD", "secret"))
    };
    let objects = "FATAL:   --cosign signatures sign an OCI image, specifying SIF descriptors / groups is not supported\n";
    for (args, told) in [
        (
            vec![],
            "FATAL:   --cosign signatures require a private --key to be specified\n",
        ),
        (
            vec!["--key", &key, "--keyidx", "1"],
            "FATAL:   --keyidx not supported: --cosign signatures use a private --key, not the PGP keyring\n",
        ),
        (vec!["--key", &key, "--all"], objects),
        (vec!["--key", &key, "--group-id", "1"], objects),
        (vec!["--key", &key, "--groupid", "1"], objects),
        (vec!["--key", &key, "--sif-id", "1"], objects),
        (vec!["--key", &key, "-i", "1"], objects),
        (
            vec!["--key", "missing"],
            "FATAL:   failed to load key material: open missing: no such file or directory\n",
        ),
    ] {
        call(&args).expect(255).says(told);
    }
    let mut wrong = sign(&home, "p256.key", 1, &[]);
    run(wrong.env("COSIGN_PASSWORD", "wrong"))
        .expect(255)
        .says("FATAL:   failed to load key material: encrypted: decryption failed\n");
    assert_eq!(fs::read(&image).expect("the image"), before);
    for flag in [
        "--annotation=a=b",
        "--reference=x",
        "--creator=x",
        "--recursive",
        "--platform=a/b",
    ] {
        let outcome = run(&mut home.sigsif(["sign", flag, "--key", &key, "image.sif"])).expect(1);
        outcome.says("needs --cosign");
    }
    home.copy("native/unsigned.sif", "image.sif");
    call(&["--key", &key])
        .expect(255)
        .says("FATAL:   image is not an OCI-SIF: \"image.sif\"\n");
    fs::remove_file(&image).expect("the image");
    call(&["--key", &key])
        .expect(255)
        .says("FATAL:   while checking OCI-SIF: could not open image image.sif: failed to retrieve path for image.sif: lstat ");
}

#[test]
fn every_kind_of_key_signs_what_openssl_verifies() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    for name in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
        for kind in ["pem", "key"] {
            let (home, image) = scene("one");
            run(&mut sign(&home, &format!("{name}.{kind}"), 1, &[])).expect(0);
            let (payload, signature) = Stored::read(&image).signatures(IMAGE, "sig").remove(0);
            openssl_verifies(&home, name, &payload, &signature);
        }
    }
}

#[test]
fn any_number_of_signatures_and_singularity_goes_on_with_the_file() {
    let (home, image) = scene("one");
    let singularity = Peer::singularity();
    for count in 1..=50_usize {
        let name = if count % 2 == 1 {
            "p256.pem"
        } else {
            "ed25519.pem"
        };
        run(&mut sign(&home, name, count as u64, &[])).expect(0);
        if ![1, 7, 50].contains(&count) {
            continue;
        }
        let stored = Stored::read(&image);
        assert_eq!(stored.signatures(IMAGE, "sig").len(), count);
        assert_eq!(stored.roots(), 1);
        let odd = count.div_ceil(2);
        assert_eq!(valid(&image, IMAGE, &public("p256.pub")), odd);
        assert_eq!(valid(&image, IMAGE, &public("ed25519.pub")), count / 2);
        let Some(singularity) = &singularity else {
            continue;
        };
        fs::copy(&image, home.join("theirs.sif")).expect("a copy");
        let says = |public: &str| {
            let public = key(public).display().to_string();
            run(&mut singularity.call(&home, &["verify", &public, "theirs.sif"]))
        };
        says("p256.pub")
            .expect(0)
            .says(&format!("Image has {count} associated signatures"))
            .says(&format!("Image has {odd} signatures that are valid"));
        if count > 1 {
            let all = says("ed25519.pub").expect(0);
            all.says(&format!(
                "Image has {} signatures that are valid",
                count / 2
            ));
        }
        let private = key("p256.key").display().to_string();
        let mut extend = singularity.call(&home, &["sign", &private, "theirs.sif"]);
        run(extend.env("COSIGN_PASSWORD", "secret")).expect(0);
        says("p256.pub")
            .expect(0)
            .says(&format!("Image has {} signatures that are valid", odd + 1));
        assert_eq!(
            valid(&home.join("theirs.sif"), IMAGE, &public("p256.pub")),
            odd + 1
        );
        run(&mut singularity.call(&home, &["single", "theirs.sif"])).expect(0);
        // And ours goes on with theirs.
        fs::copy(home.join("theirs.sif"), &image).expect("a copy");
        run(&mut sign(&home, "rsa2048.pem", 1, &[])).expect(0);
        fs::copy(&image, home.join("theirs.sif")).expect("a copy");
        says("rsa2048.pub")
            .expect(0)
            .says("Image has 1 signatures that are valid");
        fs::write(&image, &stored.bytes).expect("the image");
    }
}

#[test]
fn the_same_words_by_the_same_key_are_not_said_twice() {
    let (home, image) = scene("one");
    for name in ["p256.pem", "ed25519.pem"] {
        run(&mut sign(&home, name, 1, &[])).expect(0);
    }
    // The payload is the same; each key signed it.
    let stored = Stored::read(&image);
    assert_eq!(stored.signatures(IMAGE, "sig").len(), 2);
    assert_eq!(stored.objects.len(), 4 + 1 + 2);
    for name in ["p256.key", "ed25519.key"] {
        run(&mut sign(&home, name, 1, &[])).expect(0).says(&format!(
            "Signature of {IMAGE} by this key is there already"
        ));
        assert!(fs::read(&image).expect("the image") == stored.bytes);
    }
    run(&mut sign(&home, "p256.key", 2, &[])).expect(0);
    assert_eq!(Stored::read(&image).signatures(IMAGE, "sig").len(), 3);
}

#[test]
fn of_several_images_the_one_that_is_meant() {
    let key = public("p256.pub");
    for (args, signed) in [
        (vec![], vec![INDEX]),
        (vec!["--recursive"], vec![INDEX, IMAGE, ARM_IMAGE]),
        (vec!["--platform", "linux/arm64"], vec![ARM_IMAGE]),
        (vec!["--digest", IMAGE], vec![IMAGE]),
        (vec!["--digest", INDEX, "-r"], vec![INDEX, IMAGE, ARM_IMAGE]),
    ] {
        let (home, image) = scene("two-platforms");
        for time in 1..=2 {
            run(&mut sign(&home, "p256.pem", time, &args)).expect(0);
        }
        for subject in [INDEX, IMAGE, ARM_IMAGE] {
            let expected = if signed.contains(&subject) { 2 } else { 0 };
            assert_eq!(valid(&image, subject, &key), expected, "{args:?} {subject}");
        }
    }
    let (home, image) = scene("two-platforms");
    let before = fs::read(&image).expect("the image");
    for args in [
        ["--platform", "linux/s390x"],
        ["--digest", &IMAGE.replace('d', "e")],
    ] {
        run(&mut sign(&home, "p256.pem", 1, &args))
            .expect(255)
            .says("FATAL:   while fetching image from OCI-SIF: no matching image / index found\n");
    }
    let both = ["--platform", "linux/arm64", "--digest", IMAGE];
    run(&mut sign(&home, "p256.pem", 1, &both)).expect(1);
    assert!(fs::read(&image).expect("the image") == before);
    // A file with a second image: the originals sign the one without a name.
    let (home, image) = scene("second-image-with-ref");
    run(&mut sign(&home, "p256.pem", 1, &[])).expect(0);
    assert_eq!(valid(&image, IMAGE, &key), 2, "one was there before");
    let (home, _) = scene("second-image-no-ref");
    run(&mut sign(&home, "p256.pem", 1, &[]))
        .expect(255)
        .says("multiple matching images / indices found");
}

#[test]
fn a_damaged_image_is_not_signed() {
    for (name, told) in [
        (
            "one-broken-by-7th",
            "image is not an OCI-SIF: \"image.sif\"",
        ),
        ("mut-two-roots", "image is not an OCI-SIF: \"image.sif\""),
        ("mut-layer-bit-flip", "OCI blob digest mismatch"),
        ("mut-layer-missing", "object not found"),
        ("mut-layer-digest-text-wrong", "object not found"),
        ("mut-config-missing", "object not found"),
        ("mut-root-digest-wrong", "OCI root index digest mismatch"),
    ] {
        let (home, image) = scene(name);
        let before = fs::read(&image).expect("the image");
        run(&mut sign(&home, "p256.pem", 1, &[]))
            .expect(255)
            .says(told);
        assert!(fs::read(&image).expect("the image") == before, "{name}");
    }
}

#[test]
fn signatures_that_a_pull_stored_twice_can_be_read_again() {
    let singularity = Peer::singularity();
    for (name, there) in [("same-second-pulled", 2), ("two-cosign-keys-pulled", 2)] {
        let (home, image) = scene(name);
        let before = Stored::read(&image);
        run(&mut sign(&home, "p384.pem", 1, &[])).expect(0);
        let after = Stored::read(&image);
        assert_eq!(after.signatures(IMAGE, "sig").len(), there + 1, "{name}");
        // One payload, config, manifest and root go or are replaced, a payload comes.
        assert_eq!(after.objects.len(), before.objects.len());
        if let Some(singularity) = &singularity {
            let public = key("p256.pub").display().to_string();
            run(&mut singularity.call(&home, &["verify", &public, "image.sif"])).expect(0);
        }
    }
}

#[test]
fn what_others_stored_stays() {
    // A blob that no index names, attestations, an object outside OCI.
    let (home, image) = scene("mut-extra-blob");
    let digests = |stored: &Stored| -> Vec<String> {
        stored.objects.iter().map(|o| o.digest.clone()).collect()
    };
    let before = digests(&Stored::read(&image));
    run(&mut sign(&home, "p256.pem", 1, &[])).expect(0);
    let after = digests(&Stored::read(&image));
    let lost: Vec<_> = before.iter().filter(|d| !after.contains(d)).collect();
    // Config and manifest of the old signature, and the old RootIndex.
    assert_eq!(lost.len(), 3, "{lost:?}");
    let (home, image) = scene("with-att");
    run(&mut sign(&home, "p256.pem", 1, &[])).expect(0);
    let stored = Stored::read(&image);
    assert_eq!(stored.signatures(IMAGE, "att").len(), 2);
    assert_eq!(stored.signatures(IMAGE, "sig").len(), 2);
    let (home, image) = scene("unsigned-pulled-with-cosign");
    run(&mut sign(&home, "p256.pem", 1, &[])).expect(0);
    assert_eq!(valid(&image, IMAGE, &public("p256.pub")), 1);
    // An entry that is listed twice becomes one, and nothing is lost.
    let (home, image) = scene("mut-sig-entry-twice");
    run(&mut sign(&home, "p256.pem", 1, &[])).expect(0);
    assert_eq!(valid(&image, IMAGE, &public("p256.pub")), 2);
}

#[test]
fn a_signature_of_the_objects_is_lost_only_with_a_warning() {
    let (home, image) = scene("native-only");
    let native = |home: &Home| -> Outcome {
        let mut verify = home.sigsif(["verify", "--key"]);
        run(verify.arg(key("p256.pub")).arg("image.sif"))
    };
    native(&home).expect(0);
    run(&mut sign(&home, "p256.pem", 1, &[]))
        .expect(0)
        .says("WARNING: a signature of the SIF objects no longer holds");
    native(&home).expect(255);
    assert_eq!(valid(&image, IMAGE, &public("p256.pub")), 1);
}

#[test]
fn a_piped_password_opens_the_key() {
    let (home, image) = scene("one");
    let mut command = sign(&home, "p256.key", 1, &[]);
    command.env_remove("COSIGN_PASSWORD");
    run_with(&mut command, "secret\n").expect(0);
    assert_eq!(valid(&image, IMAGE, &public("p256.pub")), 1);
}

#[test]
fn the_same_time_gives_the_same_file() {
    let made: Vec<_> = (0..2)
        .map(|_| {
            let (home, image) = scene("one");
            run(&mut sign(&home, "p256.key", 1, &[])).expect(0);
            fs::read(image).expect("the image")
        })
        .collect();
    assert!(made[0] == made[1]);
    let kept = project().join("fixtures/cosign/one-signed.oci.sif");
    assert!(made[0] == fs::read(kept).expect("the fixture"));
}

#[test]
fn files_that_singularity_extended_say_the_same_here_and_there() {
    let folder = project().join("fixtures/cosign");
    let answers = fs::read_to_string(folder.join("answers.jsonl")).expect("answers");
    let home = Home::new();
    let mut compared = 0;
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        if !text(&answer["peer"]).starts_with("singularity") {
            assert_eq!(answer["rc"], 0, "cosign verifies each");
            continue;
        }
        let mut verify = home.sigsif(["-v", "verify", "--cosign", "--key"]);
        let ours = run(verify
            .arg(folder.join(text(&answer["argv"][1])))
            .arg(folder.join(text(&answer["argv"][2]))));
        assert_eq!(ours.code.map(i64::from), answer["rc"].as_i64(), "{line}");
        assert_eq!(
            String::from_utf8_lossy(&ours.stdout),
            text(&answer["stdout"])
        );
        let counts = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|line| line.starts_with("INFO:    Image has"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(counts(&ours.stderr), counts(&text(&answer["stderr"])));
        compared += 1;
    }
    assert_eq!(compared, 30);
}

#[test]
fn signing_again_and_again_leaves_nothing_behind() {
    let (home, image) = scene("one");
    let mut lengths = Vec::new();
    for time in 0..12 {
        run(&mut sign(&home, "p256.pem", time, &[])).expect(0);
        let stored = Stored::read(&image);
        let live: i64 = stored.objects.iter().map(|o| o.size).sum();
        lengths.push((stored.bytes.len(), live));
        let mut strict = home.sigsif(["verify", "--cosign", "--strict", "image.sif", "--key"]);
        run(strict.arg(key("p256.pub"))).expect(0);
        run(&mut home.sigsif(["sif", "check", "image.sif"])).expect(0);
    }
    // Old indices make no more than as much again.
    let (len, live) = lengths[11];
    let table = Stored::read(&image).data_start();
    assert!(len as i64 - table <= 2 * live, "{lengths:?}");
}
