//! `verify --policy`.

use crate::server::hkp;
use crate::support::{Home, Outcome, peers, project, read_peers, run};
use serde_json::Value;
use sigsif::policy::file::Policy;
use std::fs;
use std::os::unix::fs::symlink;

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
const TWO: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";
const MIXED: &str = "native/mixed-pgp-dsse.sif";

/// Signers that the rules of these tests use.
fn signers() -> String {
    let inline = String::from_utf8(read_peers("keys/rsa3072.pub.pem")).expect("text");
    let x509 = |name: &str| peers(&format!("x509/{name}.pem")).display().to_string();
    format!(
        "version = 1\n\
         [[signer]]\nname = 'alice'\npgp = ['{ONE}']\n\
         [[signer]]\nname = 'p256'\nkey-files = ['keys/p256.pem']\n\
         [[signer]]\nname = 'rsa'\nkeys = ['''\n{inline}''']\n\
         [[signer]]\nname = 'both'\npgp = ['{ONE}']\nkey-files = ['keys/p256.pem']\n\
         [[signer]]\nname = 'two'\npgp = ['{TWO}']\n\
         [[signer]]\nname = 'staff'\ncertificates = {{ roots = '{root}', intermediates = \
         '{intermediate}', subjects = ['CN=Fixture *'] }}\n\
         [[signer]]\nname = 'others'\ncertificates = {{ roots = '{root}', intermediates = \
         '{intermediate}', subjects = ['CN=Other'] }}\n\
         [[signer]]\nname = 'strangers'\ncertificates = {{ roots = '{other}', intermediates = \
         '{intermediate}', subjects = ['*'] }}\n\
         [[signer]]\nname = 'listed'\ncertificates = {{ roots = '{root}', intermediates = \
         '{intermediate}', subjects = ['*'], files = ['{leaf}', '{expired}'] }}\n\
         [[signer]]\nname = 'cosign'\ncosign-key-files = ['{cosign}']\n",
        root = x509("root"),
        intermediate = x509("intermediate"),
        other = x509("other-root"),
        leaf = x509("leaf"),
        expired = x509("leaf-expired"),
        cosign = peers("cosign/keys/p256.pub").display(),
    )
}

/// A home with a keyring, a policy in a folder of its own, and the key beside it.
struct Desk {
    home: Home,
}

impl Desk {
    fn new() -> Self {
        let home = Home::with_keys();
        fs::create_dir_all(home.join("rules/keys")).expect("a folder");
        fs::copy(peers("keys/p256.pub.pem"), home.join("rules/keys/p256.pem")).expect("a key");
        Self { home }
    }

    fn rules(&self, rules: &str) -> &Self {
        let text = format!("{}{rules}", signers());
        fs::write(self.home.join("rules/policy.toml"), text).expect("a policy");
        self
    }

    /// One rule, for every image.
    fn rule(&self, rule: &str) -> &Self {
        self.rules(&format!("[[rule]]\n{rule}\n"))
    }

    /// Runs `verify` on an image of the fixtures; `@` stands for these in arguments.
    fn verify(&self, args: &[&str], image: &str) -> Outcome {
        let mut command = self
            .home
            .sigsif(["verify", "--policy", "rules/policy.toml"]);
        for arg in args {
            match arg.strip_prefix('@') {
                Some(file) => command.arg(peers(file)),
                None => command.arg(arg),
            };
        }
        run(command.arg(peers(image)))
    }

    fn judge(&self, image: &str) -> Outcome {
        self.verify(&["--local"], image)
    }
}

#[test]
fn only_accepted_signers_count() {
    let desk = Desk::new();
    let ok = desk.rule("signers = ['alice', 'p256']").judge(MIXED);
    ok.expect(0)
        .says("Verifying image by rule 1 of policy 'rules/policy.toml'");
    // A key of the keyring that the policy does not name is as good as unknown.
    desk.rule("signers = ['two', 'p256']")
        .judge(MIXED)
        .expect(255)
        .says("openpgp: signature made by unknown entity")
        .says(
            "INFO:    The rule accepts no key that could judge this signature, which names the \
             key 31359731D5C34C90C977AAF822CC73292934D01F\n",
        );
    desk.rule("signers = ['alice']")
        .judge(MIXED)
        .expect(255)
        .says("key material not provided for DSSE envelope signature");
    desk.rule("signers = ['alice']\nignore-unknown = true")
        .judge(MIXED)
        .expect(0);
    desk.rule("signers = ['two']\nignore-unknown = true")
        .judge(MIXED)
        .expect(255)
        .says("policy: object group 1 has 0 of 1 accepted signers");
    desk.rule("signers = ['p256', 'rsa']")
        .judge("native/dsse-p256-and-rsa.sif")
        .expect(0);
    desk.rule("signers = ['rsa']")
        .judge("native/dsse-p256-and-rsa.sif")
        .expect(255)
        .says("accepted signatures do not match threshold");
    for image in [
        "unsigned",
        "pgp-one.tampered-object",
        "pgp-one.tampered-signature",
    ] {
        let image = format!("native/{image}.sif");
        desk.rule("signers = ['alice']\nignore-unknown = true")
            .judge(&image)
            .expect(255);
    }
}

#[test]
fn signers_are_parties_and_some_must_sign() {
    let desk = Desk::new();
    desk.rule("signers = ['alice', 'p256']\nat-least = 2")
        .judge(MIXED)
        .expect(0);
    // Two keys of one party are one signer.
    desk.rule("signers = ['both', 'two']\nat-least = 2")
        .judge(MIXED)
        .expect(255)
        .says("policy: object group 1 has 1 of 2 accepted signers");
    // A key that two parties have makes them one.
    desk.rule("signers = ['both', 'alice', 'p256']\nat-least = 2")
        .judge(MIXED)
        .expect(255)
        .says("1 of 2 accepted signers");
    desk.rule("signers = ['alice', 'p256', 'two']\nrequired = ['alice', 'p256']")
        .judge(MIXED)
        .expect(0);
    desk.rule("signers = ['alice', 'p256', 'two']\nrequired = ['two']")
        .judge(MIXED)
        .expect(255)
        .says("policy: object group 1 is not signed by \"two\"");
    // One key of a required party is enough.
    desk.rule("signers = ['both']\nrequired = ['both']")
        .judge("native/dsse-p256.sif")
        .expect(0);
    // A party with keys of another kind has never signed.
    desk.rule("signers = ['alice', 'cosign']\nrequired = ['cosign']")
        .judge("native/pgp-one.sif")
        .expect(255)
        .says("is not signed by \"cosign\"");
    let args = ["--local", "--format", "json"];
    desk.rule("signers = ['alice', 'p256', 'two']\nat-least = 3");
    let report = desk.verify(&args, MIXED).expect(255);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["policy"]["file"], "rules/policy.toml");
    assert_eq!(report["policy"]["rule"], 1);
    assert_eq!(report["policy"]["verdict"], "notMet");
    assert_eq!(report["policy"]["subjects"][0]["distinct"], 2);
    assert_eq!(
        report["reason"],
        "policy: object group 1 has 2 of 3 accepted signers"
    );
}

#[test]
fn the_first_rule_for_the_path_decides_and_none_refuses() {
    let desk = Desk::new();
    let folder = fs::canonicalize(desk.home.path()).expect("a folder");
    let folder = folder.display().to_string();
    fs::create_dir_all(desk.home.join("images/deep/er")).expect("a folder");
    for name in [
        "images/a.sif",
        "images/deep/er/a.sif",
        "rules/a.sif",
        "a.sif",
    ] {
        desk.home.copy("native/pgp-one.sif", name);
    }
    desk.rules(&format!(
        "[[rule]]\npath = '{folder}/images/*.sif'\nsigners = ['alice']\n\
         [[rule]]\npath = '{folder}/images/**'\nsigners = ['two']\n\
         [[rule]]\npath = '*.sif'\nsigners = ['alice']\n"
    ));
    let judge = |image: &str| {
        let args = ["verify", "--local", "--policy", "rules/policy.toml", image];
        run(&mut desk.home.sigsif(args))
    };
    judge("images/a.sif").expect(0).says("by rule 1 of");
    judge("images/deep/er/a.sif")
        .expect(255)
        .says("by rule 2 of");
    judge("rules/a.sif").expect(0).says("by rule 3 of");
    let told = "FATAL:   failed to verify container: policy: no rule for ";
    judge("a.sif")
        .expect(255)
        .says(&format!("{told}{folder}/a.sif"));
    judge("images/deep/../../a.sif").expect(255).says(told);
    // The place is where the file lies, not where a link to it does.
    symlink(desk.home.join("a.sif"), desk.home.join("images/b.sif")).expect("a link");
    judge("images/b.sif").expect(255).says(told);
    symlink(desk.home.join("images/a.sif"), desk.home.join("link.sif")).expect("a link");
    judge("link.sif").expect(0).says("by rule 1 of");
    let args = [
        "verify",
        "--policy",
        "rules/policy.toml",
        "--format",
        "json",
        "a.sif",
    ];
    let report = run(&mut desk.home.sigsif(args)).expect(255);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["verdict"], "refused");
    assert!(
        report["reason"]
            .as_str()
            .expect("text")
            .starts_with("policy: no rule for /")
    );
    judge("gone.sif")
        .expect(255)
        .says("no such file or directory");
}

#[test]
fn certificates_count_by_root_and_subject() {
    let desk = Desk::new();
    let image = "native/x509-leaf.sif";
    let leaf = ["--certificate", "@x509/leaf.pem"];
    desk.rule("signers = ['staff']")
        .verify(&leaf, image)
        .expect(0);
    desk.rule("signers = ['others']")
        .verify(&leaf, image)
        .expect(255)
        .says("is not accepted by the policy: its subject is CN=Fixture Leaf");
    desk.rule("signers = ['strangers']")
        .verify(&leaf, image)
        .expect(255)
        .says("is not accepted by the policy: x509: certificate signed by unknown authority");
    desk.rule("signers = ['alice']")
        .verify(&leaf, image)
        .expect(255)
        .says("is not accepted by the policy: the rule has no signers with certificates");
    // One signer of several accepts it.
    desk.rule("signers = ['strangers', 'staff', 'others']")
        .verify(&leaf, image)
        .expect(0);
    // Roots of the command line or of the system make nobody staff.
    desk.rule("signers = ['strangers']")
        .verify(&["--certificate-roots", "@x509/root.pem"], image)
        .expect(1)
        .says("--policy and --certificate-roots cannot be used together");
    // Certificates of the policy: one that does not hold does not count, and is told.
    desk.rule("signers = ['listed']")
        .judge(image)
        .expect(0)
        .says(
            "leaf-expired.pem' of signer \"listed\" is not accepted: x509: certificate has expired",
        );
    desk.rule("signers = ['listed']")
        .judge("native/x509-leaf-expired.sif")
        .expect(255);
    desk.rule("signers = ['staff']\nat-least = 2")
        .verify(&leaf, image)
        .expect(255)
        .says("has 1 of 2 accepted signers");
    desk.rule("signers = ['staff', 'alice']\nrequired = ['staff']")
        .judge("native/pgp-one.sif")
        .expect(255)
        .says("is not signed by \"staff\"");
}

#[test]
fn flags_make_a_policy_stricter_or_are_refused() {
    let desk = Desk::new();
    desk.rule("signers = ['alice', 'p256', 'two']");
    for args in [
        &["--key", "@keys/p256.pub.pem"][..],
        &["--pgp"],
        &["--ignore-unknown"],
        &["--group-id", "1"],
        &["--sif-id", "1"],
        &["--legacy-insecure"],
    ] {
        desk.verify(args, MIXED)
            .expect(1)
            .says("--policy and ")
            .says(" cannot be used together");
    }
    let local = |args: &[&str]| desk.verify(&[&["--local"], args].concat(), MIXED);
    local(&["--require", ONE]).expect(0);
    local(&["--require", "@keys/p256.pub.pem", "--require-any", "2"]).expect(0);
    local(&["--require-any", "3"])
        .expect(255)
        .says("2 of 3 accepted signers");
    local(&["--require", TWO])
        .expect(255)
        .says(&format!("is not signed by {TWO}"));
    // Nobody becomes acceptable by being required.
    local(&["--require", "@keys/p384.pub.pem"])
        .expect(255)
        .says("the policy does not accept this signer");
    local(&["--require", &"A".repeat(40)])
        .expect(255)
        .says("the policy does not accept this signer");
    // A rule is not weakened by a smaller number.
    desk.rule("signers = ['alice', 'p256', 'two']\nat-least = 3");
    local(&["--require-any", "1"])
        .expect(255)
        .says("2 of 3 accepted signers");
    // Variables name no keys.
    desk.rule("signers = ['alice']");
    let mut command = desk
        .home
        .sigsif(["verify", "--local", "--policy", "rules/policy.toml"]);
    command.env("SIGSIF_VERIFY_KEY", peers("keys/p256.pub.pem"));
    command.env("SIGSIF_VERIFY_CERTIFICATE", peers("x509/leaf.pem"));
    run(command.arg(peers("native/dsse-p256.sif"))).expect(255);
    // --strict comes on top.
    desk.rule("signers = ['alice']");
    desk.verify(&["--local", "--strict"], "native/pgp-one.sif")
        .expect(0);
    desk.verify(&["--local", "--strict"], "native/pgp-one.tampered-arch.sif")
        .expect(255);
}

#[test]
fn key_servers_are_asked_for_accepted_keys_only() {
    let one = String::from_utf8(read_peers("keys/pgp-one.pub.asc")).expect("text");
    let server = hkp(&[&one]);
    let url = server.url();
    let desk = Desk { home: Home::new() };
    fs::create_dir_all(desk.home.join("rules/keys")).expect("a folder");
    fs::copy(
        peers("keys/p256.pub.pem"),
        desk.home.join("rules/keys/p256.pem"),
    )
    .expect("a key");
    let judge = || desk.verify(&["--url", &url], "native/pgp-one.sif");
    desk.rule("signers = ['two']");
    judge().expect(255).says("unknown entity");
    assert!(server.seen().is_empty());
    desk.rule("signers = ['alice']");
    let text = String::from_utf8(judge().expect(0).stdout).expect("text");
    assert!(text.starts_with("[REMOTE]"), "{text}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn cosign_keys_judge_cosign_signatures() {
    let desk = Desk::new();
    let image = "cosign/sif/two-keys.oci.sif";
    let cosign = |args: &[&str]| desk.verify(&[&["--cosign"], args].concat(), image);
    desk.rule("signers = ['cosign', 'alice']");
    cosign(&[])
        .expect(0)
        .says("Signer that counts: ECDSA P-256 ");
    cosign(&["--require-any", "2"])
        .expect(255)
        .says("policy: the image has 1 of 2");
    cosign(&["--require", "@cosign/keys/p256.pub"]).expect(0);
    cosign(&["--require", "@cosign/keys/rsa2048.pub"])
        .expect(255)
        .says("the policy does not accept this signer");
    cosign(&["--key", "@cosign/keys/rsa2048.pub"]).expect(1);
    let report = cosign(&["--format", "json"]).expect(0);
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["policy"]["rule"], 1);
    // Keys of other signatures make no cosign signature good.
    desk.rule("signers = ['p256', 'alice']");
    cosign(&[]).expect(255).says("no valid signatures found");
    desk.rule("signers = ['cosign', 'alice']\nrequired = ['alice']");
    cosign(&[])
        .expect(255)
        .says("policy: the image is not signed by \"alice\"");
    desk.rules("[[rule]]\npath = '/nowhere'\nsigners = ['cosign']\n");
    cosign(&[]).expect(255).says("policy: no rule for /");
    // The same key is no native one.
    desk.rule("signers = ['cosign']")
        .judge("native/dsse-p256.sif")
        .expect(255);
}

#[test]
fn what_is_no_policy_judges_nothing() {
    let desk = Desk::new();
    let refused = |told: &str| {
        desk.judge("native/pgp-one.sif")
            .expect(255)
            .says("FATAL:   failed to load ")
            .says(told);
    };
    refused("lstat rules/policy.toml: no such file or directory");
    desk.rule("signers = ['alice']\nat_least = 2");
    refused("policy: rules/policy.toml: line ");
    desk.rule("signers = ['nobody']");
    refused("rules/policy.toml: rule 1: there is no signer \"nobody\"");
    fs::write(
        desk.home.join("rules/policy.toml"),
        vec![b'#'; (1 << 20) + 1],
    )
    .expect("written");
    refused("file is larger than 1048576 bytes");
    desk.rule("signers = ['p256']");
    fs::remove_file(desk.home.join("rules/keys/p256.pem")).expect("removed");
    refused("key material: open ");
    desk.home.copy("keys/p256.key.pem", "rules/keys/p256.pem");
    refused("key material: unknown Public key PEM file type: PRIVATE KEY");
}

#[test]
fn the_example_and_the_schema_are_about_what_is_read() {
    let read = |name: &str| fs::read_to_string(project().join("docs").join(name)).expect("a page");
    let page = read("policy.md");
    let example = page
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let example = example.expect("an example");
    let policy = Policy::parse(example.as_bytes(), b"/policies").expect("a policy");
    let rule = |path: &str| policy.rule(path.as_bytes()).map(|rule| rule.number);
    assert_eq!(rule("/srv/images/release/a/b.sif"), Some(1));
    assert_eq!(rule("/policies/oci/a.sif"), Some(2));
    assert_eq!(rule("/srv/images/a.sif"), Some(3));
    assert_eq!(rule("/a.sif"), None);

    // Each name of the schema is known to the parser, and no other is.
    let schema: Value = serde_json::from_str(&read("policy.schema.json")).expect("JSON");
    let names = |table: &Value| -> Vec<String> {
        assert_eq!(table["additionalProperties"], false);
        table["properties"]
            .as_object()
            .expect("names")
            .keys()
            .cloned()
            .collect()
    };
    let known = |head: &str, name: &str| {
        // A value that no name takes.
        !toml_error(&format!("{head}{name} = 1979-05-27"))
            .contains(&format!("unknown field `{name}`"))
    };
    let heads = [
        (&schema, ""),
        (&schema["$defs"]["signer"], "version = 1\n[[signer]]\n"),
        (
            &schema["$defs"]["certificates"],
            "version = 1\n[[signer]]\nname = 'a'\n[signer.certificates]\n",
        ),
        (&schema["$defs"]["rule"], "version = 1\n[[rule]]\n"),
    ];
    for (table, head) in heads {
        for name in names(table) {
            assert!(known(head, &name), "{name}");
        }
        assert!(!known(head, "other"), "{head}");
        let listed = toml_error(&format!("{head}other = 1"));
        let listed = listed.split("expected").nth(1).unwrap_or_default();
        assert_eq!(
            listed.matches('`').count() / 2,
            names(table).len(),
            "{listed}"
        );
    }
}

fn toml_error(text: &str) -> String {
    let policy = Policy::parse(text.as_bytes(), b"/");
    policy.map_or_else(|error| error.to_string(), |_| String::new())
}

#[test]
fn a_text_is_no_policy_without_a_panic() {
    use proptest::prelude::*;
    let good = format!(
        "{}[[rule]]\npath = '/srv/**/a*.sif'\nsigners = ['alice', 'staff']\nat-least = 2\n",
        signers()
    );
    assert!(Policy::parse(good.as_bytes(), b"/").is_ok());
    proptest!(ProptestConfig::with_cases(500), |(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), length in 0usize..40, extra in "[\\PC\n\"'=\\[\\]{}*,]{0,8}")| {
        let _ = Policy::parse(&bytes, b"/");
        let starts: Vec<usize> = good.char_indices().map(|(at, _)| at).collect();
        let start = *at.get(&starts);
        let end = good[start..].char_indices().nth(length).map_or(good.len(), |(end, _)| start + end);
        let changed = format!("{}{extra}{}", &good[..start], &good[end..]);
        if let Ok(policy) = Policy::parse(changed.as_bytes(), b"/folder") {
            let _ = policy.rule(b"/srv/x/ab.sif");
        }
    });
    for deep in [
        "[".repeat(200_000),
        "{a=".repeat(100_000),
        "a.".repeat(100_000),
    ] {
        assert!(Policy::parse(format!("x = {deep}").as_bytes(), b"/").is_err());
    }
    assert!(Policy::parse(format!("{}x = 1", "a.".repeat(100_000)).as_bytes(), b"/").is_err());
}
