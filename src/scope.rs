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
        let every = image.groups().keys().map(|group| Task {
            group: *group,
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
            .keys()
            .map(|group| whole_group(image, *group))
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
        .filter(|group| image.groups().contains_key(group))
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
        .filter_map(Descriptor::id)
        .collect();
    objects.sort_unstable();
    Job { group, objects }
}
