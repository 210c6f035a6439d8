//! GnuPG and this program talk to the same key server.

use crate::server::hkp;
use crate::tool::{Folder, fixture, fixture_text};
use std::process::{Command, Output};

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
const TWO: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";

fn tools() -> bool {
    let found = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if found("gpg") && found("dirmngr") {
        return true;
    }
    let required = std::env::var_os("SIGSIF_PEERS").is_some_and(|value| value == "required");
    assert!(!required, "gpg and dirmngr are required here");
    eprintln!("skipped: gpg or dirmngr is not installed");
    false
}

/// A home folder of GnuPG; the path must be short enough for sockets.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/tmp").unwrap())
    }

    fn gpg(&self, args: &[&str]) -> Output {
        Command::new("gpg")
            .args(["--batch", "--no-tty", "--yes"])
            .args(args)
            .env("GNUPGHOME", self.0.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Ends dirmngr and agent of this home folder.
        let _ = Command::new("gpgconf")
            .args(["--homedir", self.0.path().to_str().unwrap_or_default()])
            .args(["--kill", "all"])
            .output();
    }
}

#[test]
fn what_one_sends_the_other_receives() {
    if !tools() {
        return;
    }
    let server = hkp(&[]);
    let url = format!("hkp://127.0.0.1:{}", server.port);
    let home = Home::new();
    let key = fixture("keys/pgp-two.pub.asc");
    let imported = home.gpg(&["--import", key.to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");

    // gpg sends, sigsif receives.
    let sent = home.gpg(&["--keyserver", &url, "--send-keys", TWO]);
    assert!(sent.status.success(), "{sent:?}");
    let folder = Folder::new();
    let pulled = folder.run(&["key", "pull", "-u", &url, TWO], &[]);
    assert_eq!(pulled.code, 0, "{pulled:?}");

    // sigsif sends, gpg searches and receives.
    let folder = Folder::new().with_keyring();
    assert_eq!(folder.run(&["key", "push", "-u", &url, ONE], &[]).code, 0);
    let found = home.gpg(&[
        "--keyserver",
        &url,
        "--with-colons",
        "--search-keys",
        "alice",
    ]);
    let listed = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(listed.contains(&format!("pub:{ONE}:1:4096:")), "{found:?}");
    let received = home.gpg(&["--keyserver", &url, "--recv-keys", ONE]);
    assert!(received.status.success(), "{received:?}");
    let known = home.gpg(&["--with-colons", "--list-keys", ONE]);
    assert!(
        String::from_utf8_lossy(&known.stdout).contains(ONE),
        "{known:?}"
    );
    assert!(fixture_text("keys/pgp-one.pub.asc").contains("BEGIN PGP"));
}
