//! A new image whose data is written before its table: what comes from a server piece by piece.
//!
//! Positions are known as soon as an object is added, so that several can be written at once; the
//! file is no image before its first bytes are there.
//!
//! Source: spec/sif.md 1.9; spec/oci-sif-cosign.md 1.1.

use super::descriptor::{DESCRIPTOR_LEN, Extra, Link, NewDescriptor};
use super::edit::{Error, MAX_CAPACITY};
use super::header::{Header, UNSET_TIME};
use super::types::{DataType, GroupId, ObjectId};

/// A deterministic image: without id and times.
pub struct Fresh {
    header: Header,
    slots: Vec<[u8; DESCRIPTOR_LEN]>,
    capacity: usize,
    end: u64,
}

impl Fresh {
    /// An image with room for `capacity` objects.
    ///
    /// # Errors
    /// [`Error::Capacity`].
    pub fn new(capacity: usize) -> Result<Self, Error> {
        if capacity > MAX_CAPACITY {
            return Err(Error::Capacity(u64::try_from(capacity).unwrap_or(u64::MAX)));
        }
        let header = Header::empty([0; 16], UNSET_TIME, capacity);
        let end = u64::try_from(header.data_offset()).map_err(|_| Error::Overflow)?;
        Ok(Self {
            header,
            slots: Vec::new(),
            capacity,
            end,
        })
    }

    /// Adds an object of group 1 behind all others; returns the byte position of its data.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Overflow`].
    pub fn add(&mut self, data_type: DataType, extra: &Extra, size: u64) -> Result<u64, Error> {
        let number = self.slots.len().checked_add(1).ok_or(Error::Full)?;
        let id = u32::try_from(number).ok().and_then(ObjectId::new);
        let id = id.filter(|_| number <= self.capacity).ok_or(Error::Full)?;
        let signed = |value: u64| i64::try_from(value).map_err(|_| Error::Overflow);
        let offset = self.end;
        let end = offset.checked_add(size).ok_or(Error::Overflow)?;
        signed(end)?;
        let descriptor = NewDescriptor {
            data_type,
            id,
            group: GroupId::new(1),
            link: Link::None,
            offset: signed(offset)?,
            size: signed(size)?,
            padded_size: signed(size)?,
            time: UNSET_TIME,
            name: &[],
            extra,
        };
        self.slots.push(descriptor.to_bytes());
        self.end = end;
        Ok(offset)
    }

    /// Byte position behind the last object: the length of the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The first bytes of the file: header and table. They go last.
    pub fn head(mut self) -> Vec<u8> {
        let start = u64::try_from(self.header.data_offset()).unwrap_or_default();
        let free = self.capacity.saturating_sub(self.slots.len());
        self.header.set_counts(
            i64::try_from(free).unwrap_or(i64::MAX),
            i64::try_from(self.end.saturating_sub(start)).unwrap_or(i64::MAX),
        );
        let mut out = self.header.as_bytes().to_vec();
        let table = usize::try_from(self.header.descriptors_offset()).unwrap_or_default();
        out.resize(table, 0);
        for slot in &self.slots {
            out.extend_from_slice(slot);
        }
        out.resize(usize::try_from(start).unwrap_or_default(), 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Image;
    use super::*;
    use crate::digest::HashAlgorithm;

    #[test]
    fn what_is_laid_out_is_read_again() {
        let parts: [&[u8]; 3] = [b"layer", b"", b"{}"];
        let mut fresh = Fresh::new(4).unwrap();
        let mut file = vec![0; 4096 + 4 * 585];
        for (at, part) in parts.iter().enumerate() {
            let kind = match at {
                2 => DataType::OciRootIndex,
                _ => DataType::OciBlob,
            };
            let extra = Extra::OciDigest(HashAlgorithm::Sha256.digest(part));
            let offset = fresh.add(kind, &extra, part.len() as u64).unwrap();
            assert_eq!(offset, file.len() as u64);
            file.extend_from_slice(part);
        }
        assert_eq!(fresh.end(), file.len() as u64);
        let head = fresh.head();
        file[..head.len()].copy_from_slice(&head);
        let image = Image::parse(&file).unwrap();
        assert!(image.require_sound().is_ok());
        assert_eq!(image.free(), 1);
        assert!(image.header().is_deterministic());
        for (object, part) in image.objects().iter().zip(parts) {
            assert_eq!(image.data(object).unwrap(), part);
            let digest = HashAlgorithm::Sha256.digest(part).to_string();
            assert_eq!(object.oci_digest().unwrap(), digest);
        }
    }

    #[test]
    fn a_full_table_takes_nothing_more() {
        let mut fresh = Fresh::new(1).unwrap();
        fresh.add(DataType::OciBlob, &Extra::None, 1).unwrap();
        let error = fresh.add(DataType::OciBlob, &Extra::None, 1).unwrap_err();
        assert_eq!(error, Error::Full);
        let mut fresh = Fresh::new(2).unwrap();
        let error = fresh.add(DataType::OciBlob, &Extra::None, u64::MAX);
        assert_eq!(error, Err(Error::Overflow));
        assert!(Fresh::new(usize::MAX).is_err());
    }
}
