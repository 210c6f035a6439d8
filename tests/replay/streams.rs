//! Known answers of spec/sif.md, section 7: the bytes that digests cover.
//!
//! The images are those of `corpus.rs`; without them these tests are skipped.

use super::corpus::corpus_or_skip;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sigsif::digest::HashAlgorithm::{self, Sha224, Sha256, Sha384};
use sigsif::payload::native::ImageMetadata;
use sigsif::sif::{Descriptor, Image};
use sigsif::signer::dsse;
use std::fs;
use std::path::Path;

/// Digest of metadata in a DSSE envelope, by type.
const METADATA_TYPE: &str = "application/vnd.sylabs.sif-metadata+json";

#[test]
fn header_digests_are_the_known_ones() {
    let Some(corpus) = corpus_or_skip("header digests") else {
        return;
    };
    let plain = "635fa0a14a8ef0c0351ed3e985799ed1d4f75ce973dea3cc76c99710795cc3f1";
    let legacy = "ede69c40a81f3bb34ad0248fa61ab1c413af90455ce55b472adab9a370443c0a";
    for (image, algorithm, wanted) in [
        ("one-group", Sha256, plain),
        ("one-group-signed-pgp", Sha256, plain),
        ("empty", Sha256, plain),
        ("two-groups", Sha256, plain),
        (
            "one-group",
            Sha224,
            "88ecbdbaa9bf8410c9362213ddae5e6771fd2525da3eb390300fb666",
        ),
        (
            "one-group",
            Sha384,
            "92bdcff06f2cde591d8af1f0ab80687e5eccf1dfe8fe7a8a8ef4b80d28bd2c7a\
             77bcc4abfbcfdb3fc84ec7992ed54334",
        ),
        (
            "empty-id",
            Sha256,
            "77eb170614b79a0ae643c495aeecf5bd6efd21b0da4eb07250428cb557fb2f69",
        ),
        (
            "empty-launch-script",
            Sha256,
            "d328d46da69794f3cdc07b772f9548ba24a773d2106bc5ca4ba4c9339dfb3b6a",
        ),
        ("one-group-signed-legacy", Sha256, legacy),
        ("one-group-signed-legacy-all", Sha256, legacy),
        ("one-group-signed-legacy-group", Sha256, legacy),
    ] {
        let bytes = read(&corpus, image);
        let parsed = Image::parse(&bytes).expect(image);
        let digest = algorithm.digest(&parsed.header().integrity_bytes());
        assert_eq!(hex::encode(digest.bytes()), wanted, "{image} {algorithm:?}");
    }
}

#[test]
fn object_digests_are_the_known_ones() {
    let Some(corpus) = corpus_or_skip("object digests") else {
        return;
    };
    for (image, id, descriptor, object) in [
        (
            "one-group",
            1,
            "3634ad01db0dd5482ecf685267b53d6201690438ca27c3d7ea91c971a1f41f92",
            "004dfc8da678c309de28b5386a1e9efd57f536b150c40d29b31506aa0fb17ec2",
        ),
        (
            "one-group",
            2,
            "04b5f87c9692a54f80d10fb6af00c779763aeca29d610348854bd97cd8bf66fd",
            "9f9c4e5e131934969b4ac8f495691c70b8c6c8e3f489c2c9ab5f1af82bce0604",
        ),
        (
            "two-groups",
            3,
            "b356c9810f880c619f95c34909387de498895fc2054ef590ebaeab5c9b50c995",
            "d2dd40e7ff6b6753d84c1a85061189e61d4de9688d5531537ff96ff09b1f12dc",
        ),
    ] {
        let bytes = read(&corpus, image);
        let parsed = Image::parse(&bytes).expect(image);
        let found = parsed.object(id).expect("object");
        let covered = found.integrity_bytes(parsed.relative_id(found));
        let digests = [
            Sha256.digest(&covered),
            parsed.digest(found, Sha256).expect("digest"),
        ];
        let digests = digests.map(|digest| hex::encode(digest.bytes()));
        assert_eq!(digests, [descriptor, object], "{image} object {id}");
    }
}

#[test]
fn legacy_digests_are_the_known_ones() {
    let Some(corpus) = corpus_or_skip("legacy digests") else {
        return;
    };
    let bytes = read(&corpus, "one-group-signed-legacy-group");
    let image = Image::parse(&bytes).expect("image");
    let [one, two] = [1, 2].map(|id| image.object(id).expect("object"));
    for (objects, wanted) in [
        (
            vec![one],
            "f8722c6694c4997334525090678b2148f6263502c3eb144a44e8be0d2bfd039f\
             4067a3f8152f94ab3af7c63acfe78ce6",
        ),
        (
            vec![two],
            "0b7e0522460767c74abb4245bc0d3a27209a5aed111059faead54ffc74a93759\
             160ac9642d7a7df3038ece62f2fa9815",
        ),
        (
            vec![one, two],
            "81266c932e08340e3876c5e7ebcd3cd5e69c8af76c1a883561ac8077bd78ffc9\
             d6ac86ec79dde7601f347800cb8ce7b8",
        ),
    ] {
        let digest = image.digest_all(&objects, Sha384).expect("digest");
        assert_eq!(hex::encode(digest.bytes()), wanted);
    }
}

#[test]
fn metadata_text_is_the_known_one() {
    let Some(corpus) = corpus_or_skip("metadata") else {
        return;
    };
    let bytes = read(&corpus, "one-group");
    let image = Image::parse(&bytes).expect("image");
    let objects = image.objects().iter().map(|object| {
        let relative = image.relative_id(object);
        sigsif::payload::native::ObjectMetadata {
            relative_id: relative.0,
            descriptor: Sha256.digest(&object.integrity_bytes(relative)),
            object: image.digest(object, Sha256).expect("digest"),
        }
    });
    let metadata = ImageMetadata {
        header: Sha256.digest(&image.header().integrity_bytes()),
        objects: objects.collect(),
    };
    let text = metadata.to_json().expect("text");
    assert_eq!(text.len(), 517);
    assert_eq!(
        sum(&text),
        "1cec2ca596f2ad0c50020e601544d3b176925714379e22b87a368d55d9d3aa02"
    );
    assert_eq!(
        sum(&dsse::pae(METADATA_TYPE, &text)),
        "da7f36796518399df1e460ca07981b49a9f0427e366e3c8791326509baf6c32c"
    );
    // The OpenPGP signature hashes the text, its own first part and a trailer.
    let hashed = hex::decode(
        "05825efa80f40910a20c27ee7ff7ba8416210412045c8c0b1004d058de4beda20c27ee7ff7ba84",
    )
    .expect("sub-packets");
    assert_eq!(hashed.len(), 39);
    let packet = signature_packet(&corpus);
    let body = &packet[3..];
    // Version 4, text document or binary, RSA, SHA-256.
    assert!(matches!(body[..4], [4, 0 | 1, 1, 8]), "{:?}", &body[..4]);
    assert_eq!(body[4..6], [0, 39]);
    assert_eq!(body[6..45], hashed);
    let trailer = [4, 0xff, 0, 0, 0, 0x2d];
    let signed = [&text, &body[..45], &trailer].concat();
    assert_eq!(
        sum(&signed),
        "ad63733ef9c6f2a3ffda05bd4ca966efc4f53f51bd2a2fca8545c6c0e6773ab6"
    );
}

#[test]
fn signature_objects_have_the_known_sizes() {
    let Some(corpus) = corpus_or_skip("signature objects") else {
        return;
    };
    for (image, size) in [
        ("one-group-signed-pgp", 1048),
        ("one-group-signed-dsse", 1694),
        ("one-group-signed-legacy", 609),
    ] {
        let bytes = read(&corpus, image);
        assert_eq!(
            signature(&Image::parse(&bytes).expect(image)).size(),
            size,
            "{image}"
        );
    }
    let packet = signature_packet(&corpus);
    assert_eq!(packet.len(), 310);
    assert_eq!(packet[..3], [0xc2, 0xc0, 0x73]);
    let bytes = read(&corpus, "one-group-signed-dsse");
    let image = Image::parse(&bytes).expect("image");
    let envelope = image.data(signature(&image)).expect("data");
    assert_eq!(
        dsse::entries(envelope).expect("envelope"),
        [
            "SHA256:x6l8ZblpSSXGaPMCzySedWg88BwIFcz8jlPb6el0mFs",
            "SHA256:BhCwr7qZulYcOMSl2Jt2DuYHxHNnN6th4NdMqR/PGa4"
        ]
    );
}

fn read(corpus: &Path, image: &str) -> Vec<u8> {
    fs::read(corpus.join(format!("images/{image}.sif"))).expect(image)
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(HashAlgorithm::Sha256.digest(bytes).bytes())
}

fn signature<'i>(image: &'i Image<'_>) -> &'i Descriptor {
    image.signatures().next().expect("signature object")
}

/// The binary packet in the armor of one-group-signed-pgp.
fn signature_packet(corpus: &Path) -> Vec<u8> {
    let bytes = read(corpus, "one-group-signed-pgp");
    let image = Image::parse(&bytes).expect("image");
    let text = String::from_utf8(image.data(signature(&image)).expect("data").to_vec());
    let text = text.expect("armored text");
    let (_, armor) = text
        .split_once("-----BEGIN PGP SIGNATURE-----\n")
        .expect("armor");
    let (armor, _) = armor.split_once("-----END").expect("end of the armor");
    let base64: String = armor
        .lines()
        .filter(|line| !line.starts_with('='))
        .collect();
    BASE64_STANDARD.decode(base64).expect("base64")
}
