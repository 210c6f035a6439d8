//! What the page reads of a line of a report; `docs/verify-report.md` has the schema.

use serde::Deserialize;

/// One image of a report. Members that the page does not show are passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub schema: String,
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
}

/// A signature: of SIF objects, or, with a subject, of an OCI image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signature {
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
pub(super) enum Signer {
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
pub(super) struct Key {
    pub key_id: String,
    pub spki: String,
    pub algorithm: String,
    pub certificate: Option<Certificate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
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
pub(super) struct PathElement {
    pub subject: String,
    pub revocation: Option<Revocation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Revocation {
    pub source: String,
    pub this_update: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub id: u32,
    pub r#type: String,
    pub size: Option<i64>,
    pub intact: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub file: Option<String>,
    pub rule: Option<u64>,
    pub verdict: String,
    #[serde(default)]
    pub subjects: Vec<Subject>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subject {
    #[serde(default)]
    pub unmet: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Coverage {
    pub verdict: String,
    pub bytes: CoverageBytes,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct CoverageBytes {
    pub signed: u64,
    pub fixed: u64,
    pub free: u64,
    pub uncovered: u64,
}
