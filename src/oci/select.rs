//! Which images of an OCI-SIF are meant, and whether they are whole.

use super::manifest::{ContentDescriptor, Kind, Platform};
use super::ocisif::{Error, OciSif};
use crate::digest::{Digest, HashAlgorithm};
use crate::gojson::Object;
use crate::sif::digests::{Digests, Extent, Wanted};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// Which image of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that the originals take; an index as a whole.
    #[default]
    Main,
    /// The image for a platform.
    Platform(Platform),
    /// The image or index with a digest.
    Digest(Digest),
}

/// Finds what is meant; never signatures or attestations.
///
/// [`Choice::Main`] is the only entry without a name, or else the only entry
/// of all: a file made of a layout with a tag has that.
///
/// # Errors
/// [`Error::NoImage`], [`Error::SeveralImages`], and the faults of documents
/// that had to be read.
///
/// Source: oci-tools `pkg/sourcesink/sif.go`, `Get`.
pub fn choose(oci: &OciSif<'_, '_>, choice: &Choice) -> Result<ContentDescriptor, Error> {
    let fits = |entry: &ContentDescriptor| -> Result<bool, Error> {
        match choice {
            Choice::Main => Ok(true),
            Choice::Digest(digest) => Ok(entry.digest == *digest),
            Choice::Platform(wanted) if entry.kind() == Kind::Image => {
                Ok(platform(oci, entry)?.satisfies(wanted))
            }
            Choice::Platform(_) => Ok(false),
        }
    };
    let candidates = match choice {
        Choice::Main => match oci.unnamed() {
            Ok(entry) => vec![entry.clone()],
            Err(Error::NoImage) => images(oci),
            Err(error) => return Err(error),
        },
        _ => with_children(oci, images(oci))?,
    };
    let mut found: Option<ContentDescriptor> = None;
    for entry in candidates {
        if !fits(&entry)? {
            continue;
        }
        match &found {
            // The same image, listed twice.
            Some(known) if known.digest == entry.digest => {}
            Some(_) => return Err(Error::SeveralImages),
            None => found = Some(entry),
        }
    }
    found
        .filter(|entry| entry.kind() != Kind::Other)
        .ok_or(Error::NoImage)
}

/// An image or index, and every index and image in it, each once.
///
/// # Errors
/// The faults of indices that had to be read.
pub fn with_children(
    oci: &OciSif<'_, '_>,
    entries: Vec<ContentDescriptor>,
) -> Result<Vec<ContentDescriptor>, Error> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open: Vec<_> = entries.into_iter().rev().collect();
    while let Some(entry) = open.pop() {
        if entry.kind() == Kind::Other || !seen.insert(entry.digest.clone()) {
            continue;
        }
        if entry.kind() == Kind::Index {
            open.extend(oci.child_index(&entry)?.manifests.into_iter().rev());
        }
        found.push(entry);
    }
    Ok(found)
}

/// Entries of the RootIndex that are images or indices, not signatures.
fn images(oci: &OciSif<'_, '_>) -> Vec<ContentDescriptor> {
    let entries = oci.index().manifests.iter().filter(|entry| {
        let signatures = entry
            .ref_name()
            .is_some_and(|name| name.starts_with("_cosign"));
        entry.kind() != Kind::Other && !signatures
    });
    entries.cloned().collect()
}

/// Of the entry, else of its config.
fn platform(oci: &OciSif<'_, '_>, entry: &ContentDescriptor) -> Result<Platform, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        os: String,
        architecture: String,
        variant: String,
    }
    if let Some(platform) = &entry.platform {
        return Ok(platform.clone());
    }
    let config = oci.document(&oci.manifest(entry)?.config)?;
    let Object(config): Object<Config> = serde_json::from_slice(config).unwrap_or_default();
    Ok(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant,
    })
}

/// Checks that everything that images lead to is there and has its digest;
/// each blob is hashed once, over all cores.
///
/// # Errors
/// The first fault in the order of the documents.
pub fn require_whole(
    oci: &OciSif<'_, '_>,
    images: &[ContentDescriptor],
    threads: usize,
) -> Result<(), Error> {
    let mut named: BTreeMap<usize, ContentDescriptor> = BTreeMap::new();
    for entry in with_children(oci, images.to_vec())? {
        // Manifests and indices are hashed when they are read.
        if entry.kind() != Kind::Image {
            continue;
        }
        let manifest = oci.manifest(&entry)?;
        for content in std::iter::once(manifest.config).chain(manifest.layers) {
            oci.object(&content)?;
            if let Some(at) = oci.blob(&content.digest) {
                named.insert(at, content);
            }
        }
    }
    let algorithm = HashAlgorithm::Sha256;
    let wanted: Wanted = named
        .keys()
        .map(|at| (Extent::Object(*at), algorithm))
        .collect();
    let digests = Digests::compute(oci.image(), &wanted, threads)?;
    for (at, content) in named {
        match digests.get(Extent::Object(at), algorithm) {
            Some(found) if *found == content.digest => {}
            Some(found) => {
                return Err(Error::Changed {
                    found: found.clone(),
                    expected: content.digest,
                });
            }
            None => return Err(Error::Missing(content.digest)),
        }
    }
    Ok(())
}
