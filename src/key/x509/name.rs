//! Distinguished names as text.

use der::asn1::{
    BmpString, Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef,
};
use der::{Encode, Tag, Tagged};
use x509_cert::attr::{AttributeTypeAndValue, AttributeValue};
use x509_cert::name::Name;

/// The string of RFC 4514: last element first, separated by commas, special characters escaped.
///
/// Attributes without a short name here, and values that are no text, are written as
/// `1.2.3=#hex`. Source: RFC 4514, sections 2 and 3.
pub(super) fn to_text(name: &Name) -> String {
    let elements = name.0.iter().rev().map(|element| {
        let parts: Vec<_> = element.0.iter().map(attribute).collect();
        parts.join("+")
    });
    elements.collect::<Vec<_>>().join(",")
}

/// The elements of a name, last first as [`to_text`] writes them: short name or object identifier
/// of each attribute, and its value if it is text.
pub(super) fn elements(name: &Name) -> Vec<Vec<(String, Option<String>)>> {
    let attribute = |a: &AttributeTypeAndValue| {
        let kind = short_name(&a.oid).map_or_else(|| a.oid.to_string(), ToOwned::to_owned);
        (kind, string(&a.value))
    };
    let elements = name.0.iter().rev();
    elements
        .map(|element| element.0.iter().map(attribute).collect())
        .collect()
}

/// What people call the owner of a name: common name, else organisation.
pub(super) fn short(name: &Name) -> Option<String> {
    let find = |wanted: &str| {
        let attributes = name.0.iter().flat_map(|element| element.0.iter());
        attributes
            .filter(|a| short_name(&a.oid) == Some(wanted))
            .find_map(|a| string(&a.value))
    };
    find("CN").or_else(|| find("O"))
}

/// Whether there is an `emailAddress`.
pub(super) fn has_address(name: &Name) -> bool {
    let mut attributes = name.0.iter().flat_map(|element| element.0.iter());
    attributes.any(|a| short_name(&a.oid) == Some("emailAddress"))
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    match short_name(&attribute.oid).zip(string(&attribute.value)) {
        Some((key, text)) => format!("{key}={}", escape(&text)),
        None => format!(
            "{}=#{}",
            attribute.oid,
            hex::encode(attribute.value.to_der().unwrap_or_default())
        ),
    }
}

fn short_name(oid: &ObjectIdentifier) -> Option<&'static str> {
    NAMES
        .iter()
        .find_map(|(known, name)| (known == oid).then_some(*name))
}

fn string(value: &AttributeValue) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|s| s.to_string()),
        Tag::PrintableString => PrintableStringRef::try_from(value)
            .ok()
            .map(|s| s.to_string()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|s| s.to_string()),
        Tag::TeletexString => TeletexStringRef::try_from(value)
            .ok()
            .map(|s| s.to_string()),
        Tag::BmpString => value
            .decode_as::<BmpString>()
            .ok()
            .map(|s| s.chars().collect()),
        _ => None,
    }
}

fn escape(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', c]),
            '#' | ' ' if index == 0 => out.extend(['\\', c]),
            ' ' if index == last => out.extend(['\\', c]),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!("\\{byte:02x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

const NAMES: &[(ObjectIdentifier, &str)] = &[
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.5"), "SERIALNUMBER"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
    (ObjectIdentifier::new_unwrap("2.5.4.9"), "STREET"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("2.5.4.17"), "POSTALCODE"),
    (
        ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1"),
        "UID",
    ),
    (
        ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"),
        "DC",
    ),
    (
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1"),
        "emailAddress",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    #[test]
    fn writes_names_as_openssl_does() {
        // openssl x509 -noout -subject -nameopt RFC2253 on the same names
        for text in [
            "CN=Fixture Leaf",
            "CN=a,OU=b,O=c,C=DE",
            "CN=Doe\\, John,O=c",
        ] {
            assert_eq!(to_text(&Name::from_str(text).unwrap()), text);
        }
    }

    #[test]
    fn a_value_cannot_pose_as_another_element() {
        let hostile = Name::from_str("CN=x\\,O\\=Good\\+OU\\=y\\\\").unwrap();
        assert_eq!(to_text(&hostile), "CN=x\\,O\\=Good\\+OU\\=y\\\\");
        assert_eq!(escape(" #a "), "\\ #a\\ ");
        assert_eq!(escape("#a"), "\\#a");
        assert_eq!(escape("a\nb\u{9b}"), "a\\0ab\\c2\\9b");
        assert_eq!(escape(" "), "\\ ");
    }

    /// X.680, 41: the character sets of the older kinds of string.
    #[test]
    fn text_of_every_kind_of_string_is_read() {
        for (tag, bytes, text) in [
            (Tag::Utf8String, "\u{e9}".as_bytes(), Some("\u{e9}")),
            (Tag::PrintableString, b"a b", Some("a b")),
            (Tag::Ia5String, b"a@b", Some("a@b")),
            (Tag::TeletexString, b"abc", Some("abc")),
            (Tag::BmpString, &[0, 0x41, 0, 0xe9], Some("A\u{e9}")),
            (Tag::OctetString, b"abc", None),
        ] {
            let value = AttributeValue::new(tag, bytes).unwrap();
            assert_eq!(string(&value).as_deref(), text, "{tag}");
        }
    }

    #[test]
    fn owners_are_called_by_common_name_else_by_organisation() {
        for (text, name) in [
            ("CN=a,OU=b,O=c,C=DE", Some("a")),
            ("OU=b,O=c,C=DE", Some("c")),
            ("OU=b,C=DE", None),
        ] {
            let found = short(&Name::from_str(text).unwrap());
            assert_eq!(found.as_deref(), name);
        }
    }
}
