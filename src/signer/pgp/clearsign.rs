//! Clear-signed framing (RFC 9580, section 7) with go-crypto's rules.

use crate::key::pgp::decode_armor;

/// A clear-signed message that was taken apart. Nothing in it has been verified.
pub struct ClearSigned {
    plaintext: Vec<u8>,
    signed_bytes: Vec<u8>,
    body: Vec<u8>,
    intact: bool,
}

impl ClearSigned {
    /// The text, line ends as LF, without trailing blanks. UNVERIFIED: good for telling formats
    /// apart, never for decisions.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// The text as it was signed, line ends as CRLF.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed_bytes
    }

    /// The packets in the armor, decoded up to the first fault.
    pub fn signature_body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the armor decoded to its end.
    pub(super) fn intact(&self) -> bool {
        self.intact
    }
}

/// Finds the first clear-signed message. Text before and after it is ignored.
///
/// The BEGIN line must start a line and have nothing behind it; the only headers are `Hash:` with
/// known values, which are not compared with anything; trailing blanks are dropped; the armor must
/// be complete, its headers and checksum do not matter.
///
/// Source: go-crypto 1.4.1 `clearsign.Decode`.
pub fn parse(data: &[u8]) -> Option<ClearSigned> {
    let rest = match data.strip_prefix(BEGIN) {
        Some(rest) => rest,
        None => behind(data, &[b"\n", BEGIN].concat())?,
    };
    let (behind_begin, mut rest) = line(rest);
    if !behind_begin.is_empty() {
        return None;
    }
    loop {
        if rest.is_empty() {
            return None;
        }
        let header;
        (header, rest) = line(rest);
        if String::from_utf8_lossy(header).trim().is_empty() {
            break;
        }
        if !is_hash_header(header) {
            return None;
        }
    }
    let mut plaintext = Vec::new();
    let mut first = true;
    let armor = loop {
        let from = rest;
        let mut text;
        (text, rest) = line(from);
        if text.is_empty() && rest.is_empty() {
            return None;
        }
        if text == SIGNATURE {
            break from;
        }
        // The line end before the signature is not part of the text.
        if !first {
            plaintext.push(b'\n');
        }
        first = false;
        text = text.strip_prefix(ESCAPE).unwrap_or(text);
        while let [head @ .., b' ' | b'\t'] = text {
            text = head;
        }
        plaintext.extend_from_slice(text);
    };
    if first {
        // No line at all: the reference crashes here.
        return None;
    }
    let after = behind(armor, &[b"\n", END].concat())?;
    let armor = armor.get(..armor.len().checked_sub(after.len())?)?;
    let (block, _) = decode_armor(armor)?;
    // From the copy, not from the data: a writer could change that between two looks.
    let signed_bytes = with_crlf(&plaintext);
    Some(ClearSigned {
        plaintext,
        signed_bytes,
        body: block.body.to_vec(),
        intact: block.intact,
    })
}

/// Whether there is a clear-signed message anywhere in the data.
pub fn is_clear_signed(data: &[u8]) -> bool {
    parse(data).is_some()
}

/// Lines of `text` as they are framed, and the bytes that are signed.
///
/// Source: go-crypto `clearsign.Encode`.
pub(super) fn frame(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut framed = Vec::with_capacity(text.len());
    let mut signed = Vec::with_capacity(text.len());
    // A final line end ends the last line and begins no new one.
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut line = line;
        while let [head @ .., b' ' | b'\t' | b'\r'] = line {
            line = head;
        }
        if at > 0 {
            signed.extend_from_slice(b"\r\n");
        }
        signed.extend_from_slice(line);
        if line.first() == Some(&b'-') {
            framed.extend_from_slice(ESCAPE);
        }
        framed.extend_from_slice(line);
        framed.push(b'\n');
    }
    (framed, signed)
}

/// A text whose line ends are LF, with CRLF.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

/// Text-mode hashing: a lone LF becomes CRLF; a CR protects the next byte.
///
/// Source: go-crypto `canonical_text.go`.
pub(super) fn canonical(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut after_cr = false;
    for byte in text {
        if *byte == b'\n' && !after_cr {
            out.push(b'\r');
        }
        out.push(*byte);
        after_cr = *byte == b'\r' && !after_cr;
    }
    out
}

pub(super) const BEGIN: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
pub(super) const SIGNATURE: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
pub(super) const END: &[u8] = b"-----END PGP SIGNATURE-----";
const ESCAPE: &[u8] = b"- ";

const HASH_NAMES: &[&str] = &[
    "MD5",
    "SHA1",
    "RIPEMD160",
    "SHA224",
    "SHA256",
    "SHA384",
    "SHA512",
    "SHA3-256",
    "SHA3-512",
];

fn is_hash_header(header: &[u8]) -> bool {
    if !header.iter().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return false;
    }
    let header = String::from_utf8_lossy(header);
    let Some((key, values)) = header.split_once(':') else {
        return false;
    };
    key.trim() == "Hash"
        && values
            .split(',')
            .all(|value| HASH_NAMES.contains(&value.trim().to_ascii_uppercase().as_str()))
}

/// The first line without its LF or CRLF, and the rest.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        None => (data, &[]),
        Some(at) => {
            let (line, rest) = data.split_at(at);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (line, rest.get(1..).unwrap_or_default())
        }
    }
}

/// What follows the first occurrence of `wanted`.
fn behind<'a>(data: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let at = data
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    data.get(at.checked_add(wanted.len())?..)
}
