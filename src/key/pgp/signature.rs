//! Signature packets: parsing as go-crypto does it, hashing, writing.

use sequoia_openpgp::{crypto::mpi, types::HashAlgorithm};

use super::{
    Fingerprint, Malformed,
    packet::{Fields, write_mpi},
    public::algorithm,
};

/// Signature types of RFC 9580, section 5.2.1.
pub(crate) mod kind {
    pub(crate) const BINARY: u8 = 0x00;
    pub(crate) const TEXT: u8 = 0x01;
    pub(crate) const GENERIC: u8 = 0x10;
    pub(crate) const POSITIVE: u8 = 0x13;
    pub(crate) const SUBKEY_BINDING: u8 = 0x18;
    pub(crate) const PRIMARY_BINDING: u8 = 0x19;
    pub(crate) const DIRECT: u8 = 0x1f;
    pub(crate) const KEY_REVOCATION: u8 = 0x20;
    pub(crate) const SUBKEY_REVOCATION: u8 = 0x28;
    pub(crate) const USER_ID_REVOCATION: u8 = 0x30;
}

/// Bits of the key flags sub-packet.
pub(crate) mod flag {
    pub(crate) const CERTIFY: u8 = 1;
    pub(crate) const SIGN: u8 = 2;
}

/// A parsed signature packet, version 4 or 6.
#[derive(Clone)]
pub(crate) struct Signature {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) algorithm: u8,
    pub(crate) hash: HashAlgorithm,
    /// What is hashed behind the signed data.
    pub(crate) suffix: Vec<u8>,
    /// First two bytes of the digest, as claimed.
    pub(crate) tag: [u8; 2],
    pub(crate) salt: Vec<u8>,
    pub(crate) mpis: mpi::Signature,
    /// Seconds since 1970.
    pub(crate) created: u32,
    /// Seconds after creation; 0 is never.
    pub(crate) lifetime: Option<u32>,
    /// Seconds after creation of the key; 0 is never.
    pub(crate) key_lifetime: Option<u32>,
    pub(crate) issuer: Option<u64>,
    issuer_fingerprint: Option<Vec<u8>>,
    pub(crate) primary_user_id: Option<bool>,
    /// Names of notations marked critical. None is known, so each one counts.
    pub(crate) critical_notations: Vec<String>,
    /// First octet of the key flags, when there is such a sub-packet.
    pub(crate) flags: Option<u8>,
    pub(crate) revocation_reason: Option<u8>,
    pub(crate) embedded: Option<Box<Signature>>,
}

impl Signature {
    /// Parses a signature packet body.
    ///
    /// # Errors
    /// `Malformed::Unsupported` where go-crypto skips the packet, anything else where it fails.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        Self::parse_nested(body, true)
    }

    fn parse_nested(body: &[u8], may_embed: bool) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let version = fields.u8()?;
        if version != 4 && version != 6 {
            return Err(Malformed::Unsupported("signature packet version", version));
        }
        let (kind, algorithm, hash_id) = (fields.u8()?, fields.u8()?, fields.u8()?);
        let long = version == 6;
        let hashed_length = length(&mut fields, long)?;
        if !super::public::can_sign(algorithm) {
            return Err(Malformed::Unsupported("public key algorithm", algorithm));
        }
        let hash = match (hash_id, version) {
            (2, 4) => HashAlgorithm::SHA1,
            (8..=12 | 14, _) => HashAlgorithm::from(hash_id),
            _ => return Err(Malformed::Unsupported("hash function", hash_id)),
        };
        let hashed = fields.take(hashed_length)?;
        let mut signature = Self {
            version,
            kind,
            algorithm,
            hash,
            suffix: suffix(version, kind, algorithm, hash_id, hashed),
            tag: [0; 2],
            salt: Vec::new(),
            mpis: mpi::Signature::RSA {
                s: mpi::MPI::new(&[]),
            },
            created: 0,
            lifetime: None,
            key_lifetime: None,
            issuer: None,
            issuer_fingerprint: None,
            primary_user_id: None,
            critical_notations: Vec::new(),
            flags: None,
            revocation_reason: None,
            embedded: None,
        };
        let mut dated = false;
        signature.read_area(hashed, true, may_embed, &mut dated)?;
        if !dated {
            return Err(Malformed::Structural("no creation time in signature"));
        }
        let unhashed_length = length(&mut fields, long)?;
        let unhashed = fields.take(unhashed_length)?;
        signature.read_area(unhashed, false, may_embed, &mut dated)?;
        signature.tag = fields.array()?;
        if long {
            let salt_length = usize::from(fields.u8()?);
            if salt_length != salt_length_of(hash) {
                return Err(Malformed::Structural(
                    "unexpected salt size for the given hash algorithm",
                ));
            }
            signature.salt = fields.take(salt_length)?.to_vec();
        }
        signature.mpis = read_mpis(algorithm, &mut fields)?;
        Ok(signature)
    }

    /// Whether the signature names this key as its issuer.
    pub(crate) fn issued_by(&self, fingerprint: &Fingerprint, key_id: u64) -> bool {
        match &self.issuer_fingerprint {
            Some(issuer) => issuer == fingerprint.as_bytes(),
            None => self.issuer == Some(key_id),
        }
    }

    /// Whether the signature is expired at `now` (seconds since 1970); one from the future is.
    pub(crate) fn expired(&self, now: u64) -> bool {
        let created = u64::from(self.created);
        let lifetime = u64::from(self.lifetime.unwrap_or(0));
        created > now || (lifetime != 0 && now > created.saturating_add(lifetime))
    }

    pub(crate) fn may_sign(&self) -> bool {
        self.flags.is_some_and(|flags| flags & flag::SIGN != 0)
    }

    fn read_area(
        &mut self,
        area: &[u8],
        hashed: bool,
        may_embed: bool,
        dated: &mut bool,
    ) -> Result<(), Malformed> {
        let mut fields = Fields(area);
        while !fields.0.is_empty() {
            let length = subpacket_length(&mut fields)?;
            let body = fields.take(length).map_err(|_| TRUNCATED)?;
            let (head, body) = body
                .split_first()
                .ok_or(Malformed::Structural("zero length signature subpacket"))?;
            self.read_subpacket(
                head & 0x7f,
                head & 0x80 != 0,
                body,
                hashed,
                may_embed,
                dated,
            )?;
        }
        Ok(())
    }

    fn read_subpacket(
        &mut self,
        number: u8,
        critical: bool,
        body: &[u8],
        hashed: bool,
        may_embed: bool,
        dated: &mut bool,
    ) -> Result<(), Malformed> {
        use Malformed::Structural;
        if !hashed && !matches!(number, 16 | 32 | 33) {
            return Ok(());
        }
        let u32_or = |fault| {
            body.try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| Structural(fault))
        };
        match number {
            2 => {
                self.created = u32_or("signature creation time not four bytes")?;
                *dated = true;
            }
            3 => self.lifetime = Some(u32_or("expiration subpacket with bad length")?),
            4 => match body.first() {
                Some(0) => return Err(Malformed::LocalSignature),
                Some(_) => {}
                None => return Err(Structural("exportable subpacket with bad length")),
            },
            5 if body.len() != 2 => return Err(Structural("trust subpacket with bad length")),
            6 if body.is_empty() => return Err(Structural("regexp subpacket with bad length")),
            6 if body.last() != Some(&0) => {
                return Err(Structural(
                    "expected regular expression to be null-terminated",
                ));
            }
            9 => self.key_lifetime = Some(u32_or("key expiration subpacket with bad length")?),
            16 => {
                if self.version > 4 && hashed {
                    return Err(Structural("issuer subpacket found in v6 key"));
                }
                let id = body
                    .try_into()
                    .map_err(|_| Structural("issuer subpacket with bad length"))?;
                if self.version == 4 {
                    self.issuer = Some(u64::from_be_bytes(id));
                }
            }
            20 => self.read_notation(body, critical)?,
            25 => match body {
                [value] => self.primary_user_id = Some(*value > 0),
                _ => return Err(Structural("primary user id subpacket with bad length")),
            },
            27 => {
                let flags = body.first().copied().unwrap_or(0);
                self.flags = Some(self.flags.unwrap_or(0) | flags);
            }
            29 => {
                let reason = body
                    .first()
                    .ok_or(Structural("empty revocation reason subpacket"))?;
                self.revocation_reason = Some(*reason);
            }
            32 => self.read_embedded(body, may_embed)?,
            33 => {
                let (version, fingerprint) = body
                    .split_first()
                    .ok_or(Structural("empty issuer fingerprint subpacket"))?;
                let id =
                    issuer_id(*version, fingerprint).ok_or(Structural("bad fingerprint length"))?;
                self.issuer_fingerprint = Some(fingerprint.to_vec());
                self.issuer = Some(id);
            }
            35 => {
                let (version, fingerprint) = body
                    .split_first()
                    .ok_or(Structural("invalid intended recipient fingerpring length"))?;
                issuer_id(*version, fingerprint).ok_or(Structural("invalid fingerprint length"))?;
            }
            39 if !body.len().is_multiple_of(2) => {
                return Err(Structural("invalid aead cipher suite length"));
            }
            5 | 6 | 11 | 21..=24 | 26 | 28 | 30 | 39 => {}
            other if critical => {
                return Err(Malformed::Unsupported(
                    "unknown critical signature subpacket type",
                    other,
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn read_notation(&mut self, body: &[u8], critical: bool) -> Result<(), Malformed> {
        const FAULT: Malformed = Malformed::Structural("notation data subpacket with bad length");
        let mut fields = Fields(body);
        fields.u32().map_err(|_| FAULT)?;
        let name_length = fields.u16().map_err(|_| FAULT)?;
        let value_length = fields.u16().map_err(|_| FAULT)?;
        let name = fields.take(usize::from(name_length)).map_err(|_| FAULT)?;
        if fields.0.len() != usize::from(value_length) {
            return Err(FAULT);
        }
        if critical {
            self.critical_notations
                .push(String::from_utf8_lossy(name).into_owned());
        }
        Ok(())
    }

    fn read_embedded(&mut self, body: &[u8], may_embed: bool) -> Result<(), Malformed> {
        if self.embedded.is_some() {
            return Err(Malformed::Structural(
                "Cannot have multiple embedded signatures",
            ));
        }
        // One level is all a cross-signature needs, and bounds the recursion.
        if !may_embed {
            return Err(Malformed::Structural("embedded signature too deep"));
        }
        let embedded = Self::parse_nested(body, false)?;
        if embedded.kind != kind::PRIMARY_BINDING {
            return Err(Malformed::Structural("cross-signature has unexpected type"));
        }
        self.embedded = Some(Box::new(embedded));
        Ok(())
    }
}

const TRUNCATED: Malformed = Malformed::Structural("signature subpacket truncated");

/// Digest of the concatenation of `parts`.
pub(crate) fn digest(
    hash: HashAlgorithm,
    parts: &[&[u8]],
) -> Result<Vec<u8>, sequoia_openpgp::anyhow::Error> {
    let mut context = hash.context()?.for_digest();
    for part in parts {
        context.update(part);
    }
    context.into_digest()
}

/// The octets hashed behind the signed data: the signature's own head and a trailer.
pub(crate) fn suffix(
    version: u8,
    kind: u8,
    algorithm: u8,
    hash_id: u8,
    hashed_area: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(hashed_area.len()).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_be_bytes();
    let mut out = vec![version, kind, algorithm, hash_id];
    if version == 6 {
        out.extend([a, b, c, d]);
    } else {
        out.extend([c, d]);
    }
    out.extend_from_slice(hashed_area);
    let total = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.extend([version, 0xff]);
    out.extend(total.to_be_bytes());
    out
}

/// Body of a version 4 signature packet with an empty unhashed area.
///
/// Returns nothing for signature values of algorithms this program does not sign with.
pub(crate) fn body_v4(suffix: &[u8], digest: &[u8], mpis: &mpi::Signature) -> Option<Vec<u8>> {
    // Without the six octets of trailer the suffix is the start of the packet.
    let mut out = suffix.get(..suffix.len().checked_sub(6)?)?.to_vec();
    out.extend([0, 0]);
    out.extend_from_slice(digest.get(..2)?);
    match mpis {
        mpi::Signature::RSA { s } => write_mpi(&mut out, s.value()),
        mpi::Signature::DSA { r, s }
        | mpi::Signature::ECDSA { r, s }
        | mpi::Signature::EdDSA { r, s } => {
            write_mpi(&mut out, r.value());
            write_mpi(&mut out, s.value());
        }
        mpi::Signature::Ed25519 { s } => out.extend_from_slice(&s[..]),
        mpi::Signature::Ed448 { s } => out.extend_from_slice(&s[..]),
        _ => return None,
    }
    Some(out)
}

/// Appends a signature sub-packet; `number` carries the critical bit. At most 16 kB.
pub(crate) fn write_subpacket(out: &mut Vec<u8>, number: u8, body: &[u8]) {
    let length = u16::try_from(body.len())
        .unwrap_or(u16::MAX)
        .saturating_add(1);
    if length < 192 {
        out.push(length.to_be_bytes()[1]);
    } else {
        let [high, low] = (length - 192).to_be_bytes();
        out.extend([high.saturating_add(192), low]);
    }
    out.push(number);
    out.extend_from_slice(body);
}

/// Appends the random notation that go-crypto puts into version 4 signatures.
pub(crate) fn write_salt(out: &mut Vec<u8>, salt: &[u8]) {
    const NAME: &[u8] = b"salt@notations.openpgpjs.org";
    let mut body = vec![0; 4];
    body.extend(u16::try_from(NAME.len()).unwrap_or(0).to_be_bytes());
    body.extend(u16::try_from(salt.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(NAME);
    body.extend_from_slice(salt);
    write_subpacket(out, 20, &body);
}

/// Salt length in bytes that belongs to a hash (RFC 9580, table 23).
pub(crate) fn salt_length_of(hash: HashAlgorithm) -> usize {
    match hash {
        HashAlgorithm::SHA384 => 24,
        HashAlgorithm::SHA512 | HashAlgorithm::SHA3_512 => 32,
        _ => 16,
    }
}

fn length(fields: &mut Fields<'_>, long: bool) -> Result<usize, Malformed> {
    if long {
        fields.u32_len()
    } else {
        fields.u16().map(usize::from)
    }
}

fn subpacket_length(fields: &mut Fields<'_>) -> Result<usize, Malformed> {
    let length = match fields.u8() {
        Ok(255) => fields.u32_len(),
        Ok(n @ 192..) => fields
            .u8()
            .map(|low| (usize::from(n - 192) << 8) + usize::from(low) + 192),
        other => other.map(usize::from),
    };
    length.map_err(|_| TRUNCATED)
}

fn issuer_id(version: u8, fingerprint: &[u8]) -> Option<u64> {
    if (version >= 5) != (fingerprint.len() == 32) {
        return None;
    }
    Fingerprint::from_bytes(fingerprint).map(|fingerprint| fingerprint.key_id())
}

fn read_mpis(number: u8, fields: &mut Fields<'_>) -> Result<mpi::Signature, Malformed> {
    let mut next = || fields.mpi().map(|(_, value)| mpi::MPI::new(value));
    Ok(match number {
        algorithm::RSA | algorithm::RSA_SIGN => mpi::Signature::RSA { s: next()? },
        algorithm::DSA => mpi::Signature::DSA {
            r: next()?,
            s: next()?,
        },
        algorithm::ECDSA => mpi::Signature::ECDSA {
            r: next()?,
            s: next()?,
        },
        algorithm::EDDSA => mpi::Signature::EdDSA {
            r: next()?,
            s: next()?,
        },
        algorithm::ED25519 => mpi::Signature::Ed25519 {
            s: Box::new(fields.array()?),
        },
        algorithm::ED448 => mpi::Signature::Ed448 {
            s: Box::new(fields.array()?),
        },
        other => return Err(Malformed::Unsupported("public key algorithm", other)),
    })
}
