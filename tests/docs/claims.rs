//! What `docs/security.md` claims and no other test shows.

use crate::support::{self, Home};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A file may have any name, and whoever names it may not be who runs the program.
#[test]
fn the_name_of_a_file_forges_no_line() {
    let home = Home::new();
    let key = support::peers("keys/ed25519.pub.pem");
    let key = key.to_str().expect("UTF-8");
    for forged in [
        "INFO:    Verified signature(s) from image 'other.sif'",
        "FATAL:   failed to verify container: other.sif",
        "[LOCAL]            Signing entity: Alice",
        // Nothing is seen of the first character.
        "\u{200b}INFO:    Verified signature(s) from image 'other.sif'",
        "\u{feff}FATAL:   failed to verify container: other.sif",
    ] {
        let name = format!("x.sif\n{forged}");
        home.copy("native/dsse-ed25519.sif", &name);
        let missing = format!("none\n{forged}");
        for args in [
            &["verify", "--key", key, &name][..],
            &["verify", "--key", key, &missing],
            &["verify", "--key", &name, &name],
            &["verify", "--policy", &name, &name],
            &["verify", "--certificate", &name, &name],
            &["verify", "--cosign", "--key", key, &name],
            &["sign", "--key", &name, &name],
            &["key", "import", &name],
            &["key", "public-key", "--key", &name],
            &["sif", "list", &missing],
            &["sif", "check", &name],
            &["sif", "check", &missing],
            &["sif", "info", "1", &missing],
            &["sif", "add", "--datatype", "7", &name, &name],
            &["sif", "repair", &name, "made.sif"],
            &["sif", "tree", &name],
            &["ecl", "check", &name],
            &["pull", &missing],
            &[&missing],
            &["sif", &missing],
            &[&format!("--{missing}")],
        ] {
            let ended = support::run(&mut home.sigsif(args));
            let stdout = String::from_utf8_lossy(&ended.stdout);
            let lines = stdout.lines().chain(ended.stderr.lines());
            let begins = lines.filter(|line| line.starts_with(forged)).count();
            assert_eq!(begins, 0, "{args:?}: {ended}");
        }
    }
}

#[test]
fn what_cannot_be_printed_is_no_success() {
    let home = Home::new();
    let key = support::peers("keys/ed25519.pub.pem");
    let key = key.to_str().expect("UTF-8");
    home.copy("native/dsse-ed25519.sif", "image.sif");
    for args in [
        &["--version"][..],
        &["--help"],
        &["help", "sif"],
        &["sif"],
        &["verify", "--help"],
        &["verify", "--key", key, "image.sif"],
        &["verify", "--key", key, "--json", "image.sif"],
        &["verify", "--key", key, "image.sif", "image.sif"],
        &["sif", "check", "image.sif"],
        &["sif", "dump", "1", "image.sif"],
        &["completion", "bash"],
    ] {
        let mut command = home.clean("sh");
        command
            .args(["-c", "exec \"$@\" >/dev/full", "sh"])
            .arg(env!("CARGO_BIN_EXE_sigsif"))
            .args(args);
        let ended = support::run(&mut command).expect(255);
        ended.says("write /dev/stdout: no space left on device");
    }
}

/// Not the first line of the file that it was opened from.
#[test]
fn a_passphrase_is_the_next_line_of_its_descriptor() {
    let home = Home::with_keys();
    home.copy("native/unsigned.sif", "image.sif");
    home.write("lines", b"somebody\ncorrect horse\nmore\n");
    let mut command = home.clean("sh");
    let script = "exec 3<lines; read who <&3; exec \"$@\" --passphrase-fd 3 image.sif";
    command
        .args(["-c", script, "sh"])
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .args(["sign", "--keyidx", "1"]);
    support::run(&mut command).expect(0);
    support::run(&mut home.sigsif(["verify", "--local", "image.sif"])).expect(0);
}

/// Some programs set the pipes not to wait that they hand over.
#[test]
fn what_comes_late_through_a_descriptor_that_does_not_wait_is_waited_for() {
    let home = Home::with_keys();
    home.copy("native/unsigned.sif", "image.sif");
    let late = |args: &[&str], text: &'static [u8]| {
        let (reader, mut writer) = std::io::pipe().expect("pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("ioctl");
        let writing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            writer.write_all(text).expect("write");
        });
        let ended = home.sigsif(args).stdin(reader).output().expect("sigsif");
        writing.join().expect("writer");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{args:?}: {said}");
    };
    let sign = ["sign", "--keyidx", "1", "--passphrase-fd", "0", "image.sif"];
    late(&sign, b"correct horse\n");
    late(&["verify", "--local", "--from-file", "-"], b"image.sif\n");
    late(&["sif", "add", "--datatype", "7", "image.sif", "-"], b"x");
    let report = ["verify", "--local", "--group-id", "1", "--format", "json"];
    let report = home.sigsif(report).arg("image.sif").output().expect("run");
    late(
        &["report", "html", "page.html", "-"],
        Vec::leak(report.stdout),
    );
}

#[test]
fn a_crash_leaves_no_secret_in_a_core_file() {
    let home = Home::with_keys();
    home.copy("native/unsigned.sif", "image.sif");
    // As large a limit as the system allows here; if that is none, this shows nothing.
    let mut command = home.clean("sh");
    let call = "ulimit -S -c $(ulimit -H -c); exec \"$0\" sign --keyidx 1 image.sif";
    let mut waiting = command
        .args(["-c", call, env!("CARGO_BIN_EXE_sigsif")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sigsif");
    let limits = format!("/proc/{}/limits", waiting.id());
    let begin = Instant::now();
    let is_zero = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        line.is_some_and(|line| line.split_whitespace().skip(4).take(2).eq(["0", "0"]))
    };
    while !fs::read_to_string(&limits).is_ok_and(|text| is_zero(&text)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "no limit");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(waiting.stdin.take());
    waiting.wait().expect("an end");
}

#[test]
fn a_credential_helper_gets_no_passphrase() {
    let home = Home::new();
    let helper = home.write(
        "docker-credential-lab",
        b"#!/bin/sh\nenv >helper.env\ncat >/dev/null\n",
    );
    fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).expect("chmod");
    home.write(
        "auth.json",
        br#"{"credsStore":"lab","auths":{"r.lab.test":{}}}"#,
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = home.sigsif(["registry", "logout", "--authfile", "auth.json"]);
    command
        .arg("docker://r.lab.test")
        .env("PATH", format!("{}:{path}", home.path().display()))
        .env("SIGSIF_PASSPHRASE", "correct horse")
        .env("COSIGN_PASSWORD", "battery staple")
        .env("DOCKER_PASSWORD", "open sesame");
    let ended = support::run(&mut command);
    let seen = fs::read_to_string(home.join("helper.env"));
    let seen = seen.unwrap_or_else(|error| panic!("{error}: {ended}"));
    assert!(seen.contains("HOME="), "{seen}");
    for secret in ["correct horse", "battery staple", "open sesame"] {
        assert!(!seen.contains(secret), "{seen}");
    }
}

/// An image whose table is all there is to it: half objects, half signatures. Every signature is
/// about every object, or every object has a group and a signature of its own.
fn crowd(count: u32, own_groups: bool) -> Vec<u8> {
    const MASK: u32 = 0xf000_0000;
    const TABLE: usize = 4096;
    let seal = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSIFHASH:\n00\n\
                -----BEGIN PGP SIGNATURE-----\n\nwsFc\n-----END PGP SIGNATURE-----\n";
    let objects = count / 2;
    let data = (TABLE + count as usize * 585).next_multiple_of(4096);
    let (mut table, mut content) = (Vec::new(), Vec::new());
    for id in 1..=count {
        let own = if own_groups {
            (id - 1) % objects + 1
        } else {
            1
        };
        let (kind, group, link, bytes) = match id <= objects {
            true => (0x4007_i32, MASK | own, 0, &b"x"[..]),
            false => (0x4005, MASK, MASK | own, seal.as_bytes()),
        };
        table.extend(kind.to_le_bytes());
        table.push(1);
        for number in [id, group, link] {
            table.extend(number.to_le_bytes());
        }
        let (offset, size) = (data + content.len(), bytes.len());
        for number in [offset, size, size, 0, 0, 0, 0] {
            table.extend((number as u64).to_le_bytes());
        }
        table.extend([0; 128]);
        table.extend(u32::from(id > objects).to_le_bytes());
        table.extend([0; 380]);
        content.extend_from_slice(bytes);
    }
    let mut image = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\x0000\0".to_vec();
    image.resize(80, 0);
    for number in [0, count as usize, TABLE, table.len(), data, content.len()] {
        image.extend((number as u64).to_le_bytes());
    }
    image.resize(TABLE, 0);
    image.extend(table);
    image.resize(data, 0);
    image.extend(content);
    image
}

#[test]
fn a_table_of_many_thousand_entries_ends_every_command_soon() {
    let home = Home::with_keys();
    for own_groups in [false, true] {
        home.write("crowd.sif", &crowd(20_000, own_groups));
        for (code, args) in [
            (0, &["sif", "list", "crowd.sif"][..]),
            (0, &["sif", "list", "--coverage", "crowd.sif"]),
            (0, &["sif", "info", "7", "crowd.sif"]),
            (0, &["sif", "check", "crowd.sif"]),
            (255, &["verify", "--local", "crowd.sif"]),
            (255, &["verify", "--local", "--format", "json", "crowd.sif"]),
            (255, &["verify", "--local", "--strict", "crowd.sif"]),
            (
                255,
                &[
                    "verify",
                    "--local",
                    "--legacy-insecure",
                    "--all",
                    "crowd.sif",
                ],
            ),
        ] {
            let begin = Instant::now();
            let ended = support::run(&mut home.sigsif(args));
            assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
            assert!(begin.elapsed() < Duration::from_secs(15), "{args:?}");
        }
    }
}

#[test]
fn a_server_of_the_net_sends_nobody_into_a_private_network() {
    use sigsif::net::Url;
    use sigsif::net::http::{Fault, check_hop};
    let url = |text: &str| Url::parse(text).expect("an address");
    let hop = |first: &str, to: &str| check_hop(&url(first), &url(first), &url(to));
    for inside in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.1.2.3",
        "[::1]",
        "[::]",
        "[::ffff:10.0.0.1]",
        "[::ffff:100.64.0.1]",
        "[fe80::1]",
        "[fd00::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "a.localhost.",
    ] {
        let to = format!("https://{inside}:5000/v2/");
        let refused = hop("https://registry.example.org/", &to);
        assert!(
            matches!(refused, Err(Fault::Private(_))),
            "{inside}: {refused:?}"
        );
        // Who starts there may stay there.
        assert!(hop(&format!("https://{inside}/"), &to).is_ok(), "{inside}");
    }
    for outside in [
        "registry.example.org",
        "cdn.example.net",
        "8.8.8.8",
        "100.128.0.1",
        "100.63.0.1",
        "[2001:db8::1]",
    ] {
        let to = format!("https://{outside}/");
        assert!(
            hop("https://registry.example.org/", &to).is_ok(),
            "{outside}"
        );
    }
    let down = hop(
        "https://registry.example.org/",
        "http://registry.example.org/",
    );
    assert!(matches!(down, Err(Fault::Downgrade)), "{down:?}");
}

/// Manifests that are about one another, each about the one before.
#[test]
fn a_long_chain_of_referrers_is_read_once() {
    let home = Home::new();
    let blobs = home.join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let store = |bytes: &[u8]| {
        let digest = sigsif::digest::HashAlgorithm::Sha256
            .digest(bytes)
            .to_string();
        let name = digest.strip_prefix("sha256:").expect("a digest").to_owned();
        fs::write(blobs.join(&name), bytes).expect("a blob");
        format!(
            "{{\"mediaType\":\"KIND\",\"digest\":\"{digest}\",\"size\":{}}}",
            bytes.len()
        )
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let config = store(b"{}").replace("KIND", "application/vnd.oci.empty.v1+json");
    let manifest = |subject: &str| {
        let text = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{manifest_type}\",\"config\":{config},\
             \"layers\":[]{subject}}}"
        );
        store(text.as_bytes()).replace("KIND", manifest_type)
    };
    let first = manifest("");
    let mut last = first.clone();
    for _ in 0..1500 {
        last = manifest(&format!(",\"subject\":{last}"));
    }
    home.write("layout/oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index = format!("{{\"schemaVersion\":2,\"manifests\":[{first}]}}");
    home.write("layout/index.json", index.as_bytes());
    let begin = Instant::now();
    let ended = support::run(&mut home.sigsif(["sif", "import-layout", "layout", "made.oci.sif"]));
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    ended.expect(0);
    let tree = support::run(&mut home.sigsif(["sif", "check", "made.oci.sif"])).expect(0);
    let said = String::from_utf8_lossy(&tree.stdout);
    // The image, 1500 referrers, the config, the index.
    assert!(said.contains("1503 objects"), "{said}");
}
