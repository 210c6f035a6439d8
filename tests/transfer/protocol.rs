//! The protocol of registries, against a server with faults.

use crate::server::{Registry, Reply, Seen, Store, digest};
use sigsif::digest::Digest;
use sigsif::net::download::Patience;
use sigsif::net::http::Client;
use sigsif::net::registry::{Access, Blob, Credential, Error, Session, Source};
use sigsif::remote::Secret;
use std::io::{Cursor, Read};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Quick failures.
fn patience() -> Patience {
    Patience {
        attempts: 4,
        pause: Duration::from_millis(1),
        longest: Duration::from_millis(40),
        idle: Duration::from_millis(400),
        commit: Duration::from_millis(400),
    }
}

fn client() -> Client {
    Client::new(None).unwrap()
}

fn session<'a>(client: &'a Client, registry: &Registry, access: Access) -> Session<'a> {
    Session::new(client, &registry.host(), "a/b", access, None, false).with_patience(patience())
}

fn login() -> Option<Credential> {
    Some(Credential::Login(
        "joe".to_owned(),
        Secret::new("hunter2-pw"),
    ))
}

fn noise(len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(4)).map(|n| (n as u32).wrapping_mul(2_654_435_761));
    words.flat_map(u32::to_le_bytes).take(len).collect()
}

fn fetch(session: &Session<'_>, digest: &str, size: u64) -> Result<Vec<u8>, Error> {
    let digest = Digest::parse(digest).unwrap();
    let mut bytes = Vec::new();
    let blob = Blob {
        digest: &digest,
        size,
    };
    session.blob(&blob, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

fn send(session: &Session<'_>, bytes: &[u8]) -> Result<(), Error> {
    let digest = Digest::parse(&digest(bytes)).unwrap();
    let copy = bytes.to_vec();
    let open = move |at: u64| {
        Ok(Box::new(Cursor::new(copy[at as usize..].to_vec())) as Box<dyn Read + Send>)
    };
    session.upload(&Source {
        digest: &digest,
        size: bytes.len() as u64,
        open: &open,
    })
}

fn is_blob(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("/blobs/sha256:")
}

#[test]
fn a_blob_that_breaks_anywhere_is_taken_up_there() {
    let bytes = noise(1_000_000);
    for tenth in 0..10 {
        let at = tenth * 100_000;
        let registry = Registry::with(move |seen, before, store| {
            (is_blob(seen) && before == 0).then(|| store.answer(seen).cut(at))
        });
        let name = registry.put_blob(&bytes);
        let client = client();
        let session = session(&client, &registry, Access::Pull);
        assert_eq!(fetch(&session, &name, 1_000_000).unwrap(), bytes);
        let ranges: Vec<_> = registry
            .seen()
            .iter()
            .filter(|seen| is_blob(seen))
            .map(|seen| seen.header("range").map(str::to_owned))
            .collect();
        let expected = (at > 0).then(|| format!("bytes={at}-"));
        assert_eq!(ranges, [None, expected], "cut at {at}");
    }
}

#[test]
fn a_blob_that_always_breaks_is_given_up() {
    let bytes = noise(1_000_000);
    // No progress at all; and a server that knows no ranges.
    for at in [0, 300_000] {
        let registry = Registry::with(move |seen, _, store| {
            is_blob(seen).then(|| {
                let whole = Seen {
                    headers: Vec::new(),
                    ..seen.clone()
                };
                store.answer(&whole).cut(at)
            })
        });
        let name = registry.put_blob(&bytes);
        let client = client();
        let session = session(&client, &registry, Access::Pull);
        let error = fetch(&session, &name, 1_000_000).unwrap_err().to_string();
        assert!(error.contains("unexpected EOF"), "{error}");
        assert_eq!(registry.count("GET", "/blobs/"), 4);
    }
}

#[test]
fn what_is_not_the_blob_is_refused() {
    type Change = fn(Reply) -> Reply;
    let cases: [(&str, Change, &str); 6] = [
        (
            "changed",
            |mut reply| {
                reply.body[7] ^= 1;
                reply
            },
            "has the digest sha256:",
        ),
        (
            "short",
            |mut reply| {
                reply.body.pop();
                reply
            },
            "has 99999 bytes, expected 100000",
        ),
        (
            "long",
            |mut reply| {
                reply.body.push(0);
                reply
            },
            "has 100001 bytes, expected 100000",
        ),
        (
            "long, without saying so",
            |mut reply| {
                reply.body.push(0);
                reply.with("Transfer-Encoding", "chunked").chunked()
            },
            "has 100001 bytes, expected 100000",
        ),
        (
            "short, without saying so",
            |mut reply| {
                reply.body.pop();
                reply.with("Transfer-Encoding", "chunked").chunked()
            },
            "expected 100000",
        ),
        ("gone", |_| Reply::status(404), "404 Not Found"),
    ];
    for (name, change, sentence) in cases {
        let registry =
            Registry::with(move |seen, _, store| is_blob(seen).then(|| change(store.answer(seen))));
        let digest = registry.put_blob(&noise(100_000));
        let client = client();
        let session = session(&client, &registry, Access::Pull);
        assert!(session.has_blob(&Digest::parse(&digest).unwrap()).unwrap());
        let error = fetch(&session, &digest, 100_000).unwrap_err().to_string();
        assert!(error.contains(sentence), "{name}: {error}");
    }
}

#[test]
fn a_part_that_was_not_asked_for_is_refused() {
    let registry = Registry::with(|seen, before, store| {
        is_blob(seen).then(|| match before {
            0 => store.answer(seen).cut(500),
            _ => {
                let mut reply = store.answer(seen);
                for (name, value) in &mut reply.headers {
                    if name == "Content-Range" {
                        *value = "bytes 400-999/1000".to_owned();
                    }
                }
                reply
            }
        })
    });
    let name = registry.put_blob(&noise(1000));
    let client = client();
    let error = fetch(&session(&client, &registry, Access::Pull), &name, 1000).unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for() {
    let registry = Registry::with(|seen, _, store| {
        is_blob(seen).then(|| Reply {
            pause: Duration::from_secs(5),
            ..store.answer(seen)
        })
    });
    let name = registry.put_blob(&noise(1000));
    let client = client();
    let begin = Instant::now();
    let error = fetch(&session(&client, &registry, Access::Pull), &name, 1000).unwrap_err();
    assert!(error.to_string().contains("deadline exceeded"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_busy_server_gets_the_time_that_it_asks_for() {
    for status in [408, 429, 500, 502, 503, 504] {
        let registry = Registry::with(move |seen, before, _| {
            let is_manifest = seen.path.contains("/manifests/");
            (is_manifest && before < 2).then(|| Reply::status(status).with("Retry-After", "0"))
        });
        registry.put_manifest("1", crate::server::MANIFEST, b"{}");
        let client = client();
        let session = session(&client, &registry, Access::Pull);
        assert_eq!(session.manifest("1").unwrap().unwrap().bytes, b"{}");
    }
    // More than is waited for: the longest pause counts.
    let registry = Registry::with(|seen, _, _| {
        let busy = || {
            Reply::status(429)
                .with("Retry-After", "3600")
                .body("slow down")
        };
        seen.path.contains("/manifests/").then(busy)
    });
    let client = client();
    let begin = Instant::now();
    let error = session(&client, &registry, Access::Pull)
        .manifest("1")
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("429 Too Many Requests: slow down"),
        "{error}"
    );
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(120) && waited < Duration::from_secs(3));
}

#[test]
fn a_manifest_is_what_it_was_asked_for_by() {
    let registry = Registry::with(|seen, _, store| {
        let mut reply = store.answer(seen);
        if seen.path.ends_with("/lies") {
            reply.body = b"[]".to_vec();
            return Some(reply);
        }
        if seen.path.contains("/manifests/sha256:") {
            reply
                .headers
                .retain(|(name, _)| name != "Docker-Content-Digest");
            reply.body.push(b' ');
            return Some(reply);
        }
        None
    });
    let digest = registry.put_manifest("lies", crate::server::MANIFEST, b"{}");
    registry.put_manifest("big", crate::server::MANIFEST, &vec![b' '; (4 << 20) + 1]);
    let client = client();
    let session = session(&client, &registry, Access::Pull);
    for (reference, sentence) in [
        ("lies", "has the digest sha256:"),
        (digest.as_str(), "has the digest sha256:"),
        ("big", "answer is larger than 4194304 bytes"),
    ] {
        let error = session.manifest(reference).unwrap_err().to_string();
        assert!(error.contains(sentence), "{reference}: {error}");
    }
    assert!(session.manifest("none").unwrap().is_none());
}

/// A registry that wants a token, which its own `/token` gives to joe.
fn with_tokens(fresh_every: usize) -> Registry {
    let tokens = Mutex::new((0_usize, 0_usize));
    Registry::with(move |seen, _, store: &mut Store| {
        let mut tokens = tokens.lock().unwrap();
        if seen.path.starts_with("/token") {
            // joe:hunter2-pw
            if seen.header("authorization") != Some("Basic am9lOmh1bnRlcjItcHc=") {
                let text = format!("no: {:?}", seen.header("authorization"));
                return Some(Reply::status(401).body(text));
            }
            tokens.0 += 1;
            tokens.1 = 0;
            return Some(
                Reply::status(200).body(format!(r#"{{"token":"tok-{}-secret"}}"#, tokens.0)),
            );
        }
        let good = format!("Bearer tok-{}-secret", tokens.0);
        if tokens.0 > 0 && tokens.1 < fresh_every && seen.header("authorization") == Some(&good) {
            tokens.1 += 1;
            return Some(store.answer(seen));
        }
        let host = seen.header("host").unwrap();
        Some(Reply::status(401).with(
            "WWW-Authenticate",
            format!(
                r#"Bearer realm="http://{host}/token",service="svc",scope="repository:evil:push""#
            ),
        ))
    })
}

#[test]
fn a_token_is_fetched_once_and_again_when_it_ends() {
    let registry = with_tokens(3);
    let blob = noise(10_000);
    let name = registry.put_blob(&blob);
    let client = client();
    let session = Session::new(
        &client,
        &registry.host(),
        "a/b",
        Access::Push,
        login(),
        false,
    )
    .with_patience(patience());
    for _ in 0..7 {
        assert_eq!(fetch(&session, &name, 10_000).unwrap(), blob);
    }
    send(&session, &noise(200_000)).unwrap();
    let tokens: Vec<_> = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .collect();
    assert!((4..=6).contains(&tokens.len()), "{} tokens", tokens.len());
    for token in tokens {
        assert!(
            token
                .path
                .contains("scope=repository%3Aa%2Fb%3Apull%2Cpush"),
            "{}",
            token.path
        );
        assert!(!token.path.contains("evil"), "{}", token.path);
    }
}

#[test]
fn a_login_that_is_not_accepted_ends_and_is_not_told() {
    // A token that never is good enough, and a password that is wrong and comes back.
    for (password, sentence) in [("hunter2-pw", "401 Unauthorized"), ("wrong-pass", "***")] {
        let registry = with_tokens(0);
        let client = client();
        let credential = Some(Credential::Login("joe".to_owned(), Secret::new(password)));
        let session = Session::new(
            &client,
            &registry.host(),
            "a/b",
            Access::Pull,
            credential,
            false,
        )
        .with_patience(patience());
        let error = session.manifest("1").unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
        for secret in [password, "am9lOndyb25nLXBhc3M=", "tok-"] {
            assert!(!error.contains(secret), "{error}");
        }
        assert!(registry.seen().len() < 8);
    }
}

#[test]
fn a_password_goes_to_the_registry_and_to_nobody_else() {
    let storage = Registry::new();
    let blob = noise(5000);
    let name = storage.put_blob(&blob);
    let elsewhere = format!(
        "http://{}/v2/x/blobs/{name}?signature=presigned",
        storage.host()
    );
    let registry = Registry::with(move |seen, _, store| {
        if seen.header("authorization") != Some("Basic am9lOmh1bnRlcjItcHc=") {
            return Some(Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\""));
        }
        if seen.path.contains("/blobs/sha256:") {
            return Some(Reply::status(307).with("Location", elsewhere.clone()));
        }
        if seen.path.contains("/blobs/uploads/") && seen.method == "POST" {
            let other = elsewhere.split("/v2/").next().unwrap();
            let to = format!("{other}/v2/x/blobs/uploads/up0?secret=presigned");
            return Some(Reply::status(202).with("Location", to));
        }
        Some(store.answer(seen))
    });
    let client = client();
    let session = Session::new(
        &client,
        &registry.host(),
        "a/b",
        Access::Push,
        login(),
        false,
    )
    .with_patience(patience());
    assert_eq!(fetch(&session, &name, 5000).unwrap(), blob);
    let error = send(&session, b"small").unwrap_err().to_string();
    assert!(!error.contains("presigned"), "{error}");
    assert!(storage.seen().len() >= 2);
    for seen in storage.seen() {
        assert_eq!(seen.header("authorization"), None, "{seen:?}");
    }
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    let bytes = noise(3_000_000);
    for tenth in 0..10 {
        let at = tenth * 300_000;
        let registry = Registry::new();
        registry.store.lock().unwrap().break_patch = Some(at);
        let client = client();
        send(&session(&client, &registry, Access::Push), &bytes).unwrap();
        let stored = registry.store.lock().unwrap().blobs[&digest(&bytes)] == bytes;
        assert!(stored, "broke at {at}");
        let seen = registry.seen();
        let second = seen.iter().rfind(|seen| seen.method == "PATCH").unwrap();
        let rest = (at > 0).then(|| format!("{at}-2999999"));
        assert_eq!(second.header("content-range"), rest.as_deref());
    }
    // One that knows nothing of it any more.
    let registry = Registry::with(|seen, _, _| {
        (seen.method == "GET" && seen.path.contains("/uploads/")).then(|| Reply::status(404))
    });
    registry.store.lock().unwrap().break_patch = Some(1_000_000);
    let client = client();
    send(&session(&client, &registry, Access::Push), &bytes).unwrap();
    assert_eq!(registry.count("POST", "/uploads/"), 2);
}

#[test]
fn a_server_that_takes_nothing_is_given_up() {
    let registry = Registry::with(|seen, _, _| {
        (seen.method == "PATCH").then(|| Reply {
            pause: Duration::from_secs(3),
            ..Reply::status(202)
        })
    });
    let client = client();
    let begin = Instant::now();
    let error = send(&session(&client, &registry, Access::Push), &noise(100_000)).unwrap_err();
    assert!(error.to_string().contains("deadline exceeded"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_server_that_takes_no_large_body_gets_pieces() {
    let bytes = noise(20 << 20);
    let registry = Registry::with(|seen, _, _| {
        (seen.method == "PATCH" && seen.body.len() > 9 << 20).then(|| Reply::status(413))
    });
    let client = client();
    send(&session(&client, &registry, Access::Push), &bytes).unwrap();
    let ranges: Vec<_> = registry
        .seen()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| seen.header("content-range").unwrap_or("none").to_owned())
        .collect();
    assert_eq!(
        ranges,
        ["none", "0-8388607", "8388608-16777215", "16777216-20971519"]
    );
    let registry = Registry::with(|seen, _, _| {
        (seen.method == "PATCH").then(|| Reply::status(413).body("never"))
    });
    let error = send(&session(&client, &registry, Access::Push), &bytes).unwrap_err();
    assert_eq!(error.status(), Some(413));
}

#[test]
fn an_upload_address_that_leads_away_is_not_used() {
    for location in [
        "file:///etc/passwd",
        "",
        "gopher://127.0.0.1/x",
        "javascript:1",
    ] {
        let registry = Registry::with(move |seen, _, _| {
            (seen.method == "POST").then(|| Reply::status(202).with("Location", location))
        });
        let client = client();
        let error = send(&session(&client, &registry, Access::Push), b"x").unwrap_err();
        assert!(matches!(error, Error::Location(_)), "{location}: {error}");
    }
}

#[test]
fn a_failing_source_is_told_as_what_it_is() {
    let registry = Registry::new();
    let client = client();
    let digest = Digest::parse(&digest(b"x")).unwrap();
    let open = |_: u64| Err(std::io::Error::from_raw_os_error(5));
    let session = session(&client, &registry, Access::Push);
    let error = session.upload(&Source {
        digest: &digest,
        size: 100_000,
        open: &open,
    });
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("input/output error"), "{error}");
}

#[test]
fn a_blob_of_another_repository_is_not_sent_again() {
    let registry = Registry::new();
    let name = registry.put_blob(b"shared");
    let client = client();
    let session = session(&client, &registry, Access::Push);
    assert!(
        session
            .mount(&Digest::parse(&name).unwrap(), "other/repo")
            .unwrap()
    );
    assert!(
        !session
            .mount(&Digest::parse(&digest(b"new")).unwrap(), "other/repo")
            .unwrap()
    );
    assert_eq!(registry.count("PUT", ""), 0);
}

#[test]
fn referrers_come_page_by_page_or_from_a_tag() {
    let subject = digest(b"subject");
    let tag = subject.replacen(':', "-", 1);
    let parsed = Digest::parse(&subject).unwrap();
    let client = client();
    let registry = Registry::new();
    let list = session(&client, &registry, Access::Pull)
        .referrers(&parsed)
        .unwrap();
    assert!(list.from_tag && list.pages.is_empty());
    registry.put_manifest(&tag, crate::server::INDEX, b"{\"fallback\":1}");
    let list = session(&client, &registry, Access::Pull)
        .referrers(&parsed)
        .unwrap();
    assert_eq!(list.pages, [b"{\"fallback\":1}".to_vec()]);
    let pages = Registry::with(|seen, _, _| {
        let page = |text: &str| {
            Reply::status(200)
                .with("Content-Type", crate::server::INDEX)
                .body(text)
        };
        let next = "</v2/a/b/referrers/x?last=1>; rel=\"next\"";
        if seen.path.ends_with("last=1") {
            return Some(page("two"));
        }
        seen.path
            .contains("/referrers/")
            .then(|| page("one").with("Link", next))
    });
    let list = session(&client, &pages, Access::Pull)
        .referrers(&parsed)
        .unwrap();
    assert_eq!(list.pages, [b"one".to_vec(), b"two".to_vec()]);
    let endless = Registry::with(|seen, before, _| {
        let next = format!("</v2/a/b/referrers/x?last={before}>; rel=\"next\"");
        let page = Reply::status(200).with("Content-Type", crate::server::INDEX);
        seen.path
            .contains("/referrers/")
            .then(|| page.with("Link", next))
    });
    let error = session(&client, &endless, Access::Pull)
        .referrers(&parsed)
        .unwrap_err();
    assert!(error.to_string().contains("more than 64 pages"), "{error}");
}
