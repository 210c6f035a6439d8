//! Which images are meant.

use crate::support::{Home, Outcome, finish, run, skip};
use crate::verdicts;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A tree with images, other files, and what is neither.
fn tree() -> Home {
    let home = Home::with_keys();
    fs::create_dir_all(home.join("t/sub/deep")).expect("folders");
    home.copy("native/pgp-one.sif", "t/a.sif");
    home.copy("native/pgp-one.sif", "t/sub/B.SIF");
    home.copy("native/pgp-one.sif", "t/sub/deep/no-name");
    home.copy("native/unsigned.sif", "t/sub/deep/c.sif");
    home.write("t/notes.txt", b"nothing");
    home.write("t/sub/empty", b"");
    home.write("t/sub/fake.sif", b"no image at all");
    home
}

fn names(outcome: &Outcome) -> Vec<String> {
    verdicts(outcome).into_keys().collect()
}

fn recursive(home: &Home, more: &[&str]) -> Outcome {
    run(home.sigsif(["verify", "--local", "--recursive"]).args(more))
}

#[test]
fn a_folder_is_all_images_below_it_by_name_or_by_content() {
    let home = tree();
    let outcome = recursive(&home, &["t"]).expect(255);
    let found = verdicts(&outcome);
    let wanted = [
        ("t/a.sif", "verified"),
        ("t/sub/B.SIF", "verified"),
        ("t/sub/deep/c.sif", "unsigned"),
        ("t/sub/deep/no-name", "verified"),
        ("t/sub/fake.sif", "error"),
    ];
    let wanted = wanted.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(found, wanted.into());
    outcome.says("2 file(s) in the folders are no images");
}

#[test]
fn a_folder_without_recursive_is_no_image() {
    let home = tree();
    let outcome = run(&mut home.sigsif(["verify", "--local", "t", "t/a.sif"])).expect(255);
    assert_eq!(verdicts(&outcome)["t"], "error");
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("--recursive"));
}

#[test]
fn an_image_that_is_named_twice_has_one_line() {
    let home = tree();
    let outcome = recursive(&home, &["t/a.sif", "t", "t/a.sif"]);
    assert_eq!(names(&outcome).len(), 5);
}

#[test]
fn lists_have_lines_or_zeros() {
    let home = tree();
    home.copy("native/pgp-one.sif", "t/new\nline.sif");
    home.write("list", b"t/a.sif\n\nt/sub/B.SIF");
    home.write("zeros", b"t/a.sif\0t/new\nline.sif\0");
    let outcome = run(&mut home.sigsif(["verify", "--local", "--from-file", "list"])).expect(0);
    assert_eq!(names(&outcome), ["t/a.sif", "t/sub/B.SIF"]);
    let outcome =
        run(&mut home.sigsif(["verify", "--local", "--from-file", "zeros", "-0"])).expect(0);
    assert_eq!(names(&outcome), ["t/a.sif", "t/new\\nline.sif"]);
    run(&mut home.sigsif(["verify", "--local", "--from-file", "zeros"]))
        .expect(255)
        .says("--null if zeros end paths");
    run(&mut home.sigsif(["verify", "--local", "--from-file", "none"]))
        .expect(255)
        .says("reading list 'none': no such file or directory");
    home.write("long", &vec![b'x'; 1 << 20]);
    run(&mut home.sigsif(["verify", "--local", "--from-file", "long"]))
        .expect(255)
        .says("a path is longer than 65536 bytes");
}

#[test]
fn a_list_comes_from_standard_input() {
    let home = tree();
    let mut command = home.clean("sh");
    command
        .arg("-c")
        .arg("find t -name '*.sif' -print0 | \"$1\" verify --local --null --from-file -")
        .arg("sh")
        .arg(env!("CARGO_BIN_EXE_sigsif"));
    let outcome = run(&mut command).expect(255);
    assert_eq!(
        names(&outcome),
        ["t/a.sif", "t/sub/deep/c.sif", "t/sub/fake.sif"]
    );
}

/// What was read of it before is not read again, and a socket is as good as a pipe.
#[test]
fn standard_input_is_what_is_left_of_it() {
    let home = tree();
    home.write("list", b"a header\nt/a.sif\n");
    let mut script = home.clean("sh");
    script
        .args(["-c", "{ read line; exec \"$@\"; } <list", "sh"])
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .args(["verify", "--local", "--from-file", "-"]);
    let child = script
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    let outcome = finish(child, Duration::from_secs(60), "a list");
    assert_eq!(names(&outcome.expect(0)), ["t/a.sif"]);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("sockets");
    std::io::Write::write_all(&mut &ours, b"t/a.sif\n").expect("a list");
    drop(ours);
    let mut call = home.sigsif(["verify", "--local", "--from-file", "-"]);
    call.stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = call.spawn().expect("sigsif");
    let outcome = finish(child, Duration::from_secs(60), "a socket");
    assert_eq!(names(&outcome.expect(0)), ["t/a.sif"]);
}

#[test]
fn patterns_fit_or_are_an_error() {
    let home = tree();
    let glob = |pattern: &str| run(&mut home.sigsif(["verify", "--local", "--glob", pattern]));
    assert_eq!(names(&glob("t/*.sif")), ["t/a.sif"]);
    assert_eq!(
        names(&glob("t/**/*.sif")),
        ["t/a.sif", "t/sub/deep/c.sif", "t/sub/fake.sif"]
    );
    assert_eq!(names(&glob("t/[ab].s?f")), ["t/a.sif"]);
    glob("t/*.img")
        .expect(255)
        .says("pattern 't/*.img': fits nothing");
    glob("t/[").expect(255).says("pattern 't/['");
    let absolute = home.join("t/sub/*.SIF").display().to_string();
    assert!(names(&glob(&absolute))[0].ends_with("/t/sub/B.SIF"));
    assert_eq!(names(&glob("./t/*.sif")), ["./t/a.sif"]);
    assert_eq!(names(&glob("t/sub/**")).len(), 4);
    assert_eq!(names(&glob("*/sub/*/no-*")), ["t/sub/deep/no-name"]);
    assert_eq!(names(&glob("t/a.sif/*/x")).len(), 0);
}

/// Two links back make 2^40 paths for who follows them.
#[test]
fn patterns_do_not_run_in_circles() {
    let home = tree();
    for number in 0..3 {
        symlink("..", home.join(&format!("t/sub/up{number}"))).expect("a link");
        symlink(".", home.join(&format!("t/sub/deep/self{number}"))).expect("a link");
    }
    let flags = [
        "verify",
        "--local",
        "--glob",
        "t/**/*.sif",
        "--glob",
        "t/**/**/deep/**/c.*",
    ];
    let outcome = run(&mut home.sigsif(flags)).expect(255);
    assert_eq!(
        names(&outcome),
        ["t/a.sif", "t/sub/deep/c.sif", "t/sub/fake.sif"]
    );
}

#[test]
fn no_image_is_no_success() {
    let home = tree();
    fs::create_dir(home.join("nothing")).expect("a folder");
    home.write("list", b"\n");
    for args in [&["-r", "nothing"][..], &["--from-file", "list"]] {
        run(home.sigsif(["verify", "--local"]).args(args))
            .expect(255)
            .says("there is no image to verify");
    }
    run(&mut home.sigsif(["verify", "--recursive"])).expect(1);
}

#[test]
fn links_to_folders_are_told_and_not_followed() {
    let home = tree();
    symlink("..", home.join("t/sub/up")).expect("a link");
    symlink("loop.sif", home.join("t/loop.sif")).expect("a link");
    symlink("a.sif", home.join("t/latest.sif")).expect("a link");
    symlink("nowhere", home.join("t/gone.sif")).expect("a link");
    let outcome = recursive(&home, &["t"]).expect(255);
    let found = verdicts(&outcome);
    assert_eq!(found["t/latest.sif"], "verified");
    assert_eq!(found["t/loop.sif"], "error");
    assert_eq!(found["t/gone.sif"], "error");
    assert_eq!(found.len(), 8);
    outcome.says("'t/sub/up' is a link to a folder and is not followed");
}

#[test]
fn pipes_sockets_and_devices_stop_nothing() {
    let home = tree();
    let made = Command::new("mkfifo").arg(home.join("t/pipe.sif")).status();
    assert!(made.expect("mkfifo").success());
    let made = Command::new("mkfifo").arg(home.join("t/pipe")).status();
    assert!(made.expect("mkfifo").success());
    let _socket = UnixListener::bind(home.join("t/socket.sif")).expect("a socket");
    symlink("/dev/zero", home.join("t/zero.sif")).expect("a link");
    let outcome = recursive(&home, &["t"]).expect(255);
    let found = verdicts(&outcome);
    for name in ["pipe", "socket", "zero"] {
        assert_eq!(found[&format!("t/{name}.sif")], "error", "{name}");
    }
    assert_eq!(found.len(), 8);
}

#[test]
fn what_cannot_be_read_is_an_answer_of_its_own() {
    let home = tree();
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become somebody who may not read");
    }
    let mode = |path: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(home.join(path), mode).expect("chmod");
    };
    mode("", 0o755);
    mode("t/sub", 0o700);
    mode("t/a.sif", 0o600);
    home.copy("native/pgp-one.sif", "t/z.sif");
    home.copy("native/dsse-p256.sif", "t/secret");
    mode("t/secret", 0o600);
    let key = crate::support::peers("keys/p256.pub.pem");
    home.write("key.pem", &fs::read(key).expect("a key"));
    mode("key.pem", 0o644);
    let mut command = home.sigsif(["verify", "--key", "key.pem", "--recursive", "t"]);
    // The program itself may lie where nobody else can reach it.
    let copy = home.join("sigsif");
    // Not by this process: another test may start a program while the copy is open for writing.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_sigsif"))
        .arg(&copy)
        .status();
    assert!(copied.expect("cp").success());
    let mut nobody = Command::new(&copy);
    nobody
        .args(command.get_args())
        .current_dir(home.path())
        .uid(65534)
        .gid(65534);
    let outcome = run(&mut nobody).expect(255);
    let found = verdicts(&outcome);
    for (image, verdict) in [
        ("t/sub", "error"),
        ("t/a.sif", "error"),
        ("t/secret", "error"),
        ("t/z.sif", "unknown"),
    ] {
        assert_eq!(found[image], verdict, "{image}: {outcome}");
    }
    run(&mut command);
}

#[test]
fn names_that_are_no_text_stay_apart() {
    let home = Home::with_keys();
    fs::create_dir(home.join("t")).expect("a folder");
    let bytes = crate::support::read_peers("native/pgp-one.sif");
    for name in [&b"t/\xff.sif"[..], b"t/\xfe.sif"] {
        fs::write(home.path().join(OsStr::from_bytes(name)), &bytes).expect("an image");
    }
    let flags = ["--report", "r.jsonl", "--jobs", "1", "t"];
    let outcome = recursive(&home, &flags).expect(0);
    assert_eq!(names(&outcome), ["t/\\xfe.sif", "t/\\xff.sif"]);
    let report = fs::read(home.join("r.jsonl")).expect("a report");
    let lines = crate::lines(&report);
    let bytes: Vec<_> = lines.iter().map(|line| &line["imageBytes"]).collect();
    assert_eq!(bytes, ["742ffe2e736966", "742fff2e736966"]);
    // Each is known again.
    recursive(&home, &["--report", "r.jsonl", "--resume", "t"])
        .expect(0)
        .says("2 image(s) are in the report already");
}

#[test]
fn shards_are_a_partition_by_the_hash_of_the_path() {
    let home = Home::with_keys();
    fs::create_dir(home.join("t")).expect("a folder");
    let all: Vec<_> = (0..40).map(|n| format!("t/{n}.sif")).collect();
    for name in &all {
        home.copy("native/pgp-one.sif", name);
    }
    for of in [1_u64, 2, 3, 7, 64] {
        let mut found = Vec::new();
        for number in 1..=of {
            let shard = format!("{number}/{of}");
            let outcome = recursive(&home, &["--shard", &shard, "t"]).expect(0);
            for name in names(&outcome) {
                let hash = Sha256::digest(&name);
                let start = u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"));
                assert_eq!(start % of, number - 1, "{name} in {shard}");
                found.push(name);
            }
        }
        found.sort();
        let mut wanted = all.clone();
        wanted.sort();
        assert_eq!(found, wanted, "{of} shards");
    }
}
