//! What commands on OCI images share: choosing one, opening, storing.

use super::program::call;
use super::verify::cosign::look;
use super::{Cause, Error};
use crate::disk::sif_file::Access;
use crate::key::pem::PrivateKey;
use crate::oci::manifest::{Platform, parse_digest};
use crate::oci::ocisif::{self, OciSif};
use crate::oci::select::Choice;
use crate::oci::update;
use crate::sign::cosign::{self, Claim, Request};
use crate::ui::Ui;
use std::path::Path;

/// How the originals begin the sentence about a file that is no OCI-SIF.
const NOT: &str = "image is not";

/// Flags that name one of several images.
#[derive(clap::Args)]
pub(super) struct Which {
    /// the image for a platform (os/architecture[/variant])
    #[arg(long, value_name = "string", value_parser = platform, conflicts_with = "digest")]
    platform: Option<Platform>,
    /// the image or index with a digest (sha256:...)
    #[arg(long, value_name = "string", value_parser = digest)]
    digest: Option<crate::digest::Digest>,
}

impl Which {
    pub(super) fn choice(&self) -> Choice {
        match (&self.platform, &self.digest) {
            (Some(platform), _) => Choice::Platform(platform.clone()),
            (None, Some(digest)) => Choice::Digest(digest.clone()),
            (None, None) => Choice::Main,
        }
    }

    pub(super) fn platform(&self) -> Option<Platform> {
        self.platform.clone()
    }

    pub(super) fn digest(&self) -> Option<crate::digest::Digest> {
        self.digest.clone()
    }

    /// A reference of a registry says which image is meant, and nobody waits for it.
    ///
    /// # Errors
    /// One of these flags was given.
    pub(super) fn require_none_for_registry(
        &self,
        recursive: bool,
        no_wait: bool,
    ) -> Result<(), Error> {
        let named = self.given().or(recursive.then_some("recursive"));
        match named.or(no_wait.then_some("no-wait")) {
            None => Ok(()),
            Some(name) => Err(Error::Fatal {
                text: format!("--{name} not supported with an image in a registry"),
                detail: Some(
                    "docker://HOST/REPOSITORY@DIGEST names an image of an index".to_owned(),
                ),
            }),
        }
    }

    /// Name of a flag that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        match (&self.platform, &self.digest) {
            (Some(_), _) => Some("platform"),
            (None, Some(_)) => Some("digest"),
            (None, None) => None,
        }
    }
}

pub(super) fn platform(text: &str) -> Result<Platform, String> {
    Platform::parse(text)
        .ok_or_else(|| "must be os/architecture or os/architecture/variant".to_owned())
}

pub(super) fn digest(text: &str) -> Result<crate::digest::Digest, String> {
    parse_digest(text).map_err(|error| error.to_string())
}

/// A fault of an OCI-SIF in the words of the originals.
pub(super) fn cause(error: ocisif::Error) -> Cause {
    Cause {
        text: format!("while fetching image from OCI-SIF: {error}"),
        detail: match &error {
            ocisif::Error::Image(error) => error.detail(),
            _ => None,
        },
    }
}

/// Fails unless a file can be changed and is an OCI-SIF.
pub(super) fn require(path: &Path) -> Result<(), Cause> {
    look(path, Access::Write, NOT, |image| {
        OciSif::new(image).map_err(cause)?;
        Ok(image.still_there()?)
    })
}

/// Signs images of an OCI-SIF and tells which.
pub(super) fn sign(
    ui: &Ui,
    path: &Path,
    no_wait: bool,
    key: &PrivateKey,
    request: &Request<'_>,
    now: i64,
) -> Result<(), Error> {
    let signed = sign_file(ui, path, no_wait, key, request, now);
    let (images, lost) = signed.map_err(|cause| cause.fatal(""))?;
    let what = match request.claim {
        Claim::Signature { .. } => "Signature",
        Claim::Attestation { .. } => "Attestation",
    };
    for (digest, is_new) in images {
        match is_new {
            true => ui.info(format_args!("{what} of {digest} added")),
            false => ui.info(format_args!(
                "{what} of {digest} by this key is there already"
            )),
        }
    }
    if lost {
        ui.warning(format_args!(
            "a signature of the SIF objects no longer holds: it covers the index that was \
             changed. Sign again with '{}'",
            call("sign")
        ));
    }
    Ok(())
}

fn sign_file(
    ui: &Ui,
    path: &Path,
    no_wait: bool,
    key: &PrivateKey,
    request: &Request<'_>,
    now: i64,
) -> Result<(Vec<(crate::digest::Digest, bool)>, bool), Cause> {
    let file = super::lock(ui, path, no_wait)?;
    let (signed, patch, lost) = {
        let image = file.image()?;
        let oci = OciSif::new(&image).map_err(cause)?;
        let mut signed = cosign::cosign(&oci, key, request).map_err(|error| match error {
            cosign::Error::Oci(error) => cause(error),
            other => Cause::plain(other),
        })?;
        image.still_there()?;
        let update = signed.update.take();
        let patch = update.map(|update| update::patch(&oci, update, now));
        let patch = patch.transpose().map_err(Cause::plain)?;
        let covers = |object: &crate::sif::Descriptor| match object.link() {
            crate::sif::Link::Group(group) => oci.root().group() == Some(group),
            crate::sif::Link::Object(id) => Some(id) == oci.root().id(),
            crate::sif::Link::None => false,
        };
        let lost = patch.is_some() && image.signatures().any(covers);
        (signed.images, patch, lost)
    };
    if let Some(patch) = patch {
        super::apply(ui, path, file, &patch)?;
    }
    Ok((signed, lost))
}
