//! Flips bytes of a signed OCI-SIF: what a signature covers must be refused.

use crate::support::{parallel, peers, read_peers};
use sigsif::key::pem::PublicKey;
use sigsif::oci::ocisif::OciSif;
use sigsif::sif::Image;
use sigsif::verify::cosign::{Choice, Request, check};
use std::collections::BTreeMap;
use std::fs;

/// Whether every byte is tried, or a sample of the bulky ones.
fn full() -> bool {
    std::env::var_os("SIGSIF_TAMPER").is_some_and(|value| value == "full")
}

fn key(path: &str) -> PublicKey {
    PublicKey::from_pem(&fs::read(peers(path)).expect("a key")).expect("a key")
}

/// The reason of a refusal, or nothing for "verified".
fn refusal(bytes: &Vec<u8>, keys: &[PublicKey], strict: bool) -> Option<String> {
    let image = match Image::parse(bytes) {
        Ok(image) => image,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = image.require_sound() {
        return Some(error.to_string());
    }
    let request = Request {
        keys,
        annotations: &[],
        reference: None,
        strict,
    };
    let judge = || -> Result<Option<String>, String> {
        let oci = OciSif::new(&image).map_err(|error| error.to_string())?;
        let checked = check(&oci, 1).map_err(|error| error.to_string())?;
        let report = checked
            .judge(&Choice::default(), &request)
            .map_err(|error| error.to_string())?;
        // One is enough for a verdict; here each must still be there.
        if report.valid().count() < keys.len() {
            return Ok(Some("a signature does not count".to_owned()));
        }
        Ok(if strict {
            checked.uncovered(&report)
        } else {
            None
        })
    };
    judge().unwrap_or_else(Some)
}

/// Bytes of the file that hold what the signatures cover: data of objects, the
/// digest and size in their descriptors.
fn ranges(bytes: &[u8]) -> Vec<(usize, usize, &'static str)> {
    let number = |at: usize| {
        usize::try_from(i64::from_le_bytes(
            bytes[at..at + 8].try_into().expect("8 bytes"),
        ))
        .expect("small")
    };
    let (total, table) = (number(88), number(96));
    let mut ranges = Vec::new();
    for slot in (0..total)
        .map(|slot| table + slot * 585)
        .filter(|slot| bytes[slot + 4] != 0)
    {
        ranges.push((
            number(slot + 17),
            number(slot + 17) + number(slot + 25),
            "data",
        ));
        ranges.push((slot, slot + 4, "type"));
        ranges.push((slot + 17, slot + 33, "place"));
        ranges.push((slot + 201, slot + 272, "digest"));
    }
    ranges
}

#[test]
fn every_byte_of_blobs_and_index_is_covered() {
    for (name, keys) in [
        ("oci/signed.oci.sif", vec![key("oci/cosign.pub")]),
        (
            "cosign/sif/two-keys.oci.sif",
            vec![key("cosign/keys/p256.pub"), key("cosign/keys/rsa2048.pub")],
        ),
    ] {
        let bytes = read_peers(name);
        assert_eq!(refusal(&bytes, &keys, false), None, "{name}");
        let mut places = Vec::new();
        for (start, end, what) in ranges(&bytes) {
            let step = if full() || what != "data" {
                1
            } else {
                1 + (end - start) / 40
            };
            places.extend((start..end).step_by(step).map(|at| (at, what)));
        }
        let answers = parallel(&places, |(at, _)| {
            let mut changed = bytes.clone();
            changed[*at] ^= 1 << (at % 8);
            refusal(&changed, &keys, false)
        });
        let mut reasons = BTreeMap::<&str, usize>::new();
        for ((at, what), answer) in places.iter().zip(&answers) {
            let reason = answer
                .as_deref()
                .unwrap_or_else(|| panic!("{name}: byte {at} ({what}) is not covered"));
            let digest = reason.contains("digest mismatch") || reason.starts_with("root index");
            assert!(*what != "data" || digest, "{name}: byte {at}: {reason}");
            *reasons.entry(what).or_default() += 1;
        }
        println!("{name}: refused {reasons:?}");
    }
}

#[test]
fn strict_accounts_for_every_byte_of_the_file() {
    let name = "cosign/sif/one-1sig.oci.sif";
    let bytes = read_peers(name);
    let keys = [key("cosign/keys/p256.pub")];
    assert_eq!(refusal(&bytes, &keys, true), None);
    // Gaps and data are sampled, header and table are not.
    let table_end = 4096 + 585 * 32;
    let step = if full() { 1 } else { 7 };
    // The links of all objects: bits that read as no link are no freedom.
    let links = (0..7).flat_map(|slot| (0..4).map(move |byte| 4096 + 585 * slot + 13 + byte));
    let places: Vec<usize> = (0..128)
        .chain(links)
        .chain((128..4096).step_by(if full() { 1 } else { 97 }))
        .chain((4096..table_end.min(bytes.len())).step_by(step))
        .chain((table_end.min(bytes.len())..bytes.len()).step_by(if full() { 1 } else { 53 }))
        .collect();
    // Every bit, or one of each byte.
    let bits = |at: usize| if full() { 0..8 } else { at % 8..at % 8 + 1 };
    let places: Vec<(usize, usize)> = places
        .into_iter()
        .flat_map(|at| bits(at).map(move |bit| (at, bit)))
        .collect();
    let answers = parallel(&places, |(at, bit)| {
        let mut changed = bytes.clone();
        changed[*at] ^= 1 << bit;
        refusal(&changed, &keys, true)
    });
    let free: Vec<_> = places
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| answer.is_none())
        .map(|(at, _)| *at)
        .collect();
    println!(
        "{name}: {} of {} flips refused",
        places.len() - free.len(),
        places.len()
    );
    assert_eq!(
        free,
        Vec::<(usize, usize)>::new(),
        "bytes that nothing accounts for"
    );
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(refusal(&longer, &keys, true).is_some());
}
