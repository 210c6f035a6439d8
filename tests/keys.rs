//! The `key` commands as a user meets them: recorded answers of Apptainer,
//! GnuPG in both directions, kills at every system call, many processes.

#[path = "keys/hostile.rs"]
mod hostile;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::Digest as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "common/called.rs"]
mod called;

use called::Called;

const ALICE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
const BOB: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";
/// Bob's, and that of the locked fixtures.
const PASSPHRASE: &str = "correct horse";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// Folders of one test.
struct Sandbox(tempfile::TempDir, Called);

impl Sandbox {
    fn new() -> Self {
        Self::called(Called::Sigsif)
    }

    /// For calls by a name.
    fn called(called: Called) -> Self {
        let this = Self(tempfile::tempdir().unwrap(), called);
        for folder in ["work", "sys", "gnupg"] {
            fs::create_dir(this.path(folder)).unwrap();
        }
        fs::set_permissions(this.path("gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
        this
    }

    /// With the two recorded keys of Alice (clear) and Bob (locked).
    fn with_keyring() -> Self {
        let this = Self::new();
        this.restore();
        this
    }

    fn restore(&self) {
        let _ = fs::remove_dir_all(self.keys());
        fs::create_dir(self.keys()).unwrap();
        fs::set_permissions(self.keys(), fs::Permissions::from_mode(0o700)).unwrap();
        for file in ["pgp-public", "pgp-secret"] {
            let bytes = fs::read(fixture("peers/keys/keyring").join(file)).unwrap();
            self.put(file, &bytes);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn work(&self) -> PathBuf {
        self.path("work")
    }

    fn keys(&self) -> PathBuf {
        self.work().join("keys")
    }

    fn ring(&self, file: &str) -> Vec<u8> {
        fs::read(self.keys().join(file)).unwrap()
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.keys().join(file);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.work())
            .env(self.1.keys(), self.keys())
            .env("SIGSIF_SYSCONFDIR", self.path("sys"))
            .env("GNUPGHOME", self.path("gnupg"))
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Answer {
        self.run_with(args, "")
    }

    fn run_with(&self, args: &[&str], input: &str) -> Answer {
        let program = self.1.program(&self.path("bin"));
        let mut child = self
            .command(program.to_str().unwrap(), args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that asks nothing closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Answer::of(child.wait_with_output().unwrap())
    }

    fn ok(&self, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!(answer.exit, 0, "{args:?}: {}", answer.stderr);
        answer.stdout
    }

    /// Runs GnuPG; its stdout.
    fn gpg(&self, args: &[&str]) -> String {
        let output = self
            .command(
                "gpg",
                &["--batch", "--no-tty", "--pinentry-mode", "loopback"],
            )
            .args(["--passphrase", PASSPHRASE])
            .args(args)
            .output()
            .unwrap();
        let answer = Answer::of(output);
        assert_eq!(answer.exit, 0, "gpg {args:?}: {}", answer.stderr);
        answer.stdout
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(&[&["key", "list", "--json"], args].concat());
        let all: Value = serde_json::from_str(&text).unwrap();
        all["keys"].as_array().unwrap().clone()
    }

    fn fingerprints(&self, args: &[&str]) -> Vec<String> {
        let keys = self.json(args);
        keys.iter().map(|key| text(&key["fingerprint"])).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The agent that gpg starts would stay.
        let _ = self.command("gpgconf", &["--kill", "gpg-agent"]).output();
    }
}

struct Answer {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        let status = output.status;
        Self {
            exit: status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Whether a tool is there; `SIGSIF_PEERS=required` makes a missing one fail.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    assert!(
        found || std::env::var_os("SIGSIF_PEERS").is_none_or(|v| v != "required"),
        "{tool} is missing"
    );
    if !found {
        eprintln!("skipped: no {tool}");
    }
    found
}

// ---- recorded answers ----

/// Where this program answers otherwise, and why.
struct Difference {
    step: (&'static str, i64),
    exit: i64,
    stderr: &'static str,
    /// Whether what follows was recorded on the keyring as it was before.
    restore: bool,
}

const DIFFERENCES: &[Difference] = &[
    // Key ids and lower case name a key, too.
    Difference {
        step: ("key-remove", 2),
        exit: 0,
        stderr: "",
        restore: true,
    },
    Difference {
        step: ("key-remove", 3),
        exit: 0,
        stderr: "",
        restore: true,
    },
    // SingularityCE's sentence.
    Difference {
        step: ("key-global", 6),
        exit: 255,
        stderr: "FATAL:   Unable to remove private key: global keyring only holds public keys\n",
        restore: false,
    },
];

/// Files that come out otherwise: exported secret keys are private as
/// SingularityCE's, and removing one secret key keeps the others.
const OTHER_FILES: &[(&str, i64)] = &[
    ("key-export", 3),
    ("key-export", 4),
    ("key-remove-secret-destroys-others", 1),
];

fn recorded() -> Option<Vec<Value>> {
    let folders = [
        fixture("peers/cli/cli.jsonl"),
        fixture("../../shared/corpus/peers/cli/cli.jsonl"),
        fixture("../../../../shared/corpus/peers/cli/cli.jsonl"),
    ];
    let Some(text) = folders
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
    else {
        eprintln!("skipped: no cli.jsonl");
        return None;
    };
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Some(lines.collect())
}

#[test]
fn answers_as_recorded() {
    for called in Called::ALL {
        answers_as_recorded_called(called);
    }
}

fn answers_as_recorded_called(called: Called) {
    let Some(steps) = recorded() else { return };
    for scenario in [
        "key-export",
        "key-export-empty",
        "key-remove",
        "key-remove-secret-destroys-others",
        "key-global",
    ] {
        let sandbox = Sandbox::called(called);
        if scenario != "key-global" && scenario != "key-export-empty" {
            sandbox.restore();
        }
        for name in [
            "keys/pgp-one.pub.asc",
            "keys/pgp-one.sec.asc",
            "native/pgp-one.sif",
        ] {
            let from = fixture("peers").join(name);
            fs::copy(&from, sandbox.work().join(from.file_name().unwrap())).unwrap();
        }
        let mut count = 0;
        for step in steps.iter().filter(|step| step["scenario"] == scenario) {
            replay(&sandbox, scenario, step);
            count += 1;
        }
        assert!(count > 1, "{scenario}");
    }
}

fn replay(sandbox: &Sandbox, scenario: &str, step: &Value) {
    let number = step["step"].as_i64().unwrap();
    let at = format!("{:?} {scenario} {number}", sandbox.1);
    let args: Vec<&str> = step["argv"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    // Lines typed at a terminal come through the pipe here.
    let typed = step["typed"].as_array().into_iter().flatten();
    let typed: String = typed.map(|pair| text(&pair[1]) + "\n").collect();
    let input = step["stdin"].as_str().unwrap_or(&typed);
    let answer = sandbox.run_with(&args, input);
    let places = |text: &str| {
        text.replace("$DIR", sandbox.work().to_str().unwrap())
            .replace("$SYS", sandbox.path("sys").to_str().unwrap())
    };
    let difference = DIFFERENCES.iter().find(|d| d.step == (scenario, number));
    let (exit, stderr) = match difference {
        Some(difference) => (difference.exit, difference.stderr.to_owned()),
        None => (
            step["rc"].as_i64().unwrap(),
            places(step["stderr"].as_str().unwrap()),
        ),
    };
    assert_eq!(answer.stderr, stderr, "{at}");
    assert_eq!(i64::from(answer.exit), exit, "{at}");
    assert_eq!(
        answer.stdout,
        places(step["stdout"].as_str().unwrap()),
        "{at}"
    );
    if difference.is_some_and(|difference| difference.restore) {
        sandbox.restore();
    }
    for (name, expected) in step["files"].as_object().into_iter().flatten() {
        let path = sandbox.work().join(places(name));
        if expected.is_null() {
            assert!(!path.exists(), "{at}: {name}");
            continue;
        }
        if OTHER_FILES.contains(&(scenario, number)) {
            assert_eq!(mode(&path), 0o600, "{at}: {name}");
            let bytes = fs::read(&path).unwrap();
            if scenario == "key-export" {
                // Apptainer makes the self-signatures anew: only the size stays.
                assert_eq!(Some(bytes.len() as u64), expected["size"].as_u64());
            } else {
                let all = fs::read(fixture("peers/keys/keyring/pgp-secret")).unwrap();
                assert!(!bytes.is_empty() && all.ends_with(&bytes), "{at}: {name}");
            }
            continue;
        }
        let bits = expected["mode"].as_str().unwrap();
        assert_eq!(format!("{:04o}", mode(&path)), bits, "{at}: {name}");
        if let Some(digest) = expected["sha256"].as_str() {
            let bytes = fs::read(&path).unwrap();
            let found = hex::encode(sha2::Sha256::digest(&bytes));
            assert_eq!(found, digest, "{at}: {name}");
        }
    }
}

// ---- export ----

#[test]
fn a_named_key_is_exported_without_a_question() {
    let sandbox = Sandbox::with_keyring();
    for name in [BOB, "0xead44fc6fccbd109", "fccbd109"] {
        let out = sandbox.ok(&["key", "export", name, "out"]);
        assert_eq!(
            out,
            format!("Public key with fingerprint {BOB} correctly exported to file: out\n")
        );
        let all = sandbox.ring("pgp-public");
        assert!(all.ends_with(&fs::read(sandbox.work().join("out")).unwrap()));
    }
    let answer = sandbox.run(&["key", "export", "12345678", "new"]);
    assert_eq!(
        (answer.exit, answer.stderr.as_str()),
        (
            10,
            "ERROR:   key export command failed: no key matching given fingerprint found\n"
        )
    );
    assert!(!sandbox.work().join("new").exists());
    for args in [&["key", "export"][..], &["key", "export", "a", "b", "c"]] {
        let answer = sandbox.run(args);
        assert_eq!(answer.exit, 1);
        assert!(
            answer.stderr.contains("accepts 1 arg(s), received "),
            "{}",
            answer.stderr
        );
    }
}

#[test]
fn a_secret_export_needs_the_passphrase() {
    let sandbox = Sandbox::with_keyring();
    fs::write(sandbox.work().join("good"), PASSPHRASE).unwrap();
    fs::write(sandbox.work().join("bad"), "wrong").unwrap();
    fs::write(sandbox.work().join("s"), "what was there").unwrap();
    let export = |file| {
        let args = [
            "key",
            "export",
            "--private",
            "--passphrase-file",
            file,
            BOB,
            "s",
        ];
        sandbox.run(&args)
    };
    let answer = export("bad");
    assert_eq!(answer.exit, 10);
    assert!(answer.stderr.contains("private key checksum failure"));
    let content = || fs::read(sandbox.work().join("s")).unwrap();
    assert_eq!(content(), b"what was there");
    let answer = export("good");
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    assert!(sandbox.ring("pgp-secret").ends_with(&content()));
    // A file that others could read becomes private.
    assert_eq!(mode(&sandbox.work().join("s")), 0o600);
}

#[test]
fn exports_into_links_pipes_and_a_file_called_minus() {
    let sandbox = Sandbox::with_keyring();
    let work = sandbox.work();
    let bob = |path: &Path| {
        sandbox
            .ring("pgp-public")
            .ends_with(&fs::read(path).unwrap())
    };
    sandbox.ok(&["key", "export", BOB, "-"]);
    assert!(bob(&work.join("-")));
    fs::write(work.join("target"), "old").unwrap();
    std::os::unix::fs::symlink("target", work.join("link")).unwrap();
    sandbox.ok(&["key", "export", BOB, "link"]);
    assert!(work.join("link").is_symlink() && bob(&work.join("target")));
    let out = sandbox.ok(&["key", "export", "--armor", BOB, "/dev/stdout"]);
    assert!(out.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"));
    let answer = sandbox.run(&["key", "export", BOB, "keys"]);
    assert_eq!(
        answer.stderr,
        "ERROR:   key export command failed: unable to create file: open keys: is a directory\n"
    );
}

// ---- remove ----

#[test]
fn removing_one_secret_key_keeps_the_others_byte_for_byte() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.keys()).unwrap();
    let names = ["ed25519", "locked", "stub", "rsa"];
    let files: Vec<Vec<u8>> = names
        .iter()
        .map(|name| fs::read(fixture(&format!("gpg/{name}.sec"))).unwrap())
        .collect();
    // Something nobody can read, between the keys.
    let odd: &[u8] = &[0xc6, 3, 3, 0, 0];
    let all = [&files[0], odd, &files[1], &files[2], &files[3]].concat();
    for (at, file) in files.iter().enumerate() {
        sandbox.put("pgp-secret", &all);
        let fingerprint = &sandbox.fingerprints(&["--secret"])[at];
        assert_eq!(sandbox.ok(&["key", "remove", "-s", fingerprint]), "");
        let start = all.windows(file.len()).position(|w| w == file).unwrap();
        let rest = [&all[..start], &all[start + file.len()..]].concat();
        assert!(sandbox.ring("pgp-secret") == rest, "{}", names[at]);
    }
}

#[test]
fn only_a_whole_id_removes_a_key() {
    let sandbox = Sandbox::with_keyring();
    let before = sandbox.ring("pgp-public");
    for name in [
        "",
        "D",
        "D01F",
        "2934D01",
        "Alice",
        "alice@example.org",
        "0",
    ] {
        let answer = sandbox.run(&["key", "remove", name]);
        assert_eq!(answer.exit, 255, "{name}");
        assert!(sandbox.ring("pgp-public") == before);
    }
}

// ---- import --merge ----

#[test]
fn without_merge_a_known_key_is_refused() {
    let sandbox = Sandbox::with_keyring();
    let file = fixture("peers/keys/pgp-one.pub.asc");
    let file = file.to_str().unwrap();
    let answer = sandbox.run(&["key", "import", file]);
    assert_eq!((answer.exit, answer.stdout.as_str()), (2, ""));
    let known = format!("the key with fingerprint {ALICE} already belongs to the keyring");
    assert!(answer.stderr.contains(&known));
    assert_eq!(
        sandbox.ok(&["key", "import", "--merge", file]),
        format!("Key with fingerprint {ALICE} unchanged in the public keyring\n")
    );
}

#[test]
fn a_secret_key_joins_its_public_half() {
    let sandbox = Sandbox::with_keyring();
    sandbox.ok(&["key", "remove", "--secret", ALICE]);
    let file = fixture("peers/keys/pgp-one.sec.asc");
    let file = file.to_str().unwrap();
    let added = format!("Key with fingerprint {ALICE} successfully added to the private keyring\n");
    assert_eq!(
        sandbox.ok(&["key", "import", "--merge", file]),
        format!("{added}Key with fingerprint {ALICE} unchanged in the public keyring\n")
    );
    assert_eq!(sandbox.fingerprints(&["--secret"]), [BOB, ALICE]);
    assert_eq!(sandbox.fingerprints(&[]), [ALICE, BOB]);
}

#[test]
fn news_that_gnupg_made_are_merged() {
    if !has("gpg") {
        return;
    }
    let sandbox = Sandbox::new();
    let generate = [
        "--quick-gen-key",
        "Gina <gina@example.org>",
        "ed25519",
        "sign,cert",
    ];
    sandbox.gpg(&generate);
    let work = sandbox.work();
    let import = |args: &[&str]| {
        let extra = ["key", "import", "--passphrase-file", "pass"];
        sandbox.ok(&[&extra[..], args].concat())
    };
    fs::write(work.join("pass"), PASSPHRASE).unwrap();
    sandbox.gpg(&["--export-secret-keys", "-o", "s.gpg", "gina"]);
    import(&["s.gpg"]);
    let fingerprint = sandbox.fingerprints(&[]).remove(0);

    sandbox.gpg(&[
        "--quick-add-uid",
        &fingerprint,
        "Gina Two <two@example.org>",
    ]);
    sandbox.gpg(&["--quick-add-key", &fingerprint, "cv25519", "encr", "1y"]);
    sandbox.gpg(&["--export", "-o", "p.gpg", "gina"]);
    let secret_before = sandbox.ring("pgp-secret");
    assert_eq!(
        import(&["--merge", "p.gpg"]),
        format!(
            "Key with fingerprint {fingerprint} merged into the private keyring\n\
             Key with fingerprint {fingerprint} merged into the public keyring\n"
        )
    );
    let key = sandbox.json(&[]).remove(0);
    assert_eq!(key["userIds"].as_array().unwrap().len(), 2);
    assert_eq!(key["subkeys"].as_array().unwrap().len(), 1);
    assert!(key["subkeys"][0]["expires"].is_number());
    let secret = sandbox.json(&["--secret"]).remove(0);
    assert_eq!(secret["userIds"].as_array().unwrap().len(), 2);
    assert!(sandbox.ring("pgp-secret").starts_with(&secret_before));
    // What GnuPG exports now and what the keyring holds are the same key.
    sandbox.ok(&["key", "export", &fingerprint, "ours.gpg"]);
    let list = |file: &str| {
        let shown = sandbox.gpg(&["--with-colons", "--show-keys", file]);
        let mut lines: Vec<String> = shown.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(list("ours.gpg"), list("p.gpg"));

    // GnuPG's revocation certificate; its colon keeps it from being used by mistake.
    let made = sandbox
        .path("gnupg")
        .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
    let certificate = fs::read_to_string(made).unwrap().replace("\n:---", "\n---");
    fs::write(work.join("revoke.asc"), certificate).unwrap();
    let answer = sandbox.run(&["key", "import", "revoke.asc"]);
    assert_eq!(answer.exit, 2, "only with --merge");
    import(&["--merge", "revoke.asc"]);
    assert_eq!(sandbox.json(&[]).remove(0)["revoked"], true);
    refuses_to_sign(&sandbox);
    // Once is enough.
    assert!(import(&["--merge", "revoke.asc"]).contains("unchanged in the public keyring"));
}

#[test]
fn a_revocation_of_an_unknown_key_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.ok(&[
        "key", "newpair", "--type", "ed25519", "-N", "a", "-E", "", "-C", "", "-P", "",
    ]);
    let fingerprint = sandbox.fingerprints(&[]).remove(0);
    let certificate = sandbox
        .keys()
        .join(format!("revocations/{fingerprint}.asc"));
    sandbox.ok(&["key", "remove", "--both", &fingerprint]);
    let answer = sandbox.run(&["key", "import", "--merge", certificate.to_str().unwrap()]);
    assert_eq!(
        (answer.exit, answer.stderr),
        (
            2,
            format!(
                "ERROR:   key import command failed: the revoked key {} is not in the keyring\n",
                &fingerprint[24..]
            )
        )
    );
}

fn refuses_to_sign(sandbox: &Sandbox) {
    let image = sandbox.work().join("u.sif");
    fs::copy(fixture("peers/native/unsigned.sif"), &image).unwrap();
    let before = fs::read(&image).unwrap();
    let answer = sandbox.run(&["sign", "--passphrase-file", "pass", "u.sif"]);
    assert_eq!(answer.exit, 255);
    assert!(
        answer
            .stderr
            .contains("openpgp: signature made by revoked key"),
        "{}",
        answer.stderr
    );
    assert!(fs::read(&image).unwrap() == before);
}

// ---- newpair, revoke, sign --fingerprint ----

fn newpair(sandbox: &Sandbox, args: &[&str]) -> Answer {
    fs::write(sandbox.work().join("pass"), PASSPHRASE).unwrap();
    let base = ["key", "newpair", "-N", "New", "-E", "n@e.org", "-C", ""];
    sandbox.run(&[&base[..], &["--passphrase-file", "pass"], args].concat())
}

#[test]
fn gnupg_uses_new_ed25519_keys() {
    if !has("gpg") {
        return;
    }
    let sandbox = Sandbox::new();
    let answer = newpair(&sandbox, &["--type", "ed25519", "--expires", "2050-01-01"]);
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    let fingerprint = sandbox.fingerprints(&[]).remove(0);
    let certificate = format!("revocations/{fingerprint}.asc");
    assert_eq!(
        answer.stderr,
        format!(
            "INFO:    Revocation certificate stored in {}\n",
            sandbox.keys().join(&certificate).display()
        )
    );
    assert_eq!(mode(&sandbox.keys().join("revocations")), 0o700);
    assert_eq!(mode(&sandbox.keys().join(&certificate)), 0o600);

    for armor in ["--armor=true", "--armor=false"] {
        sandbox.ok(&["key", "export", armor, &fingerprint, "p"]);
        let secret = ["key", "export", "-s", armor, "--passphrase-file", "pass"];
        sandbox.ok(&[&secret[..], &[&fingerprint, "s"]].concat());
        sandbox.gpg(&["--import", "p"]);
        sandbox.gpg(&["--import", "s"]);
    }
    let listed = sandbox.gpg(&["--with-colons", "--list-secret-keys"]);
    let primary: Vec<&str> = listed.lines().next().unwrap().split(':').collect();
    // Algorithm 22, end on 1 January 2050, uses.
    assert_eq!((primary[3], primary[6]), ("22", "2524608000"));
    assert_eq!(primary[11].to_lowercase(), "scesc");
    fs::write(sandbox.work().join("text"), "hello\n").unwrap();
    sandbox.gpg(&["--clear-sign", "text"]);
    sandbox.gpg(&["--verify", "text.asc"]);
    sandbox.gpg(&["--trust-model", "always", "-r", "n@e.org", "-e", "text"]);
    assert_eq!(sandbox.gpg(&["--decrypt", "text.gpg"]), "hello\n");

    // And this program: both secret parts are locked, the image verifies.
    let secret = sandbox.json(&["--secret"]).remove(0);
    assert_eq!(
        (&secret["secret"], &secret["subkeys"][0]["secret"]),
        (&Value::from("encrypted"), &Value::from("encrypted"))
    );
    fs::copy(
        fixture("peers/native/unsigned.sif"),
        sandbox.work().join("i.sif"),
    )
    .unwrap();
    let short = fingerprint[32..].to_lowercase();
    sandbox.ok(&[
        "sign",
        "--passphrase-file",
        "pass",
        "--fingerprint",
        &short,
        "i.sif",
    ]);
    sandbox.ok(&["verify", "--local", "i.sif"]);

    // The stored certificate, as it is, works in GnuPG and here.
    sandbox.gpg(&[
        "--import",
        sandbox.keys().join(&certificate).to_str().unwrap(),
    ]);
    let listed = sandbox.gpg(&["--with-colons", "--list-keys"]);
    assert!(
        listed.lines().any(|line| line.starts_with("pub:r:")),
        "{listed}"
    );
    let file = sandbox.keys().join(&certificate);
    sandbox.ok(&["key", "import", "--merge", file.to_str().unwrap()]);
    refuses_to_sign(&sandbox);
    let answer = sandbox.run(&["verify", "--local", "i.sif"]);
    assert_eq!(answer.exit, 255);
    assert!(
        answer
            .stderr
            .contains("openpgp: signature made by revoked key")
    );
}

#[test]
fn a_revoked_key_is_refused_everywhere() {
    let sandbox = Sandbox::with_keyring();
    let others = |file: &str| {
        let bob = fs::read(fixture("peers/keys/keyring").join(file)).unwrap();
        let all = sandbox.ring(file);
        all[all.len() - 100..] == bob[bob.len() - 100..]
    };
    fs::copy(
        fixture("peers/native/pgp-one.sif"),
        sandbox.work().join("i.sif"),
    )
    .unwrap();
    sandbox.ok(&["verify", "--local", "i.sif"]);
    let args = [
        "key",
        "revoke",
        "--reason",
        "compromised",
        "--comment",
        "lost é",
    ];
    let answer = sandbox.run(&[&args[..], &["0x2934D01F"]].concat());
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    assert_eq!(
        answer.stdout,
        format!("Key with fingerprint {ALICE} revoked\n")
    );
    assert!(others("pgp-public") && others("pgp-secret"));
    let answer = sandbox.run(&["verify", "--local", "i.sif"]);
    assert_eq!(answer.exit, 255);
    assert!(
        answer
            .stderr
            .contains("openpgp: signature made by revoked key"),
        "{}",
        answer.stderr
    );
    let answer = sandbox.run(&["sign", "--keyidx", "0", "i.sif"]);
    assert!(
        answer.stderr.contains("signature made by revoked key"),
        "{}",
        answer.stderr
    );
    let answer = sandbox.run(&["key", "revoke", ALICE]);
    assert_eq!(
        (answer.exit, answer.stderr),
        (
            255,
            format!("FATAL:   Unable to revoke key: key {ALICE} is already revoked\n")
        )
    );
    // A locked key asks for its passphrase, once.
    let answer = sandbox.run_with(&["key", "revoke", BOB], "wrong\n");
    assert_eq!(answer.exit, 255);
    assert_eq!(answer.stdout, "Enter key passphrase : \n");
    if has("gpg") {
        sandbox.ok(&["key", "export", ALICE, "r.gpg"]);
        sandbox.gpg(&["--import", "r.gpg"]);
        let listed = sandbox.gpg(&["--with-colons", "--list-keys"]);
        assert!(
            listed.lines().any(|line| line.starts_with("pub:r:")),
            "{listed}"
        );
    }
}

#[test]
fn bad_combinations_are_usage_errors() {
    let sandbox = Sandbox::with_keyring();
    for args in [
        &["sign", "--fingerprint", BOB, "--keyidx", "0", "x"][..],
        &["sign", "--fingerprint", BOB, "--key", "k", "x"],
        &[
            "key",
            "newpair",
            "--type",
            "rsa4096",
            "--bit-length",
            "4096",
        ],
        &["key", "newpair", "--type", "dsa"],
        &["key", "newpair", "--expires", "soon"],
        &["key", "revoke", "--reason", "bored", BOB],
        &["key", "revoke"],
        &["key", "remove"],
    ] {
        let answer = sandbox.run(args);
        assert_eq!(answer.exit, 1, "{args:?}: {}", answer.stderr);
    }
    let answer = sandbox.run(&["sign", "--fingerprint", "12345678", "nothing.sif"]);
    assert_eq!(answer.exit, 255);
    let answer = newpair(&sandbox, &["--type", "ed25519", "--expires", "2001-01-01"]);
    assert_eq!(answer.exit, 2);
    assert!(
        answer
            .stderr
            .contains("the key would expire before it is made")
    );
}

// ---- keys that GnuPG made ----

#[test]
fn tells_of_keys_what_gnupg_tells() {
    if !has("gpg") {
        return;
    }
    for name in [
        "ed25519", "p256", "p384", "p521", "dsa", "rsa", "expired", "revoked", "subkey", "oldsub",
        "revsub", "uids", "revuid", "authonly",
    ] {
        let sandbox = Sandbox::new();
        let file = fixture(&format!("gpg/{name}.pub"));
        let file = file.to_str().unwrap();
        sandbox.ok(&["key", "import", file]);
        sandbox.gpg(&["--import", file]);
        let listed = sandbox.gpg(&["--with-colons", "--fixed-list-mode", "--list-keys"]);
        let mut expected = Vec::new();
        for line in listed.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            match fields[0] {
                "pub" | "sub" => expected.push((
                    fields[4].to_owned(),
                    fields[5].parse::<u64>().unwrap(),
                    fields[6].parse::<u64>().ok(),
                    fields[1] == "r",
                    String::new(),
                )),
                "fpr" => fields[9].clone_into(&mut expected.last_mut().unwrap().4),
                _ => {}
            }
        }
        let key = sandbox.json(&[]).remove(0);
        let subkeys = key["subkeys"].as_array().unwrap().clone();
        let ours: Vec<_> = [&key]
            .into_iter()
            .chain(&subkeys)
            .map(|key| {
                (
                    text(&key["keyId"]),
                    key["created"].as_u64().unwrap(),
                    key["expires"].as_u64(),
                    key["revoked"].as_bool().unwrap(),
                    text(&key["fingerprint"]),
                )
            })
            .collect();
        assert_eq!(ours, expected, "{name}");
    }
}

/// With the checksum line and the last line end that GnuPG 2.2 needs: without either it reads past
/// the end of a block whose base64 has no padding. RFC 9580, 6.1, makes the line optional, and the
/// originals leave it out.
fn with_checksum(message: &str) -> String {
    const END: &str = "-----END PGP SIGNATURE-----";
    let (_, block) = message.split_once("-----BEGIN PGP SIGNATURE-----").unwrap();
    let body: String = block.replace(END, "").split_ascii_whitespace().collect();
    let crc = BASE64_STANDARD
        .decode(body)
        .unwrap()
        .iter()
        .fold(0x00b7_04ce_u32, |crc, byte| {
            (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
                let shifted = crc << 1;
                if shifted & 0x0100_0000 == 0 {
                    shifted
                } else {
                    shifted ^ 0x0186_4cfb
                }
            })
        });
    let line = BASE64_STANDARD.encode(&crc.to_be_bytes()[1..]);
    format!("{}\n", message.replace(END, &format!("={line}\n{END}")))
}

#[test]
fn keys_of_gnupg_go_in_and_out() {
    if !has("gpg") {
        return;
    }
    for (name, state, signs) in [
        ("ed25519", "clear", true),
        ("p256", "clear", true),
        ("p384", "clear", true),
        ("p521", "clear", true),
        ("dsa", "clear", true),
        ("rsa", "clear", true),
        ("locked", "encrypted", true),
        ("lockedec", "encrypted", true),
        // The primary key only certifies.
        ("subkey", "clear", false),
        ("stub", "stub", false),
        ("authonly", "clear", false),
        ("expired", "clear", false),
        ("revoked", "clear", false),
    ] {
        let sandbox = Sandbox::new();
        fs::write(sandbox.work().join("pass"), PASSPHRASE).unwrap();
        let file = fixture(&format!("gpg/{name}.sec"));
        let import = ["key", "import", "--passphrase-file", "pass"];
        sandbox.ok(&[&import[..], &[file.to_str().unwrap()]].concat());
        let key = sandbox.json(&["-s"]).remove(0);
        assert_eq!(key["secret"], state, "{name}");
        assert_eq!(key["canSign"], signs, "{name}");
        let fingerprint = text(&key["fingerprint"]);
        for (armor, export) in [(false, "bin"), (true, "asc")] {
            let armor = if armor { "-a=true" } else { "-a=false" };
            let args = [
                "key",
                "export",
                "--secret",
                armor,
                "--passphrase-file",
                "pass",
            ];
            sandbox.ok(&[&args[..], &[&fingerprint, export]].concat());
            sandbox.gpg(&["--import", export]);
        }
        let held = sandbox.gpg(&["--with-colons", "--list-secret-keys"]);
        assert!(held.contains(&fingerprint), "{name}: {held}");

        fs::copy(
            fixture("peers/native/unsigned.sif"),
            sandbox.work().join("i.sif"),
        )
        .unwrap();
        let sign = ["sign", "--passphrase-file", "pass", "--fingerprint"];
        let answer = sandbox.run(&[&sign[..], &[&fingerprint, "i.sif"]].concat());
        assert_eq!(answer.exit == 0, signs, "{name}: {}", answer.stderr);
        if signs {
            sandbox.ok(&["verify", "--local", "i.sif"]);
            // GnuPG agrees about the signature object.
            let number = sandbox.ok(&["sif", "list", "i.sif"]);
            let number = number
                .lines()
                .last()
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap();
            let signature = sandbox.ok(&["sif", "dump", number, "i.sif"]);
            let signature = with_checksum(&signature);
            fs::write(sandbox.work().join("signature.asc"), signature).unwrap();
            sandbox.gpg(&["--verify", "signature.asc"]);
        }
    }
    // Photos and several user ids.
    let sandbox = Sandbox::new();
    let file = fixture("gpg/uids.pub");
    sandbox.ok(&["key", "import", file.to_str().unwrap()]);
    let fingerprint = sandbox.fingerprints(&[]).remove(0);
    sandbox.ok(&["key", "export", "-a", &fingerprint, "out"]);
    let shown = |file: &str| sandbox.gpg(&["--with-colons", "--show-keys", file]);
    assert_eq!(shown("out"), shown(file.to_str().unwrap()));
    assert!(shown("out").contains("\nuat:"));
}

// ---- interruption and crowds ----

#[test]
fn a_kill_leaves_the_old_or_the_new_keyring() {
    if !has("strace") {
        return;
    }
    let one = fixture("gpg/ed25519.sec");
    let one = one.to_str().unwrap();
    let news = fixture("gpg/rsa.pub");
    let news = news.to_str().unwrap();
    let cases: [&[&str]; 5] = [
        &["key", "remove", "--secret", ALICE],
        &["key", "remove", "--both", ALICE],
        &["key", "import", one],
        &["key", "import", "--merge", news],
        &["key", "revoke", ALICE],
    ];
    for args in cases {
        let sandbox = Sandbox::with_keyring();
        let files = ["pgp-public", "pgp-secret"];
        let old = files.map(|file| sandbox.ring(file));
        sandbox.ok(args);
        let new = files.map(|file| sandbox.ring(file));
        let (mut when, mut kept, mut changed) = (1, 0, 0);
        loop {
            sandbox.restore();
            let inject = format!(
                "inject=openat,write,fchmod,fsync,rename,renameat,renameat2,flock:signal=SIGKILL:when={when}"
            );
            let mut strace =
                sandbox.command("strace", &["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
            let status = strace
                .arg(env!("CARGO_BIN_EXE_sigsif"))
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            for (at, file) in files.iter().enumerate() {
                let found = sandbox.ring(file);
                if found == old[at] {
                    kept += 1;
                    continue;
                }
                changed += 1;
                // A revocation carries its time: only its place can be foretold.
                let same = found == new[at]
                    || (args[1] == "revoke" && found.len().abs_diff(new[at].len()) <= 2);
                assert!(same, "{args:?}, kill {when}: {file}");
            }
            sandbox.ok(&["key", "list"]);
            sandbox.ok(&["key", "list", "--secret"]);
            if status.success() {
                break;
            }
            // What was cut short can be finished, or is done.
            if args[1] == "revoke" {
                let again = sandbox.run(args);
                assert!(
                    again.exit == 0 || again.stderr.contains("already revoked"),
                    "kill {when}: {}",
                    again.stderr
                );
                for list in [&["-s"][..], &[]] {
                    assert_eq!(sandbox.json(list)[0]["revoked"], true, "kill {when}");
                }
            }
            when += 1;
            assert!(when < 500, "never ends");
        }
        assert!(
            when > 10 && kept > 10 && changed > 0,
            "{args:?}: {when} {kept} {changed}"
        );
    }
}

#[test]
fn sixteen_at_once_lose_nothing() {
    let sandbox = Sandbox::new();
    let names = [
        "ed25519", "p256", "p384", "p521", "dsa", "rsa", "revoked", "subkey", "oldsub", "revsub",
        "uids", "revuid", "authonly", "later", "sha1self", "expired",
    ];
    let all_at_once = |calls: Vec<Vec<String>>| {
        let children: Vec<_> = calls
            .iter()
            .map(|args| {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                sandbox
                    .command(env!("CARGO_BIN_EXE_sigsif"), &args)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in children {
            let answer = Answer::of(child.wait_with_output().unwrap());
            assert_eq!(answer.exit, 0, "{}", answer.stderr);
        }
    };
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let import = |name: &&str| {
        let file = fixture(&format!("gpg/{name}.pub"));
        words(&["key", "import", file.to_str().unwrap()])
    };
    all_at_once(names.iter().map(import).collect());
    let mut found = sandbox.fingerprints(&[]);
    assert_eq!(found.len(), 16);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 16);
    // Half of them go while strangers come.
    let (go, stay) = found.split_at(8);
    let mut calls: Vec<_> = go
        .iter()
        .map(|fingerprint| words(&["key", "remove", fingerprint]))
        .collect();
    for name in ["newed25519", "newed448", "v6", "md5self"] {
        let mut import = import(&name);
        if name == "md5self" {
            // No usable key in it: nothing comes of it.
            import = words(&["key", "list"]);
        }
        calls.push(import);
    }
    all_at_once(calls);
    let left = sandbox.fingerprints(&[]);
    assert_eq!(left.len(), 11);
    assert!(stay.iter().all(|fingerprint| left.contains(fingerprint)));
    assert!(go.iter().all(|fingerprint| !left.contains(fingerprint)));
    all_at_once(
        left.iter()
            .map(|fingerprint| words(&["key", "remove", fingerprint]))
            .collect(),
    );
    assert!(sandbox.ring("pgp-public").is_empty());
}
