//! Flips bits of signed images: strict verification refuses each of them but
//! those of a few bytes that no rule can pin. Which these are is computed here
//! from the bytes and the specification (spec/sif.md 1.2, 1.4, 1.8, 1.12).

use crate::support::table::{self, HEADER, PARTITION, SLOT, TABLE, field, header};
use crate::support::{NOW, keyring, parallel, public_key, read_peers};
use sigsif::coverage::{Coverage, Evidence};
use sigsif::policy::Demands;
use sigsif::report::Report;
use sigsif::scope::Selection;
use sigsif::sif::Image;
use sigsif::verify::{self, KeyMaterial, Request};
use std::collections::BTreeSet;

/// Go's zero time, which deterministic images store.
pub const UNSET: i64 = -62_135_596_800;

/// A byte position and a bit number.
type Flip = (usize, u8);

/// A whole image, up to the first failure.
pub fn request() -> Request {
    Request {
        selection: Selection::default(),
        demands: Demands::default(),
        examine_all: false,
        now: NOW,
        threads: 1,
    }
}

/// Verifies an image as a whole.
pub fn report(image: &Image<'_>, material: &KeyMaterial) -> Option<Report> {
    let report = verify::native(image, material, &request()).ok()?;
    report.is_verified().then_some(report)
}

/// The coverage of a verified image; nothing if it does not verify.
pub fn coverage(bytes: &Vec<u8>, material: &KeyMaterial) -> Option<Coverage> {
    let image = Image::parse(bytes).ok()?;
    let report = report(&image, material)?;
    Some(Coverage::of(&image, &Evidence::proved(&report)))
}

/// Whether strict verification accepts an image.
pub fn is_accepted(bytes: &Vec<u8>, material: &KeyMaterial) -> bool {
    coverage(bytes, material).is_some_and(|coverage| coverage.is_complete())
}

/// Bytes that can have any value: the header's two times, and the modification
/// time of system partitions, which `setprim` sets. An image without any time
/// has none of them.
pub fn free_bytes(bytes: &[u8]) -> BTreeSet<usize> {
    let objects = table::objects(bytes);
    let grouped: Vec<_> = objects.iter().filter(|o| o.group() != 0).collect();
    let is_timeless = bytes[header::ID..header::CREATED].iter().all(|b| *b == 0)
        && grouped
            .iter()
            .all(|o| table::i64_at(bytes, o.at(field::CREATED)) == UNSET);
    if is_timeless {
        return BTreeSet::new();
    }
    let system = grouped
        .iter()
        .filter(|o| o.kind == PARTITION && matches!(o.part_type, 1 | 2));
    let times = system.flat_map(|o| o.at(field::MODIFIED)..o.at(field::UID));
    (header::CREATED..header::FREE).chain(times).collect()
}

fn is_thorough() -> bool {
    std::env::var_os("SIGSIF_TAMPER").is_some_and(|value| value == "full")
}

/// Every bit of the file, or a sample that is dense where numbers are.
fn flips(bytes: &[u8]) -> Vec<Flip> {
    let all = (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    if is_thorough() {
        return all.collect();
    }
    let free = free_bytes(bytes);
    let used: BTreeSet<_> = table::objects(bytes).iter().map(|o| o.slot).collect();
    let table_end = TABLE + table::capacity(bytes) * SLOT;
    let signature = table::objects(bytes)
        .into_iter()
        .filter(table::Object::is_signature)
        .map(|o| o.range())
        .collect::<Vec<_>>();
    let step = |at: usize| match at {
        _ if free.contains(&at) => 1,
        0..HEADER => 3,
        TABLE.. if at < table_end => match (at - TABLE) % SLOT {
            _ if !used.contains(&((at - TABLE) / SLOT)) => 997,
            field::TYPE..field::NAME => 3,
            _ => 61,
        },
        _ if signature.iter().any(|range| range.contains(&at)) => 29,
        _ => 499,
    };
    all.filter(|(at, bit)| (at * 8 + usize::from(*bit)).is_multiple_of(step(*at)))
        .collect()
}

/// Flips and expects exactly the free bits to be accepted.
pub fn assert_only_free_bits_are_accepted(name: &str, bytes: &[u8], material: &KeyMaterial) {
    let bytes = bytes.to_vec();
    let intact = coverage(&bytes, material).expect("a verified image");
    assert!(
        intact.is_complete(),
        "{name}: {:#?}",
        intact.uncovered().collect::<Vec<_>>()
    );
    let free = free_bytes(&bytes);
    let flips = flips(&bytes);
    let parts: Vec<_> = flips.chunks(256).collect();
    let accepted: BTreeSet<Flip> = parallel(&parts, |part| {
        let mut new = bytes.clone();
        let mut accepted = Vec::new();
        for (at, bit) in *part {
            new[*at] ^= 1 << bit;
            if is_accepted(&new, material) {
                accepted.push((*at, *bit));
            }
            new[*at] ^= 1 << bit;
        }
        accepted
    })
    .into_iter()
    .flatten()
    .collect();
    let tried = |(at, _): &&Flip| free.contains(at);
    let expected: BTreeSet<_> = flips.iter().filter(tried).copied().collect();
    assert_eq!(
        accepted.difference(&expected).collect::<Vec<_>>(),
        Vec::<&Flip>::new(),
        "{name}: accepted though they should not be"
    );
    assert_eq!(
        expected.difference(&accepted).collect::<Vec<_>>(),
        Vec::<&Flip>::new(),
        "{name}: refused though they are said to be free"
    );
    eprintln!(
        "{name}: {} bits flipped of {}, {} refused, {} accepted in {} free bytes",
        flips.len(),
        bytes.len() * 8,
        flips.len() - accepted.len(),
        accepted.len(),
        free.len()
    );
}

fn assert_fixture(name: &str) {
    let material = match name.strip_prefix("dsse-") {
        Some(key) => public_key(key.split('-').next().expect("a key")),
        None => keyring(),
    };
    let bytes = read_peers(&format!("native/{name}.sif"));
    assert_only_free_bits_are_accepted(name, &bytes, &material);
}

#[test]
fn refuses_every_bit_of_pgp_but_the_free_ones() {
    assert_fixture("pgp-one");
}

#[test]
fn refuses_every_bit_of_two_pgp_signatures_but_the_free_ones() {
    assert_fixture("pgp-one-twice");
}

#[test]
fn refuses_every_bit_of_two_pgp_groups_but_the_free_ones() {
    assert_fixture("pgp-two-groups");
}

#[test]
fn refuses_every_bit_of_dsse_ed25519_but_the_free_ones() {
    assert_fixture("dsse-ed25519");
}

#[test]
fn refuses_every_bit_of_dsse_p256_but_the_free_ones() {
    assert_fixture("dsse-p256");
}

#[test]
fn refuses_every_bit_of_dsse_rsa_but_the_free_ones() {
    assert_fixture("dsse-rsa3072");
}

#[test]
fn refuses_every_bit_of_an_image_without_times() {
    let (bytes, material) = crate::forms::timeless();
    assert_eq!(free_bytes(&bytes), BTreeSet::new());
    assert_only_free_bits_are_accepted("deterministic, dsse-p256", &bytes, &material);
}
