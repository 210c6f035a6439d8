//! Clear-signed messages: sealing and opening.
//!
//! Verdicts and sentences follow ProtonMail/go-crypto 1.4.1 (`CheckDetachedSignatureAndHash`),
//! with one repair: when several keys share a key id each is tried; the reference tries only the
//! first one with the right hash.

mod clearsign;
#[cfg(test)]
mod tests;

use base64::{Engine, engine::general_purpose::STANDARD};
use sequoia_openpgp::{crypto::mpi, types::HashAlgorithm};

pub use self::clearsign::{ClearSigned, is_clear_signed, parse};

use crate::key::pgp::{
    BadSignature, Error as KeyError, Fingerprint, KeyRef, Keyring, Malformed, SigningKey, Unusable,
    armor_checksum,
    packet::{self, Packets, tag},
    signature::{self, Signature, kind},
};

/// Why a message did not open or could not be sealed; go-crypto's sentences where it has one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No clear-signed message in the data.
    #[error("clearsigned message not found")]
    NotClearSigned,
    /// No signature packet names a signing key of the keyrings.
    #[error("openpgp: signature made by unknown entity")]
    UnknownSigner,
    /// A packet of another kind among the signatures.
    #[error("openpgp: invalid data: non signature packet found")]
    NotASignature,
    /// A packet that no reader may ignore.
    #[error("openpgp: unknown critical packet type: {0}")]
    CriticalPacket(u8),
    /// A signature without issuer key id.
    #[error("openpgp: invalid data: signature doesn't have an issuer")]
    NoIssuer,
    /// A hash other than SHA-224, SHA-256, SHA-384, SHA-512.
    #[error(
        "openpgp: invalid data: hash algorithm or salt mismatch with cleartext message headers"
    )]
    HashNotAccepted,
    /// Neither a binary nor a text signature.
    #[error("openpgp: unsupported feature: unsupported signature type: {0}")]
    SignatureType(u8),
    /// The base64 text of the armor is broken where packets were expected.
    #[error("openpgp: invalid data: armor invalid")]
    Armor,
    /// A packet is not readable.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The cryptography does not hold.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
    /// The signature is good, but the key or its dates are not.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The private operation failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The text has trailing blanks, a final line end or CRs, which clear-signing does not keep.
    #[error("text would be changed by clear-signing")]
    TextNotKept,
    /// The creation time is outside 1970 to 2106.
    #[error("signature time out of range")]
    Time,
    /// What was made does not read back as what was meant.
    #[error("made a signature that does not verify")]
    SelfCheck,
}

/// A refused message.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    #[source]
    error: Box<Error>,
    signer: Option<Box<Signer>>,
}

/// A message whose signature holds.
#[derive(Debug)]
pub struct Opened {
    payload: Vec<u8>,
    signer: Signer,
}

/// Who made a signature that holds cryptographically.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    keyring_index: usize,
    entity_index: usize,
    primary_fingerprint: Fingerprint,
    signing_fingerprint: Fingerprint,
    user_id: Option<String>,
    created: u64,
}

/// How to make a signature.
#[derive(Debug, Clone, Copy)]
pub struct SealOptions {
    /// Creation time, seconds since 1970.
    pub created: u64,
    /// Whether to add a random notation. Without it RSA and EdDSA signatures repeat.
    pub salt: bool,
}

impl Failure {
    /// Why the message was refused.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The signer, if the cryptography held and only key or dates stand against it.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_deref()
    }
}

impl Opened {
    /// The signed text, line ends as LF.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Who signed.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

impl Signer {
    /// Index into the list of keyrings given to [`open`].
    pub fn keyring_index(&self) -> usize {
        self.keyring_index
    }

    /// Index into [`Keyring::entities`].
    pub fn entity_index(&self) -> usize {
        self.entity_index
    }

    /// Fingerprint of the entity's primary key.
    pub fn primary_fingerprint(&self) -> &Fingerprint {
        &self.primary_fingerprint
    }

    /// Fingerprint of the key that signed: the primary key or a sub-key.
    pub fn signing_fingerprint(&self) -> &Fingerprint {
        &self.signing_fingerprint
    }

    /// Text of the entity's primary user id.
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// When the signature claims to be made, seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }
}

/// Opens a clear-signed message.
///
/// Signature packets are read in order; the first whose issuer is a signing key of a keyring
/// decides. Keyrings come in order of precedence; key, self-signatures and signature are judged at
/// `now`, seconds since 1970.
///
/// # Errors
/// [`Failure`] with the reason; with the signer if the signature itself is good.
///
/// Source: go-crypto `CheckDetachedSignatureAndHash`.
pub fn open(data: &[u8], keyrings: &[&Keyring], now: u64) -> Result<Opened, Failure> {
    let message = parse(data).ok_or(Error::NotClearSigned)?;
    let (signature, keys) = deciding_signature(&message, keyrings)?;
    let text = match signature.kind {
        kind::BINARY => message.signed_bytes().to_vec(),
        kind::TEXT => clearsign::canonical(message.signed_bytes()),
        other => return Err(Error::SignatureType(other).into()),
    };
    let mut last = Error::UnknownSigner;
    for (keyring_index, entity_index, key) in keys {
        let entity = keyrings
            .get(keyring_index)
            .and_then(|keyring| keyring.entities().get(entity_index));
        let Some((entity, public)) = entity.and_then(|e| Some((e, e.public_key(key)?))) else {
            continue;
        };
        if let Err(error) = public.verify(&signature, &[&text]) {
            last = error.into();
            continue;
        }
        let signer = Signer {
            keyring_index,
            entity_index,
            primary_fingerprint: entity.fingerprint(),
            signing_fingerprint: public.fingerprint,
            user_id: entity.primary_user_id().map(|id| id.raw.clone()),
            created: u64::from(signature.created),
        };
        // A copy of the key in another keyring may know of a revocation that this one does not, or
        // of an earlier end. What makes the key live longer counts in the first copy alone.
        let by_copies = || {
            let (whole, own) = (entity.fingerprint(), &public.fingerprint);
            let copies = || keyrings.iter().flat_map(|ring| ring.copies(&whole));
            if copies().any(|copy| copy.revokes(own, now)) {
                return Err(Unusable::Revoked);
            }
            match copies().any(|copy| copy.ends_before(entity, own, now)) {
                true => Err(Unusable::KeyExpired),
                false => Ok(()),
            }
        };
        let verdict = entity.check(key, Some(&signature), now);
        return match verdict.and_then(|()| by_copies()) {
            Ok(()) => Ok(Opened {
                payload: message.plaintext().to_vec(),
                signer,
            }),
            Err(error) => Err(Failure {
                error: Box::new(error.into()),
                signer: Some(Box::new(signer)),
            }),
        };
    }
    Err(last.into())
}

/// Key ids named as issuers by the signature packets, in order, each once. No cryptography; empty
/// for anything unreadable.
pub fn issuers(data: &[u8]) -> Vec<u64> {
    let Some(message) = parse(data) else {
        return Vec::new();
    };
    let mut seen = std::collections::HashSet::new();
    Packets::new(message.signature_body())
        .filter_map(Result::ok)
        .filter(|packet| packet.tag == tag::SIGNATURE)
        .filter_map(|packet| Signature::parse(packet.body).ok()?.issuer)
        .filter(|issuer| seen.insert(*issuer))
        .collect()
}

/// Clear-signs a text with a primary key.
///
/// All line ends are LF, there are no armor headers, no checksum and no final line end. The result
/// is read back before it is returned.
///
/// # Errors
/// [`Error::TextNotKept`], [`Error::Time`], [`Error::Key`], [`Error::SelfCheck`].
///
/// Source: go-crypto `clearsign.Encode` as sylabs/sif uses it.
pub fn seal(plaintext: &[u8], key: &SigningKey, options: &SealOptions) -> Result<Vec<u8>, Error> {
    let created = u32::try_from(options.created).map_err(|_| Error::Time)?;
    let hash = key.preferred_hash();
    let fingerprint = key.fingerprint();
    let mut area = Vec::new();
    signature::write_subpacket(&mut area, 2 | CRITICAL, &created.to_be_bytes());
    signature::write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
    if options.salt {
        let mut salt = vec![0; signature::salt_length_of(hash)];
        sequoia_openpgp::crypto::random(&mut salt).map_err(|_| KeyError::Signing)?;
        signature::write_salt(&mut area, &salt);
    }
    let issuer = [&[4], fingerprint.as_bytes()].concat();
    signature::write_subpacket(&mut area, 33, &issuer);

    let (framed, signed) = clearsign::frame(plaintext);
    let body = key.sign(kind::TEXT, hash, &area, &[&clearsign::canonical(&signed)])?;
    let mut packet = Vec::new();
    packet::write(&mut packet, tag::SIGNATURE, &body);

    let out = assemble(hash, &framed, &packet, false);
    check_own(&out, plaintext, &packet, key)?;
    Ok(out)
}

/// A message in the one form that writers give it.
pub struct Canonical {
    /// The whole message.
    pub bytes: Vec<u8>,
    /// Whether the signature value has a twin that verifies as well: `(r, s)` and `(r, n - s)`.
    pub has_twin: bool,
}

/// Writes a message again, as go-crypto writes it: only what is signed is taken from `data`.
///
/// One version 4 signature packet with nothing in its unhashed area, lengths and numbers in their
/// shortest form, the two bytes of the digest computed anew, nothing before or after the message.
/// The checksum line that older writers added is kept if `data` has one. A message that verifies
/// and equals this has no byte that could be another. No cryptography is checked here.
///
/// `None` if nothing like that can be read from `data`.
pub fn canonical(data: &[u8]) -> Option<Canonical> {
    let message = parse(data)?;
    let packet = Packets::new(message.signature_body()).next()?.ok()?;
    let signature = Signature::parse(packet.body).ok()?;
    let (framed, signed) = clearsign::frame(message.plaintext());
    let text = match signature.kind {
        kind::BINARY => signed,
        kind::TEXT => clearsign::canonical(&signed),
        _ => return None,
    };
    let digest = signature::digest(signature.hash, &[&text, &signature.suffix]).ok()?;
    let body = signature::body_v4(&signature.suffix, &digest, &signature.mpis)?;
    let mut packet = Vec::new();
    packet::write(&mut packet, tag::SIGNATURE, &body);
    let checksum = data
        .rsplit(|byte| *byte == b'\n')
        .nth(1)
        .is_some_and(|line| line.first() == Some(&b'='));
    Some(Canonical {
        bytes: assemble(signature.hash, &framed, &packet, checksum),
        has_twin: matches!(
            signature.mpis,
            mpi::Signature::ECDSA { .. } | mpi::Signature::DSA { .. }
        ),
    })
}

/// Source: go-crypto `clearsign.Encode`, `armor.Encode`.
fn assemble(hash: HashAlgorithm, framed: &[u8], packet: &[u8], checksum: bool) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(clearsign::BEGIN);
    out.extend_from_slice(b"\nHash: ");
    out.extend_from_slice(hash_name(hash).as_bytes());
    out.extend_from_slice(b"\n\n");
    out.extend_from_slice(framed);
    out.extend_from_slice(clearsign::SIGNATURE);
    out.extend_from_slice(b"\n\n");
    for line in STANDARD.encode(packet).as_bytes().chunks(LINE) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    if checksum {
        out.extend_from_slice(armor_checksum(packet).as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(clearsign::END);
    out
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error: Box::new(error),
            signer: None,
        }
    }
}

/// Characters per line of armor.
const LINE: usize = 64;
const CRITICAL: u8 = 0x80;

/// Place of a candidate key: keyring, entity, key.
type Candidate = (usize, usize, KeyRef);

fn deciding_signature(
    message: &ClearSigned,
    keyrings: &[&Keyring],
) -> Result<(Signature, Vec<Candidate>), Error> {
    let cut = |error: Malformed| match error {
        // What looks cut short is the fault of the armor.
        Malformed::Truncated if !message.intact() => Error::Armor,
        error => error.into(),
    };
    for packet in Packets::new(message.signature_body()) {
        let packet = packet.map_err(cut)?;
        match packet.tag {
            tag::SIGNATURE => {}
            tag::MARKER if packet.body != packet::MARKER => {
                return Err(Malformed::Structural("invalid marker packet").into());
            }
            tag::MARKER | tag::TRUST | tag::FIRST_NON_CRITICAL.. => continue,
            1 | 3..=9 | 11 | 13 | 14 | 17 | 18 | 20 | 21 => return Err(Error::NotASignature),
            other => return Err(Error::CriticalPacket(other)),
        }
        let signature = match Signature::parse(packet.body) {
            Ok(signature) => signature,
            Err(Malformed::Unsupported(..) | Malformed::LocalSignature) => continue,
            Err(error) => return Err(error.into()),
        };
        let issuer = signature.issuer.ok_or(Error::NoIssuer)?;
        if !matches!(
            signature.hash,
            HashAlgorithm::SHA224
                | HashAlgorithm::SHA256
                | HashAlgorithm::SHA384
                | HashAlgorithm::SHA512
        ) {
            return Err(Error::HashNotAccepted);
        }
        let keys: Vec<Candidate> = keyrings
            .iter()
            .enumerate()
            .flat_map(|(at, keyring)| {
                keyring
                    .signing_keys(issuer)
                    .map(move |(entity, key)| (at, entity, key))
            })
            .collect();
        if !keys.is_empty() {
            return Ok((signature, keys));
        }
    }
    if message.intact() {
        Err(Error::UnknownSigner)
    } else {
        Err(Error::Armor)
    }
}

fn hash_name(hash: HashAlgorithm) -> &'static str {
    match hash {
        HashAlgorithm::SHA224 => "SHA224",
        HashAlgorithm::SHA384 => "SHA384",
        HashAlgorithm::SHA512 => "SHA512",
        _ => "SHA256",
    }
}

/// Reads back what was made: the text must be the text, and the signature must hold over it.
fn check_own(made: &[u8], text: &[u8], packet: &[u8], key: &SigningKey) -> Result<(), Error> {
    let message = parse(made).ok_or(Error::SelfCheck)?;
    if message.plaintext() != text {
        return Err(Error::TextNotKept);
    }
    if message.signature_body() != packet || !message.intact() {
        return Err(Error::SelfCheck);
    }
    let packet = Packets::new(packet).next().ok_or(Error::SelfCheck)??;
    let signature = Signature::parse(packet.body)?;
    let text = clearsign::canonical(message.signed_bytes());
    key.public()
        .verify(&signature, &[&text])
        .map_err(|_| Error::SelfCheck)
}
