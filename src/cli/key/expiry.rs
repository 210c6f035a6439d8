//! When a new key expires, as it is typed.

/// End of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Never,
    /// Seconds after the creation of the key.
    After(u32),
    /// Seconds since 1970.
    At(i64),
}

/// Reads `never`, `90d`, `12w`, `6m` (30 days each), `1y` (365 days), a date
/// (its start in UTC) or a time of RFC 3339.
///
/// # Errors
/// The reason for the usage error.
pub(super) fn parse(text: &str) -> Result<Expiry, String> {
    const FAULT: &str = "must be a time like 90d, 12w, 6m or 1y, a date like 2030-12-31, or never";
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Some(days) = days_of_unit(text) {
        let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(FAULT.to_owned());
        }
        return number
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(days)?.checked_mul(86_400))
            .filter(|seconds| *seconds > 0)
            .map(Expiry::After)
            .ok_or_else(|| "must be between 1 day and 136 years".to_owned());
    }
    let time = crate::cli::go::timestamp(text).or_else(|| {
        let date = text.parse::<jiff::civil::Date>().ok()?;
        // Only what RFC 3339 calls a full date.
        (text.len() == 10).then_some(())?;
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    });
    time.map(|time| Expiry::At(time.as_second()))
        .ok_or_else(|| FAULT.to_owned())
}

impl Expiry {
    /// Seconds from `created` (seconds since 1970) to the end.
    ///
    /// # Errors
    /// An end that is not behind the creation or does not fit into a key.
    pub(super) fn lifetime(self, created: i64) -> Result<Option<u32>, String> {
        match self {
            Self::Never => Ok(None),
            Self::After(seconds) => Ok(Some(seconds)),
            Self::At(end) => end
                .checked_sub(created)
                .filter(|seconds| *seconds > 0)
                .ok_or_else(|| "the key would expire before it is made".to_owned())
                .and_then(|seconds| {
                    u32::try_from(seconds)
                        .map(Some)
                        .map_err(|_| "the key would live longer than 136 years".to_owned())
                }),
        }
    }
}

fn days_of_unit(text: &str) -> Option<u32> {
    match text.as_bytes().last()? {
        b'd' => Some(1),
        b'w' => Some(7),
        b'm' => Some(30),
        b'y' => Some(365),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_and_dates() {
        const DAY: u32 = 86_400;
        for (text, expected) in [
            ("never", Expiry::Never),
            ("90d", Expiry::After(90 * DAY)),
            ("2w", Expiry::After(14 * DAY)),
            ("6m", Expiry::After(180 * DAY)),
            ("1y", Expiry::After(365 * DAY)),
            ("2030-12-31", Expiry::At(1_924_905_600)),
            ("2030-12-31T00:00:01Z", Expiry::At(1_924_905_601)),
            ("2030-12-31T01:00:00+01:00", Expiry::At(1_924_905_600)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "0",
            "1",
            "d",
            "-1d",
            "+1d",
            "1.5y",
            "0d",
            "0y",
            "137y",
            "99999999999d",
            "1D",
            "2030-13-01",
            "2030-02-30",
            "2030-12",
            "20301231",
            "tomorrow",
            "Never",
            "é",
            "2030-12-31T00:00:00",
            "2030-12-31 garbage",
            "2030-12-31T00:00:00+25:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_end_must_lie_behind_the_creation() {
        assert_eq!(Expiry::At(101).lifetime(100), Ok(Some(1)));
        assert_eq!(Expiry::Never.lifetime(100), Ok(None));
        assert_eq!(Expiry::After(7).lifetime(100), Ok(Some(7)));
        for end in [100, 99, i64::MIN, 100 + (1 << 32), i64::MAX] {
            assert!(Expiry::At(end).lifetime(100).is_err(), "{end}");
        }
    }
}
