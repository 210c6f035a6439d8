//! Simple signing: what a cosign signature says about an image.
//!
//! Source: sigstore `pkg/signature/payload`; containers/image `signature`;
//! spec/oci-sif-cosign.md 3.2, 4.2.

use crate::digest::Digest;
use crate::gojson;
use serde::de::{self, Deserializer, MapAccess};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The type that every payload of cosign has.
pub const SIGNATURE_TYPE: &str = "cosign container image signature";

/// Largest payload that is read, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// A payload as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct SimpleSigning {
    /// `critical.identity.docker-reference`; empty if the signer named none.
    pub reference: String,
    /// `critical.image.docker-manifest-digest`, as written.
    pub digest: String,
    /// `critical.type`.
    pub kind: String,
    /// `optional`; `None` for `null` and for a missing member.
    pub optional: Option<BTreeMap<String, Value>>,
    /// What programs read differently, or only tolerate: names that stand
    /// twice, names in other letters. Empty for payloads of real signers.
    pub oddities: Vec<String>,
}

/// Why a payload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No JSON of the right shape.
    #[error("failed to unmarshal payload: {0}")]
    Json(#[from] serde_json::Error),
    /// More than [`MAX_PAYLOAD`] bytes.
    #[error("failed to unmarshal payload: {0} bytes, more than the {MAX_PAYLOAD} that are read")]
    TooLarge(usize),
}

impl SimpleSigning {
    /// Makes the payload of a new signature.
    pub fn new(image: &Digest, reference: &str, optional: BTreeMap<String, Value>) -> Self {
        Self {
            reference: reference.to_owned(),
            digest: image.to_string(),
            kind: SIGNATURE_TYPE.to_owned(),
            optional: (!optional.is_empty()).then_some(optional),
            oddities: Vec::new(),
        }
    }

    /// Reads a payload the way Go does: names in any letter case, of two the
    /// last one counts, unknown ones are skipped.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_PAYLOAD {
            return Err(Error::TooLarge(json.len()));
        }
        let mut oddities = Vec::new();
        let top = Folded::read(json, &["critical", "optional"], &mut oddities)?;
        let critical = top.object("critical", &["identity", "image", "type"], &mut oddities)?;
        let identity = critical.object("identity", &["docker-reference"], &mut oddities)?;
        let image = critical.object("image", &["docker-manifest-digest"], &mut oddities)?;
        let optional = match top.get("optional") {
            Some(value) => {
                let map: Option<Optional> = serde_json::from_str(value.get())?;
                map.map(|map| {
                    oddities.extend(map.twice);
                    map.members
                })
            }
            None => None,
        };
        Ok(Self {
            reference: identity.text("docker-reference")?,
            digest: image.text("docker-manifest-digest")?,
            kind: critical.text("type")?,
            optional,
            oddities,
        })
    }

    /// The payload with its members in the originals' order, to be written;
    /// numbers are what Go makes of them, `float64`.
    pub fn to_value(&self) -> impl Serialize + use<> {
        let mut written = self.written();
        for value in written.optional.iter_mut().flat_map(BTreeMap::values_mut) {
            as_floats(value);
        }
        written
    }

    /// The bytes of a new payload: integers stay integers.
    ///
    /// # Errors
    /// None in practice; those of the JSON library.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(gojson::to_vec(&self.written())?)
    }

    fn written(&self) -> Written {
        Written {
            critical: Critical {
                identity: Identity {
                    docker_reference: self.reference.clone(),
                },
                image: ImageName {
                    docker_manifest_digest: self.digest.clone(),
                },
                kind: self.kind.clone(),
            },
            optional: self.optional.clone(),
        }
    }
}

/// The depth is that of a parsed document, which the parser bounds.
fn as_floats(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().and_then(serde_json::Number::from_f64) {
                *value = Value::Number(float);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(as_floats),
        Value::Object(members) => members.values_mut().for_each(as_floats),
        _ => {}
    }
}

#[derive(Serialize)]
struct Written {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize)]
struct Critical {
    identity: Identity,
    image: ImageName,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImageName {
    docker_manifest_digest: String,
}

/// An object whose known names were found as Go finds them.
struct Folded(BTreeMap<&'static str, Box<RawValue>>);

impl Folded {
    fn read(
        json: &[u8],
        known: &[&'static str],
        oddities: &mut Vec<String>,
    ) -> Result<Self, serde_json::Error> {
        let members: Option<Members> = serde_json::from_slice(json)?;
        let mut found = BTreeMap::new();
        let mut seen = HashSet::new();
        for (name, value) in members.map(|m| m.0).unwrap_or_default() {
            if !seen.insert(name.clone()) {
                oddities.push(format!("duplicate member {name:?}"));
            }
            let same = known.iter().find(|known| gojson::folds_to(&name, known));
            if let Some(known) = same {
                if *known != name {
                    oddities.push(format!("member {name:?} for {known:?}"));
                }
                found.insert(*known, value);
            }
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|value| &**value)
    }

    fn object(
        &self,
        name: &str,
        known: &[&'static str],
        oddities: &mut Vec<String>,
    ) -> Result<Self, serde_json::Error> {
        let value = self.get(name).map_or("null", RawValue::get);
        Self::read(value.as_bytes(), known, oddities)
    }

    /// Empty for a missing member and for `null`.
    fn text(&self, name: &str) -> Result<String, serde_json::Error> {
        let value = self.get(name).map_or("null", RawValue::get);
        serde_json::from_str::<Option<String>>(value).map(Option::unwrap_or_default)
    }
}

/// Members in their order, doubles included.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Free members; of two of one name the last one counts.
struct Optional {
    members: BTreeMap<String, Value>,
    twice: Vec<String>,
}

impl<'de> Deserialize<'de> for Optional {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut this = Self {
            members: BTreeMap::new(),
            twice: Vec::new(),
        };
        for (name, value) in Members::deserialize(deserializer)?.0 {
            let value = serde_json::from_str(value.get()).map_err(de::Error::custom)?;
            if this.members.insert(name.clone(), value).is_some() {
                this.twice.push(format!("duplicate member {name:?}"));
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = r#"{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"sha256:1d47"},"type":"cosign container image signature"},"optional":{"creator":"Singularity-Ce/4.3.0 (Linux amd64) Go/1.24.0","timestamp":1741182667}}"#;

    #[test]
    fn reads_a_payload_of_singularity_and_writes_the_same_bytes() {
        let payload = SimpleSigning::parse(REAL.as_bytes()).unwrap();
        assert_eq!(payload.digest, "sha256:1d47");
        assert_eq!(payload.kind, SIGNATURE_TYPE);
        assert_eq!(payload.oddities, [""; 0]);
        assert_eq!(payload.to_bytes().unwrap(), REAL.as_bytes());
        assert_eq!(
            gojson::to_vec(&payload.to_value()).unwrap(),
            REAL.as_bytes()
        );
    }

    #[test]
    fn numbers_are_shown_as_go_shows_them() {
        // What Go 1.26 writes after it read this into an `any`.
        let json = r#"{"optional":{"b":1,"l":[9007199254740993,{"m":9007199254740993,"n":[true,null,"1"]}],"n":12345678901234567890}}"#;
        let go = r#"{"b":1,"l":[9007199254740992,{"m":9007199254740992,"n":[true,null,"1"]}],"n":12345678901234567000}"#;
        let payload = SimpleSigning::parse(json.as_bytes()).unwrap();
        let shown = gojson::to_vec(&payload.to_value()).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.ends_with(&format!(r#""optional":{go}}}"#)), "{shown}");
    }

    #[test]
    fn a_payload_of_a_mebibyte_is_read() {
        let mut json = b"{}".to_vec();
        json.resize(1024 * 1024, b' ');
        assert!(SimpleSigning::parse(&json).is_ok());
        json.push(b' ');
        assert!(matches!(
            SimpleSigning::parse(&json),
            Err(Error::TooLarge(1_048_577))
        ));
        let said = SimpleSigning::parse(b"1").unwrap_err().to_string();
        assert!(said.contains("expected an object"), "{said}");
    }

    #[test]
    fn what_go_tolerates_is_read_and_told() {
        let json = r#" {"Critical":{"image":{"docker-manifest-digest":"a","Docker-Manifest-Digest":"b"},"type":null,"x":1},
            "optional":{"a":1,"a":2}} "#;
        let payload = SimpleSigning::parse(json.as_bytes()).unwrap();
        assert_eq!(payload.digest, "b");
        assert_eq!(payload.kind, "");
        assert_eq!(payload.optional.unwrap()["a"], 2);
        assert_eq!(payload.oddities.len(), 3);
        let without = SimpleSigning::parse(br#"{"optional":null}"#).unwrap();
        assert_eq!(without.optional, None);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for bad in [
            "",
            "1",
            "[]",
            "{} x",
            r#"{"critical":1}"#,
            r#"{"critical":{"type":1}}"#,
            r#"{"optional":[]}"#,
            "\u{feff}{}",
        ] {
            assert!(SimpleSigning::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let deep = format!(
            r#"{{"optional":{{"a":{}1{}}}}}"#,
            "[".repeat(9000),
            "]".repeat(9000)
        );
        assert!(SimpleSigning::parse(deep.as_bytes()).is_err());
        assert!(matches!(
            SimpleSigning::parse(&vec![b' '; MAX_PAYLOAD + 1]),
            Err(Error::TooLarge(_))
        ));
    }
}
