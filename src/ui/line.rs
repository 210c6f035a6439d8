//! Lines of a report on many images, as they are read; `docs/verify-report.md` has the schema.
//!
//! A line is the JSON of one image. The last line of a run tells that it came to its end.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// One image of a report. Other members are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub image: String,
    /// Where the file lies, if the report tells it apart from the name that was given.
    pub path: Option<String>,
    /// Size of the file in bytes.
    pub size: Option<u64>,
    pub verdict: String,
    pub reason: Option<String>,
    #[serde(default)]
    pub problems: Vec<String>,
    #[serde(default)]
    pub missing_keys: Vec<String>,
    #[serde(default)]
    pub signatures: Vec<Signature>,
    pub policy: Option<Policy>,
    pub coverage: Option<Coverage>,
    /// Of an OCI image only.
    pub digest: Option<String>,
    /// The name that was given, in hexadecimal, if it is no UTF-8.
    pub image_bytes: Option<String>,
    /// When the file was changed last: seconds since 1970, with nine digits after the point.
    pub changed: Option<String>,
    /// What the image was judged by.
    pub run: Option<String>,
}

impl Line {
    /// Reads what this program has just written; what cannot be read is no yes.
    pub fn own(json: &str) -> Self {
        match Entry::parse(json) {
            Ok(Entry::Image(line)) => *line,
            _ => Self {
                reason: Some("internal error: the answer cannot be read".to_owned()),
                ..Self::default()
            },
        }
    }

    /// The name of the image, byte for byte.
    pub fn name(&self) -> Vec<u8> {
        let bytes = self.image_bytes.as_ref();
        let bytes = bytes.and_then(|bytes| hex::decode(bytes).ok());
        bytes.unwrap_or_else(|| self.image.clone().into_bytes())
    }

    /// Whether it could not be judged.
    pub fn is_error(&self) -> bool {
        self.verdict() == Verdict::Error
    }

    /// What is to be told of it. Only the one word is a yes.
    pub fn verdict(&self) -> Verdict {
        match self.verdict.as_str() {
            "verified" => return Verdict::Verified,
            "refused" => {}
            _ => return Verdict::Error,
        }
        let failed: Vec<_> = self
            .signatures
            .iter()
            .filter(|s| !s.is_accepted() && s.verdict != "ignored")
            .collect();
        let missing = |text: &String| {
            text.starts_with("signature not found") || text == "no valid signatures found"
        };
        let is_incomplete = self
            .coverage
            .as_ref()
            .is_some_and(|c| c.verdict != "complete");
        let of_policy = |text: &String| text.starts_with("policy: ");
        let others = self.problems.iter().chain(&self.reason);
        let others: Vec<_> = others.filter(|text| !of_policy(text)).collect();
        if !failed.is_empty() {
            // Something else may be wrong besides, whoever signed.
            let mut problems = self.problems.iter();
            let no_other = problems.all(|text| of_policy(text) || missing(text));
            return match no_other && failed.iter().all(|s| s.is_by_unknown()) {
                true => Verdict::Unknown,
                false => Verdict::Refused,
            };
        }
        let demands = self.policy.as_ref().is_some_and(|p| p.verdict != "met");
        match others.is_empty() {
            false if others.into_iter().all(missing) => Verdict::Unsigned,
            true if demands && !is_incomplete => Verdict::Demands,
            _ => Verdict::Refused,
        }
    }
}

/// A signature: of SIF objects, or, with a subject, of an OCI image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signature {
    pub object: Option<u32>,
    pub group: Option<u32>,
    pub only_object: Option<u32>,
    pub format: Option<String>,
    #[serde(default)]
    pub legacy: bool,
    pub verdict: String,
    pub reason: Option<String>,
    #[serde(default)]
    pub unknown_signer: bool,
    pub signer: Option<Signer>,
    #[serde(default)]
    pub objects: Vec<Object>,
    pub subject: Option<String>,
    pub scheme: Option<String>,
    #[serde(default)]
    pub oddities: Vec<String>,
}

impl Signature {
    /// Whether it counts.
    pub fn is_accepted(&self) -> bool {
        self.verdict == "valid"
    }

    /// Whether no key at hand can judge it.
    pub fn is_by_unknown(&self) -> bool {
        self.unknown_signer || self.verdict == "notJudged"
    }
}

/// Any of the three forms of a signer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Signer {
    #[serde(rename_all = "camelCase")]
    Pgp {
        fingerprint: String,
        user_id: Option<String>,
        origin: String,
        signed_at: i64,
    },
    Keys {
        keys: Vec<Key>,
    },
    Key(Key),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    pub key_id: String,
    pub spki: String,
    pub algorithm: String,
    pub certificate: Option<Certificate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub fingerprint: String,
    pub not_before: u64,
    pub not_after: u64,
    #[serde(default)]
    pub path: Vec<PathElement>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PathElement {
    pub subject: String,
    pub revocation: Option<Revocation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revocation {
    pub source: String,
    pub this_update: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Object {
    pub id: u32,
    pub r#type: String,
    pub size: Option<i64>,
    pub intact: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Policy {
    pub file: Option<String>,
    pub rule: Option<u64>,
    pub verdict: String,
    #[serde(default)]
    pub subjects: Vec<Subject>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subject {
    #[serde(default)]
    pub unmet: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Coverage {
    pub verdict: String,
    pub bytes: CoverageBytes,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct CoverageBytes {
    pub signed: u64,
    pub fixed: u64,
    pub free: u64,
    pub uncovered: u64,
}

/// What is to be told of an image at first sight, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Judged, and a signature or the data is wrong.
    Refused,
    /// Could not be judged.
    Error,
    /// Signed by nobody whose key is at hand.
    Unknown,
    /// Not signed, or only in part.
    Unsigned,
    /// The signatures hold, and they are not those that were demanded.
    Demands,
    /// In order.
    Verified,
}

impl Verdict {
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Error,
        Self::Unknown,
        Self::Unsigned,
        Self::Demands,
        Self::Verified,
    ];

    /// The word of a list.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::Unsigned => "unsigned",
            Self::Demands => "demands",
            Self::Verified => "verified",
        }
    }

    /// What is said of so many images.
    pub fn told(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Error => "not judged",
            Self::Unknown => "by unknown signers",
            Self::Unsigned => "not signed",
            Self::Demands => "without the signers that are demanded",
            Self::Verified => "verified",
        }
    }
}

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a member is missing or of another type.
    #[error("not a line of a report: {0}")]
    NotAReport(#[from] serde_json::Error),
    /// Made by a version that means something else by it.
    #[error("schema {0:?} is not known")]
    UnknownSchema(String),
}

/// What the schemas of images are called that are understood.
const SCHEMAS: [&str; 2] = ["sigsif-verify-1", "sigsif-verify-cosign-1"];
/// What the schema of the last line is called.
const END: &str = "sigsif-verify-run-1";

/// The last line of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct End {
    pub schema: String,
    /// What the images were judged by.
    pub run: String,
    /// Which part of a list this was, if it was not all: `2/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// How many images there are.
    pub images: usize,
    /// How many of each verdict.
    pub verdicts: BTreeMap<String, usize>,
}

/// A line of a report.
#[derive(Debug)]
pub(crate) enum Entry {
    Image(Box<Line>),
    End(End),
}

impl Entry {
    /// Reads a line.
    pub fn parse(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let head: Head = serde_json::from_str(text)?;
        match head.schema.as_str() {
            END => Ok(Self::End(serde_json::from_str(text)?)),
            schema if SCHEMAS.contains(&schema) => Ok(Self::Image(serde_json::from_str(text)?)),
            _ => Err(Error::UnknownSchema(head.schema)),
        }
    }
}

/// How many images there are of each verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: BTreeMap<Verdict, usize>,
}

impl Tally {
    /// Counts an image.
    pub fn add(&mut self, verdict: Verdict) {
        let count = self.counts.entry(verdict).or_default();
        *count = count.saturating_add(1);
    }

    /// How many images there are.
    pub fn images(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many of them are in order.
    pub fn verified(&self) -> usize {
        self.counts
            .get(&Verdict::Verified)
            .copied()
            .unwrap_or_default()
    }

    /// One line: the good ones first, then the worst.
    pub fn told(&self) -> String {
        let images = self.images();
        let plural = if images == 1 { "" } else { "s" };
        let mut text = format!("{images} image{plural}: {} verified", self.verified());
        for (verdict, count) in &self.counts {
            if *verdict != Verdict::Verified {
                text.push_str(&format!(", {count} {}", verdict.told()));
            }
        }
        text
    }

    /// The last line of a run.
    pub fn end(&self, run: &str, shard: Option<String>) -> End {
        let count = |verdict: Verdict| {
            let count = self.counts.get(&verdict).copied().unwrap_or_default();
            (verdict.word().to_owned(), count)
        };
        End {
            schema: END.to_owned(),
            run: run.to_owned(),
            shard,
            images: self.images(),
            verdicts: Verdict::ALL.into_iter().map(count).collect(),
        }
    }
}

impl Line {
    /// Who has signed, as far as it counts; each once.
    pub fn signers(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        let accepted = self.signatures.iter().filter(|s| s.is_accepted());
        for signer in accepted.filter_map(|signature| signature.signer.as_ref()) {
            let names = match signer {
                Signer::Pgp {
                    fingerprint,
                    user_id,
                    ..
                } => vec![match user_id {
                    Some(name) => format!("{name} {fingerprint}"),
                    None => fingerprint.clone(),
                }],
                Signer::Keys { keys } => keys.iter().map(Key::told).collect(),
                Signer::Key(key) => vec![key.told()],
            };
            for name in names {
                if seen.insert(name.clone()) {
                    all.push(name);
                }
            }
        }
        all
    }
}

impl Key {
    fn told(&self) -> String {
        match (&self.certificate, self.key_id.is_empty()) {
            (Some(certificate), _) => certificate.subject.clone(),
            (None, true) => format!("{} {}", self.algorithm, self.spki),
            (None, false) => format!("{} {}", self.algorithm, self.key_id),
        }
    }
}
