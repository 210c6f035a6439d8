//! Sessions with a key server that behaves.

use crate::server::{Authority, Server, answer, hkp};
use crate::tool::{Folder, fixture, fixture_text};

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";

#[test]
fn a_pushed_key_is_found_pulled_and_verifies() {
    let server = hkp(&[]);
    let url = server.url();
    let env = [("SINGULARITY_URL", url.as_str())];
    let sender = Folder::new().with_keyring();
    assert_eq!(sender.run(&["key", "push", ONE], &env).code, 0);

    let receiver = Folder::new().with(&["native/pgp-one.sif"]);
    let found = receiver.run(&["key", "search", "alice"], &env);
    assert!(
        found
            .stdout
            .starts_with("Showing 1 results\n\nKEY ID    BITS"),
        "{found:?}"
    );
    let json = receiver.run(&["key", "search", "--json", "alice"], &env);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["keys"][0]["fingerprint"], ONE);

    let remote = receiver.run(&["verify", "pgp-one.sif"], &env);
    assert_eq!(remote.code, 0, "{remote:?}");
    assert!(
        remote
            .stdout
            .starts_with("[REMOTE]           Signing entity:"),
        "{remote:?}"
    );
    assert_eq!(receiver.keyring(), b"", "a looked-up key is not stored");

    let pulled = receiver.run(&["key", "pull", ONE], &env);
    assert_eq!(
        pulled.stdout,
        "1 key(s) added to keyring of trust $DIR/keys/pgp-public\n"
    );
    server.forget();
    let local = receiver.run(&["verify", "pgp-one.sif"], &env);
    assert!(local.stdout.starts_with("[LOCAL] "), "{local:?}");
    assert!(server.seen().is_empty(), "every key is known");
}

#[test]
fn local_verification_never_asks() {
    let server = hkp(&[&fixture_text("keys/pgp-one.pub.asc")]);
    let folder = Folder::new().with(&["native/pgp-one.sif"]);
    let args = ["verify", "--local", "--url", &server.url(), "pgp-one.sif"];
    let outcome = folder.run(&args, &[]);
    assert_eq!(outcome.code, 255);
    assert!(!outcome.stderr.contains("WARNING"), "{outcome:?}");
    assert!(server.seen().is_empty());
}

#[test]
fn without_a_network_known_keys_verify_and_unknown_ones_are_told() {
    let folder = Folder::new().with(&["native/pgp-one.sif"]);
    let args = ["verify", "--url", "http://127.0.0.1:1", "pgp-one.sif"];
    let outcome = folder.run(&args, &[]);
    assert_eq!(outcome.code, 255);
    assert_eq!(
        outcome.stderr,
        "INFO:    Verifying image with PGP key material\n\
         WARNING: failed to get key material: Get \"http://127.0.0.1:1/pks/lookup?exact=on&op=get&search=0x22cc73292934d01f\": \
         dial tcp 127.0.0.1:1: connect: connection refused\n\
         INFO:    Signature object 4 names the key 31359731D5C34C90C977AAF822CC73292934D01F, which no keyring has; \
         'sigsif key import' or 'sigsif key pull' brings a key\n\
         FATAL:   failed to verify container: integrity: signature object 4 not valid: openpgp: signature made by unknown entity\n"
    );
    let known = folder.with_keyring().run(&args, &[]);
    assert_eq!(
        (known.code, known.stderr.contains("WARNING")),
        (0, false),
        "{known:?}"
    );
}

#[test]
fn every_missing_key_is_looked_up_once() {
    let keys = ["keys/pgp-one.pub.asc", "keys/pgp-two.pub.asc"].map(fixture_text);
    let server = hkp(&[&keys[0], &keys[1]]);
    let folder = Folder::new().with(&["native/pgp-two-groups.sif", "native/pgp-one-twice.sif"]);
    for image in ["pgp-two-groups.sif", "pgp-one-twice.sif"] {
        server.forget();
        let outcome = folder.run(&["verify", "--url", &server.url(), image], &[]);
        let mut paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count, "{image} {outcome:?}");
        assert!(count >= 1 && outcome.code == 0, "{image} {outcome:?}");
    }
}

#[test]
fn an_image_causes_sixteen_look_ups_at_most() {
    let folder = Folder::new().with(&["native/unsigned.sif"]);
    let mut public = Vec::new();
    for _ in 0..18 {
        let pair = [
            "key", "newpair", "--type", "ed25519", "-N", "A", "-E", "", "-C", "", "-P", "",
        ];
        let pair = [&pair[..], &["--push=false"]].concat();
        assert_eq!(folder.run(&pair, &[]).code, 0);
        assert_eq!(
            folder.run(&["sign", "-k", "0", "unsigned.sif"], &[]).code,
            0
        );
        let key = fingerprint(&folder);
        let export = ["key", "export", "--armor", &key, "key.asc"];
        assert_eq!(folder.run(&export, &[]).code, 0);
        public.push(std::fs::read_to_string(folder.path("key.asc")).unwrap());
        std::fs::remove_dir_all(folder.path("keys")).unwrap();
    }
    // All are known, so that the judgement goes on to the next.
    let public: Vec<&str> = public.iter().map(String::as_str).collect();
    let server = hkp(&public);
    let outcome = folder.run(&["verify", "--url", &server.url(), "unsigned.sif"], &[]);
    assert_eq!(outcome.code, 255, "{outcome:?}");
    assert_eq!(server.seen().len(), 16);
    let told = "the image names more than 16 unknown keys";
    assert!(outcome.stderr.contains(told), "{outcome:?}");
}

#[test]
fn pages_are_read_up_to_a_limit() {
    let server = Server::http(|seen, out| {
        let page = seen.path.split("x-pagetoken=").nth(1).unwrap_or("0");
        let next = (page.parse::<u32>().unwrap() + 1).to_string();
        let body = format!("info:1:1\npub:{page:0>40}:1:4096:1::\n");
        out.write_all(&answer(200, &[("X-HKP-Next-Page-Token", &next)], body))
    });
    let outcome = Folder::new().run(&["key", "search", "-u", &server.url(), "x"], &[]);
    assert!(
        outcome.stdout.starts_with("Showing 8 results\n"),
        "{outcome:?}"
    );
    assert_eq!(server.seen().len(), 8);
}

#[test]
fn an_extra_authority_can_be_trusted() {
    let authority = Authority::new();
    let server = Server::https(&authority, "localhost", |_, out| {
        out.write_all(&answer(200, &[], "info:1:0\n"))
    });
    let folder = Folder::new();
    std::fs::write(folder.path("ca.pem"), &authority.pem).unwrap();
    let ca = folder.path("ca.pem");
    let env = [("SIGSIF_CA_FILE", ca.to_str().unwrap())];
    let args = ["key", "search", "-u", &server.url(), "x"];
    assert_eq!(folder.run(&args, &env).code, 0);
    let refused = folder.run(&args, &[("SIGSIF_CA_FILE", "missing.pem")]);
    assert_eq!(refused.code, 255);
    assert_eq!(
        refused.stderr,
        "FATAL:   Keyserver client failed: SIGSIF_CA_FILE: open missing.pem: no such file or directory\n"
    );
}

#[test]
fn a_proxy_is_used_but_not_for_this_machine() {
    let proxy = Server::answering(answer(200, &[], "info:1:0\n"));
    let url = proxy.url();
    let env = [("HTTP_PROXY", url.as_str())];
    let folder = Folder::new();
    let args = ["key", "search", "-u", "http://keys.lab.test:11371", "x"];
    assert_eq!(folder.run(&args, &env).code, 0);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0]
            .path
            .starts_with("http://keys.lab.test:11371/pks/lookup?"),
        "{seen:?}"
    );
    proxy.forget();
    let direct = hkp(&[]);
    assert_eq!(
        folder
            .run(&["key", "search", "-u", &direct.url(), "x"], &env)
            .code,
        2
    );
    assert_eq!((proxy.seen().len(), direct.seen().len()), (0, 1));
}

#[test]
fn a_new_key_is_published_only_when_told() {
    let server = hkp(&[]);
    let url = server.url();
    let env = [("SIGSIF_URL", url.as_str())];
    let pair = [
        "key", "newpair", "-b", "1024", "-N", "A", "-E", "a@e", "-C", "", "-P", "",
    ];
    let silent = Folder::new().run(&pair, &env);
    assert_eq!(
        silent.stdout,
        "Would you like to push it to the keystore? [Y,n] \
         Generating Entity and OpenPGP Key Pair... done\nNOT pushing newly created key to keystore\n"
    );
    assert!(server.seen().is_empty());
    let told = Folder::new().run(&[&pair[..], &["--push"]].concat(), &env);
    assert!(
        told.stdout
            .ends_with("Key successfully pushed to keystore\n"),
        "{told:?}"
    );
    let secret = String::from_utf8_lossy(&server.seen()[0].body).into_owned();
    assert!(
        secret.starts_with("keytext=-----BEGIN+PGP+PUBLIC+KEY+BLOCK-----"),
        "{secret}"
    );
}

fn fixture_path(path: &str) -> String {
    fixture(path).to_string_lossy().into_owned()
}

/// The fingerprint of the only key of a folder.
fn fingerprint(folder: &Folder) -> String {
    let json = folder.run(&["key", "list", "--json"], &[]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    json["keys"][0]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_refresh_brings_revocations() {
    let server = hkp(&[]);
    let url = server.url();
    let env = [("SIGSIF_URL", url.as_str())];
    let owner = Folder::new().with(&["native/unsigned.sif"]);
    let pair = [
        "key", "newpair", "-b", "1024", "-N", "A", "-E", "a@e", "-C", "", "-P", "", "-U",
    ];
    assert_eq!(owner.run(&pair, &env).code, 0);
    assert_eq!(owner.run(&["sign", "unsigned.sif"], &[]).code, 0);
    let key = fingerprint(&owner);

    let user = Folder::new();
    std::fs::copy(owner.path("unsigned.sif"), user.path("signed.sif")).unwrap();
    assert_eq!(user.run(&["key", "pull", &key], &env).code, 0);
    let pull_one = ["key", "import", &*fixture_path("keys/pgp-one.pub.asc")];
    assert_eq!(user.run(&pull_one, &[]).code, 0);
    assert_eq!(user.run(&["verify", "--local", "signed.sif"], &[]).code, 0);
    let before = user.keyring();
    let nothing = user.run(&["key", "refresh"], &env);
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert_eq!(
        nothing.stdout,
        format!(
            "Key with fingerprint {key} unchanged\n\
             Key with fingerprint {ONE} not found on the key server\n"
        )
    );
    assert_eq!(user.keyring(), before);

    assert_eq!(owner.run(&["key", "revoke", &key], &[]).code, 0);
    assert_eq!(owner.run(&["key", "push", &key], &env).code, 0);
    let news = user.run(&["key", "refresh", &key[32..]], &env);
    assert_eq!(
        news.stdout,
        format!("Key with fingerprint {key} changed\n"),
        "{news:?}"
    );
    let verdict = user.run(&["verify", "--local", "signed.sif"], &[]);
    assert_eq!(verdict.code, 255);
    assert!(
        verdict
            .stderr
            .contains("openpgp: signature made by revoked key"),
        "{verdict:?}"
    );
}

#[test]
fn a_refresh_that_fails_changes_nothing() {
    let two = fixture_text("keys/pgp-two.pub.asc");
    let folder = Folder::new().with_keyring();
    let before = folder.keyring();
    for (status, body, text) in [
        (
            200,
            two.as_str(),
            "ERROR:   refresh failed: no useful answer for 1 of 1 keys",
        ),
        (
            200,
            "<html>",
            "ERROR:   refresh failed: no useful answer for 1 of 1 keys",
        ),
        (
            429,
            "",
            "ERROR:   refresh failed: failed to get key: 429 Too Many Requests",
        ),
        (
            401,
            "",
            "ERROR:   refresh failed: unauthorized or missing token",
        ),
    ] {
        let server = Server::answering(answer(status, &[], body));
        let outcome = folder.run(&["key", "refresh", "-u", &server.url(), ONE], &[]);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert_eq!(outcome.stderr.lines().last(), Some(text), "{outcome:?}");
        assert_eq!(folder.keyring(), before);
    }
    let unknown = folder.run(&["key", "refresh", "12345678"], &[]);
    assert_eq!(
        unknown.stderr,
        "ERROR:   refresh failed: 12345678: no key matching given fingerprint found\n"
    );
}

#[test]
fn a_bare_revocation_arrives_by_a_refresh() {
    // What Hockeypuck answers for a key that was revoked for good.
    let owner = Folder::new().with(&["native/unsigned.sif"]);
    let pair = [
        "key",
        "newpair",
        "-b",
        "1024",
        "-N",
        "A",
        "-E",
        "a@e",
        "-C",
        "",
        "-P",
        "",
        "--push=false",
    ];
    assert_eq!(owner.run(&pair, &[]).code, 0);
    assert_eq!(owner.run(&["sign", "unsigned.sif"], &[]).code, 0);
    let key = fingerprint(&owner);
    let certificate = owner.path(&format!("keys/revocations/{key}.asc"));
    let certificate = std::fs::read_to_string(certificate).unwrap();
    let user = Folder::new();
    std::fs::copy(owner.path("unsigned.sif"), user.path("signed.sif")).unwrap();
    std::fs::write(user.path("a.gpg"), owner.keyring()).unwrap();
    assert_eq!(user.run(&["key", "import", "a.gpg"], &[]).code, 0);
    assert_eq!(user.run(&["verify", "--local", "signed.sif"], &[]).code, 0);
    let server = Server::answering(answer(200, &[], &certificate));
    let news = user.run(&["key", "refresh", "-u", &server.url()], &[]);
    assert_eq!(
        news.stdout,
        format!("Key with fingerprint {key} changed\n"),
        "{news:?}"
    );
    let verdict = user.run(&["verify", "--local", "signed.sif"], &[]);
    assert!(
        verdict.stderr.contains("signature made by revoked key"),
        "{verdict:?}"
    );
}

#[test]
fn one_key_that_is_too_large_does_not_hide_the_news_of_others() {
    let two = fixture_text("keys/pgp-two.pub.asc");
    let folder = Folder::new().with_keyring();
    let server = Server::http(move |seen, out| {
        let reply = if seen.path.contains(&ONE.to_lowercase()) {
            answer(200, &[], "x".repeat(5 << 20))
        } else {
            answer(200, &[], &two)
        };
        out.write_all(&reply)
    });
    let outcome = folder.run(&["key", "refresh", "-u", &server.url()], &[]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stdout.ends_with(" unchanged\n"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("no useful answer for 1 of 2 keys"),
        "{outcome:?}"
    );
}

#[test]
fn a_pull_killed_at_any_write_leaves_the_old_or_the_new_keyring() {
    let strace = std::process::Command::new("strace").arg("-V").output();
    if strace.is_err() {
        let required = std::env::var_os("SIGSIF_PEERS").is_some_and(|word| word == "required");
        assert!(!required, "strace is not installed");
        eprintln!("SKIPPED: strace is not installed");
        return;
    }
    let one = fixture_text("keys/pgp-one.pub.asc");
    let server = hkp(&[&one]);
    let url = server.url();
    let pull = ["key", "pull", "-u", &url, ONE];
    let folder = Folder::new();
    let two = fixture("keys/pgp-two.pub.asc");
    let import = ["key", "import", two.to_str().unwrap()];
    assert_eq!(folder.run(&import, &[]).code, 0);
    let old = folder.keyring();
    assert_eq!(folder.run(&pull, &[]).code, 0);
    let new = folder.keyring();
    assert!(new.starts_with(&old) && new.len() > old.len());
    let (mut kills, mut kept) = (0, 0);
    for call in ["openat", "fchmod", "fsync", "rename", "flock"] {
        for n in 1.. {
            std::fs::write(folder.path("keys/pgp-public"), &old).unwrap();
            let inject = format!("inject={call}:signal=SIGKILL:when={n}");
            let front = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            if folder.run_under(&front, &pull, &[]).code == 0 {
                break;
            }
            let found = folder.keyring();
            assert!(found == old || found == new, "{call} {n}: neither");
            kills += 1;
            kept += usize::from(found == old);
        }
    }
    println!("{kills} kill points, {kept} with the old keyring");
    assert!(kept > 0 && kills > 5);
}
