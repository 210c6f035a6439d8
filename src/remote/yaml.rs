//! Writes `remote.yaml` as the originals' writer does: indentation by four
//! blanks, names in natural order (`p9` before `p10`).
//!
//! Source: go-yaml v3, `sorter.go`; recorded files.

use serde_json::Value;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Order of names in a written mapping.
///
/// Numbers in names compare by value, and letters come after other characters.
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one.chars().peekable(), other.chars().peekable());
    let mut digits = false;
    // Whether a digit other than zero stands before in the same number.
    let mut significant = false;
    loop {
        let (Some(&x), Some(&y)) = (a.peek(), b.peek()) else {
            return a.count().cmp(&b.count());
        };
        if x == y {
            digits = x.is_ascii_digit();
            significant = digits && (significant || x != '0');
            a.next();
            b.next();
            continue;
        }
        return match (x.is_alphabetic(), y.is_alphabetic()) {
            (true, true) => x.cmp(&y),
            (true, false) if digits => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if digits => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let lead = u64::from(significant && (x == '0' || y == '0'));
                let (one, other) = (number(a, lead), number(b, lead));
                one.cmp(&other).then(x.cmp(&y))
            }
        };
    }
}

/// Value and length of the digits ahead.
fn number(chars: impl Iterator<Item = char>, lead: u64) -> (u64, usize) {
    chars
        .map_while(|c| c.to_digit(10))
        .fold((lead, 0), |(value, length), digit| {
            (
                value.saturating_mul(10).saturating_add(u64::from(digit)),
                length.saturating_add(1),
            )
        })
}

/// A text as a scalar: plain where no reader can take it for something else.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// A JSON string, which is a double-quoted scalar; what YAML does not allow
/// raw is escaped too.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A value that this program does not know, in flow style on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => inner(other),
    }
}

/// A value inside of another one.
fn inner(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(",");
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", list(items.iter().map(inner).collect())),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| {
                let name = quoted(name);
                match is_long(&name) {
                    true => format!("? {name} : {}", inner(value)),
                    false => format!("{name}:{}", inner(value)),
                }
            });
            format!("{{{}}}", list(members.collect()))
        }
        plain => plain.to_string(),
    }
}

/// Whether a name needs a mark in front: readers look for the colon no further than 1024
/// characters.
fn is_long(name: &str) -> bool {
    name.len() > 1000
}

/// Adds `key: value` at a depth of four blanks each.
pub(super) fn line(out: &mut String, indent: &str, key: &str, value: &str) {
    let key = scalar(key);
    let _ = match is_long(&key) {
        true => writeln!(out, "{indent}? {key}\n{indent}: {value}"),
        false => writeln!(out, "{indent}{key}: {value}"),
    };
}

/// Adds `key:` in front of what is below it.
pub(super) fn open(out: &mut String, indent: &str, key: &str) {
    let key = scalar(key);
    let _ = match is_long(&key) {
        true => writeln!(out, "{indent}? {key}\n{indent}:"),
        false => writeln!(out, "{indent}{key}:"),
    };
}

fn is_plain(text: &str) -> bool {
    let starts = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let body = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || " _./:+=@%$()~,;-".contains(c));
    let misread = text.contains(": ")
        || text.contains(" #")
        || text.ends_with([':', ' '])
        || matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    starts && body && !misread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_natural_order() {
        let mut names = [
            "p10",
            "p9",
            "lab",
            "Zed",
            "p",
            "a-b",
            "ab",
            "p09",
            "DefaultRemote",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "DefaultRemote",
                "Zed",
                "a-b",
                "ab",
                "lab",
                "p",
                "p9",
                "p09",
                "p10"
            ]
        );
    }

    #[test]
    fn ambiguous_text_is_quoted() {
        for plain in ["SylabsCloud", "https://h:1/a", "Basic am9lOnB3", "h:8443/a"] {
            assert_eq!(scalar(plain), plain);
        }
        for (text, quoted) in [
            ("", "\"\""),
            ("true", "\"true\""),
            ("12", "\"12\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("é\n", "\"é\\n\""),
            ("- a", "\"- a\""),
            ("a:", "\"a:\""),
            ("\u{7f}\u{feff}", "\"\\u007f\\ufeff\""),
        ] {
            assert_eq!(scalar(text), quoted);
        }
    }
}
