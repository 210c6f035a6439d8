//! Manifests and blobs: writing.
//!
//! Source: OCI distribution specification 1.1, "Push".

use super::Error;
use super::content::{Stored, referrers_tag};
use super::session::{Ask, Session};
use crate::digest::Digest;
use crate::net::Url;
use crate::net::download::{Retry, is_transient, is_transient_status, retry_after};
use crate::net::http::{Method, Response, Upload};
use std::io::{self, Read};

/// Bodies up to this size go in one request, with the digest.
const SMALL: u64 = 64 << 10;
/// Size of the pieces if a server refuses a large body.
const PIECE: u64 = 8 << 20;

/// Bytes to send, which can be opened at any position; a broken upload goes on where it broke.
pub struct Source<'a> {
    /// Their digest.
    pub digest: &'a Digest,
    /// Their number.
    pub size: u64,
    /// Opens them at a position.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync),
}

/// Where an upload stands.
struct Place {
    /// Where the rest goes.
    url: Url,
    /// What the registry has.
    offset: u64,
}

/// How an attempt ended.
enum End {
    /// The blob is there.
    Done,
    /// The server takes no body of that size.
    TooLarge(Error),
    /// It may work later, where it ended.
    Later(Error, Option<std::time::Duration>),
}

impl Session<'_> {
    /// Asks for a blob of another repository to be put into this one; false if it has to be sent.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        let mut ask = self.ask(Method::Post, "blobs/uploads/")?;
        ask.url
            .query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        ask.also = Some(from);
        ask.body = Some((OCTETS, &[]));
        let answer = self.send(&ask)?;
        match answer.status {
            201 => Ok(true),
            // An upload was begun instead, which is left to end by itself; a refusal is about the
            // other repository.
            202 | 401 | 403 | 404 | 405 => Ok(false),
            _ => Err(self.refuse(&ask, &answer)),
        }
    }

    /// Sends a blob.
    ///
    /// # Errors
    /// A refusal, or a source that fails.
    pub fn upload(&self, source: &Source<'_>) -> Result<(), Error> {
        let mut retry = Retry::new(self.patience);
        let mut piece = u64::MAX;
        let mut place: Option<Place> = None;
        loop {
            let at = match place.take() {
                Some(place) => place,
                None => self.begin()?,
            };
            let before = at.offset;
            let mut reached = at;
            match self.send_rest(source, &mut reached, piece)? {
                End::Done => return Ok(()),
                End::TooLarge(error) if piece <= PIECE => return Err(error),
                // A proxy in front of the registry, mostly.
                End::TooLarge(_) => piece = PIECE,
                End::Later(error, asked) => {
                    if reached.offset > before {
                        retry.progress();
                    }
                    if !retry.wait(asked) {
                        return Err(error);
                    }
                    if self.has_blob(source.digest)? {
                        return Ok(());
                    }
                    place = self.resume(reached)?;
                    if place.as_ref().is_some_and(|place| place.offset > before) {
                        retry.progress();
                    }
                }
            }
        }
    }

    /// Begins an upload.
    fn begin(&self) -> Result<Place, Error> {
        let mut ask = self.ask(Method::Post, "blobs/uploads/")?;
        ask.body = Some((OCTETS, &[]));
        let answer = self.send(&ask)?;
        if answer.status != 202 {
            return Err(self.refuse(&ask, &answer));
        }
        Ok(Place {
            url: self.location(&ask.url, &answer)?,
            offset: 0,
        })
    }

    /// Asks how far an upload came; nothing if it has to begin again.
    fn resume(&self, place: Place) -> Result<Option<Place>, Error> {
        let ask = Ask {
            url: place.url,
            ..self.ask(Method::Get, "")?
        };
        let answer = match self.send(&ask) {
            Ok(answer) if answer.status == 204 => answer,
            Ok(_) => return Ok(None),
            Err(error) if is_transient(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(offset) = reached(&answer) else {
            return Ok(None);
        };
        let url = match answer.header("location") {
            Some(_) => self.location(&ask.url, &answer)?,
            None => ask.url,
        };
        Ok(Some(Place { url, offset }))
    }

    /// Sends what is left, in pieces of at most `piece` bytes, and closes the upload.
    fn send_rest(&self, source: &Source<'_>, place: &mut Place, piece: u64) -> Result<End, Error> {
        if source.size > SMALL {
            while place.offset < source.size {
                let len = source.size.saturating_sub(place.offset).min(piece);
                let offset = place.offset;
                let open = || (source.open)(offset).map(|reader| limited(reader, len));
                let mut ask = Ask {
                    url: place.url.clone(),
                    upload: Some(Upload { len, open: &open }),
                    ..self.ask(Method::Patch, "")?
                };
                ask.headers.push(("content-type", OCTETS.to_owned()));
                if offset > 0 || len < source.size {
                    let last = offset.saturating_add(len).saturating_sub(1);
                    ask.headers
                        .push(("content-range", format!("{offset}-{last}")));
                }
                let answer = match self.finish(&ask)? {
                    Ok(answer) => answer,
                    Err(end) => return Ok(end),
                };
                if !matches!(answer.status, 201 | 202 | 204) {
                    return Err(self.refuse(&ask, &answer));
                }
                place.url = self.location(&ask.url, &answer)?;
                let sent = offset.saturating_add(len);
                // Some do not say how far it came; then it was all.
                place.offset = reached(&answer).filter(|at| *at <= sent).unwrap_or(sent);
                // The rest is sent again, but not any number of times.
                if place.offset < sent {
                    let error = Error::Answer(format!(
                        "registry took {} of {len} bytes of blob {}",
                        place.offset.saturating_sub(offset),
                        source.digest
                    ));
                    return Ok(End::Later(error, None));
                }
            }
        }
        let offset = place.offset;
        let len = source.size.saturating_sub(offset);
        let open = || (source.open)(offset).map(|reader| limited(reader, len));
        let mut ask = Ask {
            url: place.url.clone(),
            upload: Some(Upload { len, open: &open }),
            idle: self.patience.commit,
            ..self.ask(Method::Put, "")?
        };
        ask.headers.push(("content-type", OCTETS.to_owned()));
        ask.url
            .query_pairs_mut()
            .append_pair("digest", &source.digest.to_string());
        match self.finish(&ask)? {
            Err(end) => Ok(end),
            Ok(answer) if matches!(answer.status, 201 | 204) => Ok(End::Done),
            Ok(answer) => Err(self.refuse(&ask, &answer)),
        }
    }

    /// Sends one request of an upload; a failure that may pass is an end.
    fn finish(&self, ask: &Ask<'_>) -> Result<Result<Response, End>, Error> {
        match self.once(ask) {
            Ok(answer) if answer.status == 413 => Ok(Err(End::TooLarge(self.refuse(ask, &answer)))),
            // The registry has something else than we believe.
            Ok(answer) if answer.status == 416 || is_transient_status(answer.status) => {
                let asked = answer.header("retry-after").and_then(retry_after);
                Ok(Err(End::Later(self.refuse(ask, &answer), asked)))
            }
            Ok(answer) => Ok(Ok(answer)),
            Err(error) if is_transient(&error) => Ok(Err(End::Later(error, None))),
            Err(error) => Err(error),
        }
    }

    /// Stores a manifest or an index under a tag or its digest, byte for byte.
    ///
    /// # Errors
    /// A refusal.
    pub fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Stored, Error> {
        let open = || Ok(Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn Read + Send>);
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let ask = Ask {
            headers: vec![("content-type", media_type.to_owned())],
            upload: Some(Upload { len, open: &open }),
            ..self.ask(Method::Put, &format!("manifests/{reference}"))?
        };
        let answer = self.send(&ask)?;
        if !matches!(answer.status, 200..=202) {
            return Err(self.refuse(&ask, &answer));
        }
        Ok(Stored {
            lists_subject: answer.header("oci-subject").is_some(),
        })
    }

    /// The tag that stands in for the list of what refers to a manifest: `sha256-<hex>`.
    pub fn referrers_tag(subject: &Digest) -> String {
        referrers_tag(subject)
    }
}

const OCTETS: &str = "application/octet-stream";

fn limited(reader: Box<dyn Read + Send>, len: u64) -> Box<dyn Read + Send> {
    Box::new(reader.take(len))
}

/// How many bytes a registry has: `Range: 0-9` is ten.
fn reached(answer: &Response) -> Option<u64> {
    let range = answer.header("range")?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    // An empty upload is `0-0`, which could be one byte as well; sending it again does no harm.
    (first == "0").then(|| match last {
        0 => 0,
        last => last.saturating_add(1),
    })
}
