//! `sif list --coverage`: which bytes are signed by whom.

use super::super::{self as cli, Error, usage, verify as verify_command};
use super::Failure;
use crate::coverage::{Coverage, Evidence};
use crate::disk::sif_file::Access;
use crate::report::{Report, SignatureReport, Signer};
use crate::scope::Selection;
use crate::sif::{Descriptor, Image};
use crate::signer::{dsse, pgp};
use crate::ui::coverage::{Claimant, Standing, bar, width};
use crate::ui::{Ui, one_line};
use crate::verify::{self, KeyMaterial, Request};
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
    let materials = materials(ui, keys)?;
    let drawn = cli::with_image(path, Access::Read, |_, image| {
        let drawn = draw(ui, image, &materials);
        super::tell_faults(ui, image);
        image.still_there()?;
        Ok::<_, crate::sif::Error>(drawn)
    });
    let told = |cause| Failure::Cause(cause).told(&PATH);
    let drawn = drawn.map_err(told)?.map_err(|e| told(e.into()))?;
    cli::print(drawn)
}

/// The keyrings, if they can be read, and the key that was named.
fn materials(ui: &Ui, keys: Keys) -> Result<Vec<KeyMaterial>, Error> {
    let mut materials = Vec::new();
    match verify_command::load_keyrings(ui, keys.keysdir) {
        Ok(keyrings) => materials.push(keyrings),
        Err(error) => ui.warning(error),
    }
    if let Some(key) = keys.key {
        materials.push(verify_command::load_public_key(&key)?);
    }
    Ok(materials)
}

fn draw(ui: &Ui, image: &Image<'_>, materials: &[KeyMaterial]) -> String {
    let request = Request {
        selection: Selection::default(),
        examine_all: true,
        now: u64::try_from(cli::wall_clock()).unwrap_or_default(),
        threads: cli::threads(),
    };
    // A malformed image has claims as well, but proves nothing.
    let reports: Vec<_> = materials
        .iter()
        .filter_map(|material| verify::native(image, material, &request).ok())
        .collect();
    let valid = Report::default();
    let valid = reports.iter().fold(valid, |mut all, report| {
        let holds = |s: &&SignatureReport| s.failure.is_none();
        let signatures = report.signatures.iter().filter(holds).cloned();
        signatures.for_each(|signature| all.push(signature));
        all
    });
    let mut evidence = Evidence::proved(&valid);
    let mut claimants = Vec::new();
    for object in image.signatures() {
        let is_this = |s: &&SignatureReport| s.object == object.raw_id();
        if let Some(signature) = valid.signatures.iter().find(is_this) {
            claimants.push(Claimant {
                object: object.raw_id(),
                standing: Standing::Verified,
                text: signer(signature),
            });
            continue;
        }
        let refused = refusal(image, object, materials, &reports);
        let (standing, text) = match refused {
            Some(reason) => (Standing::Refused, reason),
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
    materials: &[KeyMaterial],
    reports: &[Report],
) -> Option<String> {
    let data = image.signature_data(object).unwrap_or_default();
    let known = |material: &KeyMaterial| match material {
        KeyMaterial::Keyrings(rings) => pgp::issuers(data).iter().any(|id| {
            rings
                .iter()
                .any(|(_, ring)| ring.signing_keys(*id).next().is_some())
        }),
        KeyMaterial::PublicKeys(keys) => {
            let ids = dsse::entries(data).unwrap_or_default();
            keys.iter()
                .any(|trusted| ids.contains(&trusted.key.ssh_fingerprint()))
        }
    };
    if !materials.iter().any(known) {
        return None;
    }
    let mut signatures = reports.iter().flat_map(|report| &report.signatures);
    let failure = signatures
        .find(|s| {
            s.object == object.raw_id() && s.failure.as_ref().is_some_and(|f| f.is_about_content())
        })
        .and_then(|s| s.failure.as_ref());
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
