//! `pull library://`: a SIF of a container library, or the image of layers that it is there.
//!
//! Source: spec/cli.md 9.2.

use super::super::program::call;
use super::super::transfer::library::{LibraryReference, Opened};
use super::super::{Cause, Error};
use super::direct::{self, into_file};
use super::{Common, Outcome, docker};
use crate::digest::Digest;
use crate::net::library::{self, Direct, Image, Library, SIF_CONFIG, SIF_LAYER};
use crate::net::registry::{Access, Blob, Session};
use crate::oci::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, Platform};
use crate::oci::pulled::choose;
use crate::oci::reference::Reference;
use crate::ui::{Ui, one_line};

/// Largest description of a SIF in a registry, in bytes.
const MAX_CONFIG: u64 = 64 << 20;

const PREFIX: &str = "While pulling library image: error fetching image: ";

/// Pulls an image; with `layers` only one of layers.
///
/// # Errors
/// With everything as it was before.
pub(super) fn run(
    ui: &Ui,
    opened: &Opened<'_>,
    reference: &LibraryReference,
    layers: bool,
    wanted: &docker::Wanted,
    common: Common<'_>,
) -> Result<Outcome, Error> {
    pull(ui, opened, reference, layers, wanted, common).map_err(|cause| cause.fatal(PREFIX))
}

fn pull(
    ui: &Ui,
    opened: &Opened<'_>,
    reference: &LibraryReference,
    layers: bool,
    wanted: &docker::Wanted,
    common: Common<'_>,
) -> Result<Outcome, Cause> {
    let tag = reference.tags.first().map_or("latest", String::as_str);
    let name = format!("{}:{tag}", reference.path);
    let host = super::super::verify::cosign::host();
    let platform = wanted.platform.as_ref().unwrap_or(&host);
    let library = &opened.library;
    if !layers {
        match library.image(&name, &platform.architecture) {
            Ok(Some(image)) => {
                let place = Place {
                    library,
                    name: &name,
                    platform,
                };
                return whole(ui, &place, reference, tag, &image, common);
            }
            Ok(None) => {
                return Err(Cause::plain(format!(
                    "image does not exist in the library: {name} ({})",
                    platform.architecture
                )));
            }
            Err(library::Error::Layers(_)) => ui.info(format_args!(
                "{name} is an OCI image, attempting to fetch as an OCI-SIF"
            )),
            Err(error) => return Err(failed(error)),
        }
    }
    let direct = library
        .direct(&reference.path, Access::Pull)
        .map_err(failed)?
        .ok_or_else(|| Cause::plain("the library names no registry for images of layers"))?;
    let full = match named_digest(tag) {
        Some(digest) => format!("{}/{}@{digest}", opened.host, reference.path),
        None => format!("{}/{}:{tag}", opened.host, reference.path),
    };
    let shown = Reference::parse(&full).map_err(Cause::plain)?;
    docker::pull(ui, &direct.session, &shown, wanted, common)
}

/// An image in a library.
struct Place<'a> {
    library: &'a Library<'a>,
    /// Path and tag.
    name: &'a str,
    platform: &'a Platform,
}

/// Pulls a SIF.
fn whole(
    ui: &Ui,
    place: &Place<'_>,
    reference: &LibraryReference,
    tag: &str,
    image: &Image,
    common: Common<'_>,
) -> Result<Outcome, Cause> {
    if let Some(named) = named_digest(tag)
        && image.digest().as_ref() != Some(&named)
    {
        return Err(Cause::plain(format!(
            "the reference names {named}, the library has {:?} there",
            one_line(&image.hash)
        )));
    }
    ui.info("Downloading library image");
    let direct = place
        .library
        .direct(&reference.path, Access::Pull)
        .map_err(failed)?;
    let size = Some(image.size).filter(|size| *size > 0);
    let mut outcome = match direct {
        Some(Direct { session }) => {
            let layer = layer(&session, tag, image, place.platform)?;
            let blob = Blob {
                digest: &layer.digest,
                size: layer.size,
            };
            into_file(ui, common, Some(layer.size), direct::failed, |sink| {
                session.blob(&blob, sink).map(|()| layer.size)
            })?
        }
        None => {
            if image.digest().is_none() {
                ui.warning("The library does not say what the image's SHA-256 is");
            }
            let arch = &place.platform.architecture;
            into_file(ui, common, size, failed, |sink| {
                place.library.download(place.name, arch, image, sink)
            })?
        }
    };
    outcome.image = Some(serde_json::json!({
        "hash": image.hash,
        "architecture": place.platform.architecture,
    }));
    Ok(outcome)
}

/// Finds the file in the registry behind the library: it has to be the one that the library
/// names, and for this architecture.
fn layer(
    session: &Session<'_>,
    tag: &str,
    image: &Image,
    platform: &Platform,
) -> Result<ContentDescriptor, Cause> {
    let missing = || Cause::plain("requested image was not found in the library");
    let read = |reference: &str| session.manifest(reference).map_err(direct::failed);
    let mut manifest = read(tag)?.ok_or_else(missing)?;
    if Kind::of(&manifest.media_type) == Kind::Index {
        let index = ImageIndex::parse(&manifest.bytes)
            .map_err(|error| Cause::plain(format!("index {}: {error}", manifest.digest)))?;
        let entry = choose(&index, platform).ok_or_else(missing)?;
        manifest = read(&entry.digest.to_string())?.ok_or_else(missing)?;
    }
    let parsed = ImageManifest::parse(&manifest.bytes)
        .map_err(|error| Cause::plain(format!("manifest {}: {error}", manifest.digest)))?;
    if parsed.config.media_type != SIF_CONFIG {
        return Err(Cause::plain(format!(
            "unexpected config media type {:?}",
            one_line(&parsed.config.media_type)
        )));
    }
    let [layer] = parsed.layers.as_slice() else {
        return Err(Cause::plain(format!(
            "unexpected number of layers: {}",
            parsed.layers.len()
        )));
    };
    if layer.media_type != SIF_LAYER {
        return Err(Cause::plain(format!(
            "unexpected layer media type {:?}",
            one_line(&layer.media_type)
        )));
    }
    let config = Blob {
        digest: &parsed.config.digest,
        size: parsed.config.size,
    };
    let config = session
        .small_blob(&config, MAX_CONFIG)
        .map_err(direct::failed)?;
    let found = architecture(&config);
    if found != platform.architecture {
        return Err(Cause::plain(format!(
            "unexpected image architecture: got {}, want {}",
            one_line(&found),
            platform.architecture
        )));
    }
    if let Some(expected) = image.digest().filter(|expected| *expected != layer.digest) {
        return Err(Cause::plain(format!(
            "the library names {expected}, its registry has {}",
            layer.digest
        )));
    }
    Ok(layer.clone())
}

/// The digest that a tag stands for: `sha256.<hex>`.
fn named_digest(tag: &str) -> Option<Digest> {
    Digest::parse(&tag.replacen('.', ":", 1)).ok()
}

/// The architecture that a description of a SIF names.
fn architecture(config: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        architecture: String,
    }
    let config = serde_json::from_slice::<Config>(config);
    config.map(|config| config.architecture).unwrap_or_default()
}

fn failed(error: library::Error) -> Cause {
    let detail = match &error {
        library::Error::Transfer(error) => super::super::transfer::hint(error),
        library::Error::Unauthorized => Some(format!(
            "A token for the library comes with '{}'; --library and libraries that a URI \
                 names get none",
            call("remote login")
        )),
        _ => None,
    };
    Cause {
        text: one_line(&error.to_string()),
        detail,
    }
}
