//! Which login to a registry is used, and where one is kept: as the originals do
//! (`fixtures/peers/logins`).

use crate::Desk;
use crate::server::{Server, answer};
use crate::support::read_peers;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A registry that asks for a login and lets everybody in.
fn registry() -> Server {
    Server::http(|seen, out| {
        let reply = match (seen.header("authorization"), seen.path.as_str()) {
            (None, _) => answer(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], ""),
            (Some(_), "/v2/") => answer(200, &[], ""),
            (Some(_), _) => answer(404, &[], ""),
        };
        out.write_all(&reply)
    })
}

fn login(user: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:pw"))
}

fn user(login: &str) -> String {
    let pair = BASE64_STANDARD.decode(login).expect("base64");
    let pair = String::from_utf8(pair).expect("UTF-8");
    pair.split(':').next().unwrap_or_default().to_owned()
}

fn content(user: &Value, host: &str) -> String {
    match user.as_str() {
        Some("!") => "{x".to_owned(),
        Some(user) => json!({"auths": {host: {"auth": login(user)}}}).to_string(),
        None => json!({"auths": {}}).to_string(),
    }
}

/// Of whom a file has a login.
fn kept(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let entry = config["auths"].as_object()?.values().next()?.clone();
    Some(user(entry["auth"].as_str()?))
}

#[test]
fn logins_are_those_of_the_originals() {
    let answers = String::from_utf8(read_peers("logins/answers.jsonl")).expect("UTF-8");
    let mut faults = Vec::new();
    let mut cases = 0;
    for line in answers.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        cases += 1;
        let found = replay(&case);
        for what in ["user", "kept"] {
            if found[what] != case[what] {
                faults.push(format!("{what} is {}, not as in {line}", found[what]));
            }
        }
    }
    assert!(cases > 60, "{cases}");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn replay(case: &Value) -> Value {
    let name = case["tool"].as_str().expect("a tool");
    let desk = Desk::new();
    let server = registry();
    let port = server.port.to_string();
    let real = |text: &str| {
        text.replace("$HOME", desk.0.home().to_str().expect("UTF-8"))
            .replace("$DIR", desk.0.work().to_str().expect("UTF-8"))
            .replace("$CFG", &format!(".{name}"))
            .replace("$PORT", &port)
    };
    for (file, user) in case["files"].as_object().expect("files") {
        let path = real(file);
        let folder = Path::new(&path).parent().expect("a folder");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(&path, content(user, &format!("localhost:{port}"))).expect("a file");
    }
    let prefix = format!("{}_", name.to_uppercase());
    let env = case["env"].as_object().expect("variables").iter();
    let env: Vec<(String, String)> = env
        .map(|(key, value)| {
            let key = match key.strip_prefix("X_") {
                Some(rest) => format!("{prefix}{rest}"),
                None => key.clone(),
            };
            (key, real(value.as_str().expect("a text")))
        })
        .collect();
    let env: Vec<_> = env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let args = case["argv"].as_array().expect("words").iter();
    let args: Vec<String> = args
        .map(|arg| real(arg.as_str().expect("a text")))
        .collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let answer = desk.run(name, &args, &env);
    let is_pull = args[0] == "pull";
    assert_eq!(answer.exit == 0, !is_pull, "{case}: {answer:?}");
    let seen = server.seen();
    let first = seen
        .iter()
        .filter_map(|seen| seen.header("authorization")?.strip_prefix("Basic "))
        .map(user)
        .next();
    let mut files = serde_json::Map::new();
    for file in [
        "$HOME/$CFG/docker-config.json",
        "$HOME/.docker/config.json",
        "$DIR/cd/docker-config.json",
        "$DIR/cd/config.json",
    ] {
        if let Some(user) = kept(Path::new(&real(file))).filter(|_| !is_pull) {
            files.insert(file.to_owned(), user.into());
        }
    }
    // Here a login is tried before it is kept; the originals send it only to those who ask for
    // a token.
    let user = if is_pull { first } else { None };
    json!({"user": user, "kept": files})
}

/// Docker's file may be a link; what is behind it is replaced, not the link. The file of our own
/// is never one.
#[test]
fn a_link_to_dockers_file_is_followed() {
    let desk = Desk::new();
    let server = registry();
    let uri = format!("docker://localhost:{}", server.port);
    let args = ["registry", "login", "-u", "joe", "-p", "pw", &uri];
    let real = desk.0.work().join("real.json");
    fs::write(&real, "{}").expect("a file");
    let docker = desk.home(".docker");
    fs::create_dir(&docker).expect("a folder");
    let link = docker.join("config.json");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    let answer = desk.run("apptainer", &args, &[]);
    assert_eq!(answer.exit, 0, "{answer:?}");
    assert!(link.is_symlink());
    assert_eq!(kept(&real).as_deref(), Some("joe"));
    let from = format!("oras://localhost:{}/a/b:t", server.port);
    server.forget();
    desk.run("apptainer", &["pull", "x.sif", &from], &[]);
    assert!(
        server
            .seen()
            .iter()
            .any(|seen| seen.header("authorization").is_some())
    );

    let own = desk.home(".apptainer/docker-config.json");
    std::os::unix::fs::symlink(&real, &own).expect("a link");
    let answer = desk.run("apptainer", &args, &[]);
    assert_eq!(answer.exit, 255, "{answer:?}");
    assert!(
        answer.stderr.contains("too many levels of symbolic links"),
        "{answer:?}"
    );
}
