//! Registries, stores and token services that want what is not theirs.

use crate::server::{INDEX, MANIFEST, Registry, Reply, Seen, digest};
use crate::support::{Home, Outcome, run, skip};
use serde_json::json;
use sigsif::digest::Digest;
use sigsif::net::download::Patience;
use sigsif::net::http::Client;
use sigsif::net::registry::{Access, Blob, Credential, Session, Source};
use sigsif::remote::Secret;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Quick failures.
fn patience() -> Patience {
    Patience {
        attempts: 4,
        pause: Duration::from_millis(1),
        longest: Duration::from_millis(40),
        idle: Duration::from_millis(1000),
        commit: Duration::from_millis(1000),
    }
}

fn login() -> Option<Credential> {
    let password = Secret::new("hunter2-pw");
    Some(Credential::Login("joe".to_owned(), password))
}

fn session<'a>(
    client: &'a Client,
    registry: &Registry,
    credential: Option<Credential>,
) -> Session<'a> {
    let host = registry.host();
    Session::new(client, &host, "a/b", Access::Push, credential, false).with_patience(patience())
}

fn tells_a_secret(seen: &Seen) -> bool {
    let body = String::from_utf8_lossy(&seen.body);
    seen.header("authorization").is_some() || body.contains("identity-of-joe")
}

/// The login is for the registry. A store that it redirects to is somebody else, and so is the
/// token service of that store.
#[test]
fn the_demands_of_a_store_are_not_met_with_the_login_of_the_registry() {
    for credential in [
        login(),
        Some(Credential::Identity(Secret::new("identity-of-joe"))),
    ] {
        let evil = Registry::with(|seen, _, _| {
            if seen.path.starts_with("/token") {
                return Some(Reply::status(200).body(r#"{"token":"anything"}"#));
            }
            let host = seen.header("host").unwrap();
            let demand = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            Some(Reply::status(401).with("WWW-Authenticate", demand))
        });
        let elsewhere = format!("http://{}", evil.host());
        let registry = Registry::with(move |seen, _, _| {
            let is_asked = seen.path.contains("/blobs/") || seen.path.contains("/manifests/");
            is_asked
                .then(|| Reply::status(307).with("Location", format!("{elsewhere}{}", seen.path)))
        });
        let client = Client::new(None).unwrap();
        let session = session(&client, &registry, credential);
        let name = Digest::parse(&digest(b"x")).unwrap();
        let blob = Blob {
            digest: &name,
            size: 1,
        };
        assert!(session.blob(&blob, &mut |_| Ok(())).is_err());
        assert!(session.manifest("1").is_err());
        assert!(!session.has_blob(&name).unwrap());
        let open = |_: u64| Ok(Box::new(Cursor::new(b"x".to_vec())) as Box<dyn Read + Send>);
        let source = Source {
            digest: &name,
            size: 1,
            open: &open,
        };
        assert!(session.upload(&source).is_err());
        assert!(evil.count("GET", "/blobs/") > 0);
        let told: Vec<_> = evil.seen().into_iter().filter(tells_a_secret).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_redirect_of_the_token_service_takes_no_credential_along() {
    for (credential, status) in [
        (login(), 302),
        (login(), 307),
        (
            Some(Credential::Identity(Secret::new("identity-of-joe"))),
            307,
        ),
        (
            Some(Credential::Identity(Secret::new("identity-of-joe"))),
            308,
        ),
    ] {
        let evil =
            Registry::with(|_, _, _| Some(Reply::status(200).body(r#"{"token":"anything"}"#)));
        let elsewhere = evil.host();
        let registry = Registry::with(move |seen, _, _| {
            if seen.path.starts_with("/token") {
                let to = format!("http://{elsewhere}/token");
                return Some(Reply::status(status).with("Location", to));
            }
            let host = seen.header("host").unwrap();
            let demand = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            Some(Reply::status(401).with("WWW-Authenticate", demand))
        });
        let client = Client::new(None).unwrap();
        let _ = session(&client, &registry, credential).manifest("1");
        assert!(
            registry
                .seen()
                .iter()
                .filter(|seen| seen.path.starts_with("/token"))
                .count()
                > 0
        );
        let told: Vec<_> = evil.seen().into_iter().filter(tells_a_secret).collect();
        assert!(told.is_empty(), "{status}: {told:?}");
    }
}

/// One byte of progress is no progress.
#[test]
fn a_registry_that_takes_byte_by_byte_is_given_up() {
    let registry = Registry::with(|seen, before, _| {
        // A test that fails has to end, too.
        (seen.method == "PATCH" && before < 2000).then(|| {
            Reply::status(202)
                .with("Location", seen.path.clone())
                .with("Range", format!("0-{}", before + 1))
        })
    });
    let client = Client::new(None).unwrap();
    let session = session(&client, &registry, None);
    let bytes = vec![7; 100_000];
    let name = Digest::parse(&digest(&bytes)).unwrap();
    let open =
        |at: u64| Ok(Box::new(Cursor::new(bytes[at as usize..].to_vec())) as Box<dyn Read + Send>);
    let source = Source {
        digest: &name,
        size: 100_000,
        open: &open,
    };
    let begin = Instant::now();
    let ended = session.upload(&source);
    let requests = registry.count("PATCH", "");
    assert!(
        ended.is_err() && requests < 100,
        "{ended:?} {requests} {:?}",
        begin.elapsed()
    );
}

/// A page of a list that cannot be read is no end of the list.
#[test]
fn a_list_that_goes_on_elsewhere_is_not_taken_for_whole() {
    for link in [
        "<http://elsewhere.test/v2/a/b/referrers/x?n=1>; rel=\"next\"",
        "<http://127.0.0.1:1/v2/a/b/referrers/x?n=1>; rel=\"next\"",
        "</v2/a/b/referrers/x?last=a,b>; rel=next",
        "</v2/a/b/referrers/x?last=1>; title=\"a\"; rel=\"next\"",
        "</v2/a/b/referrers/first>; rel=\"first\", </v2/a/b/referrers/x?last=2>; rel=\"next\"",
    ] {
        let registry = Registry::with(move |seen, before, _| {
            let page = Reply::status(200).with("Content-Type", INDEX).body("{}");
            if seen.path.contains("last=") {
                return Some(page);
            }
            let first = before == 0 && seen.path.contains("/referrers/");
            first.then(|| page.with("Link", link))
        });
        let client = Client::new(None).unwrap();
        let listed = session(&client, &registry, None)
            .referrers(&Digest::parse(&digest(b"subject")).unwrap());
        match link.contains("last=") {
            true => assert_eq!(listed.unwrap().pages.len(), 2, "{link}"),
            false => {
                let told = listed.unwrap_err().to_string();
                assert!(told.contains("goes on at"), "{link}: {told}");
            }
        }
    }
}

/// A library's answer, through a proxy, so that it seems to be on the net.
fn library_of_the_net(redirect: serde_json::Value, image: serde_json::Value) -> Registry {
    Registry::with(move |seen, _, _| {
        let path = seen.path.split('?').next().unwrap_or_default();
        if path.ends_with("/v1/oci-redirect") {
            return Some(Reply::status(200).body(redirect.to_string()));
        }
        if path.contains("/v1/images/") {
            return Some(Reply::status(200).body(json!({"data": image}).to_string()));
        }
        None
    })
}

fn pull_through(proxy: &Registry, home: &Home, uri: &str) -> Outcome {
    let mut pull = home.sigsif(["pull", "--local", "--arch", "amd64", "--dir", "out"]);
    let _ = std::fs::create_dir(home.join("out"));
    pull.args(["--library", "http://library.test", "x.sif", uri])
        .env("http_proxy", format!("http://{}", proxy.host()))
        .env("https_proxy", format!("http://{}", proxy.host()))
        .env("SIGSIF_CONFIGDIR", home.join("config"));
    run(&mut pull)
}

/// The name of a repository is a name, not an address.
#[test]
fn a_library_names_no_address_inside_of_our_network_as_repository() {
    let image = json!({"hash": "sha256.aa", "size": 3, "uploaded": true});
    for name in [
        "http://HOST/x",
        "//HOST/x",
        "/../../x",
        "x/../../../y",
        "x?y",
        "x#y",
        "X/\u{0}",
    ] {
        let inside = Registry::new();
        let name = name.replace("HOST", &inside.host());
        let redirect = json!({"token": "t", "url": "http://registry.test", "name": name});
        let proxy = library_of_the_net(redirect, image.clone());
        let outcome = pull_through(&proxy, &Home::new(), "library://lab/default/x:1");
        assert_eq!(inside.seen().len(), 0, "{name}: {outcome}");
        assert_eq!(proxy.count("GET", "/manifests/"), 0, "{name}: {outcome}");
        outcome.expect(255).says("malformed name of a repository");
    }
}

/// Who names a file by its digest gets that file.
#[test]
fn a_digest_that_stands_for_a_tag_is_compared() {
    let sif = crate::support::read_peers("native/unsigned.sif");
    let other = crate::support::read_peers("native/dsse-p256.sif");
    let named = |bytes: &[u8]| digest(bytes).replacen(':', ".", 1);
    for (asked, code) in [(named(&sif), 0), (named(&other), 255)] {
        let bytes = sif.clone();
        let answer = json!({"data": {"hash": named(&sif), "size": sif.len(), "uploaded": true}});
        let library = Registry::with(move |seen, _, _| {
            let path = seen.path.split('?').next().unwrap_or_default();
            if path.starts_with("/v1/images/") {
                return Some(Reply::status(200).body(answer.to_string()));
            }
            let is_file = path.starts_with("/v1/imagefile/");
            is_file.then(|| Reply::status(200).body(bytes.clone()))
        });
        let home = Home::new();
        let uri = format!("library://lab/default/x:{asked}");
        let outcome = run(home
            .sigsif(["pull", "--local", "--library"])
            .arg(format!("http://{}", library.host()))
            .args(["x.sif", &uri])
            .env("SIGSIF_CONFIGDIR", home.join("config")))
        .expect(code);
        if code != 0 {
            outcome.says("names sha256");
            assert!(!home.join("x.sif").exists());
        }
    }
}

/// An image of layers behind a library, too.
#[test]
fn a_digest_of_an_image_of_layers_in_a_library_is_compared() {
    let wanted = digest(b"wanted").replacen(':', ".", 1);
    let library = Registry::with(move |seen, _, _| {
        let path = seen.path.split('?').next().unwrap_or_default();
        let host = seen.header("host").unwrap();
        path.ends_with("/v1/oci-redirect").then(|| {
            let answer = json!({"url": format!("http://{host}"), "name": "lab/x"});
            Reply::status(200).body(answer.to_string())
        })
    });
    crate::pull_faults::fill(&library, &wanted, &[]);
    let home = Home::new();
    let uri = format!("library://lab/default/x:{wanted}");
    run(home
        .sigsif(["pull", "--oci", "--arch", "amd64", "--library"])
        .arg(format!("http://{}", library.host()))
        .args(["x.sif", &uri])
        .env("SIGSIF_CONFIGDIR", home.join("config")))
    .expect(255)
    .says("no such image in the registry");
    assert!(!home.join("x.sif").exists());
}

/// An endpoint that is asked by https does not send its token over http.
#[test]
fn the_token_of_an_endpoint_goes_to_no_library_of_plain_http() {
    let proxy = Registry::new();
    let home = Home::new();
    std::fs::create_dir_all(home.join("config/remote-cache")).unwrap();
    home.write(
        "config/remote.yaml",
        b"Active: lab\nRemotes:\n  lab:\n    URI: cloud.lab.test\n    Token: token-of-joe\n",
    );
    home.write(
        "config/remote-cache/https-cloud-lab-test.json",
        br#"{"libraryAPI":{"uri":"http://library.lab.test"}}"#,
    );
    for args in [
        &["pull", "--local", "x.sif", "library://lab/default/x:1"][..],
        &["push", "-U", "image.sif", "library://lab/default/x:1"],
    ] {
        home.copy("native/unsigned.sif", "image.sif");
        let outcome = run(home
            .sigsif(args)
            .env("SIGSIF_CONFIGDIR", home.join("config"))
            .env("http_proxy", format!("http://{}", proxy.host())));
        let told: Vec<_> = proxy.seen().into_iter().filter(tells_a_secret).collect();
        assert!(told.is_empty(), "{told:?}");
        outcome
            .expect(255)
            .says("TLS required when auth token provided");
    }
}

/// Bytes that are an image for some programs and an index for others.
#[test]
fn a_document_that_is_both_image_and_index_is_neither() {
    for kind in [MANIFEST, INDEX] {
        let registry = Registry::new();
        let config = registry.put_blob(b"{}");
        let entry = json!({"mediaType": MANIFEST, "digest": config, "size": 2,
            "platform": {"os": "linux", "architecture": "amd64"}});
        let document = json!({"schemaVersion": 2, "manifests": [entry],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config, "size": 2}, "layers": []});
        let name = registry.put_manifest("1", kind, document.to_string().as_bytes());
        registry.put_manifest("2", MANIFEST, b"{}");
        let home = Home::new();
        let uri = format!("docker://{}/lab/x@{name}", registry.host());
        run(&mut home.sigsif(["pull", "--arch", "amd64", "x.sif", &uri]))
            .expect(255)
            .says("both an image and an index");
    }
}

/// Most resident memory of a pull, in KiB.
const MEMORY: u64 = 96 << 10;

#[test]
fn referrers_of_many_large_manifests_fill_no_memory() {
    if !std::path::Path::new("/usr/bin/time").is_file() {
        return skip("GNU time is not installed");
    }
    let subject = Arc::new(Mutex::new(String::new()));
    let named = Arc::clone(&subject);
    let registry = Registry::with(move |seen, _, store| {
        let path = seen.path.split('?').next().unwrap_or_default();
        if path.contains("/referrers/") {
            let entry = format!(
                r#"{{"mediaType":"x","size":1,"digest":"{}"}},"#,
                digest(b"x")
            );
            let filler = entry.repeat((3 << 20) / entry.len());
            let entries: Vec<_> = (0..10)
                .map(|number| {
                    let bundle = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3",
                        "size": number, "digest": digest(b"x")});
                    let config = json!({"mediaType": "c", "size": 2, "digest": digest(b"{}")});
                    let subject = named.lock().unwrap().clone();
                    let subject = json!({"mediaType": MANIFEST, "size": 1, "digest": subject});
                    let text = format!(
                        r#"{{"config":{config},"subject":{subject},"layers":[{bundle},{filler}{config}]}}"#
                    );
                    let name = store.put_manifest("one", MANIFEST, text.as_bytes());
                    json!({"mediaType": MANIFEST, "digest": name, "size": text.len()})
                })
                .collect();
            let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
            return Some(Reply::status(200).with("Content-Type", INDEX).body(index));
        }
        None
    });
    let layers = vec![crate::layers::gzip(
        &crate::layers::Archive::new().folder("etc").bytes(),
    )];
    *subject.lock().unwrap() = crate::pull_faults::fill(&registry, "1", &layers).0;
    let home = Home::new();
    home.copy("keys/ed25519.pub.pem", "key.pem");
    let uri = format!("docker://{}/lab/x:1", registry.host());
    for args in [
        &["pull", "--arch", "amd64", "--with-cosign", "x.sif", &uri][..],
        &[
            "verify",
            "--cosign",
            "--platform",
            "linux/amd64",
            "--key",
            "key.pem",
            &uri,
        ],
    ] {
        let peak = home.join("peak");
        let outcome = run(home
            .clean("/usr/bin/time")
            .args(["-f", "%M", "-o"])
            .arg(&peak)
            .arg(env!("CARGO_BIN_EXE_sigsif"))
            .args(args))
        .expect(255)
        .says("more than");
        let peak = std::fs::read_to_string(peak).unwrap();
        let peak: u64 = peak.lines().last().unwrap().trim().parse().unwrap();
        eprintln!("{}: {peak} KiB", args[0]);
        assert!(peak <= MEMORY, "{} needs {peak} KiB: {outcome}", args[0]);
    }
}

/// Where a server of the net points to: a redirect, a token service, a place for an upload, the
/// registry behind a library, a store. The proxy makes the server one of the net.
#[test]
fn a_server_of_the_net_reaches_nothing_inside_of_our_network() {
    let inside = Registry::new();
    for host in ["127.0.0.1", "localhost", "0.0.0.0"] {
        let there = format!("http://{host}:{}", inside.port);
        let proxy = Registry::with(move |seen, _, store| {
            let path = seen.path.split('?').next().unwrap_or_default();
            let (_, path) = path.split_once(".test").unwrap_or(("", path));
            let to = format!("{there}{path}");
            if seen.path.contains("files.test") || path.contains("/manifests/redirect") {
                return Some(Reply::status(302).with("Location", to));
            }
            if seen.path.contains("tokens.test") {
                let demand = format!("Bearer realm=\"{there}/token\",service=\"s\"");
                return Some(Reply::status(401).with("WWW-Authenticate", demand));
            }
            if path == "/v2/" {
                return Some(Reply::status(200));
            }
            if seen.method == "POST" {
                return Some(Reply::status(202).with("Location", to));
            }
            if path.ends_with("/v1/oci-redirect") {
                return Some(Reply::status(200).body(json!({"url": there}).to_string()));
            }
            if path.contains("/v1/images/") {
                let data = json!({"data": {"hash": "sha256.aa", "size": 3, "uploaded": true}});
                return Some(Reply::status(200).body(data.to_string()));
            }
            let request = Seen {
                path: path.to_owned(),
                ..seen.clone()
            };
            Some(store.answer(&request))
        });
        let home = Home::new();
        home.copy("native/unsigned.sif", "image.sif");
        let login = [
            "--no-https",
            "--docker-username",
            "joe",
            "--docker-password",
            "pw",
        ];
        for (args, reason) in [
            (
                &["pull", "x.sif", "http://files.test/x.sif"][..],
                "private network",
            ),
            (
                &["pull", "x.sif", "oras://r.test/lab/x:redirect"],
                "private network",
            ),
            (
                &["pull", "x.sif", "oras://tokens.test/lab/x:1"],
                "token service",
            ),
            (
                &["push", "image.sif", "oras://r.test/lab/x:1"],
                "upload address",
            ),
            (
                &[
                    "pull",
                    "--library",
                    "http://library.test",
                    "x.sif",
                    "library://a/b/c:1",
                ],
                "malformed OCI registry URI",
            ),
        ] {
            let mut command = home.sigsif(args);
            command
                .args(login)
                .env("http_proxy", format!("http://{}", proxy.host()))
                .env("SIGSIF_CONFIGDIR", home.join("config"));
            let outcome = run(&mut command).expect(255).says(reason);
            assert_eq!(inside.seen().len(), 0, "{outcome}");
        }
        assert!(proxy.seen().len() > 8);
    }
}

/// Neighbours are asked by plain http if they have nothing else, but get no password so.
#[test]
fn a_registry_in_our_network_without_encryption_gets_no_password() {
    for demand in [
        "Basic realm=\"x\"",
        "Bearer realm=\"https://tokens.lab.test/t\"",
    ] {
        let registry = Registry::with(move |seen, _, _| {
            let is_free = seen.header("authorization").is_some();
            (!is_free).then(|| Reply::status(401).with("WWW-Authenticate", demand))
        });
        let home = Home::new();
        let uri = format!("oras://0.0.0.0:{}/lab/x:1", registry.port);
        let login = ["--docker-username", "joe", "--docker-password", "pw"];
        run(home.sigsif(["pull", "x.sif", &uri]).args(login))
            .expect(255)
            .says("answers only without encryption: user and password are not sent");
        assert!(!registry.seen().is_empty());
        let told: Vec<_> = registry.seen().into_iter().filter(tells_a_secret).collect();
        assert!(told.is_empty(), "{told:?}");
    }
}

/// What the format cannot hold is no image, even if every digest is right.
#[test]
fn what_no_file_can_hold_is_refused() {
    use sigsif::digest::HashAlgorithm;
    let registry = Registry::new();
    let layer = crate::layers::Archive::new().folder("etc").bytes();
    let short = registry.put_blob(&layer);
    let long = HashAlgorithm::Sha512.digest(&layer).to_string();
    registry
        .store
        .lock()
        .unwrap()
        .blobs
        .insert(long.clone(), layer.clone());
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}"#;
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": registry.put_blob(config), "size": config.len()});
    let entry = |digest: &str, size: usize| {
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest,
            "size": size})
    };
    let len = layer.len();
    for (layers, reason) in [
        (json!([entry(&long, len)]), "by SHA-256 alone"),
        (
            json!([entry(&short, len), entry(&short, len + 1)]),
            "bytes at one place",
        ),
    ] {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": layers});
        registry.put_manifest("1", MANIFEST, manifest.to_string().as_bytes());
        let home = Home::new();
        let uri = format!("docker://{}/lab/x:1", registry.host());
        let args = [
            "pull",
            "--arch",
            "amd64",
            "--layer-format",
            "tar",
            "x.sif",
            &uri,
        ];
        run(&mut home.sigsif(args)).expect(255).says(reason);
        assert!(!home.join("x.sif").exists());
    }
}

/// A password in the address of a library is for the library; a long answer is cut.
#[test]
fn what_a_library_says_is_told_in_short_and_without_passwords() {
    let library = Registry::with(|seen, _, _| {
        if seen.path.contains("/v1/images/lab/default/flood") {
            let told = json!({"error": {"message": "x".repeat(1 << 20)}});
            return Some(Reply::status(500).body(told.to_string()));
        }
        if seen.path.contains("/v1/images/") {
            let data = json!({"data": {"hash": "sha256.aa", "size": 3, "uploaded": true}});
            return Some(Reply::status(200).body(data.to_string()));
        }
        seen.path
            .contains("/v1/imagefile/")
            .then(|| Reply::status(403).body("no"))
    });
    let home = Home::new();
    let address = format!("http://joe:hunter2@{}", library.host());
    for (name, reason) in [("x", "403 Forbidden"), ("flood", "request did not succeed")] {
        let uri = format!("library://lab/default/{name}:1");
        let outcome = run(home
            .sigsif(["pull", "--library", &address, "x.sif", &uri])
            .env("SIGSIF_CONFIGDIR", home.join("config")))
        .expect(255)
        .says(reason);
        assert!(!outcome.stderr.contains("hunter2"), "{outcome}");
        assert!(outcome.stderr.len() < 4000, "{}", outcome.stderr.len());
    }
}
