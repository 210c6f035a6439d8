//! The model of `remote.yaml`: which endpoints there are and which is in use.
//!
//! Unknown keys of a file are kept and written back, but none are added: the
//! originals refuse files with keys that they do not know.
//! Source: spec/cli.md 6.1, 6.3, 6.4 and 6.8.

use super::address::{Address, same_keyserver, same_service};
use super::{Secret, yaml};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Largest `remote.yaml`, in bytes.
pub const MAX_SIZE: u64 = 1 << 20;

/// Name of the endpoint that exists without any file.
pub const BUILT_IN_NAME: &str = "SylabsCloud";
/// Its address.
pub const BUILT_IN_URI: &str = "cloud.sylabs.io";
/// That of Apptainer's, which has no discovery document.
pub const APPTAINER_URI: &str = "cloud.apptainer.org";

/// One step of indentation.
const STEP: &str = "    ";

/// Whose file a configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user's.
    User,
    /// The administrator's, for all users.
    System,
}

/// Content of `remote.yaml`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Name of the endpoint in use; empty if there is none.
    #[serde(rename = "Active", deserialize_with = "or_default")]
    pub active: String,
    /// Endpoints by name.
    #[serde(rename = "Remotes", deserialize_with = "endpoints")]
    pub remotes: BTreeMap<String, Endpoint>,
    /// Logins to key servers and registries.
    #[serde(rename = "Credentials", deserialize_with = "or_default")]
    pub credentials: Vec<Credential>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// One group of services.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Host and path, without scheme.
    #[serde(rename = "URI", deserialize_with = "or_default")]
    pub uri: String,
    /// Access token; empty if logged out.
    #[serde(rename = "Token", deserialize_with = "secret")]
    pub token: Secret,
    /// Comes from the administrator's file.
    #[serde(rename = "System", deserialize_with = "or_default")]
    pub system: bool,
    /// Nothing else may be used.
    #[serde(rename = "Exclusive", deserialize_with = "or_default")]
    pub exclusive: bool,
    /// Asked by plain http.
    #[serde(rename = "Insecure", deserialize_with = "or_default")]
    pub insecure: bool,
    /// Key servers in order; empty: the one that discovery finds.
    #[serde(rename = "Keyservers", deserialize_with = "or_default")]
    pub keyservers: Vec<Keyserver>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// One key server of an endpoint.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Keyserver {
    /// `http`, `https`, `hkp` or `hkps` address.
    #[serde(rename = "URI", deserialize_with = "or_default")]
    pub uri: String,
    /// Not asked.
    #[serde(rename = "Skip", deserialize_with = "or_default")]
    pub skip: bool,
    /// Not the endpoint's own one: its token is not for it.
    #[serde(rename = "External", deserialize_with = "or_default")]
    pub external: bool,
    /// Its certificate is not checked.
    #[serde(rename = "Insecure", deserialize_with = "or_default")]
    pub insecure: bool,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// One login.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Credential {
    /// Address that was logged in to.
    #[serde(rename = "URI", deserialize_with = "or_default")]
    pub uri: String,
    /// Value of the `Authorization` header; empty for registries.
    #[serde(rename = "Auth", deserialize_with = "secret")]
    pub auth: Secret,
    /// The certificate was not checked.
    #[serde(rename = "Insecure", deserialize_with = "or_default")]
    pub insecure: bool,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// Why a configuration cannot be read or changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No YAML of this form.
    #[error("failed to decode YAML data from io.Reader: {0}")]
    Yaml(String),
    /// A blank name.
    #[error("invalid name: cannot have empty name")]
    EmptyName,
    /// A blank address.
    #[error("invalid URI: cannot have empty URI")]
    EmptyUri,
    /// An address that cannot be split.
    #[error(transparent)]
    Address(#[from] super::address::Error),
    /// The name is taken.
    #[error("{0} is already a remote")]
    Taken(String),
    /// The name is unknown.
    #[error("{0} is not a remote")]
    Unknown(String),
    /// The user wants to remove what the administrator gave.
    #[error("{0} is global and can't be removed")]
    Global(String),
    /// The user's own endpoint has the name of one of the administrator's.
    #[error("name collision while syncing: {0}")]
    Collision(String),
    /// Nothing is in use.
    #[error("no default remote")]
    NoDefault,
    /// Only the administrator's file can say so.
    #[error("exclusive can't be set by user")]
    ExclusiveByUser,
    /// The administrator allows one endpoint only.
    #[error(
        "could not use {wanted}: remote {exclusive} has been set exclusive by the system administrator"
    )]
    Exclusive {
        /// What was asked for.
        wanted: String,
        /// What is allowed.
        exclusive: String,
    },
    /// A place that would leave a gap.
    #[error("order is out of range: maximum is {0}")]
    Order(usize),
    /// A key server that is in the list.
    #[error("{0} is already configured")]
    KeyserverTaken(String),
    /// A key server that is not in the list.
    #[error("keyserver {0} is not configured")]
    KeyserverUnknown(String),
    /// One key server has to stay.
    #[error("the primary keyserver {0} can't be removed")]
    LastKeyserver(String),
    /// A login to something that the administrator did not list.
    #[error("no external keyserver configuration found for {0}")]
    NoExternal(String),
}

impl Config {
    /// Reads a file; an empty one is an empty configuration.
    ///
    /// # Errors
    /// [`Error::Yaml`], without any of the file's content.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        // Small files only, nothing that grows by aliases; no snippet in the
        // error, since it could be a token.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 100_000,
                max_aliases: 100,
                max_anchors: 100,
                max_recorded_anchor_events: 10_000,
                max_depth: 32,
            },
            with_snippet: false,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::Yaml("yaml: invalid leading UTF-8 octet".to_owned()))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str_with_options::<Option<Self>>(text, options)
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::Yaml(format!("yaml: {error}")))
    }

    /// What stands where the administrator has no file.
    pub fn built_in() -> Self {
        Self::of_system(BUILT_IN_NAME, BUILT_IN_URI)
    }

    /// The same of Apptainer.
    pub fn built_in_apptainer() -> Self {
        Self::of_system("DefaultRemote", APPTAINER_URI)
    }

    fn of_system(name: &str, uri: &str) -> Self {
        let endpoint = Endpoint {
            uri: uri.to_owned(),
            system: true,
            ..Endpoint::default()
        };
        Self {
            active: name.to_owned(),
            remotes: BTreeMap::from([(name.to_owned(), endpoint)]),
            ..Self::default()
        }
    }

    /// Keys of the file that this program does not know, as `Remotes.lab.Extra`.
    pub fn unknown_keys(&self) -> Vec<String> {
        let mut out: Vec<String> = self.other.keys().cloned().collect();
        for (name, endpoint) in &self.remotes {
            out.extend(
                endpoint
                    .other
                    .keys()
                    .map(|key| format!("Remotes.{name}.{key}")),
            );
            for keyserver in &endpoint.keyservers {
                let keys = keyserver.other.keys();
                out.extend(keys.map(|key| format!("Remotes.{name}.Keyservers.{key}")));
            }
        }
        for credential in &self.credentials {
            out.extend(
                credential
                    .other
                    .keys()
                    .map(|key| format!("Credentials.{key}")),
            );
        }
        out
    }

    /// The text of the file.
    pub fn to_yaml(&self) -> Zeroizing<String> {
        // Growing would leave copies of tokens behind.
        let mut out = Zeroizing::new(String::with_capacity(self.room()));
        yaml::line(&mut out, "", "Active", &yaml::scalar(&self.active));
        if self.remotes.is_empty() {
            out.push_str("Remotes: {}\n");
        } else {
            out.push_str("Remotes:\n");
        }
        let mut names: Vec<_> = self.remotes.iter().collect();
        names.sort_by(|(a, _), (b, _)| yaml::natural(a, b));
        for (name, endpoint) in names {
            yaml::open(&mut out, STEP, name);
            endpoint.write(&mut out);
        }
        if !self.credentials.is_empty() {
            out.push_str("Credentials:\n");
        }
        for credential in &self.credentials {
            credential.write(&mut out);
        }
        write_other(&mut out, "", &self.other);
        out
    }

    fn room(&self) -> usize {
        let endpoints = self.remotes.iter().map(|(name, e)| {
            let keyservers = e.keyservers.iter().map(|k| k.uri.len().saturating_add(200));
            [name.len(), e.uri.len(), e.token.expose().len(), 300]
                .into_iter()
                .chain(keyservers)
                .fold(0, usize::saturating_add)
        });
        let logins = self.credentials.iter().map(|c| {
            c.uri
                .len()
                .saturating_add(c.auth.expose().len())
                .saturating_add(200)
        });
        endpoints.chain(logins).fold(400, usize::saturating_add)
    }

    /// Takes over what the administrator configured.
    ///
    /// # Errors
    /// [`Error::Collision`].
    pub fn merge_system(&mut self, system: &Self) -> Result<(), Error> {
        for (name, theirs) in &system.remotes {
            let ours = match self.remotes.get_mut(name) {
                Some(ours) if !ours.system => return Err(Error::Collision(name.clone())),
                Some(ours) => ours,
                None => self.remotes.entry(name.clone()).or_default(),
            };
            ours.system = true;
            ours.uri.clone_from(&theirs.uri);
            ours.exclusive = theirs.exclusive;
            ours.insecure = theirs.insecure;
            ours.keyservers.clone_from(&theirs.keyservers);
            if theirs.exclusive {
                self.active.clone_from(name);
            }
        }
        self.remotes
            .retain(|name, endpoint| !endpoint.system || system.remotes.contains_key(name));
        if self.active.is_empty() {
            self.active.clone_from(&system.active);
        }
        Ok(())
    }

    /// Adds an endpoint and puts it in use if wanted.
    ///
    /// # Errors
    /// Empty name or address, a name that is taken, an exclusive endpoint.
    pub fn add(
        &mut self,
        owner: Owner,
        name: &str,
        uri: &str,
        insecure: bool,
        put_in_use: bool,
    ) -> Result<(), Error> {
        if name.trim().is_empty() {
            return Err(Error::EmptyName);
        }
        let uri = endpoint_uri(uri)?;
        if self.remotes.contains_key(name) {
            return Err(Error::Taken(name.to_owned()));
        }
        if put_in_use {
            self.allow_use(owner, name)?;
            self.active = name.to_owned();
        }
        let endpoint = Endpoint {
            uri,
            system: owner == Owner::System,
            insecure,
            ..Endpoint::default()
        };
        self.remotes.insert(name.to_owned(), endpoint);
        Ok(())
    }

    /// Removes an endpoint; if it was in use then none is.
    ///
    /// # Errors
    /// An unknown one, or a user who removes the administrator's.
    pub fn remove(&mut self, owner: Owner, name: &str) -> Result<(), Error> {
        if self.endpoint(name)?.system && owner == Owner::User {
            return Err(Error::Global(name.to_owned()));
        }
        self.remotes.remove(name);
        if self.active == name {
            self.active.clear();
        }
        Ok(())
    }

    /// Puts an endpoint in use, alone if `exclusive`.
    ///
    /// # Errors
    /// An unknown one, an exclusive other one, a user who wants exclusiveness.
    pub fn put_in_use(&mut self, owner: Owner, name: &str, exclusive: bool) -> Result<(), Error> {
        self.endpoint(name)?;
        if exclusive && owner == Owner::User {
            return Err(Error::ExclusiveByUser);
        }
        self.allow_use(owner, name)?;
        if owner == Owner::System {
            if exclusive && let Some(old) = self.remotes.get_mut(&self.active) {
                old.exclusive = false;
            }
            if let Some(new) = self.remotes.get_mut(name) {
                new.exclusive = exclusive;
            }
        }
        self.active = name.to_owned();
        Ok(())
    }

    fn allow_use(&self, owner: Owner, wanted: &str) -> Result<(), Error> {
        if owner == Owner::System || wanted == self.active {
            return Ok(());
        }
        match self.remotes.iter().find(|(_, endpoint)| endpoint.exclusive) {
            Some((exclusive, _)) => Err(Error::Exclusive {
                wanted: wanted.to_owned(),
                exclusive: exclusive.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Name of the endpoint meant: the given one, else the one in use.
    ///
    /// # Errors
    /// An unknown one, or none in use.
    pub fn resolve<'a>(&'a self, name: Option<&'a str>) -> Result<&'a str, Error> {
        let name = match name {
            Some(name) => name,
            None if self.active.is_empty() => return Err(Error::NoDefault),
            None => &self.active,
        };
        self.endpoint(name).map(|_| name)
    }

    /// An endpoint by name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn endpoint(&self, name: &str) -> Result<&Endpoint, Error> {
        let found = self.remotes.get(name);
        found.ok_or_else(|| Error::Unknown(name.to_owned()))
    }

    /// An endpoint by name, to be changed.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn endpoint_mut(&mut self, name: &str) -> Result<&mut Endpoint, Error> {
        let found = self.remotes.get_mut(name);
        found.ok_or_else(|| Error::Unknown(name.to_owned()))
    }

    /// The external key server that a login is for.
    ///
    /// # Errors
    /// [`Error::NoExternal`].
    pub fn external_keyserver(&self, uri: &str) -> Result<&Keyserver, Error> {
        self.remotes
            .values()
            .flat_map(|endpoint| &endpoint.keyservers)
            .find(|keyserver| keyserver.external && same_keyserver(&keyserver.uri, uri))
            .ok_or_else(|| Error::NoExternal(uri.to_owned()))
    }

    /// Stores a login at the end of the list, in place of older ones.
    pub fn store_credential(&mut self, uri: &str, auth: Secret, insecure: bool) {
        self.remove_credentials(uri);
        self.credentials.push(Credential {
            uri: uri.to_owned(),
            auth,
            insecure,
            ..Credential::default()
        });
    }

    /// Removes the logins to a service.
    pub fn remove_credentials(&mut self, uri: &str) {
        self.credentials
            .retain(|login| !same_service(&login.uri, uri));
    }
}

impl Endpoint {
    /// Puts the endpoint's own key server into an empty list.
    pub fn fill_keyservers(&mut self, own: &str) {
        if self.keyservers.is_empty() {
            self.keyservers.push(Keyserver {
                uri: own.to_owned(),
                ..Keyserver::default()
            });
        }
    }

    /// Adds a key server at a place among those that are asked, from 1; at the
    /// end without one. An own server that was skipped is asked again.
    ///
    /// # Errors
    /// A place behind the end, or a server that is there.
    pub fn add_keyserver(
        &mut self,
        uri: &str,
        order: Option<u32>,
        insecure: bool,
    ) -> Result<(), Error> {
        if uri.trim().is_empty() {
            return Err(Error::EmptyUri);
        }
        let asked = self.keyservers.iter().filter(|k| !k.skip).count();
        let places = asked.saturating_add(1);
        let order = match order.map(usize::try_from) {
            None => places,
            Some(Ok(order)) if (1..=places).contains(&order) => order,
            Some(_) => return Err(Error::Order(places)),
        };
        let known = self
            .keyservers
            .iter()
            .position(|k| same_keyserver(&k.uri, uri));
        let keyserver = match known {
            Some(at) => match self.keyservers.get(at) {
                Some(own) if own.skip && !own.external => {
                    let mut own = self.keyservers.remove(at);
                    own.skip = false;
                    own
                }
                _ => return Err(Error::KeyserverTaken(uri.to_owned())),
            },
            None => Keyserver {
                uri: uri.to_owned(),
                external: true,
                insecure,
                ..Keyserver::default()
            },
        };
        // The place is counted without the skipped ones.
        let mut places = self.keyservers.iter().enumerate().filter(|(_, k)| !k.skip);
        let at = places
            .nth(order.saturating_sub(1))
            .map_or(self.keyservers.len(), |(at, _)| at);
        self.keyservers.insert(at, keyserver);
        Ok(())
    }

    /// Removes a key server; the endpoint's own one is only skipped.
    ///
    /// # Errors
    /// One that is not there, or the last one.
    pub fn remove_keyserver(&mut self, uri: &str) -> Result<(), Error> {
        if uri.trim().is_empty() {
            return Err(Error::EmptyUri);
        }
        let asked = self.keyservers.iter().filter(|k| !k.skip).count();
        let found = self
            .keyservers
            .iter()
            .position(|k| !k.skip && same_keyserver(&k.uri, uri))
            .ok_or_else(|| Error::KeyserverUnknown(uri.to_owned()))?;
        if asked == 1 {
            return Err(Error::LastKeyserver(uri.to_owned()));
        }
        match self.keyservers.get_mut(found) {
            Some(own) if !own.external => own.skip = true,
            _ => drop(self.keyservers.remove(found)),
        }
        Ok(())
    }

    fn write(&self, out: &mut String) {
        let indent = STEP.repeat(2);
        if !self.uri.is_empty() {
            yaml::line(out, &indent, "URI", &yaml::scalar(&self.uri));
        }
        if !self.token.is_empty() {
            let token = Zeroizing::new(yaml::scalar(self.token.expose()));
            yaml::line(out, &indent, "Token", &token);
        }
        yaml::line(out, &indent, "System", truth(self.system));
        yaml::line(out, &indent, "Exclusive", truth(self.exclusive));
        if self.insecure {
            yaml::line(out, &indent, "Insecure", truth(true));
        }
        if !self.keyservers.is_empty() {
            let _ = writeln!(out, "{indent}Keyservers:");
        }
        for keyserver in &self.keyservers {
            let inner = format!("{indent}{STEP}  ");
            let _ = writeln!(out, "{indent}{STEP}- URI: {}", yaml::scalar(&keyserver.uri));
            yaml::line(out, &inner, "Skip", truth(keyserver.skip));
            yaml::line(out, &inner, "External", truth(keyserver.external));
            yaml::line(out, &inner, "Insecure", truth(keyserver.insecure));
            write_other(out, &inner, &keyserver.other);
        }
        write_other(out, &indent, &self.other);
    }
}

impl Credential {
    fn write(&self, out: &mut String) {
        let inner = format!("{STEP}  ");
        let _ = writeln!(out, "{STEP}- URI: {}", yaml::scalar(&self.uri));
        if !self.auth.is_empty() {
            let auth = Zeroizing::new(yaml::scalar(self.auth.expose()));
            yaml::line(out, &inner, "Auth", &auth);
        }
        yaml::line(out, &inner, "Insecure", truth(self.insecure));
        write_other(out, &inner, &self.other);
    }
}

/// Host and path of an endpoint's address, the path without `.` and `..`.
///
/// `host:port` needs no scheme: the originals take the host for one.
///
/// # Errors
/// An empty or unusable address.
pub fn endpoint_uri(text: &str) -> Result<String, Error> {
    if text.trim().is_empty() {
        return Err(Error::EmptyUri);
    }
    let with_scheme = if text.contains("//") {
        text.to_owned()
    } else {
        format!("//{text}")
    };
    let address = Address::parse(&with_scheme).map_err(|error| match error {
        // Told about what was typed.
        super::address::Error::Malformed { fault, .. } => super::address::Error::Malformed {
            text: super::address::without_user(text),
            fault,
        },
        other => other,
    })?;
    let mut parts: Vec<&str> = Vec::new();
    for part in address.path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if address.host.is_empty() {
        return Err(Error::EmptyUri);
    }
    Ok([&[address.host.as_str()], parts.as_slice()]
        .concat()
        .join("/"))
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn write_other(out: &mut String, indent: &str, other: &BTreeMap<String, Value>) {
    for (key, value) in other {
        yaml::line(out, indent, key, &yaml::flow(value));
    }
}

/// A value, or the default for `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    input: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(input).map(Option::unwrap_or_default)
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Secret, D::Error> {
    or_default::<D, String>(input).map(Secret::new)
}

fn endpoints<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Endpoint>, D::Error> {
    let map: BTreeMap<String, Option<Endpoint>> = or_default(input)?;
    Ok(map
        .into_iter()
        .map(|(name, endpoint)| (name, endpoint.unwrap_or_default()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPTAINER: &str = "Active: p10\nRemotes:\n    DefaultRemote:\n        URI: cloud.apptainer.org\n        System: true\n        Exclusive: false\n        Keyservers:\n            - URI: http://localhost:8081\n              Skip: false\n              External: true\n              Insecure: false\n            - URI: https://keys.openpgp.org\n              Skip: true\n              External: false\n              Insecure: false\n    p9:\n        URI: host\n        Token: abc\n        System: false\n        Exclusive: false\n        Insecure: true\n    p10:\n        System: false\n        Exclusive: false\nCredentials:\n    - URI: http://localhost:11371\n      Auth: Basic Ym9iOnB3\n      Insecure: false\n    - URI: docker://registry.lab.test\n      Insecure: false\n";

    fn parse(text: &str) -> Config {
        Config::parse(text.as_bytes()).expect("valid")
    }

    fn fault(text: &str) -> String {
        Config::parse(text.as_bytes())
            .err()
            .expect("a fault")
            .to_string()
    }

    fn user() -> Config {
        let mut config = Config::default();
        config
            .add(Owner::User, "lab", "cloud.lab.test", false, true)
            .unwrap();
        config
    }

    #[test]
    fn a_file_of_apptainer_is_written_back_byte_by_byte() {
        assert_eq!(*parse(APPTAINER).to_yaml(), APPTAINER);
    }

    #[test]
    fn a_file_in_another_layout_means_the_same() {
        let packaged = "Active: SylabsCloud\nRemotes:\n  SylabsCloud:\n    URI: cloud.sylabs.io\n    System: true\n    Exclusive: false\n";
        assert_eq!(*parse(packaged).to_yaml(), *Config::built_in().to_yaml());
        let odd = "# mine\nRemotes: {lab: {URI: 8080, Exclusive: yes, Keyservers: }, gone: ~}\nActive: 12\n";
        let odd = parse(odd);
        assert_eq!(odd.active, "12");
        assert_eq!(odd.remotes["lab"].uri, "8080");
        assert!(odd.remotes["lab"].exclusive);
        assert!(odd.remotes.contains_key("gone"));
        for empty in ["", " \n", "# nothing\n", "---\n"] {
            assert_eq!(
                *parse(empty).to_yaml(),
                "Active: \"\"\nRemotes: {}\n",
                "{empty:?}"
            );
        }
    }

    /// YAML looks for the colon behind a name no further than 1024 characters.
    #[test]
    fn unknown_keys_with_long_names_survive_a_rewrite() {
        for name in [
            "n".repeat(1001),
            "n \u{e9}".repeat(2000),
            "\" ".repeat(5000),
        ] {
            let quoted = Value::from(name.as_str());
            let text = format!(
                "Active: a\nRemotes:\n  a:\n    URI: h\n    ? {quoted}\n    : 1\nExtra: {{? {quoted} : [{{? {quoted} : x}}]}}\n? {quoted}\n: 2\n"
            );
            let config = parse(&text);
            let written = config.to_yaml();
            let again = parse(&written);
            assert_eq!(again.unknown_keys(), config.unknown_keys());
            assert_eq!(*again.to_yaml(), *written);
            let bare = quoted.to_string();
            let bare = bare.trim_matches('"');
            assert_eq!(written.matches(bare).count(), 4, "{}", &*written);
        }
    }

    /// The names that users choose are written in another place than unknown keys.
    #[test]
    fn endpoints_with_long_names_survive_a_rewrite() {
        for name in ["n".repeat(1001), "n \u{e9}: ".repeat(300)] {
            let quoted = Value::from(name.as_str());
            let text = format!("Active: a\nRemotes:\n  ? {quoted}\n  :\n    URI: h\n");
            let config = parse(&text);
            assert_eq!(config.remotes[&name].uri, "h");
            let again = parse(&config.to_yaml());
            assert_eq!(again.remotes[&name].uri, "h");
            assert_eq!(*again.to_yaml(), *config.to_yaml());
        }
    }

    #[test]
    fn unknown_keys_survive_a_rewrite() {
        let config = parse(
            "Active: a\nExtra: {b: [1, x]}\nRemotes:\n  a:\n    URI: h\n    More: 'yes'\n    Keyservers:\n    - URI: http://k\n      Weight: 3\nCredentials:\n- URI: docker://r\n  Since: null\n",
        );
        assert_eq!(
            config.unknown_keys(),
            [
                "Extra",
                "Remotes.a.More",
                "Remotes.a.Keyservers.Weight",
                "Credentials.Since"
            ]
        );
        let text = config.to_yaml();
        assert_eq!(
            *text,
            "Active: a\nRemotes:\n    a:\n        URI: h\n        System: false\n        Exclusive: false\n        Keyservers:\n            - URI: http://k\n              Skip: false\n              External: false\n              Insecure: false\n              Weight: 3\n        More: \"yes\"\nCredentials:\n    - URI: docker://r\n      Insecure: false\n      Since: null\nExtra: {\"b\":[1,\"x\"]}\n"
        );
        assert_eq!(*parse(&text).to_yaml(), *text);
    }

    #[test]
    fn a_fault_tells_nothing_of_the_content() {
        for text in [
            "Active: [a\n",
            "Remotes: 12\n",
            "Remotes:\n  a:\n    Token: {hunter2: 1}\n",
            "Remotes:\n  a:\n    System: hunter2\n",
            "Active: a\nActive: b\n",
        ] {
            let fault = fault(text);
            assert!(fault.starts_with("failed to decode YAML data from io.Reader: yaml: "));
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn aliases_cannot_make_a_small_file_large() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..10 {
            let last = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [last.as_str(); 8].join(",")));
        }
        fault(&bomb);
        fault(&format!("Extra: {}", "[".repeat(5000)));
    }

    #[test]
    fn the_administrators_endpoints_join_the_users() {
        let system = parse(
            "Active: corp\nRemotes:\n  corp: {URI: c, System: true, Keyservers: [{URI: 'http://k', External: true}]}\n",
        );
        // Absent: added, without a token; the user's choice stays.
        let mut config = user();
        config.merge_system(&system).unwrap();
        assert_eq!(config.active, "lab");
        assert!(config.remotes["corp"].system);
        assert_eq!(config.remotes["corp"].keyservers.len(), 1);
        // No choice: the administrator's.
        let mut config = Config::default();
        config.merge_system(&system).unwrap();
        assert_eq!(config.active, "corp");
        // Present: refreshed, the token stays; what is gone goes.
        let mut config = parse(
            "Active: corp\nRemotes:\n  corp: {URI: old, System: true, Token: t}\n  old: {URI: o, System: true}\n",
        );
        config.merge_system(&system).unwrap();
        assert_eq!(config.remotes["corp"].uri, "c");
        assert_eq!(config.remotes["corp"].token.expose(), "t");
        assert!(!config.remotes.contains_key("old"));
        // The user's own of the same name.
        let mut config = parse("Remotes:\n  corp: {URI: mine}\n");
        assert_eq!(
            config.merge_system(&system).unwrap_err().to_string(),
            "name collision while syncing: corp"
        );
        // Exclusive: in use, whatever the user chose.
        let mut system = system;
        system.put_in_use(Owner::System, "corp", true).unwrap();
        let mut config = user();
        config.merge_system(&system).unwrap();
        assert_eq!(config.active, "corp");
        let refused = config.put_in_use(Owner::User, "lab", false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "could not use lab: remote corp has been set exclusive by the system administrator"
        );
        assert!(config.put_in_use(Owner::User, "corp", false).is_ok());
        assert!(config.remotes["corp"].exclusive);
    }

    #[test]
    fn endpoints_come_and_go() {
        let mut config = user();
        let mut add = |name: &str, uri: &str| {
            config
                .add(Owner::User, name, uri, false, false)
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(add("lab", "x").unwrap(), "lab is already a remote");
        assert_eq!(
            add(" ", "x").unwrap(),
            "invalid name: cannot have empty name"
        );
        assert_eq!(add("a", " ").unwrap(), "invalid URI: cannot have empty URI");
        assert_eq!(
            add("a", "https://").unwrap(),
            "invalid URI: cannot have empty URI"
        );
        assert_eq!(
            add("a", "host:b").unwrap(),
            "parse \"host:b\": invalid port \":b\" after host"
        );
        assert_eq!(add("b", "https://u:p@h:1/a/./b/../c/?q"), None);
        assert_eq!(add("c", "127.0.0.1:80"), None);
        assert_eq!(config.remotes["b"].uri, "h:1/a/c");
        assert_eq!(config.remotes["c"].uri, "127.0.0.1:80");
        config.remove(Owner::User, "lab").unwrap();
        assert_eq!(config.active, "");
        assert_eq!(config.resolve(None), Err(Error::NoDefault));
        assert_eq!(
            config.remove(Owner::User, "lab").unwrap_err().to_string(),
            "lab is not a remote"
        );
        config.merge_system(&Config::built_in()).unwrap();
        assert_eq!(
            config
                .remove(Owner::User, BUILT_IN_NAME)
                .unwrap_err()
                .to_string(),
            "SylabsCloud is global and can't be removed"
        );
        assert_eq!(
            config.put_in_use(Owner::User, "b", true),
            Err(Error::ExclusiveByUser)
        );
    }

    #[test]
    fn only_one_endpoint_is_exclusive() {
        let mut system = Config::built_in();
        system
            .add(Owner::System, "e2e", "cloud.test.com", false, true)
            .unwrap();
        system.put_in_use(Owner::System, "e2e", true).unwrap();
        system
            .put_in_use(Owner::System, BUILT_IN_NAME, true)
            .unwrap();
        assert!(!system.remotes["e2e"].exclusive);
        assert!(system.remotes[BUILT_IN_NAME].exclusive);
    }

    fn shown(endpoint: &Endpoint) -> String {
        let mut asked = Vec::new();
        for keyserver in &endpoint.keyservers {
            let mark = if keyserver.skip { "-" } else { "" };
            asked.push(format!(
                "{mark}{}",
                keyserver.uri.trim_start_matches("http://")
            ));
        }
        asked.join(" ")
    }

    #[test]
    fn key_servers_are_placed_among_those_that_are_asked() {
        let mut endpoint = Endpoint::default();
        endpoint.fill_keyservers("http://own");
        let mut add = |uri: &str, order| endpoint.add_keyserver(uri, order, false).err();
        assert_eq!(add("http://a", None), None);
        assert_eq!(add("http://b", Some(1)), None);
        assert_eq!(add("http://c", Some(5)), Some(Error::Order(4)));
        assert_eq!(add("http://c", Some(0)), Some(Error::Order(4)));
        assert_eq!(
            add("hkp://a:80/x", None),
            None,
            "a port makes another server"
        );
        let taken = Error::KeyserverTaken("http://a/path".to_owned());
        assert_eq!(add("http://a/path", None), Some(taken));
        assert_eq!(shown(&endpoint), "b own a hkp://a:80/x");
        endpoint.remove_keyserver("http://own").unwrap();
        assert_eq!(shown(&endpoint), "b -own a hkp://a:80/x");
        endpoint.add_keyserver("http://d", Some(2), false).unwrap();
        endpoint.add_keyserver("http://e", None, false).unwrap();
        assert_eq!(shown(&endpoint), "b -own d a hkp://a:80/x e");
        endpoint.add_keyserver("http://own", Some(1), true).unwrap();
        assert_eq!(shown(&endpoint), "own b d a hkp://a:80/x e");
        assert!(!endpoint.keyservers[0].external && !endpoint.keyservers[0].insecure);
        for uri in ["http://b", "http://d", "http://a", "hkp://a:80", "http://e"] {
            endpoint.remove_keyserver(uri).unwrap();
        }
        assert_eq!(
            endpoint
                .remove_keyserver("http://own")
                .unwrap_err()
                .to_string(),
            "the primary keyserver http://own can't be removed"
        );
        assert_eq!(
            endpoint
                .remove_keyserver("http://b")
                .unwrap_err()
                .to_string(),
            "keyserver http://b is not configured"
        );
    }

    #[test]
    fn a_login_replaces_the_older_one_and_moves_to_the_end() {
        let mut config = parse(APPTAINER);
        config.store_credential("http://localhost:11371/x", Secret::new("Bearer t"), true);
        let uris: Vec<_> = config.credentials.iter().map(|c| c.uri.as_str()).collect();
        assert_eq!(
            uris,
            ["docker://registry.lab.test", "http://localhost:11371/x"]
        );
        config.remove_credentials("docker://registry.lab.test");
        assert_eq!(config.credentials.len(), 1);
        assert!(config.external_keyserver("http://localhost:8081/a").is_ok());
        assert_eq!(
            config
                .external_keyserver("https://keys.openpgp.org")
                .err()
                .unwrap()
                .to_string(),
            "no external keyserver configuration found for https://keys.openpgp.org"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes: Vec<u8>) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ARa:\\-\\[\\]{}&*!|>'\"%@`#,~<\\n 0-9\\\\]{0,80}") {
            let _ = Config::parse(text.as_bytes());
            let _ = endpoint_uri(&text);
            let _ = crate::remote::address::Address::keyserver(&text);
        }

        #[test]
        fn what_is_written_is_read_again(name: String, uri: String, auth: String, order in 0u32..3) {
            let mut config = Config::default();
            let mut endpoint = Endpoint { uri, token: Secret::new(auth.clone()), ..Endpoint::default() };
            endpoint.fill_keyservers(&name);
            let _ = endpoint.add_keyserver(&auth, Some(order), true);
            config.active = name.clone();
            config.remotes.insert(name.clone(), endpoint);
            config.store_credential(&name, Secret::new(auth), false);
            let text = config.to_yaml();
            let again = Config::parse(text.as_bytes());
            assert!(again.is_ok(), "{}", *text);
            let again = again.ok().unwrap();
            assert_eq!(*again.to_yaml(), *text);
            assert_eq!(again.active, name);
            assert_eq!(&again.remotes[&name].uri, &config.remotes[&name].uri);
        }
    }
}
