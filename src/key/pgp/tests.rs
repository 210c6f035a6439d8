use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

/// Before the 2027 key was made, after everything else but the expired keys.
pub(crate) const NOW: u64 = 1_795_000_000;

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn keyring(name: &str) -> Keyring {
    Keyring::parse(&fixture(name)).unwrap()
}

fn one(name: &str) -> Entity {
    let mut entities = keyring(name).into_entities();
    assert_eq!(entities.len(), 1, "{name}");
    entities.remove(0)
}

/// A file of the SIF corpus, which is under another licence and not part of the repository.
pub(crate) fn sif_corpus(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SIGSIF_CORPUS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/sif"),
        PathBuf::from,
    );
    let bytes = fs::read(root.join(name)).ok();
    if bytes.is_none() {
        eprintln!("skipped: no {name} in {}", root.display());
    }
    bytes
}

#[test]
fn reads_the_keyring_apptainer_wrote() {
    let public = keyring("peers/keys/keyring/pgp-public");
    let fingerprints: Vec<String> = public
        .entities()
        .iter()
        .map(|entity| entity.fingerprint().to_string())
        .collect();
    assert_eq!(
        fingerprints,
        [
            "31359731D5C34C90C977AAF822CC73292934D01F",
            "CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109"
        ]
    );
    let entity = &public.entities()[0];
    assert_eq!(entity.key_id(), 0x22CC_7329_2934_D01F);
    assert_eq!(entity.created(), 1_795_339_157);
    assert_eq!(
        entity.primary_user_id().unwrap(),
        &UserId {
            raw: "Alice Builder (fixture) <alice@example.org>".into(),
            name: "Alice Builder".into(),
            comment: "fixture".into(),
            email: "alice@example.org".into(),
        }
    );
    assert_eq!(entity.secret_state(), SecretState::None);
    assert!(public.has_signing_key(0x22CC_7329_2934_D01F));
    assert!(
        !public.has_signing_key(0xD1C1_8EB6_377D_0CAF),
        "encryption sub-key"
    );
}

#[test]
fn public_bytes_are_what_apptainer_put_into_the_public_keyring() {
    let secret = keyring("peers/keys/keyring/pgp-secret");
    let public = keyring("peers/keys/keyring/pgp-public");
    for (secret, public) in secret.entities().iter().zip(public.entities()) {
        assert!(secret.has_secret());
        assert!(secret.public_bytes() == public.raw());
        assert!(public.public_bytes() == public.raw());
    }
}

#[test]
fn removing_an_entity_leaves_the_others_untouched() {
    let mut file = fixture("gpg/ed25519.sec");
    let junk = b"\xcd\x03abc";
    file.extend_from_slice(junk);
    file.extend(fixture("gpg/locked.sec"));
    let keyring = Keyring::parse(&file).unwrap();
    assert_eq!(keyring.entities().len(), 2);
    let mut kept = fixture("gpg/ed25519.sec");
    kept.extend_from_slice(junk);
    let keys: Vec<_> = keyring.entities().iter().map(Entity::fingerprint).collect();
    assert!(*keyring.without(&keys[1]) == kept);
    let other = one("gpg/p256.pub").fingerprint();
    assert!(*keyring.without(&other) == file);
}

#[test]
fn keeps_what_it_cannot_use() {
    // A version 3 key is skipped, its bytes stay.
    let mut file = vec![0xc6, 3, 3, 0, 0];
    file.extend(fixture("gpg/p256.pub"));
    let keyring = Keyring::parse(&file).unwrap();
    assert_eq!(keyring.entities().len(), 1);
    assert_eq!(keyring.skipped().count(), 1);
    let key = keyring.entities()[0].fingerprint();
    assert_eq!(*keyring.without(&key), [0xc6, 3, 3, 0, 0]);
}

#[test]
fn accepts_sha1_self_signatures_and_ignores_md5_ones() {
    assert!(one("gpg/sha1self.pub").may_sign(KeyRef::Primary));
    let md5 = keyring("gpg/md5self.pub");
    let reasons: Vec<_> = md5.skipped().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        ["openpgp: invalid data: v4 entity without any identities"]
    );
    assert!(md5.entities().is_empty());
}

#[test]
fn a_byte_without_packet_tag_spoils_the_file() {
    let mut file = fixture("gpg/p256.pub");
    file.push(b'-');
    let error = Keyring::parse(&file).err().unwrap();
    assert_eq!(
        error.to_string(),
        "openpgp: invalid data: tag byte does not have MSB set"
    );
}

#[test]
fn lists_sizes_and_user_ids_as_go_crypto() {
    for (name, bits) in [
        ("dsa", 2048),
        ("rsa", 2048),
        ("ed25519", 263),
        ("p256", 515),
        ("p384", 771),
        ("p521", 1059),
    ] {
        assert_eq!(one(&format!("gpg/{name}.pub")).bit_length(), bits, "{name}");
    }
    let uids = one("gpg/uids.pub");
    let ids: Vec<_> = uids
        .user_ids()
        .map(|id| (id.name.as_str(), id.comment.as_str(), id.email.as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            ("No Mail", "c", ""),
            ("uids", "fixture", "uids@example.org"),
            ("Zoë Ωmega 山田", "", "zoe@example.org"),
            ("", "", "only@example.org"),
        ]
    );
    assert_eq!(uids.primary_user_id().unwrap().raw, "No Mail (c)");
}

#[test]
fn splits_odd_user_ids_as_go_crypto() {
    for (id, name, comment, email) in [
        ("", "", "", ""),
        ("a", "a", "", ""),
        ("(c)", "", "c", ""),
        ("a ()<e>", "a", "", "e"),
        ("a (b", "a", "b", ""),
        ("a (", "a", "", ""),
        ("a <b", "a", "", "b"),
        ("a <b> (c)", "a", "", "b"),
        ("<b>", "", "", "b"),
        ("a@b", "", "", "a@b"),
        ("a@b (c)", "", "c", "a@b"),
        ("a (b) c <d>", "a", "b", "d"),
    ] {
        let parsed = UserId::parse(id.as_bytes());
        assert_eq!(
            (&*parsed.name, &*parsed.comment, &*parsed.email),
            (name, comment, email),
            "{id:?}"
        );
    }
}

#[test]
fn knows_the_state_of_secret_parts() {
    for (name, state) in [
        ("ed25519.pub", SecretState::None),
        ("ed25519.sec", SecretState::Clear),
        ("locked.sec", SecretState::Encrypted),
        ("lockedec.sec", SecretState::Encrypted),
        ("stub.sec", SecretState::Stub),
    ] {
        assert_eq!(one(&format!("gpg/{name}")).secret_state(), state, "{name}");
    }
}

#[test]
fn unlocks_only_with_the_right_passphrase() {
    let two = &keyring("peers/keys/keyring/pgp-secret").into_entities()[1];
    for entity in [&one("gpg/locked.sec"), &one("gpg/lockedec.sec"), two] {
        let fail = |passphrase| entity.unlock(passphrase).err().unwrap().to_string();
        assert_eq!(
            fail(Some(b"wrong")),
            "openpgp: invalid data: private key checksum failure"
        );
        assert_eq!(
            fail(None),
            format!(
                "openpgp: invalid argument: signing key {:016X} is encrypted",
                entity.key_id()
            )
        );
        let key = entity.unlock(Some(b"correct horse")).unwrap();
        assert_eq!(key.fingerprint(), entity.fingerprint());
    }
    assert!(matches!(
        one("gpg/stub.sec").unlock(None),
        Err(Error::Stub(_))
    ));
    assert!(matches!(
        one("gpg/rsa.pub").unlock(None),
        Err(Error::NoSecret(_))
    ));
}

#[test]
fn refuses_to_sign_with_keys_that_would_not_verify() {
    for (name, reason) in [
        ("ed25519", None),
        ("rsa", None),
        ("expired", Some(Unusable::KeyExpired)),
        ("later", Some(Unusable::KeyExpired)),
        ("revoked", Some(Unusable::Revoked)),
        ("authonly", Some(Unusable::NotForSigning)),
        ("subkey", Some(Unusable::NotForSigning)),
        ("oldsub", None),
        ("revuid", None),
    ] {
        let verdict = one(&format!("gpg/{name}.pub")).usable_for_signing(NOW);
        assert_eq!(verdict.err(), reason, "{name}");
    }
}

/// What a fault while computing gives, here by a secret part of another key.
#[test]
fn hands_out_no_signature_that_does_not_hold() {
    let [mine, other] = [(); 2].map(|()| {
        let params = Params {
            name: "A",
            key_type: KeyType::Ed25519,
            now: NOW,
            ..Params::default()
        };
        generate(&params).unwrap().secret_bytes
    });
    let body = |file: &[u8]| Packets::new(file).next().unwrap().unwrap().body.to_vec();
    let (mine, other) = (body(&mine), body(&other));
    let (length, _) = public::public_part(&mine).unwrap();
    let mixed = [&mine[..length], &other[length..]].concat();
    let public = public::PublicKey::parse(&mine).unwrap();
    let sign = |body: &[u8]| {
        let key = SigningKey::unlock(&public, body, None).unwrap();
        let mut area = Vec::new();
        signature::write_subpacket(&mut area, 2, &[0; 4]);
        let hash = sequoia_openpgp::types::HashAlgorithm::SHA256;
        key.sign(signature::kind::BINARY, hash, &area, &[b"x"])
    };
    assert!(sign(&mine).is_ok());
    assert!(matches!(sign(&mixed), Err(Error::Signing)));
}

#[test]
fn nobody_signs_by_a_key_that_was_only_adopted() {
    use signature::{flag, kind, write_subpacket};
    let made = |()| {
        let params = Params {
            name: "A",
            key_type: KeyType::Ed25519,
            now: NOW,
            ..Params::default()
        };
        let pair = generate(&params).unwrap();
        let ring = Keyring::parse(&pair.secret_bytes).unwrap();
        ring.into_entities().remove(0)
    };
    let [eve, victim, other] = [(); 3].map(made);
    // A signature over the victim's key as a sub-key of `primary`.
    let sign = |by: &Entity, primary: &Entity, kind, areas: &[(u8, &[u8])]| {
        let mut area = Vec::new();
        write_subpacket(&mut area, 2, &[0x6b, 0, 0, 0]);
        write_subpacket(&mut area, 16, &by.key_id().to_be_bytes());
        for (number, body) in areas {
            write_subpacket(&mut area, *number, body);
        }
        let (primary, subkey) = (primary.primary_key(), victim.primary_key());
        let (first, second) = (primary.hash_prefix(), subkey.hash_prefix());
        let parts = [&first[..], &primary.body, &second, &subkey.body];
        let hash = sequoia_openpgp::types::HashAlgorithm::SHA256;
        by.unlock(None)
            .unwrap()
            .sign(kind, hash, &area, &parts)
            .unwrap()
    };
    let public = eve.public_bytes();
    let start: Vec<u8> = Packets::new(&public)
        .take(3)
        .flat_map(|packet| packet.unwrap().raw.to_vec())
        .collect();
    let signs = |binding: &[u8]| {
        let mut file = start.clone();
        packet::write(&mut file, tag::PUBLIC_SUBKEY, &victim.primary_key().body);
        packet::write(&mut file, tag::SIGNATURE, binding);
        let ring = Keyring::parse(&file).unwrap();
        ring.has_signing_key(victim.key_id())
    };
    const SIGNS: (u8, &[u8]) = (27, &[flag::SIGN]);
    let bind = |by: &Entity, areas: &[(u8, &[u8])]| sign(by, &eve, kind::SUBKEY_BINDING, areas);
    let consent = sign(&victim, &eve, kind::PRIMARY_BINDING, &[]);
    assert!(signs(&bind(&eve, &[SIGNS, (32, &consent)])));
    assert!(!signs(&bind(&eve, &[SIGNS])), "no consent");
    assert!(!signs(&bind(&eve, &[(32, &consent)])), "not for signing");
    assert!(
        !signs(&bind(&other, &[SIGNS, (32, &consent)])),
        "by another"
    );
    for (consent, fault) in [
        (sign(&eve, &eve, kind::PRIMARY_BINDING, &[]), "by itself"),
        (
            sign(&victim, &other, kind::PRIMARY_BINDING, &[]),
            "to another",
        ),
    ] {
        assert!(!signs(&bind(&eve, &[SIGNS, (32, &consent)])), "{fault}");
    }
    // In the area that is not signed consent is as good, and a right is none.
    let unsigned = |mut binding: Vec<u8>, number: u8, body: &[u8]| {
        let at = 6 + usize::from(u16::from_be_bytes([binding[4], binding[5]]));
        let mut area = Vec::new();
        write_subpacket(&mut area, number, body);
        let length = u16::try_from(area.len()).unwrap().to_be_bytes();
        binding.splice(at..at + 2, [&length[..], &area].concat());
        binding
    };
    let other_kind = sign(&victim, &eve, kind::SUBKEY_BINDING, &[]);
    assert!(signs(&unsigned(bind(&eve, &[SIGNS]), 32, &consent)));
    assert!(!signs(&unsigned(bind(&eve, &[SIGNS]), 32, &other_kind)));
    let unsigned = unsigned(bind(&eve, &[(32, &consent)]), 27, &[flag::SIGN]);
    assert!(!signs(&unsigned), "unsigned flags");
}

#[test]
fn finds_signing_subkeys_but_not_certifying_primaries() {
    let keyring = keyring("gpg/subkey.pub");
    let ids: Vec<_> = keyring.entities()[0].keys().map(|(id, _)| id).collect();
    let signing: Vec<_> = ids.iter().map(|id| keyring.has_signing_key(*id)).collect();
    assert_eq!(signing, [false, true, false]);
}

#[test]
fn reads_every_armored_block() {
    let mut text = b"some words\n".to_vec();
    text.extend(fixture("peers/keys/pgp-one.pub.asc"));
    text.extend_from_slice(
        b"\nbetween\n-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n",
    );
    text.extend(fixture("peers/keys/pgp-two.sec.asc"));
    let entities = entities_from_armored_or_binary(&text).unwrap();
    assert_eq!(entities.len(), 2);
    assert!(entities[1].has_secret());
    let binary = fixture("peers/keys/keyring/pgp-public");
    assert_eq!(entities_from_armored_or_binary(&binary).unwrap().len(), 2);
    assert!(entities_from_armored_or_binary(b"").unwrap().is_empty());
}

#[test]
fn names_files_without_keys() {
    let fail = |text: &[u8]| {
        let result = entities_from_armored_or_binary(text);
        result.err().unwrap().to_string()
    };
    assert_eq!(
        fail(b"nothing here"),
        "openpgp: invalid argument: no armored data found"
    );
    assert_eq!(
        fail(b"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"),
        "openpgp: invalid argument: expected public or private key block, got: PGP SIGNATURE"
    );
}

#[test]
fn reprotects_primary_and_subkeys() {
    for (name, old) in [
        ("gpg/locked.sec", Some(&b"correct horse"[..])),
        ("gpg/lockedec.sec", Some(b"correct horse")),
        ("gpg/subkey.sec", None),
    ] {
        let entity = one(name);
        let locked = reprotect(&entity, old, Some(b"new")).unwrap();
        let locked = Keyring::parse(&locked).unwrap().into_entities().remove(0);
        assert!(locked.public_bytes() == entity.public_bytes());
        assert!(locked.unlock(Some(b"new")).is_ok());
        assert!(matches!(
            locked.unlock(Some(b"correct horse")),
            Err(Error::Checksum)
        ));
        let states = |entity: &Entity| -> Vec<SecretState> {
            let packets = entity.packets();
            packets
                .filter(|packet| matches!(packet.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY))
                .map(|packet| {
                    let (length, _) = public::public_part(packet.body).unwrap();
                    secret::state(packet.body, length).unwrap()
                })
                .collect()
        };
        assert!(states(&locked).iter().all(|s| *s == SecretState::Encrypted));
        let clear = reprotect(&locked, Some(b"new"), None).unwrap();
        let clear = Keyring::parse(&clear).unwrap().into_entities().remove(0);
        assert!(states(&clear).iter().all(|s| *s == SecretState::Clear));
        assert!(clear.unlock(None).is_ok());
    }
    let wrong = reprotect(&one("gpg/locked.sec"), Some(b"wrong"), None);
    assert!(matches!(wrong, Err(Error::Checksum)));
    // A stub stays a stub.
    let stub = reprotect(&one("gpg/stub.sec"), None, Some(b"new")).unwrap();
    let stub = Keyring::parse(&stub).unwrap().into_entities().remove(0);
    assert_eq!(stub.secret_state(), SecretState::Stub);
}

#[test]
fn the_cost_of_unlocking_is_that_of_all_parts_together() {
    let locked = one("gpg/locked.sec");
    // Argon2 with 16 passes over 1 GiB: for one part that is allowed.
    let costly = [&[254, 9, 4][..], &[7; 16], &[16, 1, 20], &[8; 16 + 40]].concat();
    let flooded = |number: usize, protection: &[u8]| {
        let (mut start, mut parts, mut subkeys) = (Vec::new(), Vec::new(), false);
        for packet in locked.packets() {
            subkeys |= packet.tag == tag::SECRET_SUBKEY;
            let (length, _) = public::public_part(packet.body).unwrap_or_default();
            let body = match packet.tag {
                tag::SECRET_SUBKEY => [&packet.body[..length], protection].concat(),
                _ => packet.body.to_vec(),
            };
            let out = if subkeys { &mut parts } else { &mut start };
            packet::write(out, packet.tag, &body);
        }
        assert!(subkeys);
        let file = [start, parts.repeat(number)].concat();
        Keyring::parse(&file).unwrap().into_entities().remove(0)
    };
    let many = flooded(10, &costly);
    let start = std::time::Instant::now();
    let result = reprotect(&many, Some(b"correct horse"), Some(b"new"));
    assert!(matches!(result, Err(Error::CostlySecret(_))));
    // The iterated digest at its most costly, and one that costs next to nothing.
    let iterated = |count| [&[254, 9, 3, 8][..], &[7; 8], &[count], &[8; 16 + 40]].concat();
    let result = reprotect(&flooded(200, &iterated(255)), Some(b"correct horse"), None);
    assert!(matches!(result, Err(Error::CostlySecret(_))));
    let result = reprotect(&flooded(200, &iterated(0)), Some(b"correct horse"), None);
    assert!(matches!(result, Err(Error::Checksum)));
    assert!(start.elapsed().as_secs() < 30);
}

#[test]
fn generates_what_apptainer_generates() {
    let params = Params {
        name: "Alice Builder",
        comment: "fixture",
        email: "alice@example.org",
        key_type: KeyType::Rsa(0),
        lifetime: None,
        passphrase: Some(b"pass"),
        now: 1_795_339_157,
    };
    let pair = generate(&params).unwrap();
    let entity = Keyring::parse(&pair.secret_bytes)
        .unwrap()
        .into_entities()
        .remove(0);
    assert_eq!(entity.bit_length(), 2048);
    assert_eq!(entity.fingerprint(), pair.fingerprint);
    assert_eq!(entity.secret_state(), SecretState::Encrypted);
    assert_eq!(entity.usable_for_signing(NOW + 1_000_000), Ok(()));
    assert!(entity.public_bytes() == pair.public_bytes);
    assert!(entity.unlock(Some(b"pass")).is_ok());

    // Same packets and sub-packets as the peer's key; numbers, ids and salts differ.
    type Fields = Vec<(u8, Vec<u8>)>;
    let shape = |bytes: &[u8]| -> Vec<(u8, Fields)> {
        Packets::new(bytes)
            .map(|packet| {
                let packet = packet.unwrap();
                let mut list = Vec::new();
                if packet.tag == tag::SIGNATURE {
                    let mut fields = packet::Fields(&packet.body[4..]);
                    let length = usize::from(fields.u16().unwrap());
                    let mut area = packet::Fields(fields.take(length).unwrap());
                    while !area.0.is_empty() {
                        let length = usize::from(area.u8().unwrap());
                        let body = area.take(length).unwrap();
                        let value = match body[0] & 0x7f {
                            16 | 33 => vec![],
                            20 => body[1..37].to_vec(),
                            _ => body[1..].to_vec(),
                        };
                        list.push((body[0], value));
                    }
                    list.push((0, packet.body[..4].to_vec()));
                    list.push((0, fields.take(2).unwrap().to_vec()));
                }
                (packet.tag, list)
            })
            .collect()
    };
    let peer = keyring("peers/keys/keyring/pgp-public");
    assert_eq!(shape(&pair.public_bytes), shape(peer.entities()[0].raw()));
}

#[test]
fn refuses_bad_parameters_for_new_keys() {
    let fail = |name: &str, bits| {
        let params = Params {
            name,
            key_type: KeyType::Rsa(bits),
            ..Params::default()
        };
        generate(&params).err().unwrap().to_string()
    };
    for bits in [-1, 1, 1023, i64::MIN] {
        assert_eq!(
            fail("a", bits),
            "openpgp: invalid argument: bits must be >= 1024"
        );
    }
    for name in ["a(", "a)", "<", ">", "\0"] {
        assert_eq!(
            fail(name, 0),
            "openpgp: invalid argument: user id field contained invalid characters"
        );
    }
}

#[test]
fn every_cut_of_a_keyring_is_survived() {
    let file = fixture("gpg/subkey.sec");
    for length in 0..file.len() {
        if let Ok(keyring) = Keyring::parse(&file[..length]) {
            for entity in keyring.entities() {
                let _ = (entity.unlock(None).err(), entity.public_bytes());
            }
        }
    }
}

#[test]
fn large_nonsense_is_read_in_linear_time() {
    const SIZE: usize = 1 << 20;
    let long_line = [b"-----BEGIN PGP X-----\n\n", &[b'A'; 98][..], b"\n"].concat();
    let repeat = |unit: &[u8]| -> Vec<u8> { unit.iter().copied().cycle().take(SIZE).collect() };
    let ring = fixture("gpg/ed25519.pub");
    let packets: Vec<_> = Packets::new(&ring).map(|p| p.unwrap().raw).collect();
    let certified = [packets[0], &[packets[1], packets[2]].concat().repeat(2000)].concat();
    let start = std::time::Instant::now();
    let keyring = Keyring::parse(&certified).unwrap();
    assert_eq!(keyring.entities()[0].user_ids().count(), 1);
    for unit in [
        &[0xc6, 0][..],
        &[0xce, 0],
        b"\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
        b"\n-----BEGIN PGP SIGNED MESSAGE-----\n\n",
        b"=",
        &long_line,
    ] {
        let data = repeat(unit);
        let _ = Keyring::parse(&data).is_ok();
        let _ = entities_from_armored_or_binary(&data).is_ok();
        assert!(!crate::signer::pgp::is_clear_signed(&data));
    }
    // Minutes if anything were quadratic.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = entities_from_armored_or_binary(&bytes).is_ok();
        let _ = signature::Signature::parse(&bytes).is_ok();
        let _ = UserId::parse(&bytes);
        let mut key = vec![0xc6, 255, 0, 0, 0, 0];
        key[5] = bytes.len().min(255).try_into().unwrap();
        key.extend_from_slice(&bytes);
        let _ = Keyring::parse(&key).is_ok();
    }

    #[test]
    fn damaged_keys_never_panic(at in 0usize..800, value in any::<u8>(), which in 0usize..4) {
        let name = ["gpg/subkey.sec", "gpg/dsa.pub", "gpg/p521.sec", "gpg/rsa.pub"][which];
        let mut file = fixture(name);
        let at = at % file.len();
        file[at] = value;
        if let Ok(keyring) = Keyring::parse(&file) {
            for entity in keyring.entities() {
                let _ = entity.unlock(None).is_ok();
                let _ = entity.public_bytes();
                let _ = entity.usable_for_signing(NOW);
            }
        }
    }

    #[test]
    fn splits_user_ids_without_losing_bytes(id in ".{0,40}") {
        let parsed = UserId::parse(id.as_bytes());
        prop_assert_eq!(&parsed.raw, &id);
    }
}
