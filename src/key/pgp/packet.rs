//! OpenPGP packet framing (RFC 9580, section 4.2) and the field reader under it.

use super::Malformed;

/// Tags of the packets a keyring or a signature is made of.
pub(crate) mod tag {
    pub(crate) const SIGNATURE: u8 = 2;
    pub(crate) const SECRET_KEY: u8 = 5;
    pub(crate) const PUBLIC_KEY: u8 = 6;
    pub(crate) const SECRET_SUBKEY: u8 = 7;
    pub(crate) const MARKER: u8 = 10;
    pub(crate) const TRUST: u8 = 12;
    pub(crate) const USER_ID: u8 = 13;
    pub(crate) const PUBLIC_SUBKEY: u8 = 14;
    pub(crate) const USER_ATTRIBUTE: u8 = 17;
    /// From here on unknown packets may be ignored.
    pub(crate) const FIRST_NON_CRITICAL: u8 = 40;
}

/// The only content a marker packet may have.
pub(crate) const MARKER: &[u8] = b"PGP";

/// One packet, borrowed from its source.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
    /// Header and body, as they were found.
    pub(crate) raw: &'a [u8],
}

/// Walks over concatenated packets. After an error it yields nothing more.
pub(crate) struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Packets<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn read(&mut self) -> Result<Packet<'a>, Malformed> {
        let start = self.rest;
        let mut fields = Fields(start);
        let head = fields.u8()?;
        if head & 0x80 == 0 {
            return Err(Malformed::NoPacketTag);
        }
        let (tag, length) = if head & 0x40 == 0 {
            let length = match head & 3 {
                0 => usize::from(fields.u8()?),
                1 => usize::from(fields.u16()?),
                2 => fields.u32_len()?,
                // Indeterminate length: up to the end of the data.
                _ => fields.0.len(),
            };
            ((head & 0x3f) >> 2, length)
        } else {
            let length = match fields.u8()? {
                n @ 0..192 => usize::from(n),
                n @ 192..224 => (usize::from(n - 192) << 8) + usize::from(fields.u8()?) + 192,
                224..255 => return Err(Malformed::PartialLength),
                255 => fields.u32_len()?,
            };
            (head & 0x3f, length)
        };
        let body = fields.take(length)?;
        let used = start.len().saturating_sub(fields.0.len());
        let (raw, rest) = start.split_at_checked(used).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(Packet { tag, body, raw })
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = self.read();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

/// Appends a packet with a new-format header.
pub(crate) fn write(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(0xc0 | tag);
    match u32::try_from(body.len()).unwrap_or(u32::MAX) {
        n @ 0..192 => out.push(n.to_be_bytes()[3]),
        n @ 192..8384 => {
            let [.., high, low] = (n - 192).to_be_bytes();
            out.extend([high + 192, low]);
        }
        n => {
            out.push(255);
            out.extend(n.to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

/// Reads big-endian fields; every read is checked against what is left.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A 32-bit count of bytes.
    pub(crate) fn u32_len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| Malformed::Truncated)
    }

    /// A multi-precision integer: its declared length in bits and its bytes.
    pub(crate) fn mpi(&mut self) -> Result<(u16, &'a [u8]), Malformed> {
        let bits = self.u16()?;
        Ok((bits, self.take(usize::from(bits).div_ceil(8))?))
    }
}

/// Appends a multi-precision integer; leading zero bytes are dropped.
pub(crate) fn write_mpi(out: &mut Vec<u8>, value: &[u8]) {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let value = value.get(zeros..).unwrap_or_default();
    let spare = value.first().map_or(0, |byte| byte.leading_zeros());
    let bits = value.len().saturating_mul(8).saturating_sub(spare as usize);
    out.extend(u16::try_from(bits).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
}
