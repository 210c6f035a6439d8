//! Any sequence of edits keeps `sif check` clean, and the signatures of groups
//! that no edit touches valid. Repair then makes the whole file accountable.

use crate::flips::request;
use crate::support::{keyring, read_peers};
use proptest::prelude::*;
use sigsif::check::repair;
use sigsif::check::{self, Severity};
use sigsif::scope::Selection;
use sigsif::sif::edit::{Content, Edit, NewObject, Wipe};
use sigsif::sif::types::{Arch, DataType, FsType, PartType};
use sigsif::sif::{Extra, GroupId, Image};
use sigsif::verify::{self, Request};

/// The group that no edit touches; it has no primary partition, which `setprim` would change.
const KEPT: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Add {
        kind: usize,
        group: u32,
        alignment: u64,
        len: usize,
    },
    Delete {
        nth: usize,
        zero: bool,
    },
    SetPrimary {
        nth: usize,
    },
    Grow {
        more: usize,
    },
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_usize, 3..6_u32, prop_oneof![Just(0), Just(1), Just(7), Just(512), Just(4096)], 0..6000_usize)
            .prop_map(|(kind, group, alignment, len)| Step::Add { kind, group, alignment, len }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(nth, zero)| Step::Delete { nth, zero }),
        1 => any::<usize>().prop_map(|nth| Step::SetPrimary { nth }),
        1 => (0..30_usize).prop_map(|more| Step::Grow { more }),
        1 => Just(Step::Cut),
    ]
}

/// Objects that edits may touch: none of [`KEPT`], whose signature must stay valid.
fn touchable(image: &Image<'_>) -> Vec<u32> {
    let kept = GroupId::new(KEPT);
    let objects = image.objects().iter();
    let other = objects.filter(|o| o.group() != kept && o.data_type() != DataType::Signature);
    other.map(|object| object.raw_id()).collect()
}

fn take(edit: &mut Edit<'_>, image: &Image<'_>, step: &Step, fill: u8) {
    let touchable = touchable(image);
    let pick = |nth: usize| touchable.get(nth.checked_rem(touchable.len())?).copied();
    match *step {
        Step::Add {
            kind,
            group,
            alignment,
            len,
        } => {
            let data_type = [
                DataType::Generic,
                DataType::GenericJson,
                DataType::Partition,
                DataType::Sbom,
                DataType::DefFile,
            ][kind];
            let mut object = NewObject::new(data_type, Content::Bytes(vec![fill; len]));
            object.group = GroupId::new(group);
            object.alignment = object.alignment.max(alignment);
            object.name = format!("object {fill}").into_bytes();
            if data_type == DataType::Partition {
                object.extra = Extra::Partition {
                    fs: FsType::Squash,
                    part: PartType::System,
                    arch: Arch(*b"02\0"),
                };
            }
            edit.add(object).expect("added");
        }
        Step::Delete { nth, zero } => {
            let wipe = if zero { Wipe::Zero } else { Wipe::Keep };
            // It may be gone already in this edit.
            let _ = pick(nth).map(|id| edit.delete(id, wipe));
        }
        Step::SetPrimary { nth } => {
            let _ = pick(nth).map(|id| edit.set_primary(id));
        }
        Step::Grow { more } => {
            // It may have grown further already in this edit.
            let _ = edit.grow(image.capacity() + more);
        }
        Step::Cut => edit.cut(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_edits_keep_the_check_clean_and_other_groups_signed(
        edits in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..8),
    ) {
        let mut bytes = read_peers("native/pgp-two-groups.sif");
        let material = keyring();
        for (round, steps) in edits.iter().enumerate() {
            let image = Image::parse(&bytes).expect("an image");
            let mut edit = Edit::new(&image, 1_700_000_000);
            for step in steps {
                take(&mut edit, &image, step, u8::try_from(round + 1).expect("small"));
            }
            bytes = edit.plan().expect("a plan").applied(&bytes);
            let image = Image::parse(&bytes).expect("an image");
            let found = check::examine(&image, 1).expect("examined");
            let bad: Vec<_> = found.iter().filter(|f| f.severity != Severity::Note).collect();
            prop_assert!(bad.is_empty(), "{:?}", bad);
            prop_assert!(kept_group_verifies(&image, &material), "round {}", round);
        }
        // A repair clears what deletions left, and breaks nothing.
        let image = Image::parse(&bytes).expect("an image");
        let plan = repair::plan(&image, 1).expect("a plan");
        if let Some(patch) = plan.patch {
            bytes = patch.applied(&bytes);
            let image = Image::parse(&bytes).expect("an image");
            prop_assert!(kept_group_verifies(&image, &material), "after the repair");
            prop_assert!(repair::plan(&image, 1).expect("a plan").patch.is_none(), "again");
        }
    }
}

fn kept_group_verifies(image: &Image<'_>, material: &verify::KeyMaterial) -> bool {
    let request = Request {
        selection: Selection {
            groups: vec![KEPT],
            ..Selection::default()
        },
        ..request()
    };
    verify::native(image, material, &request).is_ok_and(|report| report.is_verified())
}
