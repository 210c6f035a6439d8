//! Values on the command line, in the syntax and the words of Go's flags.

/// Words that mean yes or no.
///
/// # Errors
/// `strconv.ParseBool: parsing "x": invalid syntax`.
pub fn bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(syntax("ParseBool", text)),
    }
}

/// A 32-bit number without sign, decimal or with a base prefix.
///
/// # Errors
/// `strconv.ParseUint: parsing "x": invalid syntax` or `value out of range`.
pub fn uint32(text: &str) -> Result<u32, String> {
    let value = prefixed(text).ok_or_else(|| syntax("ParseUint", text))?;
    value
        .and_then(|value| u32::try_from(value).ok())
        .ok_or_else(|| range("ParseUint", text))
}

/// How many, one at least; decimal.
///
/// # Errors
/// `must be a number, 1 or more`.
pub fn count(text: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number > 0);
    number.ok_or_else(|| "must be a number, 1 or more".to_owned())
}

/// A 64-bit number with sign, decimal or with a base prefix.
///
/// # Errors
/// `strconv.ParseInt: parsing "x": invalid syntax` or `value out of range`.
pub fn int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let value = prefixed(digits).ok_or_else(|| syntax("ParseInt", text))?;
    value
        .and_then(|value| {
            let value = i128::from(value);
            i64::try_from(if negative { -value } else { value }).ok()
        })
        .ok_or_else(|| range("ParseInt", text))
}

/// A time as RFC 3339 has it, not before 1970; in seconds since then, fractions cut.
///
/// # Errors
/// What is wrong, and the form wanted.
pub fn time(text: &str) -> Result<u64, String> {
    timestamp(text)
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or_else(|| format!("{text:?} is no time like 2026-01-31T12:00:00Z, 1970 or later"))
}

/// A time as RFC 3339 has it; nothing for the many other forms of ISO 8601.
pub fn timestamp(text: &str) -> Option<jiff::Timestamp> {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let rest = ["T", "t", " "]
        .iter()
        .find_map(|between| shape.strip_prefix(&format!("0000-00-00{between}00:00:00")))?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return None,
        None => rest,
    };
    let is_zone = match zone {
        "Z" | "z" => true,
        // A day has 24 hours.
        "+00:00" | "-00:00" => {
            let hours = text.get(text.len().saturating_sub(5)..)?.get(..2)?;
            hours.parse().is_ok_and(|hours: u8| hours < 24)
        }
        _ => false,
    };
    text.parse().ok().filter(|_| is_zone)
}

/// A 32-bit number with sign, decimal or with a base prefix.
///
/// # Errors
/// As [`int`].
pub fn int32(text: &str) -> Result<i32, String> {
    i32::try_from(int(text)?).map_err(|_| range("ParseInt", text))
}

/// A decimal 32-bit number without sign: an object id as an argument.
///
/// # Errors
/// As [`uint32`].
pub fn decimal_uint32(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax("ParseUint", text));
    }
    text.parse().map_err(|_| range("ParseUint", text))
}

/// A decimal number with sign: an answer to a question.
///
/// # Errors
/// As [`int`].
pub fn decimal_int(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(syntax("ParseInt", text));
    }
    text.parse().map_err(|_| range("ParseInt", text))
}

/// `None` for bad syntax, `Some(None)` for a number above 64 bits.
fn prefixed(text: &str) -> Option<Option<u64>> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, prefix) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..).unwrap_or_default(), true)
    } else {
        (10, lower.as_str(), false)
    };
    // An underscore stands between digits, or between prefix and digits.
    let mut previous = if prefix { 'x' } else { '_' };
    for c in digits.chars() {
        if c == '_' && previous == '_' || c != '_' && !c.is_digit(radix) {
            return None;
        }
        previous = c;
    }
    if previous == '_' || digits.is_empty() {
        return None;
    }
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    Some(u64::from_str_radix(&digits, radix).ok())
}

fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

fn range(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_go() {
        for (text, value) in [
            ("0", 0),
            ("10", 10),
            ("0x10", 16),
            ("010", 8),
            ("0b11", 3),
            ("1_0", 10),
        ] {
            assert_eq!(uint32(text), Ok(value));
        }
        assert_eq!(
            uint32("x").unwrap_err(),
            "strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            uint32("-1").unwrap_err(),
            "strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
        assert_eq!(
            uint32("4294967296").unwrap_err(),
            "strconv.ParseUint: parsing \"4294967296\": value out of range"
        );
        assert_eq!(int("-1"), Ok(-1));
        assert_eq!(int("-9223372036854775808"), Ok(i64::MIN));
        assert!(int("9223372036854775808").is_err());
        assert_eq!(int32("-0x10"), Ok(-16));
        assert_eq!(
            int32("2147483648").unwrap_err(),
            "strconv.ParseInt: parsing \"2147483648\": value out of range"
        );
        assert_eq!(decimal_uint32("01"), Ok(1));
        for bad in ["", "x", "+1", "0x1", "1_0", " 1"] {
            assert!(decimal_uint32(bad).is_err(), "{bad}");
        }
        assert_eq!(
            decimal_int("").unwrap_err(),
            "strconv.ParseInt: parsing \"\": invalid syntax"
        );
    }

    /// Each second of 2026-01-31 that RFC 3339 and `date -u -d` agree about.
    #[test]
    fn times_are_those_of_rfc_3339() {
        for (text, seconds) in [
            ("2026-01-31T12:00:00Z", 1_769_860_800),
            ("2026-01-31t12:00:00z", 1_769_860_800),
            ("2026-01-31 12:00:00.999Z", 1_769_860_800),
            ("2026-01-31T12:00:00+23:59", 1_769_774_460),
            ("2026-01-31T12:00:00-00:30", 1_769_862_600),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(time(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00Z",
            "20260131T120000Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00,5Z",
            "2026-01-31T12:00:00+01",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00+25:00",
            "2026-01-31T12:00:00-25:59",
            "2026-01-31T12:00:00+01:60",
            "2026-01-31T12:00:00+01:00:00",
            "2026-01-31T12:00:00Z[UTC]",
            "+002026-01-31T12:00:00Z",
            "2026-02-30T12:00:00Z",
            "1969-12-31T23:59:59Z",
            "é",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
