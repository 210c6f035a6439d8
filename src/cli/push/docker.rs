//! `push docker://`: the image of an OCI-SIF, with its signatures.
//!
//! Source: SingularityCE `internal/pkg/ocisif`; spec/oci-sif-cosign.md 5.2 and 5.5.

use super::super::program::call;
use super::super::pull::docker::LayerFormat;
use super::super::transfer::artifacts::Role;
use super::super::transfer::merge::{self, Addition, put_bytes};
use super::super::transfer::{Connection, at_once, going_on, parse_reference};
use super::super::{Cause, Error, threads, with_image};
use super::oras::{cannot_open, counted, failed};
use super::turned::{Turned, Turner};
use super::{Signatures, Summary};
use crate::digest::Digest;
use crate::disk::new_file::{self, Handle};
use crate::disk::sif_file::{Access, SifFile};
use crate::net::registry::{self, Session, Source};
use crate::oci::build::MANIFEST_TYPE;
use crate::oci::manifest::{ContentDescriptor, ImageManifest, Kind};
use crate::oci::ocisif::{OciSif, Role as Part, is_oci_sif, parse_cosign_name};
use crate::oci::pulled::{LayerKind, with_referrer};
use crate::oci::reference::Reference;
use crate::ui::transfer::Bars;
use crate::ui::{Ui, one_line};
use crate::verify::cosign;
use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest payload of a signature, attestation or bundle, as cosign.
const MAX_ATTACHMENT: usize = 128 << 20;
/// Blobs below this size get no bar.
const SHOWN: u64 = 256 << 10;

/// What is wanted.
pub(super) struct Wanted<'a> {
    /// Signatures, too.
    pub(super) with_cosign: bool,
    /// The form that layers must have.
    pub(super) format: Option<LayerFormat>,
    /// A repository that may have the blobs.
    pub(super) mount_from: Option<&'a str>,
    /// The folder for layers that are turned into tar.
    pub(super) tmpdir: &'a Path,
}

/// A blob that the registry is to have.
pub(super) struct Sending {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) place: Place,
}

/// Where the bytes of a blob are.
pub(super) enum Place {
    /// In the image file, from here on.
    Image(u64),
    /// In a file of its own.
    File(Handle),
    /// In memory.
    Memory(Vec<u8>),
}

/// Pushes the image.
pub(super) fn run(
    ui: &Ui,
    connection: &Connection,
    path: &Path,
    reference: &str,
    wanted: &Wanted<'_>,
) -> Result<Summary, Error> {
    let prefix = "Unable to push image to oci registry: ";
    let reference = parse_reference(reference).map_err(|text| Cause::plain(text).fatal(prefix))?;
    let session = connection.session(ui, &reference, registry::Access::Push)?;
    push(ui, &session, path, &reference, wanted).map_err(|cause| cause.fatal(prefix))
}

/// As [`run`], for a repository that is known already.
pub(super) fn push(
    ui: &Ui,
    session: &Session<'_>,
    path: &Path,
    reference: &Reference,
    wanted: &Wanted<'_>,
) -> Result<Summary, Cause> {
    let pushed = with_image(path, Access::Read, |file, image| {
        if !is_oci_sif(image) {
            return Err(Cause {
                text: "non OCI SIF images can only be pushed to OCI registries via oras://"
                    .to_owned(),
                detail: None,
            });
        }
        image.require_sound()?;
        let oci = OciSif::new(image).map_err(Cause::plain)?;
        let push = Push {
            ui,
            session,
            file,
            path,
            oci: &oci,
            reference,
            sent: AtomicU64::new(0),
            present: AtomicU64::new(0),
        };
        push.run(wanted)
    });
    pushed.unwrap_or_else(|unreadable| Err(cannot_open(path, unreadable)))
}

struct Push<'a, 'i, 'm> {
    ui: &'a Ui,
    session: &'a Session<'a>,
    file: &'a SifFile,
    path: &'a Path,
    oci: &'a OciSif<'i, 'm>,
    reference: &'a Reference,
    sent: AtomicU64,
    present: AtomicU64,
}

impl Push<'_, '_, '_> {
    fn run(&self, wanted: &Wanted<'_>) -> Result<Summary, Cause> {
        let oci = self.oci;
        let entry = oci.unnamed().map_err(Cause::plain)?.clone();
        // What was changed is not sent: the registry would have to find that out.
        cosign::check(oci, threads()).map_err(Cause::plain)?;
        let (documents, blobs) = self.parts(&entry)?;
        let turned = match self.must_turn(&documents, wanted)? {
            true => self.turner(wanted).turn(&documents)?,
            false => Turned::default(),
        };
        let digest = turned.documents.get(&entry.digest);
        let digest = digest.map_or(&entry.digest, |new| &new.digest).clone();
        if let Some(named) = self
            .reference
            .digest
            .as_ref()
            .filter(|named| **named != digest)
        {
            return Err(Cause::plain(format!(
                "the reference names {named}, the image is {digest}"
            )));
        }
        let mut sending = turned.blobs;
        for blob in blobs {
            if !turned.left_out.contains(&blob.digest) {
                let object = oci.object(&blob).map_err(Cause::plain)?;
                let start = u64::try_from(object.offset()).unwrap_or_default();
                sending.push(Sending {
                    digest: blob.digest,
                    size: blob.size,
                    place: Place::Image(start),
                });
            }
        }
        self.send(&sending, wanted.mount_from)?;
        // An index comes behind what it names.
        for document in documents.iter().rev() {
            let (named, bytes) = match turned.documents.get(&document.digest) {
                Some(new) => (&new.digest, new.bytes.as_slice()),
                None => (
                    &document.digest,
                    oci.document(document).map_err(Cause::plain)?,
                ),
            };
            let is_top = document.digest == entry.digest;
            let name = match is_top {
                true => self.reference.identifier(),
                false => named.to_string(),
            };
            self.session
                .put_manifest(&name, &document.media_type, bytes)
                .map_err(failed)?;
        }
        let signatures = match wanted.with_cosign {
            true => self.signatures(&documents)?,
            false => Vec::new(),
        };
        Ok(Summary {
            digest: digest.to_string(),
            converted: !turned.documents.is_empty(),
            sent: self.sent.load(Ordering::Relaxed),
            present: self.present.load(Ordering::Relaxed),
            signatures,
            ..Summary::default()
        })
    }

    /// Documents of an image or index, outermost first, and the blobs that they name.
    fn parts(
        &self,
        entry: &ContentDescriptor,
    ) -> Result<(Vec<ContentDescriptor>, Vec<ContentDescriptor>), Cause> {
        let (reachable, faults) = self.oci.reachable().map_err(Cause::plain)?;
        if let Some(fault) = faults.first() {
            return Err(Cause::plain(format!("image is not complete: {fault}")));
        }
        let mut within = HashSet::from([entry.digest.clone()]);
        let mut documents = vec![entry.clone()];
        let mut blobs: Vec<ContentDescriptor> = Vec::new();
        // Parents stand before their children.
        for part in reachable {
            let Some(parent) = &part.parent else { continue };
            if !within.contains(parent) {
                continue;
            }
            self.oci
                .object(&part.content)
                .map_err(|fault| Cause::plain(format!("image is not complete: {fault}")))?;
            let is_document = part.role == Part::Entry && part.content.kind() != Kind::Other;
            let list = match is_document {
                true => &mut documents,
                false => &mut blobs,
            };
            if is_document {
                within.insert(part.content.digest.clone());
            }
            if !list.iter().any(|known| known.digest == part.content.digest) {
                list.push(part.content);
            }
        }
        Ok((documents, blobs))
    }

    /// Whether layers have to become tar; refuses what cannot have the wanted form.
    fn must_turn(
        &self,
        documents: &[ContentDescriptor],
        wanted: &Wanted<'_>,
    ) -> Result<bool, Cause> {
        let Some(format) = wanted.format else {
            return Ok(false);
        };
        let mut must = false;
        for document in documents.iter().filter(|d| d.kind() == Kind::Image) {
            let manifest = self.oci.manifest(document).map_err(Cause::plain)?;
            for layer in &manifest.layers {
                let shown = one_line(&layer.media_type);
                match (format, LayerKind::of(&layer.media_type)) {
                    (_, LayerKind::Ext3) => {
                        return Err(Cause::plain(format!(
                            "cannot push overlay with layer format {:?}, use 'overlay seal' \
                             before pushing this image",
                            format.name()
                        )));
                    }
                    (LayerFormat::Squashfs, LayerKind::Squashfs)
                    | (
                        LayerFormat::Tar,
                        LayerKind::Tar | LayerKind::TarGzip | LayerKind::TarZstd,
                    ) => {}
                    (LayerFormat::Tar, LayerKind::Squashfs) => must = true,
                    (LayerFormat::Squashfs, _) => {
                        return Err(Cause::plain(format!("unexpected layer mediaType: {shown}")));
                    }
                    (LayerFormat::Tar, LayerKind::Other) => {
                        return Err(Cause::plain(format!("unsupported layer type: {shown}")));
                    }
                }
            }
        }
        if must && wanted.with_cosign {
            return Err(Cause {
                text: "cannot push signature - invalidated by transforming layer format to tar"
                    .to_owned(),
                detail: Some(format!(
                    "Push without --with-cosign and sign what is in the registry then: '{}'",
                    call("sign --cosign docker://...")
                )),
            });
        }
        Ok(must)
    }

    fn turner<'t>(&'t self, wanted: &Wanted<'t>) -> Turner<'t, 't, 't> {
        Turner {
            ui: self.ui,
            file: self.file,
            path: self.path,
            oci: self.oci,
            tmpdir: wanted.tmpdir,
        }
    }

    /// Sends what the registry does not have, a few blobs at a time.
    fn send(&self, blobs: &[Sending], mount_from: Option<&str>) -> Result<(), Cause> {
        let bars = Bars::new(self.ui);
        at_once(blobs, |blob, stop| {
            let hex: String = blob.digest.to_string().chars().skip(7).take(12).collect();
            let bar = Arc::new(match blob.size >= SHOWN {
                true => bars.bar(&hex, Some(blob.size)),
                false => Bars::none(),
            });
            going_on(stop).map_err(|error| Cause::plain(error.to_string()))?;
            let there = self.session.has_blob(&blob.digest).map_err(failed)?;
            let mounted = |from| self.session.mount(&blob.digest, from).map_err(failed);
            if there || mount_from.map_or(Ok(false), mounted)? {
                bar.skip("already in the registry");
                self.present.fetch_add(blob.size, Ordering::Relaxed);
                return Ok(());
            }
            let open = |at: u64| -> io::Result<Box<dyn Read + Send>> {
                going_on(stop)?;
                bar.set(at);
                let left = blob.size.saturating_sub(at);
                let inner: Box<dyn Read + Send> = match &blob.place {
                    Place::Image(start) => {
                        Box::new(self.file.reader(start.saturating_add(at), left)?)
                    }
                    Place::File(file) => Box::new(new_file::reader(file, at, left)?),
                    Place::Memory(bytes) => {
                        let at = usize::try_from(at).unwrap_or(usize::MAX);
                        Box::new(Cursor::new(bytes.get(at..).unwrap_or_default().to_vec()))
                    }
                };
                Ok(counted(inner, &bar))
            };
            let source = Source {
                digest: &blob.digest,
                size: blob.size,
                open: &open,
            };
            self.session.upload(&source).map_err(failed)?;
            self.sent.fetch_add(blob.size, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Puts the signatures of the file to those of the registry.
    fn signatures(&self, pushed: &[ContentDescriptor]) -> Result<Vec<Signatures>, Cause> {
        let mut done = Vec::new();
        for entry in &self.oci.index().manifests {
            let Some((name, (subject, suffix))) = entry
                .ref_name()
                .and_then(|name| Some((name, parse_cosign_name(name)?)))
            else {
                continue;
            };
            let role = match suffix {
                "sig" => Role::Signatures,
                "att" => Role::Attestations,
                _ if suffix.starts_with("bundle-") => Role::Bundle,
                _ => continue,
            };
            let is_pushed = pushed.iter().any(|document| document.digest == subject);
            if !is_pushed && !self.session.has_manifest(&subject).map_err(failed)? {
                self.ui.warning(format_args!(
                    "{} are left out: the registry has nothing of that digest",
                    one_line(name)
                ));
                continue;
            }
            let manifest = self.oci.manifest(entry).map_err(Cause::plain)?;
            if manifest.layers.is_empty() {
                continue;
            }
            self.ui.info(format_args!(
                "Writing cosign signatures: {}/{}:{}",
                self.reference.registry,
                self.reference.repository,
                one_line(name.trim_start_matches(crate::oci::ocisif::COSIGN_PREFIX))
            ));
            for layer in &manifest.layers {
                self.send_small(layer)?;
            }
            let merged = match role {
                Role::Bundle => self.refer(entry, &subject, &manifest)?,
                _ => {
                    let bytes = self.oci.document(entry).map_err(Cause::plain)?;
                    let config = self.oci.document(&manifest.config).map_err(Cause::plain)?;
                    let addition = Addition::Image {
                        manifest: bytes,
                        config,
                    };
                    merge::add(self.session, &subject, role, &addition).map_err(|failure| {
                        match failure {
                            merge::Failure::Registry(error) => failed(error),
                            other => Cause::plain(one_line(&other.to_string())),
                        }
                    })?
                }
            };
            if merged.before > 0 {
                self.ui.info(format_args!(
                    "The registry had {} of them, {} were added",
                    merged.before, merged.added
                ));
            }
            done.push(Signatures {
                name: name.to_owned(),
                before: merged.before,
                added: merged.added,
            });
        }
        if done.is_empty() {
            self.ui.info(
                "The file has no cosign signatures of this image; those of the registry stay",
            );
        }
        Ok(done)
    }

    fn send_small(&self, content: &ContentDescriptor) -> Result<(), Cause> {
        let bytes = self
            .oci
            .content(content, MAX_ATTACHMENT)
            .map_err(Cause::plain)?;
        put_bytes(self.session, &content.digest, bytes).map_err(failed)
    }

    /// Sends a bundle, which refers to the image; a registry that keeps no list of such gets one.
    fn refer(
        &self,
        entry: &ContentDescriptor,
        subject: &Digest,
        manifest: &ImageManifest,
    ) -> Result<merge::Merged, Cause> {
        let known = self.session.has_manifest(&entry.digest).map_err(failed)?;
        self.send_small(&manifest.config)?;
        let bytes = self.oci.document(entry).map_err(Cause::plain)?;
        let media_type = manifest.media_type.as_deref().unwrap_or(MANIFEST_TYPE);
        let stored = self
            .session
            .put_manifest(&entry.digest.to_string(), media_type, bytes)
            .map_err(failed)?;
        if !stored.lists_subject {
            self.list(entry, subject, manifest)?;
        }
        Ok(merge::Merged {
            before: usize::from(known),
            added: usize::from(!known),
        })
    }

    /// Adds a referrer to the list under the tag that stands in for the interface.
    fn list(
        &self,
        entry: &ContentDescriptor,
        subject: &Digest,
        manifest: &ImageManifest,
    ) -> Result<(), Cause> {
        const ATTEMPTS: usize = 8;
        let tag = Session::referrers_tag(subject);
        for _ in 0..ATTEMPTS {
            let listed = self.session.referrers(subject).map_err(failed)?;
            if !listed.from_tag {
                // The interface is there and only did not say so.
                return Ok(());
            }
            let old = listed.pages.first().map(Vec::as_slice);
            let new = with_referrer(old, entry, manifest).map_err(Cause::plain)?;
            let Some(new) = new else { return Ok(()) };
            self.session
                .put_manifest(&tag, crate::oci::build::INDEX_TYPE, &new)
                .map_err(failed)?;
        }
        Err(Cause::plain(format!(
            "list of referrers {tag} was changed by somebody else {ATTEMPTS} times in a row"
        )))
    }
}
