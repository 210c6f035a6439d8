//! Images in OCI image layouts: open the folder, hash the image, judge what is beside it.

use super::super::{Cause, threads};
use crate::digest::Digest;
use crate::disk::layout::Layout;
use crate::oci::layout_view::OciLayout;
use crate::report::CosignReport;
use crate::ui::Ui;
use crate::verify::cosign::{Choice, Request};
use crate::verify::layout::{self, Checked};
use std::path::Path;

/// Opens a layout and hashes its image; then `judge` gets the image, the blobs
/// that may be documents, and the folder.
pub(in super::super) fn look<T>(
    ui: &Ui,
    folder: &Path,
    choice: &Choice,
    judge: impl FnOnce(&Checked<'_, '_>, &[Digest], &Layout) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let files = Layout::open(folder).map_err(unreadable)?;
    let index = files.index().map_err(unreadable)?;
    let get = |digest: &Digest, limit: usize| {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        files.blob(digest, limit).map_err(|error| error.to_string())
    };
    let oci = OciLayout::new(&index, &get)
        .map_err(|error| Cause::plain(format!("while fetching image from OCI layout: {error}")))?;
    let hash = |blobs: &[(Digest, u64)]| {
        ui.info(format_args!(
            "Verifying digests for {} OCI Blobs",
            blobs.len()
        ));
        let checked = files.check(blobs, threads());
        checked.map_err(|error| error.to_string())
    };
    let image = layout::check(&oci, choice, hash).map_err(Cause::plain)?;
    let documents = files.documents().map_err(unreadable)?;
    judge(&image, &documents, &files)
}

fn unreadable(error: impl std::fmt::Display) -> Cause {
    Cause::plain(format!("while checking OCI layout: {error}"))
}

/// Judges the signatures; with `strict` also gives the reason why something in
/// the folder is not covered.
pub(super) fn signatures(
    ui: &Ui,
    folder: &Path,
    choice: &Choice,
    request: &Request<'_>,
) -> Result<(CosignReport, Option<String>), Cause> {
    look(ui, folder, choice, |image, documents, files| {
        let report = image.judge(documents, request).map_err(Cause::plain)?;
        let refusal = match request.strict {
            true => {
                let blobs = files.blobs().map_err(unreadable)?;
                image.uncovered(&report, documents, &blobs)
            }
            false => None,
        };
        Ok((report, refusal))
    })
}
