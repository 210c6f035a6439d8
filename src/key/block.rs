//! The PEM text form: finding the first block, writing one.

use super::pem::Error;
use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// Writes a PEM block: 64 columns, LF, a final line end.
pub fn encode_block(label: &str, body: &[u8]) -> String {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(body));
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    if !base64.is_empty() {
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// A decoded block; `dek_info` is the value of that header (RFC 1421).
pub(super) struct Block {
    pub(super) label: String,
    pub(super) dek_info: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Finds the first well-formed block in one pass over the lines.
///
/// A BEGIN line without its END is forgotten when another BEGIN comes, and a
/// block with a damaged body is passed over.
///
/// Source: Go `encoding/pem`, `Decode`.
pub(super) fn first_block(pem: &[u8]) -> Result<Block, Error> {
    Blocks::new(pem).next().ok_or(Error::NoBlock)
}

/// Finds all blocks of a file that has nothing but blanks behind the last one.
///
/// Source: spec/cli.md 7.1, pools.
pub(super) fn all_blocks(pem: &[u8]) -> Result<Vec<Block>, Error> {
    let mut blocks = Blocks::new(pem);
    let all = blocks.by_ref().collect();
    match blocks.passed_over {
        true => Err(Error::NoBlock),
        false => Ok(all),
    }
}

/// The blocks of a text, one after the other.
struct Blocks<'a, L> {
    lines: L,
    open: Option<(&'a [u8], Vec<&'a [u8]>)>,
    /// Whether there was other text since the last block.
    passed_over: bool,
}

impl<'a> Blocks<'a, ()> {
    fn new(pem: &'a [u8]) -> Blocks<'a, impl Iterator<Item = &'a [u8]>> {
        let lines = pem.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
        Blocks {
            lines,
            open: None,
            passed_over: false,
        }
    }
}

impl<'a, L: Iterator<Item = &'a [u8]>> Iterator for Blocks<'a, L> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        for line in self.lines.by_ref() {
            self.passed_over |= !line.is_empty();
            if let Some(rest) = line.strip_prefix(b"-----BEGIN ") {
                self.open = rest.strip_suffix(b"-----").map(|label| (label, Vec::new()));
            } else if let Some(rest) = line.strip_prefix(b"-----END ") {
                let block = self
                    .open
                    .take()
                    .filter(|(l, _)| rest.strip_suffix(b"-----") == Some(l));
                if let Some(block) = block.and_then(|(label, lines)| decode_block(label, &lines)) {
                    self.passed_over = false;
                    return Some(block);
                }
            } else if let Some((_, lines)) = &mut self.open {
                lines.push(line);
            }
        }
        None
    }
}

fn decode_block(label: &[u8], lines: &[&[u8]]) -> Option<Block> {
    let headers = lines.iter().take_while(|line| line.contains(&b':')).count();
    let (headers, lines) = lines.split_at_checked(headers)?;
    let dek_info = headers.iter().find_map(|line| {
        let value = line.trim_ascii_start().strip_prefix(b"DEK-Info")?;
        let value = value.trim_ascii_start().strip_prefix(b":")?;
        Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
    });
    let mut base64 = Zeroizing::new(Vec::with_capacity(lines.iter().map(|l| l.len()).sum()));
    for line in lines {
        base64.extend(line.iter().filter(|b| !matches!(b, b' ' | b'\t' | b'\r')));
    }
    // Go ignores the unused bits of the last character
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let body = Zeroizing::new(engine.decode(&*base64).ok()?);
    let label = String::from_utf8_lossy(label).into_owned();
    Some(Block {
        label,
        dek_info,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go 1.26 does; rustls-pki-types reads the second of them.
    #[test]
    fn base64_has_its_padding() {
        let text = encode_block("X", b"ab");
        assert_eq!(text, "-----BEGIN X-----\nYWI=\n-----END X-----\n");
        assert_eq!(first_block(text.as_bytes()).unwrap().body.as_slice(), b"ab");
        for wrong in ["YWI", "YWI==", "YWI=YWI=", "YW="] {
            assert!(first_block(text.replace("YWI=", wrong).as_bytes()).is_err());
        }
    }
}
