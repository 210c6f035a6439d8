//! What a registry asks for: the `WWW-Authenticate` header.
//!
//! Source: RFC 9110, 11.6.1; distribution specification, token authentication.

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    pub scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    /// The one that is answered: a token before a password, else the first.
    pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut all: Vec<Self> = headers.map(Self::parse).collect();
        let rank = |challenge: &Self| match challenge.scheme.as_str() {
            "bearer" => 0,
            "basic" => 1,
            _ => 2,
        };
        all.sort_by_key(rank);
        all.into_iter().next()
    }

    /// Reads the first challenge of a header.
    pub fn parse(header: &str) -> Self {
        let header = header.trim();
        let (scheme, mut rest) = header.split_once(' ').unwrap_or((header, ""));
        let mut values = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => after.split_once(',').unwrap_or((after, "")),
            };
            values.push((name, value.trim().to_owned()));
            rest = after;
        }
        Self {
            scheme: scheme.to_ascii_lowercase(),
            values,
        }
    }

    /// A parameter that is not empty.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_split() {
        let challenge =
            Challenge::parse(r#"Bearer realm="https://h/t?a=b,c", service=svc,scope="a b""#);
        assert_eq!(challenge.scheme, "bearer");
        assert_eq!(challenge.value("realm"), Some("https://h/t?a=b,c"));
        assert_eq!(challenge.value("service"), Some("svc"));
        assert_eq!(challenge.value("scope"), Some("a b"));
        assert_eq!(challenge.value("other"), None);
        for odd in ["", "Basic", "Bearer =", "Bearer a=\"b", "Basic realm"] {
            Challenge::parse(odd);
        }
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let headers = [
            r#"Basic realm="x""#,
            r#"Bearer realm="https://t""#,
            "Negotiate",
        ];
        let chosen = Challenge::choose(headers.into_iter()).unwrap();
        assert_eq!(chosen.scheme, "bearer");
        assert!(Challenge::choose(std::iter::empty()).is_none());
    }
}
