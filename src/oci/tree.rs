//! What an OCI-SIF holds, as a tree: index, images, layers, signatures.

use super::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind};
use super::ocisif::{Error, OciSif, parse_cosign_name};
use crate::digest::Digest;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// How deep indices are looked into.
const MAX_DEPTH: usize = 16;
/// How many nodes a tree has at most.
const MAX_NODES: usize = 100_000;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An index.
    Index,
    /// An image.
    Image,
    /// The config of an image.
    Config,
    /// A layer of an image.
    Layer,
    /// A signature image.
    Signatures,
    /// An attestation image.
    Attestations,
    /// One signature.
    Signature,
    /// One attestation.
    Attestation,
    /// An entry that is neither an image nor an index.
    Other,
}

impl Role {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Image => "image",
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Signatures => "signatures",
            Self::Attestations => "attestations",
            Self::Signature => "signature",
            Self::Attestation => "attestation",
            Self::Other => "other",
        }
    }
}

/// Something in the file, and what it names.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, as claimed.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Name of an entry.
    pub name: Option<String>,
    /// Platform of an image.
    pub platform: Option<String>,
    /// The image or index that signatures or attestations are about.
    pub subject: Option<Digest>,
    /// Annotations of a signature or attestation.
    pub annotations: BTreeMap<String, String>,
    /// Object of the SIF; `None` if it is not there.
    pub object: Option<u32>,
    /// What is wrong with it.
    pub fault: Option<String>,
    /// What it names.
    pub children: Vec<Node>,
}

/// Builds the tree; its root is the RootIndex.
///
/// What is missing or malformed is a node with a fault, not an error.
///
/// # Errors
/// [`Error::TooManyDocuments`].
pub fn of(oci: &OciSif<'_, '_>) -> Result<Node, Error> {
    let root = oci.root();
    let mut builder = Builder {
        oci,
        nodes: 0,
        manifests: HashMap::new(),
        indices: HashMap::new(),
    };
    let mut children = Vec::new();
    for entry in &oci.index().manifests {
        children.push(builder.entry(entry, 1)?);
    }
    Ok(Node {
        role: Role::Index,
        digest: super::ocisif::object_digest(root)?,
        size: u64::try_from(root.size()).unwrap_or_default(),
        media_type: super::build::INDEX_TYPE.to_owned(),
        name: None,
        platform: None,
        subject: None,
        annotations: BTreeMap::new(),
        object: Some(root.raw_id()),
        fault: None,
        children,
    })
}

/// A document, or why there is none.
type Read<D> = Rc<Result<D, String>>;

struct Builder<'o, 'i, 'a> {
    oci: &'o OciSif<'i, 'a>,
    nodes: usize,
    /// What was read, which may be named many times.
    manifests: HashMap<Digest, Read<ImageManifest>>,
    indices: HashMap<Digest, Read<ImageIndex>>,
}

impl Builder<'_, '_, '_> {
    fn node(&mut self, content: &ContentDescriptor, role: Role) -> Result<Node, Error> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err(Error::TooManyDocuments);
        }
        let (object, fault) = match self.oci.object(content) {
            Ok(object) => (Some(object.raw_id()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(Node {
            role,
            digest: content.digest.clone(),
            size: content.size,
            media_type: content.media_type.clone(),
            name: content.ref_name().map(str::to_owned),
            platform: content.platform.as_ref().map(ToString::to_string),
            subject: None,
            annotations: BTreeMap::new(),
            object,
            fault,
            children: Vec::new(),
        })
    }

    fn entry(&mut self, content: &ContentDescriptor, depth: usize) -> Result<Node, Error> {
        let subject = content.ref_name().and_then(parse_cosign_name);
        let role = match (content.kind(), &subject) {
            (Kind::Image, Some((_, "sig"))) => Role::Signatures,
            (Kind::Image, Some((_, "att"))) => Role::Attestations,
            (Kind::Image, _) => Role::Image,
            (Kind::Index, _) => Role::Index,
            (Kind::Other, _) => Role::Other,
        };
        let mut node = self.node(content, role)?;
        node.subject = subject.map(|(digest, _)| digest);
        if node.object.is_none() {
            return Ok(node);
        }
        match role {
            Role::Index if depth >= MAX_DEPTH => {
                node.fault = Some(format!("more than {MAX_DEPTH} indices in each other"));
            }
            Role::Index => match &*self.index_of(content) {
                Ok(index) => {
                    for entry in &index.manifests {
                        let child = self.entry(entry, depth.saturating_add(1))?;
                        node.children.push(child);
                    }
                }
                Err(error) => node.fault = Some(error.clone()),
            },
            Role::Other => {}
            _ => match &*self.manifest_of(content) {
                Ok(manifest) => self.image(&mut node, manifest)?,
                Err(error) => node.fault = Some(error.clone()),
            },
        }
        Ok(node)
    }

    fn manifest_of(&mut self, content: &ContentDescriptor) -> Read<ImageManifest> {
        let oci = self.oci;
        let read = || Rc::new(oci.manifest(content).map_err(|error| error.to_string()));
        let known = self.manifests.entry(content.digest.clone());
        Rc::clone(known.or_insert_with(read))
    }

    fn index_of(&mut self, content: &ContentDescriptor) -> Read<ImageIndex> {
        let oci = self.oci;
        let read = || Rc::new(oci.child_index(content).map_err(|error| error.to_string()));
        let known = self.indices.entry(content.digest.clone());
        Rc::clone(known.or_insert_with(read))
    }

    fn image(&mut self, node: &mut Node, manifest: &ImageManifest) -> Result<(), Error> {
        let inner = match node.role {
            Role::Signatures => Role::Signature,
            Role::Attestations => Role::Attestation,
            _ => Role::Layer,
        };
        for layer in &manifest.layers {
            let mut child = self.node(layer, inner)?;
            if inner != Role::Layer {
                child.annotations.clone_from(&layer.annotations);
            }
            node.children.push(child);
        }
        // The config of signatures says nothing.
        if inner == Role::Layer {
            let config = self.node(&manifest.config, Role::Config)?;
            node.children.push(config);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;
    use crate::oci::ocisif::tests::oci_image_of;
    use crate::sif::Image;
    use serde_json::{Value, json};

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn content(media_type: &str, bytes: &[u8]) -> Value {
        let digest = HashAlgorithm::Sha256.digest(bytes).to_string();
        json!({"mediaType": media_type, "size": bytes.len(), "digest": digest})
    }

    fn index(entries: &[Value]) -> Vec<u8> {
        json!({"manifests": entries}).to_string().into_bytes()
    }

    fn tree(blobs: &[&[u8]], root: &[u8]) -> Result<Node, Error> {
        let bytes = oci_image_of(blobs, root);
        let image = Image::parse(&bytes).unwrap();
        of(&OciSif::new(&image).unwrap())
    }

    #[test]
    fn an_image_shows_its_config_signatures_do_not_and_what_is_foreign_is_no_document() {
        let layers = json!([content("l", b"layer"), content("l", b"layer")]);
        let manifest = json!({"config": content("c", b"{}"), "layers": layers}).to_string();
        let entry = content(MANIFEST, manifest.as_bytes());
        let named = |suffix: &str| {
            let digest = entry["digest"].as_str().unwrap().replace(':', "-");
            let mut entry = entry.clone();
            let name = format!("_cosign:{digest}.{suffix}");
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            entry
        };
        let foreign = content("text/plain", b"foreign");
        let root = index(&[
            entry.clone(),
            named("sig"),
            named("att"),
            named("sbom"),
            foreign,
        ]);
        let blobs: [&[u8]; 4] = [b"layer", b"{}", manifest.as_bytes(), b"foreign"];
        let tree = tree(&blobs, &root).unwrap();
        let roles: Vec<_> = tree
            .children
            .iter()
            .map(|node| {
                assert_eq!(node.fault, None);
                let inner: Vec<_> = node.children.iter().map(|child| child.role).collect();
                (node.role, inner)
            })
            .collect();
        let image = vec![Role::Layer, Role::Layer, Role::Config];
        let expected = [
            (Role::Image, image.clone()),
            (Role::Signatures, vec![Role::Signature; 2]),
            (Role::Attestations, vec![Role::Attestation; 2]),
            (Role::Image, image),
            (Role::Other, vec![]),
        ];
        assert_eq!(roles, expected);
    }

    #[test]
    fn sixteen_indices_in_each_other_are_looked_into() {
        let told = |count: usize| {
            let mut blobs = vec![index(&[])];
            for _ in 1..count {
                let inner = content(INDEX, blobs.last().unwrap());
                blobs.push(index(&[inner]));
            }
            let root = blobs.pop().unwrap();
            let blobs: Vec<_> = blobs.iter().map(Vec::as_slice).collect();
            let mut node = tree(&blobs, &root).unwrap();
            let mut depth = 1;
            while let Some(child) = node.children.pop() {
                node = child;
                depth += 1;
            }
            (depth, node.fault)
        };
        // The root index is one more.
        assert_eq!(told(16), (16, None));
        let fault = "more than 16 indices in each other".to_owned();
        assert_eq!(told(17), (17, Some(fault.clone())));
        assert_eq!(told(18), (17, Some(fault)));
    }

    #[test]
    fn a_tree_has_a_hundred_thousand_nodes_and_not_one_more() {
        let nodes = |count: usize| {
            let gone = content("text/plain", b"gone");
            let list = index(&vec![gone.clone(); 24_999]);
            let inner = content(INDEX, &list);
            let more = count - 75_000;
            let entries = [vec![inner; 3], vec![gone; more]].concat();
            tree(&[&list], &index(&entries))
        };
        let whole = nodes(100_000).unwrap();
        assert_eq!(whole.children.len(), 25_003);
        assert!(matches!(nodes(100_001), Err(Error::TooManyDocuments)));
    }
}
