//! Which image of a file is meant: what SingularityCE's code said for running
//! (`single`) and for signing, verifying and pushing (`list`).

use crate::support::{peers, read_peers};
use serde_json::Value;
use sigsif::oci::manifest::{ContentDescriptor, Kind};
use sigsif::oci::ocisif::{Error, OciSif, cosign_name};
use sigsif::sif::Image;
use std::collections::BTreeSet;

/// Records that differ on purpose: call, file, reason.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "single",
        "duplicate-layer",
        "a blob that is stored twice is read",
    ),
    (
        "list",
        "mut-sig-entry-twice",
        "two entries for one image are read as one",
    ),
    (
        "list",
        "mut-extra-blob-bad-digest-text",
        "no object may lie about its digest",
    ),
    (
        "single",
        "mut-extra-blob-bad-digest-text",
        "no object may lie about its digest",
    ),
    (
        "single",
        "mut-root-size-wrong",
        "the size in the index must be true",
    ),
    (
        "list",
        "mut-sig-bad-base64",
        "the size in the index must be true",
    ),
    (
        "list",
        "mut-sig-layer-media-type",
        "the size in the index must be true",
    ),
    (
        "list",
        "mut-sig-layer-size",
        "the size in the index must be true",
    ),
    (
        "list",
        "mut-sig-no-annotation",
        "the size in the index must be true",
    ),
];

fn single(oci: &OciSif<'_, '_>) -> Result<String, String> {
    let image = match oci.runnable().as_slice() {
        [] => return Err("no match found".to_owned()),
        [image] => *image,
        _ => return Err("multiple matches found".to_owned()),
    };
    let mut text = format!("{}\n", image.digest);
    let manifest = oci.manifest(image).map_err(|error| error.to_string())?;
    for layer in &manifest.layers {
        match oci.object(layer) {
            Ok(object) => text += &format!("{} {}\n", layer.digest, object.size()),
            Err(Error::Missing(_)) => return Err(format!("{text}|object not found")),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(text)
}

fn list(oci: &OciSif<'_, '_>) -> Result<String, String> {
    let reason = |error: Error| error.to_string();
    let main = oci.unnamed().map_err(reason)?;
    let mut text = format!("{}\n", main.media_type);
    let mut count = |suffix: &str| -> Result<usize, String> {
        let mut layers = 0;
        let mut seen = BTreeSet::new();
        for entry in oci.cosign(&main.digest, suffix) {
            if seen.insert(entry.digest.to_string()) {
                layers += oci.manifest(entry).map_err(reason)?.layers.len();
                text += &format!("{} {}\n", cosign_name(&main.digest, suffix), entry.digest);
            }
        }
        Ok(layers)
    };
    let (signatures, attestations) = (count("sig")?, count("att")?);
    let image = match main.kind() {
        Kind::Index => host_image(oci, main).map_err(reason)?,
        _ => main.clone(),
    };
    let digest = image.digest;
    Ok(text + &format!("{digest} signatures {signatures} attestations {attestations}\n"))
}

/// The records were made on linux/amd64.
fn host_image(oci: &OciSif<'_, '_>, index: &ContentDescriptor) -> Result<ContentDescriptor, Error> {
    let mut children = oci.child_index(index)?.manifests.into_iter();
    let amd64 = |child: &ContentDescriptor| {
        child
            .platform
            .as_ref()
            .is_some_and(|p| p.architecture == "amd64")
    };
    children.find(amd64).ok_or(Error::NoImage)
}

#[test]
fn the_image_is_the_one_that_singularity_takes() {
    let text = String::from_utf8(read_peers("cosign/expected.jsonl")).expect("text");
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .filter(|record: &Value| record["argv"][0] == "single" || record["argv"][0] == "list")
        .collect();
    assert_eq!(records.len(), 124);
    let mut healed: BTreeSet<_> = DIFFERENT
        .iter()
        .map(|(call, file, _)| (*call, *file))
        .collect();
    let mut faults = Vec::new();
    for record in &records {
        let call = record["argv"][0].as_str().unwrap_or_default();
        let path = record["argv"][1].as_str().unwrap_or_default();
        let bytes = std::fs::read(peers("cosign").join(path)).expect("a file");
        let image = Image::parse(&bytes).expect("an image");
        let answer = OciSif::with_any_root(&image).map_err(|error| match error {
            Error::NotOciSif(0) => "object not found".to_owned(),
            Error::NotOciSif(_) => "multiple objects found".to_owned(),
            other => other.to_string(),
        });
        let answer = answer.and_then(|oci| match call {
            "single" => single(&oci),
            _ => list(&oci),
        });
        let stdout = record["stdout"].as_str().unwrap_or_default();
        let stderr = record["stderr"].as_str().unwrap_or_default();
        let reason = stderr.trim_start_matches("FATAL:").trim();
        let wanted = match record["rc"].as_i64() {
            Some(0) => Ok(stdout.to_owned()),
            _ if call == "single" && !stdout.is_empty() => Err(format!("{stdout}|{reason}")),
            _ => Err(reason.to_owned()),
        };
        let file = path.trim_start_matches("sif/").trim_end_matches(".oci.sif");
        let listed = DIFFERENT.iter().any(|(c, f, _)| (*c, *f) == (call, file));
        match answer == wanted {
            false if listed => drop(healed.remove(&(call, file))),
            false => faults.push(format!("{call} {file}: {answer:?}, wanted {wanted:?}")),
            true => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(healed.is_empty(), "no longer different: {healed:?}");
}
