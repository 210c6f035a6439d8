//! Manifests, blobs and referrers: reading.
//!
//! Nothing is believed before its digest was computed here.
//!
//! Source: OCI distribution specification 1.1, "Pull", "Listing Referrers".

use super::Error;
use super::session::{Ask, Retry, Session, is_transient, is_transient_status, retry_after};
use crate::digest::{Digest, HashAlgorithm, Hasher};
use crate::net::Url;
use crate::net::http::{Incoming, Method};

/// Largest manifest or index, in bytes.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// Most pages of a list.
const MAX_PAGES: usize = 64;
/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// What is asked for when a tag is read.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or an index with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Media type that the registry names, without parameters.
    pub media_type: String,
    /// SHA-256 of the bytes, or what it was asked for by.
    pub digest: Digest,
}

/// What a registry says about a manifest that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// It keeps the list of what refers to the manifest's subject (`OCI-Subject`).
    pub lists_subject: bool,
}

/// A blob to fetch.
pub struct Blob<'a> {
    /// Its digest.
    pub digest: &'a Digest,
    /// Its length in bytes, from the manifest.
    pub size: u64,
}

/// Lists of what refers to a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// Index documents, page by page.
    pub pages: Vec<Vec<u8>>,
    /// They come from the tag that stands in for the interface.
    pub from_tag: bool,
}

impl Session<'_> {
    /// Reads a manifest or an index by tag or digest; nothing if there is none.
    ///
    /// # Errors
    /// A refusal, or bytes that do not fit the digest that was asked for.
    pub fn manifest(&self, reference: &str) -> Result<Option<Manifest>, Error> {
        let ask = Ask {
            headers: vec![("accept", ACCEPT.to_owned())],
            ..self.ask(Method::Get, &format!("manifests/{reference}"))?
        };
        let answer = self.send(&ask)?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.refuse(&ask, &answer)),
        }
        let asked = Digest::parse(reference).ok();
        let said = answer
            .header("docker-content-digest")
            .and_then(|text| Digest::parse(text).ok());
        let algorithm = asked
            .as_ref()
            .or(said.as_ref())
            .map_or(HashAlgorithm::Sha256, Digest::algorithm);
        let digest = algorithm.digest(&answer.body);
        // Both what was asked for and what the server says have to fit.
        for expected in [asked, said].into_iter().flatten() {
            let found = expected.algorithm().digest(&answer.body);
            if found != expected {
                return Err(Error::Digest {
                    what: format!("manifest {}", ask.url),
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(Some(Manifest {
            media_type: media_type(answer.header("content-type")),
            digest,
            bytes: answer.body,
        }))
    }

    /// Whether the registry has a blob.
    ///
    /// # Errors
    /// No answer. A refusal counts as "no".
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let ask = self.ask(Method::Head, &format!("blobs/{digest}"))?;
        Ok(self.send(&ask)?.status == 200)
    }

    /// Whether the registry has a manifest under a digest.
    ///
    /// # Errors
    /// As [`Session::has_blob`].
    pub fn has_manifest(&self, digest: &Digest) -> Result<bool, Error> {
        let ask = Ask {
            headers: vec![("accept", ACCEPT.to_owned())],
            ..self.ask(Method::Head, &format!("manifests/{digest}"))?
        };
        Ok(self.send(&ask)?.status == 200)
    }

    /// Reads a blob piece by piece: `sink` gets every byte once, in order, and all of them were
    /// what they should be only if this returns without an error.
    ///
    /// A broken connection is taken up where it broke.
    ///
    /// # Errors
    /// A refusal, another length, another digest, or a sink that fails.
    pub fn blob(
        &self,
        blob: &Blob<'_>,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut ask = self.ask(Method::Get, &format!("blobs/{}", blob.digest))?;
        let mut download = Download {
            what: format!("blob {}", ask.url),
            size: blob.size,
            done: 0,
            hasher: blob.digest.algorithm().hasher(),
            sink,
        };
        let mut retry = Retry::new(self.patience);
        loop {
            ask.headers = vec![("accept-encoding", "identity".to_owned())];
            if download.done > 0 {
                ask.headers
                    .push(("range", format!("bytes={}-", download.done)));
            }
            let before = download.done;
            let step = self.open(&ask).and_then(|answer| {
                let status = answer.status();
                if matches!(status, 200 | 206) {
                    return download.read(answer).map(|()| None);
                }
                let asked = answer.header("retry-after").and_then(retry_after);
                let answer = answer.into_response(MAX_MANIFEST)?;
                let refused = self.refuse(&ask, &answer);
                if is_transient_status(status) {
                    Ok(Some((refused, asked)))
                } else {
                    Err(refused)
                }
            });
            if download.done > before {
                retry.progress();
            }
            let (error, asked) = match step {
                Ok(None) if download.done == blob.size => break,
                Ok(None) => (download.short(), None),
                Ok(Some((refused, asked))) => (refused, asked),
                Err(error) if is_transient(&error) => (error, None),
                Err(error) => return Err(error),
            };
            if !retry.wait(asked) {
                return Err(error);
            }
        }
        let found = download.hasher.finish();
        if found != *blob.digest {
            return Err(Error::Digest {
                what: download.what,
                expected: blob.digest.to_string(),
                found: found.to_string(),
            });
        }
        Ok(())
    }

    /// Reads a small blob into memory, at most `max` bytes.
    ///
    /// # Errors
    /// As [`Session::blob`]; [`Error::Size`] if it is larger.
    pub fn small_blob(&self, blob: &Blob<'_>, max: u64) -> Result<Vec<u8>, Error> {
        if blob.size > max {
            return Err(Error::Size {
                what: format!("blob {}", blob.digest),
                expected: max,
                found: blob.size,
            });
        }
        let mut bytes = Vec::new();
        self.blob(blob, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Lists what refers to a manifest, by the interface or by the tag that stands in for it.
    ///
    /// # Errors
    /// No answer, or a list without end.
    pub fn referrers(&self, subject: &Digest) -> Result<Referrers, Error> {
        let mut pages = Vec::new();
        let mut ask = Ask {
            headers: vec![("accept", INDEX.to_owned())],
            ..self.ask(Method::Get, &format!("referrers/{subject}"))?
        };
        loop {
            let answer = self.send(&ask)?;
            let is_index = media_type(answer.header("content-type")) == INDEX;
            match answer.status {
                200 if is_index => {}
                // What registries without the interface say.
                200 | 400 | 404 | 405 | 406 if pages.is_empty() => break,
                _ => return Err(self.refuse(&ask, &answer)),
            }
            let next = answer
                .header("link")
                .and_then(|link| next_page(&ask.url, link));
            pages.push(answer.body);
            match next {
                Some(next) if pages.len() < MAX_PAGES => ask.url = next,
                Some(_) => {
                    return Err(Error::Answer(format!(
                        "list of referrers of {subject} has more than {MAX_PAGES} pages"
                    )));
                }
                None => {
                    return Ok(Referrers {
                        pages,
                        from_tag: false,
                    });
                }
            }
        }
        let tag = self.manifest(&referrers_tag(subject))?;
        Ok(Referrers {
            pages: tag.map(|index| index.bytes).into_iter().collect(),
            from_tag: true,
        })
    }

    /// A request with the usual limits.
    pub(super) fn ask<'b>(&self, method: Method, path: &str) -> Result<Ask<'b>, Error> {
        Ok(Ask {
            method,
            url: self.url(path)?,
            headers: Vec::new(),
            body: None,
            upload: None,
            idle: self.patience.idle,
            also: None,
        })
    }
}

/// The tag that stands in for the list of referrers: `sha256-<hex>`.
pub(super) fn referrers_tag(subject: &Digest) -> String {
    subject.to_string().replacen(':', "-", 1)
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A download that may take several connections.
struct Download<'a> {
    what: String,
    size: u64,
    done: u64,
    hasher: Hasher,
    sink: &'a mut dyn FnMut(&[u8]) -> std::io::Result<()>,
}

impl Download<'_> {
    /// Reads one answer to its end.
    fn read(&mut self, mut answer: Incoming) -> Result<(), Error> {
        let mut skip = match answer.status() {
            206 => {
                let part = answer.header("content-range").unwrap_or_default();
                if !part.starts_with(&format!("bytes {}-", self.done)) {
                    return Err(Error::Range {
                        what: self.what.clone(),
                        found: part.to_owned(),
                    });
                }
                0
            }
            // The whole again; what is known already is left out.
            _ => self.done,
        };
        let wanted = self.size.saturating_sub(self.done).saturating_add(skip);
        let announced = answer.header("content-length").and_then(|n| n.parse().ok());
        if let Some(announced) = announced.filter(|announced: &u64| *announced != wanted) {
            let known = self.done.saturating_sub(skip);
            return Err(self.size_error(known.saturating_add(announced)));
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = answer.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            let mut piece = chunk.get(..count).unwrap_or_default();
            if skip > 0 {
                let known = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
                piece = piece.get(known..).unwrap_or_default();
                skip = skip.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX));
            }
            let after = self
                .done
                .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if after > self.size {
                return Err(self.size_error(after));
            }
            self.hasher.update(piece);
            (self.sink)(piece).map_err(|error| Error::Sink(sink_text(&error)))?;
            self.done = after;
        }
    }

    fn short(&self) -> Error {
        self.size_error(self.done)
    }

    fn size_error(&self, found: u64) -> Error {
        Error::Size {
            what: self.what.clone(),
            expected: self.size,
            found,
        }
    }
}

/// The text of a system error as Go prints it.
fn sink_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text.to_owned(),
    }
}

/// A media type without its parameters, in lower case.
fn media_type(header: Option<&str>) -> String {
    let text = header.unwrap_or_default();
    let text = text.split(';').next().unwrap_or_default();
    text.trim().to_ascii_lowercase()
}

/// The address behind `Link: <...>; rel="next"`, if it stays with the server.
fn next_page(asked: &Url, header: &str) -> Option<Url> {
    let link = header
        .split(',')
        .find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let (_, rest) = link.split_once('<')?;
    let (target, _) = rest.split_once('>')?;
    let url = asked.join(target).ok()?;
    (url.origin() == asked.origin()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_on_one_server() {
        let asked = Url::parse("https://r/v2/a/referrers/sha256:00").unwrap();
        let next = next_page(
            &asked,
            "</v2/a/referrers/sha256:00?last=x&n=2>; rel=\"next\"",
        );
        assert_eq!(
            next.unwrap().as_str(),
            "https://r/v2/a/referrers/sha256:00?last=x&n=2"
        );
        assert!(next_page(&asked, "<https://evil/x>; rel=\"next\"").is_none());
        assert!(next_page(&asked, "<x>; rel=\"last\"").is_none());
        assert!(next_page(&asked, "rel=\"next\"").is_none());
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        assert_eq!(
            media_type(Some("Application/JSON; charset=utf-8")),
            "application/json"
        );
        assert_eq!(media_type(None), "");
    }
}
