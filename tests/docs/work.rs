//! Files that name the same again and again cost no more than their size.

use crate::support::{Home, peers, run, tool};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sigsif::digest::HashAlgorithm;

const MASK: u32 = 0xf000_0000;
const GENERIC: i32 = 0x4007;
const SIGNATURE: i32 = 0x4005;
const ROOT: i32 = 0x400a;
const BLOB: i32 = 0x400b;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Processor time that a command gets, in seconds. Each of these files would take minutes, or for
/// ever, if work were done as often as the file names it.
const SECONDS: u32 = 20;

/// An object of an image.
#[derive(Clone)]
struct Object {
    kind: i32,
    group: u32,
    link: u32,
    extra: Vec<u8>,
    data: Vec<u8>,
    /// Position and size that the descriptor tells instead of the true ones.
    claims: Option<(i64, i64)>,
}

fn object(kind: i32, data: &[u8]) -> Object {
    Object {
        kind,
        group: if kind == SIGNATURE { MASK } else { MASK | 1 },
        link: if kind == SIGNATURE { MASK | 1 } else { 0 },
        extra: match kind {
            SIGNATURE => vec![1, 0, 0, 0],
            ROOT | BLOB => sha(data).into_bytes(),
            _ => Vec::new(),
        },
        data: data.to_vec(),
        claims: None,
    }
}

fn sha(data: &[u8]) -> String {
    HashAlgorithm::Sha256.digest(data).to_string()
}

fn image(objects: &[Object]) -> Vec<u8> {
    const TABLE: usize = 4096;
    let start = TABLE + objects.len() * 585;
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for (id, object) in (1_u32..).zip(objects) {
        let place = ((start + data.len()) as i64, object.data.len() as i64);
        let (offset, size) = object.claims.unwrap_or(place);
        table.extend(object.kind.to_le_bytes());
        table.push(1);
        for number in [id, object.group, object.link] {
            table.extend(number.to_le_bytes());
        }
        for number in [offset, size, size, 0, 0, 0, 0] {
            table.extend(number.to_le_bytes());
        }
        table.extend([0; 128]);
        let mut extra = object.extra.clone();
        extra.resize(384, 0);
        table.extend(extra);
        data.extend_from_slice(&object.data);
    }
    let mut bytes = vec![0; 32];
    bytes.extend(b"SIF_MAGIC\x0001\x0000\0");
    bytes.resize(80, 0);
    for number in [0, objects.len(), TABLE, table.len(), start, data.len()] {
        bytes.extend((number as u64).to_le_bytes());
    }
    bytes.resize(TABLE, 0);
    bytes.extend(table);
    bytes.extend(data);
    bytes
}

/// A clear-signed text with one signature packet for each issuer.
fn clear_signed(issuers: std::ops::Range<u64>) -> Vec<u8> {
    let mut packets = Vec::new();
    for issuer in issuers {
        let mut body = vec![4, 1, 22, 8, 0, 6, 5, 2, 0x60, 0, 0, 0, 0, 10, 9, 16];
        body.extend(issuer.to_be_bytes());
        body.extend([0, 0, 0, 1, 1, 0, 1, 1]);
        packets.extend([0xc2, body.len() as u8]);
        packets.extend(body);
    }
    let armor = BASE64_STANDARD.encode(packets);
    let lines: Vec<_> = armor.as_bytes().chunks(64).collect();
    [
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}\n-----BEGIN PGP SIGNATURE-----\n\n",
        &lines.join(&b'\n')[..],
        b"\n-----END PGP SIGNATURE-----\n",
    ]
    .concat()
}

/// Runs a command on a file with little processor time, and expects an answer.
#[track_caller]
fn soon(home: &Home, bytes: &[u8], code: i32, args: &[&str]) -> String {
    home.write("image.sif", bytes);
    let mut command = match tool("prlimit") {
        Some(prlimit) => {
            let mut command = home.clean(prlimit);
            command.arg(format!("--cpu={SECONDS}"));
            command.arg(env!("CARGO_BIN_EXE_sigsif"));
            command
        }
        None => home.sigsif([""; 0]),
    };
    let ended = run(command.args(args).arg("image.sif"));
    assert_eq!(ended.code, Some(code), "{args:?}: {ended}");
    ended.stderr
}

#[test]
fn signatures_and_groups_by_the_thousand_are_judged_once() {
    let home = Home::with_keys();
    let first = object(GENERIC, b"x");
    let with = |signatures: Vec<Object>| image(&[vec![first.clone()], signatures].concat());

    let cut = Object {
        claims: Some((1 << 40, 1)),
        ..object(SIGNATURE, b"")
    };
    let error = soon(&home, &with(vec![cut; 60_000]), 255, &["verify", "--local"]);
    assert!(error.contains("unexpected EOF"), "{error}");

    let names_many = object(SIGNATURE, &clear_signed(0..150_000));
    let error = soon(&home, &with(vec![names_many]), 255, &["verify", "--local"]);
    assert!(error.contains("unknown entity"), "{error}");

    let unknown = object(SIGNATURE, &clear_signed(7..8));
    let groups = 40_000;
    let own = |object: &Object| {
        let each = (1..=groups).map(|group| Object {
            group: object.group | (u32::from(object.kind == GENERIC) * group),
            link: object.link | (u32::from(object.kind == SIGNATURE) * group),
            ..object.clone()
        });
        each.collect::<Vec<_>>()
    };
    let bare = Object {
        group: MASK,
        link: MASK,
        ..first.clone()
    };
    let sealed = Object {
        link: MASK,
        ..unknown
    };
    let crowd = image(&[own(&bare), own(&sealed)].concat());
    let args = ["verify", "--local", "--ignore-unknown"];
    let error = soon(&home, &crowd, 255, &args);
    assert!(error.contains("0 of 1 accepted signers"), "{error}");

    let list = "activated = true\n[[execgroup]]\nmode = 'blacklist'\n";
    home.write("ecl.toml", list.as_bytes());
    let keyring = peers("keys/keyring/pgp-public");
    let args = ["ecl", "check", "--semantics", "apptainer"];
    let files = [
        "--config",
        "ecl.toml",
        "--keyring",
        keyring.to_str().unwrap(),
    ];
    soon(&home, &crowd, 0, &[&args[..], &files].concat());

    let maskless = Object { group: 1, ..first };
    soon(&home, &image(&vec![maskless; 60_000]), 1, &["sif", "check"]);
}

fn named(bytes: &[u8], kind: &str) -> Value {
    json!({"mediaType": kind, "size": bytes.len(), "digest": sha(bytes)})
}

fn manifest(layers: &[Value]) -> Vec<u8> {
    let config = named(b"{}", "application/vnd.oci.image.config.v1+json");
    let text =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    text.to_string().into_bytes()
}

/// An image of one layer, and one more entry as often as that is wanted; `blobs` beside it.
fn oci(more: &[u8], suffix: &str, times: usize, blobs: &[&[u8]]) -> Vec<u8> {
    let main = manifest(&[named(b"layer", "application/vnd.oci.image.layer.v1.tar")]);
    let name = format!("_cosign:{}{suffix}", sha(&main).replace(':', "-"));
    let mut entry = named(more, MANIFEST);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let mut entries = vec![named(&main, MANIFEST)];
    entries.extend(vec![entry; times]);
    let root = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let blobs = [&[&b"layer"[..], b"{}", &main, more], blobs].concat();
    let mut objects: Vec<_> = blobs.iter().map(|blob| object(BLOB, blob)).collect();
    objects.push(object(ROOT, root.as_bytes()));
    image(&objects)
}

#[test]
fn what_an_index_names_again_and_again_is_not_read_as_often() {
    let home = Home::new();
    let key = peers("cosign/keys/p256.pub");
    let key = key.to_str().expect("a path");
    let verify = ["verify", "--cosign", "--key", key];
    let attested = ["verify-attestation", "--key", key];

    // A large manifest in thousands of entries.
    let mut large = manifest(&[]);
    large.resize(3 << 20, b' ');
    let entries = |suffix| oci(&large, suffix, 9_000, &[]);
    soon(&home, &entries(".sig"), 255, &verify);
    soon(&home, &entries(".att"), 255, &attested);
    soon(&home, &entries(".other"), 255, &verify);
    soon(&home, &entries(".sig"), 0, &["sif", "tree"]);

    // A large payload in thousands of layers.
    let payload = vec![b' '; 1 << 20];
    let mut layer = named(&payload, "application/vnd.dev.cosign.simplesigning.v1+json");
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "MAYCAQECAQE="});
    let many = manifest(&vec![layer; 9_000]);
    soon(&home, &oci(&many, ".sig", 1, &[&payload]), 255, &verify);

    // An envelope of a thousand signatures in thousands of layers.
    let signature = json!({"sig": "MAYCAQECAQE="});
    let envelope = json!({"payload": "e30=", "payloadType": "application/vnd.in-toto+json",
        "signatures": vec![signature; 1000]});
    let envelope = envelope.to_string().into_bytes();
    let layer = named(&envelope, "application/vnd.dsse.envelope.v1+json");
    let many = manifest(&vec![layer; 9_000]);
    soon(&home, &oci(&many, ".att", 1, &[&envelope]), 255, &attested);
}

#[test]
fn blobs_that_claim_the_same_are_examined_once() {
    let home = Home::new();
    let check = ["sif", "check"];
    let large = vec![0xaa; 4 << 20];
    let same = Object {
        extra: sha(&large).into_bytes(),
        ..object(BLOB, b"")
    };
    let mut objects = vec![object(BLOB, &large)];
    objects.extend(vec![same; 5_000]);
    soon(&home, &image(&objects), 1, &check);

    // Blobs that are there twice, and signatures that may cover them.
    let mut objects = vec![object(BLOB, b"{}"); 8_000];
    objects.extend(vec![object(SIGNATURE, &clear_signed(7..8)); 8_000]);
    soon(&home, &image(&objects), 1, &check);

    // An image that lacks thousands of layers.
    let gone = (0..30_000).map(|n| named(format!("{n}").as_bytes(), "x"));
    let lacking = manifest(&gone.collect::<Vec<_>>());
    let root = json!({"schemaVersion": 2, "manifests": [named(&lacking, MANIFEST)]}).to_string();
    let objects = [
        object(BLOB, b"{}"),
        object(BLOB, &lacking),
        object(ROOT, root.as_bytes()),
    ];
    soon(&home, &image(&objects), 1, &check);

    // An index that was lost, of many images with signatures each.
    let mut objects = vec![object(BLOB, b"{}"), object(BLOB, b"layer")];
    let mut images = Vec::new();
    for n in 0..2_500 {
        let layer = named(b"layer", "l");
        let mut image = manifest(&[layer]);
        image.splice(
            1..1,
            format!("\"annotations\":{{\"n\":\"{n}\"}},").into_bytes(),
        );
        let payload = json!({"critical": {"image": {"docker-manifest-digest": ""}}, "n": n});
        let payload = payload.to_string().into_bytes();
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let signatures = manifest(&[named(&payload, kind)]);
        images.push(named(&image, MANIFEST));
        objects.extend([image, payload, signatures].map(|blob| object(BLOB, &blob)));
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": images}).to_string();
    objects.push(object(BLOB, index.as_bytes()));
    soon(&home, &image(&objects), 1, &check);
}
