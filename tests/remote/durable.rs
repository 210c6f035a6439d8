//! `remote.yaml` is old or new, never a mixture, and no change is lost.

use crate::lab::{Lab, mode};
use std::process::{Command, Stdio};

#[test]
fn eight_at_once_are_all_kept() {
    let lab = Lab::new();
    let names: Vec<String> = (0..8).map(|i| format!("p{i}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = lab.command(&["remote", "add", "--no-login", name, "h"]);
            command.stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = lab.text("cfg/remote.yaml");
    for name in names {
        assert!(
            text.contains(&format!("    {name}:\n        URI: h\n")),
            "{text}"
        );
    }
}

#[test]
fn a_kill_at_any_step_leaves_a_whole_file() {
    let lab = Lab::new();
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if !strace.is_ok_and(|status| status.success()) {
        eprintln!("strace is not here: not tested");
        return;
    }
    lab.ok(&["remote", "add", "--no-login", "old", "h"]);
    let old = lab.text("cfg/remote.yaml");
    let mut killed = 0;
    for call in [
        "write",
        "fsync",
        "fchmod",
        "rename",
        "renameat",
        "renameat2",
        "linkat",
    ] {
        for when in 1..6 {
            let mut command = Command::new("strace");
            lab.set_up(&mut command);
            let inject = format!("inject={call}:signal=SIGKILL:when={when}");
            let status = command
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, "--"])
                .args([
                    env!("CARGO_BIN_EXE_sigsif"),
                    "remote",
                    "add",
                    "--no-login",
                    "new",
                    "h",
                ])
                .stderr(Stdio::null())
                .status();
            let text = lab.text("cfg/remote.yaml");
            let is_new =
                text.contains("    new:\n        URI: h\n") && text.starts_with("Active: new\n");
            assert!(text == old || is_new, "{call} {when}: {text}");
            assert_eq!(mode(&lab.path("cfg/remote.yaml")), "0600");
            if status.unwrap().success() {
                assert!(is_new);
            } else {
                killed += 1;
            }
            std::fs::write(lab.path("cfg/remote.yaml"), &old).unwrap();
        }
    }
    assert!(killed >= 3, "only {killed} kills");
}
