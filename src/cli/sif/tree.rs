//! `sif tree`: index, images, layers, signatures of an OCI-SIF.

use super::super::public_key;
use super::super::{self as cli, Cause, Error, usage};
use super::Failure;
use crate::digest::Digest;
use crate::disk::sif_file::Access;
use crate::key::pem::PublicKey;
use crate::oci::ocisif::OciSif;
use crate::oci::tree::{self, Node, Role};
use crate::payload::intoto;
use crate::payload::simple::{MAX_PAYLOAD, SimpleSigning};
use crate::sif::Image;
use crate::signer::dsse;
use crate::ui::tree::{Item, json, text};
use crate::verify::attestation::MAX_ENVELOPE;
use crate::verify::cosign::{MAX_PAYLOADS, SIGNATURE_ANNOTATION, decode_signature};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Draw what an OCI-SIF holds: index, images, layers, signatures
///
/// With --key, signatures and attestations that the key made are marked. The
/// mark is about the signature alone; 'verify --cosign' judges the image.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif tree [options] <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif tree image.oci.sif\n  \
                  $ sigsif sif tree --key cosign.pub image.oci.sif"
)]
pub(super) struct Args {
    /// path to a public key file (PEM); may be given again
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Vec<PathBuf>,
    /// print the tree as JSON
    #[arg(short, long)]
    json: bool,
    /// path of the image
    #[arg(value_name = "sif_path")]
    args: Vec<OsString>,
}

const PATH: [&str; 2] = ["sif", "tree"];

/// Characters of a claim that are shown: one large payload may be named thousands of times.
const LONGEST: usize = 500;

pub(super) fn run(args: &Args) -> Result<(), Error> {
    usage::exactly(&PATH, 1, &args.args)?;
    let path = args.args.first().map(Path::new).unwrap_or(Path::new(""));
    let keys: Vec<_> = args
        .key
        .iter()
        .map(|key| public_key::load(key))
        .collect::<Result<_, _>>()?;
    let drawn = cli::with_image(path, Access::Read, |_, image| {
        let item = draw(image, &keys);
        image.still_there()?;
        item
    });
    let root = match drawn {
        Ok(Ok(root)) => root,
        Ok(Err(cause)) | Err(cause) => return Err(Failure::Cause(cause).told(&PATH)),
    };
    let name = path.to_string_lossy();
    cli::print(match args.json {
        true => json(&name, &root),
        false => text(&name, &root),
    })
}

fn draw(image: &Image<'_>, keys: &[PublicKey]) -> Result<Item, Cause> {
    let oci = OciSif::with_any_root(image).map_err(Cause::plain)?;
    let mut tree = tree::of(&oci).map_err(Cause::plain)?;
    if let Err(error) = OciSif::new(image) {
        tree.fault = Some(error.to_string());
    }
    let mut looker = Looker {
        oci: &oci,
        keys,
        payloads: HashMap::new(),
        attestations: HashMap::new(),
        tries: dsse::Tries::default(),
        spent: 0,
    };
    Ok(looker.item(tree))
}

/// Payloads of signatures and what they claim, or why they cannot be read.
type Payloads<'a> = HashMap<Digest, Result<(&'a [u8], String), String>>;

/// What was looked at. Everything may be named many times.
struct Looker<'o, 'i, 'a> {
    oci: &'o OciSif<'i, 'a>,
    keys: &'o [PublicKey],
    payloads: Payloads<'a>,
    /// The key behind each attestation, by its place, or why it cannot be read.
    attestations: HashMap<Digest, Result<Option<usize>, String>>,
    tries: dsse::Tries,
    /// Bytes of payloads that were verified.
    spent: usize,
}

impl Looker<'_, '_, '_> {
    fn item(&mut self, node: Node) -> Item {
        let mut note = node
            .subject
            .as_ref()
            .map(|subject| format!("for {subject}"));
        let mut fault = node.fault.clone();
        let mut verified = None;
        if let (Role::Signature | Role::Attestation, Some(_)) = (node.role, node.object) {
            match self.told(&node) {
                Ok((text, by)) => {
                    note = Some(text);
                    verified = (!self.keys.is_empty()).then_some(by);
                }
                Err(reason) => fault = fault.or(Some(reason)),
            }
        }
        Item {
            role: node.role.name(),
            digest: node.digest.to_string(),
            size: node.size,
            media_type: node.media_type,
            name: node.name,
            platform: node.platform,
            object: node.object,
            note,
            verified,
            fault,
            children: node
                .children
                .into_iter()
                .map(|child| self.item(child))
                .collect(),
        }
    }

    /// What a signature or an attestation claims, and whether a key made it.
    fn told(&mut self, node: &Node) -> Result<(String, bool), String> {
        let (claim, by) = match node.role {
            Role::Signature => self.signature(node)?,
            _ => {
                let kind = node.annotations.get("predicateType");
                let by = self.attestation(node)?;
                (short(kind.cloned().unwrap_or_default()), by)
            }
        };
        let by = by.and_then(|at| self.keys.get(at));
        let who = match (by, self.keys.is_empty()) {
            (Some(key), _) => format!("made by {} {}", key.algorithm(), key.ssh_fingerprint()),
            (None, false) => "made by none of the keys".to_owned(),
            (None, true) => "signer not checked".to_owned(),
        };
        let claim = if claim.is_empty() {
            claim
        } else {
            format!(", claims: {claim}")
        };
        Ok((format!("{who}{claim}"), by.is_some()))
    }

    fn signature(&mut self, node: &Node) -> Result<(String, Option<usize>), String> {
        let oci = self.oci;
        let known = self.payloads.entry(node.digest.clone());
        let known = known.or_insert_with(|| {
            let bytes = oci.blob_bytes(&node.digest, MAX_PAYLOAD);
            let bytes = bytes.map_err(|error| error.to_string())?;
            let payload = SimpleSigning::parse(bytes).map_err(|error| error.to_string())?;
            Ok((bytes, short(claims(&payload))))
        });
        let (bytes, claim) = known.clone()?;
        let text = node.annotations.get(SIGNATURE_ANNOTATION);
        let signature = text.and_then(|text| decode_signature(text).ok());
        let (Some(signature), false) = (signature, self.keys.is_empty()) else {
            return Ok((claim, None));
        };
        if self.spent > MAX_PAYLOADS {
            return Err(format!(
                "the payloads in front of it have more than {MAX_PAYLOADS} bytes"
            ));
        }
        self.spent = self.spent.saturating_add(bytes.len());
        let mut keys = self.keys.iter();
        let by = keys.position(|key| key.verify_cosign(bytes, &signature).is_some());
        Ok((claim, by))
    }

    fn attestation(&mut self, node: &Node) -> Result<Option<usize>, String> {
        let (oci, keys, tries) = (self.oci, self.keys, &self.tries);
        let known = self.attestations.entry(node.digest.clone());
        let known = known.or_insert_with(|| {
            let bytes = oci.blob_bytes(&node.digest, MAX_ENVELOPE);
            let bytes = bytes.map_err(|error| error.to_string())?;
            let by = Cell::new(None);
            let accepts = |message: &[u8], signature: &[u8]| {
                let holds = |key: &PublicKey| key.verify_cosign(message, signature).is_some();
                by.set(keys.iter().position(holds));
                by.get().is_some()
            };
            if keys.is_empty() {
                return Ok(None);
            }
            match dsse::open_from_cosign(bytes, intoto::PAYLOAD_TYPE, tries, accepts) {
                Err(error @ dsse::Error::TooManyTries) => Err(error.to_string()),
                Ok(_) => Ok(by.get()),
                Err(_) => Ok(None),
            }
        });
        known.clone()
    }
}

fn short(claim: String) -> String {
    match claim.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", claim.get(..end).unwrap_or_default()),
        None => claim,
    }
}

fn claims(payload: &SimpleSigning) -> String {
    let mut claims = Vec::new();
    if !payload.reference.is_empty() {
        claims.push(payload.reference.clone());
    }
    for (name, value) in payload.optional.iter().flatten() {
        let value = match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        claims.push(format!("{name}={value}"));
    }
    claims.join(" ")
}
