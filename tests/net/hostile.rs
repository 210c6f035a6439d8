//! Servers that do what they should not: a clear error, soon, and nothing changed.

use crate::server::{Authority, Server, Stream, answer, hkp};
use crate::tool::{Folder, fixture_text};
use sigsif::key::pgp::entities_from_armored_or_binary;
use sigsif::net::http::{Authorization, Client, Request};
use sigsif::net::{Url, keystore};
use std::io;
use std::time::{Duration, Instant};

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";

/// Pulls key one; the keyring with key two must stay as it is.
fn refused(server: &Server) -> String {
    refused_with(server, &[])
}

fn refused_with(server: &Server, env: &[(&str, &str)]) -> String {
    let two = hkp(&[&fixture_text("keys/pgp-two.pub.asc")]);
    let folder = Folder::new();
    let args = ["key", "pull", "-u", &two.url(), "FCCBD109"];
    assert_eq!(folder.run(&args, &[]).code, 0);
    let before = folder.keyring();
    let start = Instant::now();
    let outcome = folder.run(&["key", "pull", "-u", &server.url(), ONE], env);
    assert!(start.elapsed() < Duration::from_secs(9), "{outcome:?}");
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert_eq!(folder.keyring(), before);
    let prefix = "ERROR:   pull failed: unable to pull key from server: ";
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let text = last
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("{outcome:?}"));
    text.replace(&server.port.to_string(), "PORT")
        .replace(
            &format!(
                "http://localhost:PORT/pks/lookup?exact=on&op=get&search=0x{}",
                ONE.to_lowercase()
            ),
            "URL",
        )
        .replace(
            &format!(
                "https://localhost:PORT/pks/lookup?exact=on&op=get&search=0x{}",
                ONE.to_lowercase()
            ),
            "URL",
        )
}

fn endless(out: &mut dyn Stream) -> io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    loop {
        out.write_all(&[b'x'; 65536])?;
    }
}

#[test]
fn endless_body() {
    let server = Server::http(|_, out| endless(out));
    assert_eq!(
        refused(&server),
        "failed to get key: Get \"URL\": answer is larger than 4194304 bytes"
    );
}

#[test]
fn slow_body_and_no_answer() {
    let server = Server::http(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        loop {
            out.write_all(b"x")?;
            out.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let text = refused(&server);
    assert!(
        text.starts_with(
            "failed to get key: Get \"URL\": context deadline exceeded (Client.Timeout or"
        ),
        "{text}"
    );
    let server = Server::http(|_, _| {
        std::thread::sleep(Duration::from_secs(8));
        Ok(())
    });
    assert_eq!(
        refused(&server),
        "failed to get key: Get \"URL\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    );
}

#[test]
fn useless_bodies() {
    let two = fixture_text("keys/pgp-two.pub.asc");
    let sent_two =
        "key server sent key CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109, which was not asked for";
    let no_armor = "openpgp: invalid argument: no armored data found";
    let cut = &fixture_text("keys/pgp-one.pub.asc")[..900];
    for (body, text) in [
        (two.as_str(), sent_two),
        ("<html>maintenance</html>", no_armor),
        ("", no_armor),
        (
            "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n",
            "openpgp: invalid argument: expected public or private key block, got: PGP SIGNATURE",
        ),
        (cut, "openpgp: invalid data: armor invalid"),
    ] {
        let server = Server::answering(answer(200, &[], body));
        assert_eq!(refused(&server), text);
    }
}

#[test]
fn of_two_keys_only_the_right_one_is_taken() {
    let both = [
        fixture_text("keys/pgp-two.pub.asc"),
        fixture_text("keys/pgp-one.pub.asc"),
    ]
    .join("\n");
    let server = Server::answering(answer(200, &[], both));
    let folder = Folder::new();
    let outcome = folder.run(&["key", "pull", "-u", &server.url(), ONE], &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let listed = folder.run(&["key", "list"], &[]).stdout;
    assert!(
        listed.contains(ONE) && listed.matches("Fingerprint").count() == 1,
        "{listed}"
    );
}

#[test]
fn gzip_bomb() {
    // 256 MiB of zeros, as stored by `gzip -9`: made here without a compressor from one block.
    let Ok(packed) = std::process::Command::new("sh")
        .args(["-c", "head -c 268435456 /dev/zero | gzip -9"])
        .output()
    else {
        eprintln!("skipped: no gzip");
        return;
    };
    assert!(packed.stdout.len() > 1000 && packed.stdout.len() < 1 << 20);
    let server = Server::answering(answer(200, &[("Content-Encoding", "gzip")], packed.stdout));
    assert_eq!(
        refused(&server),
        "failed to get key: Get \"URL\": answer is larger than 4194304 bytes"
    );
}

#[test]
fn statuses() {
    for (status, text) in [
        (401, "unauthorized or missing token"),
        (403, "failed to get key: 403 Forbidden"),
        (404, "no matching keys found for fingerprint"),
        (429, "failed to get key: 429 Too Many Requests"),
        (500, "failed to get key: 500 Internal Server Error"),
        (302, "failed to get key: 302 Found"),
    ] {
        assert_eq!(
            refused(&Server::answering(answer(status, &[], "<html>"))),
            text
        );
    }
    let told = r#"{"error":{"code":429,"message":"slow \u001b[2Jdown"}}"#;
    let server = Server::answering(answer(429, &[], told));
    assert_eq!(
        refused(&server),
        "failed to get key: 429 Too Many Requests: slow [2Jdown"
    );
}

#[test]
fn broken_connections() {
    let server =
        Server::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n-----BEGIN".to_vec());
    assert_eq!(
        refused(&server),
        "failed to get key: Get \"URL\": unexpected EOF"
    );
    let server = Server::answering(Vec::new());
    let text = refused(&server);
    assert!(
        text.starts_with("failed to get key: Get \"URL\": EOF")
            || text.ends_with("connection reset by peer"),
        "{text}"
    );
    let server = Server::answering(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    let text = refused(&server);
    assert!(
        text.starts_with("failed to get key: Get \"URL\": "),
        "{text}"
    );
}

#[test]
fn certificates() {
    let authority = Authority::new();
    let ok = |_: &crate::server::Seen, out: &mut dyn Stream| out.write_all(&answer(200, &[], ""));
    let folder = Folder::new();
    std::fs::write(folder.path("ca.pem"), &authority.pem).unwrap();
    let ca = folder.path("ca.pem");
    let env = [("SSL_CERT_FILE", ca.to_str().unwrap())];
    let begin =
        "failed to get key: Get \"URL\": tls: failed to verify certificate: x509: certificate ";
    let other = Server::https(&Authority::new(), "localhost", ok);
    assert_eq!(
        refused_with(&other, &env),
        format!("{begin}signed by unknown authority")
    );
    let name = Server::https(&authority, "keys.lab.test", ok);
    assert_eq!(
        refused_with(&name, &env),
        format!("{begin}is valid for keys.lab.test, not localhost")
    );
    let old = Server::https(&authority, "expired", ok);
    let text = refused_with(&old, &env);
    assert!(
        text.starts_with(&format!(
            "{begin}has expired or is not yet valid: current time 20"
        )),
        "{text}"
    );
    assert!(text.ends_with("Z is after 2002-01-01T00:00:00Z"), "{text}");

    // Insecure is about the certificate only, and must be asked for.
    let client = Client::new(None).unwrap();
    let mut request = Request::get(Url::parse(&other.url()).unwrap());
    request.insecure = true;
    assert_eq!(client.send(&request).unwrap().status, 200);
    request.insecure = false;
    assert!(client.send(&request).is_err());
}

fn redirect_to(location: &str) -> Server {
    Server::answering(answer(302, &[("Location", location)], ""))
}

#[test]
fn redirects_are_followed_but_credentials_stay_behind() {
    let target = hkp(&[&fixture_text("keys/pgp-one.pub.asc")]);
    let port = target.port;
    let first = Server::http(move |seen, out| {
        let location = format!("http://user:secret@127.0.0.1:{port}{}", seen.path);
        out.write_all(&answer(301, &[("Location", &location)], ""))
    });
    let server = keystore::Server {
        url: keystore::parse_url(&first.url()).unwrap(),
        authorization: Authorization::bearer("token"),
        insecure: false,
    };
    let client = Client::new(None).unwrap();
    let found = keystore::find_signers(&client, &[server], 0x22cc_7329_2934_d01f).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        first.seen()[0].header("authorization"),
        Some("Bearer token")
    );
    let seen = target.seen();
    assert_eq!(seen[0].header("authorization"), None);
    let host = format!("127.0.0.1:{port}");
    assert_eq!(seen[0].header("host"), Some(host.as_str()));
    assert_eq!(seen[0].header("referer"), None);
}

#[test]
fn bad_redirects() {
    let server =
        Server::http(|seen, out| out.write_all(&answer(302, &[("Location", &seen.path)], "")));
    assert_eq!(
        refused(&server),
        "failed to get key: Get \"URL\": redirect loop"
    );
    assert_eq!(server.seen().len(), 1);

    let server = Server::http(|seen, out| {
        let next = format!("/{}", seen.path.replace("/pks/lookup", "/a/pks/lookup"));
        out.write_all(&answer(
            302,
            &[("Location", next.trim_start_matches('/'))],
            "",
        ))
    });
    let text = refused(&server);
    assert!(text.ends_with("\": stopped after 10 redirects"), "{text}");
    assert_eq!(server.seen().len(), 11);

    let authority = Authority::new();
    let server = Server::https(&authority, "localhost", |_, out| {
        out.write_all(&answer(302, &[("Location", "http://127.0.0.1:1/")], ""))
    });
    let folder = Folder::new();
    std::fs::write(folder.path("ca.pem"), &authority.pem).unwrap();
    let ca = folder.path("ca.pem");
    assert_eq!(
        refused_with(&server, &[("SSL_CERT_FILE", ca.to_str().unwrap())]),
        "failed to get key: Get \"URL\": redirect from https to http is not followed"
    );

    let server = redirect_to("file:///etc/passwd");
    let text = refused(&server);
    assert!(text.contains("failed to parse Location header"), "{text}");
    let server = redirect_to("ftp://127.0.0.1/x");
    assert_eq!(
        refused(&server),
        "failed to get key: unsupported protocol scheme ftp"
    );
}

#[test]
fn a_redirected_push_is_no_success() {
    let elsewhere = Server::answering(answer(200, &[], ""));
    let server = redirect_to(&elsewhere.url());
    let folder = Folder::new().with_keyring();
    let outcome = folder.run(&["key", "push", "-u", &server.url(), ONE], &[]);
    assert_eq!(outcome.code, 2);
    assert_eq!(
        outcome.stderr,
        "ERROR:   push failed: key server did not accept PGP key: 302 Found\n"
    );
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn credentials_are_neither_printed_nor_sent_in_clear() {
    let folder = Folder::new();
    let outcome = folder.run(
        &["key", "search", "-u", "http://joe:hunter2@127.0.0.1:1", "x"],
        &[],
    );
    assert!(
        !outcome.stderr.contains("hunter2") && !outcome.stderr.contains("joe"),
        "{outcome:?}"
    );
    let outcome = folder.run(&["key", "search", "-u", "http://joe:hunter2@[", "x"], &[]);
    assert!(!outcome.stderr.contains("hunter2"), "{outcome:?}");

    let server = Server::answering(answer(200, &[], "info:1:0\n"));
    let with_user = server.url().replace("http://", "http://joe:p%40ss+word@");
    assert_eq!(
        folder
            .run(&["key", "search", "-u", &with_user, "x"], &[])
            .code,
        0
    );
    // joe:p@ss+word
    assert_eq!(
        server.seen()[0].header("authorization"),
        Some("Basic am9lOnBAc3Mrd29yZA==")
    );

    let client = Client::new(None).unwrap();
    let mut request = Request::get(Url::parse("http://keys.lab.test/").unwrap());
    request.authorization = Authorization::bearer("token");
    assert_eq!(
        client.send(&request).unwrap_err().to_string(),
        "TLS required when auth token provided"
    );
    assert!(Authorization::bearer("").is_none());
    assert!(Authorization::from_header("Bearer ").is_none());
}

#[test]
fn user_ids_cannot_steer_the_terminal() {
    let body = "info:1:1\npub:31359731D5C34C90C977AAF822CC73292934D01F:1:40\u{1b}[2J96:1::\nuid:Evil%1B%5B2J%0AFATAL%3A%20x%E2%80%AE%9B:1::\n";
    let server = Server::answering(answer(200, &[], body));
    for args in [&["key", "search", "-u"][..], &["key", "search", "-l", "-u"]] {
        let outcome = Folder::new().run(&[args, &[&server.url(), "x"]].concat(), &[]);
        let steering = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!outcome.stdout.contains(steering), "{outcome:?}");
        assert!(!outcome.stdout.contains("\nFATAL"), "{outcome:?}");
    }
    let server = Server::answering(answer(200, &[], "thanks\u{1b}]0;x\u{7}\n"));
    let outcome = Folder::new()
        .with_keyring()
        .run(&["key", "push", "-u", &server.url(), ONE], &[]);
    assert_eq!(outcome.stderr, "INFO:    Key server response: thanks]0;x\n");
}

#[test]
fn lists_with_broken_counts() {
    for (body, code, start) in [
        (
            "info:1:1\r\npub:ABCDEF01:1:1:1::\r\npub:ABCDEF02:1:1:1::\r\n",
            2,
            "Showing -1 results\n\nKEY ID",
        ),
        (
            "info:1:-1\npub:ABCDEF01:1:1:1::\n",
            2,
            "Showing -1 results\n\n",
        ),
        (
            "info:1:99999999999999999999999\n",
            2,
            "Showing -1 results\n\n",
        ),
        ("pub:ABCDEF01:1:1:1::\n", 0, "Showing 1 results\n\nKEY ID"),
        ("info\npub:ABCDEF01\n", 0, "Showing 1 results\n\nKEY ID"),
    ] {
        let server = Server::answering(answer(200, &[], body));
        let outcome = Folder::new().run(&["key", "search", "-u", &server.url(), "x"], &[]);
        assert_eq!(outcome.code, code, "{body} {outcome:?}");
        assert!(outcome.stdout.starts_with(start), "{body} {outcome:?}");
    }
}

#[test]
fn a_key_that_is_sent_a_thousand_times_is_one_key() {
    let one = entities_from_armored_or_binary(fixture_text("keys/pgp-one.pub.asc").as_bytes());
    let one = one.unwrap()[0].public_bytes();
    let server = Server::answering(answer(200, &[], one.repeat(1000)));
    let client = Client::new(None).unwrap();
    let server = keystore::Server {
        url: keystore::parse_url(&server.url()).unwrap(),
        authorization: None,
        insecure: false,
    };
    let found = keystore::find_signers(&client, &[server], 0x22CC_7329_2934_D01F);
    assert_eq!(found.unwrap().len(), 1);
}

#[test]
fn a_refresh_reads_the_keyring_a_few_times_whatever_comes() {
    if std::process::Command::new("strace")
        .arg("-V")
        .output()
        .is_err()
    {
        eprintln!("skipped: no strace");
        return;
    }
    let one = entities_from_armored_or_binary(fixture_text("keys/pgp-one.pub.asc").as_bytes());
    let one = one.unwrap()[0].public_bytes();
    let server = Server::answering(answer(200, &[], one.repeat(200)));
    let folder = Folder::new().with_keyring();
    let trace = folder.path("trace");
    let front = ["strace", "-f", "-qq", "-e", "trace=openat", "-o"];
    let front = [&front[..], &[trace.to_str().unwrap()]].concat();
    let args = ["key", "refresh", "-u", &server.url(), ONE];
    let outcome = folder.run_under(&front, &args, &[]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let trace = std::fs::read_to_string(trace).unwrap();
    let opened = trace.matches("/pgp-public\"").count();
    assert!((1..10).contains(&opened), "{opened}");
}
