//! What belongs to an image in a registry: signatures, attestations, bundles.
//!
//! Source: spec/oci-sif-cosign.md 3.5, 3.6, 5.5 and 6.3.

use crate::digest::Digest;
use crate::net::registry::{Error, Session};
use crate::oci::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind};
use crate::oci::ocisif::{COSIGN_PREFIX, cosign_name};
use std::collections::HashSet;

/// Most bundles of one image that are looked at.
const MAX_BUNDLES: usize = 256;
/// Most bytes of their manifests together.
const MAX_BYTES: usize = 8 << 20;
/// Beginning of the media types of bundles.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Media type of a manifest that does not say it.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Role {
    /// `.sig`: signatures.
    Signatures,
    /// `.att`: attestations.
    Attestations,
    /// A bundle that refers to the image.
    Bundle,
}

/// A manifest about an image.
pub(in crate::cli) struct Artifact {
    /// What it is.
    pub(in crate::cli) role: Role,
    /// Its name in the index of a file.
    pub(in crate::cli) ref_name: String,
    /// Its exact bytes.
    pub(in crate::cli) bytes: Vec<u8>,
    /// Their digest.
    pub(in crate::cli) digest: Digest,
    /// Its media type.
    pub(in crate::cli) media_type: String,
    /// What it says.
    pub(in crate::cli) manifest: ImageManifest,
}

impl Artifact {
    /// Everything that it consists of, config first.
    pub(in crate::cli) fn contents(&self) -> impl Iterator<Item = &ContentDescriptor> {
        std::iter::once(&self.manifest.config).chain(&self.manifest.layers)
    }
}

/// The tag under which a registry has signatures (`sig`) or attestations (`att`).
pub(in crate::cli) fn tag(subject: &Digest, suffix: &str) -> String {
    let name = cosign_name(subject, suffix);
    name.trim_start_matches(COSIGN_PREFIX).to_owned()
}

/// Reads the manifest of the signatures or attestations of an image.
///
/// # Errors
/// No answer, or no manifest.
pub(in crate::cli) fn tagged(
    session: &Session<'_>,
    subject: &Digest,
    role: Role,
) -> Result<Option<Artifact>, Error> {
    let suffix = match role {
        Role::Signatures => "sig",
        Role::Attestations => "att",
        Role::Bundle => return Ok(None),
    };
    let tag = tag(subject, suffix);
    let Some(found) = session.manifest(&tag)? else {
        return Ok(None);
    };
    let manifest = ImageManifest::parse(&found.bytes)
        .map_err(|error| Error::Answer(format!("{tag}: {error}")))?;
    Ok(Some(Artifact {
        role,
        ref_name: cosign_name(subject, suffix),
        media_type: named(&manifest),
        bytes: found.bytes,
        digest: found.digest,
        manifest,
    }))
}

/// Reads all that belongs to an image; what is empty is left out, and so are referrers that are no
/// bundles.
///
/// # Errors
/// No answer, or one that cannot be read.
pub(in crate::cli) fn all(
    session: &Session<'_>,
    subject: &Digest,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Artifact>, Error> {
    let mut found = Vec::new();
    for role in [Role::Signatures, Role::Attestations] {
        let artifact = tagged(session, subject, role)?;
        found.extend(artifact.filter(|artifact| !artifact.manifest.layers.is_empty()));
    }
    found.extend(bundles(session, subject, warn)?);
    Ok(found)
}

/// Reads the bundles that refer to an image.
///
/// Registries and clients write wrong artifact types, so every manifest is looked at.
fn bundles(
    session: &Session<'_>,
    subject: &Digest,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Artifact>, Error> {
    let referrers = session.referrers(subject)?;
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut read = 0_usize;
    for page in &referrers.pages {
        let index = ImageIndex::parse(page)
            .map_err(|error| Error::Answer(format!("referrers of {subject}: {error}")))?;
        for entry in index.manifests {
            if entry.kind() != Kind::Image || !seen.insert(entry.digest.clone()) {
                continue;
            }
            if seen.len() > MAX_BUNDLES {
                warn(format!(
                    "{subject} has more than {MAX_BUNDLES} referrers, the others are left out"
                ));
                return Ok(found);
            }
            let Some(answer) = session.manifest(&entry.digest.to_string())? else {
                warn(format!("referrer {} is gone", entry.digest));
                continue;
            };
            let manifest = match ImageManifest::parse(&answer.bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    warn(format!("referrer {}: {error}", entry.digest));
                    continue;
                }
            };
            let refers = manifest
                .subject
                .as_ref()
                .is_some_and(|named| named.digest == *subject);
            let bundle = manifest
                .layers
                .first()
                .filter(|layer| refers && layer.media_type.starts_with(BUNDLE));
            let Some(bundle) = bundle else { continue };
            read = read.saturating_add(answer.bytes.len());
            if read > MAX_BYTES {
                warn(format!(
                    "bundles of {subject} have manifests of more than {MAX_BYTES} bytes, \
                     the others are left out"
                ));
                return Ok(found);
            }
            let hex: String = bundle.digest.to_string().split(':').skip(1).collect();
            let short: String = hex.chars().take(16).collect();
            found.push(Artifact {
                role: Role::Bundle,
                ref_name: cosign_name(subject, &format!("bundle-{short}")),
                media_type: named(&manifest),
                bytes: answer.bytes,
                digest: answer.digest,
                manifest,
            });
        }
    }
    Ok(found)
}

fn named(manifest: &ImageManifest) -> String {
    let named = manifest.media_type.clone();
    named.unwrap_or_else(|| MANIFEST.to_owned())
}
