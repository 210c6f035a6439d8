//! `verify --require`, `--require-any`, `--ignore-unknown` as commands.

use crate::server::hkp;
use crate::support::{Home, Outcome, peers, read_peers, run};
use serde_json::Value;

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
const TWO: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";
const MIXED: &str = "@native/mixed-pgp-dsse.sif";

/// Runs `verify` with arguments in which `@` stands for the fixtures.
fn verify(home: &Home, args: &[&str]) -> Outcome {
    let mut command = home.sigsif(["verify"]);
    for arg in args {
        match arg.strip_prefix('@') {
            Some(file) => command.arg(peers(file)),
            None => command.arg(arg),
        };
    }
    run(&mut command)
}

fn text(outcome: Outcome) -> String {
    String::from_utf8(outcome.stdout).expect("text")
}

fn json(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).expect("JSON")
}

#[test]
fn a_required_signer_must_have_signed() {
    let home = Home::with_keys();
    let image = "@native/pgp-one.sif";
    let local = ["--local", "--require"];
    let good = verify(&home, &[&local[..], &[ONE, image]].concat()).expect(0);
    let good = text(good);
    assert!(
        good.ends_with(&format!(
            "Signers that count:\nGROUP   |OBJECT  |SIGNER\n{}\n1       |ALL     |PGP {ONE}\n",
            "-".repeat(48)
        )),
        "{good}"
    );
    let spaced = "0x3135 9731 d5c3 4c90 c977 aaf8 22cc 7329 2934 d01f";
    verify(&home, &[&local[..], &[spaced, image]].concat()).expect(0);
    verify(&home, &[&local[..], &[TWO, image]].concat())
        .expect(255)
        .says(&format!(
            "FATAL:   failed to verify container: policy: object group 1 is not signed by {TWO}"
        ));
    verify(
        &home,
        &["--local", "--require", ONE, "--require", TWO, image],
    )
    .expect(255);
    // A short id is no name: anybody can make a key with it.
    for short in ["2934D01F", "22CC73292934D01F", "0x2934D01F"] {
        let told = verify(&home, &[&local[..], &[short, image]].concat()).expect(1);
        assert!(
            told.stderr
                .contains("whole fingerprint, 40 hexadecimal digits"),
            "{told}"
        );
        assert!(told.stderr.contains(&format!("./{short}")), "{told}");
    }
}

#[test]
fn a_required_file_brings_its_key() {
    let home = Home::with_keys();
    let key = "@keys/p256.pub.pem";
    // Alone it stands for --key; with a fingerprint the keyrings judge too.
    verify(&home, &["--require", key, "@native/dsse-p256.sif"])
        .expect(0)
        .says("with key material from '");
    verify(&home, &["--require", key, MIXED])
        .expect(255)
        .says("not provided for PGP");
    verify(
        &home,
        &["--local", "--require", key, "--require", ONE, MIXED],
    )
    .expect(0);
    verify(&home, &["--local", "--require", key, "--pgp", MIXED]).expect(0);
    verify(
        &home,
        &["--local", "--require", key, "--require", TWO, MIXED],
    )
    .expect(255)
    .says(&format!("policy: object group 1 is not signed by {TWO}"));
    let other = "@keys/p384.pub.pem";
    verify(
        &home,
        &["--key", key, "--require", other, "@native/dsse-p256.sif"],
    )
    .expect(255)
    .says("policy: object group 1 is not signed by '");
    // A certificate is judged as --certificate judges it.
    let chain = [
        "--certificate-intermediates",
        "@x509/intermediate.pem",
        "--certificate-roots",
        "@x509/root.pem",
    ];
    let leaf = ["--require", "@x509/leaf.pem", "@native/x509-leaf.sif"];
    let good = text(verify(&home, &[&chain[..], &leaf].concat()).expect(0));
    assert!(good.contains(" CN=Fixture Leaf"), "{good}");
    let expired = [
        "--require",
        "@x509/leaf-expired.pem",
        "@native/x509-leaf.sif",
    ];
    verify(&home, &[&chain[..], &expired].concat())
        .expect(255)
        .says("x509: certificate has expired");
    let other = [
        "--certificate",
        "@x509/leaf.pem",
        "--require",
        "@x509/leaf-noocsp.pem",
    ];
    verify(
        &home,
        &[&chain[..], &other, &["@native/x509-leaf.sif"]].concat(),
    )
    .expect(255)
    .says("policy: object group 1 is not signed by '");
    for (file, told) in [
        (
            "@keys/p256.key.pem",
            "unknown Public key PEM file type: PRIVATE KEY",
        ),
        ("@keys/pgp-one.pub.asc", "required by its fingerprint"),
        ("@native/unsigned.sif", "PEM decoding failed"),
        ("@keys/absent.pem", "no such file or directory"),
    ] {
        verify(&home, &["--require", file, "@native/dsse-p256.sif"])
            .expect(255)
            .says(told);
    }
}

#[test]
fn distinct_signers_are_counted() {
    let home = Home::with_keys();
    let key = ["--local", "--pgp", "--key", "@keys/p256.pub.pem"];
    verify(&home, &[&key[..], &["--require-any", "2", MIXED]].concat()).expect(0);
    verify(&home, &[&key[..], &["--require-any", "3", MIXED]].concat())
        .expect(255)
        .says("policy: object group 1 has 2 of 3 accepted signers")
        .says("INFO:    A signer counts once");
    // The same key twice is one signer, in OpenPGP and in PEM.
    for (args, image) in [
        (["--local", "--pgp"], "@native/pgp-one-twice.sif"),
        (
            ["--key", "@keys/p256.pub.pem"],
            "@native/dsse-p256-twice.sif",
        ),
    ] {
        verify(&home, &[&args[..], &["--require-any", "1", image]].concat()).expect(0);
        verify(&home, &[&args[..], &["--require-any=2", image]].concat()).expect(255);
    }
    for bad in ["0", "-1", "x", ""] {
        verify(&home, &["--require-any", bad, MIXED])
            .expect(1)
            .says("must be a number, 1 or more");
    }
}

#[test]
fn unknown_signers_are_told_apart_from_refused_ones() {
    let home = Home::with_keys();
    // By OpenPGP key one and by p256; only the first is known.
    let ignoring = verify(&home, &["--local", "--ignore-unknown", MIXED]).expect(0);
    let told = text(ignoring);
    let line = "Signature object 5 of object group 1 ignored: key material not provided for DSSE \
                envelope signature\n";
    assert!(told.contains(line), "{told}");
    let args = ["--local", "--ignore-unknown", "--format", "json", MIXED];
    let report = json(verify(&home, &args).expect(0));
    assert_eq!(report["verdict"], "verified");
    assert_eq!(report["policy"]["verdict"], "met");
    assert_eq!(
        report["policy"]["subjects"][0]["signers"][0]["fingerprint"],
        ONE
    );
    let states: Vec<_> = report["signatures"]
        .as_array()
        .expect("signatures")
        .iter()
        .map(|s| (s["verdict"].clone(), s["unknownSigner"].clone()))
        .collect();
    assert_eq!(
        states,
        [
            ("valid".into(), false.into()),
            ("ignored".into(), true.into())
        ]
    );
    // Without the flag the same report says why nothing could be judged.
    let report = json(verify(&home, &["--local", "--format", "json", MIXED]).expect(255));
    assert_eq!(report["signatures"][1]["verdict"], "notJudged");
    assert_eq!(report["signatures"][1]["unknownSigner"], true);
    // As `ssh-keygen -i -m PKCS8 -f p256.pub.pem | ssh-keygen -lf -` names that key.
    assert_eq!(
        report["signatures"][1]["claimedSigners"],
        serde_json::json!(["SHA256:1RD0p8kPxdKvtgrCLqB8AVRSCOrYF7/lOwzOoyhmB1c"])
    );
    assert_eq!(
        report["signatures"][0]["claimedSigners"],
        serde_json::json!([])
    );
    assert_eq!(report.get("policy"), None);
    // A stranger's signature alone is no signature, a broken one is no stranger's.
    let empty = Home::new();
    verify(
        &empty,
        &["--local", "--ignore-unknown", "@native/pgp-one.sif"],
    )
    .expect(255)
    .says("policy: object group 1 has 0 of 1 accepted signers");
    let broken = verify(
        &home,
        &[
            "--local",
            "--ignore-unknown",
            "@native/pgp-one.tampered-signature.sif",
        ],
    );
    broken
        .expect(255)
        .says("integrity: signature object 4 not valid: openpgp: invalid");
    verify(
        &home,
        &[
            "--local",
            "--ignore-unknown",
            "@native/pgp-one.tampered-object.sif",
        ],
    )
    .expect(255)
    .says("data object integrity compromised");
    verify(
        &home,
        &["--local", "--ignore-unknown", "@native/unsigned.sif"],
    )
    .expect(255)
    .says("signature not found");
    // What is ignored covers nothing.
    verify(&home, &["--local", "--ignore-unknown", "--strict", MIXED])
        .expect(255)
        .says("strict: ");
}

#[test]
fn a_key_of_a_key_server_counts_only_if_it_was_named() {
    let one = String::from_utf8(read_peers("keys/pgp-one.pub.asc")).expect("text");
    let server = hkp(&[&one]);
    let url = server.url();
    let home = Home::new();
    let image = "@native/pgp-one.sif";
    let with = |args: &[&str]| verify(&home, &[&["--url", &url], args, &[image]].concat());
    // As the originals: whoever the server names is good enough.
    assert!(text(with(&[]).expect(0)).starts_with("[REMOTE]"));
    with(&["--require-any", "1"])
        .expect(255)
        .says("policy: object group 1 has 0 of 1 accepted signers");
    let named = text(with(&["--require", ONE]).expect(0));
    assert!(named.contains(&format!("|PGP {ONE}")), "{named}");
    with(&["--require", ONE, "--require-any", "1"]).expect(0);
    with(&["--require", ONE, "--local"]).expect(255);

    // With --ignore-unknown nobody is asked about keys that could not count.
    server.forget();
    with(&["--ignore-unknown"]).expect(255);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    with(&["--ignore-unknown", "--require", TWO]).expect(255);
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    with(&["--ignore-unknown", "--require", ONE]).expect(0);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn cosign_signers_are_demanded_too() {
    let home = Home::new();
    let two = "@cosign/sif/two-keys.oci.sif";
    let [p256, rsa, p384] = ["p256", "rsa2048", "p384"].map(|k| format!("@cosign/keys/{k}.pub"));
    let cosign = |args: &[&str]| verify(&home, &[&["--cosign"], args].concat());
    cosign(&["--key", &p256, two]).expect(0);
    cosign(&["--require", &p256, "--require", &rsa, two])
        .expect(0)
        .says("INFO:    Signer that counts: RSA-2048 SHA256:");
    cosign(&["--key", &p256, "--require", &p384, two])
        .expect(255)
        .says("FATAL:   policy: the image is not signed by '");
    cosign(&["--key", &p256, "--key", &rsa, "--require-any", "2", two]).expect(0);
    cosign(&["--key", &p256, "--require-any", "2", two])
        .expect(255)
        .says("policy: the image has 1 of 2 accepted signers");
    // Three signatures by one key are one signer.
    let three = "@cosign/sif/one-3sig.oci.sif";
    cosign(&["--key", &p256, "--require-any", "1", three]).expect(0);
    cosign(&["--key", &p256, "--require-any", "2", three]).expect(255);
    let args = [
        "--format",
        "json",
        "--key",
        &p256,
        "--require-any",
        "2",
        two,
    ];
    let report = json(cosign(&args).expect(255));
    assert_eq!(report["verdict"], "refused");
    assert_eq!(report["policy"]["verdict"], "notMet");
    assert_eq!(report["policy"]["subjects"][0]["distinct"], 1);
    for (args, told) in [
        (
            ["--require", ONE],
            "OpenPGP key or a certificate not supported",
        ),
        (
            ["--require", "@x509/leaf.pem"],
            "OpenPGP key or a certificate not supported",
        ),
        (
            ["--ignore-unknown", "--key=x"],
            "--ignore-unknown not supported",
        ),
        (["--pgp", "--key=x"], "--pgp not supported"),
        (
            ["--at=2030-01-01T00:00:00Z", "--key=x"],
            "--at not supported",
        ),
    ] {
        cosign(&[&args[..], &[two]].concat()).expect(255).says(told);
    }
}
