//! `verify --certificate`, `--crl` and `--at` as a user meets them.

use super::lab::{AS_IS, Party, key, key_of, root};
use super::support::{self, Home, Outcome};
use proptest::prelude::*;
use rcgen::{
    ExtendedKeyUsagePurpose as Eku, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, SerialNumber, date_time_ymd,
};
use sigsif::key::pem::encode_block;
use sigsif::key::x509::{Certificate, Error, Moment, Trust};

/// A home with an image that `signer` signed, and the files of the certificates.
fn desk(signer: &Party, between: &[&Party], roots: &[&Party]) -> Home {
    let home = Home::new();
    let pems = |parties: &[&Party]| parties.iter().map(|p| p.made.pem()).collect::<String>();
    home.write("signer.pem", pems(&[signer]).as_bytes());
    home.write("between.pem", pems(between).as_bytes());
    home.write("roots.pem", pems(roots).as_bytes());
    home.write("signer.key", signer.issuer.key().serialize_pem().as_bytes());
    home.copy("native/unsigned.sif", "image.sif");
    support::run(&mut home.sigsif(["sign", "--key", "signer.key", "image.sif"])).expect(0);
    home
}

fn verify(home: &Home, more: &[&str]) -> Outcome {
    let mut command = home.sigsif(["verify", "--certificate", "signer.pem"]);
    command.args(["--certificate-intermediates", "between.pem"]);
    command
        .args(["--certificate-roots", "roots.pem"])
        .args(more);
    support::run(command.arg("image.sif"))
}

#[test]
fn every_kind_of_key_signs_and_is_verified_by_its_certificate() {
    let kinds = [
        &PKCS_RSA_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
    ];
    support::parallel(&kinds, |kind| {
        let top = root("Root", key_of(kind), AS_IS);
        let middle = top.ca("Intermediate", key_of(kind), AS_IS);
        let signer = middle.signer("Signer", key_of(kind), AS_IS);
        let home = desk(&signer, &[&middle], &[&top]);
        verify(&home, &[]).expect(0).says("Verified signature(s)");
        // Another key with a certificate as good.
        let other = middle.signer("Signer", key_of(kind), AS_IS);
        home.write("signer.pem", other.made.pem().as_bytes());
        verify(&home, &[])
            .expect(255)
            .says("accepted signatures do not match threshold");
    });
}

#[test]
fn the_machines_trust_store_counts_when_no_roots_are_given() {
    let top = root("Root", key(), AS_IS);
    let signer = top.signer("Signer", key(), AS_IS);
    let home = desk(&signer, &[], &[&top]);
    let mut command = home.sigsif(["verify", "--certificate", "signer.pem", "image.sif"]);
    let unknown = "x509: certificate signed by unknown authority";
    support::run(&mut command).expect(255).says(unknown);
    support::run(command.env("SSL_CERT_FILE", "roots.pem")).expect(0);
    // Roots that are given count alone; an empty file trusts nobody.
    home.write("empty.pem", b"\n \n");
    support::run(command.args(["--certificate-roots", "empty.pem"]))
        .expect(255)
        .says(unknown);
}

#[test]
fn files_that_are_no_certificates_are_told_apart() {
    let top = root("Root", key(), AS_IS);
    let signer = top.signer("Signer", key(), AS_IS);
    let home = desk(&signer, &[], &[&top]);
    let trailing = format!("words before\n{}words behind\n", top.made.pem());
    home.write("trailing.pem", trailing.as_bytes());
    home.write(
        "broken.pem",
        encode_block("CERTIFICATE", &top.made.der()[..100]).as_bytes(),
    );
    home.write(
        "longer.pem",
        encode_block("CERTIFICATE", &[top.made.der(), &[0][..]].concat()).as_bytes(),
    );
    home.write("text", b"hello");
    home.write("list.crl", &top.crl_der(&[], &|_| {}));
    let broken = "x509: malformed certificate";
    for (flag, what) in [
        ("--certificate", "certificate"),
        ("--certificate-intermediates", "intermediate certificates"),
        ("--certificate-roots", "root certificates"),
    ] {
        for (file, reason) in [
            ("text", "failed to decode PEM"),
            ("broken.pem", broken),
            ("longer.pem", "x509: trailing data"),
            ("list.crl", "failed to decode PEM"),
            ("nowhere", "open nowhere: no such file or directory"),
        ] {
            let told = format!("FATAL:   failed to load {what}: {reason}\n");
            let outcome = verify(&home, &[flag, file]).expect(255);
            assert_eq!(
                outcome.stderr.lines().last(),
                told.lines().last(),
                "{flag} {file}"
            );
        }
    }
    // A key in the place of a certificate; text behind the last of many.
    verify(&home, &["--certificate", "signer.key"])
        .expect(255)
        .says("x509: malformed tbs certificate");
    verify(&home, &["--certificate-roots", "trailing.pem"])
        .expect(255)
        .says("failed to decode PEM");
    home.write(
        "signer.pem",
        format!("words\n{}words\n", signer.made.pem()).as_bytes(),
    );
    verify(&home, &[]).expect(0);
    for (file, reason) in [
        ("text", "text: failed to decode PEM"),
        (
            "roots.pem",
            "roots.pem: PEM block is 'CERTIFICATE', not 'X509 CRL'",
        ),
        ("nowhere", "open nowhere: no such file or directory"),
    ] {
        verify(&home, &["--crl", file])
            .expect(255)
            .says(&format!("failed to load CRL: {reason}\n"));
    }
    // Flags that would protect and cannot are not passed over in silence.
    let mut command = home.sigsif(["verify", "--local", "--crl", "list.crl", "--ocsp-verify"]);
    support::run(command.arg("image.sif"))
        .expect(255)
        .says("WARNING: --ocsp-verify has no effect without --certificate\n")
        .says("WARNING: --crl has no effect without --certificate\n");
}

#[test]
fn lists_decide_without_a_network() {
    let top = root("Root", key(), AS_IS);
    let numbered = |serial: u64| {
        move |p: &mut rcgen::CertificateParams| p.serial_number = Some(SerialNumber::from(serial))
    };
    let middle = top.ca("Intermediate", key(), &numbered(16));
    let signer = middle.signer("Signer", key(), &numbered(17));
    let home = desk(&signer, &[&middle], &[&top]);
    home.write("top.crl", &top.crl_der(&[], &|_| {}));
    home.write(
        "middle.crl",
        encode_block("X509 CRL", &middle.crl_der(&[3], &|_| {})).as_bytes(),
    );
    home.write("bad.crl", &middle.crl_der(&[17], &|_| {}));
    verify(&home, &["--crl", "top.crl", "--crl", "middle.crl"]).expect(0);
    verify(&home, &["--crl", "top.crl"]).expect(255).says(
        "FATAL:   failed to verify container: revocation status of 'CN=Signer' is unknown: no CRL \
         of its issuer\n",
    );
    let json = ["--crl", "top.crl", "--crl", "bad.crl", "--format", "json"];
    let refused = verify(&home, &json).expect(255);
    let report: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!(report["verdict"], "error");
    assert_eq!(
        report["reason"],
        "certificate revoked at '2021-01-01T00:00:00Z'. Revocation reason code: '1': CN=Signer"
    );
    let json = [
        "--crl",
        "top.crl",
        "--crl",
        "middle.crl",
        "--format",
        "json",
    ];
    let report: serde_json::Value =
        serde_json::from_slice(&verify(&home, &json).expect(0).stdout).expect("JSON");
    let certificate = &report["signatures"][0]["signer"]["keys"][0]["certificate"];
    assert_eq!(certificate["subject"], "CN=Signer");
    assert_eq!(certificate["issuer"], "CN=Intermediate");
    assert_eq!(certificate["serial"], "11");
    assert_eq!(
        certificate["fingerprint"],
        signer.certificate().fingerprint()
    );
    assert_eq!(certificate["path"][1]["subject"], "CN=Intermediate");
    assert_eq!(certificate["path"][1]["revocation"]["source"], "crl");
    assert_eq!(
        certificate["path"][1]["revocation"]["nextUpdate"],
        4_070_908_800u64
    );
    assert_eq!(
        certificate["path"][2]["revocation"],
        serde_json::Value::Null
    );
    assert_eq!(report["judgedAt"], serde_json::Value::Null);
}

#[test]
fn another_time_is_asked_about_and_told() {
    let top = root("Root", key(), AS_IS);
    let signer = top.signer("Signer", key(), &|p| {
        p.not_after = date_time_ymd(2022, 1, 1)
    });
    let home = desk(&signer, &[], &[&top]);
    verify(&home, &[])
        .expect(255)
        .says("x509: certificate has expired or is not yet valid");
    let at = verify(&home, &["--at", "2021-12-31T23:59:59+00:00"]).expect(0);
    assert!(
        at.stdout
            .starts_with(b"Judged as of 2021-12-31T23:59:59Z, not as of now\nObjects verified:")
    );
    let at = at.says(
        "WARNING: Keys and certificates are judged as of 2021-12-31T23:59:59Z, not as of now\n",
    );
    drop(at);
    let quiet = support::run(&mut home.sigsif([
        "--quiet",
        "verify",
        "--certificate",
        "signer.pem",
        "--certificate-roots",
        "roots.pem",
        "--at",
        "2021-06-01T02:00:00+02:00",
        "--json",
        "image.sif",
    ]));
    quiet.expect(0).says("judged as of 2021-06-01T00:00:00Z");
    let report = verify(&home, &["--at", "2021-12-31T23:59:59Z", "--format", "json"]).expect(0);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["judgedAt"], 1_640_995_199);
    // The last second is valid, the next is not; neither is a time before the first.
    verify(&home, &["--at", "2022-01-01T00:00:00Z"]).expect(0);
    verify(&home, &["--at", "2022-01-01T00:00:01Z"])
        .expect(255)
        .says("current time 2022-01-01T00:00:01Z is after 2022-01-01T00:00:00Z\n");
    verify(&home, &["--at", "2019-12-31T23:59:59Z"])
        .expect(255)
        .says("current time 2019-12-31T23:59:59Z is before 2020-01-01T00:00:00Z\n");
    for wrong in [
        "yesterday",
        "2021-01-01",
        "2021-01-01T00:00:00",
        "1969-12-31T23:59:59Z",
        "",
    ] {
        verify(&home, &["--at", wrong])
            .expect(1)
            .says("is no time like 2026-01-31T12:00:00Z");
    }
}

#[test]
fn flags_that_cosign_cannot_heed_are_refused() {
    let home = Home::new();
    home.copy("native/unsigned.sif", "image.sif");
    home.copy("keys/p256.pub.pem", "key.pem");
    let verify = |flag: &str, value: &str| {
        let args = [
            "verify",
            "--cosign",
            "--key",
            "key.pem",
            flag,
            value,
            "image.sif",
        ];
        support::run(&mut home.sigsif(args)).expect(255)
    };
    verify("--at", "2026-01-31T12:00:00Z").says("FATAL:   --at not supported: --cosign");
    for flag in ["--certificate", "--certificate-roots", "--crl"] {
        verify(flag, "key.pem").says("FATAL:   certificate not supported: --cosign");
    }
}

#[test]
fn another_time_counts_for_pgp_keys_too() {
    let home = Home::with_keys();
    home.copy("native/pgp-one.sif", "image.sif");
    let verify = |more: &[&str]| {
        support::run(
            home.sigsif(["verify", "--local"])
                .args(more)
                .arg("image.sif"),
        )
    };
    verify(&[]).expect(0);
    // Before the key and the signature were made there was nothing to trust.
    let early = verify(&["--at", "2020-01-01T00:00:00Z"]).expect(255);
    assert!(
        early
            .stderr
            .contains("integrity: signature object 4 not valid: openpgp: "),
        "{early}"
    );
    assert!(
        early
            .stdout
            .starts_with(b"Judged as of 2020-01-01T00:00:00Z, not as of now\n")
    );
}

#[test]
fn any_of_several_certificates_may_have_signed_but_all_must_be_good() {
    let top = root("Root", key(), AS_IS);
    let signer = top.signer("Signer", key(), AS_IS);
    let other = top.signer("Other", key(), AS_IS);
    let server = top.signer("Server", key(), &|p| {
        p.extended_key_usages = vec![Eku::ServerAuth]
    });
    let home = desk(&signer, &[], &[&top]);
    home.write("other.pem", other.made.pem().as_bytes());
    home.write("server.pem", server.made.pem().as_bytes());
    verify(&home, &["--certificate", "other.pem"]).expect(0);
    verify(&home, &["--certificate", "server.pem"])
        .expect(255)
        .says("x509: certificate specifies an incompatible key usage\n");
}

#[test]
fn names_in_certificates_steer_no_terminal() {
    let top = root("Root", key(), AS_IS);
    let signer = top.signer("a\u{1b}[2J\u{202e}b\nFATAL: c", key(), AS_IS);
    let home = desk(&signer, &[], &[&top]);
    home.write(
        "other.crl",
        &root("Other", key(), AS_IS).crl_der(&[], &|_| {}),
    );
    let plain = |outcome: Outcome| {
        let all = [outcome.stderr.as_bytes(), &outcome.stdout].concat();
        let text = String::from_utf8(all).expect("UTF-8");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert!(!text.contains("\nFATAL: c"), "{text:?}");
    };
    plain(verify(&home, &["--crl", "other.crl"]).expect(255));
    plain(verify(&home, &["--ocsp-verify"]).expect(255));
    plain(verify(&home, &["--format", "json"]).expect(0));
}

#[test]
fn damaged_certificates_neither_panic_nor_convince() {
    let top = root("Root", key(), AS_IS);
    let middle = top.ca("Intermediate", key(), AS_IS);
    let signer = middle.signer("Signer", key(), AS_IS);
    let judge = |signer: Certificate, middle: Certificate| {
        let trust = Trust {
            roots: vec![top.certificate()],
            intermediates: vec![middle],
            crls: Vec::new(),
        };
        trust.validate(&signer, Moment::now(support::NOW)).map(drop)
    };
    assert_eq!(judge(signer.certificate(), middle.certificate()), Ok(()));
    let mut read = 0;
    let mut damage = |der: &[u8], judge: &dyn Fn(Certificate) -> Result<(), Error>| {
        for index in 0..der.len() {
            for bit in [1u8, 0x20, 0x80] {
                let mut damaged = der.to_vec();
                damaged[index] ^= bit;
                if let Ok(certificate) = Certificate::from_der(&damaged) {
                    read += 1;
                    assert!(judge(certificate).is_err(), "byte {index} bit {bit}");
                }
            }
            assert!(
                Certificate::from_der(&der[..index]).is_err(),
                "cut at {index}"
            );
        }
    };
    damage(signer.made.der(), &|damaged| {
        judge(damaged, middle.certificate())
    });
    damage(middle.made.der(), &|damaged| {
        judge(signer.certificate(), damaged)
    });
    assert!(read > 500, "only {read} damaged certificates could be read");
}

proptest! {
    #[test]
    fn certificates_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&data);
        let _ = Certificate::from_pem(&data);
        let _ = Certificate::all_from_pem(&data);
        let block = encode_block("CERTIFICATE", &data);
        let _ = Certificate::all_from_pem(block.as_bytes());
    }

    /// Lines that look like PEM, in any order.
    #[test]
    fn pem_never_panics(lines in proptest::collection::vec(
        prop_oneof![
            Just("-----BEGIN CERTIFICATE-----"),
            Just("-----END CERTIFICATE-----"),
            Just("-----BEGIN X509 CRL-----"),
            Just("-----BEGIN -----"),
            Just("Proc-Type: 4,ENCRYPTED"),
            Just("MIIB"),
            Just("===="),
            Just(""),
        ],
        0..20,
    )) {
        let text = lines.join("\n");
        let _ = Certificate::from_pem(text.as_bytes());
        let _ = Certificate::all_from_pem(text.as_bytes());
        let _ = sigsif::key::crl::Crl::all_from_file(text.as_bytes());
    }
}
