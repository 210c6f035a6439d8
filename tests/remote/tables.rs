//! The rows of spec/cli.md 12.5 to 12.8, and what is decided otherwise than in the originals.

use crate::lab::{Lab, cloud, is_root, mode, registry};
use std::fs;

const NOBODY: u32 = 65534;

const BOTH: &str = "   #1  http://localhost:11371  TLS  \n   #2  https://keys.sylabs.io  TLS  \n";

fn group(lab: &Lab) -> String {
    let list = lab.ok(&["keyserver", "list", "SylabsCloud"]).stdout;
    let list = list
        .strip_prefix("\nSylabsCloud *^\n")
        .unwrap_or(&list)
        .to_owned();
    list.split("\n(*").next().unwrap().to_owned()
}

/// 12.5 and 12.6.
#[test]
fn keyserver_rows() {
    if !is_root() {
        return;
    }
    let lab = Lab::new();
    lab.answer(|seen| cloud(seen, 200));
    let server = "http://localhost:11371";
    let user = |args: &[&str]| lab.run_as(NOBODY, args);
    assert_eq!(
        user(&[
            "remote",
            "add",
            "--no-login",
            "-n",
            "OtherCloud",
            "cloud.lab.test"
        ])
        .code,
        0
    );
    let denied = user(&["keyserver", "add", server]);
    assert_eq!(denied.code, 255);
    assert_eq!(
        denied.stderr,
        "FATAL:   Unable to modify keyserver configuration: not root user\n"
    );
    lab.ok(&["keyserver", "add", "--insecure", server]);
    assert_eq!(
        group(&lab),
        "   #1  https://keys.sylabs.io  TLS     \n   #2  http://localhost:11371  no TLS  \n"
    );
    assert_eq!(mode(&lab.path("sys/remote.yaml")), "0644");
    lab.ok(&["keyserver", "remove", server]);
    lab.refused(&["keyserver", "remove", server]);
    lab.refused(&["keyserver", "add", "--order", "0", server]);
    lab.ok(&["keyserver", "add", "--order", "1", server]);
    assert_eq!(group(&lab), BOTH);
    lab.refused(&["keyserver", "add", server]);
    lab.ok(&["keyserver", "remove", "https://keys.sylabs.io"]);
    assert_eq!(group(&lab), "   #1  http://localhost:11371  TLS  \n");
    lab.refused(&["keyserver", "remove", server]);
    lab.ok(&["keyserver", "add", "https://keys.sylabs.io"]);
    assert_eq!(group(&lab), BOTH);
    lab.ok(&["keyserver", "remove", server]);
    assert_eq!(group(&lab), "   #1  https://keys.sylabs.io  TLS  \n");
    lab.refused(&["keyserver", "add", "--order", "100", server]);
    let unknown = user(&["keyserver", "list", "InvalidCloud"]);
    assert_eq!(
        (unknown.code, unknown.stderr.as_str()),
        (
            255,
            "FATAL:   no remote-endpoint with the name \"InvalidCloud\" found\n"
        )
    );
    let other = user(&["keyserver", "list", "OtherCloud"]);
    assert_eq!(other.code, 0);
    assert_eq!(
        other.stdout,
        "\nOtherCloud \n   #1  https://cloud.lab.test/keystore  TLS  \n\
         \n(* = system endpoint, ^ = default endpoint,\n \
         + = user is logged in directly to this keyserver)\n"
    );
    // What the endpoint said is known now.
    let cache = lab.path("user-cfg/remote-cache/https-cloud-lab-test.json");
    assert_eq!(mode(&cache), "0600");
    lab.take_seen();
    assert_eq!(user(&["keyserver", "list", "OtherCloud"]).code, 0);
    assert_eq!(lab.take_seen(), []);
}

/// 12.7, first part: one file, one user.
#[test]
fn remote_rows_of_one_file() {
    let lab = Lab::new();
    let file = lab.path("f.yaml").display().to_string();
    let run = |args: &[&str]| lab.run(&[&["remote", "--config", &file], args].concat(), "");
    let row = |name: &str| {
        let list = run(&["list"]).stdout;
        let row = list.lines().find(|line| line.starts_with(name));
        row.unwrap_or_default().split_whitespace().count()
    };
    assert_eq!(run(&["list"]).code, 0);
    assert_eq!(mode(&lab.path("f.yaml")), "0600");
    assert_eq!(
        run(&["add", "--no-login", "cloud", "cloud.lab.test"]).code,
        0
    );
    assert_eq!(
        run(&["add", "--no-login", "other", "cloud.lab.test"]).code,
        0
    );
    assert_eq!(
        run(&["add", "--no-login", "cloud", "elsewhere.test"]).code,
        255
    );
    assert_eq!(
        run(&["add", "--no-login", "--no-default", "n1", "h"]).code,
        0
    );
    assert_eq!(row("n1"), 3);
    assert_eq!(run(&["add", "--no-login", "-n", "n2", "h"]).code, 0);
    assert_eq!(row("n2"), 3);
    assert_eq!(run(&["add", "--no-login", "n3", "h"]).code, 0);
    assert_eq!(row("n3"), 4);
    assert_eq!(run(&["remove", "n3"]).code, 0);
    assert_eq!(run(&["remove", "n3"]).code, 255);
    assert_eq!(run(&["use", "n3"]).code, 255);
    assert_eq!(run(&["use", "cloud"]).code, 0);
    assert_eq!(run(&["use", "cloud"]).code, 0);
    assert_eq!(row("cloud"), 4);
    assert_eq!(run(&["status", "nosuch"]).code, 255);
    assert_eq!(run(&["status", "cloud"]).code, 255, "nothing is discovered");
    assert!(!lab.path("cfg/remote.yaml").exists());
}

/// 12.7, second part: the administrator and a user.
#[test]
fn remote_rows_of_two_users() {
    if !is_root() {
        return;
    }
    let lab = Lab::new();
    let user = |args: &[&str]| lab.run_as(NOBODY, args);
    let denied = user(&["remote", "use", "--exclusive", "--global", "e2e"]);
    assert_eq!(
        (denied.code, denied.stderr.as_str()),
        (
            255,
            "FATAL:   Unable to modify global endpoint configuration file: not root user\n"
        )
    );
    let denied = user(&["remote", "use", "--exclusive", "e2e"]);
    assert_eq!(
        (denied.code, denied.stderr.as_str()),
        (
            255,
            "FATAL:   unable to set endpoint as exclusive: not root user\n"
        )
    );
    lab.ok(&["remote", "add", "--global", "e2e", "cloud.test.com"]);
    lab.ok(&["remote", "use", "--exclusive", "--global", "e2e"]);
    assert_eq!(user(&["remote", "use", "SylabsCloud"]).code, 255);
    lab.ok(&["remote", "remove", "--global", "e2e"]);
    assert_eq!(user(&["remote", "use", "SylabsCloud"]).code, 0);
    lab.ok(&["remote", "add", "--global", "e2e", "cloud.test.com"]);
    for name in ["e2e", "SylabsCloud", "e2e"] {
        lab.ok(&["remote", "use", "--exclusive", name]);
    }
    assert_eq!(user(&["remote", "use", "SylabsCloud"]).code, 255);
    lab.ok(&["remote", "remove", "--global", "e2e"]);
    let search = lab.run(&["key", "search", "@"], "");
    assert_eq!(search.code, 255);
    assert!(
        search.stderr.contains("no default endpoint set"),
        "{}",
        search.stderr
    );
    lab.ok(&["remote", "use", "--global", "SylabsCloud"]);
    assert_eq!(lab.take_seen(), [], "nobody was asked");
}

#[test]
fn help_begins_with_one_sentence() {
    let lab = Lab::new();
    for (group, command, first) in [
        ("remote", "add", "Add a new singularity remote endpoint"),
        (
            "remote",
            "list",
            "List all singularity remote endpoints that are configured",
        ),
        ("remote", "login", "Login to a singularity remote endpoint"),
        (
            "remote",
            "remove",
            "Remove an existing singularity remote endpoint",
        ),
        (
            "remote",
            "status",
            "Check the status of the singularity services at an endpoint",
        ),
        (
            "remote",
            "use",
            "Set a singularity remote endpoint to be actively used",
        ),
        (
            "registry",
            "list",
            "List all OCI credentials that are configured",
        ),
        ("registry", "login", "Login to an OCI/Docker registry"),
        ("registry", "logout", "Logout from an OCI/Docker registry"),
    ] {
        for args in [vec![group, command, "--help"], vec!["help", group, command]] {
            let help = lab.ok(&args).stdout;
            assert!(help.starts_with(first), "{help}");
        }
    }
    for args in [&["remote"][..], &["keyserver", "bogus"], &["registry"]] {
        let help = lab.ok(args);
        assert!(help.stdout.starts_with("Manage ") && help.stderr.is_empty());
    }
    let wrong = lab.run(&["remote", "status", "a", "b"], "");
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.stderr.starts_with(
            "Error for command \"status\": accepts between 0 and 1 arg(s), received 2\n"
        )
    );
}

/// 12.8, with a registry on this machine, which is asked by plain http.
#[test]
fn registry_rows() {
    let lab = Lab::new();
    lab.answer(|seen| registry(seen, true));
    let uri = "oras://localhost:11371";
    for args in [
        &["-u", "joe", "-p", "", uri][..],
        &["-p", "", uri],
        &["-p", "bad", uri],
        &["-u", "joe", "-p", "bad", uri],
        &["-u", "joe", "-p", "pw", "localhost:11371"],
    ] {
        lab.refused(&[&["registry", "login"], args].concat());
    }
    assert!(!lab.path("cfg/docker-config.json").exists());
    lab.ok(&["registry", "login", "-u", "joe", "-p", "pw", uri]);
    assert_eq!(mode(&lab.path("cfg/docker-config.json")), "0600");
    let piped = lab.run(
        &["registry", "login", "-u", "joe", "--password-stdin", uri],
        "pw\r\n",
    );
    assert_eq!(piped.code, 0, "{}", piped.stderr);
    assert_eq!(
        lab.ok(&["registry", "list"]).stdout,
        "\nURI                     SECURE?\noras://localhost:11371  ✓\n\n"
    );
    lab.ok(&["registry", "logout", "oras://never.test"]);
    lab.ok(&["registry", "logout", uri]);
    assert_eq!(lab.text("cfg/docker-config.json"), "{\n\t\"auths\": {}\n}");
}

#[test]
fn a_registry_that_asks_nobody_is_told() {
    let lab = Lab::new();
    lab.answer(|_| (200, Vec::new(), "{}".to_owned()));
    let login = lab.ok(&[
        "registry",
        "login",
        "-u",
        "joe",
        "-p",
        "x",
        "docker://open.lab.test",
    ]);
    assert_eq!(
        login.stderr,
        "WARNING: open.lab.test lets everybody in: the password could not be checked\n\
         INFO:    Token stored in $DIR/cfg/docker-config.json\n"
    );
    // One that lets everybody in but refuses a wrong password.
    lab.answer(|seen| match seen.authorization {
        Some(_) => (401, Vec::new(), String::new()),
        None => (200, Vec::new(), String::new()),
    });
    lab.refused(&[
        "registry",
        "login",
        "-u",
        "joe",
        "-p",
        "x",
        "docker://open.lab.test",
    ]);
}

#[test]
fn a_token_that_the_registry_refuses_is_no_login() {
    let lab = Lab::new();
    lab.answer(|seen| match seen.path.as_str() {
        "/v2/" => registry(seen, false),
        // Gives a token to everybody.
        _ => (
            200,
            Vec::new(),
            r#"{"access_token":"anonymous"}"#.to_owned(),
        ),
    });
    let told = lab.refused(&[
        "registry",
        "login",
        "-u",
        "joe",
        "-p",
        "x",
        "docker://r.lab.test",
    ]);
    assert!(
        told.contains("unexpected status code 401 Unauthorized"),
        "{told}"
    );
    // The password goes to no token service without encryption.
    lab.answer(|_| {
        let challenge = "Bearer realm=\"http://tokens.lab.test/t\"".to_owned();
        (401, vec![("WWW-Authenticate", challenge)], String::new())
    });
    let told = lab.refused(&[
        "registry",
        "login",
        "-u",
        "joe",
        "-p",
        "x",
        "docker://r.lab.test",
    ]);
    assert!(
        told.contains("token service \"http://tokens.lab.test/t\" is not used"),
        "{told}"
    );
}

#[test]
fn docker_hub_logs_out() {
    let lab = Lab::new();
    lab.answer(|seen| registry(seen, true));
    let hub = "docker://docker.io";
    lab.ok(&["registry", "login", "-u", "joe", "-p", "pw", hub]);
    assert!(
        lab.take_seen()
            .iter()
            .all(|seen| seen.host == "index.docker.io")
    );
    assert!(
        lab.text("cfg/docker-config.json")
            .contains("\"https://index.docker.io/v1/\": {")
    );
    assert_eq!(
        lab.ok(&["registry", "logout", hub]).stderr,
        "INFO:    Token removed from $DIR/cfg/docker-config.json\nINFO:    Logout succeeded\n"
    );
}

#[test]
fn a_helper_keeps_the_password() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    lab.answer(|seen| registry(seen, true));
    let helper = lab.path("bin/docker-credential-lab");
    fs::write(&helper, "#!/bin/sh\n(echo \"$1\"; cat) >>helper.log\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        lab.path("auth.json"),
        "{\"credsStore\":\"lab\",\"HttpHeaders\":{\"a\":\"b\"}}",
    )
    .unwrap();
    let uri = "docker://r.lab.test";
    let authfile = ["--authfile", "auth.json", uri];
    let login = [
        &["registry", "login", "-u", "joe", "-p", "pw"][..],
        &authfile,
    ]
    .concat();
    lab.ok(&login);
    assert!(!lab.text("auth.json").contains("am9lOnB3"));
    assert!(lab.text("auth.json").contains("HttpHeaders"));
    lab.ok(&[&["registry", "logout"][..], &authfile].concat());
    assert_eq!(
        lab.text("helper.log"),
        "store\n{\"Secret\":\"pw\",\"ServerURL\":\"r.lab.test\",\"Username\":\"joe\"}erase\nr.lab.test"
    );
    fs::write(lab.path("auth.json"), "{\"credsStore\":\"../evil\"}").unwrap();
    lab.refused(&login);
    assert!(
        !lab.path("cfg/remote.yaml").exists(),
        "--authfile leaves it alone"
    );
}

#[test]
fn an_address_needs_no_scheme() {
    let lab = Lab::new();
    let add = |name: &str, uri: &str| lab.ok(&["remote", "add", "--no-login", name, uri]).stderr;
    assert_eq!(add("a", "127.0.0.1:80"), "INFO:    Remote \"a\" added.\n");
    assert_eq!(
        add("b", "https://host:8443/x/"),
        "INFO:    Remote \"b\" added.\n"
    );
    assert!(add("c", "http://host").starts_with("WARNING: http:// has no effect"));
    let outcome = lab
        .command(&["remote", "add", "--no-login", "d", "http://host"])
        .env("SINGULARITY_ADD_INSECURE", "true")
        .output()
        .unwrap();
    assert_eq!(outcome.stderr, b"INFO:    Remote \"d\" added.\n");
    let text = lab.text("cfg/remote.yaml");
    assert!(
        text.contains("    a:\n        URI: \"127.0.0.1:80\"\n"),
        "{text}"
    );
    assert!(
        text.contains("        Exclusive: false\n        Insecure: true\n"),
        "{text}"
    );
}

#[test]
fn a_broken_file_is_told_and_left_out_where_keys_are_looked_up() {
    let lab = Lab::new();
    lab.answer(|_| (404, Vec::new(), String::new()));
    fs::write(
        lab.path("sys/remote.yaml"),
        "Active: a\nRemotes: {a: {URI: h, System: true, Keyservers: [{URI: 'https://k.lab.test'}]}}\n",
    )
    .unwrap();
    fs::write(lab.path("cfg/remote.yaml"), "Remotes: [hunter2\n").unwrap();
    let search = lab.run(&["key", "search", "x"], "");
    assert!(
        search
            .stderr
            .contains("WARNING: $DIR/cfg/remote.yaml is not used: failed to decode YAML"),
        "{}",
        search.stderr
    );
    assert!(!search.stderr.contains("hunter2"));
    assert_eq!(lab.take_seen().len(), 1);
    let list = lab.refused(&["remote", "list"]);
    assert!(
        list.contains("FATAL:   while parsing remote config data: failed to decode"),
        "{list}"
    );
    // Neither file is usable: the service that everybody knows.
    fs::write(lab.path("sys/remote.yaml"), "Remotes: [\n").unwrap();
    let search = lab.run(&["key", "search", "x"], "");
    assert!(search.stderr.contains(
        "WARNING: No default remote in use, falling back to default keyserver: https://keys.sylabs.io"
    ));
    assert_eq!(lab.take_seen()[0].host, "keys.sylabs.io");
}

#[test]
fn modes_are_repaired_and_links_refused() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    lab.ok(&["remote", "list"]);
    let file = lab.path("cfg/remote.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        lab.ok(&["remote", "list"]).stderr,
        "WARNING: File mode (644) on $DIR/cfg/remote.yaml needs to be 600, fixing that...\n"
    );
    assert_eq!(
        (mode(&file), mode(&lab.path("cfg"))),
        ("0600".into(), "0700".into())
    );
    fs::rename(&file, lab.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(lab.path("elsewhere"), &file).unwrap();
    assert_eq!(
        lab.refused(&["remote", "list"]),
        "FATAL:   while opening remote config file: open $DIR/cfg/remote.yaml: \
         too many levels of symbolic links\n"
    );
    lab.refused(&["remote", "add", "--no-login", "a", "h"]);
    assert_eq!(lab.text("elsewhere"), "");
}

#[test]
fn a_placed_document_works_offline() {
    let lab = Lab::new();
    lab.ok(&["remote", "add", "--no-login", "lab", "cloud.lab.test"]);
    fs::create_dir(lab.path("cfg/remote-cache")).unwrap();
    fs::write(
        lab.path("cfg/remote-cache/https-cloud-lab-test.json"),
        r#"{"keystoreAPI":{"uri":"https://keys.lab.test"}}"#,
    )
    .unwrap();
    let list = lab.ok(&["keyserver", "list", "lab"]).stdout;
    assert!(
        list.contains("   #1  https://keys.lab.test  TLS  \n"),
        "{list}"
    );
    assert_eq!(lab.take_seen(), []);
}

#[test]
fn a_token_never_leaves_without_encryption() {
    let lab = Lab::new();
    lab.answer(|_| (200, Vec::new(), String::new()));
    fs::write(
        lab.path("cfg/remote.yaml"),
        "Active: a\nRemotes: {a: {URI: h, Token: secret, Keyservers: [{URI: 'http://k.lab.test'}]}}\n",
    )
    .unwrap();
    let search = lab.run(&["key", "search", "x"], "");
    assert!(
        search
            .stderr
            .contains("TLS required when auth token provided"),
        "{}",
        search.stderr
    );
    assert!(!search.stderr.contains("secret"));
    assert_eq!(lab.take_seen(), []);
}
