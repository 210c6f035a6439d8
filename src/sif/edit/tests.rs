use super::*;
use crate::sif::descriptor::DESCRIPTOR_LEN;
use crate::sif::edit::patch::Write;
use crate::sif::header::put;
use crate::sif::image::tests::image_of;
use crate::sif::layout::TABLE_HOME;
use crate::sif::types::{FsType, SignatureHash};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000;

fn signature(group: u32, data: &[u8]) -> NewObject {
    NewObject {
        link: Link::Group(GroupId::new(group).unwrap()),
        extra: Extra::Signature {
            hash: SignatureHash::Sha256,
            fingerprint: [9; 20],
        },
        ..NewObject::new(DataType::Signature, Content::Bytes(data.to_vec()))
    }
}

fn generic(data: &[u8]) -> NewObject {
    NewObject::new(DataType::Generic, Content::Bytes(data.to_vec()))
}

fn partition(part: PartType, data: &[u8]) -> NewObject {
    NewObject {
        extra: Extra::Partition {
            fs: FsType::Squash,
            part,
            arch: Arch(*b"02\0"),
        },
        ..NewObject::new(DataType::Partition, Content::Bytes(data.to_vec()))
    }
}

fn deterministic(capacity: usize) -> Vec<u8> {
    let header = Header::empty([0; 16], UNSET_TIME, capacity);
    let len = usize::try_from(header.data_offset()).unwrap();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(len, 0);
    bytes
}

fn edited(bytes: &Vec<u8>, change: impl FnOnce(&mut Edit<'_>)) -> (Vec<u8>, Patch) {
    let image = Image::parse(bytes).unwrap();
    let mut edit = Edit::new(&image, NOW);
    change(&mut edit);
    let patch = edit.plan().unwrap();
    (patch.applied(bytes), patch)
}

/// What a reader sees: descriptors and the data of each.
fn seen(bytes: &Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let image = Image::parse(bytes).unwrap();
    assert_eq!(image.faults(), []);
    image
        .objects()
        .iter()
        .map(|object| {
            let data = image.data(object).unwrap().to_vec();
            (object.as_bytes().to_vec(), data)
        })
        .collect()
}

#[test]
fn adds_signatures_behind_the_data_with_the_fields_of_the_originals() {
    let bytes = image_of(&[(1, 1, 8776, 10), (2, 2, 9000, 4)]);
    let (new, patch) = edited(&bytes, |edit| {
        edit.add(signature(1, b"one")).unwrap();
        edit.add(signature(2, b"two!")).unwrap();
    });
    assert_eq!(
        patch.ids.iter().map(|id| id.get()).collect::<Vec<_>>(),
        [3, 4]
    );
    let image = Image::parse(&new).unwrap();
    assert_eq!(image.faults(), []);
    let (first, second) = (image.object(3).unwrap(), image.object(4).unwrap());
    assert_eq!((first.offset(), first.size()), (9004, 3));
    assert_eq!((second.offset(), second.size()), (9007, 4));
    assert_eq!(image.data(second).unwrap(), b"two!");
    assert_eq!(first.data_type(), DataType::Signature);
    assert_eq!(first.group(), None);
    assert_eq!(first.link(), Link::Group(GroupId::new(1).unwrap()));
    assert_eq!(first.signature_fingerprint(), Some([9; 20]));
    assert_eq!(first.created_at(), NOW);
    assert_eq!(image.header().modified_at(), NOW);
    assert_eq!(image.header().descriptors_free(), 4);
    assert_eq!(image.header().data_size(), 9011 - 8776);
}

#[test]
fn a_deterministic_image_stays_deterministic() {
    let bytes = deterministic(3);
    let (new, _) = edited(&bytes, |edit| {
        edit.add(signature(1, b"x")).unwrap();
    });
    let image = Image::parse(&new).unwrap();
    assert!(image.header().is_deterministic());
    assert_eq!(image.object(1).unwrap().created_at(), UNSET_TIME);
}

#[test]
fn never_makes_a_second_object_of_one_id() {
    // Slot 0 holds id 2, so slot 1 would make another 2.
    let bytes = image_of(&[(2, 1, 8776, 10)]);
    let (_, patch) = edited(&bytes, |edit| {
        edit.add(signature(1, b"x")).unwrap();
    });
    assert_eq!(patch.ids, [ObjectId::new(3).unwrap()]);
}

#[test]
fn a_faulty_image_is_refused_before_any_work() {
    let bytes = image_of(&[(1, 1, 8776, 10), (1, 1, 8786, 1)]);
    let image = Image::parse(&bytes).unwrap();
    let mut edit = Edit::new(&image, NOW);
    assert!(matches!(edit.add(generic(b"x")), Err(Error::Image(_))));
    assert!(matches!(edit.set_primary(1), Err(Error::Image(_))));
    assert!(matches!(edit.grow(90), Err(Error::Image(_))));
    assert!(matches!(edit.delete(1, Wipe::Zero), Err(Error::Image(_))));
    // The way out of it: both go.
    let (new, _) = edited(&bytes, |edit| edit.delete(1, Wipe::Keep).unwrap());
    let image = Image::parse(&new).unwrap();
    assert!(image.is_empty() && image.faults().is_empty());
}

/// Golden rules of spec/sif.md section 7: a deterministic image of 48 slots
/// with two objects of two bytes, at 32176 and 32178.
#[test]
fn lengths_and_places_are_those_of_the_golden_files() {
    let (two, _) = edited(&deterministic(48), |edit| {
        edit.add(generic(&[0xfa, 0xce])).unwrap();
        edit.add(generic(&[0xfe, 0xed])).unwrap();
    });
    assert_eq!(two.len(), 32180);
    let header = |bytes: &Vec<u8>| Image::parse(bytes).unwrap().header().clone();
    let delete = |id, cut: bool, wipe| {
        edited(&two, |edit| {
            edit.delete(id, wipe).unwrap();
            if cut {
                edit.cut();
            }
        })
        .0
    };
    let first_cut = delete(1, true, Wipe::Keep);
    assert_eq!(
        (first_cut.len(), header(&first_cut).data_size()),
        (32180, 4)
    );
    let last_cut = delete(2, true, Wipe::Keep);
    assert_eq!((last_cut.len(), header(&last_cut).data_size()), (32178, 2));
    let zeroed = delete(1, false, Wipe::Zero);
    assert_eq!(zeroed[32176..], [0, 0, 0xfe, 0xed]);
    let last = delete(2, false, Wipe::Keep);
    assert_eq!((last.len(), header(&last).data_size()), (32180, 4));
    assert_eq!(last[32178..], [0xfe, 0xed]);
    for start in [&last, &last_cut, &delete(2, false, Wipe::Zero)] {
        let (again, _) = edited(start, |edit| {
            edit.add(generic(b"ab")).unwrap();
        });
        let image = Image::parse(&again).unwrap();
        let object = image.object(2).unwrap();
        assert_eq!((object.slot(), object.offset()), (1, 32178));
        assert_eq!(again.len(), 32180);
    }
    let (aligned, _) = edited(&deterministic(48), |edit| {
        let alignment = 128;
        edit.add(NewObject {
            alignment,
            ..generic(&[1, 2])
        })
        .unwrap();
    });
    let image = Image::parse(&aligned).unwrap();
    let object = image.object(1).unwrap();
    assert_eq!((object.offset(), object.padded_size()), (32256, 82));
    let (fs, _) = edited(&deterministic(48), |edit| {
        edit.add(partition(PartType::Data, &[1, 2])).unwrap();
    });
    let image = Image::parse(&fs).unwrap();
    let object = image.object(1).unwrap();
    assert_eq!((object.offset(), object.padded_size()), (32768, 594));
    assert_eq!(image.header().data_size(), 594);
    // An empty object may lie behind the end of the file.
    let (empty, _) = edited(&deterministic(48), |edit| {
        let alignment = 4096;
        edit.add(NewObject {
            alignment,
            ..generic(&[])
        })
        .unwrap();
    });
    assert_eq!((empty.len(), header(&empty).data_size()), (32176, 592));
}

#[test]
fn the_primary_partition_changes_in_one_step() {
    let (start, _) = edited(&deterministic(8), |edit| {
        edit.add(partition(PartType::PrimSys, b"one")).unwrap();
        edit.add(partition(PartType::System, b"two")).unwrap();
        edit.add(partition(PartType::Data, b"data")).unwrap();
        edit.add(generic(b"x")).unwrap();
    });
    let image = Image::parse(&start).unwrap();
    assert_eq!(image.header().arch(), Arch(*b"02\0"));
    let mut edit = Edit::new(&image, NOW);
    assert_eq!(edit.set_primary(1), Ok(false));
    assert_eq!(edit.set_primary(3), Err(Error::NotSystem));
    assert_eq!(edit.set_primary(4), Err(Error::NotPartition));
    assert_eq!(edit.set_primary(9), Err(Error::Lookup(Lookup::NotFound)));
    assert_eq!(
        edit.set_primary(0),
        Err(Error::Lookup(Lookup::InvalidObjectId))
    );
    assert!(matches!(
        edit.add(partition(PartType::PrimSys, b"no")),
        Err(Error::SecondPrimary)
    ));
    assert_eq!(edit.set_primary(2), Ok(true));
    let new = edit.plan().unwrap().applied(&start);
    let image = Image::parse(&new).unwrap();
    assert_eq!(image.primary_partition().unwrap().raw_id(), 2);
    let (gone, _) = edited(&new, |edit| edit.delete(2, Wipe::Keep).unwrap());
    assert_eq!(Image::parse(&gone).unwrap().header().arch(), Arch::UNKNOWN);
}

#[test]
fn a_full_table_grows_and_alignments_stay() {
    let mut bytes = deterministic(3);
    for data in [&b"first"[..], b"second", b"third"] {
        bytes = edited(&bytes, |edit| {
            edit.add(partition(PartType::Data, data)).unwrap();
        })
        .0;
    }
    let before = seen(&bytes);
    let (new, patch) = edited(&bytes, |edit| {
        edit.add(generic(b"fourth")).unwrap();
    });
    assert_eq!(patch.new_capacity(), Some(51));
    let image = Image::parse(&new).unwrap();
    assert_eq!(image.capacity(), 51);
    assert_eq!(image.header().data_offset(), 4096 + 585 * 51);
    assert_eq!(image.table_position(), TABLE_HOME);
    for (object, (_, data)) in image.objects().iter().zip(&before) {
        assert_eq!(object.offset() % 4096, 0);
        assert_eq!(image.data(object).unwrap(), data);
    }
    assert_eq!(image.data(image.object(4).unwrap()).unwrap(), b"fourth");
    let end = image.object(4).unwrap().offset() + 6;
    assert_eq!(new.len(), usize::try_from(end).unwrap());
    assert_eq!(
        image.header().data_size(),
        end - image.header().data_offset()
    );
    let mut edit = Edit::new(&image, NOW);
    assert!(matches!(edit.grow(50), Err(Error::Smaller { .. })));
    assert!(matches!(
        edit.grow(MAX_CAPACITY + 1),
        Err(Error::Capacity(_))
    ));
}

#[test]
fn a_table_without_slots_grows() {
    let (new, _) = edited(&deterministic(0), |edit| {
        edit.add(generic(b"x")).unwrap();
    });
    let image = Image::parse(&new).unwrap();
    assert_eq!((image.capacity(), image.objects().len()), (48, 1));
}

#[test]
fn an_edit_brings_a_table_home_that_a_crash_left_behind_the_data() {
    let (start, _) = edited(&deterministic(8), |edit| {
        edit.add(generic(b"one")).unwrap();
        edit.add(generic(b"two")).unwrap();
        edit.add(generic(b"three")).unwrap();
    });
    let image = Image::parse(&start).unwrap();
    let mut edit = Edit::new(&image, NOW);
    edit.delete(1, Wipe::Zero).unwrap();
    edit.add(generic(b"four")).unwrap();
    let patch = edit.plan().unwrap();
    let Method::InPlace(plan) = &patch.method else {
        panic!("a new file");
    };
    let mut crashed = start.clone();
    for write in plan.phases.iter().take(plan.commit + 1).flatten() {
        write.put(&mut crashed);
    }
    let image = Image::parse(&crashed).unwrap();
    assert_eq!(image.faults(), []);
    let table_end = image.table_position() + 8 * 585;
    assert!(image.table_position() > 8776);
    assert_eq!(u64::try_from(crashed.len()).unwrap(), table_end);
    // What other programs compute: they neither overwrite nor cut the table.
    assert_eq!(
        image.header().data_offset(),
        i64::try_from(table_end).unwrap()
    );
    let what = seen(&crashed);
    for change in [false, true] {
        let (healed, _) = edited(&crashed, |edit| {
            if change {
                edit.add(generic(b"five")).unwrap();
            }
        });
        let image = Image::parse(&healed).unwrap();
        assert_eq!(image.table_position(), TABLE_HOME);
        assert_eq!(image.header().data_offset(), 8776);
        assert_eq!(seen(&healed)[..what.len()], what);
        // The place of the copy is zero, or cut off.
        let copy = usize::try_from(table_end).unwrap() - 8 * 585;
        let traces = healed[copy..].iter().take(8 * 585).filter(|b| **b != 0);
        assert_eq!((traces.count(), healed.len() > copy), (0, change));
    }
}

#[test]
fn sizes_with_padding_do_not_tell_of_deleted_objects() {
    let (three, _) = edited(&deterministic(8), |edit| {
        for data in [b"one", b"two", b"six"] {
            edit.add(generic(data)).unwrap();
        }
    });
    let sizes = |bytes: &Vec<u8>| -> Vec<_> {
        let image = Image::parse(bytes).unwrap();
        image
            .objects()
            .iter()
            .map(Descriptor::padded_size)
            .collect()
    };
    let (kept, _) = edited(&three, |edit| edit.delete(2, Wipe::Keep).unwrap());
    assert_eq!(sizes(&kept), [3, 3]);
    let (zeroed, _) = edited(&three, |edit| edit.delete(2, Wipe::Zero).unwrap());
    assert_eq!(sizes(&zeroed), [3, 6]);
    let (replaced, _) = edited(&three, |edit| {
        edit.delete(3, Wipe::Zero).unwrap();
        edit.add(generic(b"ten")).unwrap();
    });
    assert_eq!(sizes(&replaced), [3, 3, 6]);
    let (grown, _) = edited(&zeroed, |edit| edit.grow(9).unwrap());
    let image = Image::parse(&grown).unwrap();
    let gap = image.objects()[0].offset() - image.header().data_offset();
    assert_eq!(sizes(&grown), [3 + gap, 6]);
}

#[test]
fn traces_in_free_slots_and_wrong_counts_go_with_the_next_edit() {
    let mut bytes = image_of(&[(1, 1, 8776, 10)]);
    put(&mut bytes, 4096 + 5 * DESCRIPTOR_LEN + 9, b"trace");
    put(&mut bytes, 80, &0_i64.to_le_bytes());
    let (new, _) = edited(&bytes, |edit| {
        edit.add(generic(b"x")).unwrap();
    });
    let image = Image::parse(&new).unwrap();
    assert_eq!(image.untidy_slots().count(), 0);
    assert_eq!(image.header().descriptors_free(), 6);
}

#[test]
fn old_bytes_do_not_stay_between_and_behind_objects() {
    let (two, _) = edited(&deterministic(48), |edit| {
        edit.add(generic(b"one")).unwrap();
        edit.add(generic(&[0xff; 9000])).unwrap();
    });
    let (one, _) = edited(&two, |edit| edit.delete(2, Wipe::Keep).unwrap());
    assert_eq!(one.len(), two.len());
    let (new, _) = edited(&one, |edit| {
        edit.add(partition(PartType::Data, b"fs")).unwrap();
    });
    assert_eq!(new.len(), 32768 + 2);
    assert!(new[32179..32768].iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_replaced_again_and_again_takes_no_more_room_each_time() {
    let mut bytes = deterministic(4);
    bytes = edited(&bytes, |edit| {
        edit.add(generic(&[1; 100])).unwrap();
        edit.add(generic(&[2; 300])).unwrap();
    })
    .0;
    let mut lengths = Vec::new();
    for round in 3..9_u8 {
        let (new, patch) = edited(&bytes, |edit| {
            edit.fill_gaps();
            edit.delete(2, Wipe::Zero).unwrap();
            edit.add(generic(&[round; 300])).unwrap();
            edit.cut();
        });
        // The old data is whole until the commit.
        let Method::InPlace(plan) = &patch.method else {
            panic!("the table is large enough");
        };
        for (state, committed) in torn_states(&bytes, plan, 7) {
            let old = !committed && reads_as(&state, &bytes);
            assert!(old || reads_as(&state, &new));
        }
        lengths.push(new.len());
        bytes = new;
    }
    let [first, second, ..] = lengths[..] else {
        panic!("six rounds");
    };
    assert_eq!(
        (first - second, lengths[2..].to_vec()),
        (300, vec![first, second, first, second])
    );
}

/// A step of a random edit.
#[derive(Clone, Debug)]
enum Step {
    Add {
        kind: u8,
        size: u16,
        alignment: u16,
        group: u8,
    },
    Delete {
        nth: usize,
        wipe: bool,
    },
    SetPrimary {
        nth: usize,
    },
    Grow(usize),
    Cut,
    Fill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), 0..600_u16, prop_oneof![Just(0_u16), Just(1), Just(7), Just(512), Just(4096)], 0..3_u8)
            .prop_map(|(kind, size, alignment, group)| Step::Add { kind, size, alignment, group }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(nth, wipe)| Step::Delete { nth, wipe }),
        1 => any::<usize>().prop_map(|nth| Step::SetPrimary { nth }),
        1 => (0..12_usize).prop_map(Step::Grow),
        1 => Just(Step::Cut),
        1 => Just(Step::Fill),
    ]
}

fn take(edit: &mut Edit<'_>, step: &Step, seed: u8) {
    let nth = |edit: &Edit<'_>, nth: usize| {
        let objects: Vec<_> = edit.table.values().map(Descriptor::raw_id).collect();
        objects
            .get(nth.checked_rem(objects.len()).unwrap_or(0))
            .copied()
    };
    match step {
        Step::Add {
            kind,
            size,
            alignment,
            group,
        } => {
            let data = vec![seed; usize::from(*size)];
            let object = match kind % 4 {
                0 => partition(PartType::PrimSys, &data),
                1 => partition(PartType::System, &data),
                2 => signature(1, &data),
                _ => generic(&data),
            };
            let _ = edit.add(NewObject {
                alignment: u64::from(*alignment),
                group: GroupId::new(u32::from(*group)),
                ..object
            });
        }
        Step::Delete { nth: n, wipe } => {
            if let Some(id) = nth(edit, *n) {
                let wipe = if *wipe { Wipe::Zero } else { Wipe::Keep };
                edit.delete(id, wipe).unwrap();
            }
        }
        Step::SetPrimary { nth: n } => {
            let _ = nth(edit, *n).map(|id| edit.set_primary(id));
        }
        Step::Grow(more) => drop(edit.grow(edit.capacity + more)),
        Step::Cut => edit.cut(),
        Step::Fill => edit.fill_gaps(),
    }
}

/// Every state that a power loss can leave: all phases up to one, and any part of each write of the next.
fn torn_states(start: &[u8], plan: &InPlace, choice: u64) -> Vec<(Vec<u8>, bool)> {
    let mut states = Vec::new();
    for phase in 0..plan.phases.len() {
        for variant in 0..4_u64 {
            let mut bytes = start.to_vec();
            for write in plan.phases.iter().take(phase).flatten() {
                write.put(&mut bytes);
            }
            for (n, write) in plan.phases[phase].iter().enumerate() {
                // Any sectors of a write can be lost, or all.
                let lot = choice.rotate_left(u32::try_from(n * 7).unwrap()) ^ variant;
                for part in sectors(write) {
                    let lost =
                        (lot ^ (part.at / 512)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1;
                    if variant == 3 || (variant != 0 && !lost) {
                        part.put(&mut bytes);
                    }
                }
            }
            states.push((bytes, phase > plan.commit));
        }
    }
    let mut done = start.to_vec();
    plan.phases
        .iter()
        .flatten()
        .for_each(|write| write.put(&mut done));
    states.push((done, true));
    states
}

/// A write in the pieces that a disk stores as a whole.
fn sectors(write: &Write) -> Vec<Write> {
    let mut parts = Vec::new();
    let end = write.at + write.len();
    let mut at = write.at;
    while at < end {
        let next = ((at / 512 + 1) * 512).min(end);
        parts.push(match &write.bytes {
            Bytes::Zeros(_) => Write::zeros(at, next),
            Bytes::Data(bytes) => {
                let from = usize::try_from(at - write.at).unwrap();
                let to = usize::try_from(next - write.at).unwrap();
                Write::data(at, bytes[from..to].to_vec())
            }
        });
        at = next;
    }
    parts
}

/// Descriptors and data, and the architecture; times may be old or new.
fn reads_as(bytes: &Vec<u8>, wanted: &Vec<u8>) -> bool {
    let image = Image::parse(bytes).unwrap();
    let other = Image::parse(wanted).unwrap();
    seen(bytes) == seen(wanted) && image.header().arch() == other.header().arch()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mix of changes gives a sound image in which untouched objects are
    /// what they were, and a power loss at any moment leaves the old or the new image.
    #[test]
    fn any_edits_keep_the_image_whole_also_on_power_loss(
        edits in proptest::collection::vec(proptest::collection::vec(step(), 1..5), 1..6),
        capacity in 0..12_usize,
        choice in any::<u64>(),
    ) {
        let mut bytes = deterministic(capacity);
        for (round, steps) in edits.iter().enumerate() {
            let image = Image::parse(&bytes).unwrap();
            let mut edit = Edit::new(&image, NOW);
            for (n, step) in steps.iter().enumerate() {
                take(&mut edit, step, u8::try_from(round * 16 + n + 1).unwrap());
            }
            let changes = edit.table.len() != image.objects().len() || !edit.new.is_empty();
            let patch = edit.plan().unwrap();
            let new = patch.applied(&bytes);
            let after = Image::parse(&new).unwrap();
            prop_assert_eq!(after.faults(), &[]);
            prop_assert_eq!(after.untidy_slots().count(), 0);
            prop_assert_eq!(after.header().descriptors_free(), i64::try_from(after.free()).unwrap());
            if let Method::InPlace(plan) = &patch.method {
                for (state, committed) in torn_states(&bytes, plan, choice) {
                    let old = !committed && reads_as(&state, &bytes);
                    prop_assert!(old || reads_as(&state, &new), "neither old nor new");
                    // The next edit makes all of it right.
                    let (healed, _) = edited(&state, |edit| { edit.add(generic(b"again")).unwrap(); });
                    let healed = Image::parse(&healed).unwrap();
                    prop_assert_eq!(healed.faults(), &[]);
                    prop_assert_eq!(healed.untidy_slots().count(), 0);
                    prop_assert_eq!(healed.table_position(), TABLE_HOME);
                }
            } else {
                prop_assert!(changes || after.capacity() > image.capacity());
            }
            bytes = new;
        }
    }
}

#[test]
fn a_small_file_does_not_become_one_of_terabytes() {
    let start = 4096 + 8 * 585;
    for (offset, fits) in [(1_i64 << 30, true), (1 << 43, false)] {
        let bytes = image_of(&[(1, 1, start, 4), (2, 1, offset, 0)]);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.faults(), []);
        let mut edit = Edit::new(&image, 5);
        let added = edit.add(NewObject::new(
            DataType::Generic,
            Content::Bytes(b"x".to_vec()),
        ));
        assert_eq!(added.is_ok(), fits, "{offset}: {added:?}");
        assert_eq!(edit.next_offset(0).is_ok(), fits);
        // Deleting it is the way out.
        let mut edit = Edit::new(&image, 5);
        assert!(edit.delete(2, Wipe::Keep).is_ok());
        assert!(edit.plan().is_ok());
    }
}
