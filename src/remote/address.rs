//! Addresses of servers, split as Go's `net/url` does.
//!
//! The textual form decides what is "the same" server, so nothing is
//! normalised here: `https://h` and `https://h:443` differ.
//! Source: spec/cli.md 5.1.

use std::fmt;

/// Default port of `hkp://`.
const HKP_PORT: &str = "11371";

/// An absolute or relative address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Lower case, without `://`; empty if there is none.
    pub scheme: String,
    /// User and password before the `@`, as written.
    pub user: Option<String>,
    /// Host with port, as written.
    pub host: String,
    /// From the first slash on, without query and fragment.
    pub path: String,
    /// What follows `scheme:` if that is no `//`.
    pub opaque: String,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be split.
    #[error("parse {text:?}: {fault}")]
    Malformed {
        /// The address, without user and password.
        text: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A key server of a kind that nobody speaks.
    #[error("unsupported keyserver protocol scheme {0:?}")]
    KeyserverScheme(String),
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Below blank, or DEL.
    #[error("net/url: invalid control character in URL")]
    Control,
    /// Begins with a colon.
    #[error("missing protocol scheme")]
    NoScheme,
    /// `127.0.0.1:80`.
    #[error("first path segment in URL cannot contain colon")]
    Colon,
    /// A character that no host name has.
    #[error("invalid character {0:?} in host name")]
    HostCharacter(String),
    /// A character in front of the `@` that has to be written as `%` and digits there.
    #[error("net/url: invalid userinfo")]
    User,
    /// A port that is no number.
    #[error("invalid port {0:?} after host")]
    Port(String),
}

impl Address {
    /// Splits an address.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail = |fault| Error::Malformed {
            // A password may stand in front of the host.
            text: without_user(text),
            fault,
        };
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(fail(Fault::Control));
        }
        let rest = text.split(['#', '?']).next().unwrap_or_default();
        if rest.starts_with(':') {
            return Err(fail(Fault::NoScheme));
        }
        let (scheme, rest) = split_scheme(rest);
        let scheme = scheme.to_ascii_lowercase();
        let Some(authority) = rest.strip_prefix("//") else {
            let first = rest.split('/').next().unwrap_or_default();
            if scheme.is_empty() && first.contains(':') {
                return Err(fail(Fault::Colon));
            }
            let is_path = scheme.is_empty() || rest.starts_with('/');
            return Ok(Self {
                path: if is_path { rest } else { "" }.to_owned(),
                opaque: if is_path { "" } else { rest }.to_owned(),
                scheme,
                ..Self::default()
            });
        };
        let (authority, path) = match authority.find('/') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        check_user(user.as_deref().unwrap_or_default()).map_err(fail)?;
        check_host(host).map_err(fail)?;
        Ok(Self {
            scheme,
            user,
            host: host.to_owned(),
            path: path.to_owned(),
            opaque: String::new(),
        })
    }

    /// Splits the address of a key server; `hkp` and `hkps` become what they are.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn keyserver(text: &str) -> Result<Self, Error> {
        let mut this = Self::parse(text)?;
        match this.scheme.as_str() {
            "http" | "https" => {}
            "hkp" => {
                this.scheme = "http".to_owned();
                if this.port().is_none() {
                    let host = this.host.trim_end_matches(':');
                    this.host = format!("{host}:{HKP_PORT}");
                }
            }
            "hkps" => this.scheme = "https".to_owned(),
            _ => return Err(Error::KeyserverScheme(this.scheme)),
        }
        Ok(this)
    }

    /// Port behind the host, if one is written.
    pub fn port(&self) -> Option<&str> {
        let tail = match self.host.rsplit_once(']') {
            Some((_, tail)) => tail,
            None => &self.host,
        };
        let (_, port) = tail.rsplit_once(':')?;
        (!port.is_empty()).then_some(port)
    }

    /// Host without port and brackets.
    pub fn host_name(&self) -> &str {
        if let Some(inner) = self.host.strip_prefix('[') {
            return inner.split(']').next().unwrap_or_default();
        }
        self.host.split(':').next().unwrap_or_default()
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let name = self.host_name();
        name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<core::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }

    fn same(&self, other: &Self) -> bool {
        !self.host.is_empty() && self.host == other.host && self.scheme == other.scheme
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}:", self.scheme)?;
        }
        if !self.host.is_empty() {
            f.write_str("//")?;
            if let Some(user) = &self.user {
                write!(f, "{user}@")?;
            }
        }
        write!(f, "{}{}{}", self.host, self.path, self.opaque)
    }
}

/// Whether two addresses name the same key server.
pub fn same_keyserver(one: &str, other: &str) -> bool {
    match (Address::keyserver(one), Address::keyserver(other)) {
        (Ok(one), Ok(other)) => one.same(&other),
        _ => false,
    }
}

/// Whether two addresses name the same service: scheme, host and port.
pub fn same_service(one: &str, other: &str) -> bool {
    match (Address::parse(one), Address::parse(other)) {
        (Ok(one), Ok(other)) => one.same(&other),
        _ => false,
    }
}

/// An address without user and password; what it leads to is for whoever reads it then.
pub fn without_user(text: &str) -> String {
    let (front, rest) = match text.split_once("//") {
        Some((front, rest)) => (format!("{front}//"), rest),
        None => (String::new(), text),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{front}{host}{tail}")
}

fn split_scheme(text: &str) -> (&str, &str) {
    let Some((scheme, rest)) = text.split_once(':') else {
        return ("", text);
    };
    let mut chars = scheme.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let follows = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if starts && follows {
        (scheme, rest)
    } else {
        ("", text)
    }
}

/// Source: Go's `net/url`, `validUserinfo`.
fn check_user(user: &str) -> Result<(), Fault> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    match user.chars().all(is_plain) {
        true => Ok(()),
        false => Err(Fault::User),
    }
}

fn check_host(host: &str) -> Result<(), Fault> {
    let strange = |c: &char| " \"<>\\^`{|}".contains(*c);
    if let Some(c) = host.chars().find(strange) {
        return Err(Fault::HostCharacter(c.to_string()));
    }
    let tail = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']').map_or("", |(_, tail)| tail),
        None => host.find(':').map_or("", |at| host.split_at(at).1),
    };
    let digits = tail.strip_prefix(':').unwrap_or(tail);
    let fits = digits.is_empty() || digits.parse::<u16>().is_ok();
    if (tail.is_empty() || tail.starts_with(':')) && fits && !digits.starts_with('+') {
        Ok(())
    } else {
        Err(Fault::Port(tail.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_server_is_a_matter_of_text() {
        for (one, other, same) in [
            ("hkp://localhost", "http://localhost:11371", true),
            ("hkps://h", "https://h", true),
            ("https://h/keys", "https://h", true),
            ("https://h", "https://h:443", false),
            ("http://h", "https://h", false),
            ("ftp://h", "ftp://h", false),
            ("hkp://[::1]", "http://[::1]:11371", true),
            ("h", "h", false),
            ("https://u:p%20@h", "https://h", true),
            ("https://evil\\@good", "https://good", false),
        ] {
            assert_eq!(same_keyserver(one, other), same, "{one} {other}");
        }
        assert!(same_service("docker://h", "docker://h/path"));
        assert!(!same_service("docker://h", "oras://h"));
    }

    #[test]
    fn faults_read_as_in_the_originals() {
        for (text, sentence) in [
            (
                "127.0.0.1:80",
                "parse \"127.0.0.1:80\": first path segment in URL cannot contain colon",
            ),
            (":x", "parse \":x\": missing protocol scheme"),
            (
                "http://h:x",
                "parse \"http://h:x\": invalid port \":x\" after host",
            ),
            (
                "http://a b",
                "parse \"http://a b\": invalid character \" \" in host name",
            ),
            (
                "https://evil\\@good",
                "parse \"https://good\": net/url: invalid userinfo",
            ),
            (
                "https://u x@good",
                "parse \"https://good\": net/url: invalid userinfo",
            ),
            (
                "http://a\u{1}",
                "parse \"http://a\\u{1}\": net/url: invalid control character in URL",
            ),
        ] {
            assert_eq!(Address::parse(text).unwrap_err().to_string(), sentence);
        }
        assert_eq!(
            Address::keyserver("ftp://x").unwrap_err().to_string(),
            "unsupported keyserver protocol scheme \"ftp\""
        );
    }

    #[test]
    fn user_and_password_can_be_left_out() {
        for (text, bare) in [
            ("https://u:p@h:1/a@b?c@d", "https://h:1/a@b?c@d"),
            ("docker://u:p@x@h", "docker://h"),
            ("https://e\\@h", "https://h"),
            ("u:p@h/x", "h/x"),
            ("https://h/x", "https://h/x"),
            ("h", "h"),
            ("", ""),
        ] {
            assert_eq!(without_user(text), bare);
        }
    }

    #[test]
    fn parts_and_text_agree() {
        let address = Address::parse("HTTPS://u:p@Host:8443/a/b?c#d").unwrap();
        assert_eq!(address.to_string(), "https://u:p@Host:8443/a/b");
        assert_eq!(address.host, "Host:8443");
        assert_eq!(address.port(), Some("8443"));
        assert_eq!(Address::parse("host:80").unwrap().opaque, "80");
        assert!(Address::parse("http://127.0.0.1:1").unwrap().is_loopback());
        assert!(Address::parse("http://[::1]").unwrap().is_loopback());
        assert!(
            !Address::parse("http://localhost.evil")
                .unwrap()
                .is_loopback()
        );
    }
}
