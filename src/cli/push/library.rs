//! `push library://`: a SIF, or the image of an OCI-SIF, in a container library.
//!
//! Source: SingularityCE `internal/pkg/client/library`; sylabs/scs-library-client.

use super::super::program::call;
use super::super::transfer::library::{LibraryReference, open};
use super::super::transfer::{Connection, hint};
use super::super::verify::{Form, JudgeArgs};
use super::super::{Cause, Error, with_image};
use super::oras::{cannot_open, counted, hash};
use super::{Summary, docker};
use crate::disk::sif_file::Access as FileAccess;
use crate::net::library::{self, NewImage};
use crate::net::registry::Access;
use crate::oci::ocisif::is_oci_sif;
use crate::oci::reference::Reference;
use crate::ui::transfer::Bars;
use crate::ui::{Ui, one_line};
use serde_json::json;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PREFIX: &str = "Unable to push image to library: ";

/// What is wanted.
pub(super) struct Wanted<'a> {
    /// The library, instead of the endpoint's.
    pub(super) library: Option<&'a str>,
    /// What the library shows about the image.
    pub(super) description: &'a str,
    /// Whether signatures do not matter.
    pub(super) allow_unsigned: bool,
    /// What is wanted of an OCI-SIF.
    pub(super) layers: docker::Wanted<'a>,
}

/// Pushes a file.
///
/// # Errors
/// With the library as it was, but for data that it got.
pub(super) fn run(
    ui: &Ui,
    connection: &Connection,
    path: &Path,
    reference: &str,
    wanted: &Wanted<'_>,
) -> Result<Summary, Error> {
    let malformed = |text: String| Error::fatal(format!("Malformed library reference: {text}"));
    let reference = LibraryReference::parse(reference).map_err(malformed)?;
    if reference.path.matches('/').count() != 2 {
        return Err(malformed(format!(
            "{:?} is not entity/collection/container",
            reference.path
        )));
    }
    let opened = open(ui, connection, wanted.library, &reference)?;
    if !opened.has_token {
        return Err(Error::Fatal {
            text: "Cannot push image to library: no authentication token".to_owned(),
            detail: Some(format!(
                "'{}' stores the token of the endpoint whose library is used",
                call("remote login")
            )),
        });
    }
    if wanted.allow_unsigned {
        ui.warning("Skipping container verification");
    } else {
        let judge = JudgeArgs::default().load(ui, Form::Native, path, false)?;
        judge
            .must_hold()
            .judge(ui, path, path, None)
            .map_err(|cause| Error::Fatal {
                text: format!(
                    "Unable to upload container: unable to verify signature: {}",
                    cause.text
                ),
                detail: Some("-U pushes images that are not signed".to_owned()),
            })?;
    }
    push(ui, &opened.library, &opened.host, path, &reference, wanted)
        .map_err(|cause| cause.fatal(PREFIX))
}

fn push(
    ui: &Ui,
    library: &library::Library<'_>,
    host: &str,
    path: &Path,
    reference: &LibraryReference,
    wanted: &Wanted<'_>,
) -> Result<Summary, Cause> {
    let layers = with_image(path, FileAccess::Read, |_, image| is_oci_sif(image))
        .map_err(|unreadable| cannot_open(path, unreadable))?;
    let direct = library
        .direct(&reference.path, Access::Push)
        .map_err(failed)?;
    if layers {
        ui.info("Pushing an OCI-SIF to the library OCI registry. Use `--oci` to pull this image.");
        let direct = direct
            .ok_or_else(|| Cause::plain("the library names no registry for images of layers"))?;
        let [tag] = reference.tags.as_slice() else {
            return Err(Cause::plain("an OCI-SIF gets one tag at a time"));
        };
        let full = format!("{host}/{}:{tag}", reference.path);
        let shown = Reference::parse(&full).map_err(Cause::plain)?;
        return docker::push(ui, &direct.session, path, &shown, &wanted.layers);
    }
    with_image(path, FileAccess::Read, |file, image| {
        let arch = image.header().arch().name();
        if arch == "unknown" {
            return Err(Cause::plain(
                "the image does not say which architecture it is for",
            ));
        }
        let size = file.len();
        let digest = hash(file, path)?;
        let bars = Bars::new(ui);
        let bar = Arc::new(bars.bar(&super::name(path), Some(size)));
        let sent = AtomicBool::new(false);
        let open = |at: u64| -> io::Result<Box<dyn Read + Send>> {
            sent.store(true, Ordering::Relaxed);
            bar.set(at);
            let rest = file.reader(at, size.saturating_sub(at))?;
            Ok(counted(Box::new(rest), &bar))
        };
        let new = NewImage {
            path: &reference.path,
            arch,
            tags: &reference.tags,
            description: wanted.description,
            digest: &digest,
            size,
            open: &open,
        };
        match &direct {
            Some(direct) => {
                let config = json!({
                    "architecture": arch,
                    "os": "linux",
                    "rootfs": digest.to_string(),
                    "description": wanted.description,
                    "signed": image.signatures().next().is_some(),
                    "encrypted": false,
                });
                direct.upload(&new, config.to_string().as_bytes())
            }
            None => library.upload(&new),
        }
        .map_err(failed)?;
        let sent = sent.into_inner();
        if !sent {
            bar.skip("already in the library");
        }
        Ok(Summary {
            digest: digest.to_string(),
            sent: if sent { size } else { 0 },
            present: if sent { 0 } else { size },
            ..Summary::default()
        })
    })
    .unwrap_or_else(|unreadable| Err(cannot_open(path, unreadable)))
}

fn failed(error: library::Error) -> Cause {
    let detail = match &error {
        library::Error::Transfer(error) => hint(error),
        _ => None,
    };
    Cause {
        text: one_line(&error.to_string()),
        detail,
    }
}
