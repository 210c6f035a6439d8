//! The execution control list: the answers of both originals, and the commands.

use crate::bench::{Bench, Seal};
use crate::subjects::corpus;
use crate::support::{Home, Outcome, parallel, peers, read_peers, run};
use serde_json::Value;
use sigsif::ecl::{self, Config, Means, Semantics};
use sigsif::key::pgp::{Keyring, entities_from_armored_or_binary};
use sigsif::report::Origin;
use sigsif::scope::Selection;
use sigsif::sif::Image;
use sigsif::verify::KeyMaterial;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const ONE: &str = "31359731D5C34C90C977AAF822CC73292934D01F";
const TWO: &str = "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109";
const UNKNOWN: &str = "7064B1D6EFF01B1262FED3F03581D99FE87EAFD1";
const CORPUS: &str = "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84";

/// Lists of fingerprints by the names that the records give them.
fn lists(a: &str, b: &str) -> [(&'static str, Vec<String>); 7] {
    let own = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    [
        ("", own(&[])),
        ("a", own(&[a])),
        ("b", own(&[b])),
        ("ab", own(&[a, b])),
        ("bc", own(&[b, UNKNOWN])),
        ("c", own(&[UNKNOWN])),
        ("lower", vec![a.to_lowercase()]),
    ]
}

fn keyring(name: &str) -> Option<Keyring> {
    let armored = |bytes: &[u8]| {
        Keyring::from_entities(entities_from_armored_or_binary(bytes).expect("a key"))
    };
    Some(match name {
        "both" => Keyring::parse(&read_peers("keys/keyring/pgp-public")).expect("a keyring"),
        "one" => armored(&read_peers("keys/pgp-one.pub.asc")),
        "none" => Keyring::default(),
        _ => armored(&fs::read(corpus()?.join("keys/private.asc")).expect("a key")),
    })
}

fn image(name: &str) -> Option<Vec<u8>> {
    Some(match name.strip_prefix("corpus-") {
        Some(name) => fs::read(corpus()?.join(format!("images/{name}.sif"))).expect("an image"),
        None if name == "pgp-one-and-two" => read_peers("ecl/pgp-one-and-two.sif"),
        None => read_peers(&format!("native/{name}.sif")),
    })
}

/// What the recorded program said, by mode and list.
fn recorded(record: &Value) -> BTreeMap<String, String> {
    let answers = record["answers"].as_object().expect("answers");
    let pairs = answers.iter().flat_map(|(answer, cases)| {
        let cases = cases.as_array().expect("cases");
        cases
            .iter()
            .map(|c| (c.as_str().expect("text").to_owned(), answer.clone()))
    });
    pairs.collect()
}

/// Mode x signers x unknown signatures x legacy, as the code of SingularityCE 4.5.1 and of
/// Apptainer 1.5 answered.
#[test]
fn every_recorded_answer_of_both_originals_is_given() {
    let records = String::from_utf8(read_peers("ecl/expected.jsonl")).expect("text");
    let records: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(records.len(), 204);
    let results = parallel(&records, |record| {
        let text = |name: &str| record[name].as_str().expect("text");
        let (Some(bytes), Some(ring)) = (image(text("image")), keyring(text("keyring"))) else {
            return (0, Vec::new());
        };
        let global = KeyMaterial::of_keyrings(vec![(Origin::Global, ring)]);
        let semantics = match text("peer") {
            "apptainer" => Semantics::Apptainer,
            _ => Semantics::Singularity,
        };
        let (a, b) = match text("keyring") {
            "corpus" => (CORPUS, UNKNOWN),
            _ => (ONE, TWO),
        };
        let expected = recorded(record);
        let mut faults = Vec::new();
        let mut compared = 0;
        for mode in ["whitelist", "whitestrict", "blacklist"] {
            for (name, list) in lists(a, b) {
                let case = format!("{mode}/{name}");
                let wanted = expected.get(&case).or_else(|| expected.get("*"));
                let wanted = wanted.expect("a recorded answer");
                let list = format!(
                    "activated = true\nlegacyinsecure = {}\n[[execgroup]]\nmode = '{mode}'\n\
                     keyfp = {list:?}",
                    record["legacy"]
                );
                let config = Config::parse(list.as_bytes()).expect("a list");
                let told = judged(&bytes, &global, &config, semantics);
                if told != *wanted {
                    faults.push(format!("{record}\n  {case}: {told}, not {wanted}"));
                }
                compared += 1;
            }
        }
        (compared, faults)
    });
    let compared: usize = results.iter().map(|(compared, _)| compared).sum();
    let faults: Vec<_> = results.into_iter().flat_map(|(_, faults)| faults).collect();
    assert!(faults.is_empty(), "{}\n{}", faults.len(), faults.join("\n"));
    let without_corpus = (204 - 24) * 21;
    assert!(
        compared == 204 * 21 || compared == without_corpus,
        "{compared}"
    );
}

fn judged(bytes: &Vec<u8>, global: &KeyMaterial, config: &Config, semantics: Semantics) -> String {
    let image = Image::parse(bytes).expect("an image");
    let means = Means {
        now: 1_800_000_000,
        threads: 1,
    };
    match ecl::check(&image, global, config, &config.groups[0], semantics, means) {
        Ok(answer) => answer.refusal.map(|r| r.to_string()).unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}

/// A home whose global keyring has two keys, and images signed by them.
struct Site {
    home: Home,
    both: String,
    alice: String,
    bob: String,
}

impl Site {
    fn new() -> Self {
        let bench = Bench::new();
        let home = Home::new();
        fs::create_dir(home.join("etc")).expect("a folder");
        fs::create_dir(home.join("images")).expect("a folder");
        for (name, seals) in [
            ("unsigned", &[][..]),
            ("one", &[Seal::Alice]),
            ("two", &[Seal::Alice, Seal::Bob]),
        ] {
            let bytes = bench.sealed(seals);
            fs::write(home.join(&format!("images/{name}.sif")), bytes).expect("an image");
        }
        let name = |seal| bench.required(seal).keys[0].to_string();
        let site = Self {
            both: String::new(),
            alice: name(Seal::Alice),
            bob: name(Seal::Bob),
            home,
        };
        let site = Self {
            both: format!("{}', '{}", site.alice, site.bob),
            ..site
        };
        site.know(&bench, &[0, 1]);
        site
    }

    fn know(&self, bench: &Bench, keys: &[usize]) {
        let keyring: Vec<u8> = keys
            .iter()
            .flat_map(|at| bench.public(*at))
            .copied()
            .collect();
        fs::write(self.home.join("etc/global-pgp-public"), keyring).expect("a keyring");
    }

    fn folder(&self) -> String {
        let folder = fs::canonicalize(self.home.join("images")).expect("a folder");
        folder.to_str().expect("UTF-8").to_owned()
    }

    fn group(&self, mode: &str, folder: &str, keys: &str) -> String {
        let keys = match keys {
            "" => String::new(),
            keys => format!("'{keys}'"),
        };
        format!(
            "[[execgroup]]\ntagname = 'g'\nmode = '{mode}'\ndirpath = '{folder}'\nkeyfp = [{keys}]\n"
        )
    }

    fn configure(&self, activated: bool, groups: &str) {
        let text = format!("activated = {activated}\n{groups}");
        fs::write(self.home.join("etc/ecl.toml"), text).expect("a list");
    }

    fn ecl(&self, args: &[&str]) -> Outcome {
        run(&mut self.home.sigsif([&["ecl"], args].concat()))
    }

    fn check(&self, args: &[&str], image: &str) -> Outcome {
        let image = self.home.join(&format!("images/{image}.sif"));
        let image = image.to_str().expect("UTF-8");
        self.ecl(&[&["check"], args, &[image]].concat())
    }
}

/// Source: spec/cli.md 12.4, e2e/ecl/ecl.go of SingularityCE.
#[test]
fn the_cases_of_the_originals_tests() {
    let site = Site::new();
    let d = site.folder();
    let required = "FATAL:   while checking container image with ECL: image not signed by required \
                    entities";
    let forbidden = "image signed by a forbidden entity";
    let unsigned = "image signature not valid: integrity: signature not found for object group 1";
    let list = |mode: &str, keys: &str| site.group(mode, &d, keys);
    for (groups, image, code, told) in [
        (
            String::new(),
            "two",
            255,
            "two.sif not part of any execgroup",
        ),
        (list("whitelist", &site.alice), "two", 0, ""),
        (list("whitelist", &site.bob), "two", 0, ""),
        (list("whitelist", &site.bob), "one", 255, required),
        (list("whitelist", &site.alice), "unsigned", 255, unsigned),
        (list("whitelist", ""), "unsigned", 255, unsigned),
        (list("whitelist", ""), "two", 255, required),
        (
            site.group("whitelist", "/", &site.both),
            "unsigned",
            255,
            "not part of any execgroup",
        ),
        (list("whitestrict", &site.both), "two", 0, ""),
        (list("whitestrict", &site.both), "one", 255, required),
        (list("whitestrict", &site.both), "unsigned", 255, unsigned),
        (list("whitestrict", ""), "one", 0, ""),
        (list("blacklist", &site.alice), "two", 255, forbidden),
        (list("blacklist", &site.bob), "one", 0, ""),
        (list("blacklist", ""), "unsigned", 255, unsigned),
    ] {
        site.configure(true, &groups);
        let outcome = site.check(&[], image).expect(code).says(told);
        let verdict = if code == 0 {
            "Verdict:    allowed\n"
        } else {
            "Verdict:    refused\n"
        };
        assert!(!outcome.stderr.contains("was verified"), "{outcome}");
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(
            text.ends_with(verdict) || told.contains("part of any"),
            "{groups}: {outcome}"
        );
    }
    site.configure(false, "");
    let allowed = site.check(&[], "unsigned").expect(0);
    assert_eq!(
        allowed.stdout,
        b"Verdict:    allowed, the list is not activated\n"
    );

    // The second key is in no keyring any more.
    let at = ["--semantics", "apptainer"];
    let bench = Bench::new();
    let site = Site::new();
    let known = fs::read(site.home.join("etc/global-pgp-public")).expect("a keyring");
    let entities = Keyring::parse(&known).expect("a keyring").into_entities();
    fs::write(
        site.home.join("etc/global-pgp-public"),
        entities[0].public_bytes(),
    )
    .expect("written");
    let d = site.folder();
    let unknown = "openpgp: signature made by unknown entity";
    for (mode, keys, ce, apptainer) in [
        ("whitelist", &site.bob, 255, 255),
        ("whitelist", &site.both, 255, 0),
        ("whitestrict", &site.both, 255, 255),
        ("whitestrict", &site.alice, 255, 0),
    ] {
        site.configure(true, &site.group(mode, &d, keys));
        site.check(&[], "two").expect(ce).says(unknown);
        let outcome = site.check(&at, "two").expect(apptainer);
        let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(
            told.contains("Signature object 5 of object group 1 ignored: openpgp"),
            "{told}"
        );
        assert!(
            apptainer == 0 || outcome.stderr.contains(required),
            "{outcome}"
        );
    }
    // And then the first: nobody's signature is verified.
    site.know(&bench, &[]);
    site.configure(true, &site.group("blacklist", &d, &site.both));
    site.check(&at, "two").expect(255).says(forbidden);
    site.configure(true, &site.group("blacklist", &d, UNKNOWN));
    site.check(&at, "two")
        .expect(0)
        .says("WARNING: Apptainer runs this image although no signature of it was verified");
    site.check(&[], "two").expect(255).says(unknown);
}

/// Source: sylabs/sif, `AllSignedBy` and `AnySignedBy`: white lists want who signed every object
/// group, black lists who signed any.
#[test]
fn who_signed_one_of_two_groups_did_not_sign_the_image() {
    let bench = Bench::new();
    let material = bench.material();
    let seal = |image: &[u8], seal: Seal, group: u32| {
        let selection = Selection {
            groups: vec![group],
            ..Selection::default()
        };
        bench.seal(image, seal, &selection)
    };
    let bare = read_peers("native/two-groups-unsigned.sif");
    let halves = seal(&seal(&bare, Seal::Alice, 1), Seal::Bob, 2);
    let whole = seal(&halves, Seal::Alice, 2);
    let name = |seal| bench.required(seal).keys[0].to_string();
    let (alice, bob) = (name(Seal::Alice), name(Seal::Bob));
    let required = "image not signed by required entities";
    let forbidden = "image signed by a forbidden entity";
    for (image, mode, keys, told) in [
        (&halves, "whitelist", vec![&alice], required),
        (&halves, "whitelist", vec![&bob], required),
        (&halves, "whitelist", vec![&alice, &bob], required),
        (&halves, "whitestrict", vec![&alice, &bob], required),
        (&halves, "blacklist", vec![&alice], forbidden),
        (&halves, "blacklist", vec![&bob], forbidden),
        (&whole, "whitelist", vec![&bob], required),
        (&whole, "whitestrict", vec![&alice, &bob], required),
        (&whole, "whitelist", vec![&alice], ""),
        (&whole, "whitelist", vec![&alice, &bob], ""),
        (&whole, "whitestrict", vec![&alice], ""),
        (&whole, "blacklist", vec![&bob], forbidden),
    ] {
        let list = format!("activated = true\n[[execgroup]]\nmode = '{mode}'\nkeyfp = {keys:?}");
        let config = Config::parse(list.as_bytes()).expect("a list");
        for semantics in [Semantics::Singularity, Semantics::Apptainer] {
            let found = judged(image, &material, &config, semantics);
            assert_eq!(found, told, "{mode} {keys:?} {semantics:?}");
        }
    }
}

#[test]
fn the_folder_is_that_of_the_file_behind_all_links() {
    let site = Site::new();
    let d = site.folder();
    site.configure(true, &site.group("whitelist", &d, &site.alice));
    site.check(&[], "one").expect(0);
    // A link elsewhere leads into the folder, one in the folder leads out.
    symlink(site.home.join("images/one.sif"), site.home.join("link.sif")).expect("a link");
    site.ecl(&["check", "link.sif"]).expect(0);
    site.ecl(&["check", "images/../link.sif"]).expect(0);
    fs::rename(site.home.join("images/two.sif"), site.home.join("two.sif")).expect("moved");
    symlink(site.home.join("two.sif"), site.home.join("images/two.sif")).expect("a link");
    site.check(&[], "two")
        .expect(255)
        .says("/two.sif not part of any execgroup");
    // Not below, not beside.
    fs::create_dir(site.home.join("images/sub")).expect("a folder");
    fs::copy(
        site.home.join("images/one.sif"),
        site.home.join("images/sub/one.sif"),
    )
    .expect("copied");
    site.check(&[], "sub/one")
        .expect(255)
        .says("not part of any execgroup");
    let any = site.group("blacklist", "", &site.alice);
    site.configure(true, &(site.group("whitelist", &d, &site.alice) + &any));
    site.check(&[], "sub/one")
        .expect(255)
        .says("forbidden entity");
    site.check(&[], "one").expect(0);
    site.check(&[], "gone")
        .expect(255)
        .says("no such file or directory");
    fs::write(site.home.join("images/text.sif"), "no image").expect("written");
    site.check(&[], "text")
        .expect(255)
        .says("while checking container image with ECL: ");
}

#[test]
fn the_file_is_trusted_as_the_originals_trust_it() {
    let site = Site::new();
    let d = site.folder();
    let file = site.home.join("etc/ecl.toml");
    let shown = file.display().to_string();
    let at = ["--semantics", "apptainer"];
    // A list that is missing or unreadable: one original refuses, the other runs anything.
    site.check(&[], "one")
        .expect(255)
        .says(&format!("FATAL:   open {shown}: no such file or directory"));
    site.check(&at, "one").expect(0).says("WARNING: open ");
    fs::write(&file, "activated = maybe").expect("written");
    site.check(&[], "one")
        .expect(255)
        .says("FATAL:   while loading ECL configuration: toml: line 1: ");
    site.check(&at, "one")
        .expect(0)
        .says("Apptainer checks nothing then");

    site.configure(true, &site.group("whitelist", &d, &site.alice));
    let strict = ["--strict-file"];
    let mode = |bits| fs::set_permissions(&file, Permissions::from_mode(bits)).expect("chmod");
    let root = rustix::process::geteuid().is_root();
    for (bits, told) in [
        (0o644, None),
        (0o664, Some("must not be writable by group or other")),
        (0o606, Some("must not be writable by group or other")),
    ] {
        mode(bits);
        site.check(&[], "one").expect(0);
        let outcome = site.check(&strict, "one");
        match (root, told) {
            (true, None) => drop(outcome.expect(0)),
            (true, Some(told)) => drop(outcome.expect(255).says(&format!("{shown} {told}"))),
            (false, _) => drop(outcome.expect(255).says("must be owned by uid 0")),
        }
    }
    mode(0o644);
    if root {
        std::os::unix::fs::chown(&file, Some(1), None).expect("chown");
        site.check(&strict, "one")
            .expect(255)
            .says(&format!("{shown} must be owned by uid 0"));
        let both = ["--strict-file", "--semantics", "apptainer"];
        site.check(&both, "one")
            .expect(255)
            .says(&format!("{shown} must be owned by root"));
        site.check(&[], "one").expect(0);
    }
    // A link as last element.
    let link = site.home.join("link.toml");
    symlink(&file, &link).expect("a link");
    let link = link.to_str().expect("UTF-8");
    site.check(&["--config", link], "one")
        .expect(255)
        .says("too many levels of symbolic links");
    site.check(&["--config", link, "--semantics", "apptainer"], "one")
        .expect(0);
    site.check(&["--config", "etc", "--strict-file"], "one")
        .expect(255);
    // Validation comes before everything else, also of a list that is switched off.
    site.configure(false, &site.group("greylist", "", ""));
    for args in [&[][..], &at] {
        site.check(args, "gone").expect(255).says(
            "FATAL:   while validating ECL configuration: the mode field can only be either: \
             whitelist, whitestrict, blacklist",
        );
    }
}

#[test]
fn lists_are_validated_and_shown() {
    let site = Site::new();
    let d = site.folder();
    let written = |text: &str| fs::write(site.home.join("new.toml"), text).expect("written");
    let validate = || site.ecl(&["validate", "new.toml"]);
    let wrong = |text: &str, told: &str| {
        written(text);
        let all = format!("FATAL:   while validating ECL configuration: {told}");
        drop(validate().expect(255).says(&all));
    };
    let group = |folder: &str, mode: &str, key: &str| site.group(mode, folder, key);
    written(&group(&d, "whitelist", &site.both));
    validate()
        .expect(0)
        .says("new.toml is valid: not activated, 1 execgroup");
    site.ecl(&["validate"]).expect(255).says("no such file");
    wrong(
        &(group(&d, "whitelist", "") + &group(&d, "blacklist", "")),
        &format!("a specific dirpath can only appear in one execgroup: {d}"),
    );
    let unclean = "all execgroup dirpath`s should be fully cleaned with symlinks resolved";
    symlink(&d, site.home.join("link")).expect("a link");
    let parent = Path::new(&d)
        .parent()
        .expect("a folder")
        .display()
        .to_string();
    for path in [
        format!("{d}/"),
        format!("{d}/../images"),
        format!("{parent}/link"),
        "images".to_owned(),
    ] {
        wrong(&group(&path, "whitelist", ""), unclean);
    }
    wrong(
        &group("/nowhere/at/all", "whitelist", ""),
        "lstat /nowhere: no such file or directory",
    );
    wrong(
        &group("", "whitelist", "F34371D0"),
        "expecting a 40 chars hex fingerprint string",
    );
    written("activated = true\nlegacyinsecure = true\nActivate = true\n");
    validate()
        .expect(0)
        .says("WARNING: new.toml: Activate is no name of an execution control list")
        .says("activated, 0 execgroups");

    let groups = group(&d, "whitestrict", &site.alice) + &group("", "blacklist", UNKNOWN);
    site.configure(true, &groups);
    let shown = site.ecl(&["show"]).expect(0);
    let shown = String::from_utf8(shown.stdout).expect("text");
    let expected = format!(
        "Activated:  yes\nLegacy:     no\n\nExecgroup:  g\nMode:       whitestrict\n\
         Directory:  {d}\nKey:        {}  Alice\n\nExecgroup:  g\nMode:       blacklist\n\
         Directory:  any that no other group has\nKey:        {UNKNOWN}  not in the global keyring\n",
        site.alice
    );
    assert!(shown.ends_with(&expected), "{shown}");
    site.ecl(&["check"])
        .expect(1)
        .says("accepts 1 arg(s), received 0");
    site.ecl(&["check", "--semantics", "docker", "x"])
        .expect(1)
        .says("must be singularity or apptainer");
    let keyring = peers("keys/keyring/pgp-public");
    let keyring = keyring.to_str().expect("UTF-8");
    site.ecl(&["show", "--keyring", keyring]).expect(0);
    site.check(&["--keyring", keyring], "one")
        .expect(255)
        .says("signature made by unknown entity");
    site.check(&["--keyring", "gone"], "one")
        .expect(255)
        .says("FATAL:   while obtaining keyring for ECL: open gone: no such file or directory");
}

#[test]
fn a_text_is_no_list_without_a_panic() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(400), |(bytes in any::<Vec<u8>>(), cut in 0usize..400, extra in ".{0,8}")| {
        let _ = Config::parse(&bytes);
        let mut text = "activated = true\n[[execgroup]]\nmode = 'whitelist'\nkeyfp = ['a']\n".repeat(5);
        let at = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(0);
        text.insert_str(at, &extra);
        if let Ok(config) = Config::parse(text.as_bytes()) {
            let _ = config.validate(|path| Ok(path.to_owned()));
            let _ = config.group(Path::new("/a/b"));
        }
    });
    let deep = format!("x = {}", "[".repeat(100_000));
    assert!(Config::parse(deep.as_bytes()).is_err());
    let dots = format!("{} = 1", vec!["a"; 100_000].join("."));
    let _ = Config::parse(dots.as_bytes());
}
