//! Calls with input, and the peers.

use crate::support::{self, Home, Outcome};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a program that reads `input`.
#[track_caller]
pub fn run_with(command: &mut Command, input: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that asks nothing closes the pipe.
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes());
    support::finish(child, Duration::from_secs(60), &format!("{command:?}"))
}

/// A peer that may be missing.
pub struct Peer(Vec<String>);

impl Peer {
    /// The real cosign.
    pub fn cosign() -> Option<Self> {
        Self::find("SIGSIF_COSIGN", "cosign")
    }

    /// A program over the code of SingularityCE.
    pub fn singularity() -> Option<Self> {
        Self::find("SIGSIF_CE_COSIGN", "ce-cosign")
    }

    fn find(variable: &str, name: &str) -> Option<Self> {
        match std::env::var(variable) {
            Ok(words) => Some(Self(words.split_whitespace().map(str::to_owned).collect())),
            Err(_) if support::tool(name).is_some() => Some(Self(vec![name.to_owned()])),
            Err(_) => {
                support::skip(&format!(
                    "{name} is not installed and {variable} is not set"
                ));
                None
            }
        }
    }

    /// A call of it in a folder.
    pub fn call(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.clean(&self.0[0]);
        command.args(&self.0[1..]).args(args);
        command
    }
}

/// One object of a SIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: i32,
    pub offset: i64,
    pub size: i64,
    pub digest: String,
    pub data: Vec<u8>,
}

/// An OCI-SIF as this test reads it: by the format's description, without the
/// program's own reader.
pub struct Stored {
    pub bytes: Vec<u8>,
    pub objects: Vec<Object>,
}

const ROOT_INDEX: i32 = 0x400a;

impl Stored {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("the image");
        let number = |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let (total, table) = (number(88) as usize, number(96) as usize);
        let mut objects = Vec::new();
        for slot in 0..total {
            let at = table + 585 * slot;
            if bytes[at + 4] == 0 {
                continue;
            }
            let (offset, size) = (number(at + 17), number(at + 25));
            let data = bytes[offset as usize..][..size as usize].to_vec();
            let extra = &bytes[at + 201..at + 201 + 71];
            let digest = String::from_utf8_lossy(extra).into_owned();
            let kind = i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let found = format!("sha256:{}", hex::encode(Sha256::digest(&data)));
            assert!([0x400a, 0x400b].contains(&kind) == (digest == found) || kind == 0x4005);
            objects.push(Object {
                kind,
                offset,
                size,
                digest,
                data,
            });
        }
        Self { bytes, objects }
    }

    /// Position of the data section.
    pub fn data_start(&self) -> i64 {
        i64::from_le_bytes(self.bytes[112..120].try_into().unwrap())
    }

    /// Number of free descriptors.
    pub fn free(&self) -> usize {
        let total = i64::from_le_bytes(self.bytes[88..96].try_into().unwrap());
        usize::try_from(total).expect("a count") - self.objects.len()
    }

    /// Number of root indices.
    pub fn roots(&self) -> usize {
        let roots = self.objects.iter().filter(|o| o.kind == ROOT_INDEX);
        roots.count()
    }

    fn json(&self, digest: &str) -> Value {
        let found: Vec<_> = self.objects.iter().filter(|o| o.digest == digest).collect();
        assert_eq!(found.len(), 1, "{digest}");
        serde_json::from_slice(&found[0].data).expect("JSON")
    }

    /// Changes the text of the RootIndex to one of the same length.
    pub fn rewrite_root(&mut self, change: impl Fn(String) -> String) {
        let root = self.objects.iter().find(|o| o.kind == ROOT_INDEX);
        let root = root.expect("a root index");
        let old = String::from_utf8(root.data.clone()).expect("text");
        let new = change(old.clone());
        assert_eq!(old.len(), new.len());
        let start = usize::try_from(root.offset).expect("a position");
        self.bytes[start..start + new.len()].copy_from_slice(new.as_bytes());
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&new)));
        let at = self
            .bytes
            .windows(71)
            .position(|w| w == root.digest.as_bytes());
        let at = at.expect("the digest field");
        self.bytes[at..at + 71].copy_from_slice(digest.as_bytes());
    }

    /// The manifest of the signatures or attestations of an image.
    pub fn manifest(&self, subject: &str, suffix: &str) -> Value {
        let name = format!("_cosign:{}.{suffix}", subject.replace(':', "-"));
        let root = self.objects.iter().find(|o| o.kind == ROOT_INDEX);
        let root: Value = serde_json::from_slice(&root.expect("a root").data).expect("JSON");
        let entries = root["manifests"].as_array().expect("entries");
        let entry = entries
            .iter()
            .find(|e| e["annotations"]["org.opencontainers.image.ref.name"] == name.as_str());
        self.json(
            entry.expect("an entry")["digest"]
                .as_str()
                .expect("a digest"),
        )
    }

    /// Payload and decoded signature of each signature (`sig`) or attestation
    /// (`att`) of an image.
    pub fn signatures(&self, subject: &str, suffix: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let root = self
            .objects
            .iter()
            .find(|o| o.kind == ROOT_INDEX)
            .expect("a root index");
        let root: Value = serde_json::from_slice(&root.data).expect("JSON");
        let name = format!("_cosign:{}.{suffix}", subject.replace(':', "-"));
        let entries: Vec<_> = root["manifests"]
            .as_array()
            .expect("entries")
            .iter()
            .filter(|e| e["annotations"]["org.opencontainers.image.ref.name"] == name.as_str())
            .collect();
        assert!(entries.len() <= 1, "{name}");
        let mut signatures = Vec::new();
        for entry in entries {
            let manifest = self.json(entry["digest"].as_str().expect("a digest"));
            let config = self.json(manifest["config"]["digest"].as_str().expect("a digest"));
            let layers = manifest["layers"].as_array().expect("layers");
            let digests: Vec<_> = layers.iter().map(|l| l["digest"].clone()).collect();
            if !layers.is_empty() {
                assert_eq!(config["rootfs"]["diff_ids"], Value::from(digests));
                assert_eq!(
                    config["history"].as_array().map(Vec::len),
                    Some(layers.len())
                );
            }
            for layer in layers {
                let digest = layer["digest"].as_str().expect("a digest");
                let object = self.objects.iter().find(|o| o.digest == digest);
                let payload = object.expect("a payload").data.clone();
                assert_eq!(layer["size"], payload.len());
                let signature = layer["annotations"]["dev.cosignproject.cosign/signature"]
                    .as_str()
                    .expect("a signature");
                let signature = BASE64_STANDARD.decode(signature).expect("base64");
                signatures.push((payload, signature));
            }
        }
        signatures
    }
}

/// Fails unless OpenSSL accepts a signature the way cosign verifies it: over
/// SHA-256, of Ed25519 over the message itself.
#[track_caller]
pub fn openssl_verifies(home: &Home, key: &str, message: &[u8], signature: &[u8]) {
    home.write("message", message);
    home.write("signature", signature);
    let digest: &[&str] = match key {
        "ed25519" => &["-rawin"],
        _ => &["-rawin", "-digest", "sha256"],
    };
    let mut openssl = home.clean("openssl");
    openssl
        .args([
            "pkeyutl",
            "-verify",
            "-pubin",
            "-in",
            "message",
            "-sigfile",
            "signature",
        ])
        .args(digest)
        .arg("-inkey")
        .arg(support::peers("cosign/keys").join(format!("{key}.pub")));
    let verified = support::run(&mut openssl).expect(0);
    let told = String::from_utf8_lossy(&verified.stdout);
    assert!(told.contains("Verified Successfully"), "{key}: {verified}");
}
