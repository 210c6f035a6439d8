//! `pull docker://`: an image of layers becomes an OCI-SIF.
//!
//! A tag is looked up once; from then on everything has its digest, so that what is moved
//! meanwhile changes nothing. The file gets its name when it is whole.

mod builder;

use self::builder::Builder;
use super::super::transfer::Connection;
use super::super::transfer::artifacts::{self, Artifact};
use super::super::{Cause, Error};
use super::direct::failed;
use super::{Common, Outcome};
use crate::disk::converter::Program;
use crate::disk::new_file::NewFile;
use crate::net::registry::{Access, Blob, Manifest, Session};
use crate::oci::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, Platform};
use crate::oci::pulled::{LayerKind, choose};
use crate::oci::reference::Reference;
use crate::sif::fresh::Fresh;
use crate::ui::transfer::Bars;
use crate::ui::{Ui, one_line};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;

/// Slots that SingularityCE leaves for signatures.
const SPARE: usize = 8;
/// Largest config, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// Largest payload of a signature, attestation or bundle, as cosign.
const MAX_ATTACHMENT: u64 = 128 << 20;

/// What is wanted of an image of layers.
pub(super) struct Wanted {
    /// Signatures, too.
    pub(super) with_cosign: bool,
    /// No squashing.
    pub(super) keep_layers: bool,
    /// The form of the layers; none is what fits best.
    pub(super) format: Option<LayerFormat>,
    /// The platform, if it was named.
    pub(super) platform: Option<Platform>,
    /// The folder for layers that are going to be converted; else that of the output.
    pub(super) tmpdir: Option<PathBuf>,
    /// The program that converts them, if one was asked for.
    pub(super) converter: Option<Converter>,
}

impl Wanted {
    /// Whether something is wanted that only an image of layers has.
    pub(super) fn is_about_layers(&self) -> bool {
        self.keep_layers || self.format.is_some() || self.converter.is_some()
    }
}

/// What makes squashfs of tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Converter {
    /// What is built in.
    Builtin,
    /// An installed program.
    Program(Program),
}

/// The form of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum LayerFormat {
    /// One that SingularityCE runs.
    Squashfs,
    /// As they are.
    Tar,
}

impl LayerFormat {
    /// As users write it.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Tar => "tar",
        }
    }
}

/// What was pulled.
#[derive(Serialize)]
pub(super) struct Summary {
    /// Digest of the image in the registry.
    digest: String,
    /// Digest of the index that it was chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    /// Digest of the image in the file.
    image: String,
    platform: Option<String>,
    layers: Vec<LayerSummary>,
    /// Whether the layers are those of the registry, byte for byte.
    unchanged: bool,
    signatures: usize,
    attestations: usize,
    bundles: usize,
}

#[derive(Serialize)]
struct LayerSummary {
    digest: String,
    size: u64,
    #[serde(rename = "mediaType")]
    media_type: String,
}

/// An image of a registry, without its layers.
struct Found {
    manifest: Manifest,
    parsed: ImageManifest,
    config: Vec<u8>,
    platform: Option<Platform>,
    index: Option<Manifest>,
}

/// Pulls an image.
///
/// # Errors
/// With everything as it was before.
pub(super) fn run(
    ui: &Ui,
    connection: &Connection,
    reference: &Reference,
    wanted: &Wanted,
    common: Common<'_>,
) -> Result<Outcome, Error> {
    let session = connection.session(ui, reference, Access::Pull)?;
    let prefix = "While making image from oci registry: error fetching image: ";
    pull(ui, &session, reference, wanted, common).map_err(|cause| cause.fatal(prefix))
}

/// As [`run`], for a repository that is known already.
pub(super) fn pull(
    ui: &Ui,
    session: &Session<'_>,
    reference: &Reference,
    wanted: &Wanted,
    common: Common<'_>,
) -> Result<Outcome, Cause> {
    let found = find(ui, session, reference, wanted)?;
    let plan = Plan::of(ui, &found.parsed, wanted)?;
    let artifacts = if wanted.with_cosign {
        collect(ui, session, &found, common.judge.allows_unsigned())?
    } else {
        Vec::new()
    };
    let place = common.place();
    let output = NewFile::begin(&place, common.force).map_err(Cause::plain)?;
    let bars = Bars::new(ui);
    let mut image = Builder {
        ui,
        session,
        bars: &bars,
        output: &output,
        path: &place,
        tmpdir: wanted.tmpdir.as_deref(),
        program: match wanted.converter {
            Some(Converter::Program(program)) => Some(program),
            Some(Converter::Builtin) | None => None,
        },
        fresh: Fresh::new(capacity(&found, &artifacts)).map_err(Cause::plain)?,
        known: HashMap::new(),
    };
    let (layers, entry) = match &plan {
        Plan::Keep => image.keep(&found)?,
        Plan::Convert { squash } => image.convert(&found, *squash)?,
    };
    let summary = image.finish(&found, &plan, layers, entry, &artifacts)?;
    let len = summary.1;
    output.set_len(len).map_err(Cause::plain)?;
    let verdict = common.judge(ui, &output, wanted.platform.as_ref())?;
    output.publish().map_err(Cause::plain)?;
    Ok(Outcome {
        size: len,
        verdict,
        image: serde_json::to_value(&summary.0).ok(),
    })
}

/// Looks the image up, once.
fn find(
    ui: &Ui,
    session: &Session<'_>,
    reference: &Reference,
    wanted: &Wanted,
) -> Result<Found, Cause> {
    let top = session
        .manifest(&reference.identifier())
        .map_err(failed)?
        .ok_or_else(|| Cause::plain(format!("{reference}: no such image in the registry")))?;
    let host = super::super::verify::cosign::host();
    let platform = wanted.platform.as_ref().unwrap_or(&host);
    let (index, manifest) = match Kind::of(&top.media_type) {
        Kind::Index => {
            let index = ImageIndex::parse(&top.bytes)
                .map_err(|error| Cause::plain(format!("index {}: {error}", top.digest)))?;
            let entry = choose(&index, platform).ok_or_else(|| Cause {
                text: format!("{reference} has no image for {platform}"),
                detail: Some(format!("It has {}", platforms(&index))),
            })?;
            let image = session
                .manifest(&entry.digest.to_string())
                .map_err(failed)?
                .ok_or_else(|| Cause::plain(format!("{} is not in the registry", entry.digest)))?;
            (Some(top), image)
        }
        Kind::Image => (None, top),
        Kind::Other => {
            return Err(Cause::plain(format!(
                "{reference}: media type {:?} is neither an image nor an index",
                one_line(&top.media_type)
            )));
        }
    };
    let parsed = ImageManifest::parse(&manifest.bytes)
        .map_err(|error| Cause::plain(format!("manifest {}: {error}", manifest.digest)))?;
    let config = session
        .small_blob(&blob(&parsed.config), MAX_CONFIG)
        .map_err(failed)?;
    let found = Platform::of_config(&config).filter(|found| !found.architecture.is_empty());
    match &found {
        Some(found) if !found.satisfies(platform) => {
            return Err(Cause::plain(format!(
                "image ({found}) does not satisfy required platform ({platform})"
            )));
        }
        Some(_) => {}
        None => ui.warning(format_args!(
            "image does not name its platform, {platform} is believed to be right"
        )),
    }
    Ok(Found {
        manifest,
        parsed,
        config,
        platform: found,
        index,
    })
}

fn platforms(index: &ImageIndex) -> String {
    let all = index
        .manifests
        .iter()
        .filter_map(|entry| entry.platform.as_ref());
    let names: Vec<_> = all.take(32).map(|p| one_line(&p.to_string())).collect();
    match names.is_empty() {
        true => "no images with a platform".to_owned(),
        false => names.join(", "),
    }
}

/// What happens to the layers.
enum Plan {
    /// Every byte stays.
    Keep,
    /// They become squashfs.
    Convert {
        /// One of all.
        squash: bool,
    },
}

impl Plan {
    fn of(ui: &Ui, manifest: &ImageManifest, wanted: &Wanted) -> Result<Self, Cause> {
        let kinds: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| LayerKind::of(&layer.media_type))
            .collect();
        let has_tar = kinds.iter().any(|kind| kind.is_tar());
        let all_tar = kinds.iter().all(|kind| kind.is_tar());
        let squash = !wanted.keep_layers && all_tar && kinds.len() > 1;
        match (wanted.with_cosign, wanted.format) {
            (true, Some(LayerFormat::Squashfs)) if has_tar => Err(Cause {
                text: "--layer-format squashfs makes another image, whose signatures these are not"
                    .to_owned(),
                detail: Some(
                    "With --with-cosign the layers stay as they are; leave out one of the two"
                        .to_owned(),
                ),
            }),
            (true, _) => {
                if has_tar {
                    ui.info(
                        "Layers stay as they are (tar), so that signatures hold; SingularityCE \
                         does not run such an image",
                    );
                }
                Ok(Self::Keep)
            }
            (false, Some(LayerFormat::Tar)) => Ok(Self::Keep),
            (false, _) if !has_tar => {
                if !wanted.keep_layers && kinds.len() > 1 {
                    ui.info("Layers are not tar, they are kept apart");
                }
                Ok(Self::Keep)
            }
            (false, _) => {
                let odd = manifest
                    .layers
                    .iter()
                    .zip(&kinds)
                    .find(|(_, kind)| **kind == LayerKind::Other);
                if let Some((layer, _)) = odd {
                    return Err(Cause {
                        text: format!(
                            "while converting layers: could not convert layer to squashfs: \
                             unsupported layer type: {}",
                            one_line(&layer.media_type)
                        ),
                        detail: Some("--layer-format tar keeps layers of every kind".to_owned()),
                    });
                }
                Ok(Self::Convert { squash })
            }
        }
    }
}

/// Fetches the documents of signatures, for the image and for the index it came from.
fn collect(
    ui: &Ui,
    session: &Session<'_>,
    found: &Found,
    may_be_unsigned: bool,
) -> Result<Vec<Artifact>, Cause> {
    let mut warn = |text: String| ui.warning(one_line(&text));
    let mut all = Vec::new();
    let subjects = std::iter::once(&found.manifest).chain(&found.index);
    for subject in subjects {
        all.extend(artifacts::all(session, &subject.digest, &mut warn).map_err(failed)?);
    }
    let large = all
        .iter()
        .flat_map(Artifact::contents)
        .find(|content| content.size > MAX_ATTACHMENT);
    if let Some(large) = large {
        return Err(Cause::plain(format!(
            "signature blob {} has {} bytes, more than {MAX_ATTACHMENT}",
            large.digest, large.size
        )));
    }
    for artifact in &all {
        ui.info(format_args!(
            "Writing cosign signatures: {}",
            artifact.ref_name
        ));
    }
    if all.is_empty() && !may_be_unsigned {
        ui.warning("The registry has no cosign signatures of this image");
    }
    Ok(all)
}

fn capacity(found: &Found, artifacts: &[Artifact]) -> usize {
    let signatures = artifacts
        .iter()
        .map(|artifact| artifact.manifest.layers.len().saturating_add(2));
    // Config, manifest, three for the index of the registry, the index of the file.
    found
        .parsed
        .layers
        .len()
        .saturating_add(6)
        .saturating_add(signatures.fold(0, usize::saturating_add))
        .saturating_add(SPARE)
}

fn blob(content: &ContentDescriptor) -> Blob<'_> {
    Blob {
        digest: &content.digest,
        size: content.size,
    }
}
