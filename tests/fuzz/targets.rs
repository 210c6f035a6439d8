//! What is fuzzed: every target takes bytes and asserts what must hold for
//! them, beyond the absence of a panic. Used by the fuzzer (`tests/fuzz`) and,
//! with seeds and their mutations, by `tests/hostile.rs`.

use base64::{Engine, engine::general_purpose::STANDARD};
use sigsif::gojson;
use sigsif::key::crl::Crl;
use sigsif::key::index::Index;
use sigsif::key::pem::PublicKey;
use sigsif::key::pgp::entities_from_armored_or_binary;
use sigsif::key::x509::Certificate;
use sigsif::layer::tar::Reader;
use sigsif::layer::tree::{Tree, Whiteouts};
use sigsif::layer::{self, Limits};
use sigsif::oci::manifest::{ImageIndex, ImageManifest};
use sigsif::oci::reference::Reference;
use sigsif::payload::simple::SimpleSigning;
use sigsif::payload::{legacy, native::ImageMetadata};
use sigsif::policy::file::Policy;
use sigsif::remote::{config::Config, docker_config::DockerConfig};
use sigsif::sif::edit::{Content, Edit, NewObject, Wipe};
use sigsif::sif::types::{DataType, SignatureHash};
use sigsif::sif::{DESCRIPTOR_LEN, GroupId, Image};
use sigsif::signer::{bundle::Bundle, dsse, pgp};
use std::collections::BTreeMap;

/// Takes bytes and panics if something does not hold for them.
type Target = fn(&[u8]);

/// Name and function of every target.
pub const TARGETS: &[(&str, Target)] = &[
    ("sif", sif),
    ("edit", edit),
    ("native", native),
    ("legacy", legacy_text),
    ("dsse", dsse_envelope),
    ("clearsign", clearsign),
    ("openpgp", openpgp),
    ("cosign_key", cosign_key),
    ("oci_index", oci_index),
    ("oci_manifest", oci_manifest),
    ("simple_signing", simple_signing),
    ("bundle", bundle),
    ("crl", crl),
    ("pem", pem),
    ("hkp_list", hkp_list),
    ("remote_yaml", remote_yaml),
    ("docker_config", docker_config),
    ("reference", reference),
    ("policy", policy),
    ("ecl", ecl),
    ("tar", tar),
    ("gojson", go_json),
];

/// The image that `edit` changes.
const BASE: &[u8] = include_bytes!("../../fixtures/peers/native/dsse-p256.sif");
/// The key of the DSSE envelopes in the fixtures.
const P256: &[u8] = include_bytes!("../../fixtures/peers/keys/p256.pub.pem");

/// Header and descriptors are kept as they are in the file.
fn sif(data: &[u8]) {
    let bytes = data.to_vec();
    let Ok(image) = Image::parse(&bytes) else {
        return;
    };
    assert!(bytes.starts_with(image.header().as_bytes()));
    assert!(image.snapshot().matches(&bytes));
    for object in image.objects() {
        let at = usize::try_from(image.slot_position(object.slot())).expect("within the file");
        assert_eq!(object.as_bytes(), &bytes[at..at + DESCRIPTOR_LEN]);
        // Nothing lies nowhere: an offset of no bytes is not looked at.
        if let Ok(data) = image.data(object)
            && !data.is_empty()
        {
            let at = usize::try_from(object.offset()).expect("a good offset");
            assert_eq!(data, &bytes[at..at + data.len()]);
        }
    }
}

/// Adds, deletes and grows; the objects are afterwards those of a plain map.
fn edit(data: &[u8]) {
    let mut bytes = BASE.to_vec();
    for round in data.chunks(8).take(6) {
        let image = Image::parse(&bytes).expect("an image that was edited loads");
        let mut model: BTreeMap<u32, Vec<u8>> = image
            .objects()
            .iter()
            .map(|o| (o.raw_id(), image.data(o).expect("data").to_vec()))
            .collect();
        let mut edit = Edit::new(&image, 1_800_000_000);
        for step in round.chunks(2) {
            let [operation, value] = *step else { break };
            match operation % 4 {
                0 => {
                    let content = vec![value; usize::from(value) * 3];
                    let mut object =
                        NewObject::new(DataType::Generic, Content::Bytes(content.clone()));
                    object.group = GroupId::new(u32::from(value % 3));
                    if let Ok(id) = edit.add(object) {
                        assert!(model.insert(id.get(), content).is_none(), "id used twice");
                    }
                }
                1 => {
                    if edit.delete(u32::from(value % 8), Wipe::Zero).is_ok() {
                        assert!(model.remove(&u32::from(value % 8)).is_some());
                    }
                }
                2 => drop(edit.grow(usize::from(value))),
                _ => drop(edit.set_primary(u32::from(value % 8))),
            }
        }
        let Ok(patch) = edit.plan() else { return };
        let changed = patch.applied(&bytes);
        let after = Image::parse(&changed).expect("the result loads");
        after.require_sound().expect("the result is sound");
        let found: BTreeMap<u32, Vec<u8>> = after
            .objects()
            .iter()
            .map(|o| (o.raw_id(), after.data(o).expect("data").to_vec()))
            .collect();
        assert_eq!(found, model);
        bytes = changed;
    }
}

/// Printing and reading again gives the same.
fn native(data: &[u8]) {
    if let Ok(metadata) = ImageMetadata::parse(data) {
        let text = metadata.to_json().expect("it prints");
        assert_eq!(ImageMetadata::parse(&text).expect("it reads"), metadata);
    }
}

/// What parses is told to be legacy; the digest is the text's.
fn legacy_text(data: &[u8]) {
    if let Ok(digest) = legacy::parse(data, SignatureHash::Sha256) {
        assert!(legacy::is_legacy(data));
        let hex = digest
            .bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>();
        assert!(String::from_utf8_lossy(data).to_lowercase().contains(&hex));
    }
}

/// What opens under a key carries a signature of it over exactly this payload.
fn dsse_envelope(data: &[u8]) {
    let key = PublicKey::from_pem(P256).expect("a key");
    let kind = dsse::SIF_METADATA_TYPE;
    let _ = dsse::canonical(data);
    let _ = dsse::entries(data);
    let Ok(opened) = dsse::open(data, kind, std::slice::from_ref(&key)) else {
        return;
    };
    assert!(dsse::is_envelope(data, kind));
    // An independent reading: serde_json's own values, PAE by hand.
    let value: serde_json::Value = serde_json::from_slice(data).expect("JSON");
    assert_eq!(value["payloadType"], kind);
    let payload = STANDARD
        .decode(value["payload"].as_str().expect("text"))
        .expect("base64");
    assert_eq!(payload, opened.payload());
    let mut covered = Vec::new();
    for part in [
        "DSSEv1",
        &kind.len().to_string(),
        kind,
        &payload.len().to_string(),
    ] {
        covered.extend_from_slice(part.as_bytes());
        covered.push(b' ');
    }
    covered.extend_from_slice(&payload);
    let signatures = dsse::signature_values(data).expect("signatures");
    assert!(signatures.iter().any(|s| key.verify(&covered, s)));
}

/// Lines end as promised and the two forms of the text are one text.
fn clearsign(data: &[u8]) {
    if let Some(message) = pgp::parse(data) {
        let signed = String::from_utf8_lossy(message.signed_bytes()).replace("\r\n", "\n");
        let plain = String::from_utf8_lossy(message.plaintext()).into_owned();
        assert_eq!(signed.trim_end_matches('\n'), plain.trim_end_matches('\n'));
    }
    let _ = pgp::issuers(data);
    let _ = pgp::canonical(data);
}

fn openpgp(data: &[u8]) {
    for entity in entities_from_armored_or_binary(data).unwrap_or_default() {
        let _ = entity.usable_for_signing(1_800_000_000);
        let _ = entity.primary_user_id();
        assert!(entity.has_key_id(entity.key_id()));
    }
}

/// Nothing opens without the password. The work is bounded before it is done.
fn cosign_key(data: &[u8]) {
    assert!(sigsif::key::cosign::open(data, b"no password of a fixture").is_err());
}

fn oci_index(data: &[u8]) {
    if ImageIndex::parse(data).is_ok() {
        serde_json::from_slice::<serde_json::Value>(data).expect("an index is JSON");
    }
}

fn oci_manifest(data: &[u8]) {
    if ImageManifest::parse(data).is_ok() {
        serde_json::from_slice::<serde_json::Value>(data).expect("a manifest is JSON");
    }
}

/// As `native`; what was odd about the text is not printed again.
fn simple_signing(data: &[u8]) {
    if let Ok(mut payload) = SimpleSigning::parse(data) {
        let text = payload.to_bytes().expect("it prints");
        payload.oddities.clear();
        assert_eq!(SimpleSigning::parse(&text).expect("it reads"), payload);
    }
}

fn bundle(data: &[u8]) {
    if Bundle::parse(data).is_ok() {
        serde_json::from_slice::<serde_json::Value>(data).expect("a bundle is JSON");
    }
}

fn crl(data: &[u8]) {
    let _ = Crl::all_from_file(data);
}

/// A key that was read is printed and read as the same key.
fn pem(data: &[u8]) {
    if let Ok(key) = PublicKey::from_pem(data) {
        let again = PublicKey::from_pem(key.to_pem().as_bytes()).expect("it reads");
        assert_eq!(again.to_spki_der(), key.to_spki_der());
    }
    for certificate in Certificate::all_from_pem(data).unwrap_or_default() {
        let again = Certificate::from_der(certificate.der()).expect("it reads");
        assert_eq!(again.fingerprint(), certificate.fingerprint());
    }
}

fn hkp_list(data: &[u8]) {
    let index = Index::parse(&String::from_utf8_lossy(data));
    let _ = index.check_announced();
    let _ = index.check_count();
}

/// The file that is written is read, and is then written the same.
fn remote_yaml(data: &[u8]) {
    if let Ok(config) = Config::parse(data) {
        let text = config.to_yaml();
        let again = Config::parse(text.as_bytes()).expect("it reads");
        assert_eq!(*again.to_yaml(), *text);
    }
}

/// As `remote_yaml`.
fn docker_config(data: &[u8]) {
    if let Ok(config) = DockerConfig::parse(data) {
        let text = config.to_json();
        let again = DockerConfig::parse(&text).expect("it reads");
        assert_eq!(*again.to_json(), *text);
    }
}

/// The full form means the same.
fn reference(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(reference) = Reference::parse(text)
    {
        let full = reference.to_string();
        assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "{full}");
    }
}

fn policy(data: &[u8]) {
    let _ = Policy::parse(data, b"/folder");
}

fn ecl(data: &[u8]) {
    let _ = sigsif::ecl::Config::parse(data);
}

/// Files have the announced length; the tree stays within its limits.
fn tar(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut buffer = [0; 4096];
    let mut total = 0_u64;
    while let Ok(Some(entry)) = reader.entry() {
        let mut left = entry.size;
        // Holes cost no input: a bound is for the fuzzer's patience.
        while left > 0 && total < 1 << 24 {
            match reader.read(&mut buffer) {
                Ok(0) => panic!("{left} bytes of a file are missing"),
                Err(_) => return,
                Ok(count) => {
                    left = left
                        .checked_sub(count as u64)
                        .expect("no more than announced");
                    total += count as u64;
                }
            }
        }
    }
    let limits = Limits {
        entries: 100,
        text: 10_000,
        ..Limits::default()
    };
    for whiteouts in [Whiteouts::Apply, Whiteouts::Keep] {
        let mut tree = Tree::new(whiteouts, limits);
        let _: Result<(), layer::Error> = tree.add_layer(data);
        assert!(tree.reachable().len() <= tree.len());
    }
}

/// What is printed as Go prints it means the same.
fn go_json(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let text = gojson::to_vec(&value).expect("it prints");
        let again: serde_json::Value = serde_json::from_slice(&text).expect("it reads");
        assert_eq!(again, value);
        assert!(!text.iter().any(|byte| b"<>&".contains(byte)));
    }
}
