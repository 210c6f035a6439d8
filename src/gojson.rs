//! JSON as Go's `encoding/json` writes it: compact, `<`, `>`, `&` and two line
//! ends of Unicode escaped in strings, numbers with a fraction as `float64`;
//! and, as for Go, a list is no structure.
//!
//! Source: Go `encoding/json`, `Marshal`, `Unmarshal`, `floatEncoder`.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;

/// A structure that is read from a JSON object only, by members in their own letters.
///
/// What is derived with serde reads a structure from a list of its members, too, which no other
/// program takes for one. And it passes over a member in other letters, which Go takes for the
/// known one: programs do not agree on what such a text says, so it is refused.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Object<T>(pub T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> de::Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(Members(map)).map(Object)
    }
}

/// Tells the members of a structure to [`Lettered`].
struct Members<A>(A);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Members<A> {
    type Error = A::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(Lettered { map: self.0, known })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Members of which none is a known one in other letters.
struct Lettered<A> {
    map: A,
    known: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Lettered<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.map.next_key::<String>()? else {
            return Ok(None);
        };
        let same = self.known.iter().find(|known| folds_to(&name, known));
        match same.filter(|known| **known != name) {
            Some(known) => Err(de::Error::custom(format_args!(
                "member {name:?} for {known:?}"
            ))),
            None => seed.deserialize(name.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Whether Go takes a member for the known one: equal letters in any case,
/// the long s and the Kelvin sign included.
///
/// Source: Go `encoding/json/fold.go`.
pub fn folds_to(name: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(known.chars().map(fold))
}

/// Writes a value.
///
/// # Errors
/// A map whose keys are no strings.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out,
        GoFormatter,
    ))?;
    Ok(out)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for part in fragment.split_inclusive(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, escape) = match part.char_indices().next_back() {
                Some((at, '<')) => (at, "\\u003c"),
                Some((at, '>')) => (at, "\\u003e"),
                Some((at, '&')) => (at, "\\u0026"),
                Some((at, '\u{2028}')) => (at, "\\u2028"),
                Some((at, '\u{2029}')) => (at, "\\u2029"),
                _ => (part.len(), ""),
            };
            writer.write_all(part.get(..plain).unwrap_or_default().as_bytes())?;
            writer.write_all(escape.as_bytes())?;
        }
        Ok(())
    }
}

/// The shortest digits that give the number back; an exponent below 1e-6 and
/// from 1e21, with a sign, without leading zeros.
fn float(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    if (1e-6..1e21).contains(&size) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sealed<'a> {
        #[serde(borrow)]
        key_id: std::borrow::Cow<'a, str>,
        #[serde(default)]
        size: u32,
    }

    #[test]
    fn a_member_in_other_letters_is_refused_and_an_unknown_one_passed_over() {
        let read = |json: &'static str| {
            serde_json::from_str::<Object<Sealed<'_>>>(json)
                .map(|Object(read)| (read.key_id.into_owned(), read.size))
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            read(r#"{"keyId":"a","more":1,"siz":2,"size":3}"#),
            Ok(("a".to_owned(), 3))
        );
        assert_eq!(read(r#"{"\u006beyId":"a"}"#), Ok(("a".to_owned(), 0)));
        // Go 1.26 reads each of these as the member: the last one of two counts.
        for (odd, names) in [
            (
                r#"{"keyId":"a","KeyID":"b"}"#,
                r#"member "KeyID" for "keyId""#,
            ),
            (r#"{"keyId":"a","Size":3}"#, r#"member "Size" for "size""#),
            ("{\"keyId\":\"a\",\"\u{17f}ize\":3}", "for \"size\""),
            ("{\"\u{212a}eyId\":\"a\"}", "for \"keyId\""),
        ] {
            let refused = read(odd).unwrap_err();
            assert!(refused.contains(names), "{refused}");
        }
        assert!(read(r#"["a",3]"#).unwrap_err().contains("an object"));
        assert!(
            read(r#"{"keyId":"a","keyId":"a"}"#)
                .unwrap_err()
                .contains("duplicate")
        );
    }

    #[test]
    fn writes_what_go_writes() {
        let text = |value: &str| {
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            String::from_utf8(to_vec(&value).unwrap()).unwrap()
        };
        // Printed by Go 1.26 for the same values as float64.
        for (json, go) in [
            ("1e30", "1e+30"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
            ("1e-7", "1e-7"),
            ("1e-6", "0.000001"),
            ("0.1", "0.1"),
            ("-0.0", "-0"),
            ("1741182667", "1741182667"),
            ("1741182667.0", "1741182667"),
            ("\"<a&b>\"", "\"\\u003ca\\u0026b\\u003e\""),
        ] {
            assert_eq!(text(json), go);
        }
    }
}
