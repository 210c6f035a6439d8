//! Plans changes of an image; nothing is written here.
//!
//! A [`Patch`] is complete before the first byte is written: new data, new
//! descriptors, new header. The edge applies it in an order in which every
//! crash leaves the old or the new image.

use super::descriptor::{DESCRIPTOR_LEN, Link, NewDescriptor};
use super::header::{HEADER_LEN, Header, UNSET_TIME};
use super::image::{Error as ImageError, Image};
use super::types::{DataType, GroupId, ObjectId, SignatureHash};

/// A planned change.
#[derive(Debug)]
pub struct Patch {
    /// The header that the plan was made for; the file must still have it.
    pub old_header: [u8; HEADER_LEN],
    /// New data: byte position and bytes, ascending, outside every object.
    pub data: Vec<(u64, Vec<u8>)>,
    /// New descriptors: byte position of the slot and its bytes, ascending.
    pub slots: Vec<(u64, [u8; DESCRIPTOR_LEN])>,
    /// The new header.
    pub header: [u8; HEADER_LEN],
    /// Ids of the new objects, in the order of the request.
    pub ids: Vec<ObjectId>,
}

/// Why a change cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The image has a semantic fault.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No free slot.
    #[error("insufficient descriptor capacity to add data object(s) to image")]
    Full,
    /// The data would end behind the largest file position.
    #[error("integer overflow when calculating alignment")]
    Overflow,
}

/// A signature that is to be stored.
pub struct NewSignature {
    /// The group that it is linked to.
    pub group: GroupId,
    /// Hash type in the extra field.
    pub hash: SignatureHash,
    /// Fingerprint of the signer in the extra field, zeros when absent.
    pub fingerprint: [u8; 20],
    /// Data of the object.
    pub data: Vec<u8>,
}

/// Checks that `count` more objects fit, before any work is done.
///
/// # Errors
/// A semantic fault of the image, or [`Error::Full`].
pub fn require_room(image: &Image<'_>, count: usize) -> Result<(), Error> {
    image.require_sound()?;
    if free_slots(image).take(count).count() < count {
        return Err(Error::Full);
    }
    Ok(())
}

/// Plans the addition of signature objects.
///
/// `now` in Unix seconds; a deterministic image stays deterministic instead.
///
/// # Errors
/// As [`Error`] says.
///
/// Source: spec/sif.md 1.10, 3.6.
pub fn add_signatures(
    image: &Image<'_>,
    signatures: Vec<NewSignature>,
    now: i64,
) -> Result<Patch, Error> {
    require_room(image, signatures.len())?;
    let header = image.header();
    let time = if header.is_deterministic() {
        UNSET_TIME
    } else {
        now
    };
    let mut end = data_end(image);
    let mut patch = Patch {
        old_header: *header.as_bytes(),
        data: Vec::new(),
        slots: Vec::new(),
        header: *header.as_bytes(),
        ids: Vec::new(),
    };
    let added = signatures.len();
    for (signature, (slot, id)) in signatures.into_iter().zip(free_slots(image)) {
        let size = i64::try_from(signature.data.len()).map_err(|_| Error::Overflow)?;
        let mut extra = SignatureHash::code(signature.hash).to_le_bytes().to_vec();
        extra.extend_from_slice(&signature.fingerprint);
        let descriptor = NewDescriptor {
            data_type: DataType::Signature,
            id,
            group: None,
            link: Link::Group(signature.group),
            offset: end,
            size,
            padded_size: size,
            time,
            extra: &extra,
        };
        let position = u64::try_from(end).map_err(|_| Error::Overflow)?;
        patch.data.push((position, signature.data));
        patch
            .slots
            .push((image.slot_position(slot), descriptor.to_bytes()));
        patch.ids.push(id);
        end = end.checked_add(size).ok_or(Error::Overflow)?;
    }
    patch.header = *updated(image, added, end, time).as_bytes();
    Ok(patch)
}

/// Free slots with the id that their object would get, in table order.
///
/// A slot whose id is taken by an object elsewhere in the table is left out.
fn free_slots<'i>(image: &'i Image<'_>) -> impl Iterator<Item = (usize, ObjectId)> + 'i {
    let taken = image.ids();
    let mut used = image
        .objects()
        .iter()
        .map(|object| object.slot())
        .peekable();
    (0..image.capacity()).filter_map(move |slot| {
        if used.next_if_eq(&slot).is_some() {
            return None;
        }
        let id = ObjectId::new(u32::try_from(slot.checked_add(1)?).ok()?)?;
        (!taken.contains(&id)).then_some((slot, id))
    })
}

/// Byte behind the last object, at least the start of the data section.
fn data_end(image: &Image<'_>) -> i64 {
    image
        .objects()
        .iter()
        .map(|object| object.offset().saturating_add(object.size()))
        .fold(image.header().data_offset(), i64::max)
}

fn updated(image: &Image<'_>, added: usize, end: i64, time: i64) -> Header {
    let free = i64::try_from(image.free().saturating_sub(added)).unwrap_or(i64::MAX);
    let data_size = end.saturating_sub(image.header().data_offset());
    image.header().with_update(free, data_size, time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sif::header::put;
    use crate::sif::image::tests::image_of;

    fn signature(group: u32, data: &[u8]) -> NewSignature {
        NewSignature {
            group: GroupId::new(group).unwrap(),
            hash: SignatureHash::Sha256,
            fingerprint: [9; 20],
            data: data.to_vec(),
        }
    }

    fn applied(bytes: &[u8], patch: &Patch) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut write = |at: u64, new: &[u8]| {
            let at = usize::try_from(at).unwrap();
            if bytes.len() < at + new.len() {
                bytes.resize(at + new.len(), 0);
            }
            put(&mut bytes, at, new);
        };
        for (at, data) in &patch.data {
            write(*at, data);
        }
        for (at, slot) in &patch.slots {
            write(*at, slot);
        }
        write(0, &patch.header);
        bytes
    }

    #[test]
    fn adds_signatures_behind_the_data_with_the_fields_of_the_originals() {
        let bytes = image_of(&[(1, 1, 8776, 10), (2, 2, 9000, 4)]);
        let image = Image::parse(&bytes).unwrap();
        let patch = add_signatures(
            &image,
            vec![signature(1, b"one"), signature(2, b"two!")],
            1_700_000_000,
        )
        .unwrap();
        let new = applied(&bytes, &patch);
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
        assert_eq!(first.created_at(), 1_700_000_000);
        assert_eq!(image.header().modified_at(), 1_700_000_000);
        assert_eq!(image.header().descriptors_free(), 4);
        assert_eq!(image.header().data_size(), 9011 - 8776);
    }

    #[test]
    fn a_deterministic_image_stays_deterministic() {
        let mut bytes = image_of(&[(1, 1, 8776, 10)]);
        put(&mut bytes, 48, &[0; 16]);
        put(&mut bytes, 64, &UNSET_TIME.to_le_bytes());
        put(&mut bytes, 72, &UNSET_TIME.to_le_bytes());
        let image = Image::parse(&bytes).unwrap();
        let patch = add_signatures(&image, vec![signature(1, b"x")], 1_700_000_000).unwrap();
        let new = applied(&bytes, &patch);
        let image = Image::parse(&new).unwrap();
        assert!(image.header().is_deterministic());
        assert_eq!(image.object(2).unwrap().created_at(), UNSET_TIME);
    }

    #[test]
    fn never_makes_a_second_object_of_one_id() {
        // Slot 0 holds id 2, so slot 1 would make another 2.
        let bytes = image_of(&[(2, 1, 8776, 10)]);
        let image = Image::parse(&bytes).unwrap();
        let patch = add_signatures(&image, vec![signature(1, b"x")], 0).unwrap();
        assert_eq!(patch.ids, [ObjectId::new(3).unwrap()]);
    }

    #[test]
    fn a_full_table_and_a_faulty_image_are_refused_before_any_work() {
        let full: Vec<_> = (1..=8).map(|id| (id, 1, 8776, 0)).collect();
        let bytes = image_of(&full);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(require_room(&image, 1), Err(Error::Full));
        let bytes = image_of(&[(1, 1, 8776, 10), (1, 1, 8786, 1)]);
        let image = Image::parse(&bytes).unwrap();
        assert!(matches!(require_room(&image, 1), Err(Error::Image(_))));
    }
}
