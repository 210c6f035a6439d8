//! Naming one key of a keyring.

use super::{Entity, Fingerprint};

/// A fingerprint or key id as a person types it: full, or its last 16 or 8 digits; any case, with
/// or without `0x`, blanks between the digits allowed.
///
/// Primary keys are named, never sub-keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// As it was typed.
    text: String,
    /// Upper-case, bare.
    digits: String,
}

/// Why no key was selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchKey {
    /// No key of the keyring, or no fingerprint at all.
    #[error("no key matching given fingerprint found")]
    NotFound,
    /// Several keys share the short id.
    #[error("{text} stands for several keys: {}", list(candidates))]
    Ambiguous {
        /// What was typed.
        text: String,
        /// The keys it could mean, in keyring order.
        candidates: Vec<Fingerprint>,
    },
}

impl Selector {
    /// Takes any text; one that is no fingerprint selects nothing.
    pub fn new(text: &str) -> Self {
        let bare = text.trim();
        let bare = bare
            .strip_prefix("0x")
            .or_else(|| bare.strip_prefix("0X"))
            .unwrap_or(bare);
        let digits: String = bare.split_ascii_whitespace().collect();
        Self {
            text: text.to_owned(),
            digits: digits.to_ascii_uppercase(),
        }
    }

    /// Whether the text stands for this key.
    pub fn matches(&self, fingerprint: &Fingerprint) -> bool {
        let full = fingerprint.to_string();
        match (self.digits.len(), fingerprint.as_bytes().len()) {
            (16, _) => format!("{:016X}", fingerprint.key_id()) == self.digits,
            // The short id is that of version 4.
            (8, 20) => full.ends_with(&self.digits),
            _ => full == self.digits,
        }
    }

    /// The one key that is meant, and its index. Of several copies of one key the first.
    ///
    /// # Errors
    /// As [`NoSuchKey`] says.
    pub fn find<'e>(&self, entities: &'e [Entity]) -> Result<(usize, &'e Entity), NoSuchKey> {
        let mut found: Vec<(usize, &Entity)> = Vec::new();
        for (index, entity) in entities.iter().enumerate() {
            let fingerprint = entity.fingerprint();
            if self.matches(&fingerprint)
                && found
                    .iter()
                    .all(|(_, other)| other.fingerprint() != fingerprint)
            {
                found.push((index, entity));
            }
        }
        match found.as_slice() {
            [] => Err(NoSuchKey::NotFound),
            [only] => Ok(*only),
            several => Err(NoSuchKey::Ambiguous {
                text: self.text.clone(),
                candidates: several.iter().map(|(_, e)| e.fingerprint()).collect(),
            }),
        }
    }
}

fn list(fingerprints: &[Fingerprint]) -> String {
    let texts: Vec<String> = fingerprints.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::pgp::{
        KeyType, Keyring, Params, SigningKey, generate,
        packet::{self, Packets, tag},
        public::{PublicKey, public_part},
        signature,
        tests::keyring,
    };
    use sequoia_openpgp::types::HashAlgorithm;
    use std::collections::HashMap;

    #[test]
    fn finds_a_key_by_every_way_to_name_it() {
        let keyring = keyring("peers/keys/keyring/pgp-public");
        for text in [
            "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109",
            "0xCFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109",
            "0Xcfb1b28a0c076113e3dbe6dcead44fc6fccbd109",
            "CFB1 B28A 0C07 6113 E3DB  E6DC EAD4 4FC6 FCCB D109",
            "EAD44FC6FCCBD109",
            "0xead44fc6fccbd109",
            "FCCBD109",
            " 0xfccbd109\t",
        ] {
            let found = Selector::new(text).find(keyring.entities());
            assert_eq!(found.map(|(index, _)| index), Ok(1), "{text}");
        }
    }

    #[test]
    fn finds_nothing_by_anything_else() {
        let keyring = keyring("peers/keys/keyring/pgp-public");
        for text in [
            "",
            "0x",
            "X",
            "D109",
            "FCCBD10",
            "6FCCBD109",
            "31359731D5C34C90",
            "0x0xFCCBD109",
            "Bob Reviewer",
            "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109CFB1B28A0C07611300000000",
            "ＦＣＣＢ",
        ] {
            let found = Selector::new(text).find(keyring.entities());
            assert_eq!(found.err(), Some(NoSuchKey::NotFound), "{text}");
        }
        let empty = Selector::new("").find(&[]);
        assert_eq!(empty.err(), Some(NoSuchKey::NotFound));
    }

    #[test]
    fn a_subkey_does_not_stand_for_its_primary_key() {
        let keyring = keyring("peers/keys/keyring/pgp-public");
        let found = Selector::new("D1C18EB6377D0CAF").find(keyring.entities());
        assert_eq!(found.err(), Some(NoSuchKey::NotFound));
    }

    /// Two keys of one short id: one secret number, two creation times.
    fn namesakes() -> Vec<Entity> {
        let made = |created: u32| {
            let params = Params {
                name: "twin",
                key_type: KeyType::Ed25519,
                now: u64::from(created),
                ..Params::default()
            };
            generate(&params).unwrap().secret_bytes
        };
        let file = made(0);
        let packet = Packets::new(&file).next().unwrap().unwrap();
        let (length, _) = public_part(packet.body).unwrap();
        let at = |created: u32| {
            let mut body = packet.body.to_vec();
            body[1..5].copy_from_slice(&created.to_be_bytes());
            body
        };
        let short_id = |created: u32| {
            let body = &at(created)[..length];
            let prefix = [0x99, 0, u8::try_from(length).unwrap()];
            let digest = signature::digest(HashAlgorithm::SHA1, &[&prefix, body]).unwrap();
            <[u8; 4]>::try_from(&digest[16..]).unwrap()
        };
        // By the birthday paradox about 2^16 tries.
        let mut seen = HashMap::new();
        let twins = (0..u32::MAX).find_map(|created| {
            let first = seen.insert(short_id(created), created)?;
            Some([first, created])
        });
        let mut file = Vec::new();
        for created in twins.unwrap() {
            let body = at(created);
            let public = PublicKey::parse(&body).unwrap();
            let key = SigningKey::unlock(&public, &body, None).unwrap();
            let mut area = Vec::new();
            signature::write_subpacket(&mut area, 2, &created.to_be_bytes());
            signature::write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
            let id = b"twin";
            let certification = key
                .sign(
                    signature::kind::POSITIVE,
                    HashAlgorithm::SHA256,
                    &area,
                    &[&public.hash_prefix(), &public.body, &[0xb4, 0, 0, 0, 4], id],
                )
                .unwrap();
            packet::write(&mut file, tag::SECRET_KEY, &body);
            packet::write(&mut file, tag::USER_ID, id);
            packet::write(&mut file, tag::SIGNATURE, &certification);
        }
        Keyring::parse(&file).unwrap().into_entities()
    }

    #[test]
    fn an_id_of_two_keys_names_both_of_them() {
        let twins = namesakes();
        let names: Vec<String> = twins.iter().map(|e| e.fingerprint().to_string()).collect();
        assert_eq!(names.len(), 2);
        let short = format!("0x{}", names[0][32..].to_lowercase());
        let error = Selector::new(&short).find(&twins).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "{short} stands for several keys: {}, {}",
                names[0], names[1]
            )
        );
        for (at, name) in names.iter().enumerate() {
            for text in [&name[..], &name[24..]] {
                let found = Selector::new(text).find(&twins);
                assert_eq!(found.map(|(index, _)| index), Ok(at));
            }
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_one_key() {
        let twice = [
            keyring("gpg/ed25519.pub").into_entities(),
            keyring("gpg/ed25519.pub").into_entities(),
        ]
        .concat();
        let text = twice[0].fingerprint().to_string();
        let found = Selector::new(&text[32..]).find(&twice);
        assert_eq!(found.map(|(index, _)| index), Ok(0));
    }

    #[test]
    fn version_6_keys_have_fingerprints_of_64_digits() {
        let keyring = keyring("gpg/v6.pub");
        let full = keyring.entities()[0].fingerprint().to_string();
        assert_eq!(full.len(), 64);
        for text in [&full[..], &full[..16]] {
            assert!(Selector::new(text).find(keyring.entities()).is_ok());
        }
        for text in [&full[48..], &full[56..], &full[..8]] {
            assert!(Selector::new(text).find(keyring.entities()).is_err());
        }
    }
}
