//! `attest` and `verify-attestation` of images that stay in a registry.

use crate::peer::Peer;
use crate::registry_sign::{fill, key};
use crate::server::{MANIFEST, Registry, Reply, digest};
use crate::support::{Home, Outcome, run};
use serde_json::{Value, json};

const BOM: &str = r#"{"bomFormat":"CycloneDX","n":1.0,"x":"<&>"}"#;
const TYPE: [&str; 2] = ["--type", "cyclonedx"];

fn attest(home: &Home, with: &str, args: &[&str], uri: &str) -> Outcome {
    home.write("bom.json", BOM.as_bytes());
    let mut attest = home.sigsif(["attest", "--cosign", "--predicate", "bom.json", "--key"]);
    attest.arg(key(with)).args(args).arg(uri);
    attest
        .env("COSIGN_PASSWORD", "secret")
        .env("SOURCE_DATE_EPOCH", "1795342707");
    run(&mut attest)
}

fn verify(home: &Home, with: &str, args: &[&str], uri: &str) -> Outcome {
    let mut verify = home.sigsif(["verify-attestation", "--key", &key(with)]);
    run(verify.args(args).arg(uri))
}

#[test]
fn what_is_attested_in_a_registry_is_verified_there_without_its_layers() {
    let registry = Registry::new();
    let home = Home::new();
    let named = fill(&home, &registry.host());
    let uri = format!("docker://{}/lab/one:1", registry.host());
    verify(&home, "p256.pub", &TYPE, &uri)
        .expect(255)
        .says("FATAL:   no attestations provided");
    attest(&home, "p256.key", &TYPE, &uri)
        .expect(0)
        .says(&format!("Attestation of {named} added"));
    attest(&home, "ed25519.key", &TYPE, &uri)
        .expect(0)
        .says("The registry had 1 attestations of it, which stay");
    // In the same words by the same key: there is nothing to add.
    let before = registry.store.lock().unwrap().manifests.clone();
    attest(&home, "ed25519.key", &TYPE, &uri)
        .expect(0)
        .says("by this key is there already");
    assert_eq!(registry.store.lock().unwrap().manifests, before);
    let layer = {
        let store = registry.store.lock().unwrap();
        let image: Value = serde_json::from_slice(&store.manifests[&named].1).unwrap();
        image["layers"][0]["digest"].as_str().unwrap().to_owned()
    };
    let fetched = registry.count("GET", &layer);
    for signer in ["p256.pub", "ed25519.pub"] {
        let outcome = verify(&home, signer, &TYPE, &uri)
            .expect(0)
            .says(&format!("Image digest: {named}"))
            .says("Image has 2 associated attestations");
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(text.lines().count(), 1);
        let json = run(&mut home.sigsif([
            "verify-attestation",
            "--json",
            "--key",
            &key(signer),
            "--type",
            "cyclonedx",
            &uri,
        ]))
        .expect(0);
        let report: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(report["schema"], "sigsif-verify-attestation-1");
        assert_eq!(
            (&report["verdict"], &report["digest"]),
            (&json!("verified"), &json!(named))
        );
        let rows = report["attestations"].as_array().unwrap();
        let held: Vec<_> = rows
            .iter()
            .filter(|row| row["verdict"] == "valid")
            .collect();
        assert_eq!((rows.len(), held.len()), (2, 1));
        let statement = &held[0]["statement"];
        assert_eq!(
            statement["predicate"],
            serde_json::from_str::<Value>(BOM).unwrap()
        );
        // As cosign names it: by its repository.
        let name = format!("{}/lab/one", registry.host());
        assert_eq!(statement["subject"][0]["name"], json!(name));
    }
    assert_eq!(
        registry.count("GET", &layer),
        fetched,
        "layers are not read"
    );
    // By another key, or of another kind, nothing; the report says why.
    verify(&home, "p384.pub", &TYPE, &uri)
        .expect(255)
        .says("no matching attestations: ");
    let other = verify(&home, "p256.pub", &["--json"], &uri)
        .expect(255)
        .says("none of the attestations matched the predicate type: custom");
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    assert_eq!(report["verdict"], "refused");
    assert!(report["reason"].as_str().unwrap().contains("custom"));
    let gone = format!("docker://{}/lab/one:none", registry.host());
    let missing = verify(&home, "p256.pub", &["--json"], &gone).expect(255);
    let report: Value = serde_json::from_slice(&missing.stdout).unwrap();
    assert_eq!(report["verdict"], "error");
    // The file that is pulled with them has them as well.
    let pull = ["pull", "--with-cosign", "--arch", "amd64", "back.sif", &uri];
    run(&mut home.sigsif(pull)).expect(0);
    verify(&home, "p256.pub", &TYPE, "back.sif").expect(0);
}

#[test]
fn attestations_go_to_and_fro_between_cosign_and_us() {
    let Some(peer) = Peer::start() else { return };
    let home = &peer.home;
    let named = fill(home, &peer.host());
    let uri = format!("docker://{}/lab/one:1", peer.host());
    let name = format!("{}/lab/one@{named}", peer.host());
    for signer in ["p256.key", "p384.key"] {
        attest(home, signer, &TYPE, &uri).expect(0);
    }
    let theirs = |signer: &str, form: &str| {
        let mut cosign = peer.cosign()?;
        cosign.args(["verify-attestation", "--insecure-ignore-tlog", form]);
        cosign.args(["--type", "cyclonedx", "--key", &key(signer), &name]);
        Some(run(&mut cosign))
    };
    for signer in ["p256.pub", "p384.pub"] {
        let Some(outcome) = theirs(signer, "--new-bundle-format=false") else {
            return;
        };
        let outcome = outcome.expect(0);
        let ours = verify(home, signer, &TYPE, &uri).expect(0);
        assert_eq!(outcome.stdout, ours.stdout, "{signer}");
    }
    assert_ne!(
        theirs("p521.pub", "--new-bundle-format=false")
            .unwrap()
            .code,
        Some(0)
    );
    // Theirs, in the old form beside ours, and as a bundle.
    for (signer, form) in [
        ("p521", "--new-bundle-format=false"),
        ("rsa2048", "--new-bundle-format=true"),
    ] {
        let mut cosign = peer.cosign().unwrap();
        cosign.env("COSIGN_PASSWORD", "secret");
        cosign.args([
            "attest",
            "-y",
            "--use-signing-config=false",
            "--tlog-upload=false",
            form,
        ]);
        cosign.args(["--predicate", "bom.json", "--type", "cyclonedx"]);
        let secret = key(&format!("{signer}.key"));
        run(cosign.args(["--key", &secret, &name])).expect(0);
        verify(home, &format!("{signer}.pub"), &TYPE, &uri).expect(0);
        verify(home, "p256.pub", &TYPE, &uri).expect(0);
        // An attestation is no signature.
        let args = [
            "verify",
            "--cosign",
            "--key",
            &key(&format!("{signer}.pub")),
            &uri,
        ];
        run(&mut home.sigsif(args)).expect(255);
    }
    // cosign looks at bundles alone where there is one.
    let bundled = theirs("rsa2048.pub", "--new-bundle-format=true").unwrap();
    bundled.expect(0);
    let hidden = theirs("p256.pub", "--new-bundle-format=true").unwrap();
    assert_ne!(hidden.code, Some(0));
    // Ours again: theirs stays.
    attest(home, "p256.key", &["--type", "vuln"], &uri).expect(0);
    for signer in ["p256.pub", "rsa2048.pub", "p384.pub", "p521.pub"] {
        verify(home, signer, &TYPE, &uri).expect(0);
    }
    let pull = ["pull", "--with-cosign", "--arch", "amd64", "back.sif", &uri];
    run(&mut home.sigsif(pull)).expect(0);
    for signer in ["p256.pub", "rsa2048.pub", "p384.pub", "p521.pub"] {
        verify(home, signer, &TYPE, "back.sif").expect(0);
    }
}

#[test]
fn what_was_changed_in_the_registry_is_refused() {
    for change in ["envelope", "moved", "layer", "image"] {
        let registry = Registry::new();
        let home = Home::new();
        let named = fill(&home, &registry.host());
        let uri = format!("docker://{}/lab/one:1", registry.host());
        attest(&home, "p256.key", &TYPE, &uri).expect(0);
        verify(&home, "p256.pub", &TYPE, &uri).expect(0);
        {
            let tag = format!("{}.att", named.replace(':', "-"));
            let mut store = registry.store.lock().unwrap();
            let attestations = store.manifests[&tag].1.clone();
            let parsed: Value = serde_json::from_slice(&attestations).unwrap();
            let mut image: Value = serde_json::from_slice(&store.manifests[&named].1).unwrap();
            let digest_of =
                |value: &Value| value["layers"][0]["digest"].as_str().unwrap().to_owned();
            match change {
                "envelope" => {
                    let envelope = store.blobs.get_mut(&digest_of(&parsed)).unwrap();
                    *envelope.last_mut().unwrap() ^= 1;
                }
                "layer" => {
                    store.blobs.remove(&digest_of(&image)).unwrap();
                }
                _ => {
                    image["annotations"] = json!({"a": "b"});
                    let bytes = image.to_string().into_bytes();
                    store.put_manifest("1", MANIFEST, &bytes);
                    // Of one image, under the name of another.
                    if change == "moved" {
                        let tag = format!("{}.att", digest(&bytes).replace(':', "-"));
                        store.put_manifest(&tag, MANIFEST, &attestations);
                    }
                }
            }
        }
        let outcome = verify(&home, "p256.pub", &TYPE, &uri).expect(255);
        assert!(outcome.stdout.is_empty(), "{change}");
    }
}

#[test]
fn a_registry_cannot_make_us_read_without_end() {
    let home = Home::new();
    let registry = Registry::new();
    let named = fill(&home, &registry.host());
    let uri = format!("docker://{}/lab/one:1", registry.host());
    attest(&home, "p256.key", &TYPE, &uri).expect(0);
    let tag = format!("{}.att", named.replace(':', "-"));
    let mut parsed: Value =
        serde_json::from_slice(&registry.store.lock().unwrap().manifests[&tag].1).unwrap();
    // More than any envelope has, and more envelopes than are looked at.
    let layer = parsed["layers"][0].clone();
    parsed["layers"][0]["size"] = json!(200_u64 << 20);
    registry.put_manifest(&tag, MANIFEST, parsed.to_string().as_bytes());
    let fetched = registry.count("GET", layer["digest"].as_str().unwrap());
    verify(&home, "p256.pub", &TYPE, &uri).expect(255);
    assert_eq!(
        registry.count("GET", layer["digest"].as_str().unwrap()),
        fetched
    );
    parsed["layers"] = json!(vec![layer; 10_001]);
    registry.put_manifest(&tag, MANIFEST, parsed.to_string().as_bytes());
    verify(&home, "p256.pub", &TYPE, &uri)
        .expect(255)
        .says("10001 signatures, more than the 10000 that are looked at");
    // Control characters of a server do not reach the terminal.
    let registry = Registry::with(|seen, _, _| {
        (seen.path.contains("/manifests/")).then(|| {
            Reply::status(403)
                .body(r#"{"errors":[{"code":"DENIED","message":"no \u001b[31mway"}]}"#)
        })
    });
    let uri = format!("docker://{}/lab/one:1", registry.host());
    let outcome = verify(&home, "p256.pub", &["--json"], &uri).expect(255);
    assert!(!outcome.stderr.contains('\u{1b}') && !outcome.stdout.contains(&0x1b));
}

#[test]
fn flags_that_mean_files_are_refused() {
    let home = Home::new();
    let uri = "docker://127.0.0.1:1/lab/one:1";
    for flag in [
        &["--recursive"][..],
        &["--no-wait"],
        &["--platform", "linux/amd64"],
    ] {
        attest(&home, "p256.key", flag, uri)
            .expect(255)
            .says("not supported with an image in a registry");
    }
    let file = crate::support::read_peers("cosign/sif/one.oci.sif");
    home.write("one.sif", &file);
    attest(&home, "p256.key", &["--no-https"], "one.sif")
        .expect(0)
        .says("Flags about registries have no effect: the image is a file");
}
