//! `verify --cosign docker://` and `verify-attestation docker://`: judge an image that stays in its
//! registry.
//!
//! Manifests, configs and payloads are read; layers are not. The signature names the manifest, and
//! the manifest names the layers: who pulls them compares their digests.

use super::super::{Cause, Error};
use super::artifacts::{self, Role};
use super::{RegistryArgs, SCHEME, hint, parse_reference};
use crate::digest::Digest;
use crate::key::pem::PublicKey;
use crate::net::http::Allowance;
use crate::net::registry::{self, Access, Blob, Session};
use crate::oci::layout_view::OciLayout;
use crate::oci::manifest::{ImageIndex, ImageManifest, Kind};
use crate::report::{AttestationReport, CosignReport};
use crate::ui::{Ui, one_line};
use crate::verify::cosign::{Choice, Request};
use crate::verify::layout::{self, Checked};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

/// Most bytes of documents and payloads that are read.
const MOST_BYTES: usize = 64 << 20;
/// As much, where attestations are asked for: a bill of materials can be long.
const MOST_ATTESTED: usize = 256 << 20;
/// What all requests may take together, and a second more for each [`LEAST_RATE`] bytes: thousands
/// of signatures could come at the pace that one large file may have.
const FREE_TIME: Duration = Duration::from_secs(15 * 60);
const LEAST_RATE: u64 = 64 << 10;
/// Larger payloads are read again where they are needed again.
const KEPT: usize = 1 << 20;
/// Most images of an index whose signatures are looked for.
const MOST_SUBJECTS: usize = 8;

/// Judges the signatures of the image behind a reference, which begins with [`SCHEME`].
///
/// # Errors
/// The outer one: the registry cannot be used as wished. The inner one: the image cannot be judged.
pub(in crate::cli) fn signatures(
    ui: &Ui,
    args: &RegistryArgs,
    uri: &str,
    choice: &Choice,
    request: &Request<'_>,
) -> Result<Result<CosignReport, Cause>, Error> {
    let judge = |image: &Checked<'_, '_>, referrers: &[Digest]| image.judge(referrers, request);
    open(ui, args, uri, Role::Signatures, choice, &judge)
}

/// As [`signatures`], about its attestations.
///
/// # Errors
/// As [`signatures`].
pub(in crate::cli) fn attestations(
    ui: &Ui,
    args: &RegistryArgs,
    uri: &str,
    choice: &Choice,
    keys: &[PublicKey],
) -> Result<Result<AttestationReport<'static>, Cause>, Error> {
    let judge = |image: &Checked<'_, '_>, referrers: &[Digest]| image.attestations(referrers, keys);
    open(ui, args, uri, Role::Attestations, choice, &judge)
}

/// What is asked about an image all of whose parts are there; it gets the bundles, too.
type Judge<'j, T> = dyn Fn(&Checked<'_, '_>, &[Digest]) -> Result<T, layout::Error> + 'j;

fn open<T>(
    ui: &Ui,
    args: &RegistryArgs,
    uri: &str,
    role: Role,
    choice: &Choice,
    judge: &Judge<'_, T>,
) -> Result<Result<T, Cause>, Error> {
    let text = uri.strip_prefix(SCHEME).unwrap_or(uri);
    let reference = parse_reference(text).map_err(Error::fatal)?;
    let connection = args.connect()?;
    let session = connection.session(ui, &reference, Access::Pull)?;
    let session = session.with_allowance(Allowance::new(FREE_TIME, LEAST_RATE));
    let store = Store {
        session: &session,
        documents: RefCell::default(),
        blobs: RefCell::default(),
        read: Cell::new(0),
        most: match role {
            Role::Attestations => MOST_ATTESTED,
            _ => MOST_BYTES,
        },
    };
    Ok(store.judge(ui, &reference.identifier(), uri, role, choice, judge))
}

/// What was read of a registry.
struct Store<'a> {
    session: &'a Session<'a>,
    /// Bytes that are what their digest says.
    documents: RefCell<HashMap<Digest, Vec<u8>>>,
    /// Lengths of blobs, as manifests name them.
    blobs: RefCell<HashMap<Digest, u64>>,
    read: Cell<usize>,
    most: usize,
}

impl Store<'_> {
    fn judge<T>(
        &self,
        ui: &Ui,
        identifier: &str,
        uri: &str,
        role: Role,
        choice: &Choice,
        judge: &Judge<'_, T>,
    ) -> Result<T, Cause> {
        // A tag is looked up once; everything else has its digest.
        let top = self
            .session
            .manifest(identifier)
            .map_err(failed)?
            .ok_or_else(|| {
                Cause::plain(format!("{}: no such image in the registry", one_line(uri)))
            })?;
        let kind = Kind::of(&top.media_type);
        if kind == Kind::Other {
            return Err(Cause::plain(format!(
                "media type {:?} is neither an image nor an index",
                one_line(&top.media_type)
            )));
        }
        let mut subjects = vec![top.digest.clone()];
        if kind == Kind::Index {
            let index = ImageIndex::parse(&top.bytes)
                .map_err(|error| Cause::plain(format!("index {}: {error}", top.digest)))?;
            let wanted = choice.platform.as_ref().unwrap_or(&choice.host);
            let children = index.manifests.into_iter().filter(|entry| {
                choice.digest.as_ref() == Some(&entry.digest)
                    || entry.platform.as_ref().is_some_and(|p| p.satisfies(wanted))
            });
            subjects.extend(children.map(|entry| entry.digest).take(MOST_SUBJECTS));
        }
        let mut entries = vec![json!({
            "mediaType": top.media_type,
            "digest": top.digest.to_string(),
            "size": top.bytes.len(),
            "annotations": {"kind": match kind {
                Kind::Index => "dev.cosignproject.cosign/imageIndex",
                _ => "dev.cosignproject.cosign/image",
            }},
        })];
        self.keep(top.digest, top.bytes)?;
        let mut referrers = Vec::new();
        for subject in &subjects {
            let mut warn = |text: String| ui.warning(one_line(&text));
            for found in artifacts::all(self.session, subject, &mut warn).map_err(failed)? {
                match found.role {
                    Role::Bundle => referrers.push(found.digest.clone()),
                    other if other == role => {
                        let tag = artifacts::tag(subject, role.suffix());
                        entries.push(json!({
                            "mediaType": found.media_type,
                            "digest": found.digest.to_string(),
                            "size": found.bytes.len(),
                            "annotations": {"org.opencontainers.image.ref.name": tag},
                        }));
                    }
                    _ => continue,
                }
                self.keep(found.digest, found.bytes)?;
            }
        }
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let get = |digest: &Digest, limit: usize| self.get(digest, limit);
        let view = OciLayout::new(index.as_bytes(), &get).map_err(Cause::plain)?;
        let hash = |parts: &[(Digest, u64)]| {
            ui.info(format_args!(
                "Layers stay in the registry: the manifest that was signed names their digests ({} parts)",
                parts.len()
            ));
            parts
                .iter()
                .try_for_each(|(digest, _)| self.require(digest))
        };
        let checked = layout::check(&view, choice, hash).map_err(told)?;
        judge(&checked, &referrers).map_err(told)
    }

    fn keep(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), Cause> {
        self.store(digest, &bytes, true).map_err(Cause::plain)
    }

    /// Takes note of what was read; documents stay in memory.
    fn store(&self, digest: Digest, bytes: &[u8], is_document: bool) -> Result<(), String> {
        let read = self.read.get().saturating_add(bytes.len());
        if read > self.most {
            return Err(format!(
                "manifests, signatures and attestations of more than {} bytes are not looked at",
                self.most
            ));
        }
        self.read.set(read);
        if is_document && let Ok(manifest) = ImageManifest::parse(bytes) {
            let named = std::iter::once(manifest.config).chain(manifest.layers);
            let named = named.map(|content| (content.digest, content.size));
            self.blobs.borrow_mut().extend(named);
        }
        if is_document || bytes.len() <= KEPT {
            self.documents.borrow_mut().insert(digest, bytes.to_vec());
        }
        Ok(())
    }

    /// The bytes of a manifest, config or payload.
    fn get(&self, digest: &Digest, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let told = |error: registry::Error| one_line(&error.to_string());
        if let Some(bytes) = self.documents.borrow().get(digest) {
            return Ok(Some(bytes.clone()));
        }
        let size = self.blobs.borrow().get(digest).copied();
        let bytes = match size {
            Some(size) => {
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                match self.session.small_blob(&Blob { digest, size }, limit) {
                    Ok(bytes) => bytes,
                    Err(error) if error.status() == Some(404) => return Ok(None),
                    Err(error) => return Err(told(error)),
                }
            }
            None => match self.session.manifest(&digest.to_string()).map_err(told)? {
                Some(manifest) => manifest.bytes,
                None => return Ok(None),
            },
        };
        self.store(digest.clone(), &bytes, size.is_none())?;
        Ok(Some(bytes))
    }

    /// Fails unless the registry has a part of the image.
    fn require(&self, digest: &Digest) -> Result<(), String> {
        if self.documents.borrow().contains_key(digest) {
            return Ok(());
        }
        match self.session.has_blob(digest) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{digest} is not in the registry")),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

/// There is no folder here.
fn told(error: layout::Error) -> Cause {
    let text = error.to_string();
    Cause::plain(one_line(&text.replace("from OCI layout", "from registry")))
}

fn failed(error: registry::Error) -> Cause {
    Cause {
        detail: hint(&error),
        text: one_line(&error.to_string()),
    }
}
