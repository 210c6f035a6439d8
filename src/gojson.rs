//! JSON as Go's `encoding/json` writes it: compact, `<`, `>`, `&` and two line
//! ends of Unicode escaped in strings, numbers with a fraction as `float64`.
//!
//! Source: Go `encoding/json`, `Marshal`, `floatEncoder`.

use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

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
