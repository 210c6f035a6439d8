//! `sign --cosign docker://` and `attest docker://`: sign an image that stays in its registry.

use super::super::{Cause, Error};
use super::artifacts::Role;
use super::merge::{self, Addition, Failure};
use super::{RegistryArgs, SCHEME, hint, parse_reference};
use crate::key::pem::PrivateKey;
use crate::net::registry::{Access, Error as RegistryError, Session};
use crate::oci::manifest::Kind;
use crate::oci::reference::Reference;
use crate::payload::intoto::PredicateType;
use crate::sign::cosign::{Claim, new_layer};
use crate::ui::{Ui, one_line};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is stated about the image.
pub(in crate::cli) enum Statement<'a> {
    /// That it is the one, beside its digest.
    Signature {
        /// The name of the image; none is that of the reference.
        reference: Option<&'a str>,
        /// The free members.
        optional: &'a BTreeMap<String, Value>,
    },
    /// A predicate.
    Attestation {
        /// The name of the image; none is that of the reference.
        reference: Option<&'a str>,
        /// Kind of predicate.
        kind: &'a PredicateType,
        /// Content of the file.
        predicate: &'a [u8],
        /// Unix seconds.
        now: i64,
    },
}

/// Adds a signature or an attestation to those that the registry has of an image; `uri` begins with [`SCHEME`].
///
/// # Errors
/// With the signatures of the registry as they were.
pub(in crate::cli) fn sign(
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
    let (claim, role, what) = match *statement {
        Statement::Signature {
            reference,
            optional,
        } => (
            Claim::Signature {
                reference: reference.unwrap_or(&name),
                optional,
            },
            Role::Signatures,
            "Signature",
        ),
        Statement::Attestation {
            reference,
            kind,
            predicate,
            now,
        } => (
            Claim::Attestation {
                kind,
                name: reference.unwrap_or(&name),
                predicate,
                now,
            },
            Role::Attestations,
            "Attestation",
        ),
    };
    let (layer, _) = new_layer(key, &image.digest, &claim).map_err(Cause::plain)?;
    let layers = || vec![layer.clone()];
    let addition = Addition::Layers(&layers);
    let merged =
        merge::add(session, &image.digest, role, &addition).map_err(|failure| match failure {
            Failure::Registry(error) => failed(error),
            other => Cause::plain(one_line(&other.to_string())),
        })?;
    let digest = &image.digest;
    if merged.added == 0 {
        ui.info(format_args!(
            "{what} of {digest} by this key is there already"
        ));
        return Ok(());
    }
    ui.info(format_args!("{what} of {digest} added"));
    if merged.before > 0 {
        ui.info(format_args!(
            "The registry had {} {}s of it, which stay",
            merged.before,
            what.to_lowercase()
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
