//! `sif export`, `sif import-layout`: an OCI-SIF as an image layout, and back.

use super::Failure;
use crate::cli::{Cause, Error, usage, with_image};
use crate::digest::Digest;
use crate::disk::layout::{self, Layout};
use crate::disk::sif_file::{self, Access, SifFile, Source};
use crate::oci::layout as plan;
use crate::oci::ocisif::OciSif;
use crate::oci::update;
use crate::sif::edit::{self, Content, Edit, NewObject, Patch};
use crate::sif::types::{DataType, GroupId};
use crate::sif::{Extra, Header, Image, Place, UNSET_TIME};
use crate::ui::Ui;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Free descriptors of a new image, as SingularityCE leaves them.
const SPARE: usize = 8;

/// Layers that SingularityCE can mount.
const SQUASHFS: &str = "application/vnd.sylabs.image.layer.v1.squashfs";

/// Write an OCI-SIF as an OCI image layout
///
/// The folder gets everything that the index of the file leads to, image,
/// signatures and attestations, such that 'cosign verify --local-image' works
/// on it. Every blob is checked on its way.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif export --oci-layout <folder> <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif export --oci-layout layout image.oci.sif\n  \
                  $ cosign verify --key release.pub --insecure-ignore-tlog --local-image layout"
)]
pub(super) struct ExportArgs {
    /// the folder to make, or an empty one
    #[arg(long, value_name = "folder", required = true)]
    oci_layout: PathBuf,
    /// path of the image
    #[arg(value_name = "sif_path")]
    args: Vec<OsString>,
}

/// Make an OCI-SIF of an OCI image layout
///
/// The file gets everything that the index of the folder leads to, and bundles
/// that are about it. Every blob is checked on its way.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif import-layout <folder> <sif_path>",
    after_help = "Examples:\n  \
                  $ cosign save --dir layout registry.example.org/image@sha256:...\n  \
                  $ sigsif sif import-layout layout image.oci.sif"
)]
pub(super) struct ImportArgs {
    /// the folder, and path of the new image
    #[arg(value_name = "folder> <sif_path")]
    args: Vec<OsString>,
}

pub(super) fn export(ui: &Ui, args: &ExportArgs) -> Result<(), Error> {
    let words = ["sif", "export"];
    usage::exactly(&words, 1, &args.args)?;
    let path = PathBuf::from(args.args.first().cloned().unwrap_or_default());
    let done = with_image(&path, Access::Read, |file, image| {
        export_image(ui, &args.oci_layout, file, image)
    });
    done.and_then(|done| done)
        .map_err(|cause| Failure::Cause(cause).told(&words))
}

fn export_image(ui: &Ui, folder: &Path, file: &SifFile, image: &Image<'_>) -> Result<(), Cause> {
    image.require_sound()?;
    let oci = OciSif::new(image).map_err(Cause::plain)?;
    let export = plan::export(&oci).map_err(Cause::plain)?;
    let mut ranges = Vec::new();
    for digest in export.blobs {
        let object = oci.blob(&digest).and_then(|at| image.objects().get(at));
        if let Some(Place::Inside(range)) = object.map(|object| image.place(object)) {
            ranges.push((digest, range));
        }
    }
    layout::write(folder, &export.index, file, &ranges).map_err(Cause::plain)?;
    ui.info(format_args!(
        "{} blobs written to '{}'",
        ranges.len(),
        folder.display()
    ));
    Ok(())
}

pub(super) fn import(ui: &Ui, args: &ImportArgs) -> Result<(), Error> {
    let words = ["sif", "import-layout"];
    usage::exactly(&words, 2, &args.args)?;
    let [folder, path] = args.args.as_slice() else {
        return Ok(());
    };
    import_layout(ui, Path::new(folder), Path::new(path))
        .map_err(|cause| Failure::Cause(cause).told(&words))
}

fn import_layout(ui: &Ui, folder: &Path, path: &Path) -> Result<(), Cause> {
    let layout = Layout::open(folder).map_err(Cause::plain)?;
    let index = layout.index().map_err(Cause::plain)?;
    let files = layout.digests().map_err(Cause::plain)?;
    let mut fetch = |digest: &Digest| match layout.small_blob(digest) {
        Err(layout::Error::TooLarge(_)) => Ok(None),
        other => other.map_err(|error| error.to_string()),
    };
    let import = plan::import(&index, &files, &mut fetch).map_err(Cause::plain)?;
    let capacity = import.blobs.len().saturating_add(1).saturating_add(SPARE);
    let header = Header::empty([0; 16], UNSET_TIME, capacity);
    let filled = sif_file::create_filled(path, &header, |file| fill(file, &layout, &import));
    filled.map_err(|failure| match failure {
        Fill::File(sif_file::Error::Open { source, .. })
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            Cause::plain(format!(
                "file exists, will not overwrite: {}",
                path.display()
            ))
        }
        other => Cause::plain(other),
    })?;
    if import.unnamed > 0 {
        ui.info(format_args!(
            "{} blobs of the layout are named by nothing and were left out",
            import.unnamed
        ));
    }
    let of_layers = |blob: &&crate::oci::manifest::ContentDescriptor| {
        blob.media_type.contains("layer") && blob.media_type != SQUASHFS
    };
    if import.blobs.iter().any(|blob| of_layers(&blob)) {
        ui.info("the layers are no squashfs: SingularityCE verifies and pushes the file, but cannot run it");
    }
    Ok(())
}

/// Why the file could not be filled.
#[derive(Debug, thiserror::Error)]
enum Fill {
    #[error(transparent)]
    File(#[from] sif_file::Error),
    #[error(transparent)]
    Image(#[from] crate::sif::Error),
    #[error(transparent)]
    Edit(#[from] edit::Error),
    #[error(transparent)]
    Layout(#[from] layout::Error),
    #[error(transparent)]
    Plan(#[from] plan::Error),
}

fn fill(file: &SifFile, layout: &Layout, import: &plan::Import) -> Result<Patch, Fill> {
    let image = file.image()?;
    let mut edit = Edit::new(&image, UNSET_TIME);
    for blob in &import.blobs {
        let missing = || plan::Error::Missing(blob.digest.clone());
        let opened = layout.open_blob(&blob.digest)?.ok_or_else(missing)?;
        let path = layout.path(&blob.digest);
        let mut source = Source::from_file(&path, opened)?;
        if source.len() != Some(blob.size) {
            return Err(Fill::Plan(plan::Error::Size {
                digest: blob.digest.clone(),
                expected: blob.size,
                found: source
                    .len()
                    .and_then(|len| usize::try_from(len).ok())
                    .unwrap_or_default(),
            }));
        }
        let at = edit.next_offset(0)?;
        let spooled = file.spool(at, &mut source, true, &mut |_| ())?;
        let found = spooled.digest.ok_or_else(missing)?;
        if found != blob.digest {
            return Err(Fill::Layout(layout::Error::Mismatch {
                path,
                expected: blob.digest.clone(),
                found,
            }));
        }
        edit.add(NewObject {
            group: GroupId::new(1),
            extra: Extra::OciDigest(blob.digest.clone()),
            ..NewObject::new(DataType::OciBlob, Content::Spooled { len: spooled.len })
        })?;
    }
    edit.add(update::root_index(import.index.clone()))?;
    Ok(edit.plan()?)
}
