//! Keys that no keyring has, from the key servers.

use super::super::servers::{self, Asked, tell_unauthorized, url_option};
use super::super::{Cause, Error};
use super::FAILED;
use crate::key::pgp::{Entity, Keyring, merge, updates_from_armored_or_binary};
use crate::net::http::Client;
use crate::net::keystore::{self, Server};
use crate::report::Origin;
use crate::sif::Image;
use crate::ui::Ui;
use crate::verify::{self, KeyMaterial, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The key servers, for keys that no keyring has. Each key is asked for once, however many images
/// name it.
pub(super) struct Remote<'a> {
    ui: &'a Ui,
    url: Option<String>,
    memory: Mutex<Memory>,
}

/// What servers have said so far.
#[derive(Default)]
struct Memory {
    connection: Option<(Client, Vec<Server>)>,
    answers: HashMap<u64, Vec<Entity>>,
    /// Questions in a row that no server answered.
    unanswered: usize,
}

impl<'a> Remote<'a> {
    /// Connects to nothing; a bad `--url` is told before the image is opened.
    pub(super) fn new(ui: &'a Ui, url: Option<&str>) -> Result<Self, Error> {
        let url = url_option(url);
        if let Some(url) = &url {
            keystore::parse_url(url).map_err(|e| Cause::plain(e).fatal(FAILED))?;
        }
        let memory = Mutex::default();
        Ok(Self { ui, url, memory })
    }

    /// Adds the keys that the judgement would stop for, as far as servers have them.
    ///
    /// They are used once and not stored.
    pub(super) fn add_missing(
        &self,
        image: &Image<'_>,
        material: &mut KeyMaterial,
        request: &Request,
    ) -> Result<(), Error> {
        let mut found: Vec<Entity> = Vec::new();
        let mut asked = Vec::new();
        let demands = &request.demands;
        let named = demands.named_fingerprints();
        let is_wanted =
            |id: u64| !demands.only_named_count() || named.iter().any(|named| named.key_id() == id);
        loop {
            // What cannot be judged needs no keys; the judgement tells why.
            let missing = verify::missing_keys(image, material, request).unwrap_or_default();
            let mut missing = missing.into_iter();
            let Some(id) = missing.find(|id| !asked.contains(id) && is_wanted(*id)) else {
                return Ok(());
            };
            if asked.len() >= MAX_LOOKUPS {
                self.ui.warning(format_args!(
                    "{NO_MATERIAL}the image names more than {MAX_LOOKUPS} unknown keys"
                ));
                return Ok(());
            }
            asked.push(id);
            for key in self.find(id)? {
                if demands.only_named_count() && !named.contains(&key.fingerprint()) {
                    continue;
                }
                match with_what_is_known(key, material) {
                    Ok(key) => found.push(key),
                    Err(text) => self.ui.warning(format_args!("{NO_MATERIAL}{text}")),
                }
            }
            if let Some(keyrings) = &mut material.keyrings {
                keyrings.retain(|(origin, _)| *origin != Origin::Remote);
                let ring = Keyring::from_entities(found.iter().cloned());
                keyrings.push((Origin::Remote, Arc::new(ring)));
            }
        }
    }

    /// The keys that servers have for an id; one question at a time.
    fn find(&self, id: u64) -> Result<Vec<Entity>, Error> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory {
            connection,
            answers,
            unanswered,
        } = &mut *memory;
        if let Some(known) = answers.get(&id) {
            return Ok(known.clone());
        }
        if *unanswered >= MAX_UNANSWERED {
            return Ok(Vec::new());
        }
        let (client, servers) = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect()?),
        };
        let keys = match keystore::find_signers(client, servers, id) {
            Ok(keys) => {
                *unanswered = 0;
                keys
            }
            Err(error) => {
                if error.status() == Some(401) {
                    tell_unauthorized(self.ui, None);
                }
                self.ui.warning(format_args!("{NO_MATERIAL}{error}"));
                *unanswered = match error.is_about_this_key() {
                    true => 0,
                    false => unanswered.saturating_add(1),
                };
                if *unanswered == MAX_UNANSWERED {
                    self.ui
                        .warning("No key server answers: none is asked for further keys");
                }
                Vec::new()
            }
        };
        answers.insert(id, keys.clone());
        Ok(keys)
    }

    fn connect(&self) -> Result<(Client, Vec<Server>), Error> {
        let servers = servers::servers(self.ui, self.url.as_deref(), Asked::All);
        let connected = servers.and_then(|servers| Ok((servers::client()?, servers)));
        connected.map_err(|error| match error {
            servers::Error::Url(error) => Cause::plain(error).fatal(FAILED),
            servers::Error::Config(text) => Error::fatal(format!(
                "error while getting keyserver client config: {text}"
            )),
        })
    }
}

/// Joins a fetched key with the copies in the user's keyrings.
///
/// A server may leave out what is known here: a revocation, an end.
fn with_what_is_known(fetched: Entity, material: &KeyMaterial) -> Result<Entity, String> {
    let fingerprint = fetched.fingerprint();
    let mut joined = fetched;
    for (origin, ring) in material.keyrings.iter().flatten() {
        let stored = ring
            .position(&fingerprint)
            .and_then(|at| ring.entities().get(at));
        let (Some(stored), false) = (stored, *origin == Origin::Remote) else {
            continue;
        };
        let text = |error: crate::key::pgp::Error| error.to_string();
        let mut all = stored.clone();
        for update in updates_from_armored_or_binary(joined.raw()).map_err(text)? {
            if let Some(packets) = merge(&all, &update).map_err(text)? {
                let merged = Keyring::parse(&packets).map_err(text)?.into_entities();
                all = merged
                    .into_iter()
                    .next()
                    .ok_or_else(|| format!("key {fingerprint} cannot be joined with its copy"))?;
            }
        }
        joined = all;
    }
    Ok(joined)
}

/// Keys that are looked up at most for one image; an attacker can name any number.
const MAX_LOOKUPS: usize = 16;
/// Questions without an answer after which no server is asked any more; each can take as long as a
/// time-out.
const MAX_UNANSWERED: usize = 3;
const NO_MATERIAL: &str = "failed to get key material: ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::pgp::{KeyType, Params, generate};

    #[test]
    fn what_is_known_here_outweighs_the_copy_of_a_server() {
        let now = 1_700_000_000;
        let pair = generate(&Params {
            name: "A",
            key_type: KeyType::Ed25519,
            now,
            ..Params::default()
        })
        .unwrap();
        let fresh = || Keyring::parse(&pair.public_bytes).unwrap().into_entities();
        let updates = updates_from_armored_or_binary(pair.revocation_certificate.as_bytes());
        let revoked = merge(&fresh()[0], &updates.unwrap()[0]).unwrap().unwrap();
        for origin in [Origin::Global, Origin::Local] {
            let ring = Keyring::parse(&revoked).unwrap();
            let material = KeyMaterial::of_keyrings(vec![(origin, ring)]);
            let joined = with_what_is_known(fresh().remove(0), &material).unwrap();
            assert!(joined.usable_for_signing(now + 1).is_err(), "{origin}");
        }
        let nothing = KeyMaterial::of_keyrings(Vec::new());
        let alone = with_what_is_known(fresh().remove(0), &nothing).unwrap();
        assert!(alone.usable_for_signing(now + 1).is_ok());
    }
}
