//! `push` to registries and libraries that do not do as they should.

use crate::server::{Registry, Reply, digest};
use crate::support::{Home, project, read_peers, run};
use serde_json::{Value, json};
use std::fs;
use std::sync::{Arc, Mutex};

const TOKEN: &str = "library-token-0123456789";

fn image(home: &Home) {
    home.write(
        "image.oci.sif",
        &read_peers("cosign/sif/cosign-p256-pulled.oci.sif"),
    );
}

fn push(home: &Home, args: &[&str], registry: &Registry) -> crate::support::Outcome {
    let mut push = home.sigsif(["push"]);
    push.args(args)
        .arg("image.oci.sif")
        .arg(format!("docker://{}/lab/x:1", registry.host()));
    run(&mut push)
}

/// Everything that the manifests of a registry name is there.
fn is_whole(registry: &Registry) -> bool {
    let store = registry.store.lock().unwrap();
    store.manifests.values().all(|(_, bytes)| {
        let manifest: Value = serde_json::from_slice(bytes).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        layers.chain([&manifest["config"]]).all(|content| {
            let named = content["digest"].as_str().unwrap();
            store
                .blobs
                .get(named)
                .is_some_and(|blob| digest(blob) == named)
        })
    })
}

#[test]
fn no_manifest_comes_before_what_it_names() {
    // Whatever is refused, what has come so far can be read.
    let refusals: [(&str, &str, u16); 6] = [
        ("POST", "/blobs/uploads/", 403),
        ("PUT", "/blobs/uploads/", 400),
        ("PATCH", "/blobs/uploads/", 404),
        ("PUT", "/manifests/1", 400),
        ("PUT", ".sig", 403),
        ("PUT", "/manifests/", 413),
    ];
    for (method, part, status) in refusals {
        for earlier in 0..3 {
            let seen_before = Mutex::new(0);
            let registry = Registry::with(move |seen, _, _| {
                if seen.method != method || !seen.path.contains(part) {
                    return None;
                }
                let mut before = seen_before.lock().unwrap();
                *before += 1;
                (*before > earlier).then(|| {
                    Reply::status(status)
                        .body(r#"{"errors":[{"code":"DENIED","message":"no \u001b[31mway"}]}"#)
                })
            });
            let home = Home::new();
            image(&home);
            let outcome = push(&home, &["--with-cosign"], &registry);
            assert!(is_whole(&registry), "{method} {part} {earlier}");
            let asked = registry.count(method, part);
            let refused = asked > earlier;
            let expected = if refused { 255 } else { 0 };
            let outcome = outcome.expect(expected);
            assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
            if refused {
                assert!(outcome.stderr.contains("FATAL:"), "{outcome}");
            }
        }
    }
}

#[test]
fn a_registry_that_is_busy_or_breaks_is_taken_up_again() {
    for fault in ["busy", "cut"] {
        let registry = Registry::with(move |seen, before, _| match fault {
            "busy" if before == 0 && seen.path != "/v2/" => {
                Some(Reply::status(429).with("Retry-After", "0"))
            }
            _ => None,
        });
        if fault == "cut" {
            registry.store.lock().unwrap().break_patch = Some(10);
        }
        let home = Home::new();
        image(&home);
        push(&home, &["--with-cosign"], &registry).expect(0);
        assert!(is_whole(&registry));
        let store = registry.store.lock().unwrap();
        assert!(store.manifests.contains_key("1"));
        assert!(store.manifests.keys().any(|name| {
            std::path::Path::new(name)
                .extension()
                .is_some_and(|end| end == "sig")
        }));
    }
}

#[test]
fn somebody_who_writes_at_the_same_time_loses_nothing() {
    // Another signer's signature appears right behind ours, in place of it.
    let other = {
        let registry = Registry::new();
        let home = Home::new();
        home.write("image.oci.sif", &read_peers("cosign/sif/one.oci.sif"));
        let key = project().join("fixtures/peers/cosign/keys/rsa2048.key");
        let mut sign = home.sigsif(["sign", "--cosign", "--key"]);
        sign.arg(key)
            .arg("image.oci.sif")
            .env("COSIGN_PASSWORD", "secret");
        run(&mut sign).expect(0);
        push(&home, &["--with-cosign"], &registry).expect(0);
        registry
    };
    let (blobs, manifests) = {
        let store = other.store.lock().unwrap();
        (store.blobs.clone(), store.manifests.clone())
    };
    let is_signature = |name: &str| name.rsplit_once('.').is_some_and(|(_, end)| end == "sig");
    let (tag, theirs) = manifests
        .iter()
        .find(|(name, _)| is_signature(name))
        .unwrap();
    let (tag, theirs) = (tag.clone(), theirs.clone());
    let written = Arc::new(Mutex::new(0));
    let count = Arc::clone(&written);
    let racing = tag.clone();
    let registry = Registry::with(move |seen, _, store| {
        if seen.method != "PUT" || !seen.path.ends_with(&racing) {
            return None;
        }
        let mut count = count.lock().unwrap();
        *count += 1;
        let reply = store.answer(seen);
        if *count == 1 {
            store.blobs.extend(blobs.clone());
            store.put_manifest(&racing, &theirs.0, &theirs.1);
        }
        Some(reply)
    });
    let home = Home::new();
    image(&home);
    push(&home, &["--with-cosign"], &registry).expect(0);
    assert_eq!(*written.lock().unwrap(), 2);
    let store = registry.store.lock().unwrap();
    let manifest: Value = serde_json::from_slice(&store.manifests[&tag].1).unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
}

/// A library that keeps what it gets, in the registry behind it or itself.
fn library(behind: bool) -> Registry {
    let at = Arc::new(Mutex::new(0_u16));
    let port = Arc::clone(&at);
    let registry = Registry::with(move |seen, _, store| {
        let here = format!("http://127.0.0.1:{}", port.lock().unwrap());
        let path = seen.path.split('?').next().unwrap_or_default();
        let sent = seen.header("authorization").map(str::to_owned);
        if path == "/assets/config/config.prod.json" {
            let services = json!({"libraryAPI": {"uri": here}});
            return Some(Reply::status(200).body(services.to_string()));
        }
        let is_library = ["/v2/tags/", "/v2/imagefile/"];
        if path.starts_with("/v2/") && !is_library.iter().any(|own| path.starts_with(own)) {
            assert_ne!(sent.as_deref(), Some(&*format!("Bearer {TOKEN}")));
            return None;
        }
        if path.starts_with("/store/") {
            assert_eq!(sent, None, "a store gets no token");
            store.blobs.insert("stored".to_owned(), seen.body.clone());
            return Some(Reply::status(200));
        }
        if sent != Some(format!("Bearer {TOKEN}")) {
            return Some(Reply::status(401).body(r#"{"error":{"message":"who?"}}"#));
        }
        let data = |value: Value| Reply::status(200).body(json!({"data": value}).to_string());
        Some(match (seen.method.as_str(), path) {
            ("GET", "/v1/oci-redirect") if behind => Reply::status(200).body(
                json!({"token": "of-the-registry", "url": here, "name": "mapped/x"}).to_string(),
            ),
            ("POST", "/v1/entities") => data(json!({"id": "e1"})),
            ("POST", "/v1/collections") => data(json!({"id": "c1"})),
            ("POST", "/v1/containers") => data(json!({"id": "k1"})),
            ("POST", "/v1/images") => data(json!({"id": "i1", "hash": "", "uploaded": false})),
            ("POST", "/v2/imagefile/i1") => {
                data(json!({"uploadURL": format!("{here}/store/x?sig=secret-part")}))
            }
            ("PUT", "/v2/imagefile/i1/_complete") => data(json!({})),
            ("POST", "/v2/tags/k1") => {
                store.blobs.insert("tag".to_owned(), seen.body.clone());
                data(json!({}))
            }
            _ => Reply::status(404).body(r#"{"error":{"message":"not found"}}"#),
        })
    });
    *at.lock().unwrap() = registry.port;
    registry
}

#[test]
fn a_library_gets_signed_images_from_whoever_has_its_token() {
    let sif = read_peers("native/dsse-p256.sif");
    for behind in [true, false] {
        let registry = library(behind);
        let home = Home::new();
        home.write("image.sif", &sif);
        fs::create_dir(home.join("config")).unwrap();
        let push = |args: &[&str]| {
            let mut push = home.sigsif(["push"]);
            push.env("SIGSIF_CONFIGDIR", home.join("config"))
                .env("LOCAL_VERIFY", "1")
                .args(args);
            run(&mut push)
        };
        let uri = "library://lab/default/x:1,latest";
        let address = format!("http://{}", registry.host());
        push(&["--library", &address, "-U", "image.sif", uri])
            .expect(255)
            .says("Cannot push image to library: no authentication token");
        let config = format!(
            "Active: lab\nRemotes:\n  lab:\n    URI: {}\n    Token: {TOKEN}\n    Insecure: true\n",
            registry.host()
        );
        home.write("config/remote.yaml", config.as_bytes());
        push(&["image.sif", uri])
            .expect(255)
            .says("Unable to upload container: unable to verify signature");
        assert_eq!(registry.count("POST", "/v1/images"), 0);
        let outcome = push(&["-U", "--json", "-D", "a test", "image.sif", uri])
            .expect(0)
            .says("WARNING: Skipping container verification");
        assert!(!outcome.to_string().contains(TOKEN), "{outcome}");
        assert!(!outcome.to_string().contains("secret-part"), "{outcome}");
        let told: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(told["digest"], digest(&sif));
        let store = registry.store.lock().unwrap();
        if behind {
            assert!(store.blobs[&digest(&sif)] == sif);
            for tag in ["1", "latest"] {
                let index: Value = serde_json::from_slice(&store.manifests[tag].1).unwrap();
                assert_eq!(index["manifests"][0]["platform"]["architecture"], "amd64");
            }
        } else {
            assert!(store.blobs["stored"] == sif);
            let tag: Value = serde_json::from_slice(&store.blobs["tag"]).unwrap();
            assert_eq!(
                (&tag["Tag"], &tag["Arch"]),
                (&json!("latest"), &json!("amd64"))
            );
        }
        drop(store);
        push(&["-U", "image.sif", "library://x"])
            .expect(255)
            .says("Malformed library reference");
    }
}
