//! Key servers are asked for a key once, however many images name it.

use crate::server::{Server, answer, hkp};
use crate::support::{Home, read_peers, run};
use crate::verdicts;
use std::collections::BTreeSet;
use std::fs;

/// Twenty images, by two signers and by none, and a keyring without keys.
fn tree() -> Home {
    let home = Home::new();
    fs::create_dir(home.join("t")).expect("a folder");
    for number in 0..20 {
        let from = ["pgp-one", "pgp-two-groups", "unsigned"][number % 3];
        home.copy(&format!("native/{from}.sif"), &format!("t/{number}.sif"));
    }
    home
}

#[test]
fn a_key_is_asked_for_once() {
    let one = String::from_utf8(read_peers("keys/pgp-one.pub.asc")).expect("text");
    let server = hkp(&[&one]);
    let home = tree();
    let flags = [
        "verify",
        "--jobs",
        "4",
        "--recursive",
        "--url",
        &server.url(),
        "t",
    ];
    let outcome = run(&mut home.sigsif(flags)).expect(255);
    let found = verdicts(&outcome);
    assert_eq!(found["t/0.sif"], "verified");
    assert_eq!(found["t/18.sif"], "verified");
    assert_eq!(found["t/2.sif"], "unsigned");
    let asked = server.seen().len();
    assert!((1..=2).contains(&asked), "{asked} questions");
    server.forget();
    let mut local = home.sigsif(["verify", "--local", "--recursive", "t"]);
    run(&mut local).expect(255);
    assert!(server.seen().is_empty());
}

#[test]
fn a_key_that_no_server_has_is_asked_for_once() {
    let server = Server::answering(answer(404, &[], "no such key"));
    let home = tree();
    let flags = ["verify", "--recursive", "--url", &server.url(), "t"];
    let outcome = run(&mut home.sigsif(flags)).expect(255);
    assert!(
        verdicts(&outcome)
            .values()
            .all(|verdict| verdict != "verified")
    );
    let asked = server.seen().len();
    assert!((1..=2).contains(&asked), "{asked} questions");
}

#[test]
fn servers_that_do_not_answer_are_given_up() {
    let server = Server::answering(answer(503, &[("Retry-After", "0")], "later"));
    let home = Home::new();
    fs::create_dir(home.join("t")).expect("a folder");
    // Every image by a key of its own.
    for number in 0..6 {
        let signer = Home::new();
        let made = ["key", "newpair", "--name", "A", "--email", "a@example.org"];
        let mut command = signer.sigsif(made);
        command.args([
            "--comment",
            "",
            "--password",
            "",
            "--push=false",
            "--type",
            "ed25519",
        ]);
        run(&mut command).expect(0);
        let image = home.copy("native/unsigned.sif", &format!("t/{number}.sif"));
        run(signer.sigsif(["sign", "--keyidx", "0"]).arg(image)).expect(0);
    }
    let flags = ["verify", "--recursive", "--url", &server.url(), "t"];
    let outcome = run(&mut home.sigsif(flags)).expect(255);
    assert_eq!(verdicts(&outcome).len(), 6);
    let asked: BTreeSet<_> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    outcome.says("No key server answers");
}

/// An object outside of every group refuses the image at once; who signed the rest is asked for
/// only where the whole report is wanted.
#[test]
fn keys_are_asked_for_as_far_as_the_report_goes() {
    let one = String::from_utf8(read_peers("keys/pgp-one.pub.asc")).expect("text");
    let server = hkp(&[&one]);
    let home = Home::new();
    let image = home.copy("native/pgp-one.object-added-nogroup.sif", "x.sif");
    let judge = |more: &[&str]| {
        let mut command = home.sigsif(["verify", "--url", &server.url()]);
        run(command.args(more).arg(&image)).expect(255)
    };
    judge(&[]);
    assert!(server.seen().is_empty());
    let outcome = judge(&["--format", "json"]);
    assert_eq!(server.seen().len(), 1);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(
        report["signatures"][0]["signer"]["origin"], "remote",
        "{report}"
    );
}
