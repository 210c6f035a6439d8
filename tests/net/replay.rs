//! Replays recorded sessions of Apptainer 1.4.5 with key servers.
//!
//! Host names and ports of the recording become ports of this machine. Exit codes and requests
//! are compared exactly, texts word for word under the name `apptainer`, and after putting
//! SingularityCE's words in the place of Apptainer's under the others. What is decided otherwise stands in [`decided`], with the reason.

use crate::called::Called;
use crate::server::{Authority, Server, answer};
use crate::tool::{Folder, fixture_text};
use serde_json::Value;
use sigsif::net::http::Client;
use sigsif::net::keystore::{self, parse_url};
use std::sync::{Arc, Mutex};

/// Status and body that a server gives next.
type Script = Arc<Mutex<(u16, String)>>;

fn scripted(
    script: &Script,
) -> impl Fn(&crate::server::Seen, &mut dyn crate::server::Stream) -> std::io::Result<()> + use<> {
    let script = Arc::clone(script);
    move |_, out| {
        let (status, body) = script.lock().unwrap().clone();
        out.write_all(&answer(status, &[], body))
    }
}

fn load(script: &Script, told: &Value) {
    let body = match told["body"].as_str().unwrap_or_default() {
        "(armored public key one)" => fixture_text("keys/pgp-one.pub.asc"),
        "(armored public key two)" => fixture_text("keys/pgp-two.pub.asc"),
        other => other.to_owned(),
    };
    let code = told["code"].as_u64().unwrap_or(404);
    *script.lock().unwrap() = (u16::try_from(code).unwrap(), body);
}

fn steps(scenario: &str) -> Vec<Value> {
    let steps: Vec<Value> = fixture_text("net/scenarios.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|step: &Value| step["scenario"] == scenario)
        .collect();
    assert!(!steps.is_empty(), "no scenario {scenario}");
    steps
}

/// Texts that are decided otherwise: exit code, stdout, stderr.
fn decided(scenario: &str, step: u64, called: Called) -> Option<(i64, String, String)> {
    const HEADING: &str = "FINGERPRINT                               ALGORITHM  BITS  \
        CREATION DATE                  EXPIRATION DATE  STATUS     NAME/EMAIL\n";
    const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
    const TWO: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";
    let text = |text: &str| text.to_owned();
    if called == Called::Apptainer && scenario.starts_with("key-search") {
        return None;
    }
    let failed = match called {
        Called::Apptainer => "Failed",
        _ => "failed",
    };
    match (scenario, step) {
        // SingularityCE says `[ultimate]` where Apptainer leaves a date out.
        ("key-search", 2) => Some((
            0,
            format!(
                "Showing 2 results\n\n{HEADING}\
                 {ONE}  RSA        4096  2026-11-22 09:19:17 +0000 UTC  [ultimate]       [enabled]  Alice Builder (fixture) <alice@example.org>\n\
                 {:118}Second Id <second@example.org>\n\n\
                 {TWO}  unknown  256  2026-11-22 09:19:18 +0000 UTC  2030-01-22 19:05:58 +0000 UTC  [revoked]  Bob\n",
                ""
            ),
            text(""),
        )),
        ("key-search-odd-answers", 4) => Some((
            2,
            format!(
                "Showing -1 results\n\n{HEADING}\
                 {ONE}  RSA        4096  2026-11-22 09:19:17 +0000 UTC  [ultimate]       [enabled]  A\n"
            ),
            text(
                "ERROR:   search failed: failed to convert machine readable to human readable output correctly\n",
            ),
        )),
        ("key-search-odd-answers", 8) => Some((
            0,
            text(
                "Showing 1 results\n\n\
                 FINGERPRINT  ALGORITHM  BITS  CREATION DATE  EXPIRATION DATE  STATUS     NAME/EMAIL\n\
                 ABC          RSA              [ultimate]     [ultimate]       [enabled]  \n",
            ),
            text(""),
        )),
        // Another key than the one asked for is refused, and that is said.
        ("key-pull", 8) => Some((
            2,
            text(""),
            format!(
                "ERROR:   pull failed: unable to pull key from server: key server sent key {TWO}, which was not asked for\n"
            ),
        )),
        ("verify-keyserver-errors", 6) => Some((
            255,
            text(
                "\nError encountered during signature verification: signature object 4 not valid: openpgp: signature made by unknown entity\n",
            ),
            format!(
                "INFO:    Verifying image with PGP key material\n\
                     WARNING: failed to get key material: key server sent key {TWO}, which was not asked for\n\
                     FATAL:   {failed} to verify container: integrity: signature object 4 not valid: openpgp: signature made by unknown entity\n"
            ),
        )),
        // An answer that is of no use moves on to the next server.
        ("keyserver-fall-through", 4 | 5) => steps(scenario).first().map(|step| {
            (
                0,
                text(step["stdout"].as_str().unwrap()),
                text(step["stderr"].as_str().unwrap()),
            )
        }),
        // An exclusive server that is named is asked; the recording shows the bug.
        ("exclusive-url", 1) => steps("exclusive-url").get(2).map(|step| {
            (
                0,
                text(step["stdout"].as_str().unwrap()),
                text(step["stderr"].as_str().unwrap()),
            )
        }),
        _ => None,
    }
}

/// Steps that ask servers which the originals do not ask: after a useless answer, and an
/// exclusive server that is named.
fn asks_more(scenario: &str, step: u64) -> bool {
    matches!(
        (scenario, step),
        ("keyserver-fall-through", 4 | 5) | ("exclusive-url", 1)
    )
}

fn ours(text: &str, called: Called) -> String {
    if called == Called::Apptainer {
        return text.to_owned();
    }
    text.replace("FATAL:   Failed to", "FATAL:   failed to")
        .replace("FATAL:   Error while", "FATAL:   error while")
        .replace("\"apptainer ", &format!("\"{} ", called.name()))
}

/// Of `pgp-one.sif`, by which no recorded key server is asked for another key.
const UNKNOWN_KEY: &str = "INFO:    Signature object 4 names the key \
                           31359731D5C34C90C977AAF822CC73292934D01F, which no keyring has; ";

/// Drops lines that the originals do not have.
fn without_extras(stderr: &str) -> String {
    stderr
        .split_inclusive('\n')
        .filter(|line| {
            !line.starts_with("INFO:    Revocation certificate stored in ")
                && !line.starts_with(UNKNOWN_KEY)
        })
        .collect()
}

fn replay(scenario: &str, skip: &[u64]) {
    for called in Called::ALL {
        replay_called(called, scenario, skip);
    }
}

fn replay_called(called: Called, scenario: &str, skip: &[u64]) {
    let authority = Authority::new();
    let scripts: [Script; 3] = Default::default();
    let [a, b, c] = &scripts;
    let servers = [
        ("A", "http:11371", Server::http(scripted(a)), a),
        ("B", "http:8081", Server::http(scripted(b)), b),
        (
            "C",
            "https:443",
            Server::https(&authority, "localhost", scripted(c)),
            c,
        ),
    ];
    let all = steps(scenario);
    let setup = &all[0]["setup"];
    let files: Vec<_> = setup["files"]
        .as_array()
        .map(|files| files.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut folder = Folder::called(called).with(&files);
    std::fs::write(folder.path("ca.pem"), &authority.pem).unwrap();
    if setup["keyring"] == "public" {
        folder = folder.with_keyring();
    }
    let ca = folder.path("ca.pem");
    let mapped = |text: &str| {
        text.replace(
            "localhost:11371",
            &format!("localhost:{}", servers[0].2.port),
        )
        .replace(
            "localhost:8081",
            &format!("localhost:{}", servers[1].2.port),
        )
        .replace("https://keys.lab.test", &servers[2].2.url())
    };
    // Without a list the recorded default is the server C, by its old name.
    let config = match setup["system_remote_yaml"].as_str() {
        Some(config) => mapped(config),
        None => format!(
            "Active: DefaultRemote\nRemotes:\n  DefaultRemote:\n    URI: cloud.sylabs.io\n    \
             System: true\n    Keyservers:\n    - URI: {}\n      External: false\n",
            servers[2].2.url()
        ),
    };
    std::fs::write(folder.path("sys/remote.yaml"), config).unwrap();
    for step in &all {
        let number = step["step"].as_u64().unwrap();
        if skip.contains(&number) {
            continue;
        }
        for (name, _, server, script) in &servers {
            load(script, &step["server_answers"][name]);
            server.forget();
        }
        let args: Vec<String> = step["argv"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .map(|arg| {
                arg.replace(
                    "localhost:8081",
                    &format!("localhost:{}", servers[1].2.port),
                )
            })
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut env = vec![("SSL_CERT_FILE", ca.to_str().unwrap())];
        let url = step["env"]["APPTAINER_URL"].as_str().map(mapped);
        let url_variable = format!("{}URL", called.prefix());
        env.extend(url.as_deref().map(|url| (url_variable.as_str(), url)));
        let outcome = folder.run(&args, &env);
        let (code, stdout, stderr) = decided(scenario, number, called).unwrap_or_else(|| {
            (
                step["rc"].as_i64().unwrap(),
                step["stdout"].as_str().unwrap().to_owned(),
                step["stderr"].as_str().unwrap().to_owned(),
            )
        });
        let context = format!("{called:?} {scenario} {number}: {args:?}\n{outcome:#?}");
        assert_eq!(i64::from(outcome.code), code, "{context}");
        assert_eq!(outcome.stdout, stdout, "{context}");
        let stderr = mapped(&ours(&stderr, called));
        assert_eq!(without_extras(&outcome.stderr), stderr, "{context}");
        if !asks_more(scenario, number) {
            compare_requests(step, &servers, &context);
        }
        compare_files(step, &folder, &context);
    }
}

fn compare_requests(step: &Value, servers: &[(&str, &str, Server, &Script)], context: &str) {
    for (_, name, server, _) in servers {
        let expected: Vec<_> = step["requests"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|request| request["server"] == *name)
            .collect();
        let seen = server.seen();
        assert_eq!(seen.len(), expected.len(), "{name} {context}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert_eq!(seen.method, expected["method"], "{context}");
            assert_eq!(seen.path, expected["path"], "{context}");
            // Each server by its own name; never a bare `Bearer`.
            let host = format!("localhost:{}", server.port);
            assert_eq!(seen.header("host"), Some(host.as_str()), "{context}");
            assert_eq!(seen.header("authorization"), None, "{context}");
            assert_eq!(
                seen.header("content-type"),
                expected["headers"]["Content-Type"].as_str(),
                "{context}"
            );
            let agent = seen.header("user-agent").unwrap();
            assert!(agent.starts_with("sigsif/"), "{context}");
            assert_eq!(seen.header("accept-encoding"), Some("gzip"), "{context}");
            assert_eq!(seen.header("connection"), Some("close"), "{context}");
        }
    }
}

fn compare_files(step: &Value, folder: &Folder, context: &str) {
    let recorded = &step["files"]["keys/pgp-public"];
    // What a refused answer added in the recording is not to be there.
    if step["scenario"] != "key-pull" || recorded["size"].as_u64().is_none() || step["step"] == 8 {
        return;
    }
    use sigsif::digest::HashAlgorithm;
    let digest = HashAlgorithm::Sha256.digest(&folder.keyring()).to_string();
    let expected = format!("sha256:{}", recorded["sha256"].as_str().unwrap());
    assert_eq!(digest, expected, "{context}");
}

#[test]
fn searches_as_recorded() {
    replay("key-search", &[]);
}

#[test]
fn shows_odd_lists_as_recorded() {
    replay("key-search-odd-answers", &[]);
}

#[test]
fn tells_http_errors_as_recorded() {
    replay("keyserver-http-errors", &[]);
}

#[test]
fn verifies_with_a_key_server_as_recorded() {
    replay("verify-keyserver-errors", &[]);
    replay("verify-url", &[]);
}

#[test]
fn pulls_as_recorded() {
    replay("key-pull", &[]);
}

#[test]
fn pushes_as_recorded() {
    replay("key-push", &[]);
    replay("key-newpair-push", &[]);
}

#[test]
fn asks_an_exclusive_server_that_is_named() {
    // The last step lists remotes.
    replay("exclusive-url", &[4]);
}

#[test]
fn walks_over_configured_servers_as_recorded() {
    replay("keyserver-fall-through", &[]);
}

/// The recorded walk over three servers; which servers those are is configuration.
#[test]
fn falls_through_as_recorded() {
    let authority = Authority::new();
    let scripts: [Script; 3] = Default::default();
    let [a, b, c] = &scripts;
    let servers = [
        Server::http(scripted(a)),
        Server::http(scripted(b)),
        Server::https(&authority, "localhost", scripted(c)),
    ];
    let configured: Vec<_> = servers
        .iter()
        .map(|server| keystore::Server {
            url: parse_url(&server.url()).unwrap(),
            authorization: None,
            insecure: false,
        })
        .collect();
    let client = Client::new(Some(authority.pem.as_bytes())).unwrap();
    // Requests per server and the answer; steps 4 and 5 are decided otherwise: an answer that is
    // of no use moves on to the next server.
    let expected = [
        (1, [1, 1, 1], Ok(())),
        (2, [1, 1, 0], Ok(())),
        (3, [1, 1, 1], Err("500 Internal Server Error")),
        (4, [1, 1, 0], Ok(())),
        (5, [1, 1, 0], Ok(())),
    ];
    let all = steps("keyserver-fall-through");
    for (number, requests, result) in expected {
        let step = all.iter().find(|step| step["step"] == number).unwrap();
        for ((name, script), server) in [("A", a), ("B", b), ("C", c)].iter().zip(&servers) {
            load(script, &step["server_answers"][name]);
            server.forget();
        }
        let found = keystore::find_signers(&client, &configured, 0x22cc_7329_2934_d01f);
        let found = found.map(|keys| assert_eq!(keys.len(), 1));
        assert_eq!(
            found.map_err(|e| e.to_string()),
            result.map_err(str::to_owned)
        );
        for (server, count) in servers.iter().zip(requests) {
            let seen = server.seen();
            assert_eq!(seen.len(), count, "step {number}");
            let host = format!("localhost:{}", server.port);
            for request in seen {
                assert_eq!(
                    request.path,
                    "/pks/lookup?exact=on&op=get&search=0x22cc73292934d01f"
                );
                assert_eq!(request.header("host"), Some(host.as_str()));
            }
        }
    }
}
