//! `sign --cosign docker://`: sign an image that stays in its registry.

use crate::cli::transfer::artifacts::Role;
use crate::cli::transfer::merge::{self, Addition, Failure};
use crate::cli::transfer::{RegistryArgs, hint, parse_reference};
use crate::cli::{Cause, Error};
use crate::key::pem::PrivateKey;
use crate::net::registry::{Access, Error as RegistryError, Session};
use crate::oci::manifest::Kind;
use crate::oci::reference::Reference;
use crate::sign::cosign::{Claim, new_layer};
use crate::ui::{Ui, one_line};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is before a reference of a registry.
pub(super) const SCHEME: &str = "docker://";

/// What the signature states beside the digest.
pub(super) struct Statement<'a> {
    /// The name of the image; none is that of the reference.
    pub(super) reference: Option<&'a str>,
    /// The free members.
    pub(super) optional: &'a BTreeMap<String, Value>,
}

/// Adds a signature to those that the registry has of an image; `uri` begins with [`SCHEME`].
///
/// # Errors
/// With the signatures of the registry as they were.
pub(super) fn sign(
    ui: &Ui,
    args: &RegistryArgs,
    uri: &str,
    key: &PrivateKey,
    statement: &Statement<'_>,
) -> Result<(), Error> {
    let text = uri.strip_prefix(SCHEME).unwrap_or(uri);
    let reference = parse_reference(text).map_err(Error::fatal)?;
    let connection = args.connect()?;
    let session = connection.session(ui, &reference, Access::Push)?;
    add(ui, &session, &reference, key, statement).map_err(|cause| cause.fatal(""))
}

fn add(
    ui: &Ui,
    session: &Session<'_>,
    reference: &Reference,
    key: &PrivateKey,
    statement: &Statement<'_>,
) -> Result<(), Cause> {
    let image = session
        .manifest(&reference.identifier())
        .map_err(failed)?
        .ok_or_else(|| Cause::plain(format!("{reference}: no such image in the registry")))?;
    if Kind::of(&image.media_type) == Kind::Other {
        return Err(Cause::plain(format!(
            "{reference}: media type {:?} is neither an image nor an index",
            one_line(&image.media_type)
        )));
    }
    if reference.digest.is_none() {
        ui.info(format_args!("{reference} is {} now", image.digest));
    }
    let name = format!("{}/{}", reference.registry, reference.repository);
    let claim = Claim::Signature {
        reference: statement.reference.unwrap_or(&name),
        optional: statement.optional,
    };
    let (layer, _) = new_layer(key, &image.digest, &claim).map_err(Cause::plain)?;
    let layers = || vec![layer.clone()];
    let addition = Addition::Layers(&layers);
    let merged =
        merge::add(session, &image.digest, Role::Signatures, &addition).map_err(|failure| {
            match failure {
                Failure::Registry(error) => failed(error),
                other => Cause::plain(one_line(&other.to_string())),
            }
        })?;
    ui.info(format_args!("Signature of {} added", image.digest));
    if merged.before > 0 {
        ui.info(format_args!(
            "The registry had {} signatures of it, which stay",
            merged.before
        ));
    }
    Ok(())
}

fn failed(error: RegistryError) -> Cause {
    Cause {
        detail: hint(&error),
        text: one_line(&error.to_string()),
    }
}
