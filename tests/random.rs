//! Images made at random, and what the code of the originals says about them.
//!
//! `fixtures/random` holds images with the answers of sylabs/sif v2.24.1 as SingularityCE 4.5.1
//! calls it; `make/` there makes more. `SIGSIF_RANDOM` names a folder of them, to compare any
//! number. Where `SIGSIF_APPTAINER` or `SIGSIF_SINGULARITY` is set, or the program in `PATH`, it
//! is asked about the images of the fixture, too.
//!
//! Whoever answers yes where the others say no, or no where they say yes, needs a line in
//! [`LISTED`], and `docs/differences.md` tells the same.

mod support;

use flate2::read::GzDecoder;
use serde::Deserialize;
use sigsif::key::pem::PublicKey;
use sigsif::key::pgp::Keyring;
use sigsif::policy::Demands;
use sigsif::report::{Origin, Signer};
use sigsif::scope::{Legacy, Selection};
use sigsif::sif::Image;
use sigsif::verify::{KeyMaterial, Request, native};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{Home, parallel, peers, project, run, skip, tool};

/// When the answers were recorded, Unix seconds: keys expire.
const NOW: u64 = 1_795_650_000;

/// One line of `answers.jsonl`.
#[derive(Deserialize)]
struct Record {
    image: String,
    /// What is odd about the image, for people.
    odd: Option<Vec<String>>,
    question: Question,
    answer: Answer,
    #[serde(skip)]
    bytes: Vec<u8>,
}

/// The flags.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Question {
    /// `ring`, `empty`, or none.
    keyring: String,
    keys: Vec<String>,
    group: u32,
    group_set: bool,
    object: u32,
    object_set: bool,
    legacy: bool,
    all: bool,
}

/// Yes or no, why, and what was found out about each signature up to the first bad one.
#[derive(Clone, Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    signatures: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Found {
    object: u32,
    /// Fingerprint of the OpenPGP key, or SHA-256 of each public key.
    signers: Vec<String>,
    /// Ids of the objects that it vouches for.
    objects: Vec<u32>,
    fails: bool,
}

/// How the answers may differ.
struct Listed {
    /// What our reason has, empty for a yes.
    ours: &'static [&'static str],
    /// What theirs has, empty for a yes or whatever it is.
    theirs: &'static [&'static str],
    /// Whether the answers may be different, not only the words.
    answers: bool,
    why: &'static str,
}

const LISTED: &[Listed] = &[
    Listed {
        ours: &[
            "malformed image: ",
            "header field '",
            "reading descriptors: ",
        ],
        theirs: &[],
        answers: true,
        why: "a damaged image is refused before anything is judged",
    },
    Listed {
        ours: &[],
        theirs: &["no objects in image"],
        answers: true,
        why: "the count of free descriptors is not believed",
    },
    Listed {
        ours: &[
            "not valid: duplicate field",
            "not valid: member ",
            "not valid: missing field",
            "not valid: invalid type: null",
            "not valid: digest malformed",
            "not valid: unsupported metadata version",
            "not valid: invalid unicode code point",
            "not valid: lone leading surrogate",
            "not valid: unexpected end of hex escape",
            "not valid: recursion limit exceeded",
            "not valid: number out of range",
            "verify envelope failed: ",
            "signature format not recognized",
        ],
        theirs: &[],
        answers: true,
        why: "text whose members stand twice, in other letters, or not at all is refused",
    },
    Listed {
        ours: &["not valid: "],
        theirs: &[
            "not valid: json: ",
            "not valid: invalid character",
            "not valid: unexpected end of JSON input",
            "not valid: exceeded max depth",
            "not valid: hash algorithm unsupported",
            "not valid: digest malformed",
        ],
        answers: false,
        why: "words of another JSON parser",
    },
    Listed {
        ours: &["no objects in image", "group not found", "object not found"],
        theirs: &["not found"],
        answers: false,
        why: "another of two reasons first",
    },
    Listed {
        ours: &["invalid group ID"],
        theirs: &[],
        answers: false,
        why: "an object without a group, which nothing can have signed, is refused first",
    },
    Listed {
        ours: &["key material not provided"],
        theirs: &["verify envelope failed"],
        answers: false,
        why: "an envelope in other letters, with a clear-signed text behind it",
    },
    Listed {
        ours: &["unexpected EOF"],
        theirs: &["EOF", "panic: ", "format not recognized"],
        answers: false,
        why: "a signature behind the end of the file, or of impossible size",
    },
    Listed {
        ours: &["non signature packet found", "armor invalid"],
        theirs: &[
            "unexpected EOF",
            "illegal base64 data",
            "bad length",
            "armor invalid",
        ],
        answers: false,
        why: "packets are read to another place before the fault is met",
    },
    Listed {
        ours: &["armor invalid"],
        theirs: &[],
        answers: true,
        why: "a carriage return inside of a line of base64 is refused",
    },
];

fn fixture() -> PathBuf {
    project().join("fixtures/random")
}

/// The records of a folder with their images.
fn records(folder: &Path) -> Vec<Record> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut images = HashMap::new();
    let packed = read("images.tar.gz");
    let mut archive = tar::Archive::new(GzDecoder::new(packed.as_slice()));
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("an image");
        images.insert(name, bytes);
    }
    let text = String::from_utf8(read("answers.jsonl")).expect("text");
    let records = text.lines().map(|line| {
        let mut record: Record = serde_json::from_str(line).expect("a record");
        record.bytes = images.remove(&record.image).expect("an image");
        record
    });
    records.collect()
}

/// The keys that the images are signed with.
struct Keys {
    ring: Arc<Keyring>,
    pem: BTreeMap<&'static str, PublicKey>,
}

impl Keys {
    fn new() -> Self {
        let ring = fs::read(fixture().join("pgp-public")).expect("the keyring");
        let pem = ["p256", "p384", "p521", "ed25519", "rsa3072"].map(|name| {
            let pem = fs::read(peers(&format!("keys/{name}.pub.pem"))).expect("a key");
            (name, PublicKey::from_pem(&pem).expect("a public key"))
        });
        Self {
            ring: Arc::new(Keyring::parse(&ring).expect("a keyring")),
            pem: pem.into(),
        }
    }

    fn material(&self, question: &Question) -> KeyMaterial {
        let keyrings = match question.keyring.as_str() {
            "" => None,
            "empty" => Some(Vec::new()),
            _ => Some(vec![(Origin::Local, Arc::clone(&self.ring))]),
        };
        let keys = question.keys.iter();
        KeyMaterial {
            keyrings,
            keys: keys.map(|k| self.pem[k.as_str()].clone().into()).collect(),
        }
    }
}

/// Our answer to a question.
fn ours(keys: &Keys, record: &Record) -> Answer {
    let no = |reason: String| Answer {
        ok: false,
        reason,
        signatures: Vec::new(),
    };
    let question = &record.question;
    let chosen = |set, number| if set { vec![number] } else { Vec::new() };
    let selection = Selection {
        groups: chosen(question.group_set, question.group),
        objects: chosen(question.object_set, question.object),
        legacy: match (question.legacy, question.all) {
            (false, _) => Legacy::No,
            (true, false) => Legacy::Selected,
            (true, true) => Legacy::All,
        },
    };
    let request = Request {
        selection,
        demands: Demands::default(),
        examine_all: false,
        now: NOW,
        threads: 1,
    };
    let image = match Image::parse(&record.bytes) {
        Ok(image) => image,
        Err(error) => return no(error.to_string()),
    };
    let report = match native(&image, &keys.material(question), &request) {
        Ok(report) => report,
        Err(error) => return no(error.to_string()),
    };
    let signatures = report.signatures.iter().map(|signature| Found {
        object: signature.object,
        signers: match &signature.signer {
            None => Vec::new(),
            Some(Signer::Pgp(signer)) => vec![signer.fingerprint.to_lowercase()],
            Some(Signer::Keys(signers)) => signers.iter().map(|s| s.spki.clone()).collect(),
        },
        objects: signature.verified.iter().map(|o| o.id).collect(),
        fails: signature.failure.is_some(),
    });
    Answer {
        ok: report.failure().is_none(),
        reason: report
            .failure()
            .map(|failure| format!("integrity: {failure}"))
            .unwrap_or_default(),
        signatures: signatures.collect(),
    }
}

/// The line that allows two answers, if they differ.
fn compare(ours: &Answer, theirs: &Answer) -> Result<Option<usize>, String> {
    // What was looked at before a fault of no signature does not matter.
    let general = |reason: &str| {
        [
            "key material not provided",
            "format not recognized",
            "not associated with object group",
            "signature not found",
        ]
        .iter()
        .any(|part| reason.contains(part))
    };
    if (ours.ok, &ours.reason) == (theirs.ok, &theirs.reason) {
        let base64 = ours.reason.contains("unable to base64 decode");
        if ours.signatures == theirs.signatures || general(&ours.reason) || base64 {
            return Ok(None);
        }
    }
    let listed = LISTED.iter().position(|listed| {
        let fits = |parts: &[&str], reason: &str| {
            parts.is_empty() || parts.iter().any(|part| reason.contains(part))
        };
        fits(listed.ours, &ours.reason)
            && fits(listed.theirs, &theirs.reason)
            && (listed.answers || ours.ok == theirs.ok)
            // A yes where they say no is never allowed by what stands for any words.
            && !(ours.ok && listed.theirs.is_empty())
    });
    listed
        .map(Some)
        .ok_or_else(|| format!("ours   {ours:?}\n  theirs {theirs:?}"))
}

#[test]
fn answers_are_those_of_the_originals() {
    let campaign = std::env::var_os("SIGSIF_RANDOM").map(PathBuf::from);
    let records = records(campaign.as_deref().unwrap_or(&fixture()));
    let keys = Keys::new();
    let results = parallel(&records, |record| {
        let ours = ours(&keys, record);
        (compare(&ours, &record.answer), ours.ok)
    });
    let mut met = vec![0; LISTED.len()];
    let mut answers = vec![0; LISTED.len()];
    let mut counts = BTreeMap::<_, usize>::new();
    let mut faults = Vec::new();
    for (record, (result, yes)) in records.iter().zip(results) {
        *counts.entry((yes, record.answer.ok)).or_default() += 1;
        match result {
            Ok(None) => {}
            Ok(Some(listed)) => {
                met[listed] += 1;
                answers[listed] += usize::from(yes != record.answer.ok);
            }
            Err(fault) => faults.push(format!("{} {:?}\n  {fault}", record.image, record.odd)),
        }
    }
    println!("{} images; (our yes, their yes): {counts:?}", records.len());
    println!("differences, of them other answers, other words alone");
    for ((listed, count), answers) in LISTED.iter().zip(&met).zip(&answers) {
        let words = count - answers;
        println!(
            "{count:6} {answers:6} {words:6} {} ({:?})",
            listed.why, listed.theirs
        );
    }
    let limit = if campaign.is_some() { usize::MAX } else { 20 };
    let shown = faults
        .iter()
        .take(limit)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(faults.is_empty(), "{} images:\n{shown}", faults.len());
    if campaign.is_none() {
        let yes = records.iter().filter(|record| record.answer.ok).count();
        assert!(records.len() >= 100 && yes >= 50, "{} {yes}", records.len());
        let unmet = LISTED.iter().zip(&answers);
        let unmet: Vec<_> = unmet
            .filter(|(listed, count)| listed.answers && **count == 0)
            .map(|(listed, _)| listed.why)
            .collect();
        assert!(unmet.is_empty(), "met by no image: {unmet:?}");
    }
}

/// A program of the originals, and the variable that names its keyring folder.
fn originals() -> Vec<(&'static str, Vec<String>, &'static str)> {
    let programs = [
        ("SIGSIF_APPTAINER", "apptainer", "APPTAINER_KEYSDIR"),
        ("SIGSIF_SINGULARITY", "singularity", "SINGULARITY_SYPGPDIR"),
    ];
    let found = programs.map(|(variable, name, keys)| {
        let words: Vec<String> = match std::env::var(variable) {
            Ok(words) => words.split_whitespace().map(str::to_owned).collect(),
            Err(_) if tool(name).is_some() => vec![name.to_owned()],
            Err(_) => {
                skip(&format!("{name} is not installed and {variable} not set"));
                return None;
            }
        };
        Some((name, words, keys))
    });
    found.into_iter().flatten().collect()
}

#[test]
fn the_programs_of_the_originals_answer_as_recorded() {
    let originals = originals();
    if originals.is_empty() {
        return;
    }
    let records = records(&fixture());
    let home = Home::new();
    let ring = |name: &str, bytes: &[u8]| {
        let folder = home.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("chmod");
        let file = folder.join("pgp-public");
        fs::write(&file, bytes).expect("a keyring");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        folder
    };
    let full = fs::read(fixture().join("pgp-public")).expect("the keyring");
    let rings = [("ring", ring("ring", &full)), ("empty", ring("empty", &[]))];
    let mut asked = 0;
    let mut faults = Vec::new();
    for record in &records {
        let question = &record.question;
        // They know one key, and either a key or keyrings.
        if question.keys.len() + usize::from(!question.keyring.is_empty()) != 1 {
            continue;
        }
        let image = home.write("image.sif", &record.bytes);
        for (name, words, variable) in &originals {
            let mut command = home.clean(&words[0]);
            command.args(&words[1..]).arg("verify");
            for (_, folder) in rings.iter().filter(|(name, _)| *name == question.keyring) {
                command.arg("--local").env(variable, folder);
            }
            ask(&mut command, question);
            let answer = run(command.arg(&image));
            asked += 1;
            let yes = answer.code == Some(0);
            let reason = &record.answer.reason;
            // With a file in front of it where one was read.
            let reason = match reason.ends_with("negative offset") {
                true => "negative offset",
                false => reason,
            };
            let says = reason.starts_with("panic") || answer.stderr.contains(reason);
            if yes != record.answer.ok || !says {
                faults.push(format!("{name} {}: {answer}", record.image));
            }
        }
    }
    println!("{asked} answers as recorded");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(asked > 100, "{asked} questions asked");
}

/// The flags of a question, but for the keyring.
fn ask(command: &mut Command, question: &Question) {
    for key in &question.keys {
        command.arg("--key");
        command.arg(peers(&format!("keys/{key}.pub.pem")));
    }
    if question.group_set {
        command.args(["--group-id", &question.group.to_string()]);
    }
    if question.object_set {
        command.args(["--sif-id", &question.object.to_string()]);
    }
    if question.legacy {
        command.arg("--legacy-insecure");
    }
    if question.all {
        command.arg("--all");
    }
}
