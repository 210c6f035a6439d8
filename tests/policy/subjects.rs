//! What a signature says something about: parts of groups, other groups, other images, old formats.

use crate::bench::{Bench, Seal, judge};
use crate::support::table::{self, field, put_u32};
use crate::support::{project, read_peers, skip};
use sigsif::key::pgp::{Keyring, entities_from_armored_or_binary};
use sigsif::policy::{Demands, KeyName, Required, Tolerated};
use sigsif::report::Origin;
use sigsif::scope::{Legacy, Selection};
use sigsif::verify::KeyMaterial;
use std::path::PathBuf;

fn require(bench: &Bench, seals: &[Seal]) -> Demands {
    Demands {
        required: seals.iter().map(|seal| bench.required(*seal)).collect(),
        ..Demands::default()
    }
}

fn any(at_least: usize) -> Demands {
    Demands {
        at_least,
        ..Demands::default()
    }
}

fn ignoring(demands: Demands) -> Demands {
    Demands {
        tolerated: Tolerated::UnknownSigners,
        ..demands
    }
}

fn groups(ids: &[u32]) -> Selection {
    Selection {
        groups: ids.to_vec(),
        ..Selection::default()
    }
}

fn objects(ids: &[u32]) -> Selection {
    Selection {
        objects: ids.to_vec(),
        ..Selection::default()
    }
}

fn reason(bytes: &[u8], bench: &Bench, demands: &Demands, selection: &Selection) -> Option<String> {
    let report = judge(bytes, &bench.material(), demands, selection);
    assert_eq!(report.is_verified(), report.failure().is_none());
    report.failure().map(ToString::to_string)
}

#[test]
fn a_demand_is_about_every_group() {
    let bench = Bench::new();
    let bare = read_peers("native/two-groups-unsigned.sif");
    let all = Selection::default();
    let by_alice = bench.seal(&bare, Seal::Alice, &all);
    let image = bench.seal(&by_alice, Seal::Bob, &groups(&[1]));
    let told =
        |demands: &Demands, selection: &Selection| reason(&image, &bench, demands, selection);

    assert_eq!(told(&require(&bench, &[Seal::Alice]), &all), None);
    assert_eq!(told(&any(1), &all), None);
    assert_eq!(
        told(&require(&bench, &[Seal::Bob]), &all).as_deref(),
        Some("policy: object group 2 is not signed by Bob")
    );
    assert_eq!(
        told(&any(2), &all).as_deref(),
        Some("policy: object group 2 has 1 of 2 accepted signers")
    );
    // What is not checked is not demanded.
    assert_eq!(told(&any(2), &groups(&[1])), None);
    assert_eq!(told(&require(&bench, &[Seal::Bob]), &groups(&[1])), None);
    assert!(told(&any(2), &groups(&[2])).is_some());

    // A group without a good signature is refused, whatever is ignored.
    let half = bench.seal(&bare, Seal::Alice, &groups(&[1]));
    let nobody = reason(&half, &bench, &ignoring(any(0)), &all);
    assert_eq!(
        nobody.as_deref(),
        Some("signature not found for object group 2")
    );
    let stranger = bench.seal(&half, Seal::Stranger, &groups(&[2]));
    assert_eq!(
        reason(&stranger, &bench, &ignoring(any(0)), &all).as_deref(),
        Some("policy: object group 2 has 0 of 1 accepted signers")
    );
}

#[test]
fn a_signature_of_a_part_is_none_of_the_whole() {
    let bench = Bench::new();
    let bare = read_peers("native/unsigned.sif");
    let whole = bench.seal(&bare, Seal::Alice, &Selection::default());
    let image = bench.seal(&whole, Seal::Bob, &objects(&[1]));
    for demands in [
        Demands::default(),
        require(&bench, &[Seal::Alice]),
        require(&bench, &[Seal::Bob]),
        any(1),
        any(2),
        ignoring(any(0)),
        ignoring(any(2)),
    ] {
        let told = reason(&image, &bench, &demands, &Selection::default());
        assert_eq!(told.as_deref(), Some("object 2: object not signed"));
    }
    // Both have signed object 1; of object 2 Bob said nothing.
    assert_eq!(reason(&image, &bench, &any(2), &objects(&[1])), None);
    let bob = require(&bench, &[Seal::Bob]);
    assert_eq!(reason(&image, &bench, &bob, &objects(&[1])), None);
    assert!(reason(&image, &bench, &bob, &objects(&[2])).is_some());
    // Part signatures of strangers can be ignored, and count for nobody.
    let part = bench.seal(&whole, Seal::Stranger, &objects(&[1]));
    assert_eq!(
        reason(&part, &bench, &ignoring(any(1)), &Selection::default()),
        None
    );
    assert!(reason(&part, &bench, &ignoring(any(2)), &objects(&[1])).is_some());
}

#[test]
fn the_same_signature_in_two_objects_is_one_signer() {
    let bench = Bench::new();
    let all = Selection::default();
    for seal in [Seal::Alice, Seal::KeyOne] {
        let image = bench.sealed(&[seal, seal, seal]);
        assert_eq!(reason(&image, &bench, &any(1), &all), None);
        assert_eq!(
            reason(&image, &bench, &any(2), &all).as_deref(),
            Some("policy: object group 1 has 1 of 2 accepted signers")
        );
    }
    assert_eq!(
        reason(
            &bench.sealed(&[Seal::Alice, Seal::KeyOne]),
            &bench,
            &any(2),
            &all
        ),
        None
    );
}

#[test]
fn a_signature_of_something_else_counts_for_nobody() {
    let bench = Bench::new();
    let all = Selection::default();
    // Bob's signature of group 1 is made to point at group 2.
    let bare = read_peers("native/two-groups-unsigned.sif");
    let image = bench.seal(&bare, Seal::Alice, &all);
    let mut image = bench.seal(&image, Seal::Bob, &groups(&[1]));
    let last = table::objects(&image)
        .into_iter()
        .next_back()
        .expect("an object");
    put_u32(&mut image, last.at(field::LINK), 2 | table::MASK);
    for demands in [any(1), require(&bench, &[Seal::Alice]), ignoring(any(0))] {
        assert!(reason(&image, &bench, &demands, &all).is_some());
    }
    // Bob's signature of another image.
    let other = bench.sealed(&[Seal::Bob]);
    let bob = table::objects(&other)
        .into_iter()
        .next_back()
        .expect("an object");
    let data = other[bob.range()].to_vec();
    let mut two = bench.sealed(&[Seal::Alice, Seal::Bob]);
    // The id of the header is signed: another image.
    let own = table::objects(&two)
        .into_iter()
        .next_back()
        .expect("an object");
    two[table::header::ID] ^= 1;
    let alone = reason(&two, &bench, &any(0), &all);
    assert_eq!(alone.as_deref(), Some("header integrity compromised"));
    assert_eq!(own.range().len(), data.len());
    two[own.range()].copy_from_slice(&data);
    for demands in [any(1), require(&bench, &[Seal::Bob]), ignoring(any(0))] {
        assert!(reason(&two, &bench, &demands, &all).is_some());
    }
}

/// The images of sylabs/sif, which are only beside the project.
pub fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("SIGSIF_CORPUS")
        .map_or_else(|| project().join("../shared/corpus/sif"), PathBuf::from);
    if folder.join("MANIFEST.md").is_file() {
        return Some(folder);
    }
    skip(&format!("{} is not there", folder.display()));
    None
}

#[test]
fn old_signatures_count_only_where_they_were_asked_for_and_new_ones_only_elsewhere() {
    let Some(corpus) = corpus() else { return };
    let read = |name: &str| std::fs::read(corpus.join(name)).expect(name);
    let entities = entities_from_armored_or_binary(&read("keys/private.asc")).expect("a key");
    let ring = Keyring::from_entities(entities);
    let material = KeyMaterial::of_keyrings(vec![(Origin::Local, ring)]);
    let signer = Required {
        label: "the signer".to_owned(),
        keys: vec![KeyName::Pgp(
            "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84".to_owned(),
        )],
    };
    let other = Required {
        label: "another".to_owned(),
        keys: vec![KeyName::Pgp("A".repeat(40))],
    };
    let demands = |required: &Required| Demands {
        required: vec![required.clone()],
        ..Demands::default()
    };
    let legacy = |legacy| Selection {
        legacy,
        ..Selection::default()
    };
    for (image, mode, fits) in [
        ("one-group-signed-legacy", Legacy::Selected, true),
        ("one-group-signed-legacy", Legacy::All, false),
        ("one-group-signed-legacy", Legacy::No, false),
        ("one-group-signed-legacy-all", Legacy::All, true),
        ("one-group-signed-pgp", Legacy::No, true),
        ("one-group-signed-pgp", Legacy::Selected, false),
        ("one-group-signed-pgp", Legacy::All, false),
    ] {
        let bytes = read(&format!("images/{image}.sif"));
        let verified =
            |demands: Demands| judge(&bytes, &material, &demands, &legacy(mode)).is_verified();
        assert_eq!(verified(Demands::default()), fits, "{image} {mode:?}");
        assert_eq!(verified(demands(&signer)), fits, "{image} {mode:?}");
        assert_eq!(verified(ignoring(any(1))), fits, "{image} {mode:?}");
        assert!(!verified(demands(&other)), "{image} {mode:?}");
        assert!(!verified(any(2)), "{image} {mode:?}");
    }
    // Two signers in one envelope are two.
    let bytes = read("images/one-group-signed-dsse.sif");
    let keys = ["ed25519", "rsa"].map(|name| {
        let pem = read(&format!("keys/{name}-public.pem"));
        sigsif::key::pem::PublicKey::from_pem(&pem).expect("a key")
    });
    let both = KeyMaterial::of_keys(keys.iter().cloned().map(Into::into).collect());
    let one = KeyMaterial::of_keys(vec![keys[0].clone().into()]);
    assert!(judge(&bytes, &both, &any(2), &Selection::default()).is_verified());
    assert!(judge(&bytes, &one, &any(1), &Selection::default()).is_verified());
    assert!(!judge(&bytes, &one, &any(2), &Selection::default()).is_verified());
}
