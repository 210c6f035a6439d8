//! The story of a signature: payloads, seals, one patch.

pub mod cosign;

use crate::digest::HashAlgorithm;
use crate::key::pem::PrivateKey;
use crate::key::pgp::SigningKey;
use crate::payload::native::{self, ImageMetadata, ObjectMetadata};
use crate::scope::{self, Job, Selection};
use crate::sif::digests::{Digests, Extent, Wanted};
use crate::sif::edit::{self, Content, Edit, NewObject, Patch};
use crate::sif::types::{DataType, SignatureHash};
use crate::sif::{self, Descriptor, Extra, Image, Link};
use crate::signer::{dsse, pgp};

/// The algorithm of every digest in new metadata, as the originals write it.
const ALGORITHM: HashAlgorithm = HashAlgorithm::Sha256;

/// Who signs native signatures.
pub enum NativeSigner<'k> {
    /// An unlocked OpenPGP key, and whether to add a random salt notation.
    Pgp {
        /// The primary key.
        key: &'k SigningKey,
        /// Whether to add a random salt notation; off only to get the same
        /// bytes every time.
        salt: bool,
    },
    /// Private keys, one envelope entry each.
    Dsse(&'k [&'k PrivateKey]),
}

/// Why an image could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The selection does not fit the image.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// The image cannot be read.
    #[error("integrity: {0}")]
    Image(#[from] sif::Error),
    /// The image cannot be changed.
    #[error("integrity: failed to add object: {0}")]
    Edit(edit::Error),
    /// An object of a job has no digest; no signature may leave it out.
    #[error("integrity: object {0} was not hashed")]
    NotHashed(u32),
    /// The metadata could not be written.
    #[error("integrity: {0}")]
    Payload(#[from] native::Error),
    /// The OpenPGP key did not sign.
    #[error("integrity: failed to sign message: {0}")]
    Pgp(#[from] pgp::Error),
    /// A version 6 key: its fingerprint has 32 bytes, the format holds 20.
    #[error("integrity: key {0} is of version 6, which the image format has no room for")]
    LongFingerprint(String),
    /// The private key did not sign.
    #[error("integrity: failed to sign message: {0}")]
    Dsse(#[from] dsse::Error),
}

impl From<edit::Error> for Error {
    fn from(error: edit::Error) -> Self {
        match error {
            edit::Error::Image(error) => Self::Image(error),
            other => Self::Edit(other),
        }
    }
}

/// Lists the signatures to make, before keys are asked for.
///
/// # Errors
/// As [`Error`] says.
pub fn plan(image: &Image<'_>, selection: &Selection) -> Result<Vec<Job>, Error> {
    let jobs = scope::jobs(image, selection)?;
    image.require_sound()?;
    Ok(jobs)
}

/// Makes every signature and plans the change; nothing is written.
///
/// `now` in Unix seconds is the time of the signature and of the change.
///
/// # Errors
/// As [`Error`] says; then no signature of the call is stored.
///
/// Source: spec/sif.md 3.2 to 3.6.
pub fn native(
    image: &Image<'_>,
    signer: &NativeSigner<'_>,
    selection: &Selection,
    now: i64,
    threads: usize,
) -> Result<Patch, Error> {
    let patch = make(image, signer, selection, now, threads);
    // Zeros in the place of lost bytes look like another fault.
    image.still_there()?;
    patch
}

fn make(
    image: &Image<'_>,
    signer: &NativeSigner<'_>,
    selection: &Selection,
    now: i64,
    threads: usize,
) -> Result<Patch, Error> {
    let jobs = plan(image, selection)?;
    let members: Vec<_> = jobs.iter().map(|job| members(image, job)).collect();
    let wanted: Wanted = members
        .iter()
        .flatten()
        .map(|(index, _)| (Extent::Object(*index), ALGORITHM))
        .collect();
    let digests = Digests::compute(image, &wanted, threads)?;
    let mut edit = Edit::new(image, now);
    for (job, members) in jobs.iter().zip(&members) {
        let text = metadata(image, job, members, &digests)?.to_json()?;
        let (data, fingerprint) = seal(signer, &text, now)?;
        edit.add(NewObject {
            link: Link::Group(job.group),
            extra: Extra::Signature {
                // The originals write this value whatever hash the key uses.
                hash: SignatureHash::Sha256,
                fingerprint,
            },
            ..NewObject::new(DataType::Signature, Content::Bytes(data))
        })?;
    }
    Ok(edit.plan()?)
}

/// Descriptors of a job with their index, ascending by id.
fn members<'i>(image: &'i Image<'_>, job: &Job) -> Vec<(usize, &'i Descriptor)> {
    let mut members: Vec<_> = image
        .group_members(job.group)
        .filter(|(_, o)| {
            o.id()
                .is_some_and(|id| job.objects.binary_search(&id).is_ok())
        })
        .collect();
    members.sort_by_key(|(_, object)| object.raw_id());
    members
}

fn metadata(
    image: &Image<'_>,
    job: &Job,
    members: &[(usize, &Descriptor)],
    digests: &Digests,
) -> Result<ImageMetadata, Error> {
    let lowest = image.lowest_id(job.group);
    let mut objects = Vec::new();
    for (index, object) in members {
        let covered = object.integrity_bytes(image.relative_id(object));
        let digest = digests
            .get(Extent::Object(*index), ALGORITHM)
            .ok_or(Error::NotHashed(object.raw_id()))?;
        objects.push(ObjectMetadata {
            relative_id: object.raw_id().wrapping_sub(lowest),
            descriptor: ALGORITHM.digest(&covered),
            object: digest.clone(),
        });
    }
    Ok(ImageMetadata {
        header: ALGORITHM.digest(&image.header().integrity_bytes()),
        objects,
    })
}

fn seal(signer: &NativeSigner<'_>, text: &[u8], now: i64) -> Result<(Vec<u8>, [u8; 20]), Error> {
    match signer {
        NativeSigner::Dsse(keys) => {
            let data = dsse::seal(dsse::SIF_METADATA_TYPE, text, keys)?;
            Ok((data, [0; 20]))
        }
        NativeSigner::Pgp { key, salt } => {
            let options = pgp::SealOptions {
                created: u64::try_from(now).map_err(|_| pgp::Error::Time)?,
                salt: *salt,
            };
            let data = pgp::seal(text, key, &options)?;
            let fingerprint = key.fingerprint();
            let fingerprint = fingerprint
                .as_bytes()
                .try_into()
                .map_err(|_| Error::LongFingerprint(fingerprint.to_string()))?;
            Ok((data, fingerprint))
        }
    }
}
