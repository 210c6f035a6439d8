//! What is fuzzed: every target takes bytes and asserts what must hold for
//! them, beyond the absence of a panic. Used by the fuzzer (`tests/fuzz`) and,
//! with seeds and their mutations, by `tests/hostile.rs`.

use base64::{Engine, engine::general_purpose::STANDARD};
use sequoia_openpgp::{Packet, parse::*};
use sigsif::gojson;
use sigsif::key::crl::Crl;
use sigsif::key::index::Index;
use sigsif::key::ocsp::Query;
use sigsif::key::pem::{PublicKey, encode_block};
use sigsif::key::pgp::entities_from_armored_or_binary;
use sigsif::key::x509::{Certificate, Moment};
use sigsif::layer::Limits;
use sigsif::layer::convert::to_tar;
use sigsif::layer::tar::{Kind, Reader};
use sigsif::layer::tree::{Tree, Whiteouts};
use sigsif::layer::unsquash::FileSystem;
use sigsif::net::download::retry_after;
use sigsif::net::registry::{Challenge, next_page};
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
use sigsif::ui::html::Page;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Takes bytes and panics if something does not hold for them. Whether they
/// were accepted: seeds that nobody accepts test nothing.
type Target = fn(&[u8]) -> bool;

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
    ("ocsp", ocsp),
    ("crl", crl),
    ("pem", pem),
    ("hkp_list", hkp_list),
    ("remote_yaml", remote_yaml),
    ("docker_config", docker_config),
    ("reference", reference),
    ("policy", policy),
    ("ecl", ecl),
    ("tar", tar),
    ("squashfs", squashfs),
    ("gojson", go_json),
    ("registry_headers", registry_headers),
    ("report_page", report_page),
    ("clearsign_sequoia", clearsign_sequoia),
    ("pem_peers", pem_peers),
    ("tar_crate", tar_crate),
];

/// The image that `edit` changes.
const BASE: &[u8] = include_bytes!("../../fixtures/peers/native/dsse-p256.sif");
/// The key of the DSSE envelopes in the fixtures.
const P256: &[u8] = include_bytes!("../../fixtures/peers/keys/p256.pub.pem");
/// A certificate to ask about, and who issued it.
const LEAF: &[u8] = include_bytes!("../../fixtures/peers/x509/leaf.pem");
const ISSUER: &[u8] = include_bytes!("../../fixtures/peers/x509/intermediate.pem");

/// Header and descriptors are kept as they are in the file.
fn sif(data: &[u8]) -> bool {
    let bytes = data.to_vec();
    let Ok(image) = Image::parse(&bytes) else {
        return false;
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
    true
}

/// Adds, deletes and grows; the objects are afterwards those of a plain map.
fn edit(data: &[u8]) -> bool {
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
        let Ok(patch) = edit.plan() else {
            return false;
        };
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
    true
}

/// Printing and reading again gives the same.
fn native(data: &[u8]) -> bool {
    let Ok(metadata) = ImageMetadata::parse(data) else {
        return false;
    };
    let text = metadata.to_json().expect("it prints");
    assert_eq!(ImageMetadata::parse(&text).expect("it reads"), metadata);
    true
}

/// The digest is the text's. (A text without `SIFHASH:` is read, too, as by
/// the originals; whoever calls asks `is_legacy` first.)
fn legacy_text(data: &[u8]) -> bool {
    let Ok(digest) = legacy::parse(data, SignatureHash::Sha256) else {
        return false;
    };
    let _ = legacy::is_legacy(data);
    let hex = hex(digest.bytes());
    assert!(String::from_utf8_lossy(data).to_lowercase().contains(&hex));
    true
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What opens under a key carries a signature of it over exactly this payload.
fn dsse_envelope(data: &[u8]) -> bool {
    static KEY: LazyLock<PublicKey> =
        LazyLock::new(|| PublicKey::from_pem(P256).expect("a public key"));
    let kind = dsse::SIF_METADATA_TYPE;
    let _ = dsse::canonical(data);
    let _ = dsse::entries(data);
    let Ok(opened) = dsse::open(
        data,
        kind,
        std::slice::from_ref(&*KEY),
        &dsse::Tries::default(),
    ) else {
        return false;
    };
    assert!(dsse::is_envelope(data, kind));
    // An independent reading: serde_json's own values, PAE by hand.
    // They refuse what ours, as Go, does not look at: text without meaning in
    // members that nobody knows.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else {
        return true;
    };
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
    assert!(signatures.iter().any(|s| KEY.verify(&covered, s)));
    true
}

/// The two forms of the text are one text.
fn clearsign(data: &[u8]) -> bool {
    let _ = pgp::issuers(data);
    let _ = pgp::canonical(data);
    let Some(message) = pgp::parse(data) else {
        return false;
    };
    let signed = String::from_utf8_lossy(message.signed_bytes()).replace("\r\n", "\n");
    let plain = String::from_utf8_lossy(message.plaintext()).into_owned();
    assert_eq!(signed.trim_end_matches('\n'), plain.trim_end_matches('\n'));
    true
}

fn openpgp(data: &[u8]) -> bool {
    let entities = entities_from_armored_or_binary(data).unwrap_or_default();
    for entity in &entities {
        let _ = entity.usable_for_signing(1_800_000_000);
        let _ = entity.primary_user_id();
        assert!(entity.has_key_id(entity.key_id()));
    }
    !entities.is_empty()
}

/// Nothing opens without the password. The work is bounded before it is done.
fn cosign_key(data: &[u8]) -> bool {
    use sigsif::key::cosign;
    cosign::open(data, b"no password of a fixture").expect_err("a wrong password");
    false
}

fn oci_index(data: &[u8]) -> bool {
    let read = ImageIndex::parse(data).is_ok();
    read && is_json(data)
}

fn oci_manifest(data: &[u8]) -> bool {
    let read = ImageManifest::parse(data).is_ok();
    read && is_json(data)
}

/// As `native`; Go prints the float 0.0 as the integer 0.
fn simple_signing(data: &[u8]) -> bool {
    let Ok(payload) = SimpleSigning::parse(data) else {
        return false;
    };
    let text = payload.to_bytes().expect("it prints");
    let again = SimpleSigning::parse(&text).expect("it reads");
    assert_eq!(again.to_bytes().expect("it prints"), text);
    assert_eq!(again.reference, payload.reference);
    assert_eq!(again.digest, payload.digest);
    assert_eq!(again.kind, payload.kind);
    true
}

fn bundle(data: &[u8]) -> bool {
    let read = Bundle::parse(data).is_ok();
    read && is_json(data)
}

/// What a reader of ours took is one JSON value, nothing behind it.
fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(data).expect("JSON");
    true
}

/// Nobody here has the key of a responder: no answer counts.
fn ocsp(data: &[u8]) -> bool {
    static QUERY: LazyLock<Query> = LazyLock::new(|| {
        let read = |pem| Certificate::from_pem(pem).expect("a certificate");
        Query::new(&read(LEAF), &read(ISSUER)).expect("a query")
    });
    assert!(QUERY.judge(data, Moment::now(1_800_000_000)).is_err());
    false
}

fn crl(data: &[u8]) -> bool {
    Crl::all_from_file(data).is_ok()
}

/// A key that was read is printed and read as the same key.
fn pem(data: &[u8]) -> bool {
    let certificates = Certificate::all_from_pem(data).unwrap_or_default();
    for certificate in &certificates {
        let again = Certificate::from_der(certificate.der()).expect("it reads");
        assert_eq!(again.fingerprint(), certificate.fingerprint());
    }
    let Ok(key) = PublicKey::from_pem(data) else {
        return !certificates.is_empty();
    };
    let again = PublicKey::from_pem(key.to_pem().as_bytes()).expect("it reads");
    assert_eq!(again.to_spki_der(), key.to_spki_der());
    true
}

fn hkp_list(data: &[u8]) -> bool {
    let index = Index::parse(&String::from_utf8_lossy(data));
    let _ = index.check_announced();
    index.check_count().is_ok()
}

/// The file that is written is read, and is then written the same.
fn remote_yaml(data: &[u8]) -> bool {
    let Ok(config) = Config::parse(data) else {
        return false;
    };
    let text = config.to_yaml();
    let again = Config::parse(text.as_bytes()).expect("it reads");
    assert_eq!(*again.to_yaml(), *text);
    true
}

/// As `remote_yaml`.
fn docker_config(data: &[u8]) -> bool {
    let Ok(config) = DockerConfig::parse(data) else {
        return false;
    };
    let text = config.to_json();
    let again = DockerConfig::parse(&text).expect("it reads");
    assert_eq!(*again.to_json(), *text);
    true
}

/// The full form means the same.
fn reference(data: &[u8]) -> bool {
    let Ok(reference) = Reference::parse(&String::from_utf8_lossy(data)) else {
        return false;
    };
    let full = reference.to_string();
    assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "{full}");
    true
}

fn policy(data: &[u8]) -> bool {
    Policy::parse(data, b"/folder").is_ok()
}

fn ecl(data: &[u8]) -> bool {
    sigsif::ecl::Config::parse(data).is_ok()
}

/// Files have the announced length; the tree stays within its limits.
fn tar(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    let mut buffer = [0; 4096];
    let mut total = 0_u64;
    while let Ok(Some(entry)) = reader.entry() {
        let mut left = entry.size;
        // Holes cost no input: a bound is for the fuzzer's patience.
        while left > 0 && total < 1 << 24 {
            match reader.read(&mut buffer) {
                Ok(0) => panic!("{left} bytes of a file are missing"),
                Err(_) => return false,
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
    let mut accepted = true;
    for whiteouts in [Whiteouts::Apply, Whiteouts::Keep] {
        let mut tree = Tree::new(whiteouts, limits);
        accepted &= tree.add_layer(data).is_ok() && tree.len() > 1;
        assert!(tree.reachable().len() <= tree.len());
    }
    accepted
}

/// What becomes of a file system is an archive within the limits, which reads to its end.
fn squashfs(data: &[u8]) -> bool {
    let limits = Limits {
        entries: 100,
        text: 10_000,
        free: 1 << 20,
        ratio: 10,
        ..Limits::default()
    };
    let read = |at: u64, buffer: &mut [u8]| {
        let part = usize::try_from(at).ok();
        let part = part.and_then(|at| data.get(at..at + buffer.len()));
        buffer.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let len = data.len() as u64;
    let made = FileSystem::open(Box::new(read), len, limits)
        .and_then(|mut image| to_tar(&mut image, len, true, &limits, Vec::new()));
    let Ok(made) = made else { return false };
    // Headers, padding and the end come on top of what is limited.
    assert!(made.out.len() as u64 <= limits.expanded(len) + (64 << 10));
    let mut reader = Reader::new(made.out.as_slice());
    let mut count = 0;
    while reader.entry().expect("an archive").is_some() {
        count += 1;
    }
    // Directories can be opaque.
    assert!(count <= 2 * (limits.entries + 1));
    true
}

/// What is printed as Go prints it means the same.
fn go_json(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else {
        return false;
    };
    let text = gojson::to_vec(&value).expect("it prints");
    let again: serde_json::Value = serde_json::from_slice(&text).expect("it reads");
    assert!(mean_the_same(&again, &value), "{again} for {value}");
    assert!(!text.iter().any(|byte| b"<>&".contains(byte)));
    true
}

/// Numbers are those of Go, which has only floats.
fn mean_the_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(one), Number(other)) => one.as_f64() == other.as_f64(),
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| mean_the_same(a, b))
        }
        (Object(one), Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, a)| other.get(name).is_some_and(|b| mean_the_same(a, b)))
        }
        _ => one == other,
    }
}

/// What a challenge says is in the header, and so is the address of the next page.
fn registry_headers(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let _ = retry_after(&text);
    let challenge = Challenge::parse(&text);
    for name in ["realm", "service", "scope", "error"] {
        if let Some(value) = challenge.value(name) {
            assert!(text.contains(value));
        }
    }
    let next = next_page(&text);
    if let Some(next) = next {
        assert!(text.contains(&format!("<{next}>")));
    }
    next.is_some() || challenge.value("realm").is_some()
}

/// Nothing in a report gets a script, an element or a control character into the page.
fn report_page(data: &[u8]) -> bool {
    fn marks(page: &Page) -> (usize, usize) {
        let mut out = Vec::new();
        page.write(&mut out).expect("written");
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
        let count = |what| text.to_ascii_lowercase().matches(what).count();
        (count("<script"), count("</script") + count("<!--"))
    }
    static EMPTY: LazyLock<(usize, usize)> = LazyLock::new(|| marks(&Page::new(1_800_000_000)));
    let mut page = Page::new(1_800_000_000);
    for line in data.split(|byte| *byte == b'\n').take(20) {
        let _ = page.add(&String::from_utf8_lossy(line));
    }
    if page.is_empty() {
        return false;
    }
    assert_eq!(marks(&page), *EMPTY);
    true
}

/// sequoia takes the same text out of a message that it reads as well.
fn clearsign_sequoia(data: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
    let Some(message) = pgp::parse(data).filter(|_| data.starts_with(BEGIN)) else {
        return false;
    };
    // For sequoia, anything that resembles the line before the signature is it, and only what
    // looks like them are headers.
    let text = String::from_utf8_lossy(data);
    let likes = text.matches("BEGIN PGP SIGNATURE").count();
    let mut headers = text.lines().skip(1).take_while(|line| !line.is_empty());
    if likes != 1 || !headers.all(|line| line.starts_with("Hash: ")) {
        return false;
    }
    let read = || {
        let builder = PacketParserBuilder::from_bytes(data).ok()?;
        let mut at = builder
            .process_csf_message(true)
            .buffer_unread_content()
            .build()
            .ok()?;
        while let PacketParserResult::Some(parser) = at {
            let (packet, next) = parser.next().ok()?;
            if let Packet::Literal(literal) = packet {
                return Some(literal.body().to_vec());
            }
            at = next;
        }
        None
    };
    let Some(theirs) = read() else {
        return false;
    };
    // It keeps the line ends; a bare carriage return before the end is text for both.
    let theirs: Vec<&[u8]> = theirs.split(|byte| *byte == b'\n').collect();
    let ours: Vec<&[u8]> = message.plaintext().split(|byte| *byte == b'\n').collect();
    assert_eq!(ours.len(), theirs.len());
    for (one, other) in ours.iter().zip(theirs) {
        assert!(other == *one || other.strip_suffix(b"\r") == Some(one));
    }
    true
}

/// Others read what is written, and read the same where they are stricter.
fn pem_peers(data: &[u8]) -> bool {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let written = encode_block("PUBLIC KEY", data);
    if !data.is_empty() {
        let (label, bytes) = der::pem::decode_vec(written.as_bytes()).expect("PEM");
        assert_eq!((label, bytes.as_slice()), ("PUBLIC KEY", data));
    }
    let mut accepted = false;
    if let Ok(("PUBLIC KEY", der)) = der::pem::decode_vec(data) {
        let (one, other) = (PublicKey::from_pem(data), PublicKey::from_spki_der(&der));
        assert_eq!(one.as_ref().ok(), other.as_ref().ok());
        accepted |= one.is_ok();
    }
    if let Ok(certificates) = Certificate::all_from_pem(data)
        && let Ok(theirs) = CertificateDer::pem_slice_iter(data).collect::<Result<Vec<_>, _>>()
    {
        // They pass over blocks of other labels, which are looked into here. Unlike Go they read
        // base64 without its padding, and take a carriage return alone for the end of a line.
        let mut lines = data.split(|byte| *byte == b'\n');
        if lines.any(|line| line.trim_ascii_end().contains(&b'\r')) {
            return accepted;
        }
        let theirs: Vec<&[u8]> = theirs.iter().map(AsRef::as_ref).collect();
        let ours: Vec<&[u8]> = certificates.iter().map(Certificate::der).collect();
        let text: Vec<u8> = data
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let padded = |der: &[u8]| {
            let whole = STANDARD.encode(der);
            text.windows(whole.len())
                .any(|part| part == whole.as_bytes())
        };
        assert!(theirs.iter().all(|der| ours.contains(der) || !padded(der)));
        accepted |= !ours.is_empty();
    }
    accepted
}

/// The `tar` crate sees the same entries in an archive that both read to the end.
fn tar_crate(data: &[u8]) -> bool {
    // It does not know the sparse files of pax.
    if data.windows(10).any(|window| window == b"GNU.sparse") {
        return false;
    }
    let mut ours = Vec::new();
    let mut reader = Reader::new(data);
    loop {
        match reader.entry() {
            Ok(Some(entry)) => ours.push(entry),
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    let mut archive = tar::Archive::new(data);
    let Ok(entries) = archive.entries() else {
        return false;
    };
    let mut theirs = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { return false };
        // A name ends at a zero, as in Go and GNU tar.
        let path = entry.path_bytes();
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let link = entry.link_name_bytes().unwrap_or_default();
        let link = link.split(|byte| *byte == 0).next().unwrap_or_default();
        let link = link.to_vec();
        let kind = match entry.header().entry_type() {
            // It shows headers of other formats, and of an entry that does not come.
            tar::EntryType::GNULongName
            | tar::EntryType::GNULongLink
            | tar::EntryType::XHeader
            | tar::EntryType::XGlobalHeader => return false,
            tar::EntryType::Link => Kind::HardLink(link),
            tar::EntryType::Symlink => Kind::SymbolicLink(link),
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Fifo => Kind::Fifo,
            tar::EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            _ => Kind::File,
        };
        theirs.push((path.to_vec(), kind, entry.size()));
    }
    assert_eq!(ours.len(), theirs.len());
    for (one, (path, kind, size)) in ours.iter().zip(theirs) {
        assert_eq!(one.path, path);
        match &one.kind {
            Kind::Character(..) | Kind::Block(..) => {}
            own => assert_eq!(*own, kind),
        }
        if one.kind == Kind::File {
            assert_eq!(one.size, size);
        }
    }
    !ours.is_empty()
}
