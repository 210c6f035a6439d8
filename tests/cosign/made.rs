//! OCI-SIF files made byte by byte, as spec/oci-sif-cosign.md 1.1 has them.

use sigsif::digest::{Digest, HashAlgorithm};

/// SHA-256.
pub fn sha(bytes: &[u8]) -> Digest {
    HashAlgorithm::Sha256.digest(bytes)
}

/// A descriptor of content.
pub fn content(media_type: &str, bytes: &[u8], more: &str) -> String {
    let (size, digest) = (bytes.len(), sha(bytes));
    format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"{more}}}"#)
}

/// Media types.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An index with these entries.
pub fn index(entries: &[String]) -> Vec<u8> {
    let entries = entries.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#).into_bytes()
}

/// A manifest with this config and one layer.
pub fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    let (config, layer) = (content(CONFIG, config, ""), content(LAYER, layer, ""));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#
    )
    .into_bytes()
}

/// A file of these blobs and this root index, with free slots.
pub fn oci_sif(blobs: &[&[u8]], root: &[u8]) -> Vec<u8> {
    let number = |n: usize| i64::try_from(n).expect("small").to_le_bytes();
    let total = blobs.len() + 9;
    let start = 4096 + 585 * total;
    let mut file = vec![0; start];
    let put = |file: &mut Vec<u8>, at: usize, new: &[u8]| {
        file[at..at + new.len()].copy_from_slice(new);
    };
    put(&mut file, 32, b"SIF_MAGIC\x0001\x0000\0");
    let objects = blobs
        .iter()
        .map(|blob| (0x400b_i32, *blob))
        .chain([(0x400a, root)]);
    for (slot, (kind, data)) in objects.enumerate() {
        let at = 4096 + 585 * slot;
        let offset = file.len();
        put(&mut file, at, &kind.to_le_bytes());
        file[at + 4] = 1;
        put(
            &mut file,
            at + 5,
            &u32::try_from(slot + 1).expect("small").to_le_bytes(),
        );
        put(&mut file, at + 9, &0xf000_0001_u32.to_le_bytes());
        put(&mut file, at + 17, &number(offset));
        put(&mut file, at + 25, &number(data.len()));
        put(&mut file, at + 33, &number(data.len()));
        put(&mut file, at + 41, &(-62_135_596_800_i64).to_le_bytes());
        put(&mut file, at + 49, &(-62_135_596_800_i64).to_le_bytes());
        put(&mut file, at + 201, sha(data).to_string().as_bytes());
        file.extend_from_slice(data);
    }
    let size = file.len() - start;
    put(&mut file, 64, &(-62_135_596_800_i64).to_le_bytes());
    put(&mut file, 72, &(-62_135_596_800_i64).to_le_bytes());
    for (at, value) in [8, total, 4096, 585 * total, start, size]
        .into_iter()
        .enumerate()
    {
        put(&mut file, 80 + 8 * at, &number(value));
    }
    file
}
