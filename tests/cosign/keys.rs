//! `key generate-cosign-key-pair`, `import-key-pair`, `public-key`.

use super::support::{self, Home, Outcome, peers, project, run, skip_without};
use super::tool::{Peer, run_with};
use sigsif::key::pem::{PrivateKey, PublicKey};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

const TYPES: [(&str, &str); 6] = [
    ("p256", "ECDSA P-256"),
    ("p384", "ECDSA P-384"),
    ("p521", "ECDSA P-521"),
    ("ed25519", "Ed25519"),
    ("rsa3072", "RSA-3072"),
    ("rsa4096", "RSA-4096"),
];

fn generate(home: &Home, args: &[&str]) -> Command {
    home.sigsif([&["key", "generate-cosign-key-pair"], args].concat())
}

fn made(name: &str) -> PathBuf {
    project().join("fixtures/openssl").join(name)
}

fn peer_key(name: &str) -> PathBuf {
    peers("cosign/keys").join(name)
}

/// The names of the files in a home folder.
fn files(home: &Home) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(home.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

/// Fails unless both files are there, whole, private, and belong together.
#[track_caller]
fn assert_pair(home: &Home, prefix: &str, password: &str) -> PublicKey {
    let private = home.join(&format!("{prefix}.key"));
    let public = home.join(&format!("{prefix}.pub"));
    let mode = |path: &PathBuf| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&private), mode(&public)), (0o600, 0o644));
    let pem = fs::read(&private).expect("private key");
    assert!(pem.starts_with(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    let key = PrivateKey::from_pem(&pem, Some(password.as_bytes())).expect("a private key");
    let public = fs::read(&public).expect("public key");
    let public = PublicKey::from_pem(&public).expect("a public key");
    assert!(key.public() == public);
    public
}

#[test]
fn makes_a_pair_of_every_kind_that_cosign_and_openssl_read() {
    let home = Home::new();
    let cosign = Peer::cosign();
    let openssl = support::tool("openssl");
    if openssl.is_none() {
        skip_without("openssl");
    }
    for (kind, name) in TYPES {
        run(
            generate(&home, &["--output-key-prefix", kind, "--type", kind])
                .env("COSIGN_PASSWORD", "secret"),
        )
        .expect(0)
        .says(&format!(
            "INFO:    Creating cosign key-pair {kind}.key/.pub\n"
        ));
        let public = assert_pair(&home, kind, "secret");
        assert_eq!(public.algorithm(), name);
        let pem = public.to_pem();
        if openssl.is_some() {
            let file = format!("{kind}.pub");
            let args = ["pkey", "-pubin", "-pubout", "-in", &file];
            let same = run(home.clean("openssl").args(args)).expect(0);
            assert_eq!(String::from_utf8_lossy(&same.stdout), pem);
        }
        if let Some(cosign) = &cosign {
            let file = format!("{kind}.key");
            let mut call = cosign.call(&home, &["public-key", "--key", &file]);
            let same = run(call.env("COSIGN_PASSWORD", "secret")).expect(0);
            assert_eq!(String::from_utf8_lossy(&same.stdout), pem, "{kind}");
        }
        let file = format!("{kind}.key");
        let printed = run(home
            .sigsif(["key", "public-key", "--key", &file])
            .env("COSIGN_PASSWORD", "secret"))
        .expect(0);
        assert_eq!(String::from_utf8_lossy(&printed.stdout), pem);
    }
}

#[test]
fn the_default_is_that_of_singularity() {
    let home = Home::new();
    let outcome = run_with(&mut generate(&home, &[]), "test123\ntest123\n").expect(0);
    assert_eq!(
        outcome.stderr,
        "INFO:    Creating cosign key-pair singularity-cosign.key/.pub\n\
         Enter password for private key: \nEnter again: \n"
    );
    assert!(outcome.stdout.is_empty());
    let public = assert_pair(&home, "singularity-cosign", "test123");
    assert_eq!(public.algorithm(), "ECDSA P-256");
    assert_eq!(
        files(&home),
        ["singularity-cosign.key", "singularity-cosign.pub"]
    );
}

#[test]
fn nothing_is_overwritten_and_nothing_asked_before_that_is_known() {
    for (present, told) in [("k.key", "k.key"), ("k.pub", "k.pub")] {
        let home = Home::new();
        home.write(present, b"precious");
        for args in [
            vec!["generate-cosign-key-pair"],
            vec!["import-key-pair", "--key", "/nowhere"],
        ] {
            let args = [&["key"], &args[..], &["--output-key-prefix", "k"]].concat();
            let outcome = run(&mut home.sigsif(args)).expect(255);
            assert_eq!(
                outcome.stderr,
                format!("FATAL:   file exists, will not overwrite: {told}\n")
            );
        }
        assert_eq!(fs::read(home.join(present)).expect("a file"), b"precious");
        assert_eq!(files(&home), [present]);
    }
    let home = Home::new();
    symlink("elsewhere", home.join("k.key")).expect("a link");
    run(&mut generate(&home, &["--output-key-prefix", "k"]))
        .expect(255)
        .says("file exists, will not overwrite: k.key");
    assert_eq!(files(&home), ["k.key"]);
    run(generate(&home, &["--output-key-prefix", "no/k"]).env("COSIGN_PASSWORD", ""))
        .expect(255)
        .says("FATAL:   open no/k.key: no such file or directory\n");
}

#[test]
fn the_password_is_confirmed_and_comes_from_five_places() {
    let home = Home::new();
    run_with(&mut generate(&home, &[]), "one\ntwo\n")
        .expect(255)
        .says("FATAL:   passwords do not match\n");
    run_with(&mut generate(&home, &[]), "one\n")
        .expect(255)
        .says("passwords do not match");
    assert!(files(&home).is_empty());
    run(&mut generate(&home, &["--output-key-prefix", "empty"]))
        .expect(0)
        .says("WARNING: the password is empty");
    assert_pair(&home, "empty", "");
    home.write("secret", b"from file\n");
    let flag = ["--passphrase-file", "secret", "--output-key-prefix", "file"];
    let outcome = run(generate(&home, &flag).env("COSIGN_PASSWORD", "not this")).expect(0);
    assert!(!outcome.stderr.contains("Enter"), "{outcome}");
    assert_pair(&home, "file", "from file");
    let other = generate(&home, &["--output-key-prefix", "ours"])
        .env("SIGSIF_PASSPHRASE", "ours")
        .output();
    assert!(other.expect("a run").status.success());
    assert_pair(&home, "ours", "ours");
}

#[test]
fn of_many_at_once_one_wins_with_a_pair_that_fits() {
    let home = Home::new();
    let mut call = generate(&home, &["--output-key-prefix", "k"]);
    call.env("COSIGN_PASSWORD", "secret");
    let children: Vec<_> = (0..8).map(|_| support::start(&mut call)).collect();
    let ends: Vec<Outcome> = children
        .into_iter()
        .map(|child| support::finish(child, std::time::Duration::from_secs(60), "generate"))
        .collect();
    let won = ends.iter().filter(|end| end.code == Some(0)).count();
    assert_eq!(won, 1, "{ends:?}");
    let refused = |end: &&Outcome| end.stderr.contains("file exists, will not overwrite: k.");
    assert_eq!(ends.iter().filter(refused).count(), 7, "{ends:?}");
    assert_pair(&home, "k", "secret");
    assert_eq!(files(&home), ["k.key", "k.pub"]);
}

#[test]
fn imports_plain_keys_as_cosign_does() {
    let home = Home::new();
    for name in ["p256", "p384", "p521", "ed25519", "rsa2048"] {
        let pem = peer_key(&format!("{name}.pem"));
        run(home
            .sigsif([
                "key",
                "import-key-pair",
                "--output-key-prefix",
                name,
                "--key",
            ])
            .arg(pem)
            .env("COSIGN_PASSWORD", "secret"))
        .expect(0);
        assert_pair(&home, name, "secret");
        // cosign made the other pair of the same key.
        let read = |path: PathBuf| fs::read(path).expect("a key");
        assert_eq!(
            read(home.join(&format!("{name}.pub"))),
            read(peer_key(&format!("{name}.pub")))
        );
        let pkcs8 = |path: PathBuf| {
            let key = PrivateKey::from_pem(&read(path), Some(b"secret"));
            key.expect("a key").to_pkcs8_der().expect("DER")
        };
        assert_eq!(
            pkcs8(home.join(&format!("{name}.key"))),
            pkcs8(peer_key(&format!("{name}.key")))
        );
    }
    for name in ["p256.sec1.key", "rsa2048.pkcs1.key"] {
        run(home
            .sigsif([
                "key",
                "import-key-pair",
                "--output-key-prefix",
                name,
                "--key",
            ])
            .arg(made(name))
            .env("COSIGN_PASSWORD", "secret"))
        .expect(0);
        assert_pair(&home, name, "secret");
    }
}

#[test]
fn an_encrypted_key_keeps_its_password() {
    let home = Home::new();
    let args = ["key", "import-key-pair", "--key"];
    let mut call = home.sigsif(args);
    call.arg(made("p256.pbes2-default.key"));
    let outcome = run_with(&mut call, "secret\n").expect(0);
    assert_eq!(outcome.stderr.matches("Enter").count(), 1, "{outcome}");
    assert_pair(&home, "import-cosign", "secret");
    let mut wrong = home.sigsif(args);
    wrong
        .arg(made("p256.pbes2-default.key"))
        .args(["--output-key-prefix", "x"]);
    run_with(&mut wrong, "wrong\n")
        .expect(255)
        .says("FATAL:   failed to load key material: ");
    assert_eq!(files(&home), ["import-cosign.key", "import-cosign.pub"]);
}

#[test]
fn refuses_kinds_that_cosign_does_not_read() {
    let home = Home::new();
    for (name, told) in [
        ("rsa1024.pkcs8.key", "RSA-1024 is no kind of key for cosign"),
        ("rsa1536.pkcs1.key", "RSA-1536 is no kind of key for cosign"),
        ("p224.sec1.key", "ECDSA P-224 is no kind of key for cosign"),
        ("rsapss.key", "unknown algorithm"),
        ("secp256k1.pkcs8.key", "unknown elliptic curve"),
        ("p256.pub", "unknown private key PEM file type: PUBLIC KEY"),
        ("missing", "no such file or directory"),
    ] {
        run(home
            .sigsif(["key", "import-key-pair", "--key"])
            .arg(made(name))
            .env("COSIGN_PASSWORD", "secret"))
        .expect(255)
        .says("FATAL:   failed to load key material: ")
        .says(told);
    }
    assert!(files(&home).is_empty());
}

#[test]
fn reads_every_envelope_that_cosign_reads_and_refuses_the_others() {
    let home = Home::new();
    let expected = fs::read_to_string(peer_key("envelope.pub")).expect("a key");
    let public = |name: &str, input: &str| {
        let mut call = home.sigsif(["key", "public-key", "--key"]);
        run_with(call.arg(peer_key(name)), input)
    };
    for name in [
        "envelope-n32768.key",
        "envelope-n65536.key",
        "envelope-n131072.key",
        "envelope-old-type.key",
        "envelope-salt16.key",
        "envelope-crlf.key",
        // Sealed with a line end behind the password.
        "envelope-newline-password.key",
    ] {
        let outcome = public(name, "secret\n").expect(0);
        assert_eq!(String::from_utf8_lossy(&outcome.stdout), expected, "{name}");
    }
    let outcome = public("envelope-empty-password.key", "").expect(0);
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), expected);
    for (name, told) in [
        ("envelope-n16384.key", "unsupported scrypt parameters"),
        ("envelope-unknown-kdf.key", "unknown kdf name"),
        ("envelope-unknown-cipher.key", "unknown cipher name"),
        ("envelope-short-nonce.key", "incorrect nonce size"),
        ("envelope.pub", "unknown private key PEM file type"),
    ] {
        let outcome = public(name, "secret\n").expect(255).says(told);
        assert!(outcome.stdout.is_empty());
    }
    public("envelope-n65536.key", "wrong\n")
        .expect(255)
        .says("FATAL:   failed to load key material: encrypted: decryption failed\n");
}

#[test]
fn wrong_command_lines_are_told_as_elsewhere() {
    let home = Home::new();
    run(&mut generate(&home, &["surplus"]))
        .expect(1)
        .says("accepts 0 arg(s), received 1");
    run(&mut generate(&home, &["--type", "rsa1024"]))
        .expect(1)
        .says("must be p256, p384, p521, ed25519, rsa3072 or rsa4096");
    for command in ["import-key-pair", "public-key"] {
        run(&mut home.sigsif(["key", command]))
            .expect(1)
            .says("required flag(s) \"key\" not set");
    }
    assert!(files(&home).is_empty());
}

#[test]
fn private_keys_are_read_as_cosign_recorded() {
    let home = Home::new();
    let text = std::fs::read_to_string(peers("cosign/expected.jsonl")).expect("records");
    let records: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .filter(|record: &serde_json::Value| record["argv"][0] == "public-key")
        .collect();
    assert_eq!(records.len(), 20);
    for record in records {
        let words = record["argv"].as_array().expect("words");
        let words: Vec<_> = words.iter().filter_map(|word| word.as_str()).collect();
        let mut call = home.sigsif(["key"]);
        call.args(&words).current_dir(peers("cosign"));
        if let Some(password) = record["env"]["COSIGN_PASSWORD"].as_str() {
            call.env("COSIGN_PASSWORD", password);
        }
        // A plain key is refused by cosign and taken here.
        let plain = words.last() == Some(&"keys/p256.pem");
        let fails = record["rc"] != 0 && !plain;
        let outcome = run(&mut call).expect(if fails { 255 } else { 0 });
        if !plain {
            let wanted = record["stdout"].as_str().unwrap_or_default();
            assert_eq!(
                String::from_utf8_lossy(&outcome.stdout).trim(),
                wanted.trim(),
                "{words:?}"
            );
        }
    }
}
