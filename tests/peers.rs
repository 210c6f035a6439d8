//! Both directions with the tools that others use: GnuPG, OpenSSL, Apptainer.
//!
//! A test whose tool is missing says so and does nothing. With
//! `SIGSIF_PEERS=required` a missing `gpg` or `openssl` fails. Apptainer is
//! looked for in `PATH`, or started with the words of `SIGSIF_APPTAINER`
//! (`chroot /sid apptainer`); `SIGSIF_APPTAINER_DIR` then names a folder that
//! has the same path on both sides. `siftool`, with `SIGSIF_SIFTOOL`, takes
//! part in editing where it is there as well.

mod support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::table::{self, field};
use support::{Home, Outcome, peers, peers_required, project, run, skip, skip_without, tool};
use tempfile::TempDir;

const PEM_KEYS: [&str; 5] = ["rsa3072", "p256", "p384", "p521", "ed25519"];

fn pem(name: &str, kind: &str) -> PathBuf {
    peers(&format!("keys/{name}.{kind}.pem"))
}

/// An unsigned image in a home, signed with a PEM key.
fn signed_with(home: &Home, key: &str, name: &str) -> PathBuf {
    let image = home.copy("native/unsigned.sif", name);
    run(home
        .sigsif(["sign", "--key"])
        .arg(pem(key, "key"))
        .arg(&image))
    .expect(0);
    image
}

/// Data of the signature of an image with one.
fn seal_of(home: &Home, image: &Path) -> Vec<u8> {
    run(home.sigsif(["sif", "dump", "4"]).arg(image))
        .expect(0)
        .stdout
}

/// Puts other data in the place of the signature.
fn replace_seal(image: &Path, seal: &[u8], fingerprint: &[u8; 20]) {
    let mut bytes = fs::read(image).expect("the image");
    let object = table::signature(&bytes);
    let start = i64::try_from(bytes.len()).expect("a length");
    bytes.extend_from_slice(seal);
    table::put_i64(&mut bytes, object.at(field::OFFSET), start);
    table::put_i64(
        &mut bytes,
        object.at(field::SIZE),
        i64::try_from(seal.len()).expect("a length"),
    );
    table::put(&mut bytes, object.at(field::FINGERPRINT), fingerprint);
    fs::write(image, bytes).expect("the image");
}

// ---- OpenSSL ----

const TYPE: &str = "application/vnd.sylabs.sif-metadata+json";

/// The bytes under a DSSE signature, from the text of the protocol.
fn pae(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [
        "DSSEv1",
        &TYPE.len().to_string(),
        TYPE,
        &payload.len().to_string(),
    ] {
        out.extend_from_slice(part.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(payload);
    out
}

fn have_openssl() -> bool {
    let found = tool("openssl").is_some();
    if !found {
        skip_without("openssl");
    }
    found
}

#[test]
fn openssl_verifies_what_sigsif_signs() {
    if !have_openssl() {
        return;
    }
    for key in PEM_KEYS {
        let home = Home::new();
        let image = signed_with(&home, key, "image.sif");
        let envelope: Value = serde_json::from_slice(&seal_of(&home, &image)).expect("JSON");
        assert_eq!(envelope["payloadType"], TYPE);
        let decode = |value: &Value| {
            BASE64_STANDARD
                .decode(value.as_str().expect("text"))
                .expect("base64")
        };
        let message = home.write("message", &pae(&decode(&envelope["payload"])));
        let signature = home.write("signature", &decode(&envelope["signatures"][0]["sig"]));
        let verified = openssl_verify(&home, key, &message, &signature);
        assert_eq!(verified.code, Some(0), "{key}: {verified}");
        // The same question about another message is answered with no.
        let other = home.write(
            "other",
            &[&fs::read(&message).expect("it")[..], b" "].concat(),
        );
        let refused = openssl_verify(&home, key, &other, &signature);
        assert_ne!(refused.code, Some(0), "{key}: {refused}");
    }
}

fn openssl_verify(home: &Home, key: &str, message: &Path, signature: &Path) -> Outcome {
    let mut openssl = home.clean("openssl");
    if key == "ed25519" {
        openssl.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]);
        openssl
            .arg(pem(key, "pub"))
            .arg("-in")
            .arg(message)
            .arg("-sigfile")
            .arg(signature);
    } else {
        openssl
            .args(["dgst", "-sha256", "-verify"])
            .arg(pem(key, "pub"));
        openssl.arg("-signature").arg(signature).arg(message);
    }
    run(&mut openssl)
}

#[test]
fn sigsif_verifies_what_openssl_signs() {
    if !have_openssl() {
        return;
    }
    for key in PEM_KEYS {
        let home = Home::new();
        let image = signed_with(&home, key, "image.sif");
        let ours: Value = serde_json::from_slice(&seal_of(&home, &image)).expect("JSON");
        let text = ours["payload"].as_str().expect("text");
        let payload = BASE64_STANDARD.decode(text).expect("base64");
        let message = home.write("message", &pae(&payload));
        let out = home.join("signature");
        let mut openssl = home.clean("openssl");
        if key == "ed25519" {
            openssl
                .args(["pkeyutl", "-sign", "-rawin", "-inkey"])
                .arg(pem(key, "key"));
            openssl.arg("-in").arg(&message).arg("-out").arg(&out);
        } else {
            openssl
                .args(["dgst", "-sha256", "-sign"])
                .arg(pem(key, "key"));
            openssl.arg("-out").arg(&out).arg(&message);
        }
        run(&mut openssl).expect(0);
        let signature = BASE64_STANDARD.encode(fs::read(&out).expect("a signature"));
        let verify = || {
            run(home
                .sigsif(["verify", "--key"])
                .arg(pem(key, "pub"))
                .arg(&image))
        };
        for keyid in [&ours["signatures"][0]["keyid"], &json!("")] {
            let envelope = json!({
                "payloadType": TYPE,
                "payload": text,
                "signatures": [{ "keyid": keyid, "sig": signature }],
            });
            replace_seal(&image, envelope.to_string().as_bytes(), &[0; 20]);
            let verified = verify();
            assert_eq!(verified.code, Some(0), "{key}: {verified}");
        }
        // A signature over something else by the same key.
        let envelope = json!({
            "payloadType": TYPE,
            "payload": BASE64_STANDARD.encode([&payload[..], b" "].concat()),
            "signatures": [{ "keyid": "", "sig": signature }],
        });
        replace_seal(&image, envelope.to_string().as_bytes(), &[0; 20]);
        verify()
            .expect(255)
            .says("accepted signatures do not match threshold");
    }
}

// ---- GnuPG ----

/// A GnuPG home; its agent is stopped at the end.
struct Gnupg {
    folder: TempDir,
}

impl Gnupg {
    fn new() -> Option<Self> {
        if tool("gpg").is_none() {
            skip_without("gpg");
            return None;
        }
        Some(Self {
            // A short path: the agent's socket lives in it.
            folder: tempfile::Builder::new()
                .prefix("g")
                .tempdir_in("/tmp")
                .expect("a folder"),
        })
    }

    fn gpg(&self, args: &[&str]) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args([
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ])
        .args(["--trust-model", "always"])
        .args(args)
        .env("GNUPGHOME", self.folder.path())
        .env("LC_ALL", "C");
        gpg
    }

    /// Makes a key and returns its fingerprint.
    fn generate(&self, algorithm: &str) -> String {
        let user = format!("Peer {algorithm} <{algorithm}@example.org>");
        run(&mut self.gpg(&["--quick-generate-key", &user, algorithm, "sign", "never"])).expect(0);
        let list = run(&mut self.gpg(&["--with-colons", "--list-keys", &user])).expect(0);
        let list = String::from_utf8(list.stdout).expect("text");
        let line = list
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .expect("a fingerprint");
        line.split(':').nth(9).expect("a fingerprint").to_owned()
    }

    fn verify(&self, message: &Path) -> Outcome {
        run(self.gpg(&["--verify"]).arg(message))
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.folder.path())
            .output();
    }
}

/// The message with the optional checksum line (RFC 9580, 6.1).
///
/// The originals write none, and so do we. GnuPG 2.2 then takes the END line
/// for base64 whenever the text before it is not filled up with `=`: it says
/// "Good signature" and ends with 2 all the same.
fn with_checksum(seal: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(seal.to_vec()).expect("text");
    let (front, armor) = text
        .split_once("-----BEGIN PGP SIGNATURE-----\n\n")
        .expect("armor");
    let (body, _) = armor.split_once("\n-----END").expect("an end");
    let packet = BASE64_STANDARD
        .decode(body.replace('\n', ""))
        .expect("base64");
    let mut sum = 0x00b7_04ce_u32;
    for byte in packet {
        sum ^= u32::from(byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0186_4cfb;
            }
        }
    }
    let sum = BASE64_STANDARD.encode(&sum.to_be_bytes()[1..]);
    format!("{front}-----BEGIN PGP SIGNATURE-----\n\n{body}\n={sum}\n-----END PGP SIGNATURE-----\n")
        .into_bytes()
}

const GPG_ALGORITHMS: [&str; 5] = ["ed25519", "nistp256", "nistp384", "nistp521", "rsa3072"];

#[test]
fn gpg_verifies_what_sigsif_signs_with_keys_made_by_gpg() {
    let Some(gnupg) = Gnupg::new() else { return };
    for algorithm in GPG_ALGORITHMS {
        let home = Home::new();
        let fingerprint = gnupg.generate(algorithm);
        let secret =
            run(&mut gnupg.gpg(&["--armor", "--export-secret-keys", &fingerprint])).expect(0);
        let secret = home.write("secret.asc", &secret.stdout);
        run(home.sigsif(["key", "import"]).arg(&secret)).expect(0);
        let image = home.copy("native/unsigned.sif", "image.sif");
        let signed = run(home.sigsif(["sign"]).arg(&image));
        assert_eq!(signed.code, Some(0), "{algorithm}: {signed}");
        run(home.sigsif(["verify", "--local"]).arg(&image)).expect(0);
        let seal = seal_of(&home, &image);
        let as_it_is = gnupg.verify(&home.write("message.asc", &seal));
        assert!(
            as_it_is.stderr.contains("Good signature"),
            "{algorithm}: {as_it_is}"
        );
        let verified = gnupg.verify(&home.write("message.asc", &with_checksum(&seal)));
        assert_eq!(verified.code, Some(0), "{algorithm}: {verified}");
        assert!(
            verified.stderr.contains("Good signature"),
            "{algorithm}: {verified}"
        );
        let text = String::from_utf8(seal)
            .expect("text")
            .replace("\"relativeId\":0", "\"relativeId\":9");
        let refused = gnupg.verify(&home.write("changed.asc", text.as_bytes()));
        assert!(
            refused.stderr.contains("BAD signature"),
            "{algorithm}: {refused}"
        );
    }
}

#[test]
fn gpg_verifies_what_sigsif_signs_with_its_own_key() {
    let Some(gnupg) = Gnupg::new() else { return };
    let home = Home::new();
    run(&mut home.sigsif([
        "key",
        "newpair",
        "-N",
        "Own",
        "-E",
        "own@example.org",
        "-C",
        "",
        "-P",
        "",
        "-b",
        "2048",
    ]))
    .expect(0);
    // GnuPG takes both halves, the private one with its passphrase.
    run(gnupg.gpg(&["--import"]).arg(home.keys().join("pgp-public"))).expect(0);
    run(gnupg.gpg(&["--import"]).arg(home.keys().join("pgp-secret"))).expect(0);
    let image = home.copy("native/unsigned.sif", "image.sif");
    run(home.sigsif(["sign"]).arg(&image)).expect(0);
    gnupg
        .verify(&home.write("message.asc", &with_checksum(&seal_of(&home, &image))))
        .expect(0)
        .says("Good signature from \"Own <own@example.org>\"");
    let text = home.write("text", b"made by gpg with a key made by sigsif\n");
    run(gnupg
        .gpg(&["--clearsign", "--output"])
        .arg(home.join("text.asc"))
        .arg(&text))
    .expect(0);
    gnupg
        .verify(&home.join("text.asc"))
        .expect(0)
        .says("Good signature");
}

#[test]
fn sigsif_verifies_what_gpg_signs() {
    let Some(gnupg) = Gnupg::new() else { return };
    for algorithm in GPG_ALGORITHMS {
        let home = Home::new();
        let fingerprint = gnupg.generate(algorithm);
        let public = run(&mut gnupg.gpg(&["--export", &fingerprint])).expect(0);
        let public = home.write("public.gpg", &public.stdout);
        run(home.sigsif(["key", "import"]).arg(&public)).expect(0);
        let image = signed_with(&home, "ed25519", "image.sif");
        let envelope: Value = serde_json::from_slice(&seal_of(&home, &image)).expect("JSON");
        let payload = envelope["payload"].as_str().expect("text");
        let payload = BASE64_STANDARD.decode(payload).expect("base64");
        let text = home.write("metadata.json", &payload);
        let message = home.join("message.asc");
        run(gnupg
            .gpg(&["--clearsign", "-u", &fingerprint, "--output"])
            .arg(&message)
            .arg(&text))
        .expect(0);
        let raw: [u8; 20] = hex::decode(&fingerprint)
            .expect("hex")
            .try_into()
            .expect("20 bytes");
        let seal = fs::read(&message).expect("a message");
        let verify = || run(home.sigsif(["verify", "--local"]).arg(&image));
        replace_seal(&image, &seal, &raw);
        let verified = verify();
        assert_eq!(verified.code, Some(0), "{algorithm}: {verified}");
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(said.contains(&fingerprint), "{algorithm}: {said}");
        replace_seal(&image, &seal, &[7; 20]);
        verify()
            .expect(255)
            .says("fingerprint in descriptor does not correspond");
    }
}

// ---- Apptainer ----

struct Apptainer {
    words: Vec<String>,
    home: Home,
}

impl Apptainer {
    fn new() -> Option<Self> {
        let words: Vec<_> = match std::env::var("SIGSIF_APPTAINER") {
            Ok(words) => words.split_whitespace().map(str::to_owned).collect(),
            Err(_) if tool("apptainer").is_some() => vec!["apptainer".to_owned()],
            Err(_) => {
                skip("apptainer is not installed and SIGSIF_APPTAINER is not set");
                return None;
            }
        };
        let home = match std::env::var_os("SIGSIF_APPTAINER_DIR") {
            Some(folder) => Home::in_folder(Path::new(&folder)),
            None => Home::new(),
        };
        home.reset_keys("keys/keyring");
        let this = Self { words, home };
        let version = this.run(&["--version"]);
        if version.code != Some(0) {
            assert!(!peers_required(), "apptainer does not start: {version}");
            skip(&format!("apptainer does not start: {version}"));
            return None;
        }
        Some(this)
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let (program, rest) = self.words.split_first().expect("a program");
        let mut command = self.home.clean(program);
        command
            .args(rest)
            .args(args)
            .env("APPTAINER_KEYSDIR", self.home.keys());
        run(&mut command)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn apptainer_verifies_what_sigsif_signs() {
    let Some(apptainer) = Apptainer::new() else {
        return;
    };
    for source in ["unsigned", "two-groups-unsigned"] {
        for key in PEM_KEYS.into_iter().map(Some).chain([None]) {
            let home = &apptainer.home;
            let image = home.copy(&format!("native/{source}.sif"), "image.sif");
            let public = key.map(|key| pem(key, "pub"));
            let how = match &public {
                Some(public) => vec!["verify", "--key", text(public), text(&image)],
                None => vec!["verify", "--local", text(&image)],
            };
            // Twice: an image that carries signatures of ours is signed again.
            for times in 1..=2 {
                let mut sign = home.sigsif(["sign"]);
                match key {
                    Some(key) => sign.arg("--key").arg(pem(key, "key")),
                    None => sign.args(["--keyidx", "0"]),
                };
                run(sign.arg(&image)).expect(0);
                let theirs = apptainer.run(&how);
                assert_eq!(theirs.code, Some(0), "{source} {key:?} {times}: {theirs}");
                let ours = run(&mut home.sigsif(&how)).expect(0);
                assert_eq!(ours.stdout, theirs.stdout, "{source} {key:?} {times}");
                let list = apptainer.run(&["sif", "list", text(&image)]).expect(0);
                let our_list = run(home.sigsif(["sif", "list"]).arg(&image)).expect(0);
                assert_eq!(our_list.stdout, list.stdout, "{source} {key:?} {times}");
            }
            // One byte off: both refuse.
            let mut bytes = fs::read(&image).expect("the image");
            let second = table::by_id(&bytes, 2).range().start;
            bytes[second] ^= 1;
            fs::write(&image, bytes).expect("the image");
            apptainer
                .run(&how)
                .expect(255)
                .says("data object integrity compromised: 2");
            run(&mut home.sigsif(&how))
                .expect(255)
                .says("data object integrity compromised: 2");
        }
    }
}

#[test]
fn apptainer_signs_after_sigsif() {
    let Some(apptainer) = Apptainer::new() else {
        return;
    };
    let home = &apptainer.home;
    for key in PEM_KEYS {
        let image = signed_with(home, key, "image.sif");
        let private = pem(key, "key");
        let signed = apptainer.run(&["sign", "--key", text(&private), text(&image)]);
        assert_eq!(signed.code, Some(0), "{key}: {signed}");
        let verified = run(home
            .sigsif(["verify", "--key"])
            .arg(pem(key, "pub"))
            .arg(&image))
        .expect(0);
        let blocks = String::from_utf8_lossy(&verified.stdout)
            .matches("Objects verified:")
            .count();
        assert_eq!(blocks, 2, "{key}");
    }
    let image = home.copy("native/two-groups-unsigned.sif", "image.sif");
    run(home.sigsif(["sign", "--keyidx", "0"]).arg(&image)).expect(0);
    apptainer
        .run(&["sign", "--keyidx", "0", text(&image)])
        .expect(0);
    run(home.sigsif(["verify", "--local"]).arg(&image)).expect(0);
    apptainer
        .run(&["verify", "--local", text(&image)])
        .expect(0);
}

#[test]
fn keyrings_are_the_same_for_apptainer_and_sigsif() {
    let Some(apptainer) = Apptainer::new() else {
        return;
    };
    let home = &apptainer.home;
    fs::remove_dir_all(home.keys()).expect("an empty place");
    let pair = |name: &'static str| {
        [
            "key",
            "newpair",
            "-N",
            name,
            "-E",
            "a@b.c",
            "-C",
            "note",
            "-P",
            "",
            "-b",
            "2048",
            "--push=false",
        ]
    };
    run(&mut home.sigsif(pair("by sigsif"))).expect(0);
    let mut theirs = pair("by apptainer").to_vec();
    // Or it asks whether to upload the key.
    theirs.push("--push=false");
    apptainer.run(&theirs).expect(0);
    for args in [&["key", "list"][..], &["key", "list", "--secret"]] {
        let by_apptainer = apptainer.run(args).expect(0);
        let by_sigsif = run(&mut home.sigsif(args)).expect(0);
        let seen = |outcome: &Outcome| {
            let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
            // Time zones may differ between the two systems.
            let lines = text.lines().filter(|line| !line.contains("Creation time:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(seen(&by_sigsif), seen(&by_apptainer));
        let text = String::from_utf8_lossy(&by_sigsif.stdout).into_owned();
        assert_eq!(text.matches("Fingerprint:").count(), 2, "{text}");
    }
    // Each signs with the key that the other made, and both accept it.
    let image = home.copy("native/unsigned.sif", "image.sif");
    apptainer
        .run(&["sign", "--keyidx", "0", text(&image)])
        .expect(0);
    run(home.sigsif(["sign", "--keyidx", "1"]).arg(&image)).expect(0);
    let ours = run(home.sigsif(["verify", "--local"]).arg(&image)).expect(0);
    let theirs = apptainer
        .run(&["verify", "--local", text(&image)])
        .expect(0);
    assert_eq!(ours.stdout, theirs.stdout);
    let said = String::from_utf8_lossy(&ours.stdout).into_owned();
    assert!(
        said.contains("by sigsif") && said.contains("by apptainer"),
        "{said}"
    );
}

#[test]
fn a_protected_key_of_sigsif_opens_in_apptainer() {
    let Some(apptainer) = Apptainer::new() else {
        return;
    };
    let home = &apptainer.home;
    fs::remove_dir_all(home.keys()).expect("an empty place");
    run(&mut home.sigsif([
        "key",
        "newpair",
        "-N",
        "n",
        "-E",
        "a@b.c",
        "-C",
        "",
        "-P",
        "pass phrase",
        "-b",
        "2048",
    ]))
    .expect(0);
    let image = home.copy("native/unsigned.sif", "image.sif");
    let (program, rest) = apptainer.words.split_first().expect("a program");
    let answer = home.write("answer", b"pass phrase\n");
    let mut sign = home.clean("sh");
    sign.args(["-c", "answer=$1; shift; exec \"$@\" <\"$answer\"", "sh"])
        .arg(&answer)
        .arg(program)
        .args(rest)
        .args(["sign", "--keyidx", "0"])
        .arg(&image)
        .env("APPTAINER_KEYSDIR", home.keys());
    run(&mut sign).expect(0);
    run(home.sigsif(["verify", "--local"]).arg(&image)).expect(0);
}

// ---- Editing ----

#[derive(Clone, Copy, Debug)]
enum Editor {
    Sigsif,
    Apptainer,
    Siftool,
}

/// The programs that edit one image in turn.
struct Editors {
    apptainer: Apptainer,
    siftool: Option<Vec<String>>,
    image: PathBuf,
}

impl Editors {
    fn new() -> Option<Self> {
        let apptainer = Apptainer::new()?;
        let siftool = match std::env::var("SIGSIF_SIFTOOL") {
            Ok(words) => Some(words.split_whitespace().map(str::to_owned).collect()),
            Err(_) => tool("siftool").map(|_| vec!["siftool".to_owned()]),
        };
        let image = apptainer.home.join("edited.sif");
        Some(Self {
            apptainer,
            siftool,
            image,
        })
    }

    fn all(&self) -> Vec<Editor> {
        let mut all = vec![Editor::Sigsif, Editor::Apptainer];
        all.extend(self.siftool.is_some().then_some(Editor::Siftool));
        all
    }

    /// Runs `sif ARGS`, `IMAGE` standing for the image.
    fn sif(&self, by: Editor, args: &[&str]) -> Outcome {
        let image = text(&self.image);
        let args = args.iter().map(|arg| match *arg {
            "IMAGE" => image,
            other => other,
        });
        let mut command = match by {
            Editor::Sigsif => self.apptainer.home.sigsif(["sif"]),
            Editor::Apptainer => {
                return self
                    .apptainer
                    .run(&[&["sif"], &args.collect::<Vec<_>>()[..]].concat());
            }
            Editor::Siftool => {
                let words = self.siftool.as_ref().expect("siftool");
                let mut command = self.apptainer.home.clean(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        run(command.args(args))
    }

    /// An edit that succeeds, after which all see the same image.
    fn edit(&self, by: Editor, args: &[&str]) {
        let done = self.sif(by, args);
        assert_eq!(done.code, Some(0), "{by:?} {args:?}: {done}");
        self.agree(&format!("{by:?} {args:?}"));
    }

    fn agree(&self, after: &str) {
        for what in ["list", "header"] {
            let ours = self.sif(Editor::Sigsif, &[what, "IMAGE"]).expect(0);
            for by in &self.all()[1..] {
                let theirs = self.sif(*by, &[what, "IMAGE"]).expect(0);
                assert_eq!(theirs.stdout, ours.stdout, "{by:?} {what} after {after}");
            }
        }
    }

    fn sign(&self, by: Editor) -> Outcome {
        let key = pem("p256", "key");
        let args = ["sign", "--key", text(&key), text(&self.image)];
        let done = match by {
            Editor::Sigsif => run(&mut self.apptainer.home.sigsif(args)),
            _ => self.apptainer.run(&args),
        };
        assert_eq!(done.code, Some(0), "{by:?}: {done}");
        self.agree("signing");
        done
    }

    /// Both verifiers come to the same answer.
    fn verify(&self, code: i32, after: &str) {
        let key = pem("p256", "pub");
        let args = ["verify", "--key", text(&key), text(&self.image)];
        let ours = run(&mut self.apptainer.home.sigsif(args));
        let theirs = self.apptainer.run(&args);
        assert_eq!(theirs.code, Some(code), "after {after}: {theirs}");
        assert_eq!(ours.code, Some(code), "after {after}: {ours}");
        assert_eq!(ours.stdout, theirs.stdout, "after {after}");
    }
}

#[test]
fn sigsif_and_the_originals_edit_one_image_in_turn() {
    let Some(editors) = Editors::new() else {
        return;
    };
    let home = &editors.apptainer.home;
    let data = home.write("data", &[7; 5000]);
    let data = text(&data);
    let deffile = ["--datatype", "1", "--groupid", "1"];
    let json = ["--datatype", "6", "--groupid", "2", "--alignment", "64"];
    let partition = |kind| {
        [
            "--datatype",
            "4",
            "--groupid",
            "1",
            "--partfs",
            "1",
            "--partarch",
            "2",
            "--parttype",
            kind,
        ]
    };
    let all = editors.all();
    for first in 0..all.len() {
        // Each makes the image once, and each step is done by each once.
        let mut turn = all.iter().cycle().skip(first).copied();
        let mut next = || turn.next().expect("an editor");
        let add = |by, flags: &[&str]| {
            editors.edit(by, &[&["add"], flags, &["IMAGE", data]].concat());
        };
        editors.edit(next(), &["new", "IMAGE"]);
        add(next(), &deffile);
        add(next(), &partition("2"));
        add(next(), &partition("1"));
        add(next(), &json);
        let refused = editors.sif(
            next(),
            &[&["add"], &partition("2")[..], &["IMAGE", data]].concat(),
        );
        refused
            .expect(1)
            .says("image already contains a primary partition");
        editors.sign(Editor::Sigsif);
        editors.sign(Editor::Apptainer);
        editors.verify(0, "signing");
        // Signatures cover which partition is the primary one.
        editors.edit(next(), &["setprim", "3", "IMAGE"]);
        editors.verify(255, "setprim 3");
        editors.edit(next(), &["setprim", "2", "IMAGE"]);
        editors.verify(0, "setprim 2");
        // Group 2 goes, then its signatures; group 1 does not notice.
        for id in ["4", "6", "8"] {
            editors.edit(next(), &["del", id, "IMAGE"]);
            editors.verify(0, "del");
        }
        // The free slot is taken again.
        add(next(), &json);
        editors.verify(255, "an unsigned group");
        let info = editors.sif(next(), &["info", "4", "IMAGE"]).expect(0);
        let info = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(info.contains("JSON.Generic"), "{info}");
        let dumped = editors.sif(next(), &["dump", "4", "IMAGE"]).expect(0);
        assert_eq!(dumped.stdout, [7; 5000]);
        editors.sign(Editor::Apptainer);
        editors.verify(0, "signing again");
        fs::remove_file(&editors.image).expect("the image");
    }
}

#[test]
fn a_grown_image_stays_an_image_of_the_originals() {
    let Some(editors) = Editors::new() else {
        return;
    };
    let home = &editors.apptainer.home;
    let data = home.write("data", &[7; 5000]);
    let data = text(&data);
    let add: [&str; 7] = ["add", "--datatype", "6", "--groupid", "1", "IMAGE", data];
    let partition = [
        "add",
        "--datatype",
        "4",
        "--groupid",
        "1",
        "--partfs",
        "1",
        "--partarch",
        "2",
        "--parttype",
        "2",
        "IMAGE",
        data,
    ];
    for by in &editors.all()[1..] {
        for signed_first in [false, true] {
            let capacity = if signed_first { "3" } else { "2" };
            editors.edit(Editor::Sigsif, &["new", "--capacity", capacity, "IMAGE"]);
            editors.edit(*by, &partition);
            editors.edit(Editor::Sigsif, &add);
            if signed_first {
                editors.sign(Editor::Apptainer);
            }
            editors
                .sif(*by, &add)
                .expect(1)
                .says("insufficient descriptor capacity");
            if signed_first {
                editors.edit(Editor::Sigsif, &["grow", "--capacity", "9", "IMAGE"]);
                editors.verify(0, "growing");
            } else {
                editors.sign(Editor::Sigsif).says("table of descriptors");
            }
            let bytes = fs::read(&editors.image).expect("the image");
            assert_eq!(table::by_id(&bytes, 1).range().start % 4096, 0);
            editors.sign(Editor::Apptainer);
            editors.verify(0, "signing after growth");
            editors.edit(*by, &["add", "--datatype", "7", "IMAGE", data]);
            editors.verify(255, "an object in no group");
            let last = table::objects(&fs::read(&editors.image).expect("the image")).len();
            editors.edit(*by, &["del", &last.to_string(), "IMAGE"]);
            editors.verify(0, "deleting it");
            fs::remove_file(&editors.image).expect("the image");
        }
    }
}

/// `fixtures/apptainer`: images signed by sigsif, and what the originals said.
#[test]
fn recorded_answers_of_the_originals_hold() {
    let folder = project().join("fixtures/apptainer");
    let answers = fs::read_to_string(folder.join("answers.jsonl")).expect("answers");
    let home = Home::with_keys();
    let mut images = std::collections::BTreeSet::new();
    let (mut by_apptainer, mut by_singularity) = (0, 0);
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let argv = answer["argv"].as_array().expect("words").iter();
        let argv: Vec<_> = argv.map(|word| word.as_str().expect("a word")).collect();
        assert_eq!(answer["rc"], 0, "the original refused: {line}");
        let peer = answer["peer"].as_str().expect("a peer");
        let image = *argv.last().expect("an image");
        if peer.starts_with("apptainer") {
            by_apptainer += 1;
            let ours = run(home.sigsif(&argv).current_dir(&folder)).expect(0);
            let ours = String::from_utf8(ours.stdout).expect("text");
            assert_eq!(answer["stdout"], ours, "{argv:?}");
        } else {
            assert_eq!(peer, "sylabs/sif v2.24.1 pkg/integrity");
            by_singularity += 1;
            let verify = match argv[0] {
                "pem" => vec!["verify", "--key", argv[1], image],
                _ => vec!["verify", "--local", image],
            };
            let ours = run(home.sigsif(&verify).current_dir(&folder)).expect(0);
            // The pairs of signature and object are those that we report.
            let theirs = answer["stdout"]
                .as_str()
                .expect("text")
                .matches(" verifies object ")
                .count();
            let ours = String::from_utf8(ours.stdout).expect("text");
            let rows = ours
                .lines()
                .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
            assert_eq!(rows.count(), theirs, "{image}");
        }
        images.insert(image.to_owned());
    }
    let stored: Vec<_> = fs::read_dir(&folder)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| name.ends_with(".sif"))
        .collect();
    assert_eq!(stored.len(), 8);
    assert!(
        stored.iter().all(|name| images.contains(name)),
        "an image without an answer"
    );
    assert_eq!((by_apptainer, by_singularity), (24, 8));
}

/// `fixtures/apptainer/edit`: images edited by sigsif and the originals, and
/// what the originals said.
#[test]
fn recorded_answers_about_edited_images_hold() {
    let folder = project().join("fixtures/apptainer/edit");
    let answers = fs::read_to_string(folder.join("answers.jsonl")).expect("answers");
    let home = Home::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(answer["rc"], 0, "the original refused: {line}");
        let argv = answer["argv"].as_array().expect("words").iter();
        let argv: Vec<_> = argv.map(|word| word.as_str().expect("a word")).collect();
        let ours = run(home.sigsif(&argv).current_dir(&folder)).expect(0);
        let ours = String::from_utf8(ours.stdout).expect("text");
        assert_eq!(answer["stdout"], ours, "{argv:?}");
        let image = *argv.last().expect("an image");
        seen.insert((answer["peer"].to_string(), image.to_owned()));
    }
    assert_eq!(seen.len(), 3 * 4, "{seen:?}");
    // Neither growth nor the deletes of the originals, that cut the file off,
    // leave anything that is not in order.
    for image in ["made.sif", "grown.sif", "extended.sif", "compacted.sif"] {
        run(home.sigsif(["sif", "check", image]).current_dir(&folder)).expect(0);
    }
}
