//! `cli/cli.jsonl`: scenarios of sign, verify and key.

use super::common::called::Called;
use super::common::fixtures;
use super::common::program::{Answer, Call, Input, Sandbox, run, run_as};
use super::common::terminal::{Kind, Terminal};
use super::judge::{Judge, on_all_cores};
use super::record::{self, Record};
use super::wording;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Scenarios that are replayed.
const REPLAYED: &[&str] = &[
    "sign-select-index-zero",
    "sign-passphrase-typed",
    "sign-keyidx-passphrase-pipe",
    "sign-selection-errors",
    "sign-empty-keyring",
    "sign-ids",
    "sign-pem",
    "sign-pem-kinds",
    "usage-errors",
    "verify-levels",
    "verify-local-errors",
    "verify-certificate",
    "keyring-modes",
    "key-newpair-questions",
    "key-newpair-errors",
    "key-import",
    "key-import-armor-first-block-only",
    "key-import-new-password",
    "key-export-empty",
    "key-global",
    "keysdir-and-env",
];

/// Scenarios that other tests replay: `tests/keys.rs`, `tests/net` and `tests/remote`.
const ELSEWHERE: &[&str] = &[
    "key-export",
    "key-remove",
    "key-remove-secret-destroys-others",
    "key-search",
    "key-search-odd-answers",
    "keyserver-http-errors",
    "verify-keyserver-errors",
    "key-pull",
    "key-push",
    "key-newpair-push",
    "keyserver-fall-through",
    "verify-url",
    "exclusive-url",
    "keyserver-add-remove",
    "keyserver-login",
    "remote-add-list-use",
    "remote-global",
    "remote-login-status",
    "registry-login",
];

#[test]
fn cli_scenarios_answer_as_recorded() {
    replay_all(Called::Sigsif);
}

#[test]
fn called_singularity_it_answers_as_by_its_own_name() {
    replay_all(Called::Singularity);
}

#[test]
fn called_apptainer_it_answers_word_for_word() {
    replay_all(Called::Apptainer);
}

fn replay_all(called: Called) {
    let judge = Judge::of("cli", called);
    let mut scenarios: Vec<Vec<Record>> = Vec::new();
    for json in record::read(&fixtures::peers().join("cli/cli.jsonl")) {
        let record = Record::new(json, |json| {
            format!("{} {}", record::text(&json["scenario"]), json["step"])
        });
        match scenarios.last_mut() {
            Some(steps) if steps[0].scenario() == record.scenario() => steps.push(record),
            _ => scenarios.push(vec![record]),
        }
    }
    for steps in &scenarios {
        let name = steps[0].scenario();
        assert!(
            REPLAYED.contains(&name) != ELSEWHERE.contains(&name),
            "scenario {name} must stand in one of the two lists"
        );
    }
    assert_eq!(scenarios.len(), REPLAYED.len() + ELSEWHERE.len());
    scenarios.retain(|steps| REPLAYED.contains(&steps[0].scenario()));
    on_all_cores(&scenarios, |steps| replay(&judge, steps, called));
    judge.finish();
}

fn replay(judge: &Judge, steps: &[Record], called: Called) {
    let sandbox = Sandbox::new();
    set_up(&sandbox, &steps[0]);
    for step in steps {
        let done_by_hand = by_hand(&sandbox, step);
        if !step.json["before"].is_null() && !done_by_hand {
            judge.fault(step, "nobody does what 'before' asks for");
        }
        play(judge, &sandbox, step, called);
    }
}

fn play(judge: &Judge, sandbox: &Sandbox, step: &Record, called: Called) {
    let call = judge.prepared(step);
    let piped = record::text(&step.json["stdin"]);
    let input = match step.json["tty_kind"].as_str() {
        Some(kind) => Input::Terminal(Terminal {
            kind: if kind == "all" {
                Kind::All
            } else {
                Kind::Stdin
            },
            typed: &call.typed,
        }),
        None if piped.is_empty() => Input::Empty,
        None => Input::Pipe(&piped),
    };
    let newpair = step
        .argv
        .starts_with(&["key".to_owned(), "newpair".to_owned()]);
    let mut args = step.argv.clone();
    if newpair && step.exit != 1 && called != Called::Apptainer {
        // SingularityCE asks whether to publish the key, Apptainer does not.
        args.push("--push=false".to_owned());
    }
    let call = Call {
        args: &args,
        folder: &sandbox.work(),
        env: &environment(sandbox, step, called),
        input,
    };
    let mut answer = match called {
        Called::Sigsif => run(&call),
        other => run_as(&sandbox.link(other.name()), &call),
    };
    let places = [(sandbox.work(), "$DIR"), (sandbox.system(), "$SYS")];
    for (folder, name) in &places {
        let folder = folder.to_str().expect("UTF-8 path");
        answer.stderr = answer.stderr.replace(folder, name);
        if let Ok(text) = std::str::from_utf8(&answer.stdout) {
            answer.stdout = text.replace(folder, name).into_bytes();
        }
    }
    if newpair && step.exit != 1 {
        without_additions(judge, step, &mut answer, called);
    }
    judge.compare(step, &answer, |text| {
        let text = wording::mask_signature_positions(text);
        let text = wording::mask_current_time(&text);
        match step.scenario().starts_with("key-newpair") {
            true => wording::mask_fingerprints(&text),
            false => text,
        }
    });
    for (name, wanted) in &step.files {
        let path = match name.strip_prefix("$SYS/") {
            Some(rest) => sandbox.system().join(rest),
            None => sandbox.work().join(name),
        };
        if let Err(fault) = check_file(&path, wanted, step) {
            judge.fault(step, &format!("{name}: {fault}"));
        }
    }
}

fn set_up(sandbox: &Sandbox, first: &Record) {
    let setup = &first.json["setup"];
    match record::text(&setup["keyring"]).as_str() {
        "none" => {}
        "public" => fixtures::keyring(&sandbox.keys(), &["pgp-public"]),
        "public and secret" => fixtures::keyring(&sandbox.keys(), &["pgp-public", "pgp-secret"]),
        other => panic!("unknown keyring {other:?}"),
    }
    for file in record::array(&setup["files"]) {
        take(sandbox, &record::text(file).replace("oci-keys/", "oci/"));
    }
}

/// Copies a file of the peers into the working folder.
fn take(sandbox: &Sandbox, file: &str) {
    let name = file.rsplit('/').next().unwrap_or(file);
    fixtures::copy(&fixtures::peers().join(file), &sandbox.work().join(name));
}

/// Does what the record's `before` tells.
fn by_hand(sandbox: &Sandbox, step: &Record) -> bool {
    let work = sandbox.work();
    let put = |name: &str, bytes: &[u8]| fs::write(work.join(name), bytes).expect(name);
    let fixture = |name: &str| fs::read(fixtures::peers().join(name)).expect(name);
    let both = || {
        let mut both = fixture("keys/pgp-one.pub.asc");
        both.extend(fixture("keys/pgp-two.pub.asc"));
        both
    };
    match (step.scenario(), step.step()) {
        ("sign-pem-kinds", 1) => {
            for (name, made) in [
                ("ec.pem", "p256.sec1.key"),
                ("p8e.pem", "p256.pbes2-default.key"),
                ("k1.pem", "secp256k1.sec1.key"),
            ] {
                fixtures::copy(&fixtures::openssl().join(made), &work.join(name));
            }
            put("empty.pem", b"x");
        }
        ("verify-local-errors", 7) => put("text", b"hello"),
        ("keyring-modes", 1) => {
            fixtures::mode(&sandbox.keys(), 0o755);
            fixtures::mode(&sandbox.keys().join("pgp-public"), 0o644);
        }
        ("keyring-modes", 2) => {
            put("keys/pgp-public", &fixture("keys/pgp-one.pub.asc"));
            fixtures::mode(&sandbox.keys().join("pgp-public"), 0o600);
        }
        // Here the pipe of the step before made a key; there it did not.
        ("key-newpair-errors", 7) => fs::remove_dir_all(sandbox.keys()).expect("keyring"),
        ("key-newpair-errors", 10) => take(sandbox, "native/unsigned.sif"),
        ("key-import", 1) => {
            for name in ["pgp-one.pub", "pgp-one.sec", "pgp-two.pub", "pgp-two.sec"] {
                take(sandbox, &format!("keys/{name}.asc"));
            }
            put("both.asc", &both());
            put("junk", b"hello");
            put("empty", b"");
        }
        ("key-import-armor-first-block-only", 1) => {
            put("both.asc", &both());
            put("both.gpg", &fixture("keys/keyring/pgp-public"));
        }
        // 'key remove' took away the only key.
        ("key-import-armor-first-block-only", 5) => put("keys/pgp-public", b""),
        ("key-import-new-password", 1) => {
            take(sandbox, "keys/pgp-one.sec.asc");
            take(sandbox, "keys/pgp-two.sec.asc");
        }
        ("key-global", 1) => {
            take(sandbox, "keys/pgp-one.pub.asc");
            take(sandbox, "keys/pgp-one.sec.asc");
            take(sandbox, "native/pgp-one.sif");
        }
        _ => return false,
    }
    true
}

/// Takes away what SingularityCE and this program print behind Apptainer's
/// answer when a key was made: that it is not published, and where its
/// revocation certificate is. Both must be there then, and only then.
fn without_additions(judge: &Judge, step: &Record, answer: &mut Answer, called: Called) {
    const NOT_PUSHED: &str = "NOT pushing newly created key to keystore\n";
    const STORED: &str = "INFO:    Revocation certificate stored in $DIR/keys/revocations/";
    let stdout = String::from_utf8_lossy(&answer.stdout).into_owned();
    let stderr: Vec<_> = answer.stderr.split_inclusive('\n').collect();
    let (stored, rest): (Vec<_>, Vec<_>) = stderr
        .into_iter()
        .partition(|line| line.starts_with(STORED));
    let made = answer.exit == 0;
    let says_so = made && called != Called::Apptainer;
    if (stored.len() == 1) != made || stdout.ends_with(NOT_PUSHED) != says_so {
        judge.fault(step, "the lines about publishing and revocation are wrong");
    }
    answer.stderr = rest.concat();
    answer.stdout = stdout.replace(NOT_PUSHED, "").into_bytes();
}

/// The recorded variables under their names here.
fn environment(sandbox: &Sandbox, step: &Record, called: Called) -> Vec<(String, String)> {
    let mut env = sandbox.env();
    let recorded = step.json["env"].as_object().cloned().unwrap_or_default();
    for (name, _) in env.iter_mut() {
        let theirs = match (called, name.as_str()) {
            (Called::Apptainer, "SINGULARITY_CONFIGDIR") => "APPTAINER_CONFIGDIR",
            (Called::Apptainer, "SIGSIF_KEYSDIR") => "APPTAINER_KEYSDIR",
            _ => continue,
        };
        *name = theirs.to_owned();
    }
    for (name, value) in &recorded {
        let name = match name.strip_prefix("APPTAINER_") {
            _ if called == Called::Apptainer => name.clone(),

            Some("KEYSDIR") => "SIGSIF_KEYSDIR".to_owned(),
            // Apptainer's own name wins over the common one, as ours does.
            Some(rest) if recorded.contains_key(&format!("SINGULARITY_{rest}")) => {
                format!("SIGSIF_{rest}")
            }
            Some(rest) => format!("SINGULARITY_{rest}"),
            None => name.clone(),
        };
        env.retain(|(known, _)| *known != name);
        if let Some(value) = value.as_str() {
            let work = sandbox.work();
            let folder = work.to_str().expect("UTF-8 path");
            env.push((name, value.replace("$DIR", folder)));
        }
    }
    // New keys get the recorded time, so that listings can be compared.
    let made = match (step.scenario(), step.step()) {
        ("key-newpair-questions", 1) => "1795342924",
        ("key-newpair-questions", 2) => "1795342925",
        ("key-newpair-errors", 8 | 9) => "1795342928",
        _ => return env,
    };
    env.push(("SOURCE_DATE_EPOCH".to_owned(), made.to_owned()));
    env
}

/// Compares a file with what was recorded: the mode always, the content where
/// it is the same in every run.
fn check_file(path: &Path, wanted: &serde_json::Value, step: &Record) -> Result<(), String> {
    let data = fs::symlink_metadata(path).map_err(|e| e.to_string())?;
    let mode = format!("{:04o}", data.permissions().mode() & 0o7777);
    if wanted["mode"] != *mode {
        return Err(format!("mode {mode}, not {}", wanted["mode"]));
    }
    if wanted["dir"].as_bool().unwrap_or(false) {
        return match data.is_dir() {
            true => Ok(()),
            false => Err("no folder".to_owned()),
        };
    }
    // Secret keys are encrypted anew; generated keys are new.
    let secret = path.ends_with("pgp-secret") && wanted["size"] != 0;
    if secret || step.scenario().starts_with("key-newpair") {
        return match data.len() {
            0 => Err("empty".to_owned()),
            _ => Ok(()),
        };
    }
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let sum = hex::encode(Sha256::digest(&bytes));
    match wanted["sha256"] == *sum {
        true => Ok(()),
        false => Err(format!("{} bytes, sha256 {sum}, not {wanted}", bytes.len())),
    }
}
