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
