//! Judgements of images that no writer makes any more, or never made.
//!
//! What has to come out stands in spec/sif.md 4.2 to 4.4; digests are computed here.

use super::*;
use crate::digest::HashAlgorithm;
use crate::key::pgp::tests::{NOW, fixture, keyring};
use crate::scope::Legacy;
use crate::sif::edit::{Content, Edit, NewObject};
use crate::sif::types::SignatureHash;
use crate::sif::{Extra, ObjectId};
use crate::sign::{self, NativeSigner};

/// The first byte of the data of an object, in the file.
fn data_at(image: &[u8], id: u32) -> usize {
    let image = image.to_vec();
    let parsed = Image::parse(&image).unwrap();
    usize::try_from(parsed.object(id).unwrap().offset()).unwrap()
}

fn data_of(image: &[u8], id: u32) -> Vec<u8> {
    let image = image.to_vec();
    let parsed = Image::parse(&image).unwrap();
    parsed.data(parsed.object(id).unwrap()).unwrap().to_vec()
}

fn with_signature(image: &[u8], link: Link, extra: Extra, data: Vec<u8>) -> Vec<u8> {
    let image = image.to_vec();
    let parsed = Image::parse(&image).unwrap();
    let mut edit = Edit::new(&parsed, 1_700_000_000);
    edit.add(NewObject {
        link,
        extra,
        ..NewObject::new(DataType::Signature, Content::Bytes(data))
    })
    .unwrap();
    edit.plan().unwrap().applied(&image)
}

fn by_the_key(hash: SignatureHash) -> Extra {
    let key = keyring("gpg/ed25519.sec").into_entities().remove(0);
    let fingerprint = key.fingerprint().as_bytes().try_into().unwrap();
    Extra::Signature { hash, fingerprint }
}

fn sealed(text: &str) -> Vec<u8> {
    let key = keyring("gpg/ed25519.sec").into_entities().remove(0);
    let options = pgp::SealOptions {
        created: NOW - 10,
        salt: false,
    };
    pgp::seal(text.as_bytes(), &key.unlock(None).unwrap(), &options).unwrap()
}

/// A signature as old writers made it.
fn with_legacy(image: &[u8], link: Link, hash: SignatureHash, digest: &str) -> Vec<u8> {
    let text = sealed(&format!("SIFHASH:\n{digest}"));
    with_signature(image, link, by_the_key(hash), text)
}

fn with_current(image: &[u8], groups: &[u32]) -> Vec<u8> {
    let key = keyring("gpg/ed25519.sec").into_entities().remove(0);
    let key = key.unlock(None).unwrap();
    let signer = NativeSigner::Pgp {
        key: &key,
        salt: false,
    };
    let image = image.to_vec();
    let parsed = Image::parse(&image).unwrap();
    let selection = Selection {
        groups: groups.to_vec(),
        ..Selection::default()
    };
    let now = i64::try_from(NOW - 10).unwrap();
    let patch = sign::native(&parsed, &signer, &selection, now, 1).unwrap();
    patch.applied(&image)
}

fn report(image: &[u8], selection: Selection) -> Report {
    let image = image.to_vec();
    let parsed = Image::parse(&image).unwrap();
    let material = KeyMaterial::of_keyrings(vec![(Origin::Local, keyring("gpg/ed25519.pub"))]);
    let [quick, whole] = [false, true].map(|examine_all| {
        let request = Request {
            selection: selection.clone(),
            demands: Demands::default(),
            examine_all,
            now: NOW,
            threads: 1,
        };
        native(&parsed, &material, &request).unwrap()
    });
    assert_eq!(quick.failure(), whole.failure());
    whole
}

/// The refusal, or the ids of the objects that were proved.
fn answer(image: &[u8], selection: Selection) -> Result<Vec<u32>, String> {
    let report = report(image, selection);
    match report.failure() {
        Some(failure) => Err(failure.to_string()),
        None => {
            let proved = report.signatures.iter().flat_map(|s| &s.verified);
            Ok(proved.map(|object| object.id).collect())
        }
    }
}

fn selection(groups: &[u32], objects: &[u32], legacy: Legacy) -> Selection {
    Selection {
        groups: groups.to_vec(),
        objects: objects.to_vec(),
        legacy,
    }
}

fn group(number: u32) -> Link {
    Link::Group(crate::sif::GroupId::new(number).unwrap())
}

fn object(id: u32) -> Link {
    Link::Object(ObjectId::new(id).unwrap())
}

/// Objects 1 to 3 in group 1, the last one its primary partition, and 4 to 6 in group 2.
fn bare() -> Vec<u8> {
    fixture("peers/native/two-groups-unsigned.sif")
}

fn hex_of(hash: HashAlgorithm, data: &[u8]) -> String {
    hex::encode(hash.digest(data).bytes())
}

#[test]
fn an_old_signature_of_an_object_binds_its_data_and_nothing_else() {
    use {HashAlgorithm as H, SignatureHash as S};
    let only_two = || selection(&[], &[2], Legacy::Selected);
    for (named, hash) in [
        (S::Sha256, H::Sha256),
        (S::Sha384, H::Sha384),
        (S::Sha512, H::Sha512),
    ] {
        let digest = hex_of(hash, &data_of(&bare(), 2));
        for digest in [digest.clone(), digest.to_uppercase()] {
            let signed = with_legacy(&bare(), object(2), named, &digest);
            assert_eq!(answer(&signed, only_two()), Ok(vec![2]));
            let mut changed = signed.clone();
            changed[data_at(&signed, 2)] ^= 1;
            assert_eq!(
                answer(&changed, only_two()).unwrap_err(),
                "data object integrity compromised: 2"
            );
            let mut other = signed.clone();
            other[data_at(&signed, 1)] ^= 1;
            assert_eq!(answer(&other, only_two()), Ok(vec![2]));
        }
        // Of the group alone, or of object 1, nothing is signed.
        let signed = with_legacy(&bare(), object(2), named, &digest);
        assert_eq!(
            answer(&signed, selection(&[], &[1], Legacy::Selected)).unwrap_err(),
            "signature not found for object 1"
        );
        assert_eq!(
            answer(&signed, selection(&[1], &[], Legacy::Selected)).unwrap_err(),
            "signature not found for object group 1"
        );
    }
}

#[test]
fn an_old_signature_of_a_group_binds_the_data_of_all_its_objects() {
    let all = [1, 2, 3].map(|id| data_of(&bare(), id)).concat();
    let digest = hex_of(HashAlgorithm::Sha384, &all);
    let signed = with_legacy(&bare(), group(1), SignatureHash::Sha384, &digest);
    let whole = || selection(&[1], &[], Legacy::Selected);
    assert_eq!(answer(&signed, whole()), Ok(vec![1, 2, 3]));
    for id in [1, 2, 3] {
        let mut changed = signed.clone();
        changed[data_at(&signed, id)] ^= 1;
        assert_eq!(
            answer(&changed, whole()).unwrap_err(),
            "data object integrity compromised"
        );
    }
    let mut other = signed.clone();
    other[data_at(&signed, 4)] ^= 1;
    assert_eq!(answer(&other, whole()), Ok(vec![1, 2, 3]));
    assert_eq!(
        answer(&signed, selection(&[], &[2], Legacy::Selected)).unwrap_err(),
        "signature not found for object 2"
    );
}

#[test]
fn old_signatures_say_nothing_about_the_current_format_nor_it_about_them() {
    let all = [1, 2, 3].map(|id| data_of(&bare(), id)).concat();
    let digest = hex_of(HashAlgorithm::Sha384, &all);
    let old = with_legacy(&bare(), group(1), SignatureHash::Sha384, &digest);
    let (now, then) = (
        || selection(&[1], &[], Legacy::No),
        || selection(&[1], &[], Legacy::Selected),
    );
    let none = "signature not found for object group 1";
    assert_eq!(answer(&old, now()).unwrap_err(), none);
    let new = with_current(&bare(), &[1]);
    assert_eq!(answer(&new, now()), Ok(vec![1, 2, 3]));
    assert_eq!(answer(&new, then()).unwrap_err(), none);
    // Each looks at its own; what is wrong with the other does not matter.
    let both = with_current(&old, &[1]);
    assert_eq!(answer(&both, now()), Ok(vec![1, 2, 3]));
    assert_eq!(answer(&both, then()), Ok(vec![1, 2, 3]));
    let wrong = with_legacy(&new, group(1), SignatureHash::Sha384, &"0".repeat(96));
    assert_eq!(answer(&wrong, now()), Ok(vec![1, 2, 3]));
    assert_eq!(
        answer(&wrong, then()).unwrap_err(),
        "data object integrity compromised"
    );
    // In an object's place any content is looked at.
    let text = data_of(&new, 7);
    let extra = by_the_key(SignatureHash::Sha256);
    let misplaced = with_signature(&bare(), object(2), extra, text);
    assert_eq!(
        answer(&misplaced, selection(&[], &[2], Legacy::Selected)).unwrap_err(),
        "encoding/hex: invalid byte: U+007B '{'"
    );
}

#[test]
fn old_signatures_must_be_by_the_key_that_their_descriptor_names_and_of_a_known_hash() {
    let digest = hex_of(HashAlgorithm::Sha256, &data_of(&bare(), 2));
    let only_two = || selection(&[], &[2], Legacy::Selected);
    let text = sealed(&format!("SIFHASH:\n{digest}"));
    let signed = |extra| with_signature(&bare(), object(2), extra, text.clone());
    let other = Extra::Signature {
        hash: SignatureHash::Sha256,
        fingerprint: [7; 20],
    };
    assert_eq!(
        answer(&signed(other), only_two()).unwrap_err(),
        "fingerprint in descriptor does not correspond to signing entity"
    );
    for hash in [SignatureHash::Blake2s256, SignatureHash::Blake2b256] {
        assert_eq!(
            answer(&signed(by_the_key(hash)), only_two()).unwrap_err(),
            "hash algorithm unsupported"
        );
    }
    // The hash that is named, not the one that would fit.
    assert_eq!(
        answer(&signed(by_the_key(SignatureHash::Sha384)), only_two()).unwrap_err(),
        "digest malformed"
    );
}

#[test]
fn a_hash_that_nobody_knows_is_refused_before_the_signature_is_read() {
    let good = with_current(&bare(), &[1]);
    let whole = || selection(&[1], &[], Legacy::No);
    // spec/sif.md 1.3: the extra field is 201 bytes behind the start of a descriptor.
    let place = {
        let parsed = Image::parse(&good).unwrap();
        let position = parsed.slot_position(parsed.object(7).unwrap().slot());
        usize::try_from(position).unwrap() + 201
    };
    for (hash, known) in [(1_u32, true), (2, true), (5, true), (0, false), (6, false)] {
        let mut changed = good.clone();
        changed[place..place + 4].copy_from_slice(&hash.to_le_bytes());
        let wanted = match known {
            true => Ok(vec![1, 2, 3]),
            false => Err("hash algorithm unsupported".to_owned()),
        };
        assert_eq!(answer(&changed, whole()), wanted, "{hash}");
        // Also where the signature itself would be refused.
        changed[data_at(&good, 7) + 120] ^= 1;
        let refused = answer(&changed, whole()).unwrap_err();
        assert_eq!(refused.ends_with("unsupported"), !known, "{refused}");
    }
}

/// One name could be as long as a signature may be.
#[test]
fn only_a_name_of_sensible_length_is_told_of_a_stranger() {
    let entry = |name: &str| format!(r#"{{"keyid":"{name}","sig":"AAAA"}}"#);
    let names = [
        "x".repeat(257),
        "y".repeat(256),
        "SHA256:z".to_owned(),
        String::new(),
        "SHA256:z".to_owned(),
    ];
    let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
    let envelope = format!(
        r#"{{"payloadType":"{}","payload":"e30=","signatures":[{}]}}"#,
        dsse::SIF_METADATA_TYPE,
        entries.join(",")
    );
    let extra = Extra::Signature {
        hash: SignatureHash::Sha256,
        fingerprint: [0; 20],
    };
    let image = with_signature(&bare(), group(1), extra, envelope.into_bytes());
    let report = report(&image, selection(&[1], &[], Legacy::No));
    let of_stranger = &report.signatures[0];
    assert!(of_stranger.unknown_signer);
    assert_eq!(of_stranger.claimed, names[1..3]);
}

#[test]
fn of_several_objects_that_are_not_signed_the_first_in_the_table_is_named() {
    let digest = "0".repeat(64);
    let text =
        format!("{{\"version\":1,\"header\":{{\"digest\":\"sha256:{digest}\"}},\"objects\":[]}}");
    let extra = by_the_key(SignatureHash::Sha256);
    let mut image = with_signature(&bare(), group(1), extra, sealed(&text));
    let whole = || selection(&[1], &[], Legacy::No);
    let refused = answer(&image, whole()).unwrap_err();
    assert_eq!(refused, "object 1: object not signed");
    // As sylabs/sif v2.24.1: `objectIDsMatch` goes through the descriptors.
    let slots = {
        let parsed = Image::parse(&image).unwrap();
        [1, 3].map(|id| {
            let position = parsed.slot_position(parsed.object(id).unwrap().slot());
            usize::try_from(position).unwrap()
        })
    };
    for byte in 0..crate::sif::DESCRIPTOR_LEN {
        image.swap(slots[0] + byte, slots[1] + byte);
    }
    let refused = answer(&image, whole()).unwrap_err();
    assert_eq!(refused, "object 3: object not signed");
}

#[test]
fn a_signature_too_large_to_be_read_refuses_its_group_and_is_no_old_one() {
    let large = MAX_SIGNATURE_LEN + 1;
    let good = with_current(&bare(), &[1, 2]);
    let extra = by_the_key(SignatureHash::Sha256);
    let image = with_signature(&good, group(1), extra, vec![b' '; large]);
    let report = report(&image, selection(&[1], &[], Legacy::No));
    let signatures = &report.signatures;
    assert_eq!(signatures.len(), 2);
    assert!(signatures[0].failure.is_none());
    let failure = signatures[1].failure.as_ref().unwrap().to_string();
    assert_eq!(
        failure,
        format!(
            "signature object {} not valid: {large} bytes, more than the 16777216 that \
             are read",
            signatures[1].object
        )
    );
    assert_eq!(report.failure().unwrap().to_string(), failure);
    assert_eq!(
        answer(&image, selection(&[2], &[], Legacy::No)),
        Ok(vec![4, 5, 6])
    );
    assert_eq!(
        answer(&image, selection(&[1], &[], Legacy::Selected)).unwrap_err(),
        "signature not found for object group 1"
    );
}

#[test]
fn the_primary_partition_stands_for_an_image_with_old_signatures_unless_something_is_chosen() {
    let digest = |id| hex_of(HashAlgorithm::Sha256, &data_of(&bare(), id));
    let mut image = bare();
    for id in 1..=6 {
        image = with_legacy(&image, object(id), SignatureHash::Sha256, &digest(id));
    }
    let old = |groups: &[u32], objects: &[u32]| selection(groups, objects, Legacy::Selected);
    assert_eq!(answer(&image, old(&[], &[])), Ok(vec![3]));
    for id in 1..=6 {
        assert_eq!(answer(&image, old(&[], &[id])), Ok(vec![id]));
    }
    // A chosen group is not a wish for the partition, too.
    let all = [1, 2, 3].map(|id| data_of(&bare(), id)).concat();
    let digest = hex_of(HashAlgorithm::Sha256, &all);
    let grouped = with_legacy(&bare(), group(1), SignatureHash::Sha256, &digest);
    assert_eq!(answer(&grouped, old(&[1], &[])), Ok(vec![1, 2, 3]));
    assert_eq!(
        answer(&image, selection(&[], &[], Legacy::All)),
        Ok((1..=6).collect())
    );
}

/// The image of this file says in its config that it is for linux/amd64.
#[test]
fn who_names_a_platform_gets_no_image_for_another_one() {
    use crate::oci::manifest::Platform;
    use crate::oci::ocisif::{self, OciSif};
    let bytes = fixture("peers/cosign/sif/one-1sig.oci.sif");
    let image = Image::parse(&bytes).unwrap();
    let oci = OciSif::new(&image).unwrap();
    let checked = cosign::check(&oci, 1).unwrap();
    let judge = |os: &str, architecture: &str| {
        let choice = cosign::Choice {
            platform: Some(Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: String::new(),
            }),
            ..cosign::Choice::default()
        };
        let request = cosign::Request {
            keys: &[],
            annotations: &[],
            reference: None,
            strict: false,
        };
        checked.judge(&choice, &request)
    };
    assert_eq!(judge("linux", "amd64").unwrap().signatures.len(), 1);
    for (os, architecture) in [("linux", "arm64"), ("windows", "amd64")] {
        let refused = judge(os, architecture).unwrap_err();
        assert!(matches!(
            refused,
            cosign::Error::Fetch(ocisif::Error::NoImage)
        ));
    }
}

/// Go 1.26, `base64.StdEncoding`, skips line ends and counts them.
#[test]
fn the_bad_byte_of_a_signature_is_named_where_go_names_it() {
    for (text, at) in [
        ("!AAA", 0),
        ("AA!A", 2),
        ("AA\n!A", 3),
        ("\r\nAAAA\n\nAA-A", 10),
    ] {
        assert_eq!(cosign::decode_signature(text), Err(at), "{text:?}");
    }
    assert_eq!(cosign::decode_signature("AA\r\nAA\n"), Ok(vec![0; 3]));
}

/// Advice, which may name only what the signature itself names.
#[test]
fn a_signature_that_no_key_can_judge_tells_whom_it_names() {
    let claimed = |material: &KeyMaterial, extra: Extra, data: Vec<u8>| {
        let image = with_signature(&bare(), group(1), extra, data);
        let parsed = Image::parse(&image).unwrap();
        let request = Request {
            selection: selection(&[1], &[], Legacy::No),
            demands: Demands::default(),
            examine_all: true,
            now: NOW,
            threads: 1,
        };
        let report = native(&parsed, material, &request).unwrap();
        let [signature] = &report.signatures[..] else {
            panic!("{} signatures", report.signatures.len());
        };
        assert!(signature.unknown_signer && report.failure().is_some());
        signature.claimed.clone()
    };
    let named = |fingerprint: [u8; 20]| Extra::Signature {
        hash: SignatureHash::Sha256,
        fingerprint,
    };
    let key = keyring("gpg/ed25519.sec").into_entities().remove(0);
    let own: [u8; 20] = key.fingerprint().as_bytes().try_into().unwrap();
    let nobody = KeyMaterial::of_keyrings(Vec::new());
    let pgp = |fingerprint| claimed(&nobody, named(fingerprint), sealed("{}"));
    assert_eq!(pgp(own), [hex::encode_upper(own)]);
    // The descriptor, which is not signed, names another key.
    assert_eq!(pgp([0x11; 20]), [hex::encode_upper(&own[12..])]);
    let key = PublicKey::from_pem(&fixture("peers/cosign/keys/p256.pub")).unwrap();
    let other = KeyMaterial::of_keys(vec![key.into()]);
    let entry = |id: &str| format!(r#"{{"keyid":"{id}","sig":"MEUC"}}"#);
    let entries = ["b", "a", "b"].map(entry).join(",");
    let envelope = format!(
        r#"{{"payloadType":"application/vnd.sylabs.sif-metadata+json","payload":"e30=","signatures":[{entries}]}}"#
    );
    let dsse = claimed(&other, named([0; 20]), envelope.into_bytes());
    assert_eq!(dsse, ["b", "a"]);
}
