//! Headers and tables that say anything: examined, accounted for and repaired
//! without a panic, and a repaired image has nothing left to repair.

use crate::support::read_peers;
use crate::support::table::{self, HEADER, SLOT, TABLE, header};
use proptest::prelude::*;
use sigsif::check::{self, repair};
use sigsif::coverage::{Coverage, Evidence};
use sigsif::sif::Image;

fn odd_numbers() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3..70_000_i64,
        (0..63_u32).prop_map(|bit| 1 << bit),
        Just(i64::MIN),
        Just(i64::MAX),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_image_makes_the_examination_panic(
        oci in any::<bool>(),
        changes in prop::collection::vec((0..TABLE + 13 * SLOT, any::<u8>()), 0..12),
        numbers in prop::collection::vec((0..8_usize, 0..13_usize, odd_numbers()), 0..3),
        data in prop::collection::vec((0..6000_usize, any::<u8>()), 0..4),
        len in prop_oneof![4 => Just(None), 1 => (0..50_000_usize).prop_map(Some)],
    ) {
        let name = match oci {
            true => "cosign/sif/one-broken-by-7th.oci.sif",
            false => "native/mixed-pgp-dsse.sif",
        };
        let mut bytes = read_peers(name);
        for (at, value) in changes {
            // The magic and the version stay, else nothing behind is reached.
            if !(header::MAGIC..header::ARCH).contains(&at) {
                bytes[at] = value;
            }
        }
        for (place, slot, value) in numbers {
            let at = match place {
                0..6 => header::FREE + place * 8,
                _ => TABLE + slot * SLOT + [17, 25][place - 6],
            };
            table::put_i64(&mut bytes, at, value);
        }
        let end = bytes.len();
        for (at, value) in data {
            bytes[end - 1 - at] = value;
        }
        if let Some(len) = len {
            bytes.truncate(len.max(HEADER));
        }
        look_at(&bytes)?;
    }
}

fn look_at(bytes: &Vec<u8>) -> Result<(), TestCaseError> {
    let image = match Image::parse(bytes) {
        Ok(image) => image,
        Err(error) => {
            let _ = check::unreadable(&error).problem.to_string();
            return Ok(());
        }
    };
    let found = check::examine(&image, 1).expect("nobody else writes");
    for finding in &found {
        prop_assert!(finding.range.start <= finding.range.end, "{:?}", finding);
        prop_assert!(!finding.problem.to_string().is_empty());
    }
    let mut evidence = Evidence::default();
    for signature in image.signatures() {
        evidence.claim(&image, signature);
    }
    let coverage = Coverage::of(&image, &evidence);
    let mut at = 0;
    for piece in &coverage.pieces {
        prop_assert_eq!(piece.range.start, at, "a gap or an overlap");
        at = piece.range.end;
    }
    prop_assert_eq!(at, bytes.len());
    let _ = sigsif::ui::coverage::bar(&coverage, &[], 80, false);
    let plan = repair::plan(&image, 1);
    if let Some(patch) = plan.ok().and_then(|plan| plan.patch) {
        let new = patch.applied(bytes);
        let again = Image::parse(&new).expect("the repaired image");
        let again = repair::plan(&again, 1).expect("a plan");
        prop_assert!(again.repaired.is_empty(), "still: {:?}", again.repaired);
    }
    Ok(())
}

#[test]
fn an_object_that_claims_the_first_byte_changes_nothing_about_the_header() {
    let mut bytes = read_peers("cosign/sif/one-broken-by-7th.oci.sif");
    // The table begins elsewhere: the first slot is read from what was the middle of another.
    bytes[TABLE + 280] = 1;
    table::put_i64(&mut bytes, header::FREE + 16, 256);
    look_at(&bytes).unwrap();
}
