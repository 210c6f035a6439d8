//! Container libraries: `library://entity/collection/container:tag`.
//!
//! Newer libraries hand out a token for the registry behind them; the images are there, as one
//! blob each. Older ones send the image themselves or from a store nearby.
//!
//! Source: spec/cli.md 9.2; sylabs/scs-library-client.

use super::Url;
use super::download::{
    Goal, Opened, Patience, Retry, Sink, download, is_transient, passing, range_headers,
};
use super::http::{self, Authorization, Client, Method, Pace, Request, Response, Upload};
use super::registry::{self, Access, Credential, Session};
use crate::digest::{Digest, HashAlgorithm};
use crate::remote::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{self, Read};

/// A library.
pub struct Library<'a> {
    client: &'a Client,
    base: Url,
    token: Option<Secret>,
    plain: bool,
    patience: Patience,
}

/// What a library says about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name in the library.
    #[serde(default)]
    pub id: String,
    /// `sha256.<hex>`, or `sif.<uuid>` of old images.
    #[serde(default)]
    pub hash: String,
    /// Bytes; 0 if the library does not say.
    #[serde(default)]
    pub size: u64,
    /// Whether the library has its data.
    #[serde(default)]
    pub uploaded: bool,
}

impl Image {
    /// The digest of the file, unless the library only knows its id.
    pub fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.hash.replacen('.', ":", 1)).ok()
    }
}

/// A repository in the registry behind a library.
pub struct Direct<'a> {
    /// The repository, ready for requests.
    pub session: Session<'a>,
}

/// Why a library is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or one that is no image.
    #[error(transparent)]
    Transfer(#[from] registry::Error),
    /// A refusal, in the originals' words.
    #[error("request did not succeed: {0}")]
    Refused(String),
    /// The image is one of layers, which is read from the registry.
    #[error("{0} is an OCI image")]
    Layers(String),
    /// Nothing there.
    #[error("requested image was not found in the library")]
    NotFound,
    /// A token is needed, or a better one.
    #[error("unauthorized")]
    Unauthorized,
    /// An answer that is not what it should be.
    #[error("error decoding {what}: line {line} column {column}")]
    Json {
        /// What was asked for.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Something that the library must say is missing.
    #[error("{0}")]
    Answer(&'static str),
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        Self::Transfer(error.into())
    }
}

/// An image to send.
pub struct NewImage<'a> {
    /// `entity/collection/container`.
    pub path: &'a str,
    /// Its architecture: `amd64`.
    pub arch: &'a str,
    /// Tags that it gets.
    pub tags: &'a [String],
    /// What the library shows about it.
    pub description: &'a str,
    /// SHA-256 of the file.
    pub digest: &'a Digest,
    /// Bytes.
    pub size: u64,
    /// Opens the file at a position.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync),
}

impl<'a> Library<'a> {
    /// A library at an address; the token goes to it alone.
    pub fn new(client: &'a Client, base: Url, token: Option<Secret>) -> Self {
        Self {
            client,
            base,
            token,
            plain: false,
            patience: Patience::default(),
        }
    }

    /// Lets the token go unencrypted to another machine if `plain`, the user's wish.
    #[must_use]
    pub fn with_plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// Changes how failures are met.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Asks for an image; nothing if there is none.
    ///
    /// # Errors
    /// [`Error::Layers`] for an image of layers, else as [`Error`] says.
    pub fn image(&self, reference: &str, arch: &str) -> Result<Option<Image>, Error> {
        let mut url = self.url(&format!("v1/images/{reference}"))?;
        url.query_pairs_mut().append_pair("arch", arch);
        let answer = self.ask(Method::Get, url, None)?;
        match answer.status {
            404 => Ok(None),
            _ => match self.accepted(&answer) {
                Ok(()) => data(&answer, "image").map(Some),
                Err(Error::Refused(text)) if text.contains(registry_config()) => {
                    Err(Error::Layers(reference.to_owned()))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Asks for the registry behind the library; nothing if there is none for us.
    ///
    /// # Errors
    /// The registry that is named cannot be used.
    pub fn direct(&self, name: &str, access: Access) -> Result<Option<Direct<'a>>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            url: String,
            #[serde(default)]
            name: String,
        }
        let types = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let mut url = self.url("v1/oci-redirect")?;
        url.query_pairs_mut()
            .append_pair("accessTypes", types)
            .append_pair("mapped", "1")
            .append_pair("namespace", name);
        let Ok(answer) = self.ask(Method::Get, url, None) else {
            return Ok(None);
        };
        let body = zeroize::Zeroizing::new(answer.body);
        let Some(answer) = (answer.status == 200)
            .then(|| serde_json::from_slice::<Answer>(&body).ok())
            .flatten()
        else {
            return Ok(None);
        };
        let registry = Url::parse(&answer.url)
            .ok()
            .filter(|url| url.has_host() && http::check_hop(&self.base, &self.base, url).is_ok())
            .ok_or(Error::Answer("malformed OCI registry URI"))?;
        let token = Secret::new(answer.token);
        let credential = (!token.is_empty()).then_some(Credential::Token(token));
        let name = if answer.name.is_empty() {
            name
        } else {
            &answer.name
        };
        // It becomes a part of addresses, and leads nowhere else.
        if !is_repository(name) {
            return Err(Error::Answer("malformed name of a repository"));
        }
        let session = Session::at(self.client, &registry, name, access, credential)?;
        Ok(Some(Direct {
            session: session.with_patience(self.patience),
        }))
    }

    /// Reads the file of an image from the library itself; returns its length.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn download(
        &self,
        reference: &str,
        arch: &str,
        image: &Image,
        sink: &mut Sink<'_>,
    ) -> Result<u64, Error> {
        let mut url = self.url(&format!("v1/imagefile/{reference}"))?;
        url.query_pairs_mut().append_pair("arch", arch);
        let digest = image.digest();
        let goal = Goal {
            what: format!("image {reference}"),
            size: Some(image.size).filter(|size| *size > 0),
            digest: digest.as_ref(),
        };
        let token = self.token.as_ref();
        let authorization = token.and_then(|token| Authorization::bearer(token.expose()));
        let open = |offset: u64| {
            let request = Request {
                headers: range_headers(offset),
                authorization: authorization.clone(),
                timeout: self.patience.idle,
                pace: Pace::Idle,
                plain: self.plain,
                ..Request::get(url.clone())
            };
            let answer = self.client.open(&request)?;
            Opened::of(answer, |answer| {
                registry::refusal("GET", &http::told(&url), answer, authorization.as_ref())
            })
        };
        match download(&goal, self.patience, &open, sink) {
            Err(error) if error.status() == Some(404) => Err(Error::NotFound),
            Err(error) if error.status() == Some(401) => Err(Error::Unauthorized),
            other => Ok(other?),
        }
    }

    /// Sends an image to the library itself and gives it its tags.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn upload(&self, new: &NewImage<'_>) -> Result<(), Error> {
        if new.size > MOST_BYTES {
            return Err(Error::Answer(
                "a library without a registry takes images of at most 5 GiB",
            ));
        }
        let hash = new.digest.to_string().replacen(':', ".", 1);
        let names: Vec<&str> = new.path.split('/').collect();
        let [entity, collection, container] = names.as_slice() else {
            return Err(Error::Answer("malformed image path"));
        };
        let described = |name: &str| json!({"name": name, "description": "No description"});
        let owner = self.found_or_made("entities", entity, described(entity))?;
        let mut wanted = described(collection);
        set(&mut wanted, "entity", &owner);
        let path = format!("{entity}/{collection}");
        let owner = self.found_or_made("collections", &path, wanted)?;
        let mut wanted = described(container);
        set(&mut wanted, "collection", &owner);
        let path = format!("{path}/{container}");
        let container = self.found_or_made("containers", &path, wanted)?;
        let image = match self.image(&format!("{path}:{hash}"), new.arch)? {
            Some(image) => image,
            None => {
                let wanted = json!({"hash": hash, "description": new.description,
                    "container": container});
                let answer = self.send("v1/images", Method::Post, &wanted)?;
                data(&answer, "image")?
            }
        };
        if !image.uploaded {
            self.send_file(new, &image.id)?;
        }
        for tag in new.tags {
            let wanted = json!({"Arch": new.arch, "Tag": tag, "ImageID": image.id});
            self.send(&format!("v2/tags/{container}"), Method::Post, &wanted)?;
        }
        Ok(())
    }

    /// The id of an entity, a collection or a container, which is made if missing.
    fn found_or_made(&self, kind: &str, path: &str, wanted: Value) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let url = self.url(&format!("v1/{kind}/{path}"))?;
        let answer = self.ask(Method::Get, url, None)?;
        let answer = match answer.status {
            404 => self.send(&format!("v1/{kind}"), Method::Post, &wanted)?,
            _ => {
                self.accepted(&answer)?;
                answer
            }
        };
        Ok(data::<Named>(&answer, "answer")?.id)
    }

    /// Sends the data to the store that the library names, and says so when it is there.
    fn send_file(&self, new: &NewImage<'_>, id: &str) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Place {
            #[serde(rename = "uploadURL")]
            url: String,
        }
        let hex: String = new.digest.to_string().split(':').skip(1).collect();
        let path = format!("v2/imagefile/{id}");
        let wanted = json!({"filesize": new.size, "sha256sum": hex});
        let mut retry = Retry::new(self.patience);
        loop {
            let answer = self.send(&path, Method::Post, &wanted)?;
            let place: Place = data(&answer, "upload address")?;
            let url = Url::parse(&place.url)
                .ok()
                .filter(|url| http::check_hop(&self.base, &self.base, url).is_ok())
                .ok_or(Error::Answer("error parsing presigned URL"))?;
            let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
            let signed = url
                .query_pairs()
                .find(|(name, _)| name == "X-Amz-SignedHeaders")
                .map(|(_, value)| value.into_owned());
            if signed.is_some_and(|list| list.split(';').any(|n| n == "x-amz-content-sha256")) {
                headers.push(("x-amz-content-sha256", hex.clone()));
            }
            let request = Request {
                method: Method::Put,
                headers,
                timeout: self.patience.commit,
                pace: Pace::Idle,
                ..Request::get(url)
            };
            let open = || (new.open)(0);
            let upload = Upload {
                len: new.size,
                open: &open,
            };
            // The address is a credential: it is not told.
            let hidden = |error: http::Error| registry::Error::from(error.without_query());
            match self.client.upload(&request, &upload).map_err(hidden) {
                Ok(answer) if answer.is_success() => break,
                Ok(answer) => {
                    let error = Error::Refused(format!(
                        "error uploading image: HTTP status {}",
                        answer.status
                    ));
                    if passing(&answer).is_none_or(|asked| !retry.wait(asked)) {
                        return Err(error);
                    }
                }
                Err(error) if is_transient(&error) && retry.wait(None) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.send(&format!("{path}/_complete"), Method::Put, &json!({}))?;
        Ok(())
    }

    fn send(&self, path: &str, method: Method, body: &Value) -> Result<Response, Error> {
        let body = body.to_string().into_bytes();
        let answer = self.ask(method, self.url(path)?, Some(body))?;
        self.accepted(&answer)?;
        Ok(answer)
    }

    fn ask(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Response, Error> {
        let token = self.token.as_ref();
        let request = Request {
            method,
            authorization: token.and_then(|token| Authorization::bearer(token.expose())),
            body: body.map(|body| ("application/json", body)),
            timeout: self.patience.idle,
            pace: Pace::Idle,
            plain: self.plain,
            ..Request::get(url)
        };
        let mut retry = Retry::new(self.patience);
        loop {
            match self.client.send(&request).map_err(registry::Error::from) {
                Ok(answer) => match passing(&answer) {
                    Some(asked) if method == Method::Get && retry.wait(asked) => {}
                    _ => return Ok(answer),
                },
                Err(error) if method == Method::Get && is_transient(&error) && retry.wait(None) => {
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks at the status, and at the error in the body.
    fn accepted(&self, answer: &Response) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Body {
            error: Fault,
        }
        #[derive(Deserialize)]
        struct Fault {
            #[serde(default)]
            message: String,
        }
        if answer.is_success() {
            return Ok(());
        }
        let told = serde_json::from_slice::<Body>(&answer.body).ok();
        let told = told.map(|body| body.error.message);
        let told = told.filter(|text| !text.is_empty()).map(|text| {
            let token = self.token.as_ref();
            let token = token.and_then(|token| Authorization::bearer(token.expose()));
            token.map_or(text.clone(), |token| token.redact(&text))
        });
        match told {
            Some(text) => Err(Error::Refused(text.chars().take(TOLD).collect())),
            None if answer.status == 401 => Err(Error::Unauthorized),
            None => Err(Error::Refused(format!(
                "http status code: {}",
                answer.status
            ))),
        }
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        let mut base = self.base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.join(path)
            .map_err(|_| Error::Answer("malformed library reference"))
    }
}

impl Direct<'_> {
    /// Sends an image as one blob and gives it its tags; `config` is what the library reads of it.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn upload(&self, new: &NewImage<'_>, config: &[u8]) -> Result<(), Error> {
        let session = &self.session;
        if !session.has_blob(new.digest)? {
            session.upload(&registry::Source {
                digest: new.digest,
                size: new.size,
                open: new.open,
            })?;
        }
        let config_digest = HashAlgorithm::Sha256.digest(config);
        let copy = config.to_vec();
        session.upload(&registry::Source {
            digest: &config_digest,
            size: u64::try_from(config.len()).unwrap_or_default(),
            open: &|at| Ok(Box::new(from(&copy, at))),
        })?;
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": SIF_CONFIG, "digest": config_digest.to_string(),
                "size": config.len()},
            "layers": [{"mediaType": SIF_LAYER, "digest": new.digest.to_string(),
                "size": new.size}],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = HashAlgorithm::Sha256.digest(&manifest);
        // The library finds it under the old name of the digest.
        let name = new.digest.to_string().replacen(':', ".", 1);
        session.put_manifest(&name, MANIFEST, &manifest)?;
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{"mediaType": MANIFEST, "digest": digest.to_string(),
                "size": manifest.len(),
                "platform": {"architecture": new.arch, "os": "linux"}}],
        });
        let index = index.to_string().into_bytes();
        for tag in new.tags {
            session.put_manifest(tag, INDEX, &index)?;
        }
        Ok(())
    }
}

/// Reads what a server of plain http or https sends; returns its length.
///
/// A broken connection is taken up only where the server names the version that it sends.
///
/// # Errors
/// As [`registry::Error`] says.
pub fn fetch_url(
    client: &Client,
    url: &Url,
    patience: Patience,
    sink: &mut Sink<'_>,
) -> Result<u64, registry::Error> {
    let version: RefCell<Option<String>> = RefCell::new(None);
    let goal = Goal {
        what: format!("file {}", http::told(url)),
        size: None,
        digest: None,
    };
    let open = |offset: u64| {
        let mut headers = range_headers(offset);
        if offset > 0 {
            match version.borrow().clone() {
                Some(version) => headers.push(("if-range", version)),
                None => {
                    return Err(registry::Error::Answer(format!(
                        "{}: connection broke, and the server does not let it be taken up",
                        goal.what
                    )));
                }
            }
        }
        let request = Request {
            headers,
            timeout: patience.idle,
            pace: Pace::Idle,
            ..Request::get(url.clone())
        };
        let answer = client.open(&request)?;
        if offset > 0 && answer.status() == 200 {
            return Err(registry::Error::Answer(format!(
                "{}: changed while it was read",
                goal.what
            )));
        }
        let tag = answer.header("etag").filter(|tag| !tag.starts_with("W/"));
        *version.borrow_mut() = tag.map(str::to_owned);
        Opened::of(answer, |answer| {
            registry::refusal("GET", &http::told(url), answer, None)
        })
    };
    download(&goal, patience, &open, sink)
}

/// Whether a name is one of a repository; libraries have some with capitals.
fn is_repository(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(inner)
    })
}

/// Media types of a SIF in a registry.
pub const SIF_CONFIG: &str = "application/vnd.sylabs.sif.config.v1+json";
/// The file itself.
pub const SIF_LAYER: &str = "application/vnd.sylabs.sif.layer.v1.sif";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Characters of a library's explanation that are told.
const TOLD: usize = 1000;

/// What a store takes in one request.
const MOST_BYTES: u64 = 5 << 30;

/// How a library says that an image is one of layers.
fn registry_config() -> &'static str {
    "application/vnd.oci.image.config.v1+json"
}

/// The value of the member `data`.
fn data<T: serde::de::DeserializeOwned>(answer: &Response, what: &'static str) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Body<T> {
        data: T,
    }
    let body: Body<T> = serde_json::from_slice(&answer.body).map_err(|error| Error::Json {
        what,
        line: error.line(),
        column: error.column(),
    })?;
    Ok(body.data)
}

fn set(object: &mut Value, name: &str, value: &str) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), Value::String(value.to_owned()));
    }
}

fn from(bytes: &[u8], at: u64) -> io::Cursor<Vec<u8>> {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    io::Cursor::new(bytes.get(at..).unwrap_or_default().to_vec())
}
