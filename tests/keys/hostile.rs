//! Keys and keyrings by somebody who means harm: another account of the machine, whoever made a
//! file that is to be imported, whoever has a key that was revoked.

use super::{ALICE, BOB, Sandbox, fixture, has};
use sigsif::key::pgp::{ArmorKind, KeyType, NewPair, Params, encode_armor, generate};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::thread;

/// Nobody's, where there is one.
const ANOTHER_USER: u32 = 65_534;

fn signed_by_alice(sandbox: &Sandbox) {
    let image = sandbox.work().join("i.sif");
    fs::copy(fixture("peers/native/pgp-one.sif"), image).unwrap();
}

fn make_fifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Only the administrator can give files away.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: not root");
    }
    root
}

fn pairs(number: usize) -> Vec<NewPair> {
    let pair = |_| {
        generate(&Params {
            name: "Many",
            key_type: KeyType::Ed25519,
            now: 1_795_000_000,
            ..Params::default()
        })
        .unwrap()
    };
    (0..number).map(pair).collect()
}

fn public_keys(number: usize) -> Vec<Vec<u8>> {
    let pairs = pairs(number).into_iter();
    pairs.map(|pair| pair.public_bytes).collect()
}

/// Packets of a file with new-format headers of at most two length octets.
fn packets(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [tag, first, more @ ..] = rest {
        let (length, body) = match *first {
            n @ 0..192 => (usize::from(n), more),
            n => (
                (usize::from(n - 192) << 8) + usize::from(more[0]) + 192,
                &more[1..],
            ),
        };
        all.push((tag & 0x3f, body[..length].to_vec()));
        rest = &body[length..];
    }
    all
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&[0xc0 | tag, 255], &length.to_be_bytes()[..], body].concat()
}

// ---- revocations ----

#[test]
fn a_revocation_counts_at_any_time_that_is_asked_about() {
    for reason in ["none", "superseded", "compromised", "no-longer-used"] {
        let sandbox = Sandbox::with_keyring();
        signed_by_alice(&sandbox);
        // Behind the making of the key and the image, before the revocation.
        let before = ["verify", "--local", "--at", "2026-11-24T00:00:00Z", "i.sif"];
        sandbox.ok(&before);
        sandbox.ok(&["key", "revoke", "--reason", reason, ALICE]);
        let answer = sandbox.run(&before);
        assert_eq!(answer.exit, 255, "{reason}");
        assert!(
            answer
                .stderr
                .contains("openpgp: signature made by revoked key"),
            "{reason}: {}",
            answer.stderr
        );
    }
}

#[test]
fn a_revocation_that_any_keyring_knows_counts() {
    let sandbox = Sandbox::with_keyring();
    signed_by_alice(&sandbox);
    let good = sandbox.ring("pgp-public");
    sandbox.ok(&["key", "revoke", ALICE]);
    let revoked = sandbox.ring("pgp-public");
    let global = sandbox.path("sys").join("global-pgp-public");
    for (administrator, user) in [(&good, &revoked), (&revoked, &good)] {
        fs::write(&global, administrator).unwrap();
        sandbox.put("pgp-public", user);
        let answer = sandbox.run(&["verify", "--local", "i.sif"]);
        assert_eq!(answer.exit, 255, "{}", answer.stdout);
        assert!(
            answer
                .stderr
                .contains("openpgp: signature made by revoked key"),
            "{}",
            answer.stderr
        );
    }
    // The same within one file.
    fs::remove_file(&global).unwrap();
    sandbox.put("pgp-public", &[good.clone(), revoked].concat());
    assert_eq!(sandbox.run(&["verify", "--local", "i.sif"]).exit, 255);
    sandbox.put("pgp-public", &[good.clone(), good].concat());
    sandbox.ok(&["verify", "--local", "i.sif"]);
}

#[test]
fn a_key_that_is_there_twice_is_gone_when_it_is_removed() {
    let sandbox = Sandbox::with_keyring();
    signed_by_alice(&sandbox);
    let both = sandbox.ring("pgp-public");
    sandbox.ok(&["key", "remove", ALICE]);
    let bob = sandbox.ring("pgp-public");
    sandbox.put("pgp-public", &both.repeat(2));
    sandbox.ok(&["key", "remove", ALICE]);
    assert!(sandbox.ring("pgp-public") == bob.repeat(2));
    assert_eq!(sandbox.run(&["verify", "--local", "i.sif"]).exit, 255);
}

// ---- other accounts ----

#[test]
fn what_is_no_ordinary_file_is_no_keyring() {
    let sandbox = Sandbox::with_keyring();
    signed_by_alice(&sandbox);
    let told = "is no ordinary file, its keys cannot be trusted";
    let local = sandbox.keys().join("pgp-public");
    fs::remove_file(&local).unwrap();
    make_fifo(&local);
    for args in [&["key", "list"][..], &["verify", "--local", "i.sif"]] {
        let answer = sandbox.run(args);
        assert_eq!(answer.exit, 255, "{args:?}");
        assert!(answer.stderr.contains(told), "{}", answer.stderr);
    }
    sandbox.restore();
    make_fifo(&sandbox.path("sys").join("global-pgp-public"));
    let answer = sandbox.run(&["verify", "--local", "i.sif"]);
    assert!(answer.stderr.contains(told), "{}", answer.stderr);
}

#[test]
fn keyrings_that_others_could_have_written_are_refused() {
    let sandbox = Sandbox::with_keyring();
    signed_by_alice(&sandbox);
    let refused = |told: &str| {
        let answer = sandbox.run(&["verify", "--local", "i.sif"]);
        assert_eq!(answer.exit, 255, "{told}");
        assert!(answer.stderr.contains(told), "{}", answer.stderr);
    };
    let local = sandbox.keys().join("pgp-public");
    // A link, wherever it leads.
    fs::rename(&local, sandbox.keys().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &local).unwrap();
    refused("too many levels of symbolic links");
    sandbox.restore();
    let global = sandbox.path("sys").join("global-pgp-public");
    let changed = "can be changed by other users, its keys cannot be trusted";
    fs::copy(&local, &global).unwrap();
    for mode in [0o666, 0o664, 0o646] {
        fs::set_permissions(&global, fs::Permissions::from_mode(mode)).unwrap();
        refused(changed);
    }
    fs::remove_file(&global).unwrap();
    if !is_root() {
        return;
    }
    chown(&local, Some(ANOTHER_USER), None).unwrap();
    refused(changed);
    sandbox.restore();
    chown(sandbox.keys(), Some(ANOTHER_USER), None).unwrap();
    refused("belongs to user 65534, not to user 0 who runs this");
    sandbox.restore();
    sandbox.ok(&["verify", "--local", "i.sif"]);
}

#[test]
fn a_secret_key_is_not_written_into_the_pipe_of_another_user() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::with_keyring();
    let pipe = sandbox.work().join("out");
    make_fifo(&pipe);
    let read = |args: &[&str]| {
        let source = pipe.clone();
        let reader = thread::spawn(move || fs::read(source).unwrap());
        let answer = sandbox.run(args);
        (answer, reader.join().unwrap())
    };
    let secret = ["key", "export", "--secret", ALICE, "out"];
    let (answer, found) = read(&secret);
    assert!(answer.exit == 0 && !found.is_empty(), "{}", answer.stderr);
    chown(&pipe, Some(ANOTHER_USER), None).unwrap();
    fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666)).unwrap();
    let (answer, found) = read(&secret);
    assert_eq!(answer.exit, 10);
    assert_eq!(
        answer.stderr,
        "ERROR:   key export command failed: unable to create file: open out: belongs to user \
         65534, who could read the key\n"
    );
    assert!(found.is_empty());
    // A public key is for everybody.
    let (answer, found) = read(&["key", "export", ALICE, "out"]);
    assert!(answer.exit == 0 && !found.is_empty(), "{}", answer.stderr);
}

/// Who calls `sudo` may well read what comes out of it.
#[test]
fn a_secret_key_goes_where_the_caller_wants_its_output() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::with_keyring();
    for out in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        std::os::unix::fs::fchown(&reader, Some(ANOTHER_USER), None).unwrap();
        let args = ["key", "export", "--secret", ALICE, out];
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_sigsif"), &args);
        let status = command.stdout(writer).status().unwrap();
        drop(command);
        assert!(status.success(), "{out}: {status}");
        let mut found = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut found).unwrap();
        assert!(!found.is_empty(), "{out}");
    }
}

#[test]
fn nobody_else_can_hold_the_lock_of_the_global_keyring() {
    let sandbox = Sandbox::with_keyring();
    // Everybody may open this folder, and what is open can be locked.
    let folder = File::open(sandbox.path("sys")).unwrap();
    folder.lock().unwrap();
    let file = fixture("gpg/rsa.pub");
    let mut command = sandbox.command(
        "timeout",
        &["20", env!("CARGO_BIN_EXE_sigsif"), "key", "import", "-g"],
    );
    let status = command.arg(&file).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(sandbox.fingerprints(&["-g"]).len(), 1);
    let lock = sandbox.path("sys").join(".lock");
    assert_eq!(super::mode(&lock), 0o600);
}

// ---- files to import ----

/// Imports `many.gpg`; also gives what was opened for it.
fn traced_import(sandbox: &Sandbox, args: &[&str]) -> (super::Answer, String) {
    let trace = sandbox.work().join("trace");
    let output = sandbox
        .command("strace", &["-f", "-qq", "-e", "trace=openat", "-o"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_sigsif"), "key", "import"])
        .args(args)
        .arg("many.gpg")
        .output()
        .unwrap();
    let trace = fs::read_to_string(trace).unwrap();
    (super::Answer::of(output), trace)
}

#[test]
fn many_keys_are_imported_without_reading_the_keyring_for_each() {
    if !has("strace") {
        return;
    }
    let sandbox = Sandbox::with_keyring();
    let keys = public_keys(40);
    let file = sandbox.work().join("many.gpg");
    let known = sandbox.ring("pgp-public");
    fs::write(&file, [keys.concat(), known].concat()).unwrap();
    let import = |merge: &[&str]| {
        let (answer, trace) = traced_import(&sandbox, merge);
        let opened = trace.matches("/pgp-public\"").count();
        assert!((1..10).contains(&opened), "{opened}");
        assert_eq!(sandbox.fingerprints(&[]).len(), 42);
        answer
    };
    // What is known already ends the import behind what came before it.
    let answer = import(&[]);
    assert_eq!(answer.exit, 2);
    assert_eq!(answer.stdout.lines().count(), 40, "{}", answer.stdout);
    assert_eq!(
        answer.stderr,
        format!(
            "ERROR:   key import command failed: the key with fingerprint {ALICE} already \
             belongs to the keyring\n"
        )
    );
    let all = sandbox.ring("pgp-public");
    sandbox.restore();
    let answer = import(&["--merge"]);
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    let lines = |what: &str| answer.stdout.matches(what).count();
    assert_eq!((lines("added to"), lines("unchanged in")), (40, 2));
    assert!(sandbox.ring("pgp-public") == all);
}

/// Each kind in the order of the file, and every keyring a few times for all of them.
#[test]
fn a_file_of_many_private_keys_is_read_and_written_once() {
    if !has("strace") {
        return;
    }
    let sandbox = Sandbox::with_keyring();
    let file = sandbox.work().join("many.gpg");
    let import = |keys: &[&[u8]], merge: &[&str]| {
        fs::write(&file, keys.concat()).unwrap();
        let (answer, trace) = traced_import(&sandbox, merge);
        for ring in ["/pgp-public\"", "/pgp-secret\""] {
            let opened = trace.matches(ring).count();
            assert!(opened < 12, "{ring}: {opened}");
        }
        answer
    };
    let pairs = pairs(44);
    let secret: Vec<&[u8]> = pairs.iter().map(|pair| &pair.secret_bytes[..]).collect();
    let told = |at: usize, what: &str, kind: &str| {
        let name = pairs[at].fingerprint;
        format!("Key with fingerprint {name} {what} {kind} keyring\n")
    };
    let added = "successfully added to the";
    let both = |at| [told(at, added, "private"), told(at, added, "public")].concat();
    // One is there, with its public half; what stands in front of it is stored.
    let answer = import(&secret[..1], &[]);
    assert_eq!((answer.exit, answer.stdout), (0, both(0)));
    let file = [&secret[1..20], &secret[..1], &secret[20..]].concat();
    let answer = import(&file, &[]);
    assert_eq!(answer.exit, 2);
    assert_eq!(answer.stdout, (1..20).map(both).collect::<String>());
    assert!(
        answer.stderr.contains("already belongs to the keyring"),
        "{}",
        answer.stderr
    );
    // Of one the public half is there, of another the private one.
    assert_eq!(import(&[&pairs[20].public_bytes], &[]).exit, 0);
    assert_eq!(import(&secret[21..22], &[]).exit, 0);
    let name = pairs[21].fingerprint.to_string();
    sandbox.ok(&["key", "remove", &name]);
    let answer = import(&secret[20..23], &[]);
    assert_eq!(answer.exit, 2);
    assert_eq!(answer.stdout, told(20, added, "private"));
    let answer = import(&secret[21..23], &[]);
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    assert_eq!(
        answer.stdout,
        [told(21, added, "public"), both(22)].concat()
    );
    // To be merged, nothing ends it.
    let answer = import(&secret, &["--merge"]);
    assert_eq!(answer.exit, 0, "{}", answer.stderr);
    assert_eq!(answer.stdout.matches(added).count(), 2 * 21);
    let unchanged = answer
        .stdout
        .lines()
        .filter(|line| line.contains("unchanged"));
    assert_eq!(unchanged.count(), 2 * 23, "{}", answer.stdout);
    assert_eq!(sandbox.fingerprints(&["--secret"]).len(), 44 + 2);
}

/// As without `--merge`: large keyrings have a key or two that nobody can use.
#[test]
fn a_key_that_cannot_be_used_keeps_no_other_from_being_merged() {
    let sandbox = Sandbox::with_keyring();
    let keys = public_keys(3);
    let (tag, body) = packets(&keys[0]).remove(0);
    let bare = packet(tag, &body);
    let file = sandbox.work().join("some.gpg");
    fs::write(&file, [&keys[1][..], &bare, &keys[2]].concat()).unwrap();
    for (args, what) in [
        (&["key", "import", "some.gpg"][..], "added to"),
        (&["key", "import", "--merge", "some.gpg"], "unchanged in"),
    ] {
        let answer = sandbox.run(args);
        assert_eq!(answer.exit, 0, "{}", answer.stderr);
        assert_eq!(answer.stdout.matches(what).count(), 2, "{}", answer.stdout);
        let is_told = answer.stderr.contains("without any identities");
        assert_eq!(is_told, args.len() > 3, "{}", answer.stderr);
    }
    fs::write(&file, bare).unwrap();
    let answer = sandbox.run(&["key", "import", "--merge", "some.gpg"]);
    assert_eq!(answer.exit, 2);
    assert!(answer.stderr.starts_with("ERROR: "), "{}", answer.stderr);
}

#[test]
fn a_key_with_thousands_of_self_signatures_is_refused() {
    let sandbox = Sandbox::with_keyring();
    let key = &public_keys(1)[0];
    let parts = packets(key);
    let [key, id, certification, ..] = &parts[..] else {
        panic!("{} packets", parts.len())
    };
    let start = [packet(key.0, &key.1), packet(id.0, &id.1)].concat();
    for (number, exit) in [(500, 0), (5000, 2)] {
        let signatures = packet(certification.0, &certification.1).repeat(number);
        let file = sandbox.work().join("flooded.gpg");
        let armored = encode_armor(ArmorKind::Public, &[&start[..], &signatures].concat());
        fs::write(&file, armored.as_bytes()).unwrap();
        let answer = sandbox.run(&["key", "import", "flooded.gpg"]);
        assert_eq!(answer.exit, exit, "{}", answer.stderr);
        if exit != 0 {
            assert!(
                answer.stderr.contains("too many self-signatures"),
                "{}",
                answer.stderr
            );
        }
    }
}

#[test]
fn a_signature_in_other_clothes_is_no_news() {
    let sandbox = Sandbox::with_keyring();
    let before = sandbox.ring("pgp-public");
    let bob = sandbox.ok(&["key", "export", BOB, "/dev/stdout"]);
    assert!(bob.contains("correctly exported"));
    sandbox.ok(&["key", "export", BOB, "bob.gpg"]);
    let bob = fs::read(sandbox.work().join("bob.gpg")).unwrap();
    // What is not signed of a signature can be anything: here a sub-packet for private use.
    let dressed = |number: u8| -> Vec<u8> {
        let parts = packets(&bob).into_iter().map(|(tag, mut body)| {
            if tag == 2 {
                let hashed = usize::from(body[4]) << 8 | usize::from(body[5]);
                let at = 6 + hashed;
                let unhashed = u16::from_be_bytes([body[at], body[at + 1]]) + 3;
                body.splice(at..at + 2, unhashed.to_be_bytes());
                body.splice(at + 2..at + 2, [2, 100, number]);
            }
            packet(tag, &body)
        });
        parts.flatten().collect()
    };
    let news: Vec<u8> = (0..10).flat_map(dressed).collect();
    fs::write(sandbox.work().join("news.gpg"), news).unwrap();
    let told = sandbox.ok(&["key", "import", "--merge", "news.gpg"]);
    assert!(!told.contains("merged"), "{told}");
    assert!(sandbox.ring("pgp-public") == before);
}
