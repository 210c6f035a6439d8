//! `--strict` for cosign signatures: every byte of an OCI-SIF must be covered
//! by one of them, or have the only value that a writer leaves.
//!
//! A signature covers the manifest of the image, which names config and
//! layers. What nothing covers (header, table, RootIndex, the manifest and
//! the config of the signatures) must be what the originals would write. Free
//! stays only the twin of an ECDSA signature.

use super::cosign::{Checked, SIGNATURE_ANNOTATION, SIMPLE_SIGNING_TYPE};
use crate::check;
use crate::digest::Digest;
use crate::gojson;
use crate::oci::build::{INDEX_TYPE, MANIFEST_TYPE, NewLayer, REF_NAME, cosign_image};
use crate::oci::manifest::{ContentDescriptor, Kind};
use crate::oci::ocisif::{OciSif, cosign_name};
use crate::report::{CosignReport, CosignVerdict};
use crate::sif::types::DataType;
use crate::sif::{Descriptor, GROUP_MASK, UNSET_TIME};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Group 1 with its mask, as every OCI object has it.
const FIRST_GROUP: u32 = GROUP_MASK | 1;

impl Checked<'_, '_, '_> {
    /// The first thing in the file that nothing accounts for.
    pub fn uncovered(&self, report: &CosignReport) -> Option<String> {
        let oci = self.oci();
        let refused = report
            .signatures
            .iter()
            .enumerate()
            .find(|(_, signature)| signature.verdict != CosignVerdict::Valid);
        if let Some((at, signature)) = refused {
            let reason = signature.reason().unwrap_or_default();
            return Some(format!("not accounted for: signature {at} {reason}"));
        }
        if let Some(problem) = report.problems.first() {
            return Some(format!("not accounted for: {problem}"));
        }
        container(oci)
            .or_else(|| index(oci, report))
            .or_else(|| signature_image(oci, report))
            .map(|text| format!("not accounted for: {text}"))
    }
}

/// Header, table, gaps: only the values of a file that was written anew.
fn container(oci: &OciSif<'_, '_>) -> Option<String> {
    let image = oci.image();
    if let Some(finding) = check::native(image).first() {
        return Some(finding.problem.to_string());
    }
    let header = image.header();
    if !header.is_deterministic() {
        return Some("id and times of the header, which an OCI-SIF does not have".to_owned());
    }
    if header.as_bytes().get(45..48) != Some(b"00\0") {
        return Some("the architecture of the header, which an OCI-SIF does not have".to_owned());
    }
    if header.launch_script().iter().any(|byte| *byte != 0) {
        return Some("the launch script".to_owned());
    }
    image.objects().iter().find_map(|object| {
        let reason = field(object)?;
        Some(format!("object {}: {reason}", object.raw_id()))
    })
}

fn field(object: &Descriptor) -> Option<&'static str> {
    let is_oci = matches!(
        object.data_type(),
        DataType::OciRootIndex | DataType::OciBlob
    );
    if !is_oci {
        Some("no part of the OCI image")
    } else if object.raw_group() != FIRST_GROUP || object.raw_link() != 0 {
        Some("group or link that no OCI object has")
    } else if object.created_at() != UNSET_TIME || object.modified_at() != UNSET_TIME {
        Some("times, which an OCI object does not have")
    } else if object.owner() != (0, 0) || !object.name().is_empty() {
        Some("owner or name, which an OCI object does not have")
    } else {
        None
    }
}

/// Every entry belongs to the image or its signatures, and every blob to an entry.
fn index(oci: &OciSif<'_, '_>, report: &CosignReport) -> Option<String> {
    let subjects: HashSet<&Digest> = report
        .signatures
        .iter()
        .map(|signature| &signature.subject)
        .chain([&report.image])
        .collect();
    let names: HashSet<String> = subjects
        .iter()
        .map(|subject| cosign_name(subject, "sig"))
        .collect();
    let foreign = oci
        .index()
        .manifests
        .iter()
        .find(|entry| match entry.ref_name() {
            Some(name) => !names.contains(name),
            None => entry.digest != report.image,
        });
    if let Some(entry) = foreign {
        let name = entry.ref_name().unwrap_or("without a name");
        return Some(format!(
            "{} ({name}), which no signature covers",
            entry.digest
        ));
    }
    if !report
        .valid()
        .any(|signature| signature.subject == report.image)
    {
        return Some(format!(
            "the index {}, of which one image is signed",
            report.image
        ));
    }
    if canonical_index(oci).as_deref() != Some(oci.root_bytes()) {
        return Some("the root index is not in the form that is written".to_owned());
    }
    let reachable = match oci.reachable() {
        Ok((reachable, _)) => reachable,
        Err(error) => return Some(error.to_string()),
    };
    let named: HashSet<&Digest> = reachable.iter().map(|part| &part.content.digest).collect();
    let mut seen = HashSet::new();
    oci.blobs().find_map(|(digest, _)| {
        if !named.contains(digest) {
            Some(format!("blob {digest}, which nothing names"))
        } else if !seen.insert(digest) {
            Some(format!("blob {digest} is there twice"))
        } else {
            None
        }
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'static str>,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
}

/// The RootIndex as the originals write it; `None` if an entry says more than
/// they would, or something else.
fn canonical_index(oci: &OciSif<'_, '_>) -> Option<Vec<u8>> {
    let entries = oci.index().manifests.iter();
    let entries: Option<Vec<_>> = entries
        .map(|entry| {
            let artifact = entry.artifact_type.as_deref();
            let (media_type, artifact_type) = types(oci, entry)?;
            if entry.media_type != media_type
                || artifact.is_some() && artifact != artifact_type.as_deref()
            {
                return None;
            }
            Some(Entry {
                media_type: &entry.media_type,
                size: entry.size,
                digest: entry.digest.to_string(),
                annotations: entry
                    .ref_name()
                    .map(|name| (REF_NAME, name))
                    .into_iter()
                    .collect(),
                artifact_type: artifact,
            })
        })
        .collect();
    gojson::to_vec(&Index {
        schema_version: 2,
        // An index that was taken over from a layout may lack it.
        media_type: oci.index().media_type.as_ref().map(|_| INDEX_TYPE),
        manifests: entries?,
    })
    .ok()
}

/// Media type and artifact type of an entry, as its document has them.
fn types(oci: &OciSif<'_, '_>, entry: &ContentDescriptor) -> Option<(String, Option<String>)> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    if entry.kind() == Kind::Index {
        let index = oci.child_index(entry).ok()?;
        let media_type = filled(index.media_type);
        return Some((media_type.unwrap_or_else(|| INDEX_TYPE.to_owned()), None));
    }
    let manifest = oci.manifest(entry).ok()?;
    let media_type = filled(manifest.media_type);
    let artifact_type = filled(manifest.artifact_type).unwrap_or(manifest.config.media_type);
    Some((
        media_type.unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
        Some(artifact_type),
    ))
}

/// Manifest and config of the signatures must be what their payloads make them.
fn signature_image(oci: &OciSif<'_, '_>, report: &CosignReport) -> Option<String> {
    let subjects: HashSet<&Digest> = report.signatures.iter().map(|s| &s.subject).collect();
    for subject in subjects {
        let mut entries = oci.cosign(subject, "sig");
        let (entry, more) = (entries.next()?, entries.next());
        if more.is_some() {
            return Some("two entries for the same signatures".to_owned());
        }
        if rebuilt(oci, entry) != Some(true) {
            return Some(format!(
                "the manifest or config of the signatures, {}, is not in the form that is written",
                entry.digest
            ));
        }
    }
    None
}

fn rebuilt(oci: &OciSif<'_, '_>, entry: &ContentDescriptor) -> Option<bool> {
    let manifest = oci.manifest(entry).ok()?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let signature = layer.annotations.get(SIGNATURE_ANNOTATION)?;
        let bytes = BASE64_STANDARD.decode(signature).ok()?;
        if BASE64_STANDARD.encode(bytes) != *signature {
            return Some(false);
        }
        layers.push(NewLayer {
            media_type: SIMPLE_SIGNING_TYPE,
            payload: oci.document(layer).ok()?.to_vec(),
            annotations: BTreeMap::from([(SIGNATURE_ANNOTATION, signature.clone())]),
        });
    }
    let built = cosign_image(&[], layers).ok()?;
    let mut blobs = built.blobs.iter().rev();
    let (made, config) = (blobs.next()?, blobs.next()?);
    Some(made.digest == entry.digest && config.digest == manifest.config.digest)
}
