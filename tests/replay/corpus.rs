//! The images of sylabs/sif: every mode of verification on each, and the two
//! signed images made anew.
//!
//! They are under a licence of their own and stay outside this repository;
//! see [`fixtures::corpus`].

use super::common::fixtures;
use super::common::program::{Answer, Call, Input, Sandbox, run};
use sigsif::disk::sif_file::{SifFile, Wait};
use sigsif::key::pem::{PrivateKey, PublicKey};
use sigsif::key::pgp::{Keyring, SigningKey, entities_from_armored_or_binary};
use sigsif::policy::Demands;
use sigsif::report::{Origin, Report, Signer};
use sigsif::scope::{Legacy, Selection};
use sigsif::sif::Image;
use sigsif::sif::edit::Patch;
use sigsif::sign::{self, NativeSigner};
use sigsif::verify::{self, KeyMaterial, Request};
use std::fs;
use std::path::{Path, PathBuf};

/// Time of the OpenPGP signature in the images, Unix seconds.
const SIGNED_AT: i64 = 1_593_475_316;

/// A time behind all signatures of the corpus, Unix seconds.
const NOW: u64 = 1_800_000_000;

/// Folder of the corpus, or a line that says what is skipped.
pub fn corpus_or_skip(test: &str) -> Option<PathBuf> {
    let corpus = fixtures::corpus();
    if corpus.is_none() {
        println!("SKIPPED {test}: no sylabs/sif test images; SIGSIF_CORPUS names their folder");
    }
    corpus
}

#[test]
fn corpus_matrix_answers_as_the_manifest_says() {
    let Some(corpus) = corpus_or_skip("corpus_matrix") else {
        return;
    };
    let bench = Bench::new(corpus);
    let rows = matrix(&bench.corpus);
    assert_eq!(rows.len(), 10, "modes in the manifest");
    let mut faults = Vec::new();
    let mut cells = 0;
    for row in &rows {
        for (image, wanted) in IMAGES.iter().zip(&row.cells) {
            for key in image.keys {
                let found = match row.mode.as_str() {
                    "L library default" => bench.library_legacy(image.file, key),
                    mode => bench.verify(flags(mode), image.file, key),
                };
                let wanted = verdict(wanted);
                cells += 1;
                if found != wanted {
                    faults.push(format!(
                        "{} / {} / {key:?}: {found:?}, not {wanted:?}",
                        row.mode, image.file
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("corpus_matrix: {cells} verdicts as in the manifest");
}

#[test]
fn refuses_every_wrong_key_as_the_manifest_says() {
    let Some(corpus) = corpus_or_skip("negative keys") else {
        return;
    };
    let bench = Bench::new(corpus);
    let pgp = |id: u32| {
        format!("signature object {id} not valid: openpgp: signature made by unknown entity")
    };
    let dsse = "signature object 3 not valid: dsse: verify envelope failed: accepted signatures \
                do not match threshold, Found: 0, Expected 1";
    let (legacy, object_1, object_2) = ("--legacy-insecure", ["-i", "1"], ["-i", "2"]);
    let group_1 = ["-g", "1"];
    let all = [legacy, "--all"];
    let mut cases: Vec<(Vec<&str>, &str, Key, String)> = Vec::new();
    for key in [Key::OtherPgp, Key::EmptyPgp] {
        for mode in [&[][..], &group_1, &object_1, &object_2] {
            cases.push((mode.to_vec(), "one-group-signed-pgp", key, pgp(3)));
        }
        cases.push((vec![legacy], "one-group-signed-legacy", key, pgp(3)));
        cases.push((
            [&[legacy], &object_2[..]].concat(),
            "one-group-signed-legacy",
            key,
            pgp(3),
        ));
        cases.push((all.to_vec(), "one-group-signed-legacy-all", key, pgp(3)));
        cases.push((
            [&[legacy], &object_2[..]].concat(),
            "one-group-signed-legacy-all",
            key,
            pgp(4),
        ));
        cases.push((
            [&[legacy], &group_1[..]].concat(),
            "one-group-signed-legacy-group",
            key,
            pgp(3),
        ));
    }
    for mode in [&[][..], &group_1, &object_1, &object_2] {
        cases.push((
            mode.to_vec(),
            "one-group-signed-dsse",
            Key::Pem("ecdsa"),
            dsse.to_owned(),
        ));
        // The wrong kind of key.
        for (image, key, kind) in [
            (
                "one-group-signed-pgp",
                Key::Pem("ed25519"),
                "PGP clear-sign",
            ),
            ("one-group-signed-dsse", Key::Pgp, "DSSE envelope"),
        ] {
            let text = format!("key material not provided for {kind} signature");
            cases.push((mode.to_vec(), image, key, text));
        }
    }
    let mut faults = Vec::new();
    for (flags, image, key, wanted) in &cases {
        let found = bench.verify(flags, image, key);
        if found != Verdict::Refused(wanted.clone()) {
            faults.push(format!(
                "{flags:?} {image} {key:?}: {found:?}, not {wanted:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn refuses_the_other_images_as_the_manifest_says() {
    let Some(corpus) = corpus_or_skip("other images") else {
        return;
    };
    let bench = Bench::new(corpus);
    let (no_groups, no_objects) = ("no groups found", "no objects in image");
    let not_found = "signature not found for object group 1";
    let mut cases = vec![
        (vec![], "two-groups".to_owned(), not_found),
        (vec!["-g", "2"], "one-group".to_owned(), "group not found"),
        (vec!["-i", "3"], "one-group".to_owned(), "object not found"),
    ];
    let mut images: Vec<_> = fs::read_dir(bench.corpus.join("images"))
        .expect("images")
        .map(|entry| entry.expect("image").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    images.sort();
    for image in &images {
        if image.starts_with("empty") {
            cases.push((vec![], image.clone(), no_groups));
            cases.push((vec!["-g", "1"], image.clone(), no_objects));
            cases.push((vec!["-i", "1"], image.clone(), no_objects));
        } else if image.starts_with("one-object-") {
            cases.push((vec![], image.clone(), not_found));
        }
    }
    assert_eq!(cases.len(), 3 + 3 * 3 + 6, "images of the manifest");
    let mut faults = Vec::new();
    for (flags, image, wanted) in cases {
        for key in [Key::Pgp, Key::Pem("ed25519")] {
            let found = bench.verify(&flags, &image, &key);
            if found != Verdict::Refused(wanted.to_owned()) {
                faults.push(format!(
                    "{flags:?} {image} {key:?}: {found:?}, not {wanted:?}"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_both_signers_of_an_envelope_in_its_order() {
    let Some(corpus) = corpus_or_skip("both signers") else {
        return;
    };
    let bench = Bench::new(corpus);
    let bytes = bench.image("one-group-signed-dsse");
    let image = Image::parse(&bytes).expect("image");
    // Given the other way round: the envelope's order counts.
    let keys = ["rsa", "ed25519"].map(|name| bench.public(name));
    let expected = ["ed25519", "rsa"].map(|name| bench.public(name).ssh_fingerprint());
    let report = verify::native(
        &image,
        &KeyMaterial::of_keys(keys.map(Into::into).into()),
        &request(Legacy::No),
    )
    .expect("report");
    assert!(report.is_verified());
    let Some(Signer::Keys(signers)) = &report.signatures[0].signer else {
        panic!("no keys: {report:?}");
    };
    let found: Vec<_> = signers
        .iter()
        .map(|signer| signer.key_id.as_str())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn makes_the_signed_images_again_byte_for_byte() {
    let Some(corpus) = corpus_or_skip("reproduction") else {
        return;
    };
    let bench = Bench::new(corpus);
    let key = bench.signing_key();
    let pgp = NativeSigner::Pgp {
        key: &key,
        salt: false,
    };
    let (ed25519, rsa) = (bench.private("ed25519"), bench.private("rsa"));
    let pems = [&ed25519, &rsa];
    let dsse = NativeSigner::Dsse(&pems);
    for (signer, wanted) in [
        (pgp, "one-group-signed-pgp"),
        (dsse, "one-group-signed-dsse"),
    ] {
        let wanted = bench.image(wanted);
        let unsigned = bench.image("one-group");
        let patch = plan(&unsigned, &signer);
        assert!(patch.applied(&unsigned) == wanted, "patched bytes differ");
        let copy = bench.sandbox.work().join("copy.sif");
        fixtures::copy(&bench.corpus.join("images/one-group.sif"), &copy);
        let file = SifFile::lock(&copy, Wait::Silently).expect("copy");
        file.apply(&patch, &mut |_| ()).expect("apply");
        assert!(
            fs::read(&copy).expect("copy") == wanted,
            "written file differs"
        );
    }
}

fn plan(unsigned: &Vec<u8>, signer: &NativeSigner<'_>) -> Patch {
    let image = Image::parse(unsigned).expect("image");
    sign::native(&image, signer, &Selection::default(), SIGNED_AT, 1).expect("patch")
}

/// One column of the matrix.
struct Column {
    file: &'static str,
    keys: &'static [Key],
}

/// Columns in the manifest's order; unsigned images with both kinds of key.
const IMAGES: &[Column] = &[
    Column {
        file: "one-group-signed-pgp",
        keys: &[Key::Pgp],
    },
    Column {
        file: "one-group-signed-dsse",
        keys: &[Key::Pem("ed25519"), Key::Pem("rsa")],
    },
    Column {
        file: "one-group-signed-legacy",
        keys: &[Key::Pgp],
    },
    Column {
        file: "one-group-signed-legacy-all",
        keys: &[Key::Pgp],
    },
    Column {
        file: "one-group-signed-legacy-group",
        keys: &[Key::Pgp],
    },
    Column {
        file: "one-group",
        keys: &[Key::Pgp, Key::Pem("rsa")],
    },
];

/// Key material of a call.
#[derive(Clone, Copy, Debug)]
enum Key {
    /// The signer's keyring.
    Pgp,
    /// A keyring with other keys.
    OtherPgp,
    /// A keyring without keys.
    EmptyPgp,
    /// The public PEM key of that name.
    Pem(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Ids of the objects, one list per signature.
    Verified(Vec<Vec<u32>>),
    /// The sentence without `integrity: `.
    Refused(String),
}

struct Row {
    mode: String,
    cells: Vec<String>,
}

/// The table of the manifest, so that nothing of it is repeated here.
fn matrix(corpus: &Path) -> Vec<Row> {
    let text = fs::read_to_string(corpus.join("MANIFEST.md")).expect("manifest");
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with("| mode |"));
    table
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned());
            let row = Row {
                mode: cells.next().unwrap_or_default(),
                cells: cells.collect(),
            };
            assert_eq!(row.cells.len(), IMAGES.len(), "cells of {line}");
            row
        })
        .collect()
}

/// `OK {1,2} {3}`, or `not found for X n`, short for a sentence.
fn verdict(cell: &str) -> Verdict {
    match cell.strip_prefix("OK ") {
        Some(sets) => Verdict::Verified(
            sets.split_whitespace()
                .map(|set| {
                    let ids = set.trim_matches(['{', '}']).split(',');
                    ids.map(|id| id.parse().expect("id")).collect()
                })
                .collect(),
        ),
        None => Verdict::Refused(format!("signature {cell}")),
    }
}

fn flags(mode: &str) -> &'static [&'static str] {
    match mode {
        "default" => &[],
        "group 1" => &["--group-id", "1"],
        "object 1" => &["--sif-id", "1"],
        "object 2" => &["--sif-id", "2"],
        "L CLI default (object 2)" => &["--legacy-insecure"],
        "L group 1" => &["--legacy-insecure", "--group-id", "1"],
        "L object 1" => &["--legacy-insecure", "--sif-id", "1"],
        "L object 2" => &["--legacy-insecure", "--sif-id", "2"],
        "L all" => &["--legacy-insecure", "--all"],
        other => panic!("unknown mode {other:?}"),
    }
}

fn request(legacy: Legacy) -> Request {
    // "L library default" is one legacy task per group: the only group, named.
    let groups = match legacy {
        Legacy::No => Vec::new(),
        _ => vec![1],
    };
    Request {
        selection: Selection {
            groups,
            objects: Vec::new(),
            legacy,
        },
        demands: Demands::default(),
        examine_all: false,
        now: NOW,
        threads: 1,
    }
}

/// The corpus and keyrings for it.
struct Bench {
    corpus: PathBuf,
    sandbox: Sandbox,
}

impl Bench {
    /// Imports the corpus's key with the program.
    fn new(corpus: PathBuf) -> Self {
        let this = Self {
            corpus,
            sandbox: Sandbox::new(),
        };
        let key = this.corpus.join("keys/private.asc");
        let args = ["key", "import", key.to_str().expect("UTF-8 path")].map(str::to_owned);
        let answer = this.run(&args, &Key::Pgp);
        assert_eq!(answer.exit, 0, "import: {}", answer.stderr);
        fixtures::keyring(&this.sandbox.work().join("other"), &["pgp-public"]);
        this
    }

    fn run(&self, args: &[String], key: &Key) -> Answer {
        let mut env = self.sandbox.env();
        let folder = match key {
            Key::OtherPgp => "other",
            Key::EmptyPgp => "empty",
            _ => "keys",
        };
        let folder = self.sandbox.work().join(folder);
        env.retain(|(name, _)| name != "SIGSIF_KEYSDIR");
        env.push((
            "SIGSIF_KEYSDIR".to_owned(),
            folder.to_str().expect("UTF-8 path").to_owned(),
        ));
        run(&Call {
            args,
            folder: &self.corpus.join("images"),
            env: &env,
            input: Input::Empty,
        })
    }

    fn verify(&self, flags: &[&str], image: &str, key: &Key) -> Verdict {
        let mut args: Vec<String> = ["verify".to_owned()].into();
        args.push(match key {
            Key::Pem(name) => {
                let file = self.corpus.join(format!("keys/{name}-public.pem"));
                format!("--key={}", file.display())
            }
            _ => "--local".to_owned(),
        });
        args.extend(flags.iter().map(ToString::to_string));
        args.push(format!("{image}.sif"));
        told(&self.run(&args, key))
    }

    fn library_legacy(&self, image: &str, key: &Key) -> Verdict {
        let bytes = self.image(image);
        let image = Image::parse(&bytes).expect("image");
        let material = match key {
            Key::Pem(name) => KeyMaterial::of_keys(vec![self.public(name).into()]),
            _ => {
                let asc = fs::read(self.corpus.join("keys/private.asc")).expect("key");
                let entities = entities_from_armored_or_binary(&asc).expect("key");
                KeyMaterial::of_keyrings(vec![(Origin::Local, Keyring::from_entities(entities))])
            }
        };
        let report = verify::native(&image, &material, &request(Legacy::Selected));
        judged(&report.expect("report"))
    }

    fn image(&self, name: &str) -> Vec<u8> {
        fs::read(self.corpus.join(format!("images/{name}.sif"))).expect(name)
    }

    fn public(&self, name: &str) -> PublicKey {
        let pem = fs::read(self.corpus.join(format!("keys/{name}-public.pem"))).expect(name);
        PublicKey::from_pem(&pem).expect(name)
    }

    fn private(&self, name: &str) -> PrivateKey {
        let pem = fs::read(self.corpus.join(format!("keys/{name}-private.pem"))).expect(name);
        PrivateKey::from_pem(&pem, None).expect(name)
    }

    fn signing_key(&self) -> SigningKey {
        let asc = fs::read(self.corpus.join("keys/private.asc")).expect("key");
        let entities = entities_from_armored_or_binary(&asc).expect("key");
        entities[0].unlock(None).expect("clear key")
    }
}

/// The verdict that an answer of the program tells.
fn told(answer: &Answer) -> Verdict {
    let stdout = String::from_utf8_lossy(&answer.stdout);
    if answer.exit == 0 {
        assert!(
            answer.stderr.contains("Verified signature(s)"),
            "{answer:?}"
        );
        let blocks = stdout.split("Objects verified:\n").skip(1);
        return Verdict::Verified(
            blocks
                .map(|block| {
                    block
                        .lines()
                        .filter_map(|line| line.split('|').next()?.trim().parse().ok())
                        .collect()
                })
                .collect(),
        );
    }
    let fatal = answer.stderr.lines().last().unwrap_or_default();
    let sentence = fatal.strip_prefix("FATAL:   failed to verify container: ");
    let sentence = sentence.unwrap_or_else(|| panic!("no FATAL line: {answer:?}"));
    assert_eq!(answer.exit, 255, "{answer:?}");
    Verdict::Refused(
        sentence
            .strip_prefix("integrity: ")
            .unwrap_or(sentence)
            .to_owned(),
    )
}

/// The verdict of a report.
fn judged(report: &Report) -> Verdict {
    match report.failure() {
        Some(failure) => Verdict::Refused(failure.to_string()),
        None => Verdict::Verified(
            report
                .signatures
                .iter()
                .map(|s| s.verified.iter().map(|object| object.id).collect())
                .collect(),
        ),
    }
}
