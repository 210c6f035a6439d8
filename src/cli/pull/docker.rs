//! `pull docker://`: an image of layers becomes an OCI-SIF.
//!
//! A tag is looked up once; from then on everything has its digest, so that what is moved
//! meanwhile changes nothing. The file gets its name when it is whole.

use super::super::transfer::artifacts::{self, Artifact, Role};
use super::super::transfer::{Connection, at_once, going_on};
use super::super::{Cause, Error, threads};
use super::direct::failed;
use super::{Common, Outcome};
use crate::digest::{Digest, HashAlgorithm};
use crate::disk::errno_text;
use crate::disk::new_file::{Handle, NewFile, reader, scratch};
use crate::layer::tree::{Tree, Whiteouts};
use crate::layer::{self, Compression, Limits, convert, expand};
use crate::net::http::user_agent;
use crate::net::registry::{Access, Blob, Manifest, Session};
use crate::oci::build::MANIFEST_TYPE;
use crate::oci::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, Platform};
use crate::oci::ocisif::INDEX_PREFIX;
use crate::oci::pulled::{
    LayerKind, NewLayer, RootEntry, SOURCE_INDEX, choose, converted, root_index, source_index,
};
use crate::oci::reference::Reference;
use crate::sif::Extra;
use crate::sif::fresh::Fresh;
use crate::sif::types::DataType;
use crate::ui::transfer::{Bar, Bars};
use crate::ui::{Ui, one_line};
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Slots that SingularityCE leaves for signatures.
const SPARE: usize = 8;
/// Largest config, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// Largest payload of a signature, attestation or bundle, as cosign.
const MAX_ATTACHMENT: u64 = 128 << 20;
/// Blobs below this size get no bar.
const SHOWN: u64 = 256 << 10;

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
}

impl Wanted {
    /// Whether something is wanted that only an image of layers has.
    pub(super) fn is_about_layers(&self) -> bool {
        self.keep_layers || self.format.is_some()
    }
}

/// The form of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum LayerFormat {
    /// One that SingularityCE runs.
    Squashfs,
    /// As they are.
    Tar,
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

/// A blob that is fetched into a file.
struct Part<'a> {
    content: &'a ContentDescriptor,
    file: &'a Handle,
    offset: u64,
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
        fresh: Fresh::new(capacity(&found, &artifacts)).map_err(Cause::plain)?,
        known: HashSet::new(),
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

/// A file that is being filled.
struct Builder<'a> {
    ui: &'a Ui,
    session: &'a Session<'a>,
    bars: &'a Bars,
    output: &'a NewFile,
    path: &'a Path,
    /// Where layers lie that are going to be converted.
    tmpdir: Option<&'a Path>,
    fresh: Fresh,
    /// Blobs that are in the file: each is stored once.
    known: HashSet<Digest>,
}

type Laid = (Vec<LayerSummary>, RootEntry);

impl Builder<'_> {
    /// Layers, config and manifest as they are.
    fn keep(&mut self, found: &Found) -> Result<Laid, Cause> {
        self.fetch(found.parsed.layers.iter())?;
        self.put(&found.parsed.config.digest, &found.config)?;
        self.put(&found.manifest.digest, &found.manifest.bytes)?;
        let layers = found.parsed.layers.iter().map(|layer| LayerSummary {
            digest: layer.digest.to_string(),
            size: layer.size,
            media_type: layer.media_type.clone(),
        });
        let entry = self.entry(&found.manifest.digest, &found.manifest.bytes, &found.parsed);
        Ok((layers.collect(), entry))
    }

    /// Layers as squashfs; then config and manifest for them.
    fn convert(&mut self, found: &Found, squash: bool) -> Result<Laid, Cause> {
        let layers = &found.parsed.layers;
        let files = layers
            .iter()
            .map(|_| scratch(self.tmpdir, self.path))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Cause::plain)?;
        let parts: Vec<_> = layers
            .iter()
            .zip(&files)
            .map(|(content, file)| Part {
                content,
                file,
                offset: 0,
            })
            .collect();
        self.download(&parts)?;
        self.ui.info("Converting layers to SquashFS");
        let mut new = Vec::new();
        if squash {
            new.push(self.converted(layers, &files, Whiteouts::Apply)?);
        } else {
            for (at, (layer, file)) in layers.iter().zip(&files).enumerate() {
                // The lowest layer has nothing to hide.
                let whiteouts = match at {
                    0 => Whiteouts::Apply,
                    _ => Whiteouts::Keep,
                };
                let (layers, files) = (std::slice::from_ref(layer), std::slice::from_ref(file));
                new.push(if LayerKind::of(&layer.media_type).is_tar() {
                    self.converted(layers, files, whiteouts)?
                } else {
                    self.copied(layer, files)?
                });
            }
        }
        let documents = converted(
            &found.manifest.bytes,
            &found.config,
            &new,
            &found.manifest.digest,
            &user_agent(),
        );
        let [config, manifest] =
            documents.map_err(|error| Cause::plain(format!("while converting layers: {error}")))?;
        self.put(&config.digest, &config.bytes)?;
        self.put(&manifest.digest, &manifest.bytes)?;
        let parsed = ImageManifest::parse(&manifest.bytes)
            .map_err(|error| Cause::plain(format!("while converting layers: {error}")))?;
        let entry = self.entry(&manifest.digest, &manifest.bytes, &parsed);
        let layers = parsed.layers.into_iter().map(|layer| LayerSummary {
            digest: layer.digest.to_string(),
            size: layer.size,
            media_type: layer.media_type,
        });
        Ok((layers.collect(), entry))
    }

    /// Makes one squashfs of tar layers, behind what the file has.
    fn converted(
        &mut self,
        layers: &[ContentDescriptor],
        files: &[Handle],
        whiteouts: Whiteouts,
    ) -> Result<NewLayer, Cause> {
        let fail = |error: layer::Error| {
            Cause::plain(one_line(&format!(
                "while converting layers: could not convert layer to squashfs: {error}"
            )))
        };
        let limits = Limits::default();
        // Each layer is read twice.
        let sizes = layers.iter().map(|layer| layer.size.saturating_mul(2));
        let total = sizes.fold(0, u64::saturating_add);
        let bar = match total >= SHOWN {
            true => self.bars.bar("squashfs", Some(total)),
            false => Bars::none(),
        };
        let open = |at: usize| -> Result<Box<dyn Read + '_>, layer::Error> {
            let (Some(layer), Some(file)) = (layers.get(at), files.get(at)) else {
                return Err(layer::Error::Squashfs("a layer is missing"));
            };
            let compression = match LayerKind::of(&layer.media_type) {
                LayerKind::TarGzip => Compression::Gzip,
                _ => Compression::None,
            };
            let stored = Watched {
                inner: reader(file, 0, layer.size)?,
                bar: &bar,
            };
            Ok(expand(stored, compression, layer.size, &limits))
        };
        let mut tree = Tree::new(whiteouts, limits);
        for at in 0..layers.len() {
            open(at)
                .and_then(|archive| tree.add_layer(archive))
                .map_err(fail)?;
        }
        let start = self.fresh.end();
        let region = Region {
            file: self.output.file(),
            start,
            at: 0,
        };
        let region = io::BufWriter::with_capacity(1 << 20, region);
        let size = convert::write(&tree, layers.len(), open, region, threads()).map_err(fail)?;
        // What nothing is left of is not read again.
        bar.set(total);
        self.stored(start, size)
    }

    /// Copies a layer that is squashfs or an overlay already.
    fn copied(&mut self, layer: &ContentDescriptor, files: &[Handle]) -> Result<NewLayer, Cause> {
        let start = self.fresh.end();
        let mut region = Region {
            file: self.output.file(),
            start,
            at: 0,
        };
        let write = |error| Cause::plain(self.output.failed("write", error));
        for file in files {
            let mut from = reader(file, 0, layer.size).map_err(write)?;
            io::copy(&mut from, &mut region).map_err(write)?;
        }
        self.stored(start, layer.size)
    }

    /// Adds what was written at the end of the file as a blob.
    fn stored(&mut self, start: u64, size: u64) -> Result<NewLayer, Cause> {
        let digest = hash(self.output.file(), start, size)
            .map_err(|error| Cause::plain(self.output.failed("read", error)))?;
        let layer = NewLayer { digest, size };
        if self.known.insert(layer.digest.clone()) {
            self.fresh
                .add(
                    DataType::OciBlob,
                    &Extra::OciDigest(layer.digest.clone()),
                    size,
                )
                .map_err(Cause::plain)?;
        }
        Ok(layer)
    }

    /// Signatures, the index of the registry, the one of the file, and the table.
    fn finish(
        mut self,
        found: &Found,
        plan: &Plan,
        layers: Vec<LayerSummary>,
        image: RootEntry,
        artifacts: &[Artifact],
    ) -> Result<(Summary, u64), Cause> {
        let mut entries = vec![image];
        if let Some(index) = found.index.as_ref().filter(|_| !artifacts.is_empty()) {
            self.put(&index.digest, &index.bytes)?;
            let [config, manifest] =
                source_index(&index.media_type, &index.digest, length(&index.bytes))
                    .map_err(Cause::plain)?;
            self.put(&config.digest, &config.bytes)?;
            self.put(&manifest.digest, &manifest.bytes)?;
            entries.push(RootEntry {
                media_type: MANIFEST_TYPE.to_owned(),
                size: length(&manifest.bytes),
                digest: manifest.digest,
                ref_name: Some(format!(
                    "{INDEX_PREFIX}{}",
                    index.digest.to_string().replacen(':', "-", 1)
                )),
                artifact_type: Some(SOURCE_INDEX.to_owned()),
            });
        }
        for artifact in artifacts {
            self.fetch(artifact.contents())?;
            self.put(&artifact.digest, &artifact.bytes)?;
            entries.push(RootEntry {
                media_type: artifact.media_type.clone(),
                ref_name: Some(artifact.ref_name.clone()),
                ..self.entry(&artifact.digest, &artifact.bytes, &artifact.manifest)
            });
        }
        let image = entries.first().map(|entry| entry.digest.to_string());
        let root = root_index(&entries).map_err(Cause::plain)?;
        let extra = Extra::OciDigest(root.digest.clone());
        let offset = self
            .fresh
            .add(DataType::OciRootIndex, &extra, length(&root.bytes))
            .map_err(Cause::plain)?;
        let len = self.fresh.end();
        let head = self.fresh.head();
        let file = self.output.file();
        file.write_all_at(&root.bytes, offset)
            .and_then(|()| file.write_all_at(&head, 0))
            .map_err(|error| Cause::plain(self.output.failed("write", error)))?;
        let count = |role: Role| {
            let of_role = artifacts.iter().filter(|artifact| artifact.role == role);
            of_role.map(|artifact| artifact.manifest.layers.len()).sum()
        };
        let summary = Summary {
            digest: found.manifest.digest.to_string(),
            index: found.index.as_ref().map(|index| index.digest.to_string()),
            image: image.unwrap_or_default(),
            platform: found.platform.as_ref().map(ToString::to_string),
            layers,
            unchanged: matches!(plan, Plan::Keep),
            signatures: count(Role::Signatures),
            attestations: count(Role::Attestations),
            bundles: count(Role::Bundle),
        };
        Ok((summary, len))
    }

    fn entry(&self, digest: &Digest, bytes: &[u8], manifest: &ImageManifest) -> RootEntry {
        let media_type = manifest.media_type.clone();
        let artifact_type = manifest.artifact_type.clone();
        RootEntry {
            media_type: media_type.unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
            digest: digest.clone(),
            size: length(bytes),
            ref_name: None,
            artifact_type: artifact_type.or_else(|| Some(manifest.config.media_type.clone())),
        }
    }

    /// Writes a document that is in memory, unless the file has it.
    fn put(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), Cause> {
        if !self.known.insert(digest.clone()) {
            return Ok(());
        }
        let extra = Extra::OciDigest(digest.clone());
        let offset = self
            .fresh
            .add(DataType::OciBlob, &extra, length(bytes))
            .map_err(Cause::plain)?;
        self.output
            .file()
            .write_all_at(bytes, offset)
            .map_err(|error| Cause::plain(self.output.failed("write", error)))
    }

    /// Fetches blobs to the places that they have in the file.
    fn fetch<'c>(
        &mut self,
        contents: impl Iterator<Item = &'c ContentDescriptor>,
    ) -> Result<(), Cause> {
        let mut parts = Vec::new();
        for content in contents {
            if !self.known.insert(content.digest.clone()) {
                continue;
            }
            let extra = Extra::OciDigest(content.digest.clone());
            let offset = self
                .fresh
                .add(DataType::OciBlob, &extra, content.size)
                .map_err(Cause::plain)?;
            parts.push(Part {
                content,
                file: self.output.file(),
                offset,
            });
        }
        self.output
            .reserve(self.fresh.end())
            .map_err(Cause::plain)?;
        self.download(&parts)
    }

    fn download(&self, parts: &[Part<'_>]) -> Result<(), Cause> {
        let begin = Instant::now();
        self.fetch_parts(parts)?;
        let sizes = parts.iter().map(|part| part.content.size);
        let bytes = sizes.fold(0, u64::saturating_add);
        if bytes >= SHOWN && !self.bars.is_shown() {
            self.ui.info(format_args!(
                "Downloaded {bytes} bytes in {:.1}s",
                begin.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn fetch_parts(&self, parts: &[Part<'_>]) -> Result<(), Cause> {
        at_once(parts, |part, stop| {
            let content = part.content;
            let hex: String = content
                .digest
                .to_string()
                .chars()
                .skip(7)
                .take(12)
                .collect();
            let bar = (content.size >= SHOWN).then(|| self.bars.bar(&hex, Some(content.size)));
            let mut at = part.offset;
            let mut broken = None;
            let mut sink = |piece: &[u8]| {
                going_on(stop)?;
                part.file
                    .write_all_at(piece, at)
                    .inspect_err(|error| broken = Some(errno_text(error)))?;
                at = at.saturating_add(length(piece));
                if let Some(bar) = &bar {
                    bar.advance(length(piece));
                }
                Ok(())
            };
            let done = self.session.blob(&blob(content), &mut sink);
            done.map_err(|error| match broken {
                Some(reason) => Cause::plain(format!("write {}: {reason}", self.path.display())),
                None => failed(error),
            })
        })
    }
}

/// A layer whose progress is shown.
struct Watched<'a, R> {
    inner: R,
    bar: &'a Bar,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bar.advance(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// A part of a file that is written as if it were one.
struct Region<'a> {
    file: &'a Handle,
    start: u64,
    at: u64,
}

impl Write for Region<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self
            .file
            .write_at(bytes, self.start.saturating_add(self.at))?;
        self.at = self
            .at
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn hash(file: &Handle, start: u64, size: u64) -> io::Result<Digest> {
    let mut from = reader(file, start, size)?;
    let mut hasher = HashAlgorithm::Sha256.hasher();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
