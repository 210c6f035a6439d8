//! Changes of more than a bit: what strict verification must refuse although
//! every signature holds, and what it leaves open as documented.

use crate::flips::{UNSET, coverage, is_accepted};
use crate::support::table::{self, MASK, SLOT, TABLE, field, header, put_i64, put_u32};
use crate::support::{Home, keyring, peers, public_key, read_peers, run};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sigsif::verify::KeyMaterial;

/// An image with nil id and without times, signed by this program.
pub fn timeless() -> (Vec<u8>, KeyMaterial) {
    let mut bytes = read_peers("native/unsigned.sif");
    bytes[header::ID..header::CREATED].fill(0);
    put_i64(&mut bytes, header::CREATED, UNSET);
    put_i64(&mut bytes, header::CREATED + 8, UNSET);
    for object in table::objects(&bytes) {
        put_i64(&mut bytes, object.at(field::CREATED), UNSET);
        put_i64(&mut bytes, object.at(field::MODIFIED), UNSET);
    }
    let home = Home::new();
    let path = home.join("timeless.sif");
    std::fs::write(&path, bytes).expect("written");
    let key = peers("keys/p256.key.pem");
    run(home.sigsif(["sign", "--key"]).arg(key).arg(&path)).expect(0);
    (std::fs::read(&path).expect("read"), public_key("p256"))
}

/// Replaces the data of the last signature object, which ends the file.
fn with_seal(bytes: &[u8], data: &[u8]) -> Vec<u8> {
    let mut new = bytes.to_vec();
    let signature = table::objects(bytes)
        .into_iter()
        .rfind(table::Object::is_signature)
        .expect("a signature");
    let range = signature.range();
    assert_eq!(range.end, bytes.len());
    new.truncate(range.start);
    new.extend_from_slice(data);
    let size = i64::try_from(data.len()).expect("a size");
    let more = size - signature.size;
    put_i64(&mut new, signature.at(field::SIZE), size);
    put_i64(&mut new, signature.at(field::PADDED), size);
    let data_size = table::i64_at(&new, header::DATA_SIZE);
    put_i64(&mut new, header::DATA_SIZE, data_size + more);
    new
}

fn seal(bytes: &[u8]) -> Vec<u8> {
    let signature = table::objects(bytes)
        .into_iter()
        .rfind(table::Object::is_signature)
        .expect("a signature");
    bytes[signature.range()].to_vec()
}

/// The armored packet of a clear-signed message, and the text in front of it.
fn unarmored(message: &[u8]) -> (String, Vec<u8>) {
    let text = String::from_utf8(message.to_vec()).expect("text");
    let begin = "-----BEGIN PGP SIGNATURE-----\n\n";
    let (front, armor) = text.split_once(begin).expect("armor");
    let (body, _) = armor.split_once("\n-----END").expect("an end");
    let body = body.replace('\n', "");
    let packet = BASE64_STANDARD.decode(body).expect("base64");
    (format!("{front}{begin}"), packet)
}

fn armored(front: &str, packet: &[u8]) -> Vec<u8> {
    let mut out = front.to_owned();
    for line in BASE64_STANDARD.encode(packet).as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).expect("ASCII"));
        out.push('\n');
    }
    out.push_str("-----END PGP SIGNATURE-----");
    out.into_bytes()
}

#[track_caller]
fn assert_loose(what: &str, bytes: &Vec<u8>, material: &KeyMaterial) {
    let coverage = coverage(bytes, material);
    let coverage = coverage.unwrap_or_else(|| panic!("{what}: does not even verify"));
    assert!(!coverage.is_complete(), "{what}: accepted");
}

#[test]
fn what_a_seal_says_in_other_words_is_refused() {
    let good = read_peers("native/pgp-one.sif");
    let material = keyring();
    let message = seal(&good);
    assert!(is_accepted(&with_seal(&good, &message), &material));
    let (front, packet) = unarmored(&message);
    assert_eq!(armored(&front, &packet), message);

    let text = String::from_utf8(message.clone()).expect("text");
    let mut variants: Vec<(&str, Vec<u8>)> = [
        ("text in front", format!("x\n{text}")),
        ("text behind", format!("{text}\nx")),
        ("a final line feed", format!("{text}\n")),
        ("lower-case hash", text.replace("Hash: SHA", "Hash: sha")),
        (
            "another hash name",
            text.replace("Hash: SHA256", "Hash: SHA512"),
        ),
        ("no hash", text.replace("Hash: SHA256\n", "")),
        (
            "a comment",
            text.replace("SIGNATURE-----\n\n", "SIGNATURE-----\nComment: x\n\n"),
        ),
        ("trailing blanks", text.replacen("}\n", "} \n", 1)),
        ("CRLF", text.replace('\n', "\r\n")),
        (
            "a wrong checksum",
            text.replace("\n-----END", "\n=AAAA\n-----END"),
        ),
    ]
    .into_iter()
    .map(|(what, text)| (what, text.into_bytes()))
    .collect();

    // An issuer key id in the unhashed area (RFC 9580, 5.2.3): two octets of
    // length behind the hashed area.
    let head = 3;
    let hashed = usize::from(packet[head + 4]) << 8 | usize::from(packet[head + 5]);
    let unhashed = head + 6 + hashed;
    let mut with_subpacket = packet.clone();
    let subpacket = [&[9, 16][..], &packet_issuer(&packet)].concat();
    with_subpacket[unhashed + 1] = 10;
    with_subpacket.splice(unhashed + 2..unhashed + 2, subpacket);
    variants.push((
        "an unhashed subpacket",
        armored(&front, &relength(with_subpacket)),
    ));
    let mut four_octets = vec![0xc2, 0xff];
    four_octets.extend(
        u32::try_from(packet.len() - 3)
            .expect("small")
            .to_be_bytes(),
    );
    four_octets.extend_from_slice(&packet[3..]);
    variants.push(("a longer length field", armored(&front, &four_octets)));
    variants.push((
        "two packets",
        armored(&front, &[&packet[..], &packet].concat()),
    ));
    let marker = [0xca, 3, b'P', b'G', b'P'];
    variants.push((
        "a marker packet",
        armored(&front, &[&packet[..], &marker].concat()),
    ));
    variants.push((
        "a byte behind the number",
        armored(&front, &relength([&packet[..], &[0]].concat())),
    ));

    for (what, message) in &variants {
        assert_ne!(*message, seal(&good), "{what}: nothing was changed");
        assert_loose(what, &with_seal(&good, message), &material);
    }

    // The checksum that older writers added is the one exception: right or absent.
    let [_, sum @ ..] = crc24(&packet).to_be_bytes();
    let line = format!("\n={}\n-----END", BASE64_STANDARD.encode(sum));
    let with_checksum = text.replace("\n-----END", &line);
    assert!(is_accepted(
        &with_seal(&good, with_checksum.as_bytes()),
        &material
    ));
}

/// The issuer key id of a signature packet: the last 8 bytes of the fingerprint.
fn packet_issuer(packet: &[u8]) -> [u8; 8] {
    let mark = [22, 33, 4];
    let at = packet
        .windows(3)
        .position(|w| w == mark)
        .expect("an issuer fingerprint");
    packet[at + 15..at + 23].try_into().expect("eight bytes")
}

/// Corrects the two-octet length of a packet.
fn relength(mut packet: Vec<u8>) -> Vec<u8> {
    let len = packet.len() - 3 - 192;
    packet[1] = u8::try_from(len >> 8).expect("small") + 192;
    packet[2] = u8::try_from(len & 0xff).expect("a byte");
    packet
}

/// RFC 9580, section 6.1.
fn crc24(data: &[u8]) -> u32 {
    let mut crc = 0x00b7_04ce_u32;
    for byte in data {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4cfb;
            }
        }
    }
    crc & 0x00ff_ffff
}

#[test]
fn what_an_envelope_says_in_other_words_is_refused() {
    let good = read_peers("native/dsse-p256.sif");
    let material = public_key("p256");
    let text = String::from_utf8(seal(&good)).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sig = value["signatures"][0]["sig"].as_str().expect("a signature");
    let keyid = value["signatures"][0]["keyid"].as_str().expect("a key id");
    let raw = BASE64_STANDARD.decode(sig).expect("base64");
    let variants = [
        ("blanks", text.replace("\":", "\": ")),
        ("a blank in front", format!(" {text}")),
        ("a line feed behind", format!("{text}\n")),
        ("another member", text.replacen('{', "{\"x\":1,", 1)),
        (
            "an escaped letter",
            text.replacen("sig\"", "si\\u0067\"", 1),
        ),
        (
            "no key id",
            text.replace(&format!("\"keyid\":\"{keyid}\","), ""),
        ),
        ("an empty key id", text.replace(keyid, "")),
        (
            "a line break in base64",
            text.replace(sig, &format!("{}\\n{}", &sig[..8], &sig[8..])),
        ),
        (
            "URL-safe base64",
            text.replace(sig, &sig.replace('+', "-").replace('/', "_")),
        ),
        (
            "r || s",
            text.replace(sig, &BASE64_STANDARD.encode(fixed_width(&raw))),
        ),
        (
            "a second entry that nobody checked",
            text.replace("}]", "},{\"keyid\":\"x\",\"sig\":\"AAAA\"}]"),
        ),
        (
            "the same entry twice",
            text.replace(
                "}]",
                &format!("}},{{\"keyid\":\"{keyid}\",\"sig\":\"{sig}\"}}]"),
            ),
        ),
    ];
    for (what, variant) in variants {
        if variant == text {
            // This signature has no letter that the two alphabets write differently.
            assert_eq!(what, "URL-safe base64");
            continue;
        }
        assert_loose(what, &with_seal(&good, variant.as_bytes()), &material);
    }
}

/// A DER signature of P-256 as two numbers of 32 bytes.
fn fixed_width(der: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let len = usize::from(der[at + 1]);
        let bytes = &der[at + 2..at + 2 + len];
        let bytes = &bytes[bytes.len().saturating_sub(32)..];
        [&vec![0; 32 - bytes.len()][..], bytes].concat()
    };
    let second = 2 + 2 + usize::from(der[3]);
    [number(2), number(second)].concat()
}

#[test]
fn the_twin_of_an_ecdsa_signature_is_told_as_free() {
    for (name, twins) in [
        ("dsse-p256", vec![4]),
        ("dsse-ed25519", vec![]),
        ("dsse-rsa3072", vec![]),
    ] {
        let bytes = read_peers(&format!("native/{name}.sif"));
        let key = name.strip_prefix("dsse-").expect("a key");
        let coverage = coverage(&bytes, &public_key(key)).expect("verified");
        assert!(coverage.is_complete(), "{name}");
        assert_eq!(coverage.twins, twins, "{name}");
    }
}

#[test]
fn bytes_without_an_owner_are_refused() {
    for (name, material) in [
        ("pgp-one", keyring()),
        ("dsse-ed25519", public_key("ed25519")),
    ] {
        let good = read_peers(&format!("native/{name}.sif"));
        let mut longer = good.clone();
        longer.push(0);
        assert_loose("a zero behind the end", &longer, &material);
        let mut longer = good.clone();
        longer.extend_from_slice(&[1; 4096]);
        assert_loose("a page behind the end", &longer, &material);

        // An object that nothing covers: a signature by nobody.
        let mut more = good.clone();
        table::add(&mut more, table::SIGNATURE, 0, 0, b"not a signature");
        assert_loose("an unlinked signature object", &more, &material);

        // The group renamed in one of its places only does not verify at all.
        let mut renamed = good.clone();
        let signature = table::signature(&good);
        put_u32(&mut renamed, signature.at(field::LINK), 2 | MASK);
        assert!(coverage(&renamed, &material).is_none());
    }
}

/// What is left open, as `docs/verify-report.md` says: names of groups, slots
/// and places, if everything that names them agrees, and whole groups.
#[test]
fn what_only_several_changes_together_can_do_is_accepted_as_documented() {
    let material = keyring();
    let good = read_peers("native/pgp-one.sif");
    let mut renamed = good.clone();
    for object in table::objects(&good) {
        let at = if object.is_signature() {
            field::LINK
        } else {
            field::GROUP
        };
        put_u32(&mut renamed, object.at(at), 7 | MASK);
    }
    assert!(is_accepted(&renamed, &material), "group 1 becomes group 7");

    let mut later = good.clone();
    let signature = table::signature(&good);
    for at in [field::CREATED, field::MODIFIED] {
        put_i64(&mut later, signature.at(at), 1);
    }
    assert!(is_accepted(&later, &material), "another time of storing");

    // The last object moved away by zeros, and every number told.
    let mut moved = good.clone();
    let range = signature.range();
    moved.splice(range.start..range.start, [0; 100]);
    put_i64(
        &mut moved,
        signature.at(field::OFFSET),
        signature.offset + 100,
    );
    assert!(!is_accepted(&moved, &material), "numbers must follow");
    put_i64(
        &mut moved,
        signature.at(field::PADDED),
        signature.size + 100,
    );
    let data_size = table::i64_at(&moved, header::DATA_SIZE) + 100;
    put_i64(&mut moved, header::DATA_SIZE, data_size);
    assert!(is_accepted(&moved, &material), "moved by 100 zeros");
    moved[range.start + 50] = 1;
    assert!(!is_accepted(&moved, &material), "moved by something else");
}

#[test]
fn every_writer_of_the_corpus_is_accepted() {
    let cases = [
        ("pgp-one", keyring()),
        ("pgp-one-twice", keyring()),
        ("pgp-two-groups", keyring()),
        ("dsse-ed25519", public_key("ed25519")),
        ("dsse-p256", public_key("p256")),
        ("dsse-p384", public_key("p384")),
        ("dsse-p521", public_key("p521")),
        ("dsse-rsa3072", public_key("rsa3072")),
    ];
    for (name, material) in cases {
        let bytes = read_peers(&format!("native/{name}.sif"));
        let coverage = coverage(&bytes, &material).expect("verified");
        let uncovered: Vec<_> = coverage.uncovered().collect();
        assert!(uncovered.is_empty(), "{name}: {uncovered:#?}");
        let mut at = 0;
        for piece in &coverage.pieces {
            assert_eq!(piece.range.start, at, "{name}: a gap or an overlap");
            at = piece.range.end;
        }
        assert_eq!(at, bytes.len(), "{name}");
        let slots = TABLE + table::capacity(&bytes) * SLOT;
        assert!(
            coverage.pieces.iter().any(|p| p.range.end == slots),
            "{name}"
        );
    }
}
