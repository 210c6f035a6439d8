//! Signatures in a registry: what is added never takes the place of what is there.
//!
//! The protocol knows no transactions: what was written is read again, and if somebody else wrote
//! at the same time, both are put together once more. Somebody who needs longer than the pause
//! before the last look can still be in the way.
//!
//! Source: spec/oci-sif-cosign.md 5.2, 5.5.

use super::artifacts::{Artifact, Role, tagged};
use crate::digest::{Digest, HashAlgorithm};
use crate::net::registry::{Blob as RemoteBlob, Error, Session, Source};
use crate::oci::build::{self, Blob, CosignImage, Existing, MANIFEST_TYPE, cosign_image};
use crate::oci::manifest::{ContentDescriptor, ImageManifest};
use std::io::{self, Cursor, Read};
use std::time::{Duration, Instant};

/// How often others may be faster.
const ATTEMPTS: usize = 8;
/// What is waited for others who are writing at the same time.
const SHORTEST: Duration = Duration::from_millis(100);
/// As much at the most.
const LONGEST: Duration = Duration::from_secs(3);
/// Largest config of a signature image, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

/// What an update did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Merged {
    /// Entries that were in the registry before.
    pub(in crate::cli) before: usize,
    /// Entries that came.
    pub(in crate::cli) added: usize,
}

/// Why signatures could not be stored.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Failure {
    /// The registry does not do its part.
    #[error(transparent)]
    Registry(#[from] Error),
    /// What is there cannot be extended.
    #[error("signatures in the registry cannot be extended: {0}")]
    Build(#[from] build::Error),
    /// A document that was just made cannot be read.
    #[error("signature manifest: {0}")]
    Manifest(#[from] crate::oci::manifest::Error),
    /// Somebody else always wrote last.
    #[error("signatures in the registry were changed by somebody else {ATTEMPTS} times in a row")]
    Race,
}

/// What is to be in the registry.
pub(in crate::cli) enum Addition<'a> {
    /// New entries with their payloads.
    Layers(&'a dyn Fn() -> Vec<build::NewLayer>),
    /// An image of signatures from elsewhere, whose payloads are in the registry already.
    Image {
        /// Its manifest, byte for byte.
        manifest: &'a [u8],
        /// Its config.
        config: &'a [u8],
    },
}

/// Adds signatures or attestations to those that a registry has of an image.
///
/// # Errors
/// As [`Failure`] says; the registry then has what it had.
pub(in crate::cli) fn add(
    session: &Session<'_>,
    subject: &Digest,
    role: Role,
    addition: &Addition<'_>,
) -> Result<Merged, Failure> {
    let tag = super::artifacts::tag(subject, role.suffix());
    let mut told = None;
    for _ in 0..ATTEMPTS {
        let begin = Instant::now();
        let old = tagged(session, subject, role)?.filter(|old| !old.manifest.layers.is_empty());
        let before = old.as_ref().map_or(0, |old| old.manifest.layers.len());
        let (manifest, blobs) = match (&old, addition) {
            // Nobody was there: every byte stays as it is.
            (None, Addition::Image { manifest, config }) => {
                (manifest.to_vec(), vec![Blob::new(config.to_vec())])
            }
            _ => documents(session, old.as_ref(), addition)?,
        };
        let parsed = ImageManifest::parse(&manifest)?;
        let merged = Merged {
            before,
            added: parsed.layers.len().saturating_sub(before),
        };
        let merged = *told.get_or_insert(merged);
        if old
            .as_ref()
            .is_some_and(|old| parsed.layers.len() == old.manifest.layers.len())
        {
            return Ok(merged);
        }
        for blob in &blobs {
            put_bytes(session, &blob.digest, &blob.bytes)?;
        }
        let media_type = parsed.media_type.as_deref().unwrap_or(MANIFEST_TYPE);
        session.put_manifest(&tag, media_type, &manifest)?;
        let is_there = || -> Result<bool, Failure> {
            let now = tagged(session, subject, role)?;
            let there = now.map(|now| now.manifest.layers).unwrap_or_default();
            let mut wanted = parsed.layers.iter();
            Ok(wanted.all(|layer| there.iter().any(|other| same(other, layer))))
        };
        // Who read before this was written writes within the time that it takes, and then ours
        // is gone although it was there.
        if is_there()? {
            std::thread::sleep(begin.elapsed().saturating_mul(2).clamp(SHORTEST, LONGEST));
            if is_there()? {
                return Ok(merged);
            }
        }
    }
    Err(Failure::Race)
}

impl Role {
    /// End of the tag.
    pub(in crate::cli) fn suffix(self) -> &'static str {
        match self {
            Self::Signatures => "sig",
            Self::Attestations => "att",
            Self::Bundle => "bundle",
        }
    }
}

/// Whether two entries are the same signature.
pub(in crate::cli) fn same(one: &ContentDescriptor, other: &ContentDescriptor) -> bool {
    one.digest == other.digest && one.annotations == other.annotations
}

/// Whether something was said in the same words by the same key before.
fn has(old: &Artifact, new: &build::NewLayer) -> bool {
    let digest = HashAlgorithm::Sha256.digest(&new.payload);
    let annotated = |layer: &ContentDescriptor| {
        let mut annotations = new.annotations.iter();
        annotations.all(|(name, text)| layer.annotations.get(*name) == Some(text))
    };
    let mut layers = old.manifest.layers.iter();
    layers.any(|layer| layer.digest == digest && annotated(layer))
}

fn documents(
    session: &Session<'_>,
    old: Option<&Artifact>,
    addition: &Addition<'_>,
) -> Result<(Vec<u8>, Vec<Blob>), Failure> {
    let old_config = match old {
        Some(old) => {
            let config = &old.manifest.config;
            let blob = RemoteBlob {
                digest: &config.digest,
                size: config.size,
            };
            match session.small_blob(&blob, MAX_CONFIG) {
                Ok(config) => Some(config),
                // It is written anew.
                Err(error) if error.status() == Some(404) => None,
                Err(error) => return Err(error.into()),
            }
        }
        None => None,
    };
    let mut existing: Vec<_> = old
        .iter()
        .map(|old| Existing {
            manifest: &old.bytes,
            config: old_config.as_deref(),
        })
        .collect();
    let added = match addition {
        Addition::Layers(layers) => {
            let mut layers = layers();
            layers.retain(|layer| !old.is_some_and(|old| has(old, layer)));
            layers
        }
        Addition::Image { manifest, config } => {
            existing.push(Existing {
                manifest,
                config: Some(config),
            });
            Vec::new()
        }
    };
    let CosignImage { mut blobs, .. } = cosign_image(&existing, added)?;
    let manifest = blobs.pop().map(|blob| blob.bytes).unwrap_or_default();
    Ok((manifest, blobs))
}

/// Sends bytes that are in memory, unless the registry has them.
///
/// # Errors
/// A refusal.
pub(in crate::cli) fn put_bytes(
    session: &Session<'_>,
    digest: &Digest,
    bytes: &[u8],
) -> Result<(), Error> {
    if session.has_blob(digest)? {
        return Ok(());
    }
    let open = |at: u64| -> io::Result<Box<dyn Read + Send>> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let rest = bytes.get(at..).unwrap_or_default().to_vec();
        Ok(Box::new(Cursor::new(rest)))
    };
    session.upload(&Source {
        digest,
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        open: &open,
    })
}
