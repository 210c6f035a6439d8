//! Kills and disturbs the program at every call that changes a file: what is
//! on disk afterwards is the old state or the new one.
//!
//! The calls are found and hit with `strace`; `docs/reliability.md` has the
//! figures that these tests print.

#[path = "durability/edit.rs"]
mod edit;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::table;
use support::{Home, Outcome, TIME, peers, run, skip, skip_without, strace, tool};

/// Calls that change an image.
const IMAGE_CALLS: &[&str] = &[
    "pwrite64",
    "write",
    "fallocate",
    "fdatasync",
    "fsync",
    "ftruncate",
    "copy_file_range",
    "rename",
    "renameat",
    "renameat2",
];

/// Calls that change a keyring; not every machine has each.
const KEYRING_CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "openat",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
];

/// A way to sign a copy of an image, and to verify it.
struct Case {
    name: &'static str,
    image: &'static str,
    sign: Vec<String>,
    verify: Vec<String>,
    /// What is said when the disk fails, besides the name of the image.
    failed: &'static str,
}

fn cases() -> Vec<Case> {
    let key = |kind: &str| {
        peers(&format!("keys/p256.{kind}.pem"))
            .display()
            .to_string()
    };
    let pem = |name, image| Case {
        name,
        image,
        sign: vec!["sign".to_owned(), "--key".to_owned(), key("key")],
        verify: vec!["verify".to_owned(), "--key".to_owned(), key("pub")],
        failed: "failed to sign container",
    };
    // The last one needs a longer table, and so a new file.
    let cosign = |name, image| Case {
        name,
        image,
        sign: ["sign", "--cosign", "--key", &key("key")]
            .map(str::to_owned)
            .to_vec(),
        verify: ["verify", "--cosign", "--key", &key("pub")]
            .map(str::to_owned)
            .to_vec(),
        failed: "fatal:",
    };
    vec![
        pem("one group, PEM key", "native/unsigned.sif"),
        pem("two groups, PEM key", "native/two-groups-unsigned.sif"),
        Case {
            name: "one group, PGP key",
            image: "native/unsigned.sif",
            sign: ["sign", "--keyidx", "0"].map(str::to_owned).to_vec(),
            verify: ["verify", "--local"].map(str::to_owned).to_vec(),
            failed: "failed to sign container",
        },
        pem("signed before, PEM key", "native/dsse-p256.sif"),
        cosign("OCI-SIF", "cosign/sif/one.oci.sif"),
        cosign("OCI-SIF signed before", "cosign/sif/one-1sig.oci.sif"),
        cosign("OCI-SIF with a full table", "cosign/sif/one-6sig.oci.sif"),
    ]
}

/// One case on disk: the image as it was, and what is said about both states.
struct Scene {
    home: Home,
    case: Case,
    image: PathBuf,
    old: Vec<u8>,
    before: Seen,
    after: Seen,
}

/// What a user sees of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    code: Option<i32>,
    verdict: String,
    objects: Vec<String>,
}

impl Scene {
    fn new(case: Case) -> Self {
        let home = Home::with_keys();
        let image = home.copy(case.image, "image.sif");
        let old = fs::read(&image).expect("the image");
        let nothing = Seen {
            code: None,
            verdict: String::new(),
            objects: Vec::new(),
        };
        let mut this = Self {
            home,
            case,
            image,
            old,
            before: nothing.clone(),
            after: nothing,
        };
        this.before = this.look();
        run(&mut this.sign()).expect(0);
        this.after = this.look();
        assert_eq!(this.after.code, Some(0), "{:?}", this.after);
        assert_ne!(this.before, this.after);
        this.reset();
        this
    }

    fn reset(&self) {
        fs::write(&self.image, &self.old).expect("the image");
    }

    fn with_image(&self, args: &[String]) -> Command {
        let mut command = self.home.sigsif(args);
        command.arg(&self.image).env("SOURCE_DATE_EPOCH", TIME);
        command
    }

    fn sign(&self) -> Command {
        self.with_image(&self.case.sign)
    }

    fn look(&self) -> Seen {
        let verdict = run(&mut self.with_image(&self.case.verify));
        let list = run(&mut self.with_image(&["sif".to_owned(), "list".to_owned()])).expect(0);
        let list = String::from_utf8(list.stdout).expect("text");
        Seen {
            code: verdict.code,
            verdict: format!(
                "{}{}",
                String::from_utf8_lossy(&verdict.stdout),
                verdict.stderr
            ),
            objects: list.lines().map(without_position).collect(),
        }
    }

    /// Signs under `strace`, which does `what` at a call.
    fn disturbed(&self, what: &str) -> Outcome {
        run(&mut strace(
            &self.sign(),
            &["-e".to_owned(), format!("inject={what}")],
        ))
    }

    /// Whether the image is in the old state or in the new one.
    #[track_caller]
    fn assert_old_or_new(&self, point: &str) -> bool {
        let seen = self.look();
        let known = [&self.before, &self.after].contains(&&seen);
        assert!(known, "{}: {point}: {seen:?}", self.case.name);
        seen == self.after
    }

    /// Signing again must work in every state, and then everything verifies.
    #[track_caller]
    fn assert_signs_again(&self, point: &str) {
        let again = run(&mut self.sign());
        assert_eq!(again.code, Some(0), "{}: {point}: {again}", self.case.name);
        let seen = self.look();
        assert_eq!(seen.code, Some(0), "{}: {point}: {seen:?}", self.case.name);
    }
}

/// A row of `sif list` without the position, which ECDSA lengths change.
fn without_position(line: &str) -> String {
    let columns: Vec<_> = line.split('|').collect();
    match columns[..] {
        [id, group, link, _, kind] => format!("{id}|{group}|{link}|{kind}"),
        _ => line.to_owned(),
    }
}

/// How often a command makes each of some calls.
fn count_calls(command: &Command, calls: &[&str]) -> BTreeMap<String, usize> {
    let known: Vec<_> = calls.iter().map(|call| format!("?{call}")).collect();
    run(&mut strace(
        command,
        &["-e".to_owned(), format!("trace={}", known.join(","))],
    ))
    .expect(0);
    let trace = command.get_current_dir().expect("a folder").join("trace");
    let trace = fs::read_to_string(trace).expect("a trace");
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        // `1234 pwrite64(3, ...) = 585`
        let name = line
            .split_once(' ')
            .and_then(|(_, rest)| rest.trim().split_once('('));
        if let Some((name, _)) = name.filter(|(name, _)| calls.contains(name)) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Every call of a command as `strace` names it, for `inject=`.
fn points(command: &Command, calls: &[&str]) -> Vec<(String, usize)> {
    let counts = count_calls(command, calls);
    assert!(!counts.is_empty(), "no call was seen");
    counts
        .into_iter()
        .flat_map(|(call, count)| (1..=count).map(move |n| (call.clone(), n)))
        .collect()
}

fn have_strace() -> bool {
    let found = tool("strace").is_some();
    if !found {
        skip_without("strace");
        return false;
    }
    // Some containers forbid tracing.
    let tries = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    let works = tries.is_ok_and(|status| status.success());
    if !works {
        skip_without("permission to trace");
    }
    works
}

#[test]
fn killed_while_signing_leaves_the_old_or_the_new_image() {
    if !have_strace() {
        return;
    }
    for case in cases() {
        let scene = Scene::new(case);
        let points = points(&scene.sign(), IMAGE_CALLS);
        let mut new = 0;
        for (call, n) in &points {
            scene.reset();
            let point = format!("killed at {call} {n}");
            let killed = scene.disturbed(&format!("{call}:signal=SIGKILL:when={n}"));
            assert_ne!(killed.code, Some(0), "{point}: {killed}");
            new += usize::from(scene.assert_old_or_new(&point));
            scene.assert_signs_again(&point);
        }
        eprintln!(
            "sign, {}: {} kill points, {} old, {new} new",
            scene.case.name,
            points.len(),
            points.len() - new
        );
        assert!(new > 0 && new < points.len(), "both states must occur");
    }
}

#[test]
fn a_failing_disk_leaves_the_old_image() {
    if !have_strace() {
        return;
    }
    let calls = ["pwrite64", "fallocate", "fdatasync", "fsync", "ftruncate"];
    for case in cases() {
        let scene = Scene::new(case);
        let (mut tried, mut same, mut new) = (0, 0, 0);
        for (call, n) in points(&scene.sign(), &calls) {
            for (error, sentence) in [
                ("ENOSPC", "no space left on device"),
                ("EIO", "input/output error"),
            ] {
                // Once, and from then on: the way back fails as well.
                for on in ["", "+"] {
                    scene.reset();
                    let point = format!("{call} {n}{on} gives {error}");
                    let failed = scene.disturbed(&format!("{call}:error={error}:when={n}{on}"));
                    assert_eq!(
                        failed.code,
                        Some(255),
                        "{}: {point}: {failed}",
                        scene.case.name
                    );
                    let told = failed.stderr.to_lowercase();
                    assert!(
                        told.contains(sentence),
                        "{}: {point}: {failed}",
                        scene.case.name
                    );
                    assert!(
                        told.contains(scene.case.failed) && told.contains("image.sif"),
                        "{point}: {failed}"
                    );
                    tried += 1;
                    let is_new = scene.assert_old_or_new(&point);
                    new += usize::from(is_new);
                    let bytes = fs::read(&scene.image).expect("the image");
                    let equal = bytes == scene.old;
                    same += usize::from(equal);
                    let undone = !is_new && on.is_empty();
                    assert!(
                        equal || !undone,
                        "{}: {point}: not put back: {}",
                        scene.case.name,
                        differences(&scene.old, &bytes)
                    );
                    scene.assert_signs_again(&point);
                }
            }
        }
        eprintln!(
            "sign, {}: {tried} errors, {same} byte for byte as before, {new} after the commit, {} old with changes in unused bytes",
            scene.case.name,
            tried - same - new
        );
        assert!(same > 0);
    }
}

fn differences(old: &[u8], new: &[u8]) -> String {
    let places: Vec<_> = (0..old.len().min(new.len()))
        .filter(|at| old[*at] != new[*at])
        .collect();
    format!(
        "length {} then {}, bytes {:?}..{:?}",
        old.len(),
        new.len(),
        places.first(),
        places.last()
    )
}

#[test]
fn an_interrupted_call_is_repeated() {
    if !have_strace() {
        return;
    }
    let scene = Scene::new(cases().swap_remove(0));
    for call in ["flock", "pwrite64", "fallocate", "fdatasync", "fsync"] {
        scene.reset();
        let done = scene.disturbed(&format!("{call}:error=EINTR:when=1"));
        assert_eq!(done.code, Some(0), "{call}: {done}");
        assert!(scene.assert_old_or_new(call), "{call}: not signed");
    }
}

/// What a user sees of a keyring folder.
fn keyring_seen(home: &Home) -> (String, String) {
    let list = |args: &[&str]| {
        let list = run(&mut home.sigsif(args)).expect(0);
        String::from_utf8(list.stdout).expect("text")
    };
    (list(&["key", "list"]), list(&["key", "list", "--secret"]))
}

fn snapshot(home: &Home) -> [Vec<u8>; 2] {
    ["pgp-public", "pgp-secret"].map(|name| fs::read(home.keys().join(name)).expect("a keyring"))
}

fn restore(home: &Home, files: &[Vec<u8>; 2]) {
    let _ = fs::remove_dir_all(home.keys());
    fs::create_dir(home.keys()).expect("a folder");
    fs::set_permissions(home.keys(), fs::Permissions::from_mode(0o700)).expect("chmod");
    for (name, bytes) in ["pgp-public", "pgp-secret"].iter().zip(files) {
        let path = home.keys().join(name);
        fs::write(&path, bytes).expect("a keyring");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    }
}

/// Kills `command` at every call and checks the keyring after each.
fn kill_keyring_command(home: &Home, name: &str, command: impl Fn() -> Command, again: bool) {
    let old_files = snapshot(home);
    let count = |text: &str| text.matches("Fingerprint:").count();
    let old = keyring_seen(home);
    let points = points(&command(), KEYRING_CALLS);
    let new = keyring_seen(home);
    assert_eq!(count(&new.0), count(&old.0) + 1, "one public key more");
    assert_eq!(count(&new.1), count(&old.1) + 1, "one private key more");
    let mut states = BTreeMap::<(bool, bool), usize>::new();
    let mut left_over = 0;
    for (call, n) in &points {
        restore(home, &old_files);
        let point = format!("{name} killed at {call} {n}");
        let inject = format!("inject={call}:signal=SIGKILL:when={n}");
        let killed = run(&mut strace(&command(), &["-e".to_owned(), inject]));
        assert_ne!(killed.code, Some(0), "{point}: {killed}");
        let files = snapshot(home);
        let seen = keyring_seen(home);
        let mut state = (false, false);
        for (file, old_file, list, old_list, is_new) in [
            (&files[0], &old_files[0], &seen.0, &old.0, &mut state.0),
            (&files[1], &old_files[1], &seen.1, &old.1, &mut state.1),
        ] {
            *is_new = file != old_file;
            if *is_new {
                assert!(file.starts_with(old_file), "{point}: old keys changed");
                assert_eq!(count(list), count(old_list) + 1, "{point}: {list}");
            }
        }
        for entry in fs::read_dir(home.keys()).expect("a folder") {
            let entry = entry.expect("an entry");
            let data = entry.metadata().expect("an entry");
            let mode = data.permissions().mode() & 0o7777;
            if data.is_dir() {
                assert_eq!(mode, 0o700, "{point}: {:?}", entry.file_name());
                continue;
            }
            assert_eq!(mode, 0o600, "{point}: {:?}", entry.file_name());
            let known = ["pgp-public", "pgp-secret"].map(|name| entry.file_name() == name);
            left_over += usize::from(known == [false, false]);
        }
        *states.entry(state).or_default() += 1;
        if again {
            // Whatever state it was: the same command completes the work.
            run(&mut command());
            let seen = keyring_seen(home);
            assert_eq!(
                count(&seen.0),
                count(&old.0) + 1,
                "{point}, then again: public"
            );
            assert_eq!(
                count(&seen.1),
                count(&old.1) + 1,
                "{point}, then again: private"
            );
        }
    }
    let times = |state| states.get(&state).copied().unwrap_or_default();
    eprintln!(
        "{name}: {} kill points, {} old, {} public only, {} private only, {} new; {left_over} temporary files left",
        points.len(),
        times((false, false)),
        times((true, false)),
        times((false, true)),
        times((true, true))
    );
}

#[test]
fn killed_while_importing_leaves_old_or_new_keyrings() {
    if !have_strace() {
        return;
    }
    let home = Home::new();
    let import = |name: &str| {
        let mut command = home.sigsif(["key", "import"]);
        command
            .arg(peers(&format!("keys/{name}.sec.asc")))
            .env("SIGSIF_PASSPHRASE", "correct horse");
        command
    };
    // The one without a passphrase is imported again and again: it is quick.
    run(&mut import("pgp-two")).expect(0);
    kill_keyring_command(&home, "key import", || import("pgp-one"), true);
}

#[test]
fn killed_while_making_a_key_leaves_old_or_new_keyrings() {
    if !have_strace() {
        return;
    }
    let home = Home::new();
    let newpair = || {
        home.sigsif([
            "key",
            "newpair",
            "-N",
            "a",
            "-E",
            "a@b.c",
            "-C",
            "",
            "-P",
            "x",
            "-b",
            "1024",
            "--push=false",
        ])
    };
    run(&mut newpair()).expect(0);
    kill_keyring_command(&home, "key newpair", newpair, false);
}

#[test]
fn killed_while_making_a_cosign_key_pair_leaves_whole_files() {
    if !have_strace() {
        return;
    }
    let home = Home::new();
    let (private, public) = (home.join("k.key"), home.join("k.pub"));
    let import = || {
        let mut command = home.sigsif(["key", "import-key-pair", "--output-key-prefix", "k"]);
        command
            .args(["--key".into(), peers("keys/p256.key.pem")])
            .env("COSIGN_PASSWORD", "secret");
        command
    };
    let (mut neither, mut private_only, mut both) = (0, 0, 0);
    let points = points(&import(), KEYRING_CALLS);
    for (call, n) in &points {
        let _ = (fs::remove_file(&private), fs::remove_file(&public));
        let point = format!("killed at {call} {n}");
        let inject = format!("inject={call}:signal=SIGKILL:when={n}");
        let killed = run(&mut strace(&import(), &["-e".to_owned(), inject]));
        assert_ne!(killed.code, Some(0), "{point}: {killed}");
        match (private.exists(), public.exists()) {
            (false, false) => neither += 1,
            (true, false) => private_only += 1,
            (true, true) => both += 1,
            (false, true) => panic!("{point}: a public key alone"),
        }
        if private.exists() {
            let mode = fs::metadata(&private).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{point}");
            let mut print = home.sigsif(["key", "public-key", "--key", "k.key"]);
            let made = run(print.env("COSIGN_PASSWORD", "secret")).expect(0).stdout;
            assert_eq!(made, support::read_peers("keys/p256.pub.pem"), "{point}");
        }
        if public.exists() {
            let there = fs::read(&public).expect("a key");
            assert_eq!(there, support::read_peers("keys/p256.pub.pem"), "{point}");
        }
    }
    eprintln!(
        "key import-key-pair: {} kill points, {neither} nothing, {private_only} private only, {both} both",
        points.len()
    );
    assert!(neither > 0 && private_only > 0 && both > 0);
}

/// A mounted file system, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).expect("a folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|done| done.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let home = Home::with_keys();
    let old = support::read_peers("native/unsigned.sif");
    // 36864 bytes are nine pages.
    let Some(disk) = Mount::tmpfs(&home.join("disk"), "36k") else {
        return skip("no permission to mount a small disk");
    };
    let image = home.write("disk/image.sif", &old);
    let sign = |image: &Path| {
        let mut command = home.sigsif(["sign", "--key"]);
        command.arg(peers("keys/p256.key.pem")).arg(image);
        command
    };
    run(&mut sign(&image))
        .expect(255)
        .says("no space left on device");
    assert!(fs::read(&image).expect("the image") == old, "changed");
    drop(disk);
    let disk = Mount::tmpfs(&home.join("larger"), "40k").expect("a second mount");
    let image = home.write("larger/image.sif", &old);
    run(&mut sign(&image)).expect(0);
    drop(disk);
}

#[test]
fn a_full_disk_leaves_the_old_oci_sif() {
    let home = Home::new();
    // Three pages; the second one is full, so its table has to grow.
    for (name, full, enough) in [("one", "12k", "40k"), ("one-6sig", "20k", "160k")] {
        let old = support::read_peers(&format!("cosign/sif/{name}.oci.sif"));
        let sign = |image: &Path| {
            let mut command = home.sigsif(["sign", "--cosign", "--key"]);
            command.arg(peers("keys/p256.key.pem")).arg(image);
            command
        };
        let Some(disk) = Mount::tmpfs(&home.join(full), full) else {
            return skip("no permission to mount a small disk");
        };
        let image = home.write(&format!("{full}/image.sif"), &old);
        run(&mut sign(&image))
            .expect(255)
            .says("no space left on device");
        assert!(fs::read(&image).expect("the image") == old, "changed");
        drop(disk);
        let disk = Mount::tmpfs(&home.join(enough), enough).expect("a second mount");
        let image = home.write(&format!("{enough}/image.sif"), &old);
        run(&mut sign(&image)).expect(0);
        drop(disk);
    }
}

#[test]
fn a_file_size_limit_leaves_the_old_image() {
    if tool("prlimit").is_none() {
        return skip_without("prlimit");
    }
    let home = Home::with_keys();
    let image = home.copy("native/unsigned.sif", "image.sif");
    let old = fs::read(&image).expect("the image");
    let mut limited = home.clean("prlimit");
    limited
        .args([
            "--fsize=37000:37000",
            "--",
            env!("CARGO_BIN_EXE_sigsif"),
            "sign",
            "--key",
        ])
        .arg(peers("keys/p256.key.pem"))
        .arg(&image);
    run(&mut limited).expect(255).says("file too large");
    assert!(fs::read(&image).expect("the image") == old, "changed");
}

const WRITERS: usize = 16;

#[test]
fn sixteen_signers_at_once_all_sign() {
    let home = Home::with_keys();
    let image = home.copy("native/unsigned.sif", "image.sif");
    let signers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let mut command = home.sigsif(["sign", "--key"]);
            command.arg(peers("keys/p256.key.pem")).arg(&image);
            support::start(&mut command)
        })
        .collect();
    for signer in signers {
        support::finish(signer, std::time::Duration::from_secs(60), "sign").expect(0);
    }
    let bytes = fs::read(&image).expect("the image");
    let signatures = table::objects(&bytes)
        .into_iter()
        .filter(table::Object::is_signature);
    assert_eq!(signatures.count(), WRITERS);
    let mut verify = home.sigsif(["verify", "--key"]);
    let verified = run(verify.arg(peers("keys/p256.pub.pem")).arg(&image)).expect(0);
    let blocks = String::from_utf8_lossy(&verified.stdout)
        .matches("Objects verified:")
        .count();
    assert_eq!(blocks, WRITERS);
}

#[test]
fn sixteen_cosign_signers_at_once_all_sign() {
    let home = Home::new();
    // Six signatures fill its table, so it grows under their hands.
    let image = home.copy("cosign/sif/one.oci.sif", "image.sif");
    let signers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let mut command = home.sigsif(["sign", "--cosign", "--key"]);
            command
                .arg(peers("keys/p256.key.pem"))
                .arg(&image)
                .env("SOURCE_DATE_EPOCH", (1_795_000_000 + n).to_string());
            support::start(&mut command)
        })
        .collect();
    for signer in signers {
        support::finish(signer, std::time::Duration::from_secs(60), "sign").expect(0);
    }
    let mut verify = home.sigsif(["verify", "--cosign", "--key"]);
    let verified = run(verify.arg(peers("keys/p256.pub.pem")).arg(&image)).expect(0);
    for n in 0..WRITERS {
        let time = format!("\"timestamp\":{}", 1_795_000_000 + n);
        assert!(
            String::from_utf8_lossy(&verified.stdout).contains(&time),
            "{time}"
        );
    }
}

#[test]
fn sixteen_imports_at_once_all_arrive() {
    let home = Home::with_keys();
    let folders: Vec<_> = (0..WRITERS)
        .map(|n| home.join(&format!("from-{n}")))
        .collect();
    support::parallel(&folders, |folder| {
        let mut newpair = home.sigsif([
            "key",
            "newpair",
            "-N",
            "a",
            "-E",
            "a@b.c",
            "-C",
            "",
            "-P",
            "",
            "-b",
            "1024",
            "--push=false",
        ]);
        run(newpair.arg("--keysdir").arg(folder)).expect(0);
    });
    let imports: Vec<_> = folders
        .iter()
        .map(|folder| {
            let mut command = home.sigsif(["key", "import"]);
            command.arg(folder.join("pgp-secret"));
            support::start(&mut command)
        })
        .collect();
    for import in imports {
        support::finish(import, std::time::Duration::from_secs(60), "import").expect(0);
    }
    let (public, secret) = keyring_seen(&home);
    // Two were there before.
    assert_eq!(public.matches("Fingerprint:").count(), WRITERS + 2);
    assert_eq!(secret.matches("Fingerprint:").count(), WRITERS + 2);
}
