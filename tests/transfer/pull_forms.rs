//! `pull` from libraries and plain servers, over TLS, and how it tells what it does.

use crate::pull_faults::{fill, fill_as, fill_sif, names};
use crate::pull_real::judged;
use crate::server::{INDEX, MANIFEST, Registry, Reply, Seen, Store, digest};
use crate::support::{Home, peers, read_peers, run, skip_without, tool};
use crate::tls;
use serde_json::json;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

const TOKEN: &str = "library-token-0123456789";
const SIF: &str = "native/dsse-p256.sif";

/// How a library keeps its images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In a registry behind it.
    Registry,
    /// It sends them itself.
    Itself,
    /// It names a store nearby.
    Elsewhere,
}

/// A library with one image, `lab/default/x:1`, for amd64.
fn library(kind: Kind, sif: Vec<u8>, hash: String, token: Option<&'static str>) -> Registry {
    let at = Arc::new(Mutex::new(0_u16));
    let port = Arc::clone(&at);
    let registry = Registry::with(move |seen, _, store| {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let sent = seen.header("authorization");
        let here = format!("http://127.0.0.1:{}", port.lock().unwrap());
        if path == "/assets/config/config.prod.json" {
            let services = json!({"libraryAPI": {"uri": format!("{here}/library")}});
            return Some(Reply::status(200).body(services.to_string()));
        }
        if path.starts_with("/v2/") {
            let wanted = "Bearer token-of-the-registry";
            return match sent == Some(wanted) {
                true => None,
                false => Some(Reply::status(401).with(
                    "WWW-Authenticate",
                    "Bearer realm=\"https://registry.test/token\"",
                )),
            };
        }
        if path.starts_with("/store/") {
            assert_eq!(sent, None, "a store gets no token");
            return Some(Reply::status(200).body(sif.clone()));
        }
        let path = path
            .strip_prefix("/library/")
            .or_else(|| path.strip_prefix('/'))?;
        if sent != token.map(|token| format!("Bearer {token}")).as_deref() {
            return Some(Reply::status(401).body(
                json!({"error": {"code": 401, "message": format!("no: {sent:?}")}}).to_string(),
            ));
        }
        let reply = match path {
            "v1/images/lab/default/x:1" if query == "arch=amd64" => {
                let data = json!({"data": {"hash": hash, "size": sif.len(), "uploaded": true}});
                Reply::status(200).body(data.to_string())
            }
            "v1/images/lab/default/layers:1" => Reply::status(500)
                .body(r#"{"error":{"message":"type application/vnd.oci.image.config.v1+json"}}"#),
            "v1/oci-redirect" if kind == Kind::Registry => {
                let answer = json!({"token": "token-of-the-registry", "url": here,
                    "name": "mapped/x"});
                Reply::status(200).body(answer.to_string())
            }
            "v1/imagefile/lab/default/x:1" if kind == Kind::Itself => {
                store.blobs.insert("sif".to_owned(), sif.clone());
                store.answer(&Seen {
                    path: "/v2/a/blobs/sif".to_owned(),
                    ..seen.clone()
                })
            }
            "v1/imagefile/lab/default/x:1" if kind == Kind::Elsewhere => {
                let to = here.replace("127.0.0.1", "localhost");
                Reply::status(303).with("Location", format!("{to}/store/x?sig=secret-part"))
            }
            _ => Reply::status(404).body(r#"{"error":{"message":"not found"}}"#),
        };
        Some(reply)
    });
    *at.lock().unwrap() = registry.port;
    registry
}

/// What the registry behind a library has.
fn fill_library(registry: &Registry, tag: &str, sif: &[u8], arch: &str) {
    let layer = registry.put_blob(sif);
    let config = json!({"architecture": arch}).to_string();
    let config_digest = registry.put_blob(config.as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.sylabs.sif.config.v1+json",
            "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
            "digest": layer, "size": sif.len()}]})
    .to_string();
    let digest = registry.put_manifest("image", MANIFEST, manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST,
        "digest": digest, "size": manifest.len(),
        "platform": {"architecture": "amd64", "os": "linux"}}]});
    registry.put_manifest(tag, INDEX, index.to_string().as_bytes());
}

fn hash(sif: &[u8]) -> String {
    digest(sif).replacen(':', ".", 1)
}

fn pull(home: &Home, args: &[&str]) -> Command {
    let mut pull = home.sigsif(["--debug", "pull", "--force", "--local", "--arch", "amd64"]);
    pull.env("SIGSIF_CONFIGDIR", home.join("config")).args(args);
    pull
}

#[test]
fn a_library_gives_its_image_in_each_way() {
    let sif = read_peers(SIF);
    for kind in [Kind::Registry, Kind::Itself, Kind::Elsewhere] {
        let registry = library(kind, sif.clone(), hash(&sif), None);
        fill_library(&registry, "1", &sif, "amd64");
        let home = Home::new();
        let library = format!("http://{}", registry.host());
        let args = ["--library", &library, "x.sif", "library://lab/default/x:1"];
        let outcome = run(&mut pull(&home, &args))
            .expect(0)
            .says("Downloading library image")
            .says("Downloaded ")
            .says("failed to verify container: ")
            .says("Skipping container verification");
        assert!(fs::read(home.join("x.sif")).unwrap() == sif);
        assert!(!outcome.to_string().contains("secret-part"), "{outcome}");
        // The name of the file, and a host in the reference.
        let uri = format!("library://{}/lab/default/x:1", registry.host());
        run(&mut pull(&home, &["--no-https", &uri])).expect(0);
        assert!(fs::read(home.join("x_1.sif")).unwrap() == sif);
        run(&mut pull(&home, &["--library", &library, &uri]))
            .expect(255)
            .says("do not use --library with a library URI containing host name");
        run(&mut pull(
            &home,
            &["--library", &library, "y.sif", "lab/default/y:1"],
        ))
        .expect(255)
        .says("image does not exist in the library: lab/default/y:1 (amd64)");
    }
}

#[test]
fn an_image_of_a_library_that_is_another_one_is_refused() {
    let sif = read_peers(SIF);
    let other = hash(b"other");
    for (kind, hash, arch, reason) in [
        (
            Kind::Registry,
            other.clone(),
            "amd64",
            "its registry has sha256:",
        ),
        (
            Kind::Registry,
            hash(&sif),
            "arm64",
            "unexpected image architecture: got arm64",
        ),
        (Kind::Itself, other.clone(), "amd64", "expected sha256:"),
        (Kind::Elsewhere, other, "amd64", "expected sha256:"),
    ] {
        let registry = library(kind, sif.clone(), hash, None);
        fill_library(&registry, "1", &sif, arch);
        let home = Home::new();
        let library = format!("http://{}", registry.host());
        let args = [
            "--library",
            &library,
            "--dir",
            "out",
            "x.sif",
            "lab/default/x:1",
        ];
        fs::create_dir(home.join("out")).unwrap();
        run(&mut pull(&home, &args)).expect(255).says(reason);
        assert_eq!(names(&home.join("out")), [""; 0]);
    }
}

#[test]
fn the_token_of_an_endpoint_goes_to_its_library_and_nowhere_else() {
    let sif = read_peers(SIF);
    for kind in [Kind::Registry, Kind::Itself, Kind::Elsewhere] {
        let registry = library(kind, sif.clone(), hash(&sif), Some(TOKEN));
        fill_library(&registry, "1", &sif, "amd64");
        let home = Home::new();
        fs::create_dir(home.join("config")).unwrap();
        let config = format!(
            "Active: lab\nRemotes:\n  lab:\n    URI: {}\n    Token: {TOKEN}\n    Insecure: true\n",
            registry.host()
        );
        home.write("config/remote.yaml", config.as_bytes());
        let outcome = run(&mut pull(&home, &["x.sif", "library://lab/default/x:1"])).expect(0);
        assert!(!outcome.to_string().contains(TOKEN), "{outcome}");
        assert!(fs::read(home.join("x.sif")).unwrap() == sif);
        // A library that the user names gets none; this one says what it got.
        let library = format!("http://{}", registry.host());
        run(&mut pull(
            &home,
            &["--library", &library, "x.sif", "lab/default/x:1"],
        ))
        .expect(255)
        .says("request did not succeed: no: None");
    }
}

#[test]
fn a_library_with_an_image_of_layers_gives_an_oci_sif() {
    let registry = library(Kind::Registry, Vec::new(), String::new(), None);
    let layer = crate::layers::Archive::new().file("a", b"x").bytes();
    fill(&registry, "1", &[crate::layers::gzip(&layer)]);
    let home = Home::new();
    let library = format!("http://{}", registry.host());
    let args = [
        "--library",
        &library,
        "--allow-unsigned",
        "lab/default/layers:1",
    ];
    run(&mut pull(&home, &args))
        .expect(0)
        .says("lab/default/layers:1 is an OCI image, attempting to fetch as an OCI-SIF");
    run(&mut home.sigsif(["sif", "check", "layers_1.sif"])).expect(0);
    run(&mut pull(&home, &["--oci", args[0], args[1], args[3]])).expect(0);
    run(&mut home.sigsif(["sif", "check", "layers_1.oci.sif"])).expect(0);
}

#[test]
fn layers_in_zstd_become_what_the_same_in_gzip_become() {
    let registry = Registry::new();
    let archives = [
        crate::layers::Archive::new()
            .file("a", &[7; 300_000])
            .file("b", b"x")
            .bytes(),
        crate::layers::Archive::new().file(".wh.b", b"").bytes(),
    ];
    let gzip = archives.each_ref().map(|layer| crate::layers::gzip(layer));
    let zstd = archives
        .each_ref()
        .map(|layer| zstd::encode_all(layer.as_slice(), 3).unwrap());
    fill(&registry, "gzip", &gzip);
    for (tag, media_type) in [
        ("oci", "application/vnd.oci.image.layer.v1.tar+zstd"),
        (
            "docker",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
        ),
    ] {
        fill_as(media_type, &registry, tag, &zstd);
    }
    let home = Home::new();
    let layers = |tag: &str, args: &[&str]| {
        let uri = format!("docker://{}/lab/x:{tag}", registry.host());
        let mut command = pull(&home, &["--no-https"]);
        run(command.args(args).args(["x.sif", &uri])).expect(0);
        run(&mut home.sigsif(["sif", "check", "x.sif"])).expect(0);
        let tree = run(&mut home.sigsif(["sif", "tree", "x.sif"])).expect(0);
        let tree = String::from_utf8(tree.stdout).unwrap();
        let layers = tree.lines().filter(|line| line.contains("squashfs"));
        layers.map(str::to_owned).collect::<Vec<_>>()
    };
    for args in [&[][..], &["--keep-layers"]] {
        let expected = layers("gzip", args);
        assert_eq!(expected.len(), args.len() + 1);
        assert_eq!(layers("oci", args), expected);
        assert_eq!(layers("docker", args), expected);
    }
}

/// A plain server with one file.
fn plain(file: Vec<u8>) -> Registry {
    Registry::with(move |seen, _, store| {
        seen.path.starts_with("/files/").then(|| {
            store.blobs.insert("file".to_owned(), file.clone());
            let path = "/v2/a/blobs/file".to_owned();
            store
                .answer(&Seen {
                    path,
                    ..seen.clone()
                })
                .with("ETag", "\"1\"")
        })
    })
}

#[test]
fn a_file_of_a_plain_server_is_judged_and_has_to_be_an_image() {
    let sif = read_peers(SIF);
    let registry = plain(sif.clone());
    let home = Home::new();
    let uri = format!(
        "http://{}/files/image.sif?key=query-secret",
        registry.host()
    );
    judged(&home, &uri, &sif);
    let with_login = uri.replacen("http://", "http://joe:hunter2-pw@", 1);
    let outcome = run(&mut pull(&home, &["--json", "x.sif", &with_login])).expect(0);
    for secret in ["query-secret", "hunter2-pw"] {
        assert!(!outcome.to_string().contains(secret), "{outcome}");
    }
    for file in [
        b"<html>no image</html>".to_vec(),
        Vec::new(),
        sif[..9000].to_vec(),
    ] {
        let registry = plain(file);
        let home = Home::new();
        let uri = format!("http://{}/files/image.sif", registry.host());
        fs::create_dir(home.join("out")).unwrap();
        run(&mut pull(&home, &["--dir", "out", "x.sif", &uri]))
            .expect(255)
            .says("While pulling from image from http(s): ");
        assert_eq!(names(&home.join("out")), [""; 0]);
    }
}

#[test]
fn tls_needs_an_authority_that_is_trusted() {
    let store = Mutex::new(Store::default());
    let sif = read_peers(SIF);
    {
        let registry = Registry::new();
        fill_sif(&registry, "1", &sif);
        let from = std::mem::take(&mut *registry.store.lock().unwrap());
        *store.lock().unwrap() = from;
    }
    let authority = tls::Authority::new();
    let server = tls::Server::https(&authority, "localhost", move |seen, out| {
        let seen = Seen {
            method: seen.method.clone(),
            path: seen.path.clone(),
            headers: seen.headers.clone(),
            ..Seen::default()
        };
        let reply = store.lock().unwrap().answer(&seen);
        let headers: Vec<_> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        out.write_all(&tls::answer(reply.status, &headers, &reply.body))
    });
    let home = Home::new();
    let ca = home.write("ca.pem", authority.pem.as_bytes());
    let uri = format!("oras://localhost:{}/lab/x:1", server.port);
    run(&mut pull(&home, &["x.sif", &uri]))
        .expect(255)
        .says("certificate");
    assert!(!home.join("x.sif").exists());
    run(pull(&home, &["x.sif", &uri]).env("SIGSIF_CA_FILE", ca)).expect(0);
    assert!(fs::read(home.join("x.sif")).unwrap() == sif);
}

#[test]
fn a_terminal_sees_bars_a_pipe_sees_lines_and_json_is_alone_on_stdout() {
    let mut sif = read_peers("native/unsigned.sif");
    sif.resize(8 << 20, 7);
    let registry = Registry::new();
    fill_sif(&registry, "1", &sif);
    let uri = format!("oras://{}/lab/image:1", registry.host());
    let home = Home::new();
    let mut quiet = home.sigsif(["pull", "--local", "--json", "x.sif"]);
    let outcome = run(quiet.arg(&uri))
        .expect(0)
        .says("INFO:    Downloaded 8388608 bytes in ");
    assert!(!outcome.stderr.contains(['\x1b', '\r']), "{outcome}");
    let summary: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(summary["size"], 8 << 20);
    assert_eq!(summary["file"], "x.sif");
    assert_eq!(summary["source"], uri.as_str());
    assert_eq!(summary["signatures"]["verified"], false);
    assert_eq!(summary["image"]["digest"], digest(&sif));
    let outcome = run(home
        .sigsif(["--silent", "pull", "--local", "y.sif"])
        .arg(&uri))
    .expect(0);
    assert_eq!(
        outcome.to_string(),
        "exit Some(0), signal None\nstdout: \nstderr: "
    );
    if tool("script").is_none() {
        return skip_without("script");
    }
    let call = format!("{} pull --local z.sif {uri}", env!("CARGO_BIN_EXE_sigsif"));
    let mut terminal = home.clean("script");
    terminal
        .env("TERM", "xterm")
        .args(["-qec", &call, "/dev/null"]);
    let screen = String::from_utf8(run(&mut terminal).expect(0).stdout).unwrap();
    let bar = screen
        .split(['\r', '\n'])
        .find(|line| line.contains("z.sif"));
    let bar = bar.unwrap_or_else(|| panic!("no bar in {screen:?}"));
    for part in ["MiB", "/s", "["] {
        assert!(bar.contains(part), "{bar:?}");
    }
    assert!(!screen.contains("Downloaded"), "{screen}");
    // One line for each layer, and one for the conversion.
    let noise = |seed: u32| {
        let words = (0..200_000_u32).map(|n| (n ^ seed).wrapping_mul(2_654_435_761));
        let noise: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        crate::layers::gzip(&crate::layers::Archive::new().file("a", &noise).bytes())
    };
    let (_, layers) = fill(&registry, "2", &[noise(0), noise(0x5555)]);
    let uri = format!("docker://{}/lab/image:2", registry.host());
    let call = format!(
        "{} pull --arch amd64 d.sif {uri}",
        env!("CARGO_BIN_EXE_sigsif")
    );
    let mut terminal = home.clean("script");
    terminal
        .env("TERM", "xterm")
        .args(["-qec", &call, "/dev/null"]);
    let screen = String::from_utf8(run(&mut terminal).expect(0).stdout).unwrap();
    for name in [&layers[0][7..19], &layers[1][7..19], "squashfs"] {
        let mut lines = screen.split(['\r', '\n']);
        let bar = lines.any(|line| line.contains(name) && line.contains("/s"));
        assert!(bar, "{name}: {screen:?}");
    }
}

#[test]
fn flags_that_do_not_fit_are_refused_or_told() {
    let home = Home::new();
    let key = peers("keys/p256.pub.pem").display().to_string();
    for (args, code, reason) in [
        (
            vec!["--no-oci", "docker://127.0.0.1:1/a/b"],
            255,
            "--no-oci is not supported",
        ),
        (
            vec!["--oci", "--no-oci", "oras://127.0.0.1:1/a/b"],
            1,
            "cannot be used together",
        ),
        (
            vec!["--key", &key, "docker://127.0.0.1:1/a/b"],
            255,
            "without --with-cosign the file has no signatures",
        ),
        (
            vec![
                "--with-cosign",
                "--key",
                &key,
                "--local",
                "docker://127.0.0.1:1/a/b",
            ],
            255,
            "--local not supported: --cosign verification uses a public --key",
        ),
        (
            vec!["--policy", "p", "--key", &key, "oras://127.0.0.1:1/a/b"],
            1,
            "--policy and --key cannot be used together",
        ),
        (
            vec!["--arch", "a", "--platform", "linux/b", "oras://h/a"],
            255,
            "together",
        ),
        (
            vec!["--platform", "windows/amd64", "oras://h/a"],
            255,
            "is no platform",
        ),
        (vec!["shub://a/b"], 255, "Unsupported transport type: shub"),
        (
            vec!["library://../../x"],
            255,
            "Malformed library reference",
        ),
        (vec!["docker://"], 255, "invalid reference"),
        (
            vec!["--docker-password", "x", "docker://127.0.0.1:1/a/b"],
            255,
            "--docker-username",
        ),
    ] {
        let mut pull = home.sigsif(["pull"]);
        run(pull.args(&args)).expect(code).says(reason);
    }
    let mut pull = home.sigsif([
        "pull",
        "--local",
        "--url",
        "http://k",
        "docker://127.0.0.1:1/a/b",
    ]);
    run(&mut pull)
        .expect(255)
        .says("WARNING: --local has no effect")
        .says("WARNING: --url has no effect");
    let registry = Registry::new();
    let layer = crate::layers::Archive::new().file("a", b"x").bytes();
    fill(&registry, "1", &[crate::layers::gzip(&layer)]);
    let uri = format!("docker://{}/lab/x:1", registry.host());
    run(home
        .sigsif(["pull", "--arch", "amd64", "--tmpdir", "none", "t.sif"])
        .arg(uri))
    .expect(255)
    .says("open none: no such file or directory");
    home.write("there.sif", b"old");
    let mut pull = home.sigsif(["pull", "there.sif", "docker://127.0.0.1:1/a/b"]);
    run(&mut pull)
        .expect(255)
        .says("Image file already exists: \"there.sif\" - will not overwrite");
    let sif = read_peers(SIF);
    let registry = plain(sif);
    let uri = format!("http://{}/files/x.sif", registry.host());
    let flags = [
        "--oci",
        "--arch",
        "arm64",
        "--keep-layers",
        "--library",
        "http://h",
    ];
    let mut pull = home.sigsif(["pull", "--local"]);
    run(pull.args(flags).arg(uri))
        .expect(0)
        .says("WARNING: Pull from http[s]:// URIs is a direct download, --oci has no effect.")
        .says("--arch and --platform have no effect.")
        .says("--keep-layers, --layer-format and --converter have no effect.")
        .says("--library has no effect");
}

/// A registry that lets `joe` in, and nobody else.
fn guarded() -> Registry {
    let basic = |pair: &str| {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pair);
        format!("Basic {text}")
    };
    let wanted = basic(&format!("joe:{PASSWORD}"));
    let registry = Registry::with(move |seen, _, _| {
        (seen.header("authorization") != Some(&wanted))
            .then(|| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\""))
    });
    fill_sif(&registry, "1", &read_peers(SIF));
    registry
}

const PASSWORD: &str = "hunter2-password";

#[test]
fn a_login_comes_from_flags_variables_files_or_a_helper() {
    let registry = guarded();
    let home = Home::new();
    let uri = format!("oras://{}/lab/x:1", registry.host());
    let auth = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("joe:{PASSWORD}"));
    let logins = json!({"auths": {registry.host(): {"auth": auth}}}).to_string();
    fs::create_dir_all(home.join("config")).unwrap();
    fs::create_dir_all(home.join("docker")).unwrap();
    fs::create_dir_all(home.join("bin")).unwrap();
    home.write("logins.json", logins.as_bytes());
    let helper = home.write(
        "bin/docker-credential-lab",
        format!("#!/bin/sh\ncat >/dev/null\nprintf '{{\"Username\":\"joe\",\"Secret\":\"{PASSWORD}\"}}'\n")
            .as_bytes(),
    );
    fs::set_permissions(helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let helped = json!({"credHelpers": {registry.host(): "lab"}}).to_string();
    home.write("helped.json", helped.as_bytes());
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", home.join("bin").display());
    let start = |args: &[&str]| {
        let mut command = pull(&home, args);
        command
            .env("PATH", &path)
            .env("DOCKER_CONFIG", home.join("docker"));
        command.args(["x.sif", &uri]);
        command
    };
    // Nobody, and somebody else.
    for args in [
        vec![],
        vec![
            "--docker-username",
            "joe",
            "--docker-password",
            "wrong-password",
        ],
    ] {
        let outcome = run(&mut start(&args))
            .expect(255)
            .says("401")
            .says("registry login");
        assert!(!outcome.to_string().contains("wrong-password"), "{outcome}");
        assert!(!home.join("x.sif").exists());
    }
    let good = |command: &mut Command| {
        let outcome = run(command).expect(0);
        assert!(!outcome.to_string().contains(PASSWORD), "{outcome}");
        assert!(!outcome.to_string().contains(&auth), "{outcome}");
        fs::remove_file(home.join("x.sif")).unwrap();
    };
    good(&mut start(&[
        "--docker-username",
        "joe",
        "--docker-password",
        PASSWORD,
    ]));
    good(
        start(&[])
            .env("SINGULARITY_DOCKER_USERNAME", "joe")
            .env("SINGULARITY_DOCKER_PASSWORD", PASSWORD),
    );
    good(&mut start(&["--authfile", "logins.json"]));
    good(&mut start(&["--authfile", "helped.json"]));
    home.write("docker/config.json", logins.as_bytes());
    good(&mut start(&[]));
    fs::remove_file(home.join("docker/config.json")).unwrap();
    // Whoever keeps such files elsewhere has a link there.
    std::os::unix::fs::symlink("../logins.json", home.join("docker/config.json")).unwrap();
    good(&mut start(&[]));
    fs::remove_file(home.join("docker/config.json")).unwrap();
    home.write("config/docker-config.json", logins.as_bytes());
    good(&mut start(&[]));
}

#[test]
fn an_image_for_another_architecture_is_refused() {
    let registry = Registry::new();
    let layer = crate::layers::Archive::new().file("a", b"x").bytes();
    fill(&registry, "1", &[crate::layers::gzip(&layer)]);
    let home = Home::new();
    let uri = format!("docker://{}/lab/x:1", registry.host());
    for (arch, code) in [("x86_64", 0), ("arm64", 255), ("ARMHF", 255)] {
        let mut pull = home.sigsif(["pull", "--force", "--arch", arch, "x.sif"]);
        let outcome = run(pull.arg(&uri)).expect(code);
        if code != 0 {
            outcome.says("image (linux/amd64) does not satisfy required platform (linux/arm");
        }
    }
}
