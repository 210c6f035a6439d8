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
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or_else(|| format!("{text:?} is no time like 2026-01-31T12:00:00Z, 1970 or later"))
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
}
