//! ASCII armor, read as leniently as go-crypto reads it.

use base64::{
    DecodeError, Engine,
    engine::{GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD as STANDARD,
};
use zeroize::Zeroizing;

use super::{
    Entity, Error, Fingerprint, Keyring, Malformed,
    packet::{Packets, tag},
    public::PublicKey,
};

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
    for body in key_blocks(data) {
        entities.append(&mut usable(&body?)?);
    }
    Ok(entities)
}

/// Of the keys of a file those that are looked for.
#[derive(Default)]
pub struct Selected {
    /// Each key once, a few at most.
    pub entities: Vec<Entity>,
    /// The first key that is not looked for.
    pub other: Option<Fingerprint>,
    /// Why the last one that is looked for cannot be used.
    fault: Option<Malformed>,
}

/// As [`entities_from_armored_or_binary`], for a file by somebody who may want to keep us busy: the
/// signatures of a key are checked only if `is_wanted` says so of the primary key or of a sub-key.
///
/// # Errors
/// As [`entities_from_armored_or_binary`].
pub fn select_entities(
    data: &[u8],
    is_wanted: &dyn Fn(&Fingerprint) -> bool,
) -> Result<Selected, Error> {
    let mut selected = Selected::default();
    if let Ok(raw) = Keyring::split(data) {
        raw.into_iter()
            .for_each(|raw| selected.look_at(raw, is_wanted));
    } else {
        for body in key_blocks(data) {
            let body = body?;
            let raw = Keyring::split(&body)?;
            raw.into_iter()
                .for_each(|raw| selected.look_at(raw, is_wanted));
        }
    }
    match selected {
        Selected {
            ref entities,
            other: None,
            fault: Some(fault),
        } if entities.is_empty() => Err(fault.into()),
        selected => Ok(selected),
    }
}

impl Selected {
    fn look_at(&mut self, raw: &[u8], is_wanted: &dyn Fn(&Fingerprint) -> bool) {
        let mut keys = Packets::new(raw)
            .filter_map(Result::ok)
            .filter(|packet| is_key(packet.tag))
            .filter_map(|packet| PublicKey::parse(packet.body).ok())
            .map(|key| key.fingerprint)
            .peekable();
        let Some(primary) = keys.peek().copied() else {
            self.fault = Some(Malformed::Structural(
                "first packet was not a public/private key",
            ));
            return;
        };
        if !keys.any(|key| is_wanted(&key)) {
            self.other.get_or_insert(primary);
            return;
        }
        let is_known = |known: &Entity| known.fingerprint() == primary;
        if self.entities.len() >= MAX_SELECTED || self.entities.iter().any(is_known) {
            return;
        }
        match Entity::read(raw) {
            Ok(entity) => self.entities.push(entity),
            Err(fault) => self.fault = Some(fault),
        }
    }
}

fn is_key(packet: u8) -> bool {
    matches!(
        packet,
        tag::PUBLIC_KEY | tag::SECRET_KEY | tag::PUBLIC_SUBKEY | tag::SECRET_SUBKEY
    )
}

/// Keys of one answer that are taken: all but one are odd.
const MAX_SELECTED: usize = 4;

/// What an armored block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArmorKind {
    /// `PGP PUBLIC KEY BLOCK`.
    Public,
    /// `PGP PRIVATE KEY BLOCK`.
    Private,
}

/// Writes an armored block: no headers, 64 columns, the checksum line, no final line end.
///
/// Source: go-crypto `armor.Encode`.
pub fn encode(kind: ArmorKind, packets: &[u8]) -> Zeroizing<String> {
    let label = match kind {
        ArmorKind::Public => "PGP PUBLIC KEY BLOCK",
        ArmorKind::Private => "PGP PRIVATE KEY BLOCK",
    };
    let body = Zeroizing::new(STANDARD.encode(packets));
    // Sized beforehand: growing would leave copies of secret keys behind.
    let room = body.len() + body.len() / LINE + 128;
    let mut out = Zeroizing::new(String::with_capacity(room));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for (at, character) in body.chars().enumerate() {
        if at % LINE == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push('\n');
    out.push_str(&checksum(packets));
    out.push_str("\n-----END ");
    out.push_str(label);
    out.push_str("-----");
    out
}

/// The checksum line of an armored block, without its line end.
pub(crate) fn checksum(packets: &[u8]) -> String {
    let [_, checksum @ ..] = crc24(packets).to_be_bytes();
    format!("={}", STANDARD.encode(checksum))
}

/// Contents of the key blocks of a text, in order.
///
/// Ends with an error after a broken block, or if there is no key block at all.
pub(super) fn key_blocks(data: &[u8]) -> KeyBlocks<'_> {
    KeyBlocks {
        rest: data,
        found_keys: false,
        other: None,
        done: false,
    }
}

pub(super) struct KeyBlocks<'a> {
    rest: &'a [u8],
    found_keys: bool,
    other: Option<String>,
    done: bool,
}

impl Iterator for KeyBlocks<'_> {
    type Item = Result<Zeroizing<Vec<u8>>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let Some((block, behind)) = decode(self.rest) else {
                self.done = true;
                return (!self.found_keys).then(|| {
                    Err(match self.other.take() {
                        Some(kind) => Error::NotAKeyBlock(kind),
                        None => Error::NoArmor,
                    })
                });
            };
            self.rest = behind;
            match block.kind.as_str() {
                "PGP PUBLIC KEY BLOCK" | "PGP PRIVATE KEY BLOCK" => {
                    self.found_keys = true;
                    self.done = !block.intact;
                    return Some(block.intact.then_some(block.body).ok_or(Error::Armor));
                }
                _ => {
                    self.other.get_or_insert(block.kind);
                }
            }
        }
        None
    }
}

/// One armored block.
pub(crate) struct Block {
    /// The words behind `BEGIN`.
    pub(crate) kind: String,
    /// Decoded up to the first fault.
    pub(crate) body: Zeroizing<Vec<u8>>,
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

/// The checksum of RFC 9580, section 6.1.
fn crc24(data: &[u8]) -> u32 {
    const INITIAL: u32 = 0x00b7_04ce;
    const POLYNOMIAL: u32 = 0x0186_4cfb;
    let crc = data.iter().fold(INITIAL, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
            let shifted = crc << 1;
            match shifted & 0x0100_0000 {
                0 => shifted,
                _ => shifted ^ POLYNOMIAL,
            }
        })
    });
    crc & 0x00ff_ffff
}

/// Characters per line of what is written.
const LINE: usize = 64;
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

fn read_body(lines: &mut Lines<'_>) -> (Zeroizing<Vec<u8>>, bool) {
    // Sized beforehand: growing would leave copies of secret keys behind.
    let size = lines
        .clone()
        .take_while(|(line, long)| !is_end(line) && !is_too_long(line, *long))
        .map(|(line, _)| line.len());
    let mut text = Zeroizing::new(Vec::with_capacity(size.sum()));
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
    (Zeroizing::new(body), intact)
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
