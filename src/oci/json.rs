//! JSON documents of which a few members change while every other byte stays.
//!
//! Manifests and indices are named by the digest of their bytes, and other
//! programs put members in them that nobody here knows.

use crate::gojson;
use serde::de::{self, Deserializer, MapAccess};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// A JSON object: its members in their order, the values as they were written.
pub(super) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        let member = self.0.iter().find(|(known, _)| known == name);
        member.map(|(_, value)| &**value)
    }

    /// Names of the members, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The members, all of them strings, by name; one that is `null` is left out.
    pub(super) fn texts(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let texts = self.0.iter().map(|(name, value)| {
            let text: Option<String> = serde_json::from_str(value.get())?;
            Ok(text.map(|text| (name.clone(), text)))
        });
        texts.filter_map(Result::transpose).collect()
    }

    /// The string value of a member.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The elements of a list; a missing member and `null` are an empty one.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
        let value = self.get(name).map_or("null", RawValue::get);
        serde_json::from_str(value).map(Option::unwrap_or_default)
    }

    /// Replaces a member where it stands, or adds it at the end.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(), serde_json::Error> {
        let value: Box<RawValue> = serde_json::from_slice(&gojson::to_vec(value)?)?;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Removes a member if it is there.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Compact JSON of the members; values keep their own white space.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        gojson::to_vec(self)
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> de::Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut names = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    // Programs do not agree on which of two counts.
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("duplicate member {name:?}")));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_one_member_and_no_other_byte() {
        let json = br#"{ "b": [1,  2.50], "a":{"x":1e400},
            "c":"<&>" }"#;
        let mut object = Object::parse(json).unwrap();
        object.set("a", &"<new>").unwrap();
        object.set("d", &7).unwrap();
        assert_eq!(
            String::from_utf8(object.to_bytes().unwrap()).unwrap(),
            r#"{"b":[1,  2.50],"a":"\u003cnew\u003e","c":"<&>","d":7}"#
        );
        assert_eq!(object.list("b").unwrap().len(), 2);
        assert_eq!(object.list("missing").unwrap().len(), 0);
        assert_eq!(object.text("c").unwrap(), "<&>");
        assert_eq!(object.text("b"), None);
    }

    #[test]
    fn refuses_what_programs_read_differently() {
        for bad in [
            &br#"{"a":1,"a":2}"#[..],
            b"[]",
            b"{}x",
            b"{\"a\":}",
            b"",
            b"\xff",
        ] {
            assert!(Object::parse(bad).is_err());
        }
        let told = Object::parse(b"[]").err().unwrap().to_string();
        assert!(told.contains("expected an object"), "{told}");
    }

    #[test]
    fn escapes_as_go_does() {
        // Printed by Go 1.26 for the same string.
        assert_eq!(
            String::from_utf8(gojson::to_vec(&"a<b>&\u{2028}é\u{2029}\"\\\n\u{7f}\u{1}").unwrap())
                .unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028é\\u2029\\\"\\\\\\n\u{7f}\\u0001\""
        );
    }
}
