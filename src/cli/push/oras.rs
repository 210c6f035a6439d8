//! `push oras://`: a SIF as one layer of an artifact.
//!
//! Source: SingularityCE `internal/pkg/client/oras`.

use super::super::transfer::merge::put_bytes;
use super::super::transfer::{Connection, hint, parse_reference};
use super::super::{Cause, Error, with_image};
use super::Summary;
use crate::digest::{Digest, HashAlgorithm};
use crate::disk::sif_file::{Access, SifFile};
use crate::net::library::{SIF_CONFIG, SIF_LAYER};
use crate::net::registry::{self, Source};
use crate::oci::build::MANIFEST_TYPE;
use crate::ui::transfer::{Bar, Bars};
use crate::ui::{Ui, one_line};
use serde_json::json;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Pushes a file.
pub(super) fn run(
    ui: &Ui,
    connection: &Connection,
    path: &Path,
    reference: &str,
) -> Result<Summary, Error> {
    let prefix = "Unable to push image to oci registry: ";
    push(ui, connection, path, reference)?.map_err(|cause| cause.fatal(prefix))
}

fn push(
    ui: &Ui,
    connection: &Connection,
    path: &Path,
    reference: &str,
) -> Result<Result<Summary, Cause>, Error> {
    let reference = match parse_reference(reference) {
        Ok(reference) => reference,
        Err(text) => return Ok(Err(Cause::plain(text))),
    };
    let session = connection.session(ui, &reference, registry::Access::Push)?;
    let sent = with_image(path, Access::Read, |file, _| {
        let size = file.len();
        let digest = hash(file, path)?;
        let mut summary = Summary::default();
        let bars = Bars::new(ui);
        let bar = Arc::new(bars.bar(&super::name(path), Some(size)));
        if session.has_blob(&digest).map_err(failed)? {
            bar.skip("already in the registry");
            summary.present = size;
        } else {
            let open = |at: u64| -> io::Result<Box<dyn Read + Send>> {
                let rest = file.reader(at, size.saturating_sub(at))?;
                Ok(counted(Box::new(rest), &bar))
            };
            let source = Source {
                digest: &digest,
                size,
                open: &open,
            };
            session.upload(&source).map_err(failed)?;
            summary.sent = size;
        }
        let config = b"{}";
        let config_digest = HashAlgorithm::Sha256.digest(config);
        put_bytes(&session, &config_digest, config).map_err(failed)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": SIF_CONFIG, "size": config.len(),
                "digest": config_digest.to_string()},
            "layers": [{"mediaType": SIF_LAYER, "size": size, "digest": digest.to_string(),
                "annotations": {"org.opencontainers.image.title": super::name(path)}}],
        });
        let manifest = manifest.to_string().into_bytes();
        session
            .put_manifest(&reference.identifier(), MANIFEST_TYPE, &manifest)
            .map_err(failed)?;
        summary.digest = HashAlgorithm::Sha256.digest(&manifest).to_string();
        Ok(summary)
    });
    Ok(sent.unwrap_or_else(|unreadable| Err(cannot_open(path, unreadable))))
}

/// Why an image cannot be pushed that cannot be read.
pub(super) fn cannot_open(path: &Path, unreadable: Cause) -> Cause {
    Cause {
        text: format!(
            "could not open image {}: {}",
            path.display(),
            unreadable.text
        ),
        detail: unreadable.detail,
    }
}

pub(super) fn failed(error: registry::Error) -> Cause {
    Cause {
        detail: hint(&error),
        text: one_line(&error.to_string()),
    }
}

/// SHA-256 of a file.
pub(super) fn hash(file: &SifFile, path: &Path) -> Result<Digest, Cause> {
    let fail = |error: io::Error| {
        let reason = crate::disk::errno_text(&error);
        Cause::plain(format!("read {}: {reason}", path.display()))
    };
    let mut reader = file.reader(0, file.len()).map_err(fail)?;
    let mut hasher = HashAlgorithm::Sha256.hasher();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match reader.read(&mut chunk).map_err(fail)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// Bytes that move a bar.
pub(super) fn counted(inner: Box<dyn Read + Send>, bar: &Arc<Bar>) -> Box<dyn Read + Send> {
    struct Counted {
        inner: Box<dyn Read + Send>,
        bar: Arc<Bar>,
    }
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.inner.read(buffer)?;
            self.bar.advance(u64::try_from(count).unwrap_or(u64::MAX));
            Ok(count)
        }
    }
    Box::new(Counted {
        inner,
        bar: Arc::clone(bar),
    })
}
