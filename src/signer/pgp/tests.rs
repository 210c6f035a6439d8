use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::key::pgp::{
    Entity,
    tests::{NOW, fixture, keyring, sif_corpus},
};

/// What go-crypto 1.4.1 answered, see fixtures/gpg/README.md.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    message: String,
    keyring: String,
    now: u64,
    error: String,
    signer: String,
    text: String,
}

fn entity(name: &str) -> Entity {
    keyring(name).into_entities().remove(0)
}

fn sealed(key: &Entity, passphrase: Option<&[u8]>, text: &[u8], salt: bool) -> Vec<u8> {
    let key = key.unlock(passphrase).unwrap();
    let options = SealOptions {
        created: NOW - 10,
        salt,
    };
    seal(text, &key, &options).unwrap()
}

#[test]
fn answers_as_go_crypto() {
    let answers: Vec<Answer> = serde_json::from_slice(&fixture("gpg/answers.json")).unwrap();
    assert!(answers.len() > 50);
    for mut answer in answers {
        if answer.keyring == BRAINPOOL {
            // Known difference: no Brainpool curves here, the key is skipped.
            answer.error = "openpgp: signature made by unknown entity".into();
            answer.signer.clear();
        }
        let case = format!("{} {} {}", answer.message, answer.keyring, answer.now);
        let keyring = keyring(&format!("gpg/{}", answer.keyring));
        let message = fixture(&format!("gpg/{}", answer.message));
        let (error, signer) = match open(&message, &[&keyring], answer.now) {
            Ok(opened) => {
                assert_eq!(opened.payload(), answer.text.as_bytes(), "{case}");
                (String::new(), Some(opened.signer().clone()))
            }
            Err(failure) => (failure.to_string(), failure.signer().cloned()),
        };
        assert_eq!(error, answer.error, "{case}");
        let signer = signer.map_or(String::new(), |s| s.primary_fingerprint().to_string());
        assert_eq!(signer, answer.signer, "{case}");
    }
}

#[test]
fn opens_a_signature_apptainer_made() {
    let image = fixture("peers/native/pgp-one.sif");
    let from = image
        .windows(BEGIN.len())
        .rposition(|window| window == BEGIN)
        .unwrap();
    let keyring = keyring("peers/keys/keyring/pgp-public");
    let opened = open(
        &image[from..],
        &[&Keyring::default(), &keyring],
        1_795_400_000,
    )
    .unwrap();
    assert!(opened.payload().starts_with(br#"{"version":1,"header":"#));
    let signer = opened.signer();
    assert_eq!((signer.keyring_index(), signer.entity_index()), (1, 0));
    assert_eq!(
        signer.user_id(),
        Some("Alice Builder (fixture) <alice@example.org>")
    );
    assert_eq!(signer.primary_fingerprint(), signer.signing_fingerprint());
    assert_eq!(issuers(&image[from..]), [0x22CC_7329_2934_D01F]);
}

#[test]
fn names_primary_and_subkey_apart() {
    let keyring = keyring("gpg/subkey.pub");
    let opened = open(&fixture("gpg/subkey.json.asc"), &[&keyring], NOW).unwrap();
    let signer = opened.signer();
    assert_eq!(
        *signer.primary_fingerprint(),
        keyring.entities()[0].fingerprint()
    );
    assert_ne!(signer.primary_fingerprint(), signer.signing_fingerprint());
}

#[test]
fn the_known_answer_is_made_byte_for_byte() {
    let (Some(key), Some(image)) = (
        sif_corpus("keys/private.asc"),
        sif_corpus("images/one-group-signed-pgp.sif"),
    ) else {
        return;
    };
    let key = crate::key::pgp::entities_from_armored_or_binary(&key)
        .unwrap()
        .remove(0);
    let wanted = &image[40960..40960 + 1048];
    let text = parse(wanted).unwrap().plaintext().to_vec();
    let options = SealOptions {
        created: 1_593_475_316,
        salt: false,
    };
    let made = seal(&text, &key.unlock(None).unwrap(), &options).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&made),
        String::from_utf8_lossy(wanted)
    );
}

#[test]
fn opens_what_it_seals() {
    let locked = Some(&b"correct horse"[..]);
    for (name, passphrase) in [
        ("gpg/ed25519.sec", None),
        ("gpg/p256.sec", None),
        ("gpg/p384.sec", None),
        ("gpg/p521.sec", None),
        ("gpg/dsa.sec", None),
        ("gpg/rsa.sec", None),
        ("gpg/newed25519.sec", None),
        ("gpg/newed448.sec", None),
        ("gpg/locked.sec", locked),
        ("gpg/lockedec.sec", locked),
    ] {
        for salt in [false, true] {
            let text = b"- dash\n\n{\"a\": 1}";
            let message = sealed(&entity(name), passphrase, text, salt);
            let opened = open(&message, &[&keyring(name)], NOW).unwrap();
            assert_eq!(opened.payload(), text, "{name}");
            assert_eq!(opened.signer().created(), NOW - 10);
        }
    }
}

#[test]
fn repeats_without_salt_only() {
    let key = entity("gpg/rsa.sec");
    let make = |salt| sealed(&key, None, b"text", salt);
    assert_eq!(make(false), make(false));
    assert_ne!(make(true), make(true));
}

#[test]
fn does_not_seal_text_that_would_change() {
    let key = entity("gpg/ed25519.sec").unlock(None).unwrap();
    let options = SealOptions {
        created: NOW,
        salt: true,
    };
    for text in [&b"a \nb"[..], b"a\n", b"a\r\nb", b"a\t"] {
        assert!(matches!(
            seal(text, &key, &options),
            Err(Error::TextNotKept)
        ));
    }
}

#[test]
fn text_behind_the_padding_matters_only_when_it_is_reached() {
    // The checksum line turned into base64 text: the packet in front of it is whole.
    let good = String::from_utf8(fixture("gpg/ed25519.json.asc")).unwrap();
    assert!(good.contains("=\n="), "padding, then a checksum");
    let odd = good.replace("=\n=", "=\nA");
    let keyring = keyring("gpg/ed25519.pub");
    assert!(open(odd.as_bytes(), &[&keyring], NOW).is_ok());
    let unknown = open(odd.as_bytes(), &[&Keyring::default()], NOW);
    assert!(matches!(unknown.unwrap_err().error(), Error::Armor));
}

#[test]
fn a_version_6_key_verifies_but_does_not_sign() {
    let opened = open(&fixture("gpg/v6.json.asc"), &[&keyring("gpg/v6.pub")], NOW).unwrap();
    assert_eq!(opened.signer().primary_fingerprint().as_bytes().len(), 32);
    assert!(entity("gpg/v6.sec").unlock(None).is_err());
}

#[test]
fn a_second_key_with_the_same_id_is_tried() {
    // Twice the same entity: the first one decides, whichever keyring it is in.
    let one = keyring("gpg/ed25519.pub");
    let message = fixture("gpg/ed25519.json.asc");
    let opened = open(&message, &[&keyring("gpg/p256.pub"), &one, &one], NOW).unwrap();
    assert_eq!(opened.signer().keyring_index(), 1);
}

/// A key, and the same one with another end in a newer signature, seconds behind its making.
fn with_other_end(secret: &[u8], end: u64) -> Keyring {
    use sequoia_openpgp::{Cert, parse::Parse, policy::StandardPolicy, serialize::Serialize};
    use std::time::Duration;
    let policy = StandardPolicy::new();
    let cert = Cert::from_bytes(secret).unwrap();
    let key = cert.primary_key().key().clone();
    let end = key.creation_time() + Duration::from_secs(end);
    let mut signer = key.parts_into_secret().unwrap().into_keypair().unwrap();
    let primary = cert.with_policy(&policy, None).unwrap();
    let primary = primary.primary_key();
    let signatures = primary.set_expiration_time(&mut signer, Some(end)).unwrap();
    let (cert, _) = cert.insert_packets(signatures).unwrap();
    let mut bytes = Vec::new();
    cert.as_tsk().serialize(&mut bytes).unwrap();
    Keyring::parse(&bytes).unwrap()
}

#[test]
fn an_end_that_any_copy_of_a_key_knows_counts() {
    // The other signatures are made now.
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let pair = crate::key::pgp::generate(&crate::key::pgp::Params {
        name: "x",
        now: now - 100,
        ..Default::default()
    });
    let first = Keyring::parse(&pair.unwrap().secret_bytes).unwrap();
    let key = first.entities()[0].unlock(None).unwrap();
    let options = SealOptions {
        created: now - 50,
        salt: false,
    };
    let message = seal(b"x", &key, &options).unwrap();
    let shorter = with_other_end(first.entities()[0].raw(), 500);
    let judged =
        |rings: &[&Keyring], now: u64| open(&message, rings, now).map_err(|e| e.to_string());
    for rings in [[&first, &shorter], [&shorter, &first]] {
        assert!(judged(&rings, now + 400).is_ok());
        let late = judged(&rings, now + 401).unwrap_err();
        assert_eq!(late, "openpgp: key expired");
    }
    assert!(judged(&[&first], now + 401).is_ok());
    // One that lives longer for a newer signature does so where it is asked first.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let longer = with_other_end(first.entities()[0].raw(), 600);
    assert!(judged(&[&longer, &shorter], now + 401).is_ok());
    assert!(judged(&[&shorter, &longer], now + 401).is_err());
}

#[test]
fn frames_as_strictly_as_go_crypto() {
    let armor =
        "-----BEGIN PGP SIGNATURE-----\nComment: x\n\nAAAA\n=AAAA\n-----END PGP SIGNATURE-----";
    let begin = "-----BEGIN PGP SIGNED MESSAGE-----";
    for (text, plain) in [
        (format!("{begin}\n\na\n{armor}"), Some("a")),
        (
            format!("x\n{begin}\r\nHash: sha256 , SHA1\r\n\r\n- -a \t\r\nb\r\n{armor}\nx"),
            Some("-a\nb"),
        ),
        (format!("{begin}\n \n\n{armor}"), Some("")),
        (
            format!("{begin}\nHash: SHA256\nHash: MD5\n\na\n{armor}"),
            Some("a"),
        ),
        (format!("x{begin}\n\na\n{armor}"), None),
        (format!("{begin} \n\na\n{armor}"), None),
        (format!("{begin}\nHash: SHA999\n\na\n{armor}"), None),
        (format!("{begin}\nhash: SHA256\n\na\n{armor}"), None),
        (format!("{begin}\nHash: SHA256\t\n\na\n{armor}"), None),
        (format!("{begin}\nComment: a\n\na\n{armor}"), None),
        (format!("{begin}\nHash SHA256\n\na\n{armor}"), None),
        (format!("{begin}\n\n{armor}"), None),
        (format!("{begin}\n\na\n"), None),
        (format!("{begin}\n\na\n{}", &armor[..armor.len() - 3]), None),
        (
            format!("{begin}\n\na\n{}", armor.replace("x\n\n", "x\n")),
            None,
        ),
    ] {
        let message = parse(text.as_bytes());
        let found = message.map(|m| String::from_utf8_lossy(m.plaintext()).into_owned());
        assert_eq!(found.as_deref(), plain, "{text}");
    }
}

#[test]
fn broken_armor_and_foreign_packets_are_named() {
    let good = String::from_utf8(fixture("gpg/ed25519.json.asc")).unwrap();
    let keyring = keyring("gpg/ed25519.pub");
    let fail = |text: &str| {
        let result = open(text.as_bytes(), &[&keyring], NOW);
        result.unwrap_err().to_string()
    };
    let at = good.find("SIGNATURE-----\n\n").unwrap() + 16;
    let with = |body: &str| {
        let end = good[at..].find("-----END").unwrap() + at;
        format!("{}{body}\n{}", &good[..at], &good[end..])
    };
    assert_eq!(fail("x"), "clearsigned message not found");
    assert_eq!(fail(&with("!!!!")), "openpgp: invalid data: armor invalid");
    assert_eq!(
        fail(&with("AAAA")),
        "openpgp: invalid data: tag byte does not have MSB set"
    );
    // A user id packet.
    assert_eq!(
        fail(&with("zQFh")),
        "openpgp: invalid data: non signature packet found"
    );
    assert_eq!(fail(&with("")), "openpgp: signature made by unknown entity");
    assert_eq!(fail(&with("wl0A")), "unexpected EOF");
}

#[test]
fn every_changed_bit_of_the_text_is_refused() {
    let keyring = keyring("gpg/ed25519.pub");
    let good = fixture("gpg/ed25519.json.asc");
    let from = good.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
    let text = parse(&good).unwrap().plaintext().to_vec();
    assert!(open(&good, &[&keyring], NOW).is_ok());
    for at in from..from + text.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(open(&bad, &[&keyring], NOW).is_err(), "{at} {bit}");
        }
    }
}

#[test]
fn every_changed_bit_of_the_signature_packet_is_refused() {
    let keyring = keyring("gpg/ed25519.pub");
    let packet = parse(&fixture("gpg/ed25519.json.asc"))
        .unwrap()
        .signature_body()
        .to_vec();
    let with = |packet: &[u8]| {
        let body = STANDARD.encode(packet);
        let lines: Vec<_> = body.as_bytes().chunks(LINE).collect();
        let mut out = b"-----BEGIN PGP SIGNED MESSAGE-----\n\n{\"version\":1,\"text\":\"signed\"}\n-----BEGIN PGP SIGNATURE-----\n\n".to_vec();
        out.extend(lines.join(&b'\n'));
        out.extend(b"\n-----END PGP SIGNATURE-----\n");
        out
    };
    assert!(open(&with(&packet), &[&keyring], NOW).is_ok());
    let message = Signature::parse(&packet[2..]).unwrap();
    let hashed = message.suffix.len() - 6;
    // The unhashed area and the two digest bytes behind it are not covered by any signature.
    let unhashed = 2 + usize::from(packet[2 + hashed]) * 256 + usize::from(packet[3 + hashed]);
    let free = 2 + hashed..2 + hashed + unhashed + 2;
    let counts = [free.end + 1, free.end + 2 + 32 + 1];
    for at in (0..packet.len()).filter(|at| !free.contains(at)) {
        for bit in 0..8 {
            let mut bad = packet.clone();
            bad[at] ^= 1 << bit;
            if open(&with(&bad), &[&keyring], NOW).is_ok() {
                // The bit count of a number may change as long as its byte count does not.
                assert!(counts.contains(&at), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn every_cut_is_survived() {
    let keyring = keyring("gpg/rsa.pub");
    let good = fixture("gpg/rsa.json.asc");
    let end = good.len() - 1;
    for length in 0..end {
        assert!(open(&good[..length], &[&keyring], NOW).is_err());
    }
}

/// The message of `gpg/ed25519.json.asc` around other packets, then any text.
fn with_packets(packets: &[u8], tail: &str) -> Vec<u8> {
    let good = fixture("gpg/ed25519.json.asc");
    let mark = b"-----BEGIN PGP SIGNATURE-----\n\n";
    let at = good.windows(mark.len()).position(|w| w == mark).unwrap() + mark.len();
    let mut message = good[..at].to_vec();
    for line in STANDARD.encode(packets).as_bytes().chunks(LINE) {
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message.extend_from_slice(tail.as_bytes());
    message.extend_from_slice(b"-----END PGP SIGNATURE-----\n");
    message
}

fn packets_of(name: &str) -> Vec<u8> {
    let message = parse(&fixture(name)).unwrap();
    message.signature_body().to_vec()
}

/// Recorded from go-crypto 1.4.1 with `judge`, a one-byte packet in front of the signature.
#[test]
fn packets_before_the_signature_are_judged_as_by_go_crypto() {
    let keyring = keyring("gpg/ed25519.pub");
    let signature = packets_of("gpg/ed25519.json.asc");
    let answer = |packet: &[u8]| {
        let message = with_packets(&[packet, &signature].concat(), "");
        match open(&message, &[&keyring], NOW) {
            Ok(opened) => opened.signer().primary_fingerprint().to_string()[32..].to_owned(),
            Err(failure) => failure.to_string(),
        }
    };
    let held = "55CA2F60";
    assert_eq!(answer(b""), held);
    assert_eq!(answer(b"\xca\x03PGP"), held, "a marker");
    let marker = "openpgp: invalid data: invalid marker packet";
    assert_eq!(answer(b"\xca\x03PGQ"), marker);
    assert_eq!(answer(b"\xca\x02PG"), marker);
    for tag in (0..64).filter(|tag| !(1..=11).contains(tag)) {
        let wanted = match tag {
            12 | 40.. => held.to_owned(),
            // Go reads these and complains of their content, or that they are no signature.
            13 | 14 | 17 | 18 | 20 | 21 => {
                "openpgp: invalid data: non signature packet found".to_owned()
            }
            _ => format!("openpgp: unknown critical packet type: {tag}"),
        };
        assert_eq!(answer(&[0xc0 | tag, 1, 0]), wanted, "{tag}");
    }
}

/// go-crypto: `illegal base64 data` for the first two, known to differ in words.
#[test]
fn a_packet_that_broken_armor_cuts_is_the_fault_of_the_armor() {
    let keyring = keyring("gpg/ed25519.pub");
    let signature = packets_of("gpg/ed25519.json.asc");
    let fail = |packets: &[u8], tail| {
        let failed = open(&with_packets(packets, tail), &[&keyring], NOW).unwrap_err();
        failed.to_string()
    };
    let armor = "openpgp: invalid data: armor invalid";
    assert_eq!(fail(&signature[..60], "!!!!\n"), armor);
    assert_eq!(fail(&signature[..3], "!!!!\n"), armor);
    assert_eq!(fail(&signature[..60], ""), "unexpected EOF");
}

/// go-crypto: of two CRs the first protects the second, so the LF behind them gets its own.
#[test]
fn text_is_hashed_with_a_cr_before_every_unprotected_line_end() {
    for (text, hashed) in [
        ("a\nb", "a\r\nb"),
        ("a\r\nb", "a\r\nb"),
        ("a\r\r\nb", "a\r\r\r\nb"),
        ("a\r\r\r\nb", "a\r\r\r\nb"),
        ("\n\n", "\r\n\r\n"),
        ("a\rb\n", "a\rb\r\n"),
        ("a\r", "a\r"),
    ] {
        let found = clearsign::canonical(text.as_bytes());
        assert_eq!(String::from_utf8(found).unwrap(), hashed, "{text:?}");
    }
}

/// Octets of RFC 9580, section 9.5, and the names there.
#[test]
fn the_hash_line_names_the_hash_of_the_packet() {
    let hash_of = |message: &[u8]| {
        let body = parse(message).unwrap().signature_body().to_vec();
        match Packets::new(&body).next().unwrap().unwrap().body[3] {
            8 => "SHA256",
            9 => "SHA384",
            10 => "SHA512",
            11 => "SHA224",
            other => panic!("{other}"),
        }
    };
    let line = |message: &[u8]| {
        let text = String::from_utf8(message.to_vec()).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    let mut seen = Vec::new();
    for name in ["ed25519", "p384", "p521", "newed448"] {
        let made = sealed(&entity(&format!("gpg/{name}.sec")), None, b"text", false);
        assert_eq!(line(&made), format!("Hash: {}", hash_of(&made)), "{name}");
        seen.push(hash_of(&made));
    }
    assert_eq!(seen, ["SHA256", "SHA384", "SHA512", "SHA512"]);
    // The line that GnuPG wrote stays when its message is written again.
    for hash in ["sha224", "sha384", "sha512"] {
        let message = fixture(&format!("gpg/ed25519.{hash}.asc"));
        let again = canonical(&message).unwrap().bytes;
        assert_eq!(line(&again), line(&message));
        assert_eq!(line(&again), format!("Hash: {}", hash.to_uppercase()));
    }
}

#[test]
fn binary_signatures_have_their_one_form_too() {
    let secret = entity("gpg/ed25519.sec");
    let key = secret.unlock(None).unwrap();
    let (framed, signed) = clearsign::frame(b"- a\nb");
    let mut area = Vec::new();
    signature::write_subpacket(&mut area, 2 | CRITICAL, &1_795_000_000_u32.to_be_bytes());
    signature::write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
    let make = |kind| {
        let body = key.sign(kind, HashAlgorithm::SHA256, &area, &[&signed]);
        let mut packet = Vec::new();
        packet::write(&mut packet, tag::SIGNATURE, &body.unwrap());
        assemble(HashAlgorithm::SHA256, &framed, &packet, false)
    };
    let made = make(kind::BINARY);
    let ring = keyring("gpg/ed25519.sec");
    let opened = open(&made, &[&ring], NOW).unwrap();
    assert_eq!(opened.payload(), b"- a\nb");
    assert_eq!(canonical(&made).unwrap().bytes, made);
    // A standalone signature (RFC 9580, section 5.2.1.3) covers no text.
    let standalone = make(2);
    let refused = open(&standalone, &[&ring], NOW).unwrap_err().to_string();
    assert_eq!(
        refused,
        "openpgp: unsupported feature: unsupported signature type: 2"
    );
    assert!(canonical(&standalone).is_none());
}

#[test]
fn the_signer_is_found_where_it_stands_in_its_keyring() {
    let both = [fixture("gpg/p256.pub"), fixture("gpg/ed25519.pub")].concat();
    let ring = Keyring::parse(&both).unwrap();
    for (name, place) in [("p256", 0), ("ed25519", 1)] {
        let message = fixture(&format!("gpg/{name}.json.asc"));
        let opened = open(&message, &[&ring], NOW).unwrap();
        assert_eq!(opened.signer().entity_index(), place);
        let named = ring.entities()[place].fingerprint();
        assert_eq!(*opened.signer().primary_fingerprint(), named);
    }
}

#[test]
fn a_clear_signed_message_is_known_from_other_data() {
    assert!(is_clear_signed(&fixture("gpg/p256.json.asc")));
    assert!(!is_clear_signed(&fixture("gpg/p256.pub")));
    assert!(!is_clear_signed(b""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_text_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
        let mut message = b"-----BEGIN PGP SIGNED MESSAGE-----\n\n".to_vec();
        message.extend_from_slice(&bytes);
        message.extend_from_slice(b"\n-----BEGIN PGP SIGNATURE-----\n\n");
        message.extend_from_slice(STANDARD.encode(&bytes).as_bytes());
        message.extend_from_slice(b"\n-----END PGP SIGNATURE-----");
        let _ = issuers(&message);
        let opened = open(&message, &[&Keyring::default()], NOW);
        prop_assert!(opened.is_err());
    }

    #[test]
    fn damaged_messages_never_panic(at in 0usize..700, value in any::<u8>()) {
        let keyring = keyring("gpg/rsa.pub");
        let mut message = fixture("gpg/rsa.odd.asc");
        let at = at % message.len();
        message[at] = value;
        let _ = open(&message, &[&keyring], NOW);
    }

    #[test]
    fn framing_keeps_any_lines(lines in proptest::collection::vec("[ -~]{0,20}[!-~]", 1..6)) {
        let text = lines.join("\n");
        let (framed, signed) = clearsign::frame(text.as_bytes());
        let mut message = b"-----BEGIN PGP SIGNED MESSAGE-----\n\n".to_vec();
        message.extend_from_slice(&framed);
        message.extend_from_slice(b"-----BEGIN PGP SIGNATURE-----\n\n\n-----END PGP SIGNATURE-----");
        let parsed = parse(&message).unwrap();
        prop_assert_eq!(parsed.plaintext(), text.as_bytes());
        prop_assert_eq!(parsed.signed_bytes(), &signed[..]);
    }
}

/// One changed byte and what go-crypto says: `judge mutate` writes such lines.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mutation {
    name: String,
    part: String,
    at: usize,
    xor: u8,
    error: String,
    signer: String,
    text: String,
}

#[test]
fn changed_bytes_are_judged_as_go_crypto_judges_them() {
    let Some(list) = std::env::var_os("SIGSIF_MUTATIONS") else {
        return;
    };
    let mut differences = 0;
    for line in std::fs::read_to_string(list).unwrap().lines() {
        let wanted: Mutation = serde_json::from_str(line).unwrap();
        let mut message = fixture(&format!("gpg/{}.json.asc", wanted.name));
        let mut ring = fixture(&format!("gpg/{}.pub", wanted.name));
        match wanted.part.as_str() {
            "message" => message[wanted.at] ^= wanted.xor,
            "ring" => ring[wanted.at] ^= wanted.xor,
            _ => {
                let mut packets = parse(&message).unwrap().signature_body().to_vec();
                packets[wanted.at] ^= wanted.xor;
                let end = message
                    .windows(20)
                    .position(|w| w == b"-----BEGIN PGP SIGNA");
                message.truncate(end.unwrap());
                message.extend_from_slice(b"-----BEGIN PGP SIGNATURE-----\n\n");
                for line in STANDARD.encode(&packets).as_bytes().chunks(64) {
                    message.extend_from_slice(line);
                    message.push(b'\n');
                }
                message.extend_from_slice(b"-----END PGP SIGNATURE-----");
            }
        }
        let ring = Keyring::parse(&ring).unwrap_or_default();
        let (error, signer, text) = match open(&message, &[&ring], NOW) {
            Ok(opened) => (
                String::new(),
                opened.signer().primary_fingerprint().to_string(),
                opened.payload().to_vec(),
            ),
            Err(failure) => (
                failure.to_string(),
                failure
                    .signer()
                    .map_or(String::new(), |s| s.primary_fingerprint().to_string()),
                wanted.text.clone().into_bytes(),
            ),
        };
        let same = (error.as_str(), signer.as_str()) == (&*wanted.error, &*wanted.signer)
            && text == wanted.text.as_bytes();
        if !same {
            differences += 1;
            println!(
                "{} {} {} ^{:#x}: go {:?}, here {error:?}",
                wanted.name, wanted.part, wanted.at, wanted.xor, wanted.error
            );
        }
    }
    println!("{differences} differences");
}

/// Hands sealed messages and keys to outside programs, see `tools/peers.sh`.
#[test]
fn writes_samples_for_peers() {
    let Some(out) = std::env::var_os("SIGSIF_SAMPLES").map(PathBuf::from) else {
        return;
    };
    let pass = Some(&b"correct horse"[..]);
    for name in ["ed25519", "p256", "p384", "p521", "dsa", "rsa", "lockedec"] {
        let entity = entity(&format!("gpg/{name}.sec"));
        let passphrase = (name == "lockedec").then_some(&b"correct horse"[..]);
        let message = sealed(&entity, passphrase, b"{\"a\":1}\n- dash\nlast", true);
        std::fs::write(out.join(format!("{name}.asc")), message).unwrap();
        std::fs::write(out.join(format!("{name}.pub")), entity.public_bytes()).unwrap();
        let secret = crate::key::pgp::reprotect(&entity, passphrase, Some(b"new pass")).unwrap();
        std::fs::write(out.join(format!("{name}.reprotected")), &*secret).unwrap();
    }
    for bits in [1024, 2048, 4096, 8192] {
        let params = crate::key::pgp::Params {
            name: "New Key",
            comment: "",
            email: "new@example.org",
            key_type: crate::key::pgp::KeyType::Rsa(bits),
            lifetime: None,
            passphrase: pass,
            now: NOW - 100,
        };
        let pair = crate::key::pgp::generate(&params).unwrap();
        let entity = Keyring::parse(&pair.secret_bytes)
            .unwrap()
            .into_entities()
            .remove(0);
        let message = sealed(&entity, pass, b"{\"a\":1}", true);
        std::fs::write(out.join(format!("new{bits}.asc")), message).unwrap();
        std::fs::write(out.join(format!("new{bits}.pub")), &pair.public_bytes).unwrap();
        std::fs::write(
            out.join(format!("new{bits}.reprotected")),
            &*pair.secret_bytes,
        )
        .unwrap();
    }
}

const BRAINPOOL: &str = "brainpool.pub";
const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
