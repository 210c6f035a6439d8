//! `attest` and `verify-attestation`.

use super::support::{self, Home, Outcome, peers, run};
use super::tool::{Peer, Stored};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const IMAGE: &str = "sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9";
const ARM_IMAGE: &str = "sha256:6c699cbcc32a41e1f4fceda0dfe074538dab56c927dcc0aff5b5d6b7c7aaff12";
const INDEX: &str = "sha256:5a6f26999e6717ed4cb0b9e443ecb39f50a862e576ef2ec689a62f38f688c7cc";
const BOM: &str = r#"{"bomFormat":"CycloneDX", "n":1.0, "x":"<&>"}"#;

fn scene(sif: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let image = home.copy(&format!("cosign/sif/{sif}.oci.sif"), "image.sif");
    home.write("bom.json", BOM.as_bytes());
    (home, image)
}

fn key(name: &str) -> PathBuf {
    peers("cosign/keys").join(name)
}

fn attest(home: &Home, name: &str, args: &[&str]) -> Command {
    let mut command = home.sigsif(["attest", "--cosign", "--predicate", "bom.json", "--key"]);
    command
        .arg(key(name))
        .args(args)
        .arg("image.sif")
        .env("COSIGN_PASSWORD", "secret")
        .env("SOURCE_DATE_EPOCH", "1795342707");
    command
}

fn verify(home: &Home, name: &str, args: &[&str]) -> Outcome {
    let mut command = home.sigsif(["verify-attestation", "--key"]);
    run(command.arg(key(name)).args(args).arg("image.sif"))
}

/// Payload and signature of an envelope on one line.
fn open(envelope: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let envelope: Value = serde_json::from_slice(envelope).expect("JSON");
    let text = |value: &Value| BASE64_STANDARD.decode(value.as_str().expect("text"));
    let payload = text(&envelope["payload"]).expect("base64");
    let signature = text(&envelope["signatures"][0]["sig"]).expect("base64");
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(
        envelope["signatures"][0].as_object().map(|o| o.len()),
        Some(1)
    );
    (payload, signature)
}

#[test]
fn answers_as_cosign_does_about_the_same_attestations() {
    // `with-att` holds what cosign answers about in `att/att-and-sig`.
    let answers = fs::read_to_string(peers("cosign/expected.jsonl")).expect("answers");
    let (home, _) = scene("with-att");
    let mut compared = 0;
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let argv: Vec<&str> = answer["argv"]
            .as_array()
            .expect("argv")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let [
            "verify-attestation",
            "--key",
            public,
            "--insecure-ignore-tlog",
            "--type",
            kind,
            "--local-image",
            "att/att-and-sig",
        ] = argv[..]
        else {
            continue;
        };
        let public = public.strip_prefix("keys/").expect("a key");
        let ours = verify(&home, public, &["--type", kind]);
        let stdout = answer["stdout"].as_str().expect("text");
        assert_eq!(String::from_utf8_lossy(&ours.stdout), stdout, "{argv:?}");
        let told = answer["stderr"].as_str().expect("text");
        match answer["rc"].as_i64() {
            Some(0) => drop(ours.expect(0)),
            _ => {
                let reason = told.split("\nError: ").nth(1).expect("a reason");
                let reason = reason.split("\nerror during").next().expect("a reason");
                drop(ours.expect(255).says(&format!("FATAL:   {reason}\n")));
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn every_kind_of_key_attests_what_openssl_verifies() {
    let openssl = support::tool("openssl").is_some();
    if !openssl {
        support::skip_without("openssl");
    }
    for name in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
        let (home, image) = scene("one");
        let public = format!("{name}.pub");
        run(&mut attest(
            &home,
            &format!("{name}.key"),
            &["--type", "cyclonedx"],
        ))
        .expect(0)
        .says("INFO:    Sigstore/cosign compatible attestation, using key material from")
        .says(&format!("INFO:    Attestation of {IMAGE} added\n"));
        let outcome = verify(&home, &public, &["--type", "cyclonedx"]).expect(0);
        let (envelope, signature) = {
            let lines: Vec<_> = outcome.stdout.split_inclusive(|b| *b == b'\n').collect();
            assert_eq!(lines.len(), 1);
            (lines[0].to_vec(), open(lines[0]).1)
        };
        let (payload, _) = open(&envelope);
        assert_eq!(
            String::from_utf8_lossy(&payload),
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v0.1","subject":[{{"name":"_","digest":{{"sha256":"{}"}}}}],"predicateType":"https://cyclonedx.org/bom","predicate":{BOM}}}"#,
                &IMAGE[7..]
            )
        );
        // The same bytes lie in the file, with the annotations of cosign.
        let stored = Stored::read(&image);
        assert_eq!(
            stored.signatures(IMAGE, "att")[0].0,
            envelope.trim_ascii_end()
        );
        let manifest = stored.manifest(IMAGE, "att");
        assert_eq!(
            manifest["layers"][0]["annotations"],
            json!({"dev.cosignproject.cosign/signature": "", "predicateType": "https://cyclonedx.org/bom"})
        );
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.dsse.envelope.v1+json"
        );
        if openssl {
            let kind = "application/vnd.in-toto+json";
            let mut message =
                format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
            message.extend_from_slice(&payload);
            super::tool::openssl_verifies(&home, name, &message, &signature);
        }
        // By another key, or of another kind, nothing.
        let other = if name == "p256" {
            "p384.pub"
        } else {
            "p256.pub"
        };
        verify(&home, other, &["--type", "cyclonedx"])
            .expect(255)
            .says("FATAL:   no matching attestations: accepted signatures do not match threshold, Found: 0, Expected 1\n");
        verify(&home, &public, &[])
            .expect(255)
            .says("none of the attestations matched the predicate type: custom, found: https://cyclonedx.org/bom");
    }
}

#[test]
fn attests_every_type_and_says_no_statement_twice() {
    let (home, image) = scene("one");
    let types = [
        "custom",
        "slsaprovenance",
        "slsaprovenance02",
        "slsaprovenance1",
        "spdx",
        "spdxjson",
        "cyclonedx",
        "vuln",
        "openvex",
        "https://example.org/p",
    ];
    for kind in types {
        run(&mut attest(
            &home,
            "ed25519.pem",
            &["--type", kind, "--reference", "r.example.org/i"],
        ))
        .expect(0);
        let held = verify(&home, "ed25519.pub", &["--type", kind]).expect(0);
        let (payload, _) = open(held.stdout.split(|b| *b == b'\n').next().expect("a line"));
        let statement: Value = serde_json::from_slice(&payload).expect("JSON");
        assert_eq!(statement["subject"][0]["name"], "r.example.org/i");
    }
    // slsaprovenance and slsaprovenance02 are one type.
    assert_eq!(
        Stored::read(&image).signatures(IMAGE, "att").len(),
        types.len() - 1
    );
    let before = fs::read(&image).expect("the image");
    run(&mut attest(
        &home,
        "ed25519.pem",
        &["--type", "vuln", "--reference", "r.example.org/i"],
    ))
    .expect(0)
    .says(&format!(
        "Attestation of {IMAGE} by this key is there already"
    ));
    assert!(fs::read(&image).expect("the image") == before);
    let custom = verify(&home, "ed25519.pub", &[]).expect(0);
    let (payload, _) = open(&custom.stdout);
    let statement: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!(
        statement["predicate"],
        json!({"Data": BOM, "Timestamp": "2026-11-22T10:18:27Z"})
    );
}

#[test]
fn wrong_predicates_and_command_lines_are_refused() {
    let (home, image) = scene("one");
    let before = fs::read(&image).expect("the image");
    home.write("list.json", b"[1]");
    home.write("latin", b"\xe9");
    let call = |file: &str, kind: &str| {
        let mut command = home.sigsif(["attest", "--cosign", "--predicate", file, "--type", kind]);
        run(command.arg("--key").arg(key("p256.pem")).arg("image.sif"))
    };
    for (file, kind, code, told) in [
        (
            "list.json",
            "cyclonedx",
            255,
            "invalid JSON payload for predicate type cyclonedx",
        ),
        (
            "bom.json",
            "link",
            255,
            "link statement: required field _type missing",
        ),
        ("latin", "custom", 255, "the predicate is not UTF-8 text"),
        (
            "missing",
            "custom",
            255,
            "open missing: no such file or directory",
        ),
        (
            "bom.json",
            "notatype",
            1,
            "invalid predicate type: notatype",
        ),
    ] {
        call(file, kind).expect(code).says(told);
    }
    let mut command = home.sigsif(["attest", "--predicate", "bom.json", "image.sif"]);
    run(&mut command).expect(1).says("add --cosign");
    let mut command = home.sigsif(["attest", "--cosign", "--predicate", "bom.json", "image.sif"]);
    run(&mut command)
        .expect(255)
        .says("attestations require a private --key to be specified");
    run(&mut home.sigsif(["verify-attestation", "image.sif"]))
        .expect(255)
        .says("requires a public --key to be specified");
    verify(&home, "p256.pub", &[])
        .expect(255)
        .says("FATAL:   no attestations provided\n");
    assert!(fs::read(&image).expect("the image") == before);
    home.copy("native/unsigned.sif", "image.sif");
    call("bom.json", "custom")
        .expect(255)
        .says("image is not an OCI-SIF");
    verify(&home, "p256.pub", &[])
        .expect(255)
        .says("not an OCI-SIF");
}

#[test]
fn an_attestation_is_about_one_image_and_no_other() {
    let (home, image) = scene("two-platforms");
    let kind = ["--type", "cyclonedx"];
    let args = |more: &[&'static str]| -> Vec<&'static str> { [&kind[..], more].concat() };
    run(&mut attest(
        &home,
        "p256.pem",
        &args(&["--platform", "linux/arm64"]),
    ))
    .expect(0);
    verify(&home, "p256.pub", &args(&["--platform", "linux/arm64"])).expect(0);
    verify(&home, "p256.pub", &args(&["--digest", ARM_IMAGE])).expect(0);
    verify(&home, "p256.pub", &args(&["--platform", "linux/amd64"]))
        .expect(255)
        .says("no attestations provided");
    verify(&home, "p256.pub", &args(&["--digest", INDEX])).expect(255);
    run(&mut attest(&home, "p256.pem", &args(&["--recursive"]))).expect(0);
    for digest in [INDEX, IMAGE, ARM_IMAGE] {
        verify(
            &home,
            "p256.pub",
            &[&kind[..], &["--digest", digest]].concat(),
        )
        .expect(0);
    }
    // The attestation of one image under the name of the other.
    let arm = format!("_cosign:{}.att", ARM_IMAGE.replace(':', "-"));
    let amd = format!("_cosign:{}.att", IMAGE.replace(':', "-"));
    let mut stored = Stored::read(&image);
    stored.rewrite_root(|root| {
        root.replace(&arm, "_cosign:x")
            .replace(&amd, &arm)
            .replace("_cosign:x", &amd)
    });
    fs::write(&image, &stored.bytes).expect("the image");
    verify(&home, "p256.pub", &args(&["--digest", IMAGE]))
        .expect(255)
        .says(&format!("the statement is not about {IMAGE}"));
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let (home, image) = scene("one");
    run(&mut attest(&home, "ed25519.pem", &["--type", "cyclonedx"])).expect(0);
    let stored = Stored::read(&image);
    for object in &stored.objects {
        for at in [0, object.size / 2, object.size - 1] {
            let mut bytes = stored.bytes.clone();
            bytes[(object.offset + at) as usize] ^= 4;
            fs::write(&image, &bytes).expect("the image");
            let outcome = verify(&home, "ed25519.pub", &["--type", "cyclonedx"]).expect(255);
            assert!(outcome.stdout.is_empty());
        }
    }
}

#[test]
fn cosign_verifies_what_is_attested_here() {
    let Some(cosign) = Peer::cosign() else {
        return;
    };
    let (home, _) = scene("one");
    let names = ["p256", "p384", "p521", "ed25519", "rsa2048"];
    for name in names {
        run(&mut attest(
            &home,
            &format!("{name}.pem"),
            &["--type", "cyclonedx"],
        ))
        .expect(0);
        let mut sign = home.sigsif(["sign", "--cosign", "image.sif", "--key"]);
        run(sign.arg(key(&format!("{name}.pem")))).expect(0);
    }
    run(&mut home.sigsif(["sif", "export", "--oci-layout", "layout", "image.sif"])).expect(0);
    for name in names {
        fs::copy(key(&format!("{name}.pub")), home.join("k.pub")).expect("a key");
        let options = [
            "--key",
            "k.pub",
            "--insecure-ignore-tlog",
            "--local-image",
            "layout",
        ];
        let args = [&["verify-attestation", "--type", "cyclonedx"], &options[..]].concat();
        let theirs = run(&mut cosign.call(&home, &args)).expect(0);
        let ours = verify(&home, &format!("{name}.pub"), &["--type", "cyclonedx"]).expect(0);
        assert_eq!(theirs.stdout, ours.stdout, "{name}");
        let args = [&["verify"], &options[..]].concat();
        run(&mut cosign.call(&home, &args)).expect(0);
    }
}
