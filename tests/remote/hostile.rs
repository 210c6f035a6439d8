//! Endpoints, registries and addresses that want what is not theirs.

use crate::lab::Lab;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Private addresses are this machine's neighbours, not this machine. `0.0.0.0` is such an address
/// here, and it leads to the servers of the test.
#[test]
fn a_password_is_sent_to_no_private_address_without_encryption() {
    let lab = Lab::new();
    for challenge in [
        "Basic realm=\"r\"",
        "Bearer realm=\"https://tokens.lab.test/t\"",
        "",
    ] {
        lab.answer(
            move |seen| match (seen.authorization.is_some(), challenge) {
                (false, "") => (200, Vec::new(), String::new()),
                (false, _) => (
                    401,
                    vec![("WWW-Authenticate", challenge.to_owned())],
                    String::new(),
                ),
                (true, _) => (200, Vec::new(), r#"{"token":"x"}"#.to_owned()),
            },
        );
        let uri = lab
            .real("docker://localhost:11371")
            .replace("localhost", "0.0.0.0");
        let mut login = lab.command(&["registry", "login", "-u", "joe", "-p", "pw", &uri]);
        let ended = login.env_remove("HTTPS_PROXY").output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        let seen = lab.take_seen();
        assert!(
            seen.iter().all(|seen| seen.authorization.is_none()),
            "{seen:?}: {told}"
        );
        assert_eq!(ended.status.code(), Some(255), "{challenge}: {told}");
        assert!(!lab.path("cfg/docker-config.json").exists());
    }
}

/// Whoever a registry redirects to gets no login, and so cannot say that it is good.
#[test]
fn a_login_is_accepted_by_the_registry_and_by_nobody_else() {
    let lab = Lab::new();
    let elsewhere = lab
        .real("http://localhost:11371")
        .replace("localhost", "127.0.0.1");
    lab.answer(move |seen| match seen.authorization {
        _ if seen.path == "/elsewhere" => (200, Vec::new(), String::new()),
        None => (
            401,
            vec![("WWW-Authenticate", "Basic realm=\"r\"".to_owned())],
            String::new(),
        ),
        Some(_) => (
            302,
            vec![("Location", format!("{elsewhere}/elsewhere"))],
            String::new(),
        ),
    });
    let uri = lab.real("docker://localhost:11371");
    let mut login = lab.command(&["registry", "login", "-u", "joe", "-p", "pw", &uri]);
    let ended = login.output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(255), "{told}");
    assert!(told.contains("redirects to 127.0.0.1"), "{told}");
    let seen = lab.take_seen();
    assert!(
        seen.iter()
            .any(|seen| seen.path == "/elsewhere" && seen.authorization.is_none())
    );
    assert!(!lab.path("cfg/docker-config.json").exists());
}

/// An endpoint of the net says where its services are; not inside of our network.
#[test]
fn an_endpoint_of_the_net_names_no_service_inside_of_our_network() {
    let lab = Lab::new();
    let inside = lab.real("http://localhost:11371");
    lab.answer(move |seen| {
        if seen.host != "cloud.lab.test" {
            return (200, Vec::new(), r#"{"data":{"version":"v1"}}"#.to_owned());
        }
        let services = format!(
            r#"{{"libraryAPI":{{"uri":"{inside}/library"}},"tokenAPI":{{"uri":"{inside}/token"}},"keystoreAPI":{{"uri":"{inside}"}}}}"#
        );
        (200, Vec::new(), services)
    });
    lab.ok(&["remote", "add", "--no-login", "lab", "cloud.lab.test"]);
    let text = lab.text("cfg/remote.yaml").replace(
        "URI: cloud",
        "Token: ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss\n        URI: cloud",
    );
    fs::write(lab.path("cfg/remote.yaml"), text).unwrap();
    fs::write(
        lab.path("token"),
        "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss",
    )
    .unwrap();
    // Twice: what was stored meanwhile is no better.
    for _ in 0..2 {
        for args in [
            &["key", "search", "x"][..],
            &["remote", "status", "lab"],
            &["remote", "login", "--tokenfile", "token", "lab"],
            &["remote", "get-login-password"],
            &["keyserver", "list", "lab"],
            &["pull", "x.sif", "library://lab/default/x:1"],
        ] {
            let outcome = lab.run(args, "");
            let seen = lab.take_seen();
            assert!(
                seen.iter().all(|seen| seen.host == "cloud.lab.test"),
                "{args:?}: {seen:?}"
            );
            if args[0] != "keyserver" {
                assert_ne!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
                assert!(
                    outcome.stderr.contains("an address of a private network"),
                    "{args:?}: {}",
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn an_endpoint_with_thousands_of_services_is_not_asked_for_each() {
    let lab = Lab::new();
    // Takes connections and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, kept) = (Arc::clone(&count), Mutex::new(Vec::new()));
    std::thread::spawn(move || {
        for stream in silent.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            kept.lock().unwrap().push(stream);
        }
    });
    let services: Vec<_> = (0..15_000)
        .map(|n| format!(r#""s{n}":{{"uri":"http://127.0.0.1:{port}/{n}"}}"#))
        .collect();
    let services = format!("{{{}}}", services.join(","));
    assert!(services.len() < 1 << 20);
    lab.answer(move |_| (200, Vec::new(), services.clone()));
    let address = lab.real("localhost:11371");
    lab.ok(&["remote", "add", "--no-login", "--insecure", "lab", &address]);
    let status = lab.run(&["remote", "status", "lab"], "");
    assert_eq!(status.code, 255, "{}", status.stderr);
    assert!(
        status.stderr.contains("more than 64 services"),
        "{}",
        status.stderr
    );
    let count = count.load(Ordering::Relaxed);
    assert!(count <= 64, "{count}");
}

/// What stands before the `@` is for nobody's eyes, and decides about no host.
#[test]
fn what_stands_before_the_host_is_not_told_and_moves_no_host() {
    let lab = Lab::new();
    lab.answer(|_| (401, Vec::new(), String::new()));
    let known = "Active: a\nRemotes: {a: {URI: h, Keyservers: [{URI: 'https://k.lab.test', External: true}]}}\n";
    fs::write(lab.path("cfg/remote.yaml"), known).unwrap();
    for uri in [
        "https://joe:hunter2@k.lab.test",
        "http://joe:hunter2@other.lab.test",
        "docker://joe:hunter2@r.lab.test",
        "docker://joe:hunter2@",
        "ftp://joe:hunter2@r.lab.test",
    ] {
        for args in [&["registry", "login"][..], &["keyserver", "login"]] {
            let args = [args, &["-u", "joe", "-p", "pw", uri]].concat();
            let outcome = lab.run(&args, "");
            assert_eq!(outcome.code, 255, "{args:?}");
            assert!(
                !outcome.stderr.contains("hunter2"),
                "{args:?}: {}",
                outcome.stderr
            );
        }
    }
    lab.take_seen();
    // Browsers, and the library that connects, take the backslash for a slash.
    for uri in [
        "https://evil.lab.test\\@k.lab.test",
        "https://evil.lab.test\\x:y@k.lab.test",
    ] {
        let told = lab.refused(&["keyserver", "login", "-u", "joe", "-p", "pw", uri]);
        let seen = lab.take_seen();
        assert!(
            seen.iter().all(|seen| seen.host == "k.lab.test"),
            "{seen:?}: {told}"
        );
    }
    // In a file they are no address of anybody; nobody is asked.
    let login = "Credentials: [{URI: 'https://k.lab.test', Auth: 'Bearer geheim'}]";
    for uri in [
        "https://evil.lab.test\\@k.lab.test",
        "https://j:hunter2\\@k.lab.test",
    ] {
        let text = format!(
            "Active: a\nRemotes: {{a: {{URI: h, Keyservers: [{{URI: '{uri}', External: true}}]}}}}\n{login}\n"
        );
        fs::write(lab.path("cfg/remote.yaml"), text).unwrap();
        let outcome = lab.run(&["key", "search", "alice"], "");
        assert_ne!(outcome.code, 0, "{uri}");
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        assert!(lab.take_seen().is_empty(), "{uri}: {}", outcome.stderr);
    }
    fs::write(lab.path("cfg/remote.yaml"), known).unwrap();
    // A login that is good is stored without it.
    lab.answer(|_| (200, Vec::new(), String::new()));
    lab.ok(&[
        "keyserver",
        "login",
        "-u",
        "joe",
        "-p",
        "pw",
        "https://joe:hunter2@k.lab.test",
    ]);
    lab.ok(&[
        "registry",
        "login",
        "-u",
        "joe",
        "-p",
        "pw",
        "docker://joe:hunter2@r.lab.test",
    ]);
    for file in ["cfg/remote.yaml", "cfg/docker-config.json"] {
        assert!(!lab.text(file).contains("hunter2"), "{}", lab.text(file));
    }
}

/// As the originals do, but not without a word.
#[test]
fn a_key_server_that_was_named_by_http_gets_a_password_after_a_warning_and_no_token() {
    let lab = Lab::new();
    lab.answer(|_| (200, Vec::new(), String::new()));
    fs::write(
        lab.path("cfg/remote.yaml"),
        "Active: a\nRemotes: {a: {URI: h, Keyservers: [{URI: 'http://k.lab.test', External: true}]}}\n",
    )
    .unwrap();
    let login = |args: &[&str]| {
        let args = [
            &["keyserver", "login", "-p", "pw"],
            args,
            &["http://k.lab.test"],
        ]
        .concat();
        let mut command = lab.command(&args);
        let proxy = lab.real("http://localhost:11371");
        let ended = command.env("http_proxy", proxy).output().unwrap();
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stderr).into_owned(),
        )
    };
    let (code, told) = login(&[]);
    assert_eq!(code, Some(255), "{told}");
    assert!(
        told.contains("TLS required when auth token provided"),
        "{told}"
    );
    assert_eq!(lab.take_seen(), []);
    let (code, told) = login(&["-u", "joe"]);
    assert_eq!(code, Some(0), "{told}");
    let warning = "WARNING: the password is sent to http://k.lab.test without encryption";
    assert!(told.contains(warning), "{told}");
    assert_eq!(lab.take_seen().len(), 1);
}
