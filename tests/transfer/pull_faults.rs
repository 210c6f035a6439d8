//! `pull` against a registry with faults: a clear error, the old file or none, nothing beside it.

use crate::layers::{Archive, gzip};
use crate::server::{INDEX, MANIFEST, Registry, Reply, Seen, Store, digest};
use crate::support::{Home, Outcome, finish, run, skip, skip_without, start, strace, tool};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tar::EntryType;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const PASSWORD: &str = "hunter2-password";

fn noise(len: u32) -> Vec<u8> {
    let words = (0..len.div_ceil(4)).map(|n| n.wrapping_mul(2_654_435_761));
    words.flat_map(u32::to_le_bytes).collect()
}

/// Two layers; the second one is large enough to be cut.
fn layers() -> Vec<Vec<u8>> {
    let lower = Archive::new()
        .folder("etc")
        .file("etc/old", b"old")
        .file("etc/gone", b"gone");
    let upper = Archive::new()
        .file("etc/.wh.gone", b"")
        .file("etc/new", &noise(600_000));
    vec![gzip(&lower.bytes()), gzip(&upper.bytes())]
}

/// Puts an image there; returns the digests of manifest and layers.
pub fn fill(registry: &Registry, tag: &str, layers: &[Vec<u8>]) -> (String, Vec<String>) {
    fill_as(LAYER, registry, tag, layers)
}

/// As [`fill`], with layers of that media type.
pub fn fill_as(
    media_type: &str,
    registry: &Registry,
    tag: &str,
    layers: &[Vec<u8>],
) -> (String, Vec<String>) {
    let digests: Vec<String> = layers
        .iter()
        .map(|layer| registry.put_blob(layer))
        .collect();
    let config = json!({"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}});
    let config = config.to_string().into_bytes();
    let config_digest = registry.put_blob(&config);
    let entries: Vec<_> = layers
        .iter()
        .zip(&digests)
        .map(|(layer, digest)| json!({"mediaType": media_type, "digest": digest, "size": layer.len()}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
        "layers": entries});
    let digest = registry.put_manifest(tag, MANIFEST, manifest.to_string().as_bytes());
    (digest, digests)
}

/// Puts a SIF there as oras does.
pub fn fill_sif(registry: &Registry, tag: &str, sif: &[u8]) -> String {
    let layer = registry.put_blob(sif);
    let config = registry.put_blob(b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.sylabs.sif.config.v1+json",
            "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
            "digest": layer, "size": sif.len()}]});
    registry.put_manifest(tag, MANIFEST, manifest.to_string().as_bytes());
    layer
}

/// A folder for the output and a call that pulls there.
struct Place {
    home: Home,
}

impl Place {
    fn new() -> Self {
        let home = Home::new();
        fs::create_dir(home.join("out")).unwrap();
        Self { home }
    }

    fn pull(&self, args: &[&str], uri: &str) -> Command {
        let mut command = self
            .home
            .sigsif(["pull", "--dir", "out", "--arch", "amd64"]);
        command.args(args).args(["x.sif", uri]);
        command
    }

    /// What is in the folder of the output.
    fn names(&self) -> Vec<String> {
        names(&self.home.join("out"))
    }

    fn output(&self) -> Vec<u8> {
        fs::read(self.home.join("out/x.sif")).unwrap()
    }

    #[track_caller]
    fn refused(&self, command: &mut Command, reason: &str) -> Outcome {
        let outcome = run(command).expect(255).says(reason).says("FATAL");
        assert_eq!(self.names(), [""; 0], "{outcome}");
        outcome
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn docker(registry: &Registry) -> String {
    format!("docker://{}/lab/x:1", registry.host())
}

fn is_layer(seen: &Seen, digest: &str) -> bool {
    seen.method == "GET" && seen.path.ends_with(&format!("/blobs/{digest}"))
}

#[test]
fn a_blob_that_is_not_what_it_should_be_leaves_no_file() {
    let layers = layers();
    let wanted = digest(&layers[1]);
    type Change = fn(&[u8]) -> Reply;
    let changes: [(Change, &str); 6] = [
        (
            |blob| {
                let mut other = blob.to_vec();
                other[500] ^= 1;
                Reply::status(200).body(other)
            },
            "expected sha256:",
        ),
        (
            |blob| Reply::status(200).body(&blob[..blob.len() - 1]),
            "expected 6",
        ),
        (
            |blob| Reply::status(200).body([blob, b"x"].concat()),
            "expected 6",
        ),
        (
            |blob| {
                Reply::status(200)
                    .with("Transfer-Encoding", "chunked")
                    .body([blob, b"more"].concat())
                    .chunked()
            },
            "expected 6",
        ),
        (|_| Reply::status(404), "unexpected status code 404"),
        (
            |_| Reply::status(403).body("\x1b[31mno"),
            "unexpected status code 403",
        ),
    ];
    for (change, reason) in changes {
        for args in [vec![], vec!["--with-cosign"], vec!["--keep-layers"]] {
            let wanted = wanted.clone();
            let registry = Registry::with(move |seen, _, store| {
                is_layer(seen, &wanted).then(|| change(&store.blobs[&wanted]))
            });
            fill(&registry, "1", &layers);
            let place = Place::new();
            let outcome = place.refused(&mut place.pull(&args, &docker(&registry)), reason);
            assert!(!outcome.stderr.contains('\x1b'), "{outcome}");
        }
        // A SIF that is one blob.
        let sif = [
            crate::support::read_peers("native/unsigned.sif"),
            noise(600_000),
        ]
        .concat();
        let wanted = digest(&sif);
        let registry = Registry::with(move |seen, _, store| {
            is_layer(seen, &wanted).then(|| change(&store.blobs[&wanted]))
        });
        fill_sif(&registry, "1", &sif);
        let place = Place::new();
        let uri = format!("oras://{}/lab/x:1", registry.host());
        place.refused(&mut place.pull(&["--local"], &uri), reason);
    }
}

#[test]
fn a_cut_at_every_tenth_is_taken_up_and_the_file_is_the_same() {
    let layers = layers();
    let whole = Registry::new();
    fill(&whole, "1", &layers);
    let place = Place::new();
    run(&mut place.pull(&[], &docker(&whole))).expect(0);
    let expected = place.output();
    let wanted = digest(&layers[1]);
    for tenth in 0..10 {
        let (at, wanted) = (layers[1].len() * tenth / 10, wanted.clone());
        let registry = Registry::with(move |seen, before, store| {
            (before == 0 && is_layer(seen, &wanted)).then(|| store.answer(seen).cut(at))
        });
        fill(&registry, "1", &layers);
        let place = Place::new();
        run(&mut place.pull(&[], &docker(&registry))).expect(0);
        assert!(place.output() == expected, "cut at {tenth}0 %");
        assert_eq!(registry.count("GET", &digest(&layers[1])), 2);
    }
    // One that never gets further is given up.
    let name = wanted.clone();
    let registry = Registry::with(move |seen, _, store| {
        is_layer(seen, &name).then(|| {
            let headers = Vec::new();
            store
                .answer(&Seen {
                    headers,
                    ..seen.clone()
                })
                .cut(300_000)
        })
    });
    fill(&registry, "1", &layers);
    let place = Place::new();
    place.refused(&mut place.pull(&[], &docker(&registry)), "unexpected EOF");
}

#[test]
fn a_registry_that_never_accepts_a_login_is_given_up_and_nothing_secret_is_told() {
    let port = Arc::new(Mutex::new(0_u16));
    let at = Arc::clone(&port);
    let registry = Registry::with(move |seen, _, _| {
        if seen.path.starts_with("/token") {
            return Some(Reply::status(200).body(r#"{"token":"token-of-the-service"}"#));
        }
        let realm = format!(
            "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"",
            at.lock().unwrap()
        );
        // It tells everything that it gets.
        let told = seen.header("authorization").unwrap_or_default().to_owned();
        Some(
            Reply::status(401)
                .with("WWW-Authenticate", realm)
                .body(format!("you sent {told} and {PASSWORD}")),
        )
    });
    *port.lock().unwrap() = registry.port;
    let place = Place::new();
    let login = ["--docker-username", "joe", "--docker-password", PASSWORD];
    for transport in ["docker", "oras"] {
        let uri = format!("{transport}://{}/lab/x:1", registry.host());
        let mut pull = place.home.sigsif(["--debug", "pull", "--dir", "out"]);
        pull.args(login).args(["x.sif", &uri]);
        let outcome = place.refused(&mut pull, "unexpected status code 401");
        let basic =
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("joe:{PASSWORD}"));
        for secret in [PASSWORD, &basic, "token-of-the-service"] {
            assert!(!outcome.to_string().contains(secret), "{outcome}");
        }
    }
    assert!(registry.seen().len() < 30, "{}", registry.seen().len());
}

#[test]
fn a_redirected_blob_is_fetched_without_the_login() {
    let layers = layers();
    let store = Registry::new();
    for layer in &layers {
        store.put_blob(layer);
    }
    let elsewhere = store.host();
    let registry = Registry::with(move |seen, _, _| {
        let login = seen.header("authorization").is_some();
        if !login {
            return Some(Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\""));
        }
        seen.path.contains("/blobs/").then(|| {
            let name = seen.path.rsplit('/').next().unwrap_or_default();
            let to = format!("http://{elsewhere}/v2/store/blobs/{name}?signature=abc");
            Reply::status(307).with("Location", to)
        })
    });
    let config = fill(&registry, "1", &layers);
    let blobs = registry.store.lock().unwrap().blobs.clone();
    store.store.lock().unwrap().blobs = blobs;
    let place = Place::new();
    let login = ["--docker-username", "joe", "--docker-password", PASSWORD];
    let outcome = run(&mut place.pull(&login, &docker(&registry))).expect(0);
    assert!(!outcome.to_string().contains("signature=abc"), "{outcome}");
    assert!(store.count("GET", &config.1[1]) > 0);
    for seen in store.seen() {
        assert_eq!(seen.header("authorization"), None, "{}", seen.path);
    }
}

#[test]
fn a_redirect_that_leads_astray_is_not_followed() {
    let layers = layers();
    for (location, reason) in [
        ("file:///etc/passwd", "etc/passwd"),
        ("ftp://127.0.0.1/x", "ftp"),
        ("/v2/lab/x/blobs/loop", "redirect"),
        ("http://", "Location"),
    ] {
        let wanted = digest(&layers[1]);
        let registry = Registry::with(move |seen, _, _| {
            (is_layer(seen, &wanted) || seen.path.ends_with("/loop"))
                .then(|| Reply::status(307).with("Location", location))
        });
        fill(&registry, "1", &layers);
        let place = Place::new();
        place.refused(&mut place.pull(&[], &docker(&registry)), reason);
    }
}

#[test]
fn a_tag_that_moves_meanwhile_changes_nothing() {
    let layers = layers();
    let moved = Arc::new(AtomicBool::new(false));
    let other = Archive::new().file("etc/evil", b"evil").bytes();
    let flag = Arc::clone(&moved);
    let registry = Registry::with(move |seen, _, store| {
        if seen.path.ends_with("/manifests/1") && !flag.swap(true, Ordering::Relaxed) {
            let reply = store.answer(seen);
            let (kind, bytes) = store.manifests["2"].clone();
            store.put_manifest("1", &kind, &bytes);
            return Some(reply);
        }
        None
    });
    fill(&registry, "2", &[gzip(&other)]);
    let (digest, _) = fill(&registry, "1", &layers);
    let place = Place::new();
    let mut pull = place.pull(&["--with-cosign", "--json"], &docker(&registry));
    let outcome = run(&mut pull).expect(0);
    let summary: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(summary["image"]["digest"], digest.as_str());
    assert_eq!(summary["image"]["unchanged"], true);
    assert!(moved.load(Ordering::Relaxed));
    assert_eq!(registry.count("GET", "/manifests/1"), 1);
}

#[test]
fn documents_that_are_too_large_or_no_documents_are_refused() {
    let many: Vec<_> = (0..2000)
        .map(|_| json!({"mediaType": LAYER, "digest": format!("sha256:{}", "a".repeat(64)), "size": 1}))
        .collect();
    let huge = json!({"mediaType": LAYER, "digest": format!("sha256:{}", "a".repeat(64)),
        "size": i64::MAX});
    let with = |layers: serde_json::Value| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(b"{}"), "size": 2},
            "layers": layers})
        .to_string()
    };
    for (kind, body, reason) in [
        (MANIFEST, "x".repeat(5 << 20), "larger than"),
        (MANIFEST, "{".to_owned(), "manifest sha256:"),
        (INDEX, "[]".to_owned(), "index sha256:"),
        ("text/html", "<html>".to_owned(), "media type \"text/html\""),
        (MANIFEST, with(json!(many)), "unexpected status code 404"),
        (MANIFEST, with(json!([huge])), ""),
        (MANIFEST, with(json!([])), ""),
    ] {
        let registry = Registry::new();
        registry.put_blob(b"{}");
        registry.put_manifest("1", kind, body.as_bytes());
        let place = Place::new();
        let outcome = run(&mut place.pull(&[], &docker(&registry)));
        if body.contains("\"layers\":[]") {
            // An image may have no layers.
            assert!(matches!(outcome.code, Some(0 | 255)), "{outcome}");
            continue;
        }
        let outcome = outcome.expect(255).says(reason).says("FATAL:");
        assert_eq!(place.names(), [""; 0], "{outcome}");
    }
}

#[test]
fn hostile_layers_write_nothing_anywhere() {
    let outside = Home::new();
    let evil = outside.join("evil");
    let target = outside.path().to_str().unwrap();
    let up = "../".repeat(20) + &target[1..] + "/evil";
    let absolute = format!("{target}/evil");
    let archives: [(Archive, &str); 6] = [
        (
            Archive::new().file(&up[..up.len().min(99)], b"x"),
            "leads out",
        ),
        (
            Archive::new().file(&absolute[..absolute.len().min(99)], b"x"),
            "absolute",
        ),
        (
            Archive::new()
                .link(EntryType::Symlink, "link", target)
                .file("link/evil", b"x"),
            "symbolic link",
        ),
        (
            Archive::new().device(EntryType::Block, "disk", 8, 0),
            "block device 8:0",
        ),
        (
            Archive::new().link(EntryType::Link, "hard", "/etc/shadow"),
            "",
        ),
        (
            Archive::new()
                .file("a", b"x")
                .file("a/b", b"through a file"),
            "no directory",
        ),
    ];
    for (archive, reason) in archives {
        let registry = Registry::new();
        fill(&registry, "1", &[gzip(&archive.bytes())]);
        let place = Place::new();
        place.refused(&mut place.pull(&[], &docker(&registry)), reason);
        assert!(!evil.exists());
    }
}

#[test]
fn a_gzip_bomb_ends_where_it_is_too_large() {
    // Members of a mebibyte of zeros each: 1.2 GiB in about a mebibyte.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(1200 << 20);
    header.set_mode(0o644);
    header.set_path("zeros").unwrap();
    header.set_cksum();
    let mut bomb = gzip(header.as_bytes());
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&vec![0; 1 << 20]).unwrap();
    let member = member.finish().unwrap();
    for _ in 0..1200 {
        bomb.extend_from_slice(&member);
    }
    let registry = Registry::new();
    fill(&registry, "1", &[bomb]);
    let place = Place::new();
    place.refused(
        &mut place.pull(&[], &docker(&registry)),
        "expands to more than",
    );
}

#[test]
fn of_two_pulls_to_one_name_one_wins_and_the_file_is_whole() {
    let layers = layers();
    let registry = Registry::with(|seen, _, store| {
        seen.path.contains("/blobs/").then(|| {
            let mut reply = store.answer(seen);
            reply.pause = Duration::from_millis(50);
            reply
        })
    });
    fill(&registry, "1", &layers);
    for (args, codes) in [(vec![], [0, 255]), (vec!["--force"], [0, 0])] {
        let place = Place::new();
        let both = [(), ()].map(|()| start(&mut place.pull(&args, &docker(&registry))));
        let ends = both.map(|child| finish(child, Duration::from_secs(60), "pull"));
        let mut found = ends.each_ref().map(|end| end.code.unwrap());
        found.sort_unstable();
        assert_eq!(found, codes, "{} {}", ends[0], ends[1]);
        if let Some(loser) = ends.iter().find(|end| end.code == Some(255)) {
            assert!(loser.stderr.contains("already exists"), "{loser}");
        }
        assert_eq!(place.names(), ["x.sif"]);
        let mut list = place.home.sigsif(["sif", "check", "out/x.sif"]);
        run(&mut list).expect(0);
    }
}

/// Whether this process was started without ears for SIGINT, as jobs in the background are: then
/// the programs that it starts are deaf as well.
fn is_deaf() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default() & 0b10 != 0
}

/// Waits until a layer was asked for, then ends the pull by a signal.
fn end_by(
    signal: &str,
    registry: &Registry,
    child: std::process::Child,
    pid: impl FnOnce() -> u32,
) -> Outcome {
    let begin = Instant::now();
    while registry.count("GET", "/blobs/") < 2 {
        assert!(begin.elapsed() < Duration::from_secs(30), "no request");
        thread::sleep(Duration::from_millis(10));
    }
    // Part of the shell: small machines have no program of that name.
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill {signal} {}", pid())]);
    run(&mut kill).expect(0);
    finish(child, Duration::from_secs(10), "pull")
}

fn slow(seen: &Seen, store: &mut Store, from: &str) -> Option<Reply> {
    is_layer(seen, from).then(|| {
        let mut reply = store.answer(seen);
        reply.pause = Duration::from_secs(20);
        reply
    })
}

#[test]
fn a_signal_leaves_the_old_file_and_nothing_else() {
    let layers = layers();
    let wanted = digest(&layers[1]);
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-KILL", 9)] {
        if signal == "-INT" && is_deaf() {
            continue;
        }
        let wanted = wanted.clone();
        let registry = Registry::with(move |seen, _, store| slow(seen, store, &wanted));
        fill(&registry, "1", &layers);
        let place = Place::new();
        fs::write(place.home.join("out/x.sif"), b"old").unwrap();
        let child = start(&mut place.pull(&["--force"], &docker(&registry)));
        let pid = child.id();
        let outcome = end_by(signal, &registry, child, || pid);
        assert_eq!(outcome.signal, Some(number), "{outcome}");
        assert_eq!(place.names(), ["x.sif"]);
        assert_eq!(place.output(), b"old");
    }
}

#[test]
fn a_signal_removes_the_file_where_it_has_to_have_a_name() {
    if tool("strace").is_none() {
        return skip_without("strace");
    }
    if !cfg!(target_arch = "x86_64") {
        return skip("the call to refuse has another name on this architecture");
    }
    let layers = layers();
    let wanted = digest(&layers[1]);
    for (signal, number, left) in [("-INT", 2, 0), ("-TERM", 15, 0), ("-KILL", 9, 1)] {
        if signal == "-INT" && is_deaf() {
            continue;
        }
        let wanted = wanted.clone();
        let registry = Registry::with(move |seen, _, store| slow(seen, store, &wanted));
        fill(&registry, "1", &layers);
        let place = Place::new();
        // As on NFS: a file without a name is not to be had.
        let out = place.home.join("out");
        let pull = place.pull(&["--with-cosign"], &docker(&registry));
        let options = ["-P", "out", "-e", "inject=open:error=EOPNOTSUPP"];
        let child = start(&mut strace(&pull, &options.map(str::to_owned)));
        let strace_id = child.id();
        let pid = || {
            let list = format!("/proc/{strace_id}/task/{strace_id}/children");
            let children = fs::read_to_string(list).unwrap();
            children.trim().parse().expect("one child of strace")
        };
        let outcome = end_by(signal, &registry, child, pid);
        assert_eq!(outcome.signal, Some(number), "{outcome}");
        let found = names(&out);
        assert_eq!(found.len(), left, "{found:?}");
        // What a kill left is gone after the next pull.
        let fresh = Registry::new();
        fill(&fresh, "1", &layers);
        run(&mut place.pull(&[], &docker(&fresh))).expect(0);
        assert_eq!(place.names(), ["x.sif"]);
    }
}

/// Calls that change a file, as `strace` names them.
const CALLS: &[&str] = &[
    "pwrite64",
    "write",
    "fallocate",
    "ftruncate",
    "fsync",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
];

#[test]
fn a_full_disk_or_a_kill_at_any_call_leaves_the_old_file_or_the_new_one() {
    if tool("strace").is_none() {
        return skip_without("strace");
    }
    let layers = layers();
    let registry = Registry::new();
    fill(&registry, "1", &layers);
    let place = Place::new();
    run(&mut place.pull(&[], &docker(&registry))).expect(0);
    let new = place.output();
    // How often each call comes.
    let pull = place.pull(&["--force"], &docker(&registry));
    let trace = format!("trace={}", CALLS.join(","));
    run(&mut strace(&pull, &["-e".to_owned(), trace])).expect(0);
    let trace = fs::read_to_string(place.home.join("trace")).unwrap();
    let mut hits = 0;
    for call in CALLS {
        let count = trace.matches(&format!(" {call}(")).count();
        // The first, the last, and some between.
        let step = (count / 4).max(1);
        let mut places: Vec<usize> = (1..=count).step_by(step).collect();
        places.extend((count > 1).then_some(count));
        for at in places {
            for fault in ["error=ENOSPC", "signal=KILL"] {
                if *call == "write" && fault == "error=ENOSPC" {
                    // Those are to sockets and to stderr.
                    continue;
                }
                let place = Place::new();
                fs::write(place.home.join("out/x.sif"), b"old").unwrap();
                let pull = place.pull(&["--force"], &docker(&registry));
                let inject = format!("inject={call}:{fault}:when={at}");
                let trace = format!("trace={call}");
                let options = ["-e".to_owned(), trace, "-e".to_owned(), inject];
                let outcome = run(&mut strace(&pull, &options));
                let output = place.output();
                let what = format!("{fault} at {call} {at}: {outcome}");
                assert!(output == b"old" || output == new, "{what}");
                assert!(outcome.code != Some(0) || output == new, "{what}");
                // After a failure that could be handled nothing is left over.
                if fault == "error=ENOSPC" {
                    assert_eq!(place.names(), ["x.sif"], "{what}");
                    assert!(
                        outcome.code == Some(0) || outcome.stderr.contains("no space left"),
                        "{what}"
                    );
                }
                hits += 1;
            }
        }
    }
    eprintln!("{hits} faults at calls of pull");
    assert!(hits > 20, "{hits}");
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says_so() {
    let layers = layers();
    let registry = Registry::with(|seen, before, _| {
        let busy = seen.path.contains("/blobs/") && before == 0;
        busy.then(|| Reply::status(429).with("Retry-After", "1"))
    });
    fill(&registry, "1", &layers);
    let place = Place::new();
    let begin = Instant::now();
    run(&mut place.pull(&[], &docker(&registry))).expect(0);
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_proxy_is_used_and_plain_http_only_where_it_is_wished() {
    let proxy = Registry::with(|seen, _, _| {
        seen.path
            .ends_with("registry.test:5000/v2/")
            .then(|| Reply::status(200))
    });
    fill(&proxy, "1", &layers());
    let place = Place::new();
    let uri = "docker://registry.test:5000/lab/x:1";
    let with_proxy = |args: &[&str]| {
        let mut pull = place.pull(args, uri);
        pull.env("http_proxy", format!("http://{}", proxy.host()));
        pull.env("https_proxy", format!("http://{}", proxy.host()));
        pull
    };
    run(&mut with_proxy(&["--no-https"])).expect(0);
    assert!(proxy.count("GET", "http://registry.test:5000/v2/lab/x/") > 0);
    // Without the wish only TLS will do.
    let place = Place::new();
    let mut pull = place.pull(&[], uri);
    pull.env("https_proxy", format!("http://{}", proxy.host()));
    place.refused(&mut pull, "https://registry.test:5000/v2/");
    assert!(proxy.count("CONNECT", "registry.test:5000") > 0);
}

/// Most resident memory of a pull, in KiB.
const MEMORY: u64 = 64 << 10;

#[test]
fn memory_stays_small_however_large_the_image() {
    if !Path::new("/usr/bin/time").is_file() {
        return skip("GNU time is not installed");
    }
    const LARGE: usize = 192 << 20;
    let registry = Registry::new();
    // A layer of one large file, as it is and compressed; and a SIF with much behind it.
    let archive = Archive::new().file("large", &vec![0; LARGE]).bytes();
    let packed = gzip(&archive);
    fill(&registry, "packed", &[packed]);
    fill(&registry, "large", std::slice::from_ref(&archive));
    drop(archive);
    let mut sif = crate::support::read_peers("native/unsigned.sif");
    sif.resize(LARGE, 0);
    fill_sif(&registry, "sif", &sif);
    drop(sif);
    for (args, uri) in [
        (vec![], "docker://HOST/lab/x:packed"),
        (vec!["--with-cosign"], "docker://HOST/lab/x:large"),
        (vec!["--local"], "oras://HOST/lab/x:sif"),
    ] {
        let place = Place::new();
        let pull = place.pull(&args, &uri.replace("HOST", &registry.host()));
        let peak = place.home.join("peak");
        let mut timed = place.home.clean("/usr/bin/time");
        timed
            .args(["-f", "%M", "-o"])
            .arg(&peak)
            .arg(pull.get_program())
            .args(pull.get_args());
        run(&mut timed).expect(0);
        let peak = fs::read_to_string(peak).unwrap();
        let peak: u64 = peak.trim().parse().unwrap();
        eprintln!("{uri} of {LARGE} bytes: {peak} KiB");
        assert!(peak <= MEMORY, "{uri} needs {peak} KiB, limit {MEMORY}");
    }
}
