//! Any sequence of changes keeps the image clean, and signatures of untouched groups valid.

use super::support::{NOW, public_key, read_peers};
use proptest::prelude::*;
use sigsif::check::{self, Severity};
use sigsif::key::pem::PrivateKey;
use sigsif::scope::Selection;
use sigsif::sif::edit::{Content, Edit, NewObject, Wipe};
use sigsif::sif::types::{Arch, DataType, FsType, PartType};
use sigsif::sif::{Extra, GroupId, Header, Image, Link};
use sigsif::sign::{self, NativeSigner};
use sigsif::verify::{self, Request};

#[derive(Clone, Debug)]
enum Change {
    Add { kind: u8, size: u16, alignment: u16 },
    Delete { nth: usize, wipe: bool, cut: bool },
    SetPrimary { nth: usize },
    Grow(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<u8>(), 0..700_u16, prop_oneof![Just(0_u16), Just(64), Just(4096)])
            .prop_map(|(kind, size, alignment)| Change::Add { kind, size, alignment }),
        3 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(nth, wipe, cut)| Change::Delete { nth, wipe, cut }),
        1 => any::<usize>().prop_map(|nth| Change::SetPrimary { nth }),
        1 => (0..5_usize).prop_map(Change::Grow),
    ]
}

fn group(number: u32) -> Option<GroupId> {
    GroupId::new(number)
}

/// A signed group 1 in a table of four slots.
fn signed() -> Vec<u8> {
    let header = Header::empty([5; 16], 1_700_000_000, 4);
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(4096 + 585 * 4, 0);
    let image = Image::parse(&bytes).expect("an image");
    let mut edit = Edit::new(&image, 1_700_000_000);
    for data in [&b"recipe"[..], b"labels"] {
        let content = Content::Bytes(data.to_vec());
        let mut object = NewObject::new(DataType::GenericJson, content);
        object.group = group(1);
        edit.add(object).expect("room");
    }
    let bytes = edit.plan().expect("a plan").applied(&bytes);
    let key = PrivateKey::from_pem(&read_peers("keys/ed25519.key.pem"), None).expect("a key");
    let image = Image::parse(&bytes).expect("an image");
    let signer = NativeSigner::Dsse(&[&key]);
    let patch = sign::native(&image, &signer, &Selection::default(), 1_700_000_000, 1);
    patch.expect("a patch").applied(&bytes)
}

/// Does one change to what is not in group 1 and no signature of it; false if there is nothing to do.
fn apply(edit: &mut Edit<'_>, image: &Image<'_>, change: &Change) -> bool {
    let others: Vec<_> = image
        .objects()
        .iter()
        .filter(|o| o.group() != group(1) && o.link() != Link::Group(group(1).expect("a group")))
        .map(sigsif::sif::Descriptor::raw_id)
        .collect();
    let nth = |nth: usize| others.get(nth.checked_rem(others.len())?).copied();
    match change {
        Change::Add {
            kind,
            size,
            alignment,
        } => {
            let part = match kind % 3 {
                0 => PartType::PrimSys,
                1 => PartType::System,
                _ => PartType::Data,
            };
            let content = Content::Bytes(vec![*kind; usize::from(*size)]);
            let mut object = match kind % 2 {
                0 => NewObject {
                    extra: Extra::Partition {
                        fs: FsType::Squash,
                        part,
                        arch: Arch(*b"02\0"),
                    },
                    ..NewObject::new(DataType::Partition, content)
                },
                _ => NewObject::new(DataType::Generic, content),
            };
            object.group = group(2 + u32::from(*kind % 3));
            object.alignment = u64::from(*alignment);
            edit.add(object).is_ok()
        }
        Change::Delete { nth: n, wipe, cut } => {
            let Some(id) = nth(*n) else { return false };
            if *cut {
                edit.cut();
            }
            let wipe = if *wipe { Wipe::Zero } else { Wipe::Keep };
            edit.delete(id, wipe).is_ok()
        }
        Change::SetPrimary { nth: n } => nth(*n).is_some_and(|id| edit.set_primary(id) == Ok(true)),
        Change::Grow(more) => edit.grow(image.capacity() + more).is_ok(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_keep_the_image_clean_and_other_groups_signed(
        changes in proptest::collection::vec(change(), 1..25)
    ) {
        let key = public_key("ed25519");
        let request = Request {
            selection: Selection { groups: vec![1], ..Selection::default() },
            demands: sigsif::policy::Demands::default(),
            examine_all: false,
            now: NOW,
            threads: 1,
        };
        let mut bytes = signed();
        for change in &changes {
            let image = Image::parse(&bytes).expect("an image");
            let mut edit = Edit::new(&image, 1_700_000_001);
            if !apply(&mut edit, &image, change) {
                continue;
            }
            let new = edit.plan().expect("a plan").applied(&bytes);
            let after = Image::parse(&new).expect("an image");
            let worst: Vec<_> = check::native(&after)
                .into_iter()
                .filter(|finding| finding.severity != Severity::Note)
                .map(|finding| finding.problem.to_string())
                .collect();
            prop_assert!(worst.is_empty(), "{change:?}: {worst:?}");
            let report = verify::native(&after, &key, &request).expect("a judgement");
            prop_assert!(report.failure().is_none(), "{change:?}: {:?}", report.failure());
            bytes = new;
        }
    }
}
