//! `sif list --coverage`: which bytes are signed by whom.

use super::super::verify::load_keyrings;
use super::super::{self as cli, Error, public_key, usage};
use super::Failure;
use crate::coverage::{Coverage, Evidence};
use crate::disk::sif_file::Access;
use crate::policy::Demands;
use crate::report::{SignatureReport, Signer};
use crate::scope::Selection;
use crate::sif::{Descriptor, Image};
use crate::signer::{dsse, pgp};
use crate::ui::coverage::{Claimant, Standing, bar, width};
use crate::ui::{Ui, one_line};
use crate::verify::{self, KeyMaterial, Request};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Keys that make a claim a fact.
#[derive(clap::Args)]
pub(super) struct Keys {
    /// with --coverage: public key file (PEM) to verify signatures with
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Option<PathBuf>,
    /// with --coverage: path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
}

const PATH: [&str; 2] = ["sif", "list"];

impl Keys {
    /// Keys mean nothing to the plain list.
    pub(super) fn require_none(&self) -> Result<(), Error> {
        if self.key.is_some() || self.keysdir.is_some() {
            let text = "--key and --keysdir need --coverage";
            return Err(usage::bad_flags(&PATH, text));
        }
        Ok(())
    }
}

pub(super) fn run(ui: &Ui, keys: Keys, args: &[OsString]) -> Result<(), Error> {
    usage::exactly(&PATH, 1, args)?;
    let path = args.first().map(Path::new).unwrap_or(Path::new(""));
    let material = material(ui, keys)?;
    let drawn = cli::with_image(path, Access::Read, |_, image| {
        let drawn = draw(ui, image, &material);
        super::tell_faults(ui, image);
        image.still_there()?;
        Ok::<_, crate::sif::Error>(drawn)
    });
    let told = |cause| Failure::Cause(cause).told(&PATH);
    let drawn = drawn.map_err(told)?.map_err(|e| told(e.into()))?;
    cli::print(drawn)
}

/// The keyrings, if they can be read, and the key that was named.
fn material(ui: &Ui, keys: Keys) -> Result<KeyMaterial, Error> {
    let mut material = match load_keyrings(ui, keys.keysdir) {
        Ok(keyrings) => KeyMaterial::of_keyrings(keyrings),
        Err(error) => {
            ui.warning(error);
            KeyMaterial::default()
        }
    };
    if let Some(key) = keys.key {
        material.keys.push(public_key::load(&key)?.into());
    }
    Ok(material)
}

fn draw(ui: &Ui, image: &Image<'_>, material: &KeyMaterial) -> String {
    let request = Request {
        selection: Selection::default(),
        demands: Demands::default(),
        examine_all: true,
        now: u64::try_from(cli::wall_clock()).unwrap_or_default(),
        threads: cli::threads(),
    };
    // A malformed image has claims as well, but proves nothing.
    let report = verify::native(image, material, &request).unwrap_or_default();
    let mut evidence = Evidence::proved(&report);
    let mut reports = HashMap::<u32, Vec<&SignatureReport>>::new();
    for signature in &report.signatures {
        reports.entry(signature.object).or_default().push(signature);
    }
    let mut claimants = Vec::new();
    for object in image.signatures() {
        let reports = reports.get(&object.raw_id()).map_or(&[][..], Vec::as_slice);
        if let Some(signature) = reports.iter().find(|s| s.failure.is_none()) {
            claimants.push(Claimant {
                object: object.raw_id(),
                standing: Standing::Verified,
                text: signer(signature),
            });
            continue;
        }
        let refused = refusal(image, object, material, reports);
        let (standing, text) = match refused {
            Some(reason) => (Standing::Refused, reason),
            None if evidence.is_full() => (
                Standing::Refused,
                "not looked at: the others claim too much".to_owned(),
            ),
            None if evidence.claim(image, object) => (Standing::Claimed, claim(image, object)),
            None => (
                Standing::Refused,
                "says nothing about this image".to_owned(),
            ),
        };
        claimants.push(Claimant {
            object: object.raw_id(),
            standing,
            text,
        });
    }
    let coverage = Coverage::of(image, &evidence);
    bar(&coverage, &claimants, width(), ui.color_tags())
}

/// Why a signature does not count although there is a key for it.
fn refusal(
    image: &Image<'_>,
    object: &Descriptor,
    material: &KeyMaterial,
    reports: &[&SignatureReport],
) -> Option<String> {
    let data = image.signature_data(object).unwrap_or_default();
    let rings = || material.keyrings.iter().flatten();
    let in_keyring = pgp::issuers(data)
        .iter()
        .any(|id| rings().any(|(_, ring)| ring.signing_keys(*id).next().is_some()));
    let ids = dsse::entries(data).unwrap_or_default();
    let mut keys = material.keys.iter();
    if !in_keyring && !keys.any(|trusted| ids.contains(&trusted.key.ssh_fingerprint())) {
        return None;
    }
    let failure = reports
        .iter()
        .filter_map(|s| s.failure.as_ref())
        .find(|failure| failure.is_about_content());
    failure.map(ToString::to_string)
}

/// Who made a signature that was verified.
fn signer(signature: &SignatureReport) -> String {
    match &signature.signer {
        Some(Signer::Pgp(signer)) => {
            let user = signer.user_id.as_deref().unwrap_or("no user id");
            format!("PGP {} {user}", signer.fingerprint)
        }
        Some(Signer::Keys(keys)) => {
            let keys = keys.iter().map(|k| format!("{} {}", k.algorithm, k.key_id));
            keys.collect::<Vec<_>>().join(", ")
        }
        None => String::new(),
    }
}

/// Who a signature says to be by.
fn claim(image: &Image<'_>, object: &Descriptor) -> String {
    let data = image.signature_data(object).unwrap_or_default();
    let by = match dsse::entries(data) {
        Ok(ids) => format!("DSSE {}", ids.join(", ")),
        Err(_) => match object.signature_fingerprint() {
            Some(fingerprint) => format!("PGP {}", hex::encode_upper(fingerprint)),
            None => "PGP".to_owned(),
        },
    };
    one_line(&format!("{by}, no key at hand"))
}
