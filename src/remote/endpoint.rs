//! What an endpoint offers, and which key servers are asked with what.
//!
//! Source: spec/cli.md 5.5 and 6.5.

use super::Secret;
use super::address::same_keyserver;
use super::config::{APPTAINER_URI, BUILT_IN_URI, Credential, Endpoint, Keyserver};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Path of the discovery document below an endpoint's address.
pub const DISCOVERY_PATH: &str = "/assets/config/config.prod.json";
/// Largest discovery document, in bytes.
pub const MAX_DISCOVERY: u64 = 1 << 20;
/// Most services in it; each may be asked.
pub const MAX_SERVICES: usize = 64;
/// Key server of the endpoint that exists without any file.
pub const BUILT_IN_KEYSERVER: &str = "https://keys.sylabs.io";
/// The key server of Apptainer's.
pub const APPTAINER_KEYSERVER: &str = "https://keys.openpgp.org";
/// Its library.
pub const BUILT_IN_LIBRARY: &str = "https://library.sylabs.io";

/// Member of a stored discovery document that says whose it is.
///
/// The originals skip members without an address, so they can read the file.
const CACHED_FOR: &str = "cachedFor";

/// The services of an endpoint by name, as `keyserver` or `library`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<String, Service>);

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub uri: String,
    /// The registry behind a library.
    pub registry: Option<String>,
}

/// What a stored discovery document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The services.
    pub services: Services,
    /// The administrator put it there; else it is the endpoint's answer.
    pub is_placed: bool,
}

/// One key server to ask.
#[derive(Clone, PartialEq)]
pub struct Server {
    /// Its address, as configured.
    pub uri: String,
    /// Value of the `Authorization` header.
    pub authorization: Option<Secret>,
    /// Its certificate is not checked.
    pub insecure: bool,
}

/// How many key servers an operation asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The first one: search, pull, push.
    Primary,
    /// One after the other: verify.
    All,
}

/// Why no service can be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An endpoint without an address.
    #[error("no URI set for endpoint")]
    NoUri,
    /// The discovery document is no JSON object of objects.
    #[error("jsonresp: failed to unmarshal response: {0}")]
    Discovery(String),
    /// More than [`MAX_SERVICES`].
    #[error("endpoint names more than {MAX_SERVICES} services")]
    TooMany,
    /// The endpoint does not offer the service.
    #[error("{0} is not a service at endpoint")]
    NotOffered(&'static str),
    /// The endpoint does not say where the service is.
    #[error("{0} service at endpoint failed to provide URI in response")]
    NoAddress(&'static str),
    /// Every key server is skipped.
    #[error("no primary keyserver configured")]
    NoKeyserver,
    /// Another server than the administrator allows.
    #[error("endpoint is set as exclusive by the system administrator: only {:?} can be used", allowed.join(", "))]
    Exclusive {
        /// What is allowed.
        allowed: Vec<String>,
    },
}

impl Services {
    /// Reads a discovery document.
    ///
    /// # Errors
    /// [`Error::Discovery`], [`Error::TooMany`].
    pub fn parse(document: &[u8]) -> Result<Self, Error> {
        let members: BTreeMap<String, Map<String, Value>> = serde_json::from_slice(document)
            // It quotes the document.
            .map_err(|error| Error::Discovery(error.to_string().chars().take(200).collect()))?;
        if members.len() > MAX_SERVICES {
            return Err(Error::TooMany);
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let services = members.iter().filter_map(|(key, member)| {
            let name = match key.strip_suffix("API").unwrap_or(key) {
                "keystore" => "keyserver",
                other => other,
            };
            let registry = text(member.get("registryUri")).filter(|_| name == "library");
            let uri = text(member.get("uri"))?;
            Some((name.to_owned(), Service { uri, registry }))
        });
        Ok(Self(services.collect()))
    }

    /// What is known of the public endpoints without asking them: where keys
    /// and images are.
    pub fn built_in(uri: &str) -> Option<Self> {
        let list: &[(&str, &str)] = match uri {
            BUILT_IN_URI => &[
                ("keyserver", BUILT_IN_KEYSERVER),
                ("library", BUILT_IN_LIBRARY),
            ],
            APPTAINER_URI => &[("keyserver", APPTAINER_KEYSERVER)],
            _ => return None,
        };
        let service = |uri: &str| Service {
            uri: uri.to_owned(),
            registry: None,
        };
        let list = list.iter();
        Some(Self(
            list.map(|(name, uri)| ((*name).to_owned(), service(uri)))
                .collect(),
        ))
    }

    /// Address of a service, without a slash at the end.
    ///
    /// # Errors
    /// It is not offered, or has no address.
    pub fn uri(&self, name: &'static str) -> Result<&str, Error> {
        match self.0.get(name) {
            None => Err(Error::NotOffered(name)),
            Some(service) if service.uri.is_empty() => Err(Error::NoAddress(name)),
            Some(service) => Ok(service.uri.trim_end_matches('/')),
        }
    }

    /// All services in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Service)> {
        self.0
            .iter()
            .map(|(name, service)| (name.as_str(), service))
    }
}

/// A discovery document as it is stored for later.
///
/// # Errors
/// [`Error::Discovery`].
pub fn to_cache(document: &[u8], url: &str) -> Result<Vec<u8>, Error> {
    let fail = |error: serde_json::Error| Error::Discovery(error.to_string());
    let mut members: Map<String, Value> = serde_json::from_slice(document).map_err(fail)?;
    let owner = Map::from_iter([("url".to_owned(), Value::from(url))]);
    members.insert(CACHED_FOR.to_owned(), Value::Object(owner));
    serde_json::to_vec(&members).map_err(fail)
}

/// Reads a stored discovery document; none if it is unusable or another
/// endpoint's, whose address gives the same file name.
///
/// A document without a note of its endpoint was put there by the administrator.
pub fn from_cache(document: &[u8], url: &str) -> Option<Stored> {
    let members: Map<String, Value> = serde_json::from_slice(document).ok()?;
    let owner = members.get(CACHED_FOR).and_then(|member| member.get("url"));
    if owner.is_some_and(|owner| owner.as_str() != Some(url)) {
        return None;
    }
    Some(Stored {
        services: Services::parse(document).ok()?,
        is_placed: owner.is_none(),
    })
}

/// File name of a stored discovery document: `https-cloud-sylabs-io.json`.
pub fn cache_name(url: &str) -> String {
    let mut slug = String::new();
    for c in url.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    format!("{}.json", slug.trim_matches(['-', '_']))
}

impl Endpoint {
    /// Address with scheme.
    ///
    /// # Errors
    /// [`Error::NoUri`].
    pub fn url(&self) -> Result<String, Error> {
        if self.uri.is_empty() {
            return Err(Error::NoUri);
        }
        let scheme = if self.insecure { "http" } else { "https" };
        Ok(format!("{scheme}://{}", self.uri))
    }

    /// Whether the key servers are known only after discovery.
    ///
    /// An address on the command line needs none, unless the administrator
    /// allows the configured servers only.
    pub fn needs_discovery(&self, url: Option<&str>) -> bool {
        self.keyservers.is_empty() && (url.is_none() || self.exclusive)
    }

    /// The key servers to ask, in order.
    ///
    /// `url` is the address on the command line: it alone is asked, without
    /// stored credentials. A list that was empty has to be filled before.
    ///
    /// # Errors
    /// No server, or one that the administrator does not allow.
    pub fn key_servers(
        &self,
        credentials: &[Credential],
        url: Option<&str>,
        asked: Asked,
    ) -> Result<Vec<Server>, Error> {
        let configured = || self.keyservers.iter().filter(|k| !k.skip);
        let server = |keyserver: &Keyserver| self.server(keyserver, credentials);
        match url {
            Some(url) if self.exclusive => {
                match configured().find(|k| same_keyserver(&k.uri, url)) {
                    Some(allowed) => Ok(vec![server(allowed)]),
                    None => Err(Error::Exclusive {
                        allowed: configured().map(|k| k.uri.clone()).collect(),
                    }),
                }
            }
            Some(url) => Ok(vec![Server {
                uri: url.to_owned(),
                authorization: None,
                insecure: false,
            }]),
            None => {
                let count = match asked {
                    Asked::Primary => 1,
                    Asked::All => usize::MAX,
                };
                let servers: Vec<Server> = configured().take(count).map(server).collect();
                if servers.is_empty() {
                    return Err(Error::NoKeyserver);
                }
                Ok(servers)
            }
        }
    }

    /// The endpoint's token is for its own server only.
    fn server(&self, keyserver: &Keyserver, credentials: &[Credential]) -> Server {
        let authorization = if keyserver.external {
            credentials
                .iter()
                .find(|login| same_keyserver(&login.uri, &keyserver.uri))
                .map(|login| login.auth.clone())
                .filter(|auth| !auth.is_empty())
        } else {
            self.token.bearer()
        };
        Server {
            uri: keyserver.uri.clone(),
            authorization,
            insecure: keyserver.insecure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::config::Config;

    fn config() -> Config {
        Config::parse(
            b"Active: a\nRemotes:\n  a:\n    URI: h\n    Token: t\n    Keyservers:\n    - {URI: 'http://skipped', Skip: true}\n    - {URI: 'hkp://ext', External: true, Insecure: true}\n    - {URI: 'https://own'}\n    - {URI: 'https://open', External: true}\nCredentials:\n- {URI: 'http://ext:11371', Auth: Basic eA==}\n- {URI: 'https://own', Auth: Bearer wrong}\n",
        )
        .ok()
        .unwrap()
    }

    fn ask(config: &Config, url: Option<&str>, asked: Asked) -> Result<Vec<String>, String> {
        config.remotes["a"]
            .key_servers(&config.credentials, url, asked)
            .map(|servers| {
                servers
                    .iter()
                    .map(|s| {
                        let auth = s.authorization.as_ref().map_or("-", Secret::expose);
                        format!("{} {auth} {}", s.uri, s.insecure)
                    })
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_server_gets_its_own_credential() {
        let config = config();
        assert_eq!(
            ask(&config, None, Asked::All).unwrap(),
            [
                "hkp://ext Basic eA== true",
                "https://own Bearer t false",
                "https://open - false"
            ]
        );
        assert_eq!(
            ask(&config, None, Asked::Primary).unwrap(),
            ["hkp://ext Basic eA== true"]
        );
        assert_eq!(
            ask(&config, Some("https://own"), Asked::All).unwrap(),
            ["https://own - false"]
        );
    }

    #[test]
    fn an_empty_token_is_no_credential() {
        let mut config = config();
        config.remotes.get_mut("a").unwrap().token = Secret::default();
        assert_eq!(
            ask(&config, None, Asked::All).unwrap()[1],
            "https://own - false"
        );
    }

    #[test]
    fn an_exclusive_endpoint_allows_its_servers_only() {
        let mut config = config();
        config.remotes.get_mut("a").unwrap().exclusive = true;
        assert_eq!(
            ask(&config, Some("http://x"), Asked::All).unwrap_err(),
            "endpoint is set as exclusive by the system administrator: only \"hkp://ext, https://own, https://open\" can be used"
        );
        assert!(ask(&config, Some("http://skipped"), Asked::All).is_err());
        assert_eq!(
            ask(&config, Some("http://ext:11371"), Asked::All).unwrap(),
            ["hkp://ext Basic eA== true"]
        );
    }

    #[test]
    fn discovery_names_services() {
        let services = Services::parse(
            br#"{"keystoreAPI":{"uri":"https://k/"},"libraryAPI":{"uri":"https://l","registryUri":"https://r"},"tokenAPI":{"uri":""},"x":{"uri":3},"z":{}}"#,
        )
        .unwrap();
        assert_eq!(services.uri("keyserver"), Ok("https://k"));
        assert_eq!(services.iter().count(), 3);
        assert_eq!(
            services.uri("token").unwrap_err().to_string(),
            "token service at endpoint failed to provide URI in response"
        );
        assert_eq!(
            services.uri("builder").unwrap_err().to_string(),
            "builder is not a service at endpoint"
        );
        for bad in ["", "[]", "{\"a\":1}", "<html>"] {
            let error = Services::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("jsonresp: failed to unmarshal response: "));
        }
        assert_eq!(Services::built_in("lab"), None);
    }

    #[test]
    fn a_stored_document_serves_its_endpoint_only() {
        assert_eq!(
            cache_name("https://cloud.sylabs.io"),
            "https-cloud-sylabs-io.json"
        );
        assert_eq!(cache_name("http://H:8443/a_b/"), "http-h-8443-a_b.json");
        let document = br#"{"tokenAPI":{"uri":"https://t"}}"#;
        let stored = to_cache(document, "https://a.b").unwrap();
        let known = Services::parse(document).unwrap();
        let read = |is_placed| {
            let services = known.clone();
            Some(Stored {
                services,
                is_placed,
            })
        };
        assert_eq!(from_cache(&stored, "https://a.b"), read(false));
        assert_eq!(from_cache(&stored, "https://a-b"), None);
        assert_eq!(from_cache(document, "https://a-b"), read(true));
        assert_eq!(from_cache(b"", "https://a-b"), None);
    }
}
