//! Layers of squashfs that become tar on their way, and the documents that name them.
//!
//! Source: SingularityCE `internal/pkg/client/ocisif`, `transformLayers`; spec/oci-sif-cosign.md
//! 5.2.

use super::super::Cause;
use super::docker::{Place, Sending};
use crate::digest::{Digest, HashAlgorithm, Hasher};
use crate::disk::new_file::{Handle, scratch};
use crate::disk::sif_file::SifFile;
use crate::layer::unsquash::FileSystem;
use crate::layer::{self, Limits, convert};
use crate::oci::build::Blob;
use crate::oci::manifest::{ContentDescriptor, ImageManifest, Kind};
use crate::oci::ocisif::OciSif;
use crate::oci::pulled::{self, LayerKind, TarLayer};
use crate::ui::transfer::Bars;
use crate::ui::{Ui, one_line};
use flate2::write::GzEncoder;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Layers below this size get no bar.
const SHOWN: u64 = 256 << 10;

/// What takes the place of documents and blobs of the file.
#[derive(Default)]
pub(super) struct Turned {
    /// By the digest of the document of the file.
    pub(super) documents: HashMap<Digest, Blob>,
    /// New layers and configs.
    pub(super) blobs: Vec<Sending>,
    /// Blobs of the file that nothing names any more.
    pub(super) left_out: HashSet<Digest>,
}

/// What layers are read from.
pub(super) struct Turner<'a, 'i, 'm> {
    pub(super) ui: &'a Ui,
    pub(super) file: &'a SifFile,
    pub(super) path: &'a Path,
    pub(super) oci: &'a OciSif<'i, 'm>,
    /// The folder for the new layers.
    pub(super) tmpdir: &'a Path,
}

impl Turner<'_, '_, '_> {
    /// Turns all layers of squashfs; `documents` stand before what they name.
    pub(super) fn turn(&self, documents: &[ContentDescriptor]) -> Result<Turned, Cause> {
        let mut turned = Turned::default();
        let mut named = HashSet::new();
        // A layer can be the lowest of one image and not of another.
        let mut known: HashMap<(Digest, bool), TarLayer> = HashMap::new();
        for document in documents.iter().rev() {
            let bytes = self.oci.document(document).map_err(Cause::plain)?;
            if document.kind() == Kind::Index {
                let index = pulled::turned_index(bytes, &turned.documents);
                if let Some(index) = index.map_err(fail)? {
                    turned.documents.insert(document.digest.clone(), index);
                }
                continue;
            }
            let manifest = self.oci.manifest(document).map_err(Cause::plain)?;
            let mut layers = Vec::new();
            for (at, layer) in manifest.layers.iter().enumerate() {
                if LayerKind::of(&layer.media_type) != LayerKind::Squashfs {
                    layers.push(None);
                    continue;
                }
                let key = (layer.digest.clone(), at == 0);
                let new = match known.get(&key) {
                    Some(new) => new.clone(),
                    None => {
                        if known.is_empty() {
                            self.ui.info("Converting layers to tar");
                        }
                        let (new, file) = self.layer(layer, at == 0)?;
                        if known.values().all(|other| other.digest != new.digest) {
                            turned.blobs.push(Sending {
                                digest: new.digest.clone(),
                                size: new.size,
                                place: Place::File(file),
                            });
                        }
                        known.insert(key, new.clone());
                        new
                    }
                };
                layers.push(Some(new));
            }
            if layers.iter().all(Option::is_none) {
                named.extend(contents(&manifest).cloned());
                continue;
            }
            let config = self.oci.document(&manifest.config).map_err(Cause::plain)?;
            let [config, new] = pulled::turned(bytes, config, &layers).map_err(fail)?;
            turned.left_out.extend(contents(&manifest).cloned());
            let parsed = ImageManifest::parse(&new.bytes).map_err(fail)?;
            named.extend(contents(&parsed).cloned());
            turned.blobs.push(Sending {
                size: u64::try_from(config.bytes.len()).unwrap_or(u64::MAX),
                digest: config.digest,
                place: Place::Memory(config.bytes),
            });
            turned.documents.insert(document.digest.clone(), new);
        }
        turned.left_out.retain(|digest| !named.contains(digest));
        Ok(turned)
    }

    /// Turns one layer.
    fn layer(&self, layer: &ContentDescriptor, lowest: bool) -> Result<(TarLayer, Handle), Cause> {
        let object = self.oci.object(layer).map_err(Cause::plain)?;
        let start = u64::try_from(object.offset()).unwrap_or_default();
        let bars = Bars::new(self.ui);
        let bar = match layer.size >= SHOWN {
            true => bars.bar("tar", Some(layer.size)),
            false => Bars::none(),
        };
        let read = |at: u64, buffer: &mut [u8]| {
            bar.advance(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
            self.file.read_at(start.saturating_add(at), buffer)
        };
        let limits = Limits::default();
        let file = scratch(Some(self.tmpdir), self.path).map_err(Cause::plain)?;
        let packed = Hashed::new(BufWriter::with_capacity(1 << 20, &file));
        let plain = Hashed::new(GzEncoder::new(packed, flate2::Compression::default()));
        let convert::Unpacked { out, left_out } =
            FileSystem::open(Box::new(read), layer.size, limits)
                .and_then(|mut image| {
                    convert::to_tar(&mut image, layer.size, lowest, &limits, plain)
                })
                .map_err(|error| match error {
                    layer::Error::Io(_) => fail(format!(
                        "layer {} to a file in {}: {error}",
                        layer.digest,
                        self.tmpdir.display()
                    )),
                    other => fail(format!("layer {}: {other}", layer.digest)),
                })?;
        let written = |error| {
            let reason = crate::disk::errno_text(&error);
            fail(format!("write to {}: {reason}", self.tmpdir.display()))
        };
        let (gzip, diff_id, _) = out.finish();
        let (mut out, digest, size) = gzip.finish().map_err(written)?.finish();
        out.flush().map_err(written)?;
        drop(out);
        if left_out > 0 {
            self.ui.warning(format_args!(
                "layer {}: {} sockets are left out, tar has none",
                layer.digest, left_out
            ));
        }
        let new = TarLayer {
            digest,
            size,
            diff_id,
        };
        Ok((new, file))
    }
}

fn contents(manifest: &ImageManifest) -> impl Iterator<Item = &Digest> {
    let all = std::iter::once(&manifest.config).chain(&manifest.layers);
    all.map(|content| &content.digest)
}

fn fail(error: impl std::fmt::Display) -> Cause {
    Cause::plain(one_line(&format!("while converting layers: {error}")))
}

/// Hashes what is written.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: HashAlgorithm::Sha256.hasher(),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.count = self
            .count
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
