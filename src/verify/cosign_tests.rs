//! The same small images as an OCI-SIF and as a layout: how many signatures are looked at, what a
//! bundle is, what an image is judged by.
//!
//! The image, its bundle and the key are those of cosign 3.1.1 in `fixtures/peers`; where else
//! bundles stand in a file is said in spec/oci-sif-cosign.md 6.3 and in the manual.

use super::cosign::{self, Choice};
use super::layout;
use crate::digest::{Digest, HashAlgorithm};
use crate::key::pem::{PrivateKey, PublicKey};
use crate::key::pgp::tests::fixture;
use crate::oci::layout_view::OciLayout;
use crate::oci::manifest::{ContentDescriptor, ImageManifest, Platform};
use crate::oci::ocisif::{OciSif, cosign_name, tests::oci_image_of};
use crate::payload::intoto;
use crate::report::{AttestationReport, CosignReport, CosignSignature};
use crate::sif::Image;
use crate::signer::dsse;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::Cell;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const IMAGE: &str = "d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9";
const CONFIG: &str = "c2599007c9339a333dce84b65197e75c9be1d6cf930e2f00bd140a85bd307215";
const LAYER: &str = "b79b10447feb3eb9eed513d75cd574affcd91ae0e8aad67693522ab7a5eb0128";
/// A signature of the image.
const BY_COSIGN: &str = "3c0b5e4bf6d793a80771c12fcbd7e22c99f67010a0ea0c689394932f4665e324";

fn sha(bytes: &[u8]) -> Digest {
    HashAlgorithm::Sha256.digest(bytes)
}

fn real(name: &str) -> Vec<u8> {
    fixture(&format!("peers/cosign/bundle/p256/blobs/sha256/{name}"))
}

fn content(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "size": bytes.len(), "digest": sha(bytes).to_string()})
}

fn named(mut content: Value, name: &str) -> Value {
    content["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    content
}

fn for_platform(mut content: Value, architecture: &str) -> Value {
    content["platform"] = json!({"os": "linux", "architecture": architecture});
    content
}

fn index(entries: &[Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    index.to_string().into_bytes()
}

fn linux(architecture: &str) -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: String::new(),
    }
}

fn host() -> Choice {
    Choice {
        host: linux("amd64"),
        ..Choice::default()
    }
}

struct Scene {
    blobs: Vec<Vec<u8>>,
    entries: Vec<Value>,
}

impl Scene {
    /// The blobs of the image, and no entry.
    fn blobs() -> Self {
        Self {
            blobs: [CONFIG, LAYER, IMAGE].map(real).into(),
            entries: Vec::new(),
        }
    }

    fn image() -> Self {
        let mut scene = Self::blobs();
        scene.entries.push(content(MANIFEST, &real(IMAGE)));
        scene
    }

    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let content = content(media_type, &bytes);
        if !self.blobs.contains(&bytes) {
            self.blobs.push(bytes);
        }
        content
    }

    /// A manifest with these layers, and with a subject if it is about one.
    fn manifest(&mut self, layers: &[Value], subject: Option<Value>) -> Value {
        let config = self.add("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config});
        manifest["layers"] = json!(layers);
        if let Some(subject) = subject {
            manifest["subject"] = subject;
        }
        self.add(MANIFEST, manifest.to_string().into_bytes())
    }

    /// An entry with that many signatures or attestations of the image.
    fn attach(&mut self, suffix: &str, layers: &[Value]) {
        let manifest = self.manifest(layers, None);
        let name = cosign_name(&sha(&real(IMAGE)), suffix);
        self.entries.push(named(manifest, &name));
    }

    fn bundle(&mut self, bytes: Vec<u8>) {
        let layer = self.add(BUNDLE, bytes);
        let manifest = self.manifest(&[layer], Some(content(MANIFEST, &real(IMAGE))));
        self.entries.push(named(manifest, "_cosign:bundle"));
    }

    fn sif(&self) -> Vec<u8> {
        let blobs: Vec<_> = self.blobs.iter().map(Vec::as_slice).collect();
        oci_image_of(&blobs, &index(&self.entries))
    }

    fn in_file<T>(&self, then: impl FnOnce(&cosign::Checked<'_, '_, '_>) -> T) -> T {
        let bytes = self.sif();
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        then(&cosign::check(&oci, 1).unwrap())
    }

    fn in_layout<T>(
        &self,
        choice: &Choice,
        then: impl FnOnce(&layout::Checked<'_, '_>, &[Digest]) -> Result<T, layout::Error>,
    ) -> Result<T, layout::Error> {
        let digests: Vec<_> = self.blobs.iter().map(|blob| sha(blob)).collect();
        let get = |wanted: &Digest, limit: usize| {
            let at = digests.iter().position(|digest| digest == wanted);
            let found = at.map(|at| self.blobs[at].clone());
            Ok(found.filter(|bytes| bytes.len() <= limit))
        };
        let layout = OciLayout::new(&index(&self.entries), &get).unwrap();
        let checked = layout::check(&layout, choice, |_| Ok(()))?;
        then(&checked, &digests)
    }

    /// The answers about the file and about the layout.
    fn judged(&self, choice: &Choice) -> [Result<CosignReport, String>; 2] {
        let keys = [public()];
        let request = cosign::Request {
            keys: &keys,
            annotations: &[],
            reference: None,
            strict: false,
        };
        let file = self.in_file(|checked| checked.judge(choice, &request));
        let layout = self.in_layout(choice, |checked, all| checked.judge(all, &request));
        [
            file.map_err(|error| error.to_string()),
            layout.map_err(|error| error.to_string()),
        ]
    }

    /// How many signatures there are and how many of them are valid.
    fn counts(&self, choice: &Choice) -> [Result<(usize, usize), String>; 2] {
        let count = |report: CosignReport| (report.signatures.len(), report.valid().count());
        self.judged(choice).map(|answer| answer.map(count))
    }

    /// The predicate types of attestations, or what is wrong with them.
    fn attested(&self) -> [Result<Vec<Result<String, String>>, String>; 2] {
        let keys = [public()];
        let outcomes = |report: AttestationReport<'_>| {
            let all = report.attestations.into_iter();
            all.map(|it| it.outcome.map(|held| held.predicate_type))
                .collect::<Vec<_>>()
        };
        let file = self.in_file(|checked| {
            let report = checked.attestations(&host(), &keys);
            report.map(outcomes).map_err(|error| error.to_string())
        });
        let layout = self.in_layout(&host(), |checked, all| checked.attestations(all, &keys));
        [
            file,
            layout.map(outcomes).map_err(|error| error.to_string()),
        ]
    }
}

fn public() -> PublicKey {
    PublicKey::from_pem(&fixture("peers/cosign/keys/p256.pub")).unwrap()
}

/// A bundle that says something about an image; not that the key signs it.
fn attestation(image: &Digest) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": hex::encode(image.bytes())}}],
        "predicateType": "https://example.org/p",
        "predicate": {},
    });
    let key = PrivateKey::from_pem(&fixture("peers/cosign/keys/p256.pem"), None).unwrap();
    let payload = statement.to_string();
    let envelope = dsse::seal_for_cosign(intoto::PAYLOAD_TYPE, payload.as_bytes(), &key).unwrap();
    let mut bundle: Value = serde_json::from_slice(&real(BY_COSIGN)).unwrap();
    bundle["dsseEnvelope"] = serde_json::from_slice(&envelope).unwrap();
    bundle.to_string().into_bytes()
}

/// Both answers are this one.
fn both<T: Clone>(answer: T) -> [T; 2] {
    [answer.clone(), answer]
}

fn too_many<T>() -> Result<T, String> {
    Err("10001 signatures, more than the 10000 that are looked at".to_owned())
}

#[test]
fn ten_thousand_signatures_are_looked_at_and_not_one_more() {
    for (layers, bundles, wanted) in [
        (2, 0, Ok((2, 0))),
        (10_000, 0, Ok((10_000, 0))),
        (10_001, 0, too_many()),
        // Bundles count among them.
        (0, 1, Ok((1, 1))),
        (9_999, 1, Ok((10_000, 1))),
        (10_000, 1, too_many()),
    ] {
        let mut scene = Scene::image();
        // Without the annotation that a signature stands in.
        let payload = scene.add(cosign::SIMPLE_SIGNING_TYPE, b"{}".to_vec());
        scene.attach("sig", &vec![payload; layers]);
        for _ in 0..bundles {
            scene.bundle(real(BY_COSIGN));
        }
        assert_eq!(
            scene.counts(&host()),
            both(wanted),
            "{layers} and {bundles}"
        );
    }
}

/// SingularityCE 4.5.1: `Image has 0 associated signatures`.
#[test]
fn an_entry_of_another_media_type_holds_no_signatures() {
    let mut scene = Scene::image();
    let payload = scene.add(cosign::SIMPLE_SIGNING_TYPE, b"{}".to_vec());
    scene.attach("sig", &[payload]);
    let count = |scene: &Scene| {
        let [in_file, _] = scene.counts(&host());
        in_file.unwrap().0
    };
    assert_eq!(count(&scene), 1);
    let entry = scene.entries.last_mut().unwrap();
    entry["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
    assert_eq!(count(&scene), 0);
}

#[test]
fn ten_thousand_attestations_are_looked_at_and_not_one_more() {
    let distinct = |at: usize| {
        let bytes = at.to_string().into_bytes();
        content("application/vnd.dsse.envelope.v1+json", &bytes)
    };
    for (layers, bundles, wanted) in [
        (2, 0, Ok(2)),
        (10_000, 0, Ok(10_000)),
        (10_001, 0, too_many()),
        (9_999, 1, Ok(10_000)),
        (10_000, 1, too_many()),
    ] {
        let mut scene = Scene::image();
        // None of them is there, and each is told.
        let layers: Vec<_> = (0..layers).map(distinct).collect();
        scene.attach("att", &layers);
        for _ in 0..bundles {
            scene.bundle(attestation(&sha(&real(IMAGE))));
        }
        let found = scene.attested().map(|answer| answer.map(|all| all.len()));
        assert_eq!(found, both(wanted), "{} and {bundles}", layers.len());
    }
}

#[test]
fn a_bundle_attests_what_is_about_the_image_and_no_mere_signature() {
    let image = sha(&real(IMAGE));
    let other = format!("the statement is not about {image}");
    for (bundle, wanted) in [
        (
            attestation(&image),
            vec![Ok("https://example.org/p".to_owned())],
        ),
        (attestation(&sha(b"another image")), vec![Err(other)]),
        (real(BY_COSIGN), vec![]),
    ] {
        let mut scene = Scene::image();
        scene.bundle(bundle);
        assert_eq!(scene.attested(), both(Ok(wanted)));
    }
}

/// What the key signed that an image is, in an envelope without a bundle around it.
#[test]
fn an_envelope_attests_what_is_about_the_image() {
    let image = sha(&real(IMAGE));
    let other = format!("the statement is not about {image}");
    for (about, wanted) in [
        (image.clone(), Ok("https://example.org/p".to_owned())),
        (sha(b"another image"), Err(other)),
    ] {
        let bundle: Value = serde_json::from_slice(&attestation(&about)).unwrap();
        let envelope = bundle["dsseEnvelope"].to_string().into_bytes();
        let mut scene = Scene::image();
        let layer = scene.add("application/vnd.dsse.envelope.v1+json", envelope);
        scene.attach("att", &[layer]);
        assert_eq!(scene.attested(), both(Ok(vec![wanted])));
    }
}

#[test]
fn a_bundle_of_a_file_is_an_image_entry_of_cosign_that_is_about_the_image() {
    let about = |subject: &[u8], media_type: &str| {
        let mut scene = Scene::image();
        let layer = scene.add(media_type, real(BY_COSIGN));
        let subject = content(MANIFEST, subject);
        let manifest = scene.manifest(&[layer], Some(subject));
        (scene, manifest)
    };
    let found = |scene: &Scene| scene.counts(&host()).map(Result::unwrap);
    let (mut scene, manifest) = about(&real(IMAGE), BUNDLE);
    scene
        .entries
        .push(named(manifest.clone(), "_cosign:bundle"));
    assert_eq!(found(&scene), both((1, 1)));
    // Under any other name it is another image of the file; a layout has no such rule.
    scene.entries[1] = named(manifest.clone(), "bundle");
    assert_eq!(found(&scene), [(0, 0), (1, 1)]);
    scene.entries[1] = named(manifest, "_cosign:bundle");
    scene.entries[1]["mediaType"] = json!(INDEX);
    assert_eq!(found(&scene)[0], (0, 0));
    for (subject, media_type) in [
        (real(IMAGE), "application/spdx+json"),
        (b"another image".to_vec(), BUNDLE),
        (b"another image".to_vec(), "application/spdx+json"),
    ] {
        let (mut scene, manifest) = about(&subject, media_type);
        scene.entries.push(named(manifest, "_cosign:bundle"));
        assert_eq!(found(&scene), both((0, 0)), "{media_type}");
    }
}

#[test]
fn an_index_vouches_only_for_an_image_that_was_chosen_from_it() {
    let by_index = |scene: &Scene, choice: &Choice| {
        let [file, _] = scene.judged(choice);
        file.unwrap().by_index
    };
    assert!(!by_index(&Scene::image(), &host()));
    let list = index(&[for_platform(content(MANIFEST, &real(IMAGE)), "amd64")]);
    let mut scene = Scene::blobs();
    let whole = scene.add(INDEX, list.clone());
    scene.entries.push(whole);
    // The index itself is what is judged, and then the image that is named.
    assert!(!by_index(&scene, &host()));
    let mut chosen = host();
    chosen.platform = Some(linux("amd64"));
    assert!(!by_index(&scene, &chosen));
    let mut scene = Scene::image();
    let layer = scene.add(INDEX, list);
    let name = format!("_cosign-index:{}", layer["digest"].as_str().unwrap());
    let source = scene.manifest(&[layer], None);
    scene
        .entries
        .push(named(source, &name.replace("sha256:", "sha256-")));
    assert!(by_index(&scene, &host()));
}

#[test]
fn an_index_with_a_part_that_nobody_can_read_is_not_complete() {
    let list = |scene: &mut Scene, other: &[u8]| {
        let other = scene.add(MANIFEST, other.to_vec());
        let image = for_platform(content(MANIFEST, &real(IMAGE)), "amd64");
        let list = index(&[image, for_platform(other, "arm64")]);
        let whole = scene.add(INDEX, list);
        scene.entries.push(whole);
    };
    let mut scene = Scene::blobs();
    list(&mut scene, &real(IMAGE));
    assert_eq!(scene.counts(&host()), both(Ok((0, 0))));
    for other in [&b"no JSON"[..], b"[]", &index(&[])] {
        let mut scene = Scene::blobs();
        list(&mut scene, other);
        for answer in scene.counts(&host()) {
            let wanted = format!("image is not complete: image manifest {}: ", sha(other));
            let told = answer.unwrap_err();
            assert!(told.starts_with(&wanted), "{told}");
        }
    }
}

/// The config says linux/amd64.
#[test]
fn a_wanted_platform_is_compared_with_the_config_of_an_image_that_stands_alone() {
    for (architecture, found) in [("amd64", true), ("arm64", false)] {
        let mut choice = host();
        choice.platform = Some(linux(architecture));
        for answer in Scene::image().counts(&choice) {
            match answer {
                Ok(counts) => assert!(found && counts == (0, 0)),
                Err(told) => assert!(!found && told.ends_with("no matching image / index found")),
            }
        }
    }
}

/// A payload may have 1 MiB, and all that are verified of one image a bit more than 256 MiB.
#[test]
fn payloads_are_read_up_to_a_bound_on_their_bytes() {
    let layer = |_: usize| {
        let mut layer = content(cosign::SIMPLE_SIGNING_TYPE, b"x");
        layer["annotations"] = json!({cosign::SIGNATURE_ANNOTATION: "MEUC"});
        layer
    };
    // In two lists, which are counted together.
    let layers: Vec<_> = (0..600).map(layer).collect();
    let config = content("c", b"{}");
    let manifest = json!({"config": config, "layers": layers}).to_string();
    let manifest = ImageManifest::parse(manifest.as_bytes()).unwrap();
    let request = cosign::Request {
        keys: &[],
        annotations: &[],
        reference: None,
        strict: false,
    };
    let large = vec![b'x'; 1 << 20];
    let read = |answer: &dyn Fn() -> Result<Cow<'static, [u8]>, String>, bytes: &[u8]| {
        let fetched = Cell::new(0);
        let fetch = |_: &ContentDescriptor| {
            fetched.set(fetched.get() + 1);
            answer().map(|_| Cow::Borrowed(bytes))
        };
        let subject = sha(b"image");
        let spent = Cell::new(0);
        let list = || cosign::signatures(&manifest, &subject, &fetch, &request, &spent);
        let all = [list(), list()].concat();
        let bound = "have more than 268435456 bytes";
        let told = |it: &CosignSignature| it.reason().unwrap().contains(bound);
        let refused = all.iter().filter(|it| told(it)).count();
        assert_eq!(fetched.get() + refused, 1_200);
        fetched.get()
    };
    let there = || Ok(Cow::Borrowed(&b""[..]));
    // The one that reaches the bound is not yet behind it.
    assert_eq!(read(&there, &large), 257);
    assert_eq!(read(&there, &large[1..]), 257);
    assert_eq!(read(&there, b"small"), 1_200);
    // What cannot be read may have been hashed: a quarter of the largest is counted.
    assert_eq!(read(&|| Err("changed".to_owned()), b""), 1_025);
}
