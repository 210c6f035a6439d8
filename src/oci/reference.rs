//! References to images in registries: `registry/repository:tag@digest`.
//!
//! Source: distribution `reference`; go-containerregistry `pkg/name`, whose
//! defaults SingularityCE uses.

use super::manifest::parse_digest;
use crate::digest::Digest;
use std::fmt;

/// Registry of names without one.
pub const DEFAULT_REGISTRY: &str = "index.docker.io";
/// Tag of references without tag and digest.
pub const DEFAULT_TAG: &str = "latest";

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Host of the registry, with port if one is given.
    pub registry: String,
    /// Repository, path elements joined by `/`.
    pub repository: String,
    /// The tag; `None` only with a digest.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

/// Why a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not parse reference: {text}: {reason}")]
pub struct Error {
    /// The reference.
    pub text: String,
    /// The fault.
    pub reason: &'static str,
}

impl Reference {
    /// Parses a reference without scheme.
    ///
    /// The first element names the registry if it has a dot or a colon or is
    /// `localhost`; a repository of one element in Docker's own registry is in
    /// `library/`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail = |reason| Error {
            text: text.to_owned(),
            reason,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = parse_digest(digest).map_err(|_| fail("malformed digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at.saturating_add(1));
        let colon = rest.get(last..).and_then(|name| name.rfind(':'));
        let (name, tag) = match colon {
            // A colon in the only element of a name stands before its tag.
            Some(at) => {
                let (name, tag) = rest.split_at(last.saturating_add(at));
                (name, tag.strip_prefix(':'))
            }
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "a tag has 1 to 128 letters, digits, '_', '-' and '.', and begins with none of the last two",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        let registry = match registry {
            "docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        if !is_host(registry) {
            return Err(fail("malformed registry"));
        }
        let repository = match path.contains('/') || registry != DEFAULT_REGISTRY {
            true => path.to_owned(),
            false => format!("library/{path}"),
        };
        if !is_repository(&repository) {
            return Err(fail(
                "a repository has 2 to 255 lower-case letters, digits, '_', '-', '.' and '/'",
            ));
        }
        let tag = match (&digest, tag) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (_, tag) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// What names the manifest in a request: the digest if there is one.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

fn is_host(registry: &str) -> bool {
    let host = registry
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    let port = match registry.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    host && port && !registry.starts_with([':', '-'])
}

fn is_repository(path: &str) -> bool {
    let element = |element: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !element.is_empty()
            && element
                .bytes()
                .all(|b| inner(b) || matches!(b, b'_' | b'-' | b'.'))
            && element.bytes().next().is_some_and(inner)
            && element.bytes().next_back().is_some_and(inner)
            && !element.contains("..")
    };
    (2..=255).contains(&path.len()) && path.split('/').all(element)
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['-', '.'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_docker() {
        let whole = |text: &str| Reference::parse(text).unwrap().to_string();
        assert_eq!(whole("alpine"), "index.docker.io/library/alpine:latest");
        assert_eq!(whole("alpine:3"), "index.docker.io/library/alpine:3");
        assert_eq!(whole("user/img"), "index.docker.io/user/img:latest");
        assert_eq!(
            whole("docker.io/alpine"),
            "index.docker.io/library/alpine:latest"
        );
        assert_eq!(whole("127.0.0.1:5000/img:1"), "127.0.0.1:5000/img:1");
        assert_eq!(whole("localhost/img"), "localhost/img:latest");
        assert_eq!(whole("[::1]:5000/a/b"), "[::1]:5000/a/b:latest");
        assert_eq!(whole("[::1]/a/b"), "[::1]/a/b:latest");
        let digest = format!("sha256:{}", "ab".repeat(32));
        let named = Reference::parse(&format!("r.example.org/a@{digest}"));
        // A repository of one letter is too short.
        assert!(named.is_err());
        let named = Reference::parse(&format!("r.example.org/app:1@{digest}")).unwrap();
        assert_eq!(
            (named.tag.as_deref(), named.identifier()),
            (Some("1"), digest.clone())
        );
        let named = Reference::parse(&format!("r.example.org/app@{digest}")).unwrap();
        assert_eq!(named.tag, None);
    }

    #[test]
    fn what_could_leave_its_place_is_refused() {
        for bad in [
            "",
            "/",
            "a/../b",
            "r.example.org/../x",
            "r.example.org/x?y",
            "r.example.org/x y",
            "UPPER",
            "user@host/x",
            "img:",
            "img:-x",
            "img:a/b:",
            "r.example.org:99999/img",
            "img@sha256:AB",
            "r.example.org//img",
            "r.example.org/img\n",
            "http://x/y",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
