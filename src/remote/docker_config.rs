//! The registry logins in the format of the Docker command line.
//!
//! Source: spec/cli.md 6.2.

use super::Secret;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Largest file, in bytes.
pub const MAX_SIZE: u64 = 4 << 20;

/// The name under which Docker keeps the login to its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Content of `docker-config.json`; unknown members are kept.
#[derive(Default)]
pub struct DockerConfig {
    auths: Map<String, Value>,
    other: Map<String, Value>,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No JSON object, at a place in the file.
    #[error("invalid character or structure at line {line} column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1; 0 at the end of a line.
        column: usize,
    },
    /// `auths` is something else.
    #[error("auths is not an object")]
    Auths,
}

/// The name under which the login to a registry is kept.
pub fn auth_key(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// The names under which a login to a repository may be kept, best first.
///
/// Docker writes the registry alone; others also what it is a part of, or an address.
pub fn auth_keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{registry}/{repository}");
    while let Some((folder, _)) = path.rsplit_once('/') {
        keys.push(path.clone());
        path = folder.to_owned();
    }
    let plain = auth_key(registry);
    keys.push(plain.to_owned());
    if plain != registry {
        keys.extend(["docker.io", "index.docker.io"].map(str::to_owned));
    }
    for end in ["", "/", "/v1/", "/v2/"] {
        keys.push(format!("https://{registry}{end}"));
    }
    keys
}

impl DockerConfig {
    /// Reads a file; an empty one has no logins.
    ///
    /// # Errors
    /// As [`Error`] says, without any of the file's content.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut other: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| Error::Json {
                line: error.line(),
                column: error.column(),
            })?;
        let auths = match other.remove("auths") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(auths)) => auths,
            Some(_) => return Err(Error::Auths),
        };
        Ok(Self { auths, other })
    }

    /// The text of the file: one tab per level, no line feed at the end.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut members = self.other.clone();
        members.insert("auths".to_owned(), Value::Object(self.auths.clone()));
        // Twice: growing would leave copies of passwords behind.
        let room = serde_json::to_vec(&members).map_or(0, |text| Zeroizing::new(text).len());
        let mut out = Zeroizing::new(Vec::with_capacity(room.saturating_mul(4)));
        let formatter = PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut *out, formatter);
        // Values in memory and a writer in memory: nothing can fail.
        let _ = members.serialize(&mut writer);
        out
    }

    /// The program that keeps the login instead of the file.
    pub fn helper(&self, key: &str) -> Option<&str> {
        let own = self.other.get("credHelpers").and_then(|list| list.get(key));
        own.or_else(|| self.other.get("credsStore"))
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Whether there is a login to a registry.
    pub fn contains(&self, key: &str) -> bool {
        self.auths.contains_key(key)
    }

    /// User and password of a login that is kept in the file.
    pub fn login(&self, key: &str) -> Option<(String, Secret)> {
        use base64::Engine;
        let entry = self.auths.get(key)?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if let Some(auth) = text("auth").filter(|auth| !auth.is_empty()) {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(auth)
                .ok()?;
            let pair = Zeroizing::new(String::from_utf8(bytes).ok()?);
            let (user, password) = pair.split_once(':')?;
            // Docker pads short pairs with zero bytes.
            let password = password.trim_matches('\0');
            return Some((user.to_owned(), Secret::new(password)));
        }
        Some((text("username")?.to_owned(), Secret::new(text("password")?)))
    }

    /// A token that is kept in the file instead of a login: one that the token service changes for
    /// others, and one for the registry itself.
    pub fn tokens(&self, key: &str) -> (Option<Secret>, Option<Secret>) {
        let text = |name: &str| {
            let text = self.auths.get(key)?.get(name)?.as_str()?;
            (!text.is_empty()).then(|| Secret::new(text))
        };
        (text("identitytoken"), text("registrytoken"))
    }

    /// Stores a login in the file.
    pub fn store(&mut self, key: &str, user: &str, password: &Secret) {
        let pair = Secret::pair(user, password);
        self.auths
            .insert(key.to_owned(), json!({"auth": pair.expose()}));
    }

    /// Notes that a helper keeps the login.
    pub fn store_elsewhere(&mut self, key: &str) {
        self.auths.insert(key.to_owned(), json!({}));
    }

    /// Removes a login.
    pub fn remove(&mut self, key: &str) {
        self.auths.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(config: &DockerConfig) -> String {
        String::from_utf8(config.to_json().to_vec()).unwrap()
    }

    #[test]
    fn the_text_is_that_of_docker() {
        let mut config = DockerConfig::parse(b"{}").unwrap();
        config.store("registry.lab.test", "joe", &Secret::new("pw"));
        assert_eq!(
            text(&config),
            "{\n\t\"auths\": {\n\t\t\"registry.lab.test\": {\n\t\t\t\"auth\": \"am9lOnB3\"\n\t\t}\n\t}\n}"
        );
        let (user, password) = config.login("registry.lab.test").unwrap();
        assert_eq!((user.as_str(), password.expose()), ("joe", "pw"));
        config.remove("registry.lab.test");
        assert!(!config.contains("registry.lab.test"));
        assert_eq!(text(&config), "{\n\t\"auths\": {}\n}");
    }

    #[test]
    fn unknown_members_survive() {
        let before = br#"{"auths":{"a":{"auth":"eDp5","email":"m"}},"HttpHeaders":{"x":[1]},"credsStore":"pass","credHelpers":{"b":"gcr"}}"#;
        let mut config = DockerConfig::parse(before).unwrap();
        assert_eq!(config.helper("a"), Some("pass"));
        assert_eq!(config.helper("b"), Some("gcr"));
        config.store_elsewhere("b");
        let after = text(&config);
        for kept in [
            "\"email\": \"m\"",
            "\"HttpHeaders\"",
            "\"credsStore\": \"pass\"",
            "\"b\": {}",
        ] {
            assert!(after.contains(kept), "{after}");
        }
    }

    #[test]
    fn the_docker_hub_has_a_name_of_its_own() {
        assert_eq!(auth_key("docker.io"), "https://index.docker.io/v1/");
        assert_eq!(auth_key("index.docker.io"), "https://index.docker.io/v1/");
        assert_eq!(auth_key("ghcr.io"), "ghcr.io");
    }

    #[test]
    fn a_login_is_found_under_every_name_in_use() {
        assert_eq!(
            auth_keys("r.test", "a/b"),
            [
                "r.test/a/b",
                "r.test/a",
                "r.test",
                "https://r.test",
                "https://r.test/",
                "https://r.test/v1/",
                "https://r.test/v2/"
            ]
        );
        assert!(auth_keys("index.docker.io", "library/x").contains(&DOCKER_HUB.to_owned()));
        let config = br#"{"auths":{"a":{"identitytoken":"i"},"b":{"registrytoken":"r"},"c":{}}}"#;
        let config = DockerConfig::parse(config).unwrap();
        let told = |key| {
            let (identity, registry) = config.tokens(key);
            [identity, registry].map(|token| token.map(|token| token.expose().to_owned()))
        };
        assert_eq!(told("a"), [Some("i".to_owned()), None]);
        assert_eq!(told("b"), [None, Some("r".to_owned())]);
        assert_eq!(told("c"), [None, None]);
    }

    #[test]
    fn a_fault_tells_nothing_of_the_content() {
        for bad in [
            &b"{\"auths\": \"hunter2\"}"[..],
            b"hunter2",
            b"[1]",
            b"{\"auths\"",
        ] {
            let error = DockerConfig::parse(bad).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(DockerConfig::parse(b" \n").is_ok());
        assert!(
            !DockerConfig::parse(b"{\"auths\":null}")
                .unwrap()
                .contains("a")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes: Vec<u8>) {
            let _ = DockerConfig::parse(&bytes);
        }
    }

    #[test]
    fn numbers_of_others_keep_every_digit() {
        // The nearest float and its neighbour; the fuzzer found that they were mixed up.
        let text = "{\n\t\"auths\": {},\n\t\"n\": 1.7333333333333333e+84\n}";
        let config = DockerConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(&*config.to_json(), text.as_bytes());
    }
}
