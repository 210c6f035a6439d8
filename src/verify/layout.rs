//! The story of a verification in an OCI image layout: a folder, as `cosign
//! save` and `oras copy` write it.
//!
//! As for a file, everything that the image consists of must be there and be
//! what its name says before a signature counts. cosign looks at no more than
//! the manifest, and beside a bundle not even at that.

use super::bundle;
use super::cosign::{Choice, Fetch, MAX_BUNDLE, MAX_SIGNATURES, Request, signatures};
use crate::digest::Digest;
use crate::oci::layout_view::{Attached, OciLayout};
use crate::oci::manifest::{ContentDescriptor, Kind, Platform};
use crate::oci::ocisif;
use crate::payload::simple::MAX_PAYLOAD;
use crate::report::{CosignReport, CosignVerdict};
use crate::signer::bundle::MEDIA_TYPE;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;

/// Why a layout could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be found.
    #[error("while fetching image from OCI layout: {0}")]
    Fetch(ocisif::Error),
    /// The image is not whole, or not what it is called.
    #[error("image is not complete: {0}")]
    Incomplete(String),
    /// An entry with signatures that cannot be read.
    #[error("failed to retrieve image: {0}")]
    Signatures(ocisif::Error),
    /// More signatures than are looked at.
    #[error("{0} signatures, more than the {MAX_SIGNATURES} that are looked at")]
    TooMany(usize),
}

/// An image of a layout, every part of which was hashed.
pub struct Checked<'l, 'g> {
    layout: &'l OciLayout<'g>,
    /// The image or index, and for an index the image that a signature may name.
    subjects: Vec<ContentDescriptor>,
    parts: Vec<ContentDescriptor>,
}

/// Finds the image and has everything that it consists of hashed: `hash` gets
/// every digest with its length, and how many there are counts for reports.
///
/// # Errors
/// As [`Error`] says; [`Error::Incomplete`] with the reason that `hash` gives.
pub fn check<'l, 'g>(
    layout: &'l OciLayout<'g>,
    choice: &Choice,
    hash: impl FnOnce(&[(Digest, u64)]) -> Result<(), String>,
) -> Result<Checked<'l, 'g>, Error> {
    let subjects = subjects(layout, choice).map_err(Error::Fetch)?;
    let first = subjects
        .first()
        .ok_or(Error::Fetch(ocisif::Error::NoImage))?;
    let parts = layout.parts(first);
    let parts = parts.map_err(|error| Error::Incomplete(error.to_string()))?;
    let named: Vec<_> = parts
        .iter()
        .map(|part| (part.digest.clone(), part.size))
        .collect::<HashSet<_>>()
        .into_iter()
        .collect();
    hash(&named).map_err(Error::Incomplete)?;
    Ok(Checked {
        layout,
        subjects,
        parts,
    })
}

fn subjects(
    layout: &OciLayout<'_>,
    choice: &Choice,
) -> Result<Vec<ContentDescriptor>, ocisif::Error> {
    let entry = match &choice.digest {
        Some(digest) => layout.find(digest)?,
        None => layout.main()?,
    };
    if entry.kind() != Kind::Index {
        if let (Some(wanted), None) = (&choice.platform, &choice.digest) {
            let config = layout.content(
                &layout.manifest(&entry)?.config,
                crate::oci::manifest::MAX_DOCUMENT,
            )?;
            let fits = Platform::of_config(&config).is_some_and(|it| it.satisfies(wanted));
            if !fits {
                return Err(ocisif::Error::NoImage);
            }
        }
        return Ok(vec![entry]);
    }
    let wanted = choice.platform.as_ref().unwrap_or(&choice.host);
    let mut children = layout.child_index(&entry)?.manifests.into_iter();
    let child = children.find(|child| child.platform.as_ref().is_some_and(|p| p.satisfies(wanted)));
    match (child, &choice.platform) {
        (Some(child), Some(_)) => Ok(vec![child]),
        (None, Some(_)) => Err(ocisif::Error::NoImage),
        (child, None) => Ok([entry].into_iter().chain(child).collect()),
    }
}

impl<'l, 'g> Checked<'l, 'g> {
    /// The layout.
    pub(super) fn layout(&self) -> &'l OciLayout<'g> {
        self.layout
    }

    /// The image or index, and for an index the image that a signature may name.
    pub(super) fn subjects(&self) -> &[ContentDescriptor] {
        &self.subjects
    }

    /// Judges the signatures and bundles of the image; `documents` are the
    /// blobs among which bundles may be, for no index need name them.
    ///
    /// # Errors
    /// As [`Error`] says; a refusal is in the report.
    pub fn judge(
        &self,
        documents: &[Digest],
        request: &Request<'_>,
    ) -> Result<CosignReport, Error> {
        let layout = self.layout;
        let fetch: &Fetch<'_, '_> = &|layer| {
            let bytes = layout.content(layer, MAX_PAYLOAD);
            bytes.map(Cow::Owned).map_err(|error| error.to_string())
        };
        let first = self.subjects.first();
        let first = first.ok_or(Error::Fetch(ocisif::Error::NoImage))?;
        let mut report = CosignReport::new(first.digest.clone());
        report.blobs = self.parts.len();
        let mut read = HashSet::new();
        let spent = Cell::new(0);
        for subject in &self.subjects {
            for entry in layout.attached(&subject.digest, Attached::Signatures) {
                // What names no image belongs to the first one.
                if !read.insert(&entry.digest) {
                    continue;
                }
                let manifest = layout.manifest(entry).map_err(Error::Signatures)?;
                room(&report, manifest.layers.len())?;
                let found = signatures(&manifest, &subject.digest, fetch, request, &spent);
                report.signatures.extend(found);
            }
        }
        let (bundles, faults) = layout.referrers(documents, &self.subjects, MEDIA_TYPE);
        report.problems = faults;
        room(&report, bundles.len())?;
        // Many manifests can name the same bundle.
        let mut known = HashSet::new();
        for found in bundles {
            if !known.insert((found.blob.clone(), found.size, found.subject.clone())) {
                continue;
            }
            let bytes = layout.content(&found.content(), MAX_BUNDLE);
            let bytes = bytes.map_err(|error| error.to_string());
            let signature = bundle::judge(bytes, &found.subject, request);
            report.signatures.push(signature);
        }
        Ok(report)
    }

    /// What belongs neither to the image nor to a valid signature, of `blobs`,
    /// all that the folder has, and of the entries of the index; `None` if
    /// there is nothing of that kind. `documents` as in [`Checked::judge`].
    pub fn uncovered(
        &self,
        report: &CosignReport,
        documents: &[Digest],
        blobs: &[Digest],
    ) -> Option<String> {
        if let Some(problem) = report.problems.first() {
            return Some(problem.clone());
        }
        let odd = |s: &&crate::report::CosignSignature| s.verdict != CosignVerdict::Valid;
        if let Some(signature) = report.signatures.iter().find(odd) {
            return signature
                .reason()
                .map(|reason| format!("a signature is {reason}"));
        }
        let mut known: HashSet<Digest> = self.parts.iter().map(|p| p.digest.clone()).collect();
        let mut manifests: Vec<Digest> = Vec::new();
        for subject in &self.subjects {
            let entries = self.layout.attached(&subject.digest, Attached::Signatures);
            manifests.extend(entries.iter().map(|entry| entry.digest.clone()));
        }
        let (bundles, _) = self.layout.referrers(documents, &self.subjects, MEDIA_TYPE);
        manifests.extend(bundles.into_iter().map(|bundle| bundle.digest));
        for digest in manifests {
            if let Some(manifest) = self.layout.document(&digest) {
                known.insert(manifest.config.digest);
                known.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                known.insert(digest);
            }
        }
        let mut entries = self.layout.index().manifests.iter();
        if let Some(entry) = entries.find(|entry| !known.contains(&entry.digest)) {
            return Some(format!("no signature covers the entry {}", entry.digest));
        }
        let blob = blobs.iter().find(|blob| !known.contains(blob))?;
        Some(format!("no signature covers the blob {blob}"))
    }
}

fn room(report: &CosignReport, more: usize) -> Result<(), Error> {
    match report.signatures.len().saturating_add(more) {
        count if count > MAX_SIGNATURES => Err(Error::TooMany(count)),
        _ => Ok(()),
    }
}
