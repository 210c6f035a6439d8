//! In-toto statements: what an attestation says about an image.
//!
//! Source: in-toto attestation framework, Statement v0.1 and v1; sigstore/cosign
//! `pkg/cosign/attestation`, `cmd/cosign/cli/options/predicate.go`.

use crate::digest::{Digest, HashAlgorithm};
use crate::gojson::Object;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// DSSE payload type of a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What cosign writes; readers take both.
const WRITTEN_TYPE: &str = "https://in-toto.io/Statement/v0.1";
const NEWER_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Short names of predicate types.
const NAMES: [(&str, &str); 10] = [
    ("custom", CUSTOM),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", SPDX),
    ("spdxjson", SPDX),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", LINK),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
];
const CUSTOM: &str = "https://cosign.sigstore.dev/attestation/v1";
const SPDX: &str = "https://spdx.dev/Document";
const LINK: &str = "https://in-toto.io/Link/v1";

/// Why a statement cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a short name nor a URI.
    #[error("invalid predicate type: {0}")]
    Type(String),
    /// A predicate of a type that is text is none.
    #[error("the predicate is not UTF-8 text")]
    NotText,
    /// A predicate of a type that is an object is none.
    #[error("invalid JSON payload for predicate type {kind}: {source}")]
    Predicate {
        /// The type as it was asked for.
        kind: String,
        /// The fault.
        source: serde_json::Error,
    },
    /// A link without the member that says so.
    #[error("link statement: required field _type missing")]
    LinkType,
    /// The payload is no statement.
    #[error("malformed in-toto statement: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A statement of another generation.
    #[error("unsupported in-toto statement type {0:?}")]
    StatementType(String),
}

/// A kind of predicate: a short name of cosign, or a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PredicateType {
    name: String,
    uri: String,
}

impl PredicateType {
    /// Resolves a short name; takes a URI as it is.
    ///
    /// # Errors
    /// [`Error::Type`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        let uri = match known {
            Some((_, uri)) => *uri,
            None if is_uri(text) => text,
            None => return Err(Error::Type(text.to_owned())),
        };
        Ok(Self {
            name: text.to_owned(),
            uri: uri.to_owned(),
        })
    }

    /// As it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of `predicateType`.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

/// A scheme, then something without blanks; or an absolute path, as in Go.
fn is_uri(text: &str) -> bool {
    let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    let scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let absolute = match text.split_once(':') {
        Some((head, rest)) => scheme(head) && !rest.is_empty(),
        None => false,
    };
    plain && (absolute || text.starts_with('/'))
}

/// Makes a statement about one image.
///
/// `predicate` is the content of a file: text for `custom` and `spdx`, else a
/// JSON object, which goes in byte for byte. `now` in Unix seconds stands in a
/// `custom` predicate.
///
/// # Errors
/// As [`Error`] says.
pub fn build(
    kind: &PredicateType,
    name: &str,
    image: &Digest,
    predicate: &[u8],
    now: i64,
) -> Result<Vec<u8>, Error> {
    let text = || std::str::from_utf8(predicate).map_err(|_| Error::NotText);
    let predicate: Box<RawValue> = match kind.name.as_str() {
        "custom" => serde_json::value::to_raw_value(&Custom {
            data: text()?,
            timestamp: jiff::Timestamp::from_second(now)
                .map(|time| time.to_string())
                .unwrap_or_default(),
        })?,
        "spdx" => serde_json::value::to_raw_value(text()?)?,
        _ => object(kind, predicate)?,
    };
    Ok(serde_json::to_vec(&Written {
        kind: WRITTEN_TYPE,
        subject: [WrittenSubject {
            name,
            digest: BTreeMap::from([(image.algorithm().name(), hex::encode(image.bytes()))]),
        }],
        predicate_type: &kind.uri,
        predicate,
    })?)
}

fn object(kind: &PredicateType, json: &[u8]) -> Result<Box<RawValue>, Error> {
    let fault = |source| Error::Predicate {
        kind: kind.name.clone(),
        source,
    };
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).map_err(fault)?;
    if kind.uri == LINK && !members.contains_key("_type") {
        return Err(Error::LinkType);
    }
    serde_json::from_slice(json).map_err(fault)
}

/// Predicate type of a statement that is nothing but a signature of its subject.
///
/// Source: sigstore/cosign `pkg/types`, `CosignSignPredicateType`.
pub const SIGN_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A statement that was signed.
#[derive(Debug)]
pub struct Statement {
    predicate_type: String,
    /// SHA-256 in hexadecimal, and annotations.
    subjects: Vec<(String, BTreeMap<String, Value>)>,
}

impl Statement {
    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// [`Error::Malformed`], also for a member that occurs twice;
    /// [`Error::StatementType`].
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let Object(read): Object<Read> = serde_json::from_slice(payload)?;
        if ![WRITTEN_TYPE, NEWER_TYPE].contains(&read.kind.as_str()) {
            return Err(Error::StatementType(read.kind));
        }
        let digest = |Object(subject): Object<ReadSubject>| {
            let annotations = subject.annotations.unwrap_or_default();
            Some((subject.digest.0.sha256?, annotations))
        };
        Ok(Self {
            predicate_type: read.predicate_type,
            subjects: read.subject.into_iter().filter_map(digest).collect(),
        })
    }

    /// As [`Statement::parse`], but members that no version of the format has
    /// are refused, as in bundles.
    ///
    /// # Errors
    /// As [`Statement::parse`].
    pub fn parse_strictly(payload: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice::<Object<Known>>(payload)?;
        Self::parse(payload)
    }

    /// URI of what the statement says.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The digests of its subjects, `sha256:` in front.
    pub fn about(&self) -> BTreeSet<String> {
        let subjects = self.subjects.iter();
        subjects.map(|(hex, _)| format!("sha256:{hex}")).collect()
    }

    /// Whether one of the subjects is the image of this SHA-256.
    pub fn is_about(&self, image: &Digest) -> bool {
        self.annotations(image).is_some()
    }

    /// What the statement adds to the image of this SHA-256, if it is about it.
    pub fn annotations(&self, image: &Digest) -> Option<&BTreeMap<String, Value>> {
        let wanted = hex::encode(image.bytes());
        let mut subjects = self.subjects.iter();
        let (_, annotations) = subjects.find(|(hex, _)| *hex == wanted)?;
        (image.algorithm() == HashAlgorithm::Sha256).then_some(annotations)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: [WrittenSubject<'a>; 1],
    predicate_type: &'a str,
    predicate: Box<RawValue>,
}

#[derive(Serialize)]
struct WrittenSubject<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Custom<'a> {
    data: &'a str,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    #[serde(rename = "_type", default)]
    kind: String,
    #[serde(default)]
    subject: Vec<Object<ReadSubject>>,
    #[serde(default)]
    predicate_type: String,
}

#[derive(Deserialize)]
struct ReadSubject {
    #[serde(default)]
    digest: Object<ReadDigest>,
    annotations: Option<BTreeMap<String, Value>>,
}

/// Every member of a statement. Source: in-toto attestation `statement.proto`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Known {
    #[serde(rename = "_type")]
    _kind: Option<IgnoredAny>,
    #[serde(rename = "subject")]
    _subject: Option<Vec<Object<KnownSubject>>>,
    #[serde(rename = "predicateType")]
    _predicate_type: Option<IgnoredAny>,
    #[serde(rename = "predicate")]
    _predicate: Option<IgnoredAny>,
}

/// Every member of a subject. Source: in-toto attestation `resource_descriptor.proto`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownSubject {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "uri")]
    _uri: Option<IgnoredAny>,
    #[serde(rename = "digest")]
    _digest: Option<IgnoredAny>,
    #[serde(rename = "content")]
    _content: Option<IgnoredAny>,
    #[serde(rename = "downloadLocation")]
    _download_location: Option<IgnoredAny>,
    #[serde(rename = "mediaType")]
    _media_type: Option<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct ReadDigest {
    sha256: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Digest {
        Digest::parse("sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9")
            .unwrap()
    }

    fn built(kind: &str, predicate: &[u8]) -> Result<String, String> {
        let kind = PredicateType::parse(kind).map_err(|e| e.to_string())?;
        build(
            &kind,
            "127.0.0.1:5061/peer3102/att",
            &image(),
            predicate,
            1_795_342_707,
        )
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .map_err(|e| e.to_string())
    }

    #[test]
    fn writes_the_statements_of_cosign() {
        // Payloads of `att/att-and-sig` of the peers, written by cosign 3.1.1.
        let head = r#"{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"127.0.0.1:5061/peer3102/att","digest":{"sha256":"d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9"}}],"predicateType":"#;
        assert_eq!(
            built("https://example.org/p", br#"{"component":"<b>&","n":1}"#).unwrap(),
            format!(r#"{head}"https://example.org/p","predicate":{{"component":"<b>&","n":1}}}}"#)
        );
        assert_eq!(
            built("custom", b"free text <x>\n").unwrap(),
            format!(
                r#"{head}"https://cosign.sigstore.dev/attestation/v1","predicate":{{"Data":"free text <x>\n","Timestamp":"2026-11-22T10:18:27Z"}}}}"#
            )
        );
    }

    #[test]
    fn takes_and_refuses_what_cosign_does() {
        // Answers of cosign 3.1.1 to `attest`.
        for (name, _) in NAMES {
            let object = built(name, br#" {"_type":"x"} "#);
            assert!(object.is_ok(), "{name}");
            let text = matches!(name, "custom" | "spdx");
            assert_eq!(built(name, b"hello").is_ok(), text, "{name}");
            assert_eq!(built(name, b"[1]").is_ok(), text, "{name}");
        }
        for uri in ["https://e.org/p", "urn:x", "/abs"] {
            assert!(built(uri, b"{}").is_ok());
            assert!(built(uri, b"[]").is_err());
        }
        assert_eq!(
            built("notatype", b"{}").unwrap_err(),
            "invalid predicate type: notatype"
        );
        assert_eq!(
            built("link", b"{}").unwrap_err(),
            "link statement: required field _type missing"
        );
        assert!(built("custom", b"\xff").is_err());
        // Go refuses control characters; blanks are refused here, too.
        for uri in [
            "",
            ":x",
            "a b:c",
            "1a:b",
            "x:",
            "x:a b",
            "x:a\u{7f}",
            "/a\nb",
            "/a\u{1}",
        ] {
            assert!(PredicateType::parse(uri).is_err(), "{uri}");
        }
        for (asked, uri) in [
            ("custom", "https://cosign.sigstore.dev/attestation/v1"),
            ("urn:x", "urn:x"),
        ] {
            let kind = PredicateType::parse(asked).unwrap();
            assert_eq!((kind.name(), kind.uri()), (asked, uri));
        }
        let document = br#"{"b":12345678901234567890123, "a":1.0}"#;
        let document = built("cyclonedx", document).unwrap();
        assert!(document.contains(r#""predicate":{"b":12345678901234567890123, "a":1.0}}"#));
    }

    #[test]
    fn says_what_a_statement_is_about() {
        let text = built("openvex", b"{}").unwrap();
        let statement = Statement::parse(text.as_bytes()).unwrap();
        assert_eq!(statement.predicate_type(), "https://openvex.dev/ns");
        assert!(statement.is_about(&image()));
        let other = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
        assert!(!statement.is_about(&other));
        assert_eq!(statement.about(), BTreeSet::from([image().to_string()]));
        let newer = text.replace("Statement/v0.1", "Statement/v1");
        assert!(
            Statement::parse(newer.as_bytes())
                .unwrap()
                .is_about(&image())
        );
        let other_hash = text.replace("sha256", "sha1");
        let other_hash = Statement::parse(other_hash.as_bytes()).unwrap();
        assert!(!other_hash.is_about(&image()));
        let annotated = text.replace("\"digest\":", "\"annotations\":{\"a\":\"b\"},\"digest\":");
        let annotated = Statement::parse_strictly(annotated.as_bytes()).unwrap();
        assert_eq!(annotated.annotations(&image()).unwrap()["a"], "b");
        assert_eq!(annotated.annotations(&other), None);
        let unknown = text.replace("\"subject\":", "\"x\":1,\"subject\":");
        assert!(Statement::parse(unknown.as_bytes()).is_ok());
        assert!(Statement::parse_strictly(unknown.as_bytes()).is_err());
        // For some programs the last of these counts, for others they are no subject.
        let letters = text.replace("\"predicateType\":", "\"Subject\":[],\"predicateType\":");
        assert!(Statement::parse(letters.as_bytes()).is_err());
        let unknown = text.replace("\"digest\":", "\"x\":1,\"digest\":");
        assert!(Statement::parse_strictly(unknown.as_bytes()).is_err());
        for bad in [
            text.replace("Statement/v0.1", "Statement/v2"),
            text.replace("\"predicate\":", "\"subject\":[],\"predicate\":"),
            text.clone() + "x",
            "{}".to_owned(),
            "[]".to_owned(),
            // For Go and protobuf a list is no structure.
            "[\"https://in-toto.io/Statement/v1\",[],\"x\"]".to_owned(),
            text.replace("{\"sha256\":", "[")
                .replace("cf9\"}", "cf9\"]"),
        ] {
            assert!(Statement::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
