//! DSSE envelopes: a payload, its type, and signatures over both.
//!
//! Source: DSSE v1 protocol and envelope; go-securesystemslib `dsse`;
//! sylabs/sif `pkg/integrity/dsse.go`.

use crate::gojson::Object;
use crate::key::pem::{self, PrivateKey, PublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// Payload type of the signed metadata of a SIF image.
pub const SIF_METADATA_TYPE: &str = "application/vnd.sylabs.sif-metadata+json";

/// What stands in front of the reasons of a refused envelope.
pub const FAILED: &str = "dsse: verify envelope failed: ";

/// Greatest number of signatures looked at in one envelope.
const MAX_SIGNATURES: usize = 1024;

/// Bytes that the signatures of one envelope may make us hash, beyond [`FEW_SIGNATURES`] of any
/// payload: each signature is over all of it.
const MAX_HASHED: usize = 256 << 20;

/// Signatures that are looked at whatever the length of the payload.
const FEW_SIGNATURES: usize = 16;

/// Signatures that may be tried in vain, over all envelopes of an image. The first one of each
/// envelope is not counted: ordinary ones have no other.
///
/// Twenty bytes make a signature that costs milliseconds.
#[derive(Debug)]
pub struct Tries(Cell<usize>);

/// How many [`Tries`] there are.
const MAX_TRIES: usize = 2000;

impl Default for Tries {
    fn default() -> Self {
        Self(Cell::new(MAX_TRIES))
    }
}

impl Tries {
    /// Takes note of a signature that did not hold, `at` this place of its envelope.
    fn failed(&self, at: usize) -> Result<(), Error> {
        if at > 0 {
            let left = self.0.get().checked_sub(1).ok_or(Error::TooManyTries)?;
            self.0.set(left);
        }
        Ok(())
    }
}

/// Why an envelope could not be made or opened.
///
/// Wording: sylabs/sif around go-securesystemslib.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a JSON object of the right shape.
    #[error("dsse: verify envelope failed: {0}")]
    Json(#[from] serde_json::Error),
    /// A byte other than white space behind the envelope.
    #[error("dsse: verify envelope failed: invalid character {} after top-level value", quote(*.0))]
    TrailingByte(u8),
    /// The envelope holds another type of payload.
    #[error(
        "dsse: verify envelope failed: dsse: unexpected payload type: got {found:?}, want {expected:?}"
    )]
    PayloadType {
        /// The type in the envelope.
        found: String,
        /// The type asked for.
        expected: String,
    },
    /// No key was given to verify with.
    #[error("dsse: verify envelope failed: invalid threshold")]
    NoVerifier,
    /// The envelope has no signatures.
    #[error("dsse: verify envelope failed: no signature found")]
    NoSignature,
    /// The envelope has more signatures than are looked at.
    #[error("dsse: verify envelope failed: too many signatures ({found}, limit {limit})")]
    TooManySignatures {
        /// Signatures in the envelope.
        found: usize,
        /// The greatest number accepted.
        limit: usize,
    },
    /// More than [`Tries`] allow.
    #[error(
        "dsse: verify envelope failed: more than {MAX_TRIES} signatures of the image do not hold"
    )]
    TooManyTries,
    /// The payload or a signature is not base64.
    #[error(
        "dsse: verify envelope failed: unable to base64 decode payload (is payload in the right format?)"
    )]
    Base64,
    /// No signature is by any of the keys.
    #[error(
        "dsse: verify envelope failed: accepted signatures do not match threshold, Found: 0, Expected 1"
    )]
    Threshold,
    /// No key was given to sign with.
    #[error("no signers provided")]
    NoSigner,
    /// A key could not sign.
    #[error(transparent)]
    Sign(#[from] pem::Error),
}

/// A payload whose signature held. Only [`open`] makes one.
#[derive(Debug)]
pub struct Opened {
    payload: Vec<u8>,
    accepted: Vec<usize>,
}

impl Opened {
    /// The signed payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The verifiers that accepted a signature, as indices into the list given
    /// to [`open`], in the order of the envelope. Never empty.
    pub fn accepted(&self) -> &[usize] {
        &self.accepted
    }
}

/// The pre-authentication encoding: the bytes a signature covers.
///
/// `DSSEv1 LENGTH TYPE LENGTH PAYLOAD`, single spaces, lengths decimal in bytes.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (type_length, length) = (payload_type.len(), payload.len());
    let mut bytes = format!("DSSEv1 {type_length} {payload_type} {length} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Whether the first JSON value in `data` is an envelope of that payload type.
///
/// White space in front is fine, a byte order mark is not; what follows the
/// value is not looked at. Data that is no JSON object costs nothing.
///
/// Source: sylabs/sif, `isDSSESignature`.
pub fn is_envelope(data: &[u8], payload_type: &str) -> bool {
    let first = data.iter().find(|b| !is_space(b));
    first == Some(&b'{')
        && first_value(data).is_ok_and(|(envelope, _)| envelope.payload_type == payload_type)
}

/// Signs `payload` with every key and returns the envelope: compact JSON, one
/// entry per signer in their order, no line end.
///
/// # Errors
/// [`Error::NoSigner`] without a key; [`Error::Sign`] if a key cannot sign.
pub fn seal(payload_type: &str, payload: &[u8], signers: &[&PrivateKey]) -> Result<Vec<u8>, Error> {
    if signers.is_empty() {
        return Err(Error::NoSigner);
    }
    let message = pae(payload_type, payload);
    let mut signatures = Vec::with_capacity(signers.len());
    for signer in signers {
        signatures.push(SealedEntry {
            keyid: signer.public().ssh_fingerprint(),
            sig: BASE64_STANDARD.encode(signer.sign(&message)?),
        });
    }
    Ok(serde_json::to_vec(&SealedEnvelope {
        payload_type,
        payload: BASE64_STANDARD.encode(payload),
        signatures,
    })?)
}

/// As [`seal`] by one key, in the form of cosign: other order, no key id, which
/// its verifiers would compare with names of their own.
///
/// # Errors
/// [`Error::Sign`] if the key cannot sign.
pub fn seal_for_cosign(
    payload_type: &str,
    payload: &[u8],
    signer: &PrivateKey,
) -> Result<Vec<u8>, Error> {
    let signature = signer.sign(&pae(payload_type, payload))?;
    Ok(serde_json::to_vec(&CosignEnvelope {
        payload: BASE64_STANDARD.encode(payload),
        payload_type,
        signatures: [CosignEntry {
            sig: BASE64_STANDARD.encode(signature),
        }],
    })?)
}

/// Verifies an envelope of cosign and returns its payload.
///
/// One signature that `accepts` is enough; it gets the message and the
/// signature. Key ids are not looked at: every writer has its own.
///
/// # Errors
/// As [`open`] for a malformed envelope, and [`Error::Threshold`].
pub fn open_from_cosign(
    data: &[u8],
    payload_type: &str,
    tries: &Tries,
    accepts: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Vec<u8>, Error> {
    let (payload, message, signatures) = contents(data, payload_type)?;
    for (at, (_, signature)) in signatures.iter().enumerate() {
        if accepts(&message, signature) {
            return Ok(payload);
        }
        tries.failed(at)?;
    }
    Err(Error::Threshold)
}

/// Verifies an envelope and returns its payload and who accepted it.
///
/// For each entry in order, each verifier not used yet is tried in order; one
/// whose fingerprint differs from the entry's key id (if it has one) is passed
/// over. At least one entry must be accepted; the others do not matter, but
/// each must be base64.
///
/// # Errors
/// [`Error::Json`], [`Error::TrailingByte`], [`Error::PayloadType`],
/// [`Error::TooManySignatures`], [`Error::NoSignature`] or [`Error::Base64`]
/// for a malformed envelope, [`Error::NoVerifier`] without a key,
/// [`Error::Threshold`] if no signature held, [`Error::TooManyTries`].
///
/// Source: go-securesystemslib, `EnvelopeVerifier.Verify`, threshold 1.
pub fn open(
    data: &[u8],
    payload_type: &str,
    verifiers: &[PublicKey],
    tries: &Tries,
) -> Result<Opened, Error> {
    if verifiers.is_empty() {
        // A malformed envelope goes before that.
        only_value(data)?.require_type(payload_type)?;
        return Err(Error::NoVerifier);
    }
    let (payload, message, signatures) = contents(data, payload_type)?;
    let mut unused: Vec<(usize, &PublicKey, String)> = verifiers
        .iter()
        .enumerate()
        .map(|(index, key)| (index, key, key.ssh_fingerprint()))
        .collect();
    let mut accepted = Vec::new();
    for (at, (keyid, signature)) in signatures.iter().enumerate() {
        let mut position = None;
        for (place, (_, key, own)) in unused.iter().enumerate() {
            if !keyid.is_empty() && !own.is_empty() && keyid != own {
                continue;
            }
            if key.verify(&message, signature) {
                position = Some(place);
                break;
            }
            tries.failed(at)?;
        }
        if let Some(position) = position {
            accepted.push(unused.remove(position).0);
        }
    }
    if accepted.is_empty() {
        return Err(Error::Threshold);
    }
    Ok(Opened { payload, accepted })
}

/// Writes an envelope again, as [`seal`] writes it: compact, members in order, standard base64.
///
/// An envelope whose entries were all accepted and which equals this has no byte that could be
/// another, but for the twin of an ECDSA signature. No cryptography is checked here.
///
/// # Errors
/// Those of [`open`] for a malformed envelope.
pub fn canonical(data: &[u8]) -> Result<Vec<u8>, Error> {
    let envelope = only_value(data)?;
    let entries = envelope.signatures.entries.iter();
    let signatures = entries.map(|entry| {
        Ok(SealedEntry {
            keyid: entry.keyid.to_string(),
            sig: BASE64_STANDARD.encode(decode(&entry.sig)?),
        })
    });
    Ok(serde_json::to_vec(&SealedEnvelope {
        payload_type: &envelope.payload_type,
        payload: BASE64_STANDARD.encode(decode(&envelope.payload)?),
        signatures: signatures.collect::<Result<_, Error>>()?,
    })?)
}

/// The payload that an envelope says to hold. UNVERIFIED: good for showing a claim, never for
/// decisions.
pub fn claimed_payload(data: &[u8]) -> Option<Vec<u8>> {
    decode(&only_value(data).ok()?.payload).ok()
}

/// The signature values of an envelope, in its order; nothing is verified.
///
/// # Errors
/// Those of [`open`] for a malformed envelope.
pub fn signature_values(data: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let entries = only_value(data)?.signatures.entries;
    entries.iter().map(|entry| decode(&entry.sig)).collect()
}

/// The key ids in an envelope, in its order; nothing is verified.
///
/// # Errors
/// [`Error::Json`], [`Error::TrailingByte`] or [`Error::TooManySignatures`]
/// for a malformed envelope.
pub fn entries(data: &[u8]) -> Result<Vec<String>, Error> {
    let envelope = only_value(data)?;
    let keyids = envelope
        .signatures
        .entries
        .into_iter()
        .map(|e| e.keyid.into_owned());
    Ok(keyids.collect())
}

/// Payload, signed message, and each signature behind its key id.
type Contents = (Vec<u8>, Vec<u8>, Vec<(String, Vec<u8>)>);

fn contents(data: &[u8], payload_type: &str) -> Result<Contents, Error> {
    let envelope = only_value(data)?;
    envelope.require_type(payload_type)?;
    if envelope.signatures.entries.is_empty() {
        return Err(Error::NoSignature);
    }
    let payload = decode(&envelope.payload)?;
    let message = pae(payload_type, &payload);
    let limit = MAX_HASHED.checked_div(message.len()).unwrap_or_default();
    let (found, limit) = (
        envelope.signatures.entries.len(),
        limit.clamp(FEW_SIGNATURES, MAX_SIGNATURES),
    );
    if found > limit {
        return Err(Error::TooManySignatures { found, limit });
    }
    let mut signatures = Vec::with_capacity(found);
    for entry in envelope.signatures.entries {
        let signature = decode(&entry.sig)?;
        signatures.push((entry.keyid.into_owned(), signature));
    }
    Ok((payload, message, signatures))
}

fn only_value(data: &[u8]) -> Result<Envelope<'_>, Error> {
    let (envelope, end) = first_value(data)?;
    let rest = data.get(end..).unwrap_or_default();
    if let Some(byte) = rest.iter().find(|b| !is_space(b)) {
        return Err(Error::TrailingByte(*byte));
    }
    let Signatures { entries, more } = &envelope.signatures;
    if *more > 0 {
        return Err(Error::TooManySignatures {
            found: entries.len().saturating_add(*more),
            limit: MAX_SIGNATURES,
        });
    }
    Ok(envelope)
}

/// The first JSON value and the offset of its end, in bytes.
fn first_value(data: &[u8]) -> Result<(Envelope<'_>, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_slice(data).into_iter::<Object<Envelope<'_>>>();
    match values.next() {
        Some(Ok(Object(envelope))) => Ok((envelope, values.byte_offset())),
        Some(Err(error)) => Err(error),
        None => Err(de::Error::custom("unexpected end of JSON input")),
    }
}

/// Standard alphabet, else the URL-safe one; padded; line breaks do not count.
fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let text: Cow<'_, str> = match text.contains(['\r', '\n']) {
        true => text.replace(['\r', '\n'], "").into(),
        false => text.into(),
    };
    BASE64_STANDARD
        .decode(&*text)
        .or_else(|_| BASE64_URL_SAFE.decode(&*text))
        .map_err(|_| Error::Base64)
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte as Go's JSON decoder names it: quoted, taken for a Latin-1 character.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        0x80..=0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

// Missing members read as empty, unknown ones are ignored, a repeated one is
// an error; the names must match exactly.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    payload_type: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Cow<'a, str>,
    #[serde(borrow, default)]
    signatures: Signatures<'a>,
}

impl Envelope<'_> {
    fn require_type(&self, payload_type: &str) -> Result<(), Error> {
        if self.payload_type == payload_type {
            return Ok(());
        }
        Err(Error::PayloadType {
            found: self.payload_type.to_string(),
            expected: payload_type.to_owned(),
        })
    }
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    keyid: Cow<'a, str>,
    #[serde(borrow, default)]
    sig: Cow<'a, str>,
}

/// The first [`MAX_SIGNATURES`] entries and the number of those behind.
#[derive(Default)]
struct Signatures<'a> {
    entries: Vec<Entry<'a>>,
    more: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Signatures<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SignaturesVisitor)
    }
}

struct SignaturesVisitor;

impl<'de> de::Visitor<'de> for SignaturesVisitor {
    type Value = Signatures<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of signatures")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut signatures = Signatures::default();
        while signatures.entries.len() < MAX_SIGNATURES {
            match sequence.next_element()? {
                Some(Object(entry)) => signatures.entries.push(entry),
                None => return Ok(signatures),
            }
        }
        while sequence.next_element::<IgnoredAny>()?.is_some() {
            signatures.more = signatures.more.saturating_add(1);
        }
        Ok(signatures)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SealedEnvelope<'a> {
    payload_type: &'a str,
    payload: String,
    signatures: Vec<SealedEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CosignEnvelope<'a> {
    payload: String,
    payload_type: &'a str,
    signatures: [CosignEntry; 1],
}

#[derive(Serialize)]
struct CosignEntry {
    sig: String,
}

#[derive(Serialize)]
struct SealedEntry {
    keyid: String,
    sig: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn open(data: &[u8], kind: &str, keys: &[PublicKey]) -> Result<Opened, Error> {
        super::open(data, kind, keys, &Tries::default())
    }

    macro_rules! peer {
        ($path:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/fixtures/peers/",
                $path
            ))
        };
    }

    fn p256() -> PrivateKey {
        PrivateKey::from_pem(peer!("keys/p256.key.pem"), None).unwrap()
    }

    fn ed25519() -> PrivateKey {
        PrivateKey::from_pem(peer!("keys/ed25519.key.pem"), None).unwrap()
    }

    fn p384() -> PrivateKey {
        PrivateKey::from_pem(peer!("keys/p384.key.pem"), None).unwrap()
    }

    /// The first envelope in a SIF file.
    fn envelope_in(sif: &[u8]) -> &[u8] {
        let start = br#"{"payloadType""#;
        let at = sif.windows(start.len()).position(|w| w == start).unwrap();
        let (_, end) = first_value(&sif[at..]).unwrap();
        &sif[at..at + end]
    }

    fn refusal(data: &[u8], verifiers: &[PublicKey]) -> String {
        open(data, SIF_METADATA_TYPE, verifiers)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn encodes_type_and_payload() {
        // Source: DSSE protocol, test vectors
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        assert_eq!(pae("\u{e9}", b"\xff\n"), b"DSSEv1 2 \xc3\xa9 2 \xff\n");
    }

    #[test]
    fn seals_in_the_exact_form() {
        let key = ed25519();
        let sealed = seal(SIF_METADATA_TYPE, b"{}", &[&key, &key]).unwrap();
        let id = key.public().ssh_fingerprint();
        let sig = BASE64_STANDARD.encode(key.sign(&pae(SIF_METADATA_TYPE, b"{}")).unwrap());
        let expected = format!(
            r#"{{"payloadType":"{SIF_METADATA_TYPE}","payload":"e30=","signatures":[{{"keyid":"{id}","sig":"{sig}"}},{{"keyid":"{id}","sig":"{sig}"}}]}}"#
        );
        assert_eq!(String::from_utf8(sealed.clone()).unwrap(), expected);
        assert_eq!(entries(&sealed).unwrap(), [id.clone(), id]);
        let error = seal(SIF_METADATA_TYPE, b"", &[]).unwrap_err();
        assert_eq!(error.to_string(), "no signers provided");
    }

    #[test]
    fn opens_what_apptainer_signed() {
        let cases: [(&[u8], &[u8]); 5] = [
            (peer!("native/dsse-p256.sif"), peer!("keys/p256.pub.pem")),
            (peer!("native/dsse-p384.sif"), peer!("keys/p384.pub.pem")),
            (peer!("native/dsse-p521.sif"), peer!("keys/p521.pub.pem")),
            (
                peer!("native/dsse-ed25519.sif"),
                peer!("keys/ed25519.pub.pem"),
            ),
            (
                peer!("native/dsse-rsa3072.sif"),
                peer!("keys/rsa3072.pub.pem"),
            ),
        ];
        for (index, (sif, _)) in cases.iter().enumerate() {
            let envelope = envelope_in(sif);
            assert!(is_envelope(envelope, SIF_METADATA_TYPE));
            for (other, (_, pem)) in cases.iter().enumerate() {
                let key = PublicKey::from_pem(pem).unwrap();
                let id = key.ssh_fingerprint();
                let opened = open(envelope, SIF_METADATA_TYPE, &[key]);
                assert_eq!(opened.is_ok(), index == other);
                assert_eq!(entries(envelope).unwrap() == [id], index == other);
            }
        }
        let envelope = envelope_in(peer!("native/dsse-p256.tampered-signature.sif"));
        assert!(open(envelope, SIF_METADATA_TYPE, &[p256().public()]).is_err());
    }

    #[test]
    fn reports_who_accepted_in_envelope_order() {
        let (a, b, c) = (p256(), ed25519(), p384());
        let sealed = seal(SIF_METADATA_TYPE, b"payload", &[&a, &b, &a]).unwrap();
        let accepted = |keys: &[&PrivateKey]| {
            let keys: Vec<PublicKey> = keys.iter().map(|k| k.public()).collect();
            open(&sealed, SIF_METADATA_TYPE, &keys).map(|o| o.accepted().to_vec())
        };
        assert_eq!(accepted(&[&a]).unwrap(), [0]);
        assert_eq!(accepted(&[&c, &b, &a]).unwrap(), [2, 1]);
        assert_eq!(accepted(&[&a, &a]).unwrap(), [0, 1]);
        assert!(matches!(accepted(&[&c]), Err(Error::Threshold)));
        assert!(matches!(accepted(&[]), Err(Error::NoVerifier)));
    }

    #[test]
    fn says_what_is_wrong_with_an_envelope() {
        let key = [p256().public()];
        let sealed = String::from_utf8(seal(SIF_METADATA_TYPE, b"x", &[&p256()]).unwrap()).unwrap();
        let failed = "dsse: verify envelope failed: ";
        for (byte, name) in [
            ("x", "x"),
            ("'", r"\'"),
            ("\"", "\""),
            ("\\", r"\\"),
            ("\0", r"\x00"),
            ("{", "{"),
        ] {
            assert_eq!(
                refusal(format!("{sealed} \n{byte}").as_bytes(), &key),
                format!("{failed}invalid character '{name}' after top-level value")
            );
        }
        // Go 1.26 for each single byte behind an object.
        for (byte, name) in [
            (0x01, r"\x01"),
            (0x07, r"\a"),
            (0x08, r"\b"),
            (0x0b, r"\v"),
            (0x0c, r"\f"),
            (0x1f, r"\x1f"),
            (0x7e, "~"),
            (0x7f, r"\x7f"),
            (0x80, r"\u0080"),
            (0x9f, r"\u009f"),
            (0xa0, r"\u00a0"),
            (0xa1, "\u{a1}"),
            (0xac, "\u{ac}"),
            (0xad, r"\u00ad"),
            (0xae, "\u{ae}"),
            (0xff, "\u{ff}"),
        ] {
            assert_eq!(
                refusal(&[sealed.as_bytes(), &[byte]].concat(), &key),
                format!("{failed}invalid character '{name}' after top-level value")
            );
        }
        assert!(
            open(
                format!(" \t\r\n{sealed}\n ").as_bytes(),
                SIF_METADATA_TYPE,
                &key
            )
            .is_ok()
        );
        let none = sealed.split("[{").next().unwrap().to_owned() + "[]}";
        assert_eq!(
            refusal(none.as_bytes(), &key),
            format!("{failed}no signature found")
        );
        let threshold = "accepted signatures do not match threshold, Found: 0, Expected 1";
        assert_eq!(
            refusal(sealed.as_bytes(), &[p384().public()]),
            format!("{failed}{threshold}")
        );
        let base64 = "unable to base64 decode payload (is payload in the right format?)";
        for bad in [
            sealed.replace("\"payload\":\"", "\"payload\":\"!"),
            sealed.replace("}]}", "},{\"keyid\":\"other\",\"sig\":\"A\"}]}"),
            sealed.replace("eA==", "eA"),
        ] {
            assert_eq!(refusal(bad.as_bytes(), &key), format!("{failed}{base64}"));
        }
        let other = seal("bad", b"x", &[&p256()]).unwrap();
        assert_eq!(
            refusal(&other, &key),
            format!(
                "{failed}dsse: unexpected payload type: got \"bad\", want \"{SIF_METADATA_TYPE}\""
            )
        );
        let many = format!(
            r#"{{"payloadType":"{SIF_METADATA_TYPE}","signatures":[{}{{}}]}}"#,
            "{},".repeat(1024)
        );
        assert!(is_envelope(many.as_bytes(), SIF_METADATA_TYPE));
        assert_eq!(
            refusal(many.as_bytes(), &key),
            format!("{failed}too many signatures (1025, limit 1024)")
        );
        let list = format!(r#"["{SIF_METADATA_TYPE}","eA==",[["","AA=="]]]"#);
        let entry = sealed
            .replace("[{", "[[")
            .replace("}]", "]]")
            .replace("\"keyid\":", "")
            .replace("\"sig\":", "");
        for malformed in [
            &*list,
            &*entry,
            "",
            "{",
            "[]",
            "5",
            "{\"payload\":1}",
            "{\"signatures\":{}}",
        ] {
            let error = open(malformed.as_bytes(), SIF_METADATA_TYPE, &key).unwrap_err();
            assert!(matches!(error, Error::Json(_)) && error.to_string().starts_with(failed));
            assert!(!is_envelope(malformed.as_bytes(), SIF_METADATA_TYPE));
        }
        for (malformed, wanted) in [
            ("5", "expected an object"),
            ("{\"signatures\":{}}", "expected a list of signatures"),
        ] {
            let said = refusal(malformed.as_bytes(), &key);
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn a_long_payload_is_hashed_for_few_signatures() {
        let key = ed25519();
        let payload = vec![b' '; 4 << 20];
        let signers = |count| vec![&key; count];
        let opened = |count| {
            let sealed = seal(SIF_METADATA_TYPE, &payload, &signers(count)).unwrap();
            open(&sealed, SIF_METADATA_TYPE, &[key.public().clone()])
        };
        assert!(opened(16).is_ok());
        let mut text: serde_json::Value =
            serde_json::from_slice(&seal(SIF_METADATA_TYPE, &payload, &signers(1)).unwrap())
                .unwrap();
        let entry = text["signatures"][0].clone();
        let mut opened = |count: usize| {
            text["signatures"] = vec![entry.clone(); count].into();
            let keys = [key.public().clone()];
            open(text.to_string().as_bytes(), SIF_METADATA_TYPE, &keys).map_err(|e| e.to_string())
        };
        assert!(opened(63).is_ok());
        for count in [64, 65] {
            let told = format!("{FAILED}too many signatures ({count}, limit 63)");
            assert_eq!(opened(count).err(), Some(told));
        }
    }

    #[test]
    fn signatures_that_do_not_hold_are_tried_only_so_often() {
        let (key, stranger) = (p256(), ed25519());
        let sealed = |keyid: &str, bad: usize, good: usize| {
            let entry = |key: &PrivateKey| {
                let sig = BASE64_STANDARD.encode(key.sign(&pae(SIF_METADATA_TYPE, b"{}")).unwrap());
                format!(r#"{{"keyid":"{keyid}","sig":"{sig}"}}"#)
            };
            let entries = [vec![entry(&stranger); bad], vec![entry(&key); good]].concat();
            format!(
                r#"{{"payloadType":"{SIF_METADATA_TYPE}","payload":"e30=","signatures":[{}]}}"#,
                entries.join(",")
            )
        };
        let keys = [key.public().clone()];
        let tries = Tries::default();
        let opened = |envelope: &str| {
            super::open(envelope.as_bytes(), SIF_METADATA_TYPE, &keys, &tries).map(drop)
        };
        let cosign = |envelope: &str| {
            let accepts = |message: &[u8], signature: &[u8]| keys[0].verify(message, signature);
            open_from_cosign(envelope.as_bytes(), SIF_METADATA_TYPE, &tries, accepts).map(drop)
        };
        // Together 2000 in vain, behind the first of each envelope.
        for bad in [1001, 1001] {
            assert!(opened(&sealed("", bad, 1)).is_ok());
        }
        for last in [opened(&sealed("", 2, 1)), cosign(&sealed("", 2, 1))] {
            assert_eq!(
                last.unwrap_err().to_string(),
                "dsse: verify envelope failed: more than 2000 signatures of the image do not hold"
            );
        }
        // Ordinary ones go on: one signature each, or one for each key that is named.
        for _ in 0..10 {
            assert!(matches!(opened(&sealed("", 1, 0)), Err(Error::Threshold)));
            assert!(matches!(cosign(&sealed("", 1, 0)), Err(Error::Threshold)));
            assert!(opened(&sealed("", 1, 1)).is_ok());
            let foreign = sealed("SHA256:another", 100, 0);
            assert!(matches!(opened(&foreign), Err(Error::Threshold)));
        }
    }

    #[test]
    fn accepts_url_safe_base64_line_breaks_and_a_missing_key_id() {
        let key = p256();
        let payload = b"\xfb\xff\xfe";
        let sig = BASE64_URL_SAFE.encode(key.sign(&pae(SIF_METADATA_TYPE, payload)).unwrap());
        let (head, tail) = sig.split_at(20);
        for keyid in ["", r#""keyid":"","#] {
            let envelope = format!(
                r#"{{"x":[1],"signatures":[{{{keyid}"sig":"{head}\n\r\n{tail}"}}],"payload":"-__-","payloadType":"{SIF_METADATA_TYPE}"}}"#
            );
            let opened = open(envelope.as_bytes(), SIF_METADATA_TYPE, &[key.public()]).unwrap();
            assert_eq!(opened.payload(), payload);
            assert_eq!(opened.accepted(), [0]);
        }
        let named = format!(
            r#"{{"payloadType":"{SIF_METADATA_TYPE}","payload":"-__-","signatures":[{{"keyid":"x","sig":"{sig}"}}]}}"#
        );
        assert!(open(named.as_bytes(), SIF_METADATA_TYPE, &[key.public()]).is_err());
    }

    #[test]
    fn recognises_the_first_value_only() {
        let head = format!(r#"{{"payloadType":"{SIF_METADATA_TYPE}"}}"#);
        for (data, expected) in [
            (head.clone(), true),
            (format!(" \r\n\t{head}"), true),
            (format!("{head}trailing"), true),
            (format!("\u{feff}{head}"), false),
            (format!("x{head}"), false),
            (format!("{{}}{head}"), false),
            (format!("[{head}]"), false),
            (head.replace("vnd", "VND"), false),
            (head.replace('}', ""), false),
            (head.replace('}', ",\"signatures\":1}"), false),
            (String::new(), false),
        ] {
            assert_eq!(
                is_envelope(data.as_bytes(), SIF_METADATA_TYPE),
                expected,
                "{data}"
            );
        }
    }

    #[test]
    fn refuses_every_bit_flip_in_payload_and_signature() {
        for key in [p256(), ed25519()] {
            let sealed = seal(SIF_METADATA_TYPE, b"{\"a\":1}", &[&key]).unwrap();
            let verifiers = [key.public()];
            let text = String::from_utf8(sealed.clone()).unwrap();
            for member in [
                "\"payloadType\":\"",
                "\"payload\":\"",
                "\"sig\":\"",
                "\"keyid\":\"",
            ] {
                let start = text.find(member).unwrap() + member.len();
                let end = start + text[start..].find('"').unwrap();
                for bit in start * 8..(end + 1) * 8 {
                    let mut changed = sealed.clone();
                    changed[bit / 8] ^= 1 << (bit % 8);
                    assert!(
                        open(&changed, SIF_METADATA_TYPE, &verifiers).is_err(),
                        "{member} {bit}"
                    );
                }
            }
            for end in 0..sealed.len() {
                assert!(open(&sealed[..end], SIF_METADATA_TYPE, &verifiers).is_err());
            }
        }
    }

    #[test]
    fn encodes_the_known_answer() {
        let folder = std::env::var_os("SIGSIF_CORPUS").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/sif"),
            std::path::PathBuf::from,
        );
        let Ok(sif) = std::fs::read(folder.join("images/one-group-signed-dsse.sif")) else {
            eprintln!("skipped: {} is not here", folder.display());
            return;
        };
        let envelope = envelope_in(&sif);
        let keys = ["ed25519", "rsa", "ecdsa"].map(|name| {
            let pem = std::fs::read(folder.join(format!("keys/{name}-public.pem"))).unwrap();
            PublicKey::from_pem(&pem).unwrap()
        });
        assert_eq!(
            keys.each_ref().map(PublicKey::ssh_fingerprint),
            [
                "SHA256:x6l8ZblpSSXGaPMCzySedWg88BwIFcz8jlPb6el0mFs",
                "SHA256:BhCwr7qZulYcOMSl2Jt2DuYHxHNnN6th4NdMqR/PGa4",
                "SHA256:13cNV0A11AxgIQYCvlDmJlRi0CjRtjnYF47RzrMhlaU",
            ]
        );
        let opened = open(envelope, SIF_METADATA_TYPE, &keys).unwrap();
        assert_eq!(opened.payload().len(), 517);
        assert_eq!(
            hex::encode(Sha256::digest(opened.payload())),
            "1cec2ca596f2ad0c50020e601544d3b176925714379e22b87a368d55d9d3aa02"
        );
        assert_eq!(
            hex::encode(Sha256::digest(pae(SIF_METADATA_TYPE, opened.payload()))),
            "da7f36796518399df1e460ca07981b49a9f0427e366e3c8791326509baf6c32c"
        );
        eprintln!(
            "entries {:?}, accepted {:?}",
            entries(envelope).unwrap(),
            opened.accepted()
        );
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_envelope(&data, SIF_METADATA_TYPE);
            let _ = open(&data, SIF_METADATA_TYPE, &[ed25519().public()]);
        }

        #[test]
        fn opens_any_payload(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = ed25519();
            let sealed = seal("t", &payload, &[&key]).unwrap();
            let opened = open(&sealed, "t", &[key.public()]).unwrap();
            prop_assert_eq!(opened.payload(), payload);
        }
    }
}
