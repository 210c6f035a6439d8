//! What `--strict` refuses although every digest is right and every signature valid.
//!
//! The files are those of SingularityCE 4.5.1 in `fixtures/peers`, taken apart, changed, and put
//! together with digests and lengths that fit again. What a writer leaves is said in
//! spec/oci-sif-cosign.md 1.2, 1.3 and 3.3.

use super::cosign::{self, Choice, SIGNATURE_ANNOTATION, SIMPLE_SIGNING_TYPE};
use crate::digest::{Digest, HashAlgorithm};
use crate::key::pem::{PrivateKey, PublicKey};
use crate::key::pgp::tests::fixture;
use crate::oci::ocisif::{OciSif, cosign_name, tests::oci_image_of};
use crate::sif::Image;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const NAME: &str = "org.opencontainers.image.ref.name";

const NOT_WRITTEN: &str = "not accounted for: the root index is not in the form that is written";

fn sha(bytes: &[u8]) -> Digest {
    HashAlgorithm::Sha256.digest(bytes)
}

/// Length and digest in Go's order.
fn named(bytes: &[u8]) -> String {
    format!(r#""size":{},"digest":"{}""#, bytes.len(), sha(bytes))
}

fn replaced(text: &[u8], old: &str, new: &str) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text.replace(old, new).into_bytes(),
        Err(_) => text.to_vec(),
    }
}

#[derive(Clone)]
struct File {
    blobs: Vec<Vec<u8>>,
    root: Vec<u8>,
}

impl File {
    fn of(name: &str) -> Self {
        let bytes = fixture(&format!("peers/cosign/sif/{name}.oci.sif"));
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        let mut places: Vec<_> = oci.blobs().map(|(_, at)| at).collect();
        places.sort_unstable();
        let data = |at: usize| image.data(&image.objects()[at]).unwrap().to_vec();
        Self {
            blobs: places.into_iter().map(data).collect(),
            root: oci.root_bytes().to_vec(),
        }
    }

    fn signed() -> Self {
        Self::of("one-1sig")
    }

    /// Position of the only blob with that text.
    fn with(&self, text: &str) -> usize {
        let has = |blob: &Vec<u8>| blob.windows(text.len()).any(|at| at == text.as_bytes());
        let mut found = (0..self.blobs.len()).filter(|at| has(&self.blobs[*at]));
        let at = found.next().unwrap();
        assert_eq!(found.next(), None, "{text}");
        at
    }

    /// Changes a blob, and whoever names it, up to the root index.
    fn change(&mut self, at: usize, new: Vec<u8>) {
        let old = std::mem::replace(&mut self.blobs[at], new.clone());
        let (old, new) = (named(&old), named(&new));
        for other in 0..self.blobs.len() {
            let changed = replaced(&self.blobs[other], &old, &new);
            if changed != self.blobs[other] {
                self.change(other, changed);
            }
        }
        self.root = replaced(&self.root, &old, &new);
    }

    /// With another root index.
    fn root(&self, old: &str, new: &str) -> Self {
        let root = replaced(&self.root, old, new);
        assert_ne!(root, self.root, "{old}");
        Self {
            root,
            ..self.clone()
        }
    }

    /// The reason of `--strict`; nothing if all is accounted for.
    fn told(&self) -> Option<String> {
        let blobs: Vec<_> = self.blobs.iter().map(Vec::as_slice).collect();
        let bytes = oci_image_of(&blobs, &self.root);
        let image = Image::parse(&bytes).unwrap();
        image.require_sound().unwrap();
        let oci = OciSif::new(&image).unwrap();
        let checked = cosign::check(&oci, 1).unwrap();
        let keys = [PublicKey::from_pem(&fixture("peers/cosign/keys/p256.pub")).unwrap()];
        let request = cosign::Request {
            keys: &keys,
            annotations: &[],
            reference: None,
            strict: true,
        };
        let report = checked.judge(&Choice::default(), &request).unwrap();
        assert!(report.valid().count() > 0, "no valid signature");
        checked.uncovered(&report)
    }
}

#[track_caller]
fn refused(file: &File, part: &str) {
    let told = file.told().expect("a reason");
    assert!(told.starts_with("not accounted for: "), "{told}");
    assert!(told.contains(part), "{told}");
}

#[test]
fn files_of_singularity_are_accounted_for() {
    for name in ["one-1sig", "one-3sig", "squashfs-three-signed"] {
        assert_eq!(File::of(name).told(), None, "{name}");
    }
}

#[test]
fn a_blob_is_there_once_and_somebody_names_it() {
    let mut file = File::signed();
    file.blobs.push(b"more".to_vec());
    let what = format!("blob {}, which nothing names", sha(b"more"));
    refused(&file, &what);
    let signed = File::signed();
    for blob in &signed.blobs {
        let mut file = signed.clone();
        file.blobs.push(blob.clone());
        refused(&file, &format!("blob {} is there twice", sha(blob)));
    }
}

#[test]
fn an_entry_is_the_image_or_holds_its_signatures() {
    let signed = File::signed();
    let manifest = &signed.blobs[signed.with(SIGNATURE_ANNOTATION)];
    for name in [
        "other",
        "_cosign:bundle",
        &cosign_name(&sha(b"another image"), "sig"),
        &cosign_name(&sha(&signed.blobs[signed.with("tar+gzip")]), "att"),
    ] {
        let more = format!(
            r#",{{"mediaType":"{MANIFEST}",{},"annotations":{{"{NAME}":"{name}"}}}}]}}"#,
            named(manifest)
        );
        let file = signed.root("]}", &more);
        let what = format!("{} ({name}), which no signature covers", sha(manifest));
        refused(&file, &what);
    }
    // The signatures of the image, listed again.
    let name = cosign_name(&sha(&signed.blobs[signed.with("tar+gzip")]), "sig");
    let more = format!(
        r#",{{"mediaType":"{MANIFEST}",{},"annotations":{{"{NAME}":"{name}"}}}}]}}"#,
        named(manifest)
    );
    refused(
        &signed.root("]}", &more),
        "two entries for the same signatures",
    );
}

#[test]
fn manifest_and_config_of_signatures_have_one_form() {
    let signed = File::signed();
    let manifest = signed.with(SIGNATURE_ANNOTATION);
    let config = signed.with(r#""architecture":"","created""#);
    for (at, old, new) in [
        (manifest, "{\"schemaVersion\":2,", "{ \"schemaVersion\":2,"),
        (
            manifest,
            "{\"schemaVersion\":2,",
            "{\"x\":1,\"schemaVersion\":2,",
        ),
        (manifest, "]}", "],\"annotations\":{\"x\":\"y\"}}"),
        (manifest, "]}", "],\"artifactType\":\"x\"}"),
        (
            manifest,
            SIMPLE_SIGNING_TYPE,
            &format!("{SIMPLE_SIGNING_TYPE}\",\"x\":\"y"),
        ),
        (
            manifest,
            &format!("\"{CONFIG}\""),
            "\"application/vnd.oci.empty.v1+json\"",
        ),
        (config, "\"os\":\"\"", "\"os\":\"linux\""),
        (config, "}", "} "),
    ] {
        let mut file = signed.clone();
        let changed = replaced(&signed.blobs[at], old, new);
        assert_ne!(changed, signed.blobs[at], "{old}");
        file.change(at, changed);
        // What an artifact type would say is said elsewhere.
        let kind = format!(",\"artifactType\":\"{CONFIG}\"");
        file = file.root(&kind, "");
        let at = file.with(SIGNATURE_ANNOTATION);
        let what = format!(
            "manifest or config of the signatures, {}, is not in the form",
            sha(&file.blobs[at])
        );
        refused(&file, &what);
    }
}

/// The length of the lines is free in base64, and so are the bits that fill up the last letter.
#[test]
fn a_signature_has_one_spelling() {
    let signed = File::signed();
    let at = signed.with(SIGNATURE_ANNOTATION);
    let text = String::from_utf8(signed.blobs[at].clone()).unwrap();
    let (_, rest) = text
        .split_once(&format!("{SIGNATURE_ANNOTATION}\":\""))
        .unwrap();
    let (signature, _) = rest.split_once('"').unwrap();
    let bytes = BASE64_STANDARD.decode(signature).unwrap();
    assert_eq!(BASE64_STANDARD.encode(&bytes), signature);
    let (start, end) = signature.split_at(40);
    let mut spellings = vec![format!("{start}\\n{end}"), format!("{signature}\\r\\n")];
    // The next letter differs in a bit that nobody reads.
    let head = signature.trim_end_matches('=');
    assert_eq!(head.len() + 1, signature.len());
    let (head, last) = head.split_at(head.len() - 1);
    spellings.push(format!("{head}{}=", char::from(last.as_bytes()[0] + 1)));
    for spelling in spellings {
        let mut file = signed.clone();
        file.change(at, text.replace(signature, &spelling).into_bytes());
        refused(&file, "is not in the form that is written");
    }
}

#[test]
fn the_root_index_has_the_form_of_a_writer() {
    let data = "application/vnd.sylabs.data-container.v1";
    let signed = container(data).root("TYPE", data);
    assert_eq!(signed.told(), None);
    // Older versions write no artifact type, layouts may have no media type.
    let kind = format!(",\"artifactType\":\"{data}\"");
    assert_eq!(signed.root(&kind, "").told(), None);
    let own = "\"mediaType\":\"application/vnd.oci.image.index.v1+json\",";
    assert_eq!(signed.root(own, "").told(), None);
    for (old, new) in [
        ("{\"schemaVersion\":2", "{ \"schemaVersion\":2"),
        ("\"schemaVersion\":2", "\"schemaVersion\":1"),
        ("\"schemaVersion\":2,", ""),
        ("]}", "],\"annotations\":{\"x\":\"y\"}}"),
        ("image.index.v1+json\"", "image.index.v1+json\",\"x\":1"),
        (
            own,
            "\"mediaType\":\"application/vnd.docker.distribution.manifest.list.v2+json\",",
        ),
        (own, "\"mediaType\":\"\","),
        (&kind, ",\"artifactType\":\"\""),
        (&kind, ",\"artifactType\":\"text/plain\""),
        (
            &kind,
            ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}",
        ),
        (&kind, ",\"annotations\":{\"x\":\"y\"}"),
        (&format!("\"{NAME}\":"), &format!("\"a\":\"b\",\"{NAME}\":")),
        (
            &format!("\"{MANIFEST}\""),
            &format!("\"{DOCKER_MANIFEST}\""),
        ),
    ] {
        // In the first place where it fits.
        let root = String::from_utf8(signed.root.clone()).unwrap();
        assert!(root.contains(old), "{old}");
        let mut file = signed.clone();
        file.root = root.replacen(old, new, 1).into_bytes();
        assert_eq!(file.told().as_deref(), Some(NOT_WRITTEN), "{new}");
    }
}

/// A manifest or an index with a new signature; `entry` is what its entry says of it.
fn signed_anew(image: &[u8], mut blobs: Vec<Vec<u8>>, entry: &str) -> File {
    let subject = sha(image);
    let payload = json!({"critical": {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": subject.to_string()},
        "type": "cosign container image signature",
    }, "optional": null})
    .to_string()
    .into_bytes();
    let key = PrivateKey::from_pem(&fixture("peers/cosign/keys/p256.pem"), None).unwrap();
    let signature = BASE64_STANDARD.encode(key.sign(&payload).unwrap());
    let config = format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"created":"0001-01-01T00:00:00Z"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
        sha(&payload)
    )
    .into_bytes();
    let signatures = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}",{}}},"layers":[{{"mediaType":"{SIMPLE_SIGNING_TYPE}",{},"annotations":{{"{SIGNATURE_ANNOTATION}":"{signature}"}}}}]}}"#,
        named(&config),
        named(&payload)
    )
    .into_bytes();
    let root = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry},{{"mediaType":"{MANIFEST}",{},"annotations":{{"{NAME}":"{}"}},"artifactType":"{CONFIG}"}}]}}"#,
        named(&signatures),
        cosign_name(&subject, "sig"),
    )
    .into_bytes();
    blobs.extend([image.to_vec(), payload, config, signatures]);
    File { blobs, root }
}

/// A manifest like the one of a data container; the artifact type of its entry is `TYPE`.
fn container(artifact_type: &str) -> File {
    let empty = "application/vnd.oci.empty.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{empty}",{}}},"layers":[{{"mediaType":"application/vnd.sylabs.image.layer.v1.squashfs",{}}}],"artifactType":"{artifact_type}"}}"#,
        named(b"{}"),
        named(b"layer"),
    )
    .into_bytes();
    let entry = format!(
        r#"{{"mediaType":"{MANIFEST}",{},"artifactType":"TYPE"}}"#,
        named(&manifest)
    );
    signed_anew(&manifest, vec![b"layer".to_vec(), b"{}".to_vec()], &entry)
}

/// spec/oci-sif-cosign.md 1.3: that of the manifest, or else the media type of its config.
#[test]
fn the_artifact_type_of_an_entry_is_that_of_the_manifest() {
    let data = "application/vnd.sylabs.data-container.v1";
    let empty = "application/vnd.oci.empty.v1+json";
    for (in_manifest, fits) in [(data, data), ("", empty)] {
        let file = container(in_manifest);
        for named in [data, empty, CONFIG, ""] {
            let told = file.root("TYPE", named).told();
            let wanted = (named != fits).then_some(NOT_WRITTEN);
            assert_eq!(told.as_deref(), wanted, "{in_manifest:?} {named:?}");
        }
    }
}

/// go-containerregistry names in an entry the media type that the document has.
#[test]
fn the_media_type_of_an_entry_is_that_of_the_document() {
    let manifest = |own: &str| {
        let (config, layer) = (named(b"{}"), named(b"layer"));
        format!(
            r#"{{"schemaVersion":2{own},"config":{{"mediaType":"{CONFIG}",{config}}},"layers":[{{"mediaType":"l",{layer}}}]}}"#
        )
    };
    let index = |own: &str| {
        let child = named(manifest("").as_bytes());
        format!(r#"{{"schemaVersion":2{own},"manifests":[{{"mediaType":"{MANIFEST}",{child}}}]}}"#)
    };
    let told = |image: &str, media_type: &str| {
        let mut blobs = vec![b"layer".to_vec(), b"{}".to_vec()];
        if image.contains("manifests") {
            blobs.push(manifest("").into_bytes());
        }
        let entry = format!(
            r#"{{"mediaType":"{media_type}",{}}}"#,
            named(image.as_bytes())
        );
        signed_anew(image.as_bytes(), blobs, &entry).told()
    };
    let own = |media_type: &str| format!(r#","mediaType":"{media_type}""#);
    for (image, fits, other) in [
        (manifest(&own(MANIFEST)), MANIFEST, DOCKER_MANIFEST),
        (manifest(&own(DOCKER_MANIFEST)), DOCKER_MANIFEST, MANIFEST),
        // Only OCI's may leave it out.
        (manifest(""), MANIFEST, DOCKER_MANIFEST),
        (manifest(&own("")), MANIFEST, DOCKER_MANIFEST),
        (index(&own(INDEX)), INDEX, DOCKER_INDEX),
        (index(&own(DOCKER_INDEX)), DOCKER_INDEX, INDEX),
        (index(""), INDEX, DOCKER_INDEX),
    ] {
        assert_eq!(told(&image, fits), None, "{image}");
        assert_eq!(told(&image, other).as_deref(), Some(NOT_WRITTEN), "{image}");
    }
}
