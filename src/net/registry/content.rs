//! Manifests, blobs and referrers: reading.
//!
//! Nothing is believed before its digest was computed here.
//!
//! Source: OCI distribution specification 1.1, "Pull", "Listing Referrers".

use super::Error;
use super::session::{Ask, Session};
use crate::digest::{Digest, HashAlgorithm};
use crate::net::download::{Goal, Opened, Sink, download, range_headers};
use crate::net::http::Method;

/// Largest manifest or index, in bytes.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// Most pages of a list.
const MAX_PAGES: usize = 64;
/// Most bytes of all its pages.
const MAX_LIST: usize = 16 << 20;

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
    pub fn blob(&self, blob: &Blob<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let goal = Goal {
            what: format!("blob {url}"),
            size: Some(blob.size),
            digest: Some(blob.digest),
        };
        let open = |offset: u64| {
            let mut ask = Ask {
                url: url.clone(),
                ..self.ask(Method::Get, "")?
            };
            ask.headers = range_headers(offset);
            let answer = self.open(&ask)?;
            Opened::of(answer, |answer| self.refuse(&ask, answer))
        };
        download(&goal, self.patience, &open, sink).map(|_| ())
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
        let mut read = 0_usize;
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
            let next = answer.headers("link").find_map(next_page);
            let next = next
                .map(|next| self.next_page(&ask.url, next))
                .transpose()?;
            read = read.saturating_add(answer.body.len());
            if read > MAX_LIST {
                return Err(Error::Answer(format!(
                    "list of referrers of {subject} has more than {MAX_LIST} bytes"
                )));
            }
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

/// A media type without its parameters, in lower case.
fn media_type(header: Option<&str>) -> String {
    let text = header.unwrap_or_default();
    let text = text.split(';').next().unwrap_or_default();
    text.trim().to_ascii_lowercase()
}

/// The address in `Link: <...>; rel="next"`, which may have commas in it.
///
/// Source: RFC 8288, 3.
pub fn next_page(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let (parameters, others) = after.split_at(after.find('<').unwrap_or(after.len()));
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut kinds = value.trim().trim_matches('"').split(' ');
            name.trim().eq_ignore_ascii_case("rel")
                && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_is_called_so() {
        for (header, target) in [
            ("</a?last=x,y&n=2>; rel=\"next\"", Some("/a?last=x,y&n=2")),
            ("<https://h/x>;rel=next", Some("https://h/x")),
            (
                "<a>; rel=\"prev\", <b>; title=\"x\"; REL=\"last next\"",
                Some("b"),
            ),
            ("<x>; rel=\"last\"", None),
            ("<x>; title=\"next\"", None),
            ("rel=\"next\"", None),
            ("<x; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next_page(header), target, "{header}");
        }
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
