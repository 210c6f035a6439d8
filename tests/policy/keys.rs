//! Several keys of several kinds judge one image in one run.

use crate::support::{Home, Outcome, peers, run};
use serde_json::Value;

const MIXED: &str = "native/mixed-pgp-dsse.sif";
const TWO_KEYS: &str = "native/dsse-p256-and-rsa.sif";

fn verify(home: &Home, args: &[&str], image: &str) -> Outcome {
    let mut command = home.sigsif(["verify", "--local"]);
    for arg in args {
        match arg.strip_prefix('@') {
            Some(file) => command.arg(peers(file)),
            None => command.arg(arg),
        };
    }
    run(command.arg(peers(image)))
}

#[test]
fn openpgp_and_pem_signatures_are_verified_in_one_run() {
    let home = Home::with_keys();
    let pgp_hint = "--pgp judges such signatures too";
    // Each kind alone refuses the other one, as the originals do.
    verify(&home, &[], MIXED)
        .expect(255)
        .says("integrity: key material not provided for DSSE envelope signature");
    verify(&home, &["--key", "@keys/p256.pub.pem"], MIXED)
        .expect(255)
        .says("integrity: key material not provided for PGP clear-sign signature")
        .says(pgp_hint);
    let both = verify(&home, &["--key", "@keys/p256.pub.pem", "--pgp"], MIXED)
        .expect(0)
        .says("with key material from '")
        .says("Verifying image with PGP key material");
    let text = String::from_utf8(both.stdout).expect("text");
    assert_eq!(text.matches("Objects verified:").count(), 2, "{text}");
    assert!(text.contains("31359731D5C34C90C977AAF822CC73292934D01F"));

    // Neither kind makes up for the other.
    verify(&home, &["--key", "@keys/p384.pub.pem", "--pgp"], MIXED)
        .expect(255)
        .says("accepted signatures do not match threshold");
    verify(
        &Home::new(),
        &["--key", "@keys/p256.pub.pem", "--pgp"],
        MIXED,
    )
    .expect(255)
    .says("openpgp: signature made by unknown entity");
}

#[test]
fn each_of_several_keys_judges_what_it_signed() {
    let home = Home::new();
    let p256 = ["--key", "@keys/p256.pub.pem"];
    let rsa = ["--key", "@keys/rsa3072.pub.pem"];
    for one in [p256, rsa] {
        verify(&home, &one, TWO_KEYS).expect(255);
    }
    // In any order, and one key twice is one key.
    verify(&home, &[p256, rsa].concat(), TWO_KEYS).expect(0);
    let args = [["--format", "json"], rsa, p256, rsa].concat();
    let report = verify(&home, &args, TWO_KEYS).expect(0);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let signers: Vec<_> = report["signatures"]
        .as_array()
        .expect("signatures")
        .iter()
        .flat_map(|s| s["signer"]["keys"].as_array().expect("keys"))
        .map(|key| key["algorithm"].as_str().expect("text"))
        .collect();
    assert_eq!(signers, ["ECDSA P-256", "RSA-3072"]);
    // A key of an envelope is known by its bytes, not by the file that it came in.
    let spki = report["signatures"][0]["signer"]["keys"][0]["spki"].as_str();
    assert_eq!(spki.map(str::len), Some(64));
}

#[test]
fn a_key_and_the_key_of_a_certificate_judge_together() {
    let home = Home::new();
    let image = home.copy("native/x509-leaf.sif", "both.sif");
    let key = peers("keys/p384.key.pem");
    run(home.sigsif(["sign", "--key"]).arg(key).arg(&image)).expect(0);
    let verify = |args: &[&str]| {
        let mut command = home.sigsif(["verify"]);
        for arg in args {
            match arg.strip_prefix('@') {
                Some(file) => command.arg(peers(file)),
                None => command.arg(arg),
            };
        }
        run(command.arg(&image))
    };
    let certificate = [
        "--certificate",
        "@x509/leaf.pem",
        "--certificate-intermediates",
        "@x509/intermediate.pem",
        "--certificate-roots",
        "@x509/root.pem",
    ];
    let key = ["--key", "@keys/p384.pub.pem"];
    verify(&certificate).expect(255);
    verify(&key).expect(255);
    verify(&[&certificate[..], &key].concat()).expect(0);

    // The environment names a key only where nothing on the command line does.
    let mut command = home.sigsif(["verify"]);
    command.env("SIGSIF_VERIFY_KEY", peers("keys/p384.pub.pem"));
    command.env("SIGSIF_VERIFY_CERTIFICATE", peers("x509/leaf.pem"));
    let file = peers("keys/p256.pub.pem");
    let outcome = run(command.arg("--key").arg(file).arg(&image)).expect(255);
    assert!(!outcome.stderr.contains("p384"), "{outcome}");
    assert!(!outcome.stderr.contains("certificate"), "{outcome}");
}
