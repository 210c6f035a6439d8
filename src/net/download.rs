//! Large transfers: what breaks is taken up again, what is wrong is refused.

use super::http::{self, Incoming, Response};
use super::registry::Error;
use crate::digest::{Digest, Hasher};
use std::io;
use std::time::{Duration, SystemTime};

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;
/// Largest explanation of a refusal that is read.
const MAX_REFUSAL: u64 = 1 << 20;

/// Where the bytes of a download go, in order.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// What a download has to bring.
pub(super) struct Goal<'a> {
    /// For errors: `blob https://...`.
    pub(super) what: String,
    /// Bytes, if known.
    pub(super) size: Option<u64>,
    /// Their digest, if known.
    pub(super) digest: Option<&'a Digest>,
}

/// How a server answers to the wish for a part.
pub(super) enum Opened {
    /// The part, or the whole.
    Body(Box<Incoming>),
    /// It may work later, after this time.
    Later(Error, Option<Duration>),
}

impl Opened {
    /// Sorts an answer; `refuse` makes an error of one that is none.
    pub(super) fn of(
        answer: Incoming,
        refuse: impl FnOnce(&Response) -> Error,
    ) -> Result<Self, Error> {
        let status = answer.status();
        if matches!(status, 200 | 206) {
            return Ok(Self::Body(Box::new(answer)));
        }
        let answer = answer.into_response(MAX_REFUSAL)?;
        match passing(&answer) {
            Some(asked) => Ok(Self::Later(refuse(&answer), asked)),
            None => Err(refuse(&answer)),
        }
    }
}

/// The header fields that ask for what begins at `offset`, byte for byte.
pub(super) fn range_headers(offset: u64) -> Vec<(&'static str, String)> {
    let mut headers = vec![("accept-encoding", "identity".to_owned())];
    if offset > 0 {
        headers.push(("range", format!("bytes={offset}-")));
    }
    headers
}

/// Brings the bytes to `sink`, each once and in order; returns their number.
///
/// `open` asks for what begins at a position.
pub(super) fn download(
    goal: &Goal<'_>,
    patience: Patience,
    open: &dyn Fn(u64) -> Result<Opened, Error>,
    sink: &mut Sink<'_>,
) -> Result<u64, Error> {
    let mut download = Download {
        goal,
        size: goal.size,
        done: 0,
        hasher: goal.digest.map(|digest| digest.algorithm().hasher()),
        sink,
    };
    let mut retry = Retry::new(patience);
    loop {
        let before = download.done;
        let step = match open(before) {
            Ok(Opened::Body(answer)) => download.read(*answer).map(|()| None),
            Ok(Opened::Later(refused, asked)) => Ok(Some((refused, asked))),
            Err(error) => Err(error),
        };
        if download.done > before {
            retry.progress();
        }
        let (error, asked) = match step {
            Ok(None) if download.is_whole() => break,
            Ok(None) => (download.size_error(download.done), None),
            Ok(Some((refused, asked))) => (refused, asked),
            Err(error) if is_transient(&error) => (error, None),
            Err(error) => return Err(error),
        };
        if !retry.wait(asked) {
            return Err(error);
        }
    }
    if let (Some(hasher), Some(expected)) = (download.hasher, goal.digest) {
        let found = hasher.finish();
        if found != *expected {
            return Err(Error::Digest {
                what: goal.what.clone(),
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    }
    Ok(download.done)
}

/// A download that may take several connections.
struct Download<'a> {
    goal: &'a Goal<'a>,
    size: Option<u64>,
    done: u64,
    hasher: Option<Hasher>,
    sink: &'a mut Sink<'a>,
}

impl Download<'_> {
    fn is_whole(&self) -> bool {
        self.size.is_none_or(|size| self.done == size)
    }

    /// Reads one answer to its end.
    fn read(&mut self, mut answer: Incoming) -> Result<(), Error> {
        let mut skip = match answer.status() {
            206 => {
                let part = answer.header("content-range").unwrap_or_default();
                if !part.starts_with(&format!("bytes {}-", self.done)) {
                    return Err(Error::Range {
                        what: self.goal.what.clone(),
                        found: part.to_owned(),
                    });
                }
                0
            }
            // The whole again; what is known already is left out.
            _ => self.done,
        };
        let known = self.done.saturating_sub(skip);
        let announced = answer.header("content-length").and_then(|n| n.parse().ok());
        if let Some(announced) = announced {
            let whole = known.saturating_add(announced);
            if *self.size.get_or_insert(whole) != whole {
                return Err(self.size_error(whole));
            }
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
            if self.size.is_some_and(|size| after > size) {
                return Err(self.size_error(after));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(piece);
            }
            (self.sink)(piece).map_err(|error| Error::Sink(http::errno_text(&error)))?;
            self.done = after;
        }
    }

    fn size_error(&self, found: u64) -> Error {
        Error::Size {
            what: self.goal.what.clone(),
            expected: self.size.unwrap_or_default(),
            found,
        }
    }
}

/// How failures that may pass are met.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts in a row without any progress.
    pub attempts: u32,
    /// Pause before the second one; it doubles.
    pub pause: Duration,
    /// Longest pause, also when the server asks for more.
    pub longest: Duration,
    /// Time without any progress after which an attempt has failed.
    pub idle: Duration,
    /// Time that a registry may take to put an upload together.
    pub commit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            commit: Duration::from_secs(300),
        }
    }
}

/// Counts attempts and waits between them.
pub(super) struct Retry {
    patience: Patience,
    failures: u32,
    all: u32,
}

/// Attempts of one transfer, however much each of them brings.
const MOST_ATTEMPTS: u32 = 64;

impl Retry {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failures: 0,
            all: 0,
        }
    }

    /// Notes that something was transferred.
    pub(super) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt; false if there is none.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.all = self.all.saturating_add(1);
        if self.failures >= self.patience.attempts || self.all >= MOST_ATTEMPTS {
            return false;
        }
        let doubled = 1_u32.checked_shl(self.failures.saturating_sub(1));
        let pause = self
            .patience
            .pause
            .saturating_mul(doubled.unwrap_or(u32::MAX));
        let pause = asked.unwrap_or_default().max(pause);
        std::thread::sleep(pause.min(self.patience.longest));
        true
    }
}

/// Whether an answer is a failure that may pass, and the time that the server asks for.
pub(super) fn passing(answer: &Response) -> Option<Option<Duration>> {
    is_transient_status(answer.status).then(|| answer.header("retry-after").and_then(retry_after))
}

/// Whether a failure may pass.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Http(error) => error.is_transient(),
        Error::Status { code, .. } => is_transient_status(*code),
        _ => false,
    }
}

pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long a `Retry-After` header asks to wait: seconds, or a date.
///
/// Source: RFC 9110, 10.2.3.
pub fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // The day of the week says nothing new; servers get it wrong.
    let date = value.split_once(", ").map_or(value, |(_, date)| date);
    let at = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let at = u64::try_from(at.as_second()).ok()?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    Some(Duration::from_secs(at).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(Duration::ZERO)
        );
        let future = retry_after("Wed, 21 Oct 2115 07:28:00 GMT").unwrap();
        assert!(future > Duration::from_secs(3600));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn attempts_are_counted_from_the_last_progress() {
        let patience = Patience {
            attempts: 3,
            pause: Duration::ZERO,
            longest: Duration::ZERO,
            ..Patience::default()
        };
        let mut retry = Retry::new(patience);
        assert!(retry.wait(None) && retry.wait(Some(Duration::MAX)));
        retry.progress();
        assert!(retry.wait(None) && retry.wait(None) && !retry.wait(None));
        let mut endless = Retry::new(patience);
        let steps = (0..1000).take_while(|_| {
            endless.progress();
            endless.wait(None)
        });
        assert!(steps.count() < 100);
    }
}
