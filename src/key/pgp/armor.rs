//! ASCII armor, read as leniently as go-crypto reads it.

use base64::{
    DecodeError, Engine,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use super::{Entity, Error, Keyring, Malformed};

/// Reads keys from a file that is binary or armored.
///
/// Binary is tried first. Of an armored file every block is read; text before, between and after
/// the blocks is skipped. Empty input gives no entities.
///
/// # Errors
/// [`Error::NoArmor`], [`Error::NotAKeyBlock`] if no block holds keys, [`Error::Armor`], or what
/// made the only entities unusable.
pub fn entities_from_armored_or_binary(data: &[u8]) -> Result<Vec<Entity>, Error> {
    if let Ok(entities) = usable(data) {
        return Ok(entities);
    }
    let mut entities = Vec::new();
    let mut found_keys = false;
    let mut other = None;
    let mut rest = data;
    while let Some((block, behind)) = decode(rest) {
        rest = behind;
        match block.kind.as_str() {
            "PGP PUBLIC KEY BLOCK" | "PGP PRIVATE KEY BLOCK" => {
                if !block.intact {
                    return Err(Error::Armor);
                }
                found_keys = true;
                entities.append(&mut usable(&block.body)?);
            }
            _ => {
                other.get_or_insert(block.kind);
            }
        }
    }
    match (found_keys, other) {
        (true, _) => Ok(entities),
        (false, Some(kind)) => Err(Error::NotAKeyBlock(kind)),
        (false, None) => Err(Error::NoArmor),
    }
}

/// One armored block.
pub(crate) struct Block {
    /// The words behind `BEGIN`.
    pub(crate) kind: String,
    /// Decoded up to the first fault.
    pub(crate) body: zeroize::Zeroizing<Vec<u8>>,
    /// Whether the whole text decoded.
    pub(crate) intact: bool,
}

/// Finds the first armored block and what follows it.
///
/// Any `END` line or a checksum line ends the block; the checksum is not looked at. Header lines
/// are ignored. A block whose headers are broken is passed over.
///
/// Source: go-crypto `armor.Decode`.
pub(crate) fn decode(data: &[u8]) -> Option<(Block, &[u8])> {
    let mut lines = Lines { rest: data };
    loop {
        let kind = loop {
            let (line, long) = lines.next()?;
            if let Some(kind) = begin(line)
                && !long
            {
                break kind;
            }
        };
        let headers_end = loop {
            let (line, _) = lines.next()?;
            let line = line.trim_ascii();
            if line.is_empty() {
                break true;
            }
            if !line.contains(&b':') {
                break false;
            }
        };
        if headers_end {
            let (body, intact) = read_body(&mut lines);
            let block = Block { kind, body, intact };
            return Some((block, lines.rest));
        }
    }
}

/// Longest line in characters, as go-crypto.
const MAX_LINE: usize = 96;
/// Size of go-crypto's line buffer.
const BUFFER: usize = 100;

fn usable(data: &[u8]) -> Result<Vec<Entity>, Error> {
    let keyring = Keyring::parse(data)?;
    let last: Option<Malformed> = keyring.skipped().last().cloned();
    let entities = keyring.into_entities();
    match last {
        Some(reason) if entities.is_empty() => Err(reason.into()),
        _ => Ok(entities),
    }
}

fn begin(line: &[u8]) -> Option<String> {
    let kind = line.trim_ascii().strip_prefix(b"-----BEGIN ")?;
    let kind = kind.get(..kind.len().checked_sub(5)?)?;
    (!kind.is_empty()).then(|| String::from_utf8_lossy(kind).into_owned())
}

/// An END line or a checksum.
fn is_end(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"-----END ") || (line.len() == 5 && line.first() == Some(&b'='))
}

fn is_too_long(line: &[u8], long: bool) -> bool {
    long || line.trim_ascii().len() > MAX_LINE
}

fn read_body(lines: &mut Lines<'_>) -> (zeroize::Zeroizing<Vec<u8>>, bool) {
    // Sized beforehand: growing would leave copies of secret keys behind.
    let size = lines
        .clone()
        .take_while(|(line, long)| !is_end(line) && !is_too_long(line, *long))
        .map(|(line, _)| line.len());
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(size.sum()));
    let mut intact = true;
    for (line, long) in lines {
        let line = line.trim_ascii();
        if is_end(line) {
            break;
        }
        if is_too_long(line, long) {
            intact = false;
            break;
        }
        text.extend_from_slice(line);
    }
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let body = match engine.decode(text.as_slice()) {
        Ok(body) => body,
        Err(error) => {
            intact = false;
            let good = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            // Whole groups of four in front of the fault.
            let whole = good.min(text.len().saturating_sub(1)) / 4 * 4;
            let decode = |group: Option<&[u8]>| engine.decode(group.unwrap_or_default());
            let mut body = decode(text.get(..whole)).unwrap_or_default();
            // The faulty group may itself be whole, with padding and more text behind it.
            let group = text.get(whole..whole.saturating_add(4));
            body.append(&mut decode(group).unwrap_or_default());
            body
        }
    };
    (zeroize::Zeroizing::new(body), intact)
}

/// Lines without their line end, and whether each passes go-crypto's buffer.
#[derive(Clone)]
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match end {
            Some(at) => {
                let (line, rest) = self.rest.split_at(at);
                (line, rest.get(1..).unwrap_or_default())
            }
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some((line, line.len() >= BUFFER))
    }
}
