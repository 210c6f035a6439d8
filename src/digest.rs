//! Hash algorithms and digests: `ALGORITHM:HEX` text and raw bytes.

use sha2::Digest as _;
use std::fmt;

/// A hash algorithm that signed metadata may name.
///
/// Source: sylabs/sif `pkg/integrity`, the six names of a metadata digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
    /// SHA-512/224, 28 bytes.
    Sha512_224,
    /// SHA-512/256, 32 bytes.
    Sha512_256,
}

impl HashAlgorithm {
    /// Every algorithm, weakest name first.
    pub const ALL: [Self; 6] = [
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha512_224,
        Self::Sha512_256,
    ];

    /// The name in front of the colon of a digest: `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sha512_224 => "sha512_224",
            Self::Sha512_256 => "sha512_256",
        }
    }

    /// Length of a digest in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha224 | Self::Sha512_224 => 28,
            Self::Sha256 | Self::Sha512_256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Hashes `data` in one call.
    pub fn digest(self, data: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(data);
        hasher.finish()
    }

    /// Starts an incremental hash.
    pub fn hasher(self) -> Hasher {
        let state = match self {
            Self::Sha224 => State::Sha224(sha2::Sha224::new()),
            Self::Sha256 => State::Sha256(sha2::Sha256::new()),
            Self::Sha384 => State::Sha384(sha2::Sha384::new()),
            Self::Sha512 => State::Sha512(sha2::Sha512::new()),
            Self::Sha512_224 => State::Sha512_224(sha2::Sha512_224::new()),
            Self::Sha512_256 => State::Sha512_256(sha2::Sha512_256::new()),
        };
        Hasher {
            algorithm: self,
            state,
        }
    }
}

/// An incremental hash of one algorithm.
pub struct Hasher {
    algorithm: HashAlgorithm,
    state: State,
}

enum State {
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
    Sha512_224(sha2::Sha512_224),
    Sha512_256(sha2::Sha512_256),
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Sha224(h) => h.update(data),
            State::Sha256(h) => h.update(data),
            State::Sha384(h) => h.update(data),
            State::Sha512(h) => h.update(data),
            State::Sha512_224(h) => h.update(data),
            State::Sha512_256(h) => h.update(data),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        let bytes = match self.state {
            State::Sha224(h) => h.finalize().to_vec(),
            State::Sha256(h) => h.finalize().to_vec(),
            State::Sha384(h) => h.finalize().to_vec(),
            State::Sha512(h) => h.finalize().to_vec(),
            State::Sha512_224(h) => h.finalize().to_vec(),
            State::Sha512_256(h) => h.finalize().to_vec(),
        };
        Digest {
            algorithm: self.algorithm,
            bytes,
        }
    }
}

/// A digest with its algorithm; the length always fits the algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: Vec<u8>,
}

/// Why a digest text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The algorithm is not one of the six names.
    #[error("hash algorithm unsupported")]
    Unsupported,
    /// No colon, two colons, or a length that does not fit.
    #[error("digest malformed")]
    Malformed,
    /// The part behind the colon is not hexadecimal.
    #[error("digest malformed: {0}")]
    NotHex(HexError),
}

/// What is wrong with hexadecimal text, in the words of Go's `encoding/hex`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// A byte outside `0-9a-fA-F`.
    #[error("encoding/hex: invalid byte: U+{:04X}{}", .0, quote(*.0))]
    InvalidByte(u8),
    /// An odd number of digits.
    #[error("encoding/hex: odd length hex string")]
    OddLength,
}

/// The character behind its number, if it can be printed: Go's `%#U`.
fn quote(byte: u8) -> String {
    match byte {
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0xff => format!(" '{}'", char::from(byte)),
        _ => String::new(),
    }
}

/// Decodes hexadecimal text of either case.
///
/// # Errors
/// The first bad byte, else the odd length: the order in which Go reports them.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, HexError> {
    if let Some(bad) = text.bytes().find(|b| !b.is_ascii_hexdigit()) {
        return Err(HexError::InvalidByte(bad));
    }
    hex::decode(text).map_err(|_| HexError::OddLength)
}

impl Digest {
    /// Joins an algorithm and raw bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the length does not fit.
    pub fn from_bytes(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != algorithm.digest_len() {
            return Err(Error::Malformed);
        }
        Ok(Self {
            algorithm,
            bytes: bytes.to_vec(),
        })
    }

    /// Parses `ALGORITHM:HEX`; hex digits of either case.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, value) = text.split_once(':').ok_or(Error::Malformed)?;
        if value.contains(':') {
            return Err(Error::Malformed);
        }
        let algorithm = HashAlgorithm::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or(Error::Unsupported)?;
        let bytes = decode_hex(value).map_err(Error::NotHex)?;
        Self::from_bytes(algorithm, &bytes)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), hex::encode(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_the_fips_180_example_with_every_algorithm() {
        // FIPS 180-4 examples for "abc".
        let want = [
            "sha224:23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "sha512_224:4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa",
            "sha512_256:53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
        ];
        for (algorithm, want) in HashAlgorithm::ALL.into_iter().zip(want) {
            assert_eq!(algorithm.digest(b"abc").to_string(), want);
            assert_eq!(Digest::parse(want).unwrap(), algorithm.digest(b"abc"));
        }
    }

    #[test]
    fn refuses_what_go_refuses_in_the_same_words() {
        let text = |s: &str| Digest::parse(s).unwrap_err().to_string();
        assert_eq!(text("bad"), "digest malformed");
        assert_eq!(text("sha256:aa:bb"), "digest malformed");
        assert_eq!(text("sha256:597f"), "digest malformed");
        assert_eq!(
            text("sha256:zz"),
            "digest malformed: encoding/hex: invalid byte: U+007A 'z'"
        );
        assert_eq!(
            text("sha256:abc"),
            "digest malformed: encoding/hex: odd length hex string"
        );
        for weak in ["md5", "sha1", "SHA256", ""] {
            assert_eq!(
                text(&format!("{weak}:00")),
                "hash algorithm unsupported",
                "{weak}"
            );
        }
    }

    #[test]
    fn accepts_upper_case_digits() {
        let digest = HashAlgorithm::Sha256.digest(b"x");
        let upper = format!("sha256:{}", hex::encode_upper(digest.bytes()));
        assert_eq!(Digest::parse(&upper).unwrap(), digest);
    }
}
