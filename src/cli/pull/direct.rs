//! Pulls of a file as it is: `oras://`, `http://`, `https://`.

use super::super::transfer::{Connection, hint, parse_reference};
use super::super::{Cause, Error};
use super::{Common, Outcome};
use crate::disk::errno_text;
use crate::disk::new_file::NewFile;
use crate::net::Url;
use crate::net::download::{Patience, Sink};
use crate::net::library::{SIF_LAYER, fetch_url};
use crate::net::registry::{self, Access, Blob};
use crate::oci::manifest::{ImageManifest, Kind};
use crate::ui::transfer::Bars;
use crate::ui::{Ui, one_line};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// The media type of Singularity before 3.7, with its slip.
const OLD_SIF_LAYER: &str = "appliciation/vnd.sylabs.sif.layer.tar";

/// A SIF that is one layer of an artifact.
///
/// Source: SingularityCE `internal/pkg/client/oras`.
pub(super) fn oras(
    ui: &Ui,
    connection: &Connection,
    reference: &str,
    common: Common<'_>,
) -> Result<Outcome, Error> {
    let prefix = "While pulling image from oci registry: ";
    let fail = |error: registry::Error| failed(error).fatal(prefix);
    let plain = |text: String| Cause::plain(text).fatal(prefix);
    let reference = parse_reference(reference).map_err(plain)?;
    let session = connection.session(ui, &reference, Access::Pull)?;
    let manifest = session
        .manifest(&reference.identifier())
        .map_err(fail)?
        .ok_or_else(|| plain(format!("{reference}: no such image in the registry")))?;
    if Kind::of(&manifest.media_type) != Kind::Image {
        return Err(plain(format!(
            "{reference}: media type {:?} is no image",
            one_line(&manifest.media_type)
        )));
    }
    let parsed = ImageManifest::parse(&manifest.bytes)
        .map_err(|error| plain(format!("manifest {}: {error}", manifest.digest)))?;
    let [layer] = parsed.layers.as_slice() else {
        return Err(plain(format!(
            "ORAS SIF image should have a single layer, found {}",
            parsed.layers.len()
        )));
    };
    if layer.media_type != SIF_LAYER && layer.media_type != OLD_SIF_LAYER {
        return Err(plain(format!(
            "invalid layer mediatype: {}",
            one_line(&layer.media_type)
        )));
    }
    let save = |sink: &mut Sink<'_>| {
        let blob = Blob {
            digest: &layer.digest,
            size: layer.size,
        };
        session.blob(&blob, sink).map(|()| layer.size)
    };
    let mut outcome = into_file(ui, common, Some(layer.size), failed, save)
        .map_err(|cause| cause.fatal(prefix))?;
    outcome.image = Some(serde_json::json!({
        "manifest": manifest.digest.to_string(),
        "digest": layer.digest.to_string(),
    }));
    Ok(outcome)
}

/// A file of a plain server; nothing says what it should be.
pub(super) fn http(
    ui: &Ui,
    connection: &Connection,
    uri: &str,
    common: Common<'_>,
) -> Result<Outcome, Error> {
    let prefix = "While pulling from image from http(s): ";
    let url = Url::parse(uri)
        .map_err(|error| Cause::plain(format!("Not a valid url: {error}")).fatal(prefix))?;
    let save =
        |sink: &mut Sink<'_>| fetch_url(connection.client(), &url, Patience::default(), sink);
    into_file(ui, common, None, failed, save).map_err(|cause| cause.fatal(prefix))
}

pub(super) fn failed(error: registry::Error) -> Cause {
    Cause {
        detail: hint(&error),
        text: one_line(&error.to_string()),
    }
}

/// Saves what comes, looks whether it is a SIF, judges it, and gives it its name.
pub(super) fn into_file<E>(
    ui: &Ui,
    common: Common<'_>,
    size: Option<u64>,
    failed: impl Fn(E) -> Cause,
    save: impl FnOnce(&mut Sink<'_>) -> Result<u64, E>,
) -> Result<Outcome, Cause> {
    let output = NewFile::begin(&common.place(), common.force).map_err(Cause::plain)?;
    if let Some(size) = size {
        output.reserve(size).map_err(Cause::plain)?;
    }
    let begin = Instant::now();
    let bars = Bars::new(ui);
    let bar = bars.bar(&name(common.output), size);
    let mut at = 0_u64;
    let mut broken = None;
    let mut sink = |piece: &[u8]| {
        output
            .file()
            .write_all_at(piece, at)
            .inspect_err(|error| broken = Some(errno_text(error)))?;
        let count = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        at = at.saturating_add(count);
        bar.advance(count);
        Ok(())
    };
    let len = save(&mut sink).map_err(|error| match broken {
        Some(reason) => Cause::plain(format!("write {}: {reason}", common.output.display())),
        None => failed(error),
    })?;
    drop(bar);
    if !bars.is_shown() {
        ui.info(format_args!(
            "Downloaded {len} bytes in {:.1}s",
            begin.elapsed().as_secs_f64()
        ));
    }
    output.set_len(len).map_err(Cause::plain)?;
    super::require_sif(&output)?;
    let verdict = common.judge(ui, &output, None)?;
    output.publish().map_err(Cause::plain)?;
    Ok(Outcome {
        size: len,
        verdict,
        image: None,
    })
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
