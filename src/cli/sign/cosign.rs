//! `sign --cosign`: sign an image of an OCI-SIF in the manner of cosign.

use crate::cli::oci::Which;
use crate::cli::transfer::sign::Statement;
use crate::cli::{self, Error, oci, private_key, transfer, usage};
use crate::net::http::user_agent;
use crate::sign::cosign::{Claim, Request};
use crate::ui::Ui;
use crate::ui::prompt::Console;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Names in the payload that other flags set.
const TAKEN: [(&str, &str); 2] = [("creator", "--creator"), ("timestamp", "SOURCE_DATE_EPOCH")];

/// Flags of `--cosign` alone.
#[derive(clap::Args)]
pub(super) struct CosignArgs {
    /// sign an OCI-SIF image with a sigstore/cosign compatible signature
    #[arg(short, long)]
    pub(super) cosign: bool,
    /// text that the signature states about the image; may be repeated (with --cosign)
    #[arg(long, value_name = "key=value", value_parser = annotation, allow_hyphen_values = true)]
    annotation: Vec<(String, String)>,
    /// name of the image in a registry, stated by the signature (with --cosign)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    reference: Option<String>,
    /// program that signs, stated by the signature; empty for none (with --cosign)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    creator: Option<String>,
    /// also sign every image of an index (with --cosign)
    #[arg(short = 'r', long)]
    recursive: bool,
    #[command(flatten)]
    which: Which,
}

impl CosignArgs {
    /// Fails if a flag was given that native signatures do not have.
    pub(super) fn require_none(&self) -> Result<(), Error> {
        let given = [
            ((!self.annotation.is_empty()), "annotation"),
            (self.reference.is_some(), "reference"),
            (self.creator.is_some(), "creator"),
            (self.recursive, "recursive"),
        ];
        let flag = given
            .into_iter()
            .find_map(|(given, name)| given.then_some(name));
        match flag.or(self.which.given()) {
            None => Ok(()),
            Some(name) => {
                let text = format!("--{name} needs --cosign");
                Err(usage::bad_flags(&["sign"], &text))
            }
        }
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None => Err("must be key=value".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
    }
}

pub(super) fn run(
    ui: &Ui,
    args: &super::Args,
    key: Option<&Path>,
    path: &Path,
) -> Result<(), Error> {
    let key = require_flags(args, key)?;
    let now = cli::signing_time()?;
    let optional = optional(&args.cosign, now)?;
    ui.info(format_args!(
        "Sigstore/cosign compatible signature, using key material from '{}'",
        key.display()
    ));
    let uri = path
        .to_str()
        .filter(|uri| uri.starts_with(transfer::SCHEME));
    match uri {
        Some(_) => require_for_registry(args)?,
        None => {
            args.registry.tell_idle(ui);
            // Faults of the file come before questions about keys.
            oci::require(path).map_err(|cause| cause.fatal(""))?;
        }
    }
    let key = private_key::load(key, &args.passphrase, &mut Console)?.key;
    if let Some(uri) = uri {
        let statement = Statement::Signature {
            reference: args.cosign.reference.as_deref(),
            optional: &optional,
        };
        return transfer::sign::sign(ui, &args.registry, uri, &key, &statement);
    }
    let request = Request {
        choice: &args.cosign.which.choice(),
        recursive: args.cosign.recursive,
        claim: &Claim::Signature {
            reference: args.cosign.reference.as_deref().unwrap_or_default(),
            optional: &optional,
        },
        threads: cli::threads(),
    };
    oci::sign(ui, path, args.no_wait, &key, &request, now)
}

/// A reference says which image is meant.
fn require_for_registry(args: &super::Args) -> Result<(), Error> {
    args.cosign
        .which
        .require_none_for_registry(args.cosign.recursive, args.no_wait)
}

/// In the order and the words of the originals.
fn require_flags<'k>(args: &super::Args, key: Option<&'k Path>) -> Result<&'k Path, Error> {
    let key = key.ok_or_else(|| {
        Error::fatal("--cosign signatures require a private --key to be specified")
    })?;
    let of_keyring = [
        (args.keyidx.is_some_and(|index| index != 0), "keyidx"),
        (args.keysdir.is_some(), "keysdir"),
    ];
    if let Some((_, name)) = of_keyring.into_iter().find(|(given, _)| *given) {
        return Err(Error::fatal(format!(
            "--{name} not supported: --cosign signatures use a private --key, not the PGP keyring"
        )));
    }
    let objects = [args.group_id, args.groupid, args.sif_id, args.id];
    let named = objects.into_iter().flatten().any(|id| id != 0);
    if args.all == Some(true) || named {
        return Err(Error::fatal(
            "--cosign signatures sign an OCI image, specifying SIF descriptors / groups is not supported",
        ));
    }
    Ok(key)
}

/// The free members of the payload.
fn optional(args: &CosignArgs, now: i64) -> Result<BTreeMap<String, Value>, Error> {
    let mut optional = BTreeMap::new();
    for (name, value) in &args.annotation {
        if let Some((_, by)) = TAKEN.iter().find(|(taken, _)| taken == name) {
            let text = format!("the annotation {name:?} is set by {by}");
            return Err(usage::bad_flags(&["sign"], &text));
        }
        if optional
            .insert(name.clone(), Value::from(value.as_str()))
            .is_some()
        {
            let text = format!("the annotation {name:?} is given twice");
            return Err(usage::bad_flags(&["sign"], &text));
        }
    }
    let creator = match &args.creator {
        Some(creator) => creator.clone(),
        None => user_agent(),
    };
    if !creator.is_empty() {
        optional.insert("creator".to_owned(), Value::from(creator));
    }
    optional.insert("timestamp".to_owned(), Value::from(now));
    Ok(optional)
}
