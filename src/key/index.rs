//! Answers of key servers to a search: machine readable lists of keys.
//!
//! Read as leniently as Apptainer does: line ends of any kind, missing fields at the end of a
//! line, unknown lines, no `info` line.
//!
//! Source: draft-shaw-openpgp-hkp-00 section 5.2; spec/cli.md 3.3.

/// The keys that a server listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The keys in the server's order.
    pub keys: Vec<ListedKey>,
    /// Number of keys that the server announced; nothing without such a line.
    announced: Option<Announced>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Announced {
    Number(usize),
    NotANumber,
}

/// One listed key; every field is text as the server sent it, empty if it sent none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedKey {
    /// Fingerprint or key id.
    pub fingerprint: String,
    /// Number of the algorithm.
    pub algorithm: String,
    /// Length in bits.
    pub bits: String,
    /// Creation time, seconds since 1970.
    pub created: String,
    /// Expiry time, seconds since 1970.
    pub expires: String,
    /// Any of `r`, `d`, `e`.
    pub flags: String,
    /// User ids, decoded.
    pub user_ids: Vec<String>,
}

/// Why a list cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The announced number is none.
    #[error("unable to check number of keys")]
    Count,
    /// Another number of keys came than was announced.
    #[error("failed to convert machine readable to human readable output correctly")]
    Mismatch,
    /// A field that should be a number.
    #[error("strconv.ParseInt: parsing {0:?}: invalid syntax")]
    NotANumber(String),
}

impl Index {
    /// Reads a list; text that is none gives an empty one.
    pub fn parse(text: &str) -> Self {
        let mut index = Self::default();
        for line in text.lines() {
            let mut fields = line.trim().split(':').map(str::trim);
            let mut next = || fields.next().unwrap_or_default().to_owned();
            match next().as_str() {
                "info" => {
                    let _version = next();
                    let count = next();
                    index.announced = (!count.is_empty()).then(|| match count.parse() {
                        Ok(number) => Announced::Number(number),
                        Err(_) => Announced::NotANumber,
                    });
                }
                "pub" => index.keys.push(ListedKey {
                    fingerprint: next(),
                    algorithm: next(),
                    bits: next(),
                    created: next(),
                    expires: next(),
                    flags: next(),
                    user_ids: Vec::new(),
                }),
                "uid" => {
                    if let Some(key) = index.keys.last_mut() {
                        key.user_ids.push(decode(&next()));
                    }
                }
                _ => {}
            }
        }
        index
    }

    /// Adds the next page of the same list.
    pub fn append(&mut self, mut page: Self) {
        let sum = match (&self.announced, &page.announced) {
            (Some(Announced::Number(all)), Some(Announced::Number(more))) => {
                // A server may announce the whole list on each page, or each page by itself.
                let seen = self.keys.len().saturating_add(page.keys.len());
                let is_total = all == more && *more >= seen;
                Some(Announced::Number(if is_total {
                    *all
                } else {
                    all.saturating_add(*more)
                }))
            }
            (Some(Announced::NotANumber), _) | (_, Some(Announced::NotANumber)) => {
                Some(Announced::NotANumber)
            }
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        self.announced = sum;
        self.keys.append(&mut page.keys);
    }

    /// Whether the announced number is one.
    ///
    /// # Errors
    /// [`Error::Count`].
    pub fn check_announced(&self) -> Result<(), Error> {
        match self.announced {
            Some(Announced::NotANumber) => Err(Error::Count),
            _ => Ok(()),
        }
    }

    /// Whether as many keys came as were announced; zero and nothing announce nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn check_count(&self) -> Result<(), Error> {
        match self.announced {
            Some(Announced::Number(number)) if number != 0 && number != self.keys.len() => {
                Err(Error::Mismatch)
            }
            _ => Ok(()),
        }
    }
}

impl ListedKey {
    /// The last 8 digits of the fingerprint.
    pub fn short_id(&self) -> &str {
        let from = self.fingerprint.len().saturating_sub(8);
        // Anything but ASCII is no hexadecimal number and stays whole.
        self.fingerprint.get(from..).unwrap_or(&self.fingerprint)
    }

    /// Name of the algorithm as the originals know it.
    ///
    /// # Errors
    /// [`Error::NotANumber`].
    pub fn algorithm_name(&self) -> Result<&'static str, Error> {
        Ok(match number(&self.algorithm)? {
            Some(1..=3) => "RSA",
            Some(16) => "Elgamal",
            Some(17) => "DSA",
            Some(18) => "Elliptic Curve",
            Some(19) => "ECDSA",
            Some(20) => "Reserved",
            Some(21) => "Diffie-Hellman",
            _ => "unknown",
        })
    }

    /// Creation time, seconds since 1970.
    ///
    /// # Errors
    /// [`Error::NotANumber`].
    pub fn created_at(&self) -> Result<Option<i64>, Error> {
        number(&self.created)
    }

    /// Expiry time, seconds since 1970; `none` is none.
    ///
    /// # Errors
    /// [`Error::NotANumber`].
    pub fn expires_at(&self) -> Result<Option<i64>, Error> {
        number(&self.expires)
    }

    /// What the flags say; a revoked key is revoked whatever else it is.
    pub fn status(&self) -> &'static str {
        let statuses = [('r', "revoked"), ('d', "disabled"), ('e', "expired")];
        statuses
            .into_iter()
            .find(|(flag, _)| self.flags.contains(*flag))
            .map_or("enabled", |(_, status)| status)
    }
}

fn number(text: &str) -> Result<Option<i64>, Error> {
    if text.is_empty() || text == "none" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Error::NotANumber(text.to_owned()))
}

/// Decodes `%20` and `+`; text that is not encoded so stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte.unwrap_or_default()).to_digit(16);
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return text.to_owned();
                };
                out.push(u8::try_from(high << 4 | low).unwrap_or_default());
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_send() {
        let text = "info:1:2\r\npub:31359731D5C34C90C977AAF822CC73292934D01F:1:4096:1795339157::\r\n\
                    uid:Second+Id+%3Csecond@example.org%3E:1795339157::\r\npub:ABC\r\nuid:A%ZZ:::\r\n";
        let index = Index::parse(text);
        assert_eq!(index.check_count(), Ok(()));
        assert_eq!(index.keys[0].short_id(), "2934D01F");
        assert_eq!(index.keys[0].user_ids, ["Second Id <second@example.org>"]);
        assert_eq!(index.keys[1].short_id(), "ABC");
        assert_eq!(index.keys[1].user_ids, ["A%ZZ"]);
        assert_eq!(Index::parse("<html>no</html>"), Index::default());
    }

    #[test]
    fn pages_add_up_whatever_is_announced() {
        for (first, second) in [("2", "2"), ("1", "1"), ("2", "")] {
            let mut index = Index::parse(&format!("info:1:{first}\npub:A\n"));
            index.append(Index::parse(&format!("info:1:{second}\npub:B\n")));
            assert_eq!(index.check_count(), Ok(()), "{first} {second}");
        }
    }

    #[test]
    fn never_panics() {
        for text in [
            "",
            ":",
            "info",
            "info:",
            "pub",
            "uid:x",
            "pub:é%",
            "pub:\nuid:%",
            "pub:\nuid:%4",
        ] {
            let index = Index::parse(text);
            for key in &index.keys {
                let _ = (key.short_id(), key.algorithm_name(), key.status());
            }
        }
    }
}
