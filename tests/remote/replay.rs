//! Replays recorded sessions of Apptainer 1.4.5.
//!
//! Exit codes, files and requests are compared exactly; texts word for word under
//! the name `apptainer`, else after putting SingularityCE's words in the place of Apptainer's ([`in_their_words`]). What is
//! decided otherwise stands in [`decided`], with the reason.

use crate::called::Called;
use crate::lab::{Lab, Seen, cloud, is_root, mode, registry};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn fixture(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/peers")
        .join(path)
}

/// What differs from the recording.
struct Decided {
    code: i64,
    stdout: String,
    stderr: String,
}

fn decided(scenario: &str, step: u64, called: Called) -> Option<Decided> {
    let says = |code, stdout: &str, stderr: &str| {
        Some(Decided {
            code,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        })
    };
    const SERVICES: &str = "SERVICE    STATUS  VERSION  URI\n\
        Keyserver  OK      v1.2.3   https://cloud.lab.test/keystore\n\
        Library    OK      v1.2.3   https://cloud.lab.test/library\n\
        Token      OK      v1.2.3   https://cloud.lab.test/token\n";
    let theirs = called == Called::Apptainer;
    match (scenario, step) {
        // What SingularityCE says in other words.
        ("keyserver-login", 5 | 6) | ("remote-login-status", 21 | 22) if theirs => None,
        // An allowed --url is asked; the originals forget the server (bug).
        ("exclusive-url", 1) => says(
            0,
            "[REMOTE]           Signing entity: Alice Builder (fixture) <alice@example.org>\n\
             [REMOTE]           Fingerprint: 31359731D5C34C90C977AAF822CC73292934D01F\n\
             Objects verified:\nID  |GROUP   |LINK    |TYPE\n\
             ------------------------------------------------\n\
             1   |1       |NONE    |Def.FILE\n2   |1       |NONE    |JSON.Generic\n\
             3   |1       |NONE    |FS\n",
            "INFO:    Verifying image with PGP key material\n\
             INFO:    Verified signature(s) from image 'pgp-one.sif'\n",
        ),
        // SingularityCE's sentence of a look-up without hits, key group.
        ("keyserver-login", 2) => None,
        // The mark of a login; SingularityCE.
        ("keyserver-login", 5) => says(
            0,
            "\nDefaultRemote *^\n   #1  http://localhost:11371  TLS  +\n   \
             #2  http://localhost:8081   TLS  +\n   #3  https://keys.lab.test   TLS  \n\
             \n(* = system endpoint, ^ = default endpoint,\n \
             + = user is logged in directly to this keyserver)\n",
            "",
        ),
        // Key servers are no registries; SingularityCE.
        ("keyserver-login", 6) => says(
            0,
            "\n(no registries with stored login information found)\n\n",
            "",
        ),
        // Says what is missing.
        ("keyserver-login", 14) => says(
            255,
            "",
            &format!(
                "FATAL:   no keyserver given: {} keyserver logout <keyserver>\n",
                called.name()
            ),
        ),
        // An address with a port keeps it.
        ("remote-add-list-use", 12) => says(
            0,
            "\nNAME           URI                  DEFAULT?  GLOBAL?  EXCLUSIVE?  SECURE?\n\
             DefaultRemote  cloud.apptainer.org            ✓                    ✓\n\
             lab            cloud.lab.test                                      ✓\n\
             p              host:80                                             ✓\n\
             p3             host:8443/a/b                                       ✓\n\
             p5             host                 ✓                              ✗!\n\
             p6             host                                                ✓\n",
            "",
        ),
        // Unknown keys are told and kept.
        ("remote-add-list-use", 21) => says(
            0,
            "\nNAME           URI                  DEFAULT?  GLOBAL?  EXCLUSIVE?  SECURE?\n\
             DefaultRemote  cloud.apptainer.org            ✓                    ✓\n\
             lab            cloud.lab.test       ✓                              ✓\n\
             p3             host:8443/a/b                                       ✓\n\
             p5             host                                                ✗!\n\
             p6             host                                                ✓\n",
            "WARNING: $DIR/cfg/remote.yaml: Extra is unknown and has no effect\n",
        ),
        // Nobody is asked who is logged in without a token.
        ("remote-login-status", 2) => says(
            0,
            &format!("{SERVICES}\nNo authentication token set (logged out).\n"),
            "INFO:    Checking status of default remote.\n",
        ),
        // Lines of a pipe answer one question each.
        ("remote-login-status", 8) => says(
            0,
            "An access token is already set for this remote. Replace it? [y/N] Generate an access \
             token at https://cloud.lab.test/auth/tokens, and paste it here.\n\
             Token entered will be hidden for security.\nAccess Token: \n",
            "INFO:    Access Token Verified!\nINFO:    Token stored in $DIR/cfg/remote.yaml\n",
        ),
        // `remote` is about endpoints only; SingularityCE.
        ("remote-login-status", 21 | 22) => says(255, "", "FATAL:   nosuch is not a remote\n"),
        // The status in place of a formatting slip.
        ("remote-login-status", 23) => says(
            255,
            "",
            "INFO:    Checking status of default remote.\nFATAL:   while retrieving services: \
             error response from server: 404 Not Found\n",
        ),
        ("remote-login-status", 24) => says(
            255,
            "",
            "FATAL:   Keyserver client failed: error response from server: 404 Not Found\n",
        ),
        // The endpoints by name.
        ("remote-login-status", 25) if theirs => says(
            0,
            "\nDefaultRemote *\n   #1  https://keys.openpgp.org  🔒\n\nlab ^\n   \
             (unable to fetch associated keyserver info for this endpoint)\n\
             \n(* = system endpoint, ^ = default endpoint)\n",
            "",
        ),
        ("remote-login-status", 25) => says(
            0,
            "\nDefaultRemote *\n   #1  https://keys.openpgp.org  TLS  \n\nlab ^\n\
             (unable to fetch associated keyserver info for this endpoint)\n\
             \n(* = system endpoint, ^ = default endpoint,\n \
             + = user is logged in directly to this keyserver)\n",
            "",
        ),
        // The password is checked.
        ("registry-login", 7) => says(
            255,
            "",
            "FATAL:   while login to docker://registry.lab.test: GET \
             https://registry.lab.test/v2/: unexpected status code 401 Unauthorized\n",
        ),
        _ => None,
    }
}

/// Steps that are not replayed, since what they change is decided otherwise
/// and would show in all later ones; `tables.rs` has them.
fn left_out(scenario: &str, step: u64) -> bool {
    matches!((scenario, step), ("remote-add-list-use", 7 | 9))
}

fn in_their_words(called: Called, argv: &[String], stdout: &str, stderr: &str) -> (String, String) {
    if called == Called::Apptainer {
        return (stdout.to_owned(), stderr.to_owned());
    }
    let words: Vec<&str> = argv.iter().map(String::as_str).take(2).collect();
    let stdout = match words.as_slice() {
        ["keyserver", "list"] => key_server_list(stdout),
        ["registry", "list"] if stdout.lines().count() == 2 => {
            "\n(no registries with stored login information found)\n\n".to_owned()
        }
        ["registry", "list"] => format!("{stdout}\n"),
        _ => stdout.to_owned(),
    };
    let mut lines: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.contains("--insecure ignored for https remote"))
        .collect();
    // SingularityCE names one file.
    if words == ["registry", "login"] {
        lines.retain(|line| !line.ends_with("Token stored in $DIR/cfg/remote.yaml"));
    }
    let mut stderr = lines.join("\n");
    if !stderr.is_empty() {
        stderr.push('\n');
    }
    let stderr = stderr
        .replace("'apptainer ", &format!("'{} ", called.name()))
        .replace("FATAL:   Error while", "FATAL:   error while");
    (stdout, stderr)
}

/// `TLS` and `no TLS` in place of a lock, and a column for the login.
fn key_server_list(stdout: &str) -> String {
    let insecure = stdout
        .lines()
        .any(|line| line.starts_with("   #") && !line.ends_with('🔒'));
    let width = if insecure { 8 } else { 5 };
    let lines = stdout.lines().map(|line| match line.strip_suffix('🔒') {
        Some(line) => format!("{line}{:<width$}\n", "TLS"),
        None if line.starts_with("   #") => format!("{line}{:<width$}\n", "no TLS"),
        None => format!("{line}\n"),
    });
    lines.collect::<String>().replace(
        "^ = default endpoint)",
        "^ = default endpoint,\n + = user is logged in directly to this keyserver)",
    )
}

const DEFAULT_SYSTEM: &str = "Active: DefaultRemote\nRemotes:\n  DefaultRemote:\n    \
    URI: cloud.apptainer.org\n    System: true\n    Exclusive: false\n";

fn replay(scenario: &str) {
    if is_root() {
        for called in Called::ALL {
            replay_called(called, scenario);
        }
    }
}

fn replay_called(called: Called, scenario: &str) {
    let lab = Lab::called(called);
    let token = "t".repeat(300);
    let text = fs::read_to_string(fixture("remote/scenarios.jsonl")).unwrap();
    let steps = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.replace("$TOKEN", &token)).unwrap())
        .filter(|step| step["scenario"] == scenario);
    let mut count = 0;
    for step in steps {
        let number = step["step"].as_u64().unwrap();
        count += 1;
        if number == 1 {
            let system = step["setup"]["system_remote_yaml"].as_str();
            let system = lab.real(system.unwrap_or(DEFAULT_SYSTEM));
            fs::write(lab.path("sys/remote.yaml"), system).unwrap();
            for file in step["setup"]["files"].as_array().unwrap() {
                let file = file.as_str().unwrap();
                let name = Path::new(file).file_name().unwrap().to_str().unwrap();
                fs::copy(fixture(file), lab.path(name)).unwrap();
            }
        }
        before(&lab, scenario, number, &step, &token);
        if left_out(scenario, number) {
            continue;
        }
        let argv: Vec<String> = step["argv"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap().to_owned())
            .collect();
        let typed = step["typed"].as_array().map(|pairs| {
            let lines = pairs.iter().map(|pair| pair[1].as_str().unwrap());
            lines.map(|line| format!("{line}\n")).collect::<String>()
        });
        let stdin = typed.unwrap_or_else(|| step["stdin"].as_str().unwrap_or_default().to_owned());
        lab.take_seen();
        let args: Vec<&str> = argv.iter().map(String::as_str).collect();
        let got = lab.run(&args, &stdin);
        let (stdout, stderr) = in_their_words(
            called,
            &argv,
            step["stdout"].as_str().unwrap(),
            step["stderr"].as_str().unwrap(),
        );
        let expected = decided(scenario, number, called).unwrap_or(Decided {
            code: step["rc"].as_i64().unwrap(),
            stdout,
            stderr,
        });
        let place = format!("{called:?} {scenario} {number}: {argv:?}");
        assert_eq!(got.stderr, expected.stderr, "{place}");
        assert_eq!(got.stdout, expected.stdout, "{place}");
        assert_eq!(i64::from(got.code), expected.code, "{place}");
        compare_requests(&lab, scenario, number, &step);
        compare_files(&lab, scenario, number, &step, &place);
    }
    assert!(count > 3, "no scenario {scenario}");
}

/// What was changed by hand before a step.
fn before(lab: &Lab, scenario: &str, step: u64, recorded: &Value, token: &str) {
    match (scenario, step) {
        ("exclusive-url", 1) => {
            let key = fs::read_to_string(fixture("keys/pgp-one.pub.asc")).unwrap();
            lab.answer(move |_| (200, Vec::new(), key.clone()));
        }
        ("keyserver-login", _) => {
            let refuses = recorded["server_answers"]["A"]["code"] == 401;
            lab.answer(move |seen| match seen.path.as_str() {
                "/" if refuses && seen.server == "http:11371" => (401, Vec::new(), String::new()),
                "/" => (200, Vec::new(), "hi".to_owned()),
                _ => (404, Vec::new(), String::new()),
            });
        }
        ("remote-add-list-use", 21) => {
            let file = lab.path("cfg/remote.yaml");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(file, text + "Extra: 1\n").unwrap();
        }
        ("remote-login-status", 1 | 15) => {
            lab.answer(|seen| cloud(seen, 200));
            let tok = if step == 1 { token } else { "short" };
            fs::write(lab.path("tok"), tok).unwrap();
        }
        ("remote-login-status", 9) => lab.answer(|seen| cloud(seen, 404)),
        ("remote-login-status", 11) => lab.answer(|seen| cloud(seen, 500)),
        ("remote-login-status", 13) => lab.answer(|seen| cloud(seen, 401)),
        ("remote-login-status", 16) => fs::write(lab.path("tok"), "x".repeat(5000)).unwrap(),
        ("remote-login-status", 23) => {
            lab.answer(|_| (404, Vec::new(), String::new()));
            // Apptainer never has stored documents.
            fs::remove_dir_all(lab.path("cfg/remote-cache")).unwrap();
        }
        ("registry-login", 2) => {
            let file = lab.path("cfg/docker-config.json");
            fs::write(&file, "{}").unwrap();
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            lab.answer(|seen| registry(seen, true));
        }
        ("registry-login", 14) => lab.answer(|seen| registry(seen, false)),
        ("registry-login", 16) => lab.answer(|_| (500, Vec::new(), "x".to_owned())),
        ("registry-login", 17) => lab.answer(|seen| registry(seen, true)),
        _ => {}
    }
}

fn compare_requests(lab: &Lab, scenario: &str, step: u64, recorded: &Value) {
    let got = lab.take_seen();
    // Registries are asked once more, with the credentials; this recording
    // also has requests of an earlier scenario.
    if scenario == "registry-login" {
        return;
    }
    let Some(list) = recorded["requests"].as_array().filter(|l| !l.is_empty()) else {
        return;
    };
    let mut expected: Vec<Seen> = list
        .iter()
        .map(|request| Seen {
            server: request["server"].as_str().unwrap().to_owned(),
            method: request["method"].as_str().unwrap().to_owned(),
            path: request["path"].as_str().unwrap().to_owned(),
            host: request["headers"]["Host"].as_str().unwrap().to_owned(),
            authorization: request["headers"]["Authorization"]
                .as_str()
                .map(str::to_owned),
        })
        // An empty token is not sent, and not used.
        .filter(|seen| seen.authorization.as_deref() != Some("Bearer"))
        .collect();
    expected.sort();
    assert_eq!(got, expected, "{scenario} {step}");
}

fn compare_files(lab: &Lab, scenario: &str, step: u64, recorded: &Value, place: &str) {
    let Some(files) = recorded["files"].as_object() else {
        return;
    };
    for (name, expected) in files {
        let name = name.replace("$SYS", "sys");
        let mut text = expected["text"].as_str().unwrap().to_owned();
        if (scenario, step) == ("remote-add-list-use", 11) {
            text = text.replace("    p:\n", "    p:\n        URI: host:80\n");
        }
        assert_eq!(lab.text(&name), text, "{place}: {name}");
        assert_eq!(mode(&lab.path(&name)), expected["mode"], "{place}: {name}");
    }
}

#[test]
fn exclusive_url() {
    replay("exclusive-url");
}

#[test]
fn keyserver_add_remove() {
    replay("keyserver-add-remove");
}

#[test]
fn keyserver_login() {
    replay("keyserver-login");
}

#[test]
fn remote_add_list_use() {
    replay("remote-add-list-use");
}

#[test]
fn remote_global() {
    replay("remote-global");
}

#[test]
fn remote_login_status() {
    replay("remote-login-status");
}

#[test]
fn registry_login() {
    replay("registry-login");
}
