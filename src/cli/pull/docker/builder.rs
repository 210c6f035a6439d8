//! The file that a pull of layers fills: an OCI-SIF, written as its parts come.

use super::super::super::transfer::artifacts::{Artifact, Role};
use super::super::super::transfer::{at_once, going_on};
use super::super::super::{Cause, threads};
use super::super::direct::failed;
use super::{Found, LayerSummary, Plan, Summary, blob};
use crate::digest::{Digest, HashAlgorithm};
use crate::disk::converter::{self, Program, Root};
use crate::disk::errno_text;
use crate::disk::new_file::{Handle, NewFile, reader, scratch};
use crate::layer::tree::{Tree, Whiteouts};
use crate::layer::unsquash::FileSystem;
use crate::layer::{self, Compression, Limits, convert, expand};
use crate::net::http::user_agent;
use crate::net::registry::Session;
use crate::oci::build::MANIFEST_TYPE;
use crate::oci::manifest::{ContentDescriptor, ImageManifest};
use crate::oci::ocisif::INDEX_PREFIX;
use crate::oci::pulled::{
    LayerKind, NewLayer, RootEntry, SOURCE_INDEX, converted, root_index, source_index,
};
use crate::sif::Extra;
use crate::sif::fresh::Fresh;
use crate::sif::types::DataType;
use crate::ui::transfer::{Bar, Bars};
use crate::ui::{Ui, one_line};
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// Blobs below this size get no bar.
const SHOWN: u64 = 256 << 10;

/// A blob that is fetched into a file.
struct Part<'a> {
    content: &'a ContentDescriptor,
    file: &'a Handle,
    offset: u64,
    /// What to call the file where it cannot be written.
    shown: &'a Path,
}

/// A file that is being filled.
pub(super) struct Builder<'a> {
    pub(super) ui: &'a Ui,
    pub(super) session: &'a Session<'a>,
    pub(super) bars: &'a Bars,
    pub(super) output: &'a NewFile,
    pub(super) path: &'a Path,
    /// Where layers lie that are going to be converted.
    pub(super) tmpdir: Option<&'a Path>,
    /// The installed program that converts them.
    pub(super) program: Option<Program>,
    pub(super) fresh: Fresh,
    /// Blobs that are in the file, with their lengths: each is stored once.
    pub(super) known: HashMap<Digest, u64>,
}

type Laid = (Vec<LayerSummary>, RootEntry);

impl Builder<'_> {
    /// Layers, config and manifest as they are.
    pub(super) fn keep(&mut self, found: &Found) -> Result<Laid, Cause> {
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
    pub(super) fn convert(&mut self, found: &Found, squash: bool) -> Result<Laid, Cause> {
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
                shown: self.tmpdir.unwrap_or(self.path),
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
                    self.copied(layer.size, files)?
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
                LayerKind::TarZstd => Compression::Zstd,
                _ => Compression::None,
            };
            let stored = Watched {
                inner: reader(file, 0, layer.size)?,
                bar: &bar,
            };
            Ok(expand(stored, compression, layer.size, &limits)?)
        };
        let mut tree = Tree::new(whiteouts, limits);
        for at in 0..layers.len() {
            open(at)
                .and_then(|archive| tree.add_layer(archive))
                .map_err(fail)?;
        }
        let start = self.fresh.end();
        if let Some(program) = self.program {
            let made = scratch(self.tmpdir, self.path).map_err(Cause::plain)?;
            let size = made_by(program, &tree, layers.len(), open, &made).map_err(|error| {
                let text = format!("while converting layers: {error}");
                Cause {
                    text: one_line(&text),
                    detail: error.hint(program),
                }
            })?;
            bar.set(total);
            return self.copied(size, std::slice::from_ref(&made));
        }
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
    fn copied(&mut self, size: u64, files: &[Handle]) -> Result<NewLayer, Cause> {
        let start = self.fresh.end();
        let mut region = Region {
            file: self.output.file(),
            start,
            at: 0,
        };
        let write = |error| Cause::plain(self.output.failed("write", error));
        for file in files {
            let mut from = reader(file, 0, size).map_err(write)?;
            io::copy(&mut from, &mut region).map_err(write)?;
        }
        self.stored(start, size)
    }

    /// Adds what was written at the end of the file as a blob.
    fn stored(&mut self, start: u64, size: u64) -> Result<NewLayer, Cause> {
        let digest = hash(self.output.file(), start, size)
            .map_err(|error| Cause::plain(self.output.failed("read", error)))?;
        let layer = NewLayer { digest, size };
        if self.is_new(&layer.digest, size)? {
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
    pub(super) fn finish(
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

    /// Takes note of a blob; false if the file has it.
    fn is_new(&mut self, digest: &Digest, size: u64) -> Result<bool, Cause> {
        if digest.algorithm() != HashAlgorithm::Sha256 {
            return Err(Cause::plain(format!(
                "{digest} cannot be kept: files name their blobs by SHA-256 alone"
            )));
        }
        match self.known.insert(digest.clone(), size) {
            None => Ok(true),
            Some(known) if known == size => Ok(false),
            Some(known) => Err(Cause::plain(format!(
                "blob {digest} has {known} bytes at one place of the image and {size} at another"
            ))),
        }
    }

    /// Writes a document that is in memory, unless the file has it.
    fn put(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), Cause> {
        if !self.is_new(digest, length(bytes))? {
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
            if !self.is_new(&content.digest, content.size)? {
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
                shown: self.path,
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
                Some(reason) => Cause::plain(format!("write {}: {reason}", part.shown.display())),
                None => failed(error),
            })
        })
    }
}

/// Why an installed program made no layer.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error("{0}")]
    Program(#[from] converter::Error<layer::Error>),
    #[error("{program} made no right squashfs: {error}")]
    Wrong {
        program: &'static str,
        error: layer::Error,
    },
}

impl Unmade {
    fn hint(&self, program: Program) -> Option<String> {
        match self {
            Self::Program(converter::Error::Run { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some(format!(
                    "{} is not installed; without --converter nothing has to be",
                    program.name()
                ))
            }
            Self::Wrong { .. } => {
                Some("Without --converter the layers are converted here".to_owned())
            }
            Self::Program(_) => None,
        }
    }
}

/// Lets a program make a squashfs of layers in a file; returns its length.
///
/// What it made is looked through: some versions leave out what they do not know.
fn made_by<'a>(
    program: Program,
    tree: &Tree,
    layers: usize,
    open: impl Fn(usize) -> Result<Box<dyn Read + 'a>, layer::Error>,
    made: &Handle,
) -> Result<u64, Unmade> {
    let root = tree.inode(Tree::ROOT).map(|root| &root.attributes);
    let root = Root {
        mode: root.map_or(0o755, |root| root.mode),
        uid: root.map_or(0, |root| root.uid),
        gid: root.map_or(0, |root| root.gid),
    };
    program.run(made, root, threads(), |pipe| {
        convert::write_tar(tree, layers, open, pipe).map(|_| ())
    })?;
    let wrong = |error| Unmade::Wrong {
        program: program.name(),
        error,
    };
    let size = made.metadata().map_err(|error| wrong(error.into()))?.len();
    let read = |at: u64, buffer: &mut [u8]| made.read_exact_at(buffer, at);
    FileSystem::open(Box::new(read), size, Limits::default())
        .and_then(|mut image| convert::compare(tree, &mut image))
        .map_err(wrong)?;
    Ok(size)
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
