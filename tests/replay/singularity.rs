//! `singularity/calls.jsonl`: answers of SingularityCE 4.5.1, word for word.

use super::common::called::Called;
use super::common::fixtures;
use super::common::program::{Call, Input, Sandbox, run_as};
use super::judge::{Judge, on_all_cores};
use super::record::{self, Record};
use super::server::{Server, answer};
use super::wording;
use std::fs;

/// The administrator's endpoints when the calls were recorded (`make.py`).
const REMOTES: &str = "Active: SylabsCloud\nRemotes:\n  SylabsCloud:\n    URI: cloud.sylabs.io\n    \
    System: true\n    Keyservers:\n    - URI: https://keys.sylabs.io\n";

/// Key one, which the server knows.
const ONE: &str = "31359731d5c34c90c977aaf822cc73292934d01f";

#[test]
fn called_singularity_it_answers_as_singularity_did() {
    replay_all(Called::Singularity);
}

#[test]
fn called_by_its_own_name_it_answers_as_singularity_did() {
    replay_all(Called::Sigsif);
}

fn replay_all(called: Called) {
    let judge = Judge::of("singularity", called);
    let mut scenarios: Vec<Vec<Record>> = Vec::new();
    for json in record::read(&fixtures::peers().join("singularity/calls.jsonl")) {
        let name = |json: &serde_json::Value| {
            format!("{} {}", record::text(&json["scenario"]), json["step"])
        };
        let record = Record::new(json, name).of_singularity();
        match scenarios.last_mut() {
            Some(steps) if steps[0].scenario() == record.scenario() => steps.push(record),
            _ => scenarios.push(vec![record]),
        }
    }
    assert_eq!(scenarios.len(), 15);
    if !rustix::process::getuid().is_root() {
        eprintln!("not root: what the administrator does is not tested");
        return;
    }
    on_all_cores(&scenarios, |steps| replay(&judge, steps, called));
    judge.finish();
}

fn replay(judge: &Judge, steps: &[Record], called: Called) {
    let sandbox = Sandbox::new();
    fs::write(sandbox.system().join("remote.yaml"), REMOTES).expect("endpoints");
    let setup = &steps[0].json["setup"];
    match record::text(&setup["keyring"]).as_str() {
        "none" => {}
        "public" => fixtures::keyring(&sandbox.keys(), &["pgp-public"]),
        "public and secret" => fixtures::keyring(&sandbox.keys(), &["pgp-public", "pgp-secret"]),
        other => panic!("unknown keyring {other:?}"),
    }
    for file in record::array(&setup["files"]) {
        let file = record::text(file);
        let name = file.rsplit('/').next().unwrap_or(&file);
        fixtures::copy(&fixtures::peers().join(&file), &sandbox.work().join(name));
    }
    // Tables are as wide as the recorded ones with a port of as many digits.
    let server = std::iter::repeat_with(key_server)
        .take(100)
        .find(|server| server.port > 9999)
        .expect("a port of five digits");
    let port = server.port.to_string();
    let (work, system) = (sandbox.work(), sandbox.system());
    let places = [
        (system.to_str().expect("UTF-8 path"), "$SYS"),
        (work.to_str().expect("UTF-8 path"), "$DIR"),
    ];
    let real = |text: &str| {
        let text = text.replace("$PORT", &port);
        let place = |text: String, (path, name): &(&str, &str)| text.replace(name, path);
        places.iter().fold(text, place)
    };
    let shown = |text: &str| {
        let text = text.replace(&format!(":{port}"), ":$PORT");
        let place = |text: String, (path, name): &(&str, &str)| text.replace(path, name);
        places.iter().fold(text, place)
    };
    for step in steps {
        let mut env = sandbox.env();
        for (name, _) in &mut env {
            match name.as_str() {
                "SINGULARITY_CONFIGDIR" => *name = called.config().to_owned(),
                "SIGSIF_KEYSDIR" => *name = called.keys().to_owned(),
                _ => {}
            }
        }
        for (name, value) in step.json["env"].as_object().into_iter().flatten() {
            let name = match name.as_str() {
                "SINGULARITY_SYPGPDIR" => called.keys().to_owned(),
                name => name.replace("SINGULARITY_", called.prefix()),
            };
            env.retain(|(known, _)| *known != name);
            env.push((name, real(&record::text(value))));
        }
        let args: Vec<String> = step.argv.iter().map(|arg| real(arg)).collect();
        let piped = record::text(&step.json["stdin"]);
        let call = Call {
            args: &args,
            folder: &work,
            env: &env,
            input: if piped.is_empty() {
                Input::Empty
            } else {
                Input::Pipe(&piped)
            },
        };
        let mut found = run_as(&called.program(&work.join("bin")), &call);
        found.stderr = without_additions(&shown(&found.stderr));
        if let Ok(text) = std::str::from_utf8(&found.stdout) {
            found.stdout = shown(text).into_bytes();
        }
        let is_help = step.exit == 0 && step.names("bogus");
        if is_help {
            // The help is our own.
            let text = String::from_utf8_lossy(&found.stdout).into_owned();
            let usage = format!("\nUsage: {} sif", called.name());
            if found.exit != 0 || !text.contains(&usage) {
                judge.fault(step, &text);
            }
            continue;
        }
        judge.compare(step, &found, |text| {
            let text = wording::mask_signature_positions(text);
            match step.scenario() {
                "sif-change" => wording::mask_image(&text),
                _ => text,
            }
        });
    }
}

/// What this program says besides.
fn without_additions(stderr: &str) -> String {
    let lines = stderr.split_inclusive('\n');
    let ours = "INFO:    Revocation certificate stored in $DIR/keys/revocations/";
    lines.filter(|line| !line.starts_with(ours)).collect()
}

/// As in `make.py`: knows key one, and is a registry that asks for a login.
fn key_server() -> Server {
    let key = fs::read(fixtures::peers().join("keys/pgp-one.pub.asc")).expect("key one");
    Server::http(move |seen, out| {
        let path = seen.path.to_lowercase();
        let known = path.contains(&ONE[24..]) || path.contains("alice");
        let reply = match path.as_str() {
            _ if seen.method == "POST" => answer(200, &[], ""),
            "/" => answer(200, &[], "hi"),
            "/v2/" if seen.header("authorization").is_none() => {
                answer(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], "")
            }
            "/v2/" => answer(200, &[], "{}"),
            path if !path.starts_with("/pks/lookup") || !known => answer(404, &[], "not found"),
            path if path.contains("op=index") => answer(
                200,
                &[("Content-Type", "text/plain")],
                format!(
                    "info:1:1\r\npub:{}:1:4096:1795339157::\r\n\
                     uid:Alice%20Builder%20(fixture)%20<alice@example.org>:1795339157::\r\n",
                    ONE.to_uppercase()
                ),
            ),
            _ => answer(200, &[("Content-Type", "application/pgp-keys")], &key),
        };
        out.write_all(&reply)
    })
}
