//! `verify --strict` and `sif list --coverage` as commands.

use crate::support::{Home, peers, read_peers, run};
use serde_json::Value;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn strict_verification_names_every_byte_that_nobody_covers() {
    let home = Home::with_keys();
    let strict = ["verify", "--local", "--strict"];
    let good = run(home.sigsif(strict).arg(peers("native/pgp-one.sif"))).expect(0);
    let good = text(good.stdout);
    assert!(
        good.contains("\nCoverage: 38529 bytes, 5858 signed, "),
        "{good}"
    );
    assert!(
        good.contains("bytes 64-72 (8), header, creation time: "),
        "{good}"
    );
    assert!(!good.contains("Not covered"), "{good}");

    // The header says another architecture than the partition: no signature minds.
    let odd = peers("native/pgp-one.tampered-arch.sif");
    run(home.sigsif(["verify", "--local"]).arg(&odd)).expect(0);
    let refused = run(home.sigsif(strict).arg(&odd))
        .expect(255)
        .says("failed to verify container: strict: 3 bytes in 1 place not covered");
    let refused = text(refused.stdout);
    let line = "  bytes 45-48 (3), header, architecture: is arm, and the primary system partition \
                says amd64\n";
    assert!(refused.contains(line), "{refused}");

    // An image that does not verify is refused for that reason, without a list.
    let bad = peers("native/pgp-one.tampered-object.sif");
    let bad = run(home.sigsif(strict).arg(&bad))
        .expect(255)
        .says("integrity compromised: 3");
    assert!(!text(bad.stdout).contains("Coverage"));

    run(home
        .sigsif(["verify", "--strict", "--legacy-insecure"])
        .arg(&odd))
    .expect(1)
    .says("--strict and --legacy-insecure cannot be used together");
}

#[test]
fn the_json_report_has_every_range() {
    let home = Home::with_keys();
    let report = |name: &str, code: i32, strict: bool| -> Value {
        let mut command = home.sigsif(["verify", "--local", "--format", "json"]);
        if strict {
            command.arg("--strict");
        }
        let outcome = run(command.arg(peers(name))).expect(code);
        serde_json::from_slice(&outcome.stdout).expect("JSON")
    };
    let plain = report("native/pgp-one.sif", 0, false);
    assert_eq!(plain.get("coverage"), None);
    let strict = report("native/pgp-one.sif", 0, true);
    assert_eq!(strict["verdict"], "verified");
    assert_eq!(strict["coverage"]["verdict"], "complete");
    assert_eq!(strict["coverage"]["bytes"]["uncovered"], 0);
    let ranges = strict["coverage"]["ranges"].as_array().expect("ranges");
    assert_eq!(ranges[0]["field"], "launch script");
    assert_eq!(ranges[0]["signatures"][0], 4);
    let total: u64 = ["signed", "fixed", "free", "uncovered"]
        .iter()
        .map(|state| {
            strict["coverage"]["bytes"][state]
                .as_u64()
                .expect("a number")
        })
        .sum();
    assert_eq!(total, 38529);

    let odd = report("native/pgp-one.tampered-arch.sif", 255, true);
    assert_eq!(odd["verdict"], "refused");
    assert_eq!(odd["signatures"][0]["verdict"], "valid");
    let reason = "strict: 3 bytes in 1 place not covered by any signature";
    assert_eq!(odd["reason"], reason);
    let bad = report("native/pgp-one.tampered-object.sif", 255, true);
    assert_eq!(bad["reason"], "data object integrity compromised: 3");
    assert_eq!(bad["coverage"]["verdict"], "incomplete");
}

#[test]
fn the_bar_tells_claims_from_facts() {
    let stranger = Home::new();
    let draw = |home: &Home, name: &str| {
        let outcome = run(home.sigsif(["sif", "list", "--coverage"]).arg(peers(name)));
        text(outcome.expect(0).stdout)
    };
    let claimed = draw(&stranger, "native/pgp-one.sif");
    let bar = claimed.lines().next().expect("a bar");
    assert_eq!(bar.len(), 80);
    assert!(bar.starts_with("[a.") && bar.ends_with("=]"), "{bar}");
    assert!(claimed.contains("\na  signed by 4\n"), "{claimed}");
    let line = "\n4  claimed   PGP 31359731D5C34C90C977AAF822CC73292934D01F, no key at hand\n";
    assert!(claimed.contains(line), "{claimed}");

    let friend = Home::with_keys();
    let verified = draw(&friend, "native/pgp-one.sif");
    assert!(verified.contains("\nA  signed by 4\n"), "{verified}");
    assert!(verified.contains("\n4  verified  PGP 3135"), "{verified}");

    // A signature that does not hold covers nothing, whatever it claims.
    let bad = draw(&friend, "native/pgp-one.tampered-object.sif");
    assert!(!bad.to_lowercase().contains("\na  "), "{bad}");
    assert!(
        bad.contains("\n4  refused   data object integrity compromised: 3\n"),
        "{bad}"
    );
    assert!(
        bad.contains("!  32176-32195  data of object 1 (no verified"),
        "{bad}"
    );

    let unsigned = draw(&friend, "native/unsigned.sif");
    assert!(unsigned.ends_with("\nNo signatures\n"), "{unsigned}");

    run(friend
        .sigsif(["sif", "list", "--key", "x"])
        .arg(peers("native/pgp-one.sif")))
    .expect(1)
    .says("--key and --keysdir need --coverage");
}

#[test]
fn a_public_key_makes_the_claim_of_an_envelope_a_fact() {
    let home = Home::new();
    let draw = |key: &str| {
        let mut command = home.sigsif(["sif", "list", "--coverage", "--key"]);
        let outcome = run(command.arg(peers(key)).arg(peers("native/dsse-p256.sif")));
        text(outcome.expect(0).stdout)
    };
    let verified = draw("keys/p256.pub.pem");
    assert!(
        verified.contains("\n4  verified  ECDSA P-256 SHA256:"),
        "{verified}"
    );
    let claimed = draw("keys/p384.pub.pem");
    assert!(claimed.contains("\n4  claimed   DSSE SHA256:"), "{claimed}");
}

#[test]
fn leftovers_are_drawn_where_they_are() {
    let home = Home::with_keys();
    let mut bytes = read_peers("native/pgp-one.sif");
    bytes[2000] = 1;
    let path = home.join("leftover.sif");
    std::fs::write(&path, bytes).expect("written");
    let drawn = run(home.sigsif(["sif", "list", "--coverage"]).arg(&path)).expect(0);
    let drawn = text(drawn.stdout);
    let row = "!  2000-2001    space behind the header (unused bytes must be zero)";
    assert!(drawn.contains(row), "{drawn}");
    assert!(
        drawn.contains("\n.  2001-4096    space behind the header\n"),
        "{drawn}"
    );
}
