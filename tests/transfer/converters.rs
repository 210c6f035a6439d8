//! `pull --converter`: layers that installed programs make.

use crate::peer::Peer;
use crate::pull_faults::names;
use crate::pull_real::{Layout, lower, sigsif_pull, unpacked, upper};
use crate::support::{run, skip_without, tool};
use sigsif::disk::converter::{Error, Program, Root};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PROGRAMS: [&str; 2] = ["tar2sqfs", "mksquashfs"];

/// A registry with an image of two layers.
fn peer() -> Option<Peer> {
    let peer = Peer::start()?;
    let layout = Layout::new(&peer.home);
    layout.finish(&layout.image("amd64", &[lower(), upper()]));
    peer.fill(layout.path(), "lab/two:1").then_some(peer)
}

#[test]
fn installed_programs_make_the_same_of_layers() {
    let Some(peer) = peer() else { return };
    if tool("unsquashfs").is_none() {
        return skip_without("unsquashfs");
    }
    for args in [&[][..], &["--keep-layers"]] {
        let ours = [args, &["--force", "--converter", "builtin"]].concat();
        run(&mut sigsif_pull(&peer, &ours, "ours.sif", "lab/two:1")).expect(0);
        let ours = unpacked(&peer.home, "ours.sif");
        for program in PROGRAMS {
            if tool(program).is_none() {
                skip_without(program);
                continue;
            }
            let with = [args, &["--force", "--converter", program]].concat();
            let outcome = run(&mut sigsif_pull(&peer, &with, "made.sif", "lab/two:1"));
            outcome.expect(0);
            assert!(
                unpacked(&peer.home, "made.sif") == ours,
                "{program} {args:?}"
            );
        }
    }
}

#[test]
fn a_program_that_is_missing_fails_or_lies_makes_no_file() {
    let Some(peer) = peer() else { return };
    let folder = peer.home.join("bin");
    fs::create_dir(&folder).unwrap();
    peer.home.write("old.sif", b"old");
    let before = names(peer.home.path());
    let real = tool("cat").and_then(|cat| cat.parent().map(|p| p.display().to_string()));
    let path = format!("{}:{}", folder.display(), real.unwrap());
    let forgetful = tool("tar2sqfs").map(|real| format!("exec {} -k \"$@\"", real.display()));
    for (script, reason) in [
        (
            forgetful.as_deref().unwrap_or("exit 1"),
            "has other time than wanted",
        ),
        ("", "tar2sqfs: no such file or directory"),
        (
            "cat >/dev/null; printf 'no \\033[31mroom\\n' >&2; exit 3",
            "tar2sqfs: exit status: 3: no [31mroom",
        ),
        ("exec kill -9 $$", "tar2sqfs: signal: 9"),
        // It reads nothing, and says that all is well.
        ("exit 0", "tar2sqfs: exit status: 0"),
        (
            "cat >/dev/null",
            "tar2sqfs made no right squashfs: malformed squashfs: too short",
        ),
        (
            "for out; do :; done; cat >$out",
            "tar2sqfs made no right squashfs: malformed squashfs: it does not begin as one",
        ),
        (
            "head -c 99999999 /dev/zero >&2; cat >/dev/null; exit 1",
            "tar2sqfs: exit status: 1",
        ),
    ] {
        if forgetful.is_none() && reason.contains("time") {
            skip_without("tar2sqfs");
            continue;
        }
        let program = folder.join("tar2sqfs");
        let _ = fs::remove_file(&program);
        if !script.is_empty() {
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let args = ["--force", "--converter", "tar2sqfs"];
        let mut pull = sigsif_pull(&peer, &args, "old.sif", "lab/two:1");
        let path = match script {
            "" => folder.display().to_string(),
            _ => path.clone(),
        };
        let outcome = run(pull.env("PATH", path)).expect(255);
        assert!(!outcome.stderr.contains('\u{1b}') && outcome.stderr.len() < 20_000);
        outcome.says(reason);
        assert_eq!(
            fs::read(peer.home.join("old.sif")).unwrap(),
            b"old",
            "{script}"
        );
        assert_eq!(names(peer.home.path()), before, "{script}");
    }
}

#[test]
fn a_program_gets_no_secret() {
    let Some(peer) = peer() else { return };
    let folder = peer.home.join("bin");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("tar2sqfs");
    fs::write(&program, "#!/bin/sh\nenv >&2\ncat >/dev/null\nexit 1\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let real = tool("cat").and_then(|cat| cat.parent().map(|p| p.display().to_string()));
    let path = format!("{}:{}", folder.display(), real.unwrap());
    let mut pull = sigsif_pull(&peer, &["--converter", "tar2sqfs"], "made.sif", "lab/two:1");
    pull.env("PATH", path)
        .env("OTHER", "seen")
        .env("SINGULARITY_DOCKER_USERNAME", "alice");
    for name in [
        "SIGSIF_PASSPHRASE",
        "COSIGN_PASSWORD",
        "SINGULARITY_DOCKER_PASSWORD",
        "APPTAINER_DOCKER_PASSWORD",
        "SIGSIF_LOGIN_PASSWORD",
        "SINGULARITY_ENCRYPTION_PASSPHRASE",
    ] {
        pull.env(name, "hush");
    }
    let outcome = run(&mut pull).expect(255);
    assert!(outcome.stderr.contains("OTHER=seen"), "{outcome}");
    assert!(!outcome.stderr.contains("hush"), "{outcome}");
}

#[test]
fn a_program_is_ended_when_its_archive_is_not_right() {
    if tool("tar2sqfs").is_none() {
        return skip_without("tar2sqfs");
    }
    let out = tempfile::tempfile().unwrap();
    let begin = Instant::now();
    let root = Root {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let made = Program::Tar2sqfs.run(&out, root, 1, |pipe: &mut dyn Write| {
        pipe.write_all(&[0; 100]).unwrap();
        Err("not right")
    });
    assert!(matches!(made, Err(Error::Feed("not right"))));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(out.metadata().unwrap().len(), 0);
}

#[test]
fn converters_have_names() {
    let home = crate::support::Home::new();
    let args = [
        "pull",
        "--converter",
        "sh",
        "x.sif",
        "docker://127.0.0.1:9/x",
    ];
    run(&mut home.sigsif(args))
        .expect(1)
        .says("must be builtin, tar2sqfs or mksquashfs");
}
