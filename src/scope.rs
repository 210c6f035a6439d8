//! Which objects a command is about: ids and groups become a list of tasks.

use crate::sif::types::DataType;
use crate::sif::{Descriptor, GroupId, Image, Lookup, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// What the user asked for; a number is kept as typed, 0 included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Groups.
    pub groups: Vec<u32>,
    /// Objects.
    pub objects: Vec<u32>,
    /// Legacy signatures instead of current ones.
    pub legacy: Legacy,
}

/// Which legacy signatures are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Legacy {
    /// None: the current format.
    #[default]
    No,
    /// Those of the selection, else of the primary system partition.
    Selected,
    /// Those of every object that is in a group.
    All,
}

/// One thing to verify: a group, or one object of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The group.
    pub group: GroupId,
    /// The only object, or the whole group.
    pub object: Option<ObjectId>,
    /// Whether legacy signatures are wanted.
    pub legacy: bool,
}

/// One signature to make: some objects of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The group.
    pub group: GroupId,
    /// Ids of the objects, ascending.
    pub objects: Vec<ObjectId>,
}

/// Why a selection does not fit the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Group 0, or an object without a group.
    #[error("integrity: invalid group ID")]
    InvalidGroup,
    /// Object 0.
    #[error("integrity: invalid object ID")]
    InvalidObject,
    /// No object of that group.
    #[error("integrity: group not found")]
    GroupNotFound,
    /// No object of that id.
    #[error("integrity: object not found")]
    ObjectNotFound,
    /// Two objects of that id.
    #[error("integrity: multiple objects found")]
    SeveralObjects,
    /// Nothing selected and no group in the image.
    #[error("integrity: no groups found")]
    NoGroups,
    /// Something selected and no object in the image.
    #[error("integrity: no objects in image")]
    NoObjects,
    /// Legacy default without a single primary system partition.
    #[error("{0}")]
    Primary(Lookup),
}

/// Lists what to verify: groups ascending, then objects ascending.
///
/// # Errors
/// As [`Error`] says.
///
/// Source: sylabs/sif `pkg/integrity/verify.go`; spec/sif.md 4.2.
pub fn tasks(image: &Image<'_>, selection: &Selection) -> Result<Vec<Task>, Error> {
    refuse_zero(selection)?;
    let legacy = selection.legacy != Legacy::No;
    let groups: BTreeSet<u32> = selection.groups.iter().copied().collect();
    let mut objects: BTreeSet<u32> = selection.objects.iter().copied().collect();
    match selection.legacy {
        Legacy::All => objects.extend(
            image
                .objects()
                .iter()
                .filter(|o| o.group().is_some() && o.data_type() != DataType::Signature)
                .map(Descriptor::raw_id),
        ),
        Legacy::Selected if groups.is_empty() && objects.is_empty() => {
            let primary = image.primary_partition().map_err(Error::Primary)?;
            objects.insert(primary.raw_id());
        }
        _ => {}
    }
    if groups.is_empty() && objects.is_empty() {
        let every = image.groups().map(|group| Task {
            group,
            object: None,
            legacy,
        });
        let every: Vec<_> = every.collect();
        return if every.is_empty() {
            Err(Error::NoGroups)
        } else {
            Ok(every)
        };
    }
    let mut tasks = Vec::new();
    for group in groups {
        let group = existing_group(image, group)?;
        tasks.push(Task {
            group,
            object: None,
            legacy,
        });
    }
    for id in objects {
        let (group, object) = grouped_object(image, id)?;
        tasks.push(Task {
            group,
            object: Some(object),
            legacy,
        });
    }
    Ok(tasks)
}

/// Lists which signatures to make: groups as given, then objects by group.
///
/// # Errors
/// As [`Error`] says.
///
/// Source: sylabs/sif `pkg/integrity/sign.go`; spec/sif.md 3.2.
pub fn jobs(image: &Image<'_>, selection: &Selection) -> Result<Vec<Job>, Error> {
    refuse_zero(selection)?;
    if selection.groups.is_empty() && selection.objects.is_empty() {
        let every: Vec<_> = image
            .groups()
            .map(|group| whole_group(image, group))
            .collect();
        return if every.is_empty() {
            Err(Error::NoGroups)
        } else {
            Ok(every)
        };
    }
    let mut jobs = Vec::new();
    for group in &selection.groups {
        jobs.push(whole_group(image, existing_group(image, *group)?));
    }
    let mut by_group = BTreeMap::<GroupId, BTreeSet<ObjectId>>::new();
    for id in &selection.objects {
        let (group, object) = grouped_object(image, *id)?;
        by_group.entry(group).or_default().insert(object);
    }
    jobs.extend(by_group.into_iter().map(|(group, objects)| Job {
        group,
        objects: objects.into_iter().collect(),
    }));
    Ok(jobs)
}

fn refuse_zero(selection: &Selection) -> Result<(), Error> {
    if selection.groups.contains(&0) {
        return Err(Error::InvalidGroup);
    }
    if selection.objects.contains(&0) {
        return Err(Error::InvalidObject);
    }
    Ok(())
}

fn existing_group(image: &Image<'_>, group: u32) -> Result<GroupId, Error> {
    if image.is_empty() {
        return Err(Error::NoObjects);
    }
    GroupId::new(group)
        .filter(|group| image.has_group(*group))
        .ok_or(Error::GroupNotFound)
}

fn grouped_object(image: &Image<'_>, id: u32) -> Result<(GroupId, ObjectId), Error> {
    let object = image.object(id).map_err(|error| match error {
        Lookup::NoObjects => Error::NoObjects,
        Lookup::InvalidObjectId => Error::InvalidObject,
        Lookup::NotFound => Error::ObjectNotFound,
        Lookup::Several => Error::SeveralObjects,
    })?;
    let group = object.group().ok_or(Error::InvalidGroup)?;
    let id = object.id().ok_or(Error::InvalidObject)?;
    Ok((group, id))
}

fn whole_group(image: &Image<'_>, group: GroupId) -> Job {
    let mut objects: Vec<_> = image
        .group_members(group)
        .filter_map(|(_, object)| object.id())
        .collect();
    objects.sort_unstable();
    Job { group, objects }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sif::{DESCRIPTOR_LEN, HEADER_LEN};

    /// Objects (id, group, type); group 0 means none.
    fn image_of(objects: &[(u32, u32, i32)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN + 8 * DESCRIPTOR_LEN];
        bytes[32..45].copy_from_slice(b"SIF_MAGIC\x0001\0");
        for (at, value) in [(80, 8_i64), (88, 8), (96, 128), (104, 8 * 585), (112, 4808)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        for (slot, (id, group, kind)) in objects.iter().enumerate() {
            let at = HEADER_LEN + slot * DESCRIPTOR_LEN;
            bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            bytes[at + 4] = 1;
            bytes[at + 5..at + 9].copy_from_slice(&id.to_le_bytes());
            bytes[at + 9..at + 13].copy_from_slice(&(group | 0xf000_0000).to_le_bytes());
        }
        bytes
    }

    const RAW: i32 = 0x4007;
    const SIGNATURE: i32 = 0x4005;

    fn selection(groups: &[u32], objects: &[u32]) -> Selection {
        Selection {
            groups: groups.to_vec(),
            objects: objects.to_vec(),
            legacy: Legacy::No,
        }
    }

    fn three() -> Vec<u8> {
        image_of(&[(1, 2, RAW), (2, 1, RAW), (3, 2, RAW), (4, 0, SIGNATURE)])
    }

    #[test]
    fn default_is_every_group_ascending() {
        let bytes = three();
        let image = Image::parse(&bytes).unwrap();
        let groups: Vec<_> = tasks(&image, &Selection::default())
            .unwrap()
            .iter()
            .map(|task| (task.group.get(), task.object.is_none()))
            .collect();
        assert_eq!(groups, [(1, true), (2, true)]);
        let jobs = jobs(&image, &Selection::default()).unwrap();
        let ids = |job: &Job| job.objects.iter().map(|id| id.get()).collect::<Vec<_>>();
        assert_eq!(ids(&jobs[0]), [2]);
        assert_eq!(ids(&jobs[1]), [1, 3]);
    }

    #[test]
    fn groups_come_before_objects_without_repetition() {
        let bytes = three();
        let image = Image::parse(&bytes).unwrap();
        let tasks = tasks(&image, &selection(&[2, 2], &[3, 2, 3])).unwrap();
        let seen: Vec<_> = tasks
            .iter()
            .map(|t| (t.group.get(), t.object.map(|id| id.get())))
            .collect();
        assert_eq!(seen, [(2, None), (1, Some(2)), (2, Some(3))]);
    }

    #[test]
    fn wrong_selections_have_the_words_of_the_originals() {
        let bytes = three();
        let image = Image::parse(&bytes).unwrap();
        let both = |groups: &[u32], objects: &[u32]| {
            let selection = selection(groups, objects);
            let verify = tasks(&image, &selection).unwrap_err();
            assert_eq!(jobs(&image, &selection).unwrap_err(), verify);
            verify.to_string()
        };
        assert_eq!(both(&[0], &[]), "integrity: invalid group ID");
        assert_eq!(both(&[], &[0]), "integrity: invalid object ID");
        assert_eq!(both(&[9], &[]), "integrity: group not found");
        assert_eq!(both(&[0x1000_0001], &[]), "integrity: group not found");
        assert_eq!(both(&[], &[9]), "integrity: object not found");
        assert_eq!(both(&[], &[4]), "integrity: invalid group ID");
    }

    #[test]
    fn an_empty_image_tells_apart_default_and_selection() {
        let bytes = image_of(&[]);
        let image = Image::parse(&bytes).unwrap();
        let reason = |s: &Selection| tasks(&image, s).unwrap_err().to_string();
        assert_eq!(reason(&Selection::default()), "integrity: no groups found");
        assert_eq!(
            reason(&selection(&[1], &[])),
            "integrity: no objects in image"
        );
        assert_eq!(
            reason(&selection(&[], &[1])),
            "integrity: no objects in image"
        );
        let legacy = Selection {
            legacy: Legacy::Selected,
            ..Selection::default()
        };
        assert_eq!(reason(&legacy), "no objects in image");
    }

    #[test]
    fn legacy_all_takes_grouped_objects_but_no_signature() {
        let bytes = image_of(&[(1, 1, RAW), (2, 1, SIGNATURE), (3, 0, RAW), (4, 2, RAW)]);
        let image = Image::parse(&bytes).unwrap();
        let all = Selection {
            legacy: Legacy::All,
            ..Selection::default()
        };
        let ids: Vec<_> = tasks(&image, &all)
            .unwrap()
            .iter()
            .map(|task| task.object.unwrap().get())
            .collect();
        assert_eq!(ids, [1, 4]);
    }
}
