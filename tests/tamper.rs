//! Flips every covered bit of signed images, cuts them at every length, and
//! makes every change of the coverage table: each is refused for the reason
//! that the table names, or goes through where the table says so.
//!
//! What to expect is computed here from the bytes and the specification
//! (spec/sif.md 1.4, 1.14, 4.2, 4.3, 4.11), not by the program.

mod support;

use base64::Engine as _;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sigsif::policy::Demands;
use sigsif::report::{Failure, Report};
use sigsif::scope::{Legacy, Selection};
use sigsif::sif::{self, Backing, GroupId, Image};
use sigsif::signer::{dsse, pgp};
use sigsif::verify::{self, KeyMaterial, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use support::table::{self, HEADER, MASK, Object, SLOT, TABLE, field, header};
use support::{NOW, keyring, parallel, public_key, read_peers};

/// A signed image of the fixtures and the key that verifies it.
struct Signed {
    name: &'static str,
    bytes: Vec<u8>,
    material: KeyMaterial,
}

fn signed(name: &'static str) -> Signed {
    let material = match name.strip_prefix("dsse-") {
        Some(key) => public_key(key),
        None => keyring(),
    };
    Signed {
        name,
        bytes: read_peers(&format!("native/{name}.sif")),
        material,
    }
}

/// What became of a verification.
#[derive(Debug)]
enum Verdict {
    NotLoaded(sif::Error),
    NotJudged(String),
    Refused(Failure),
    Verified(Report),
}

impl Verdict {
    fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

fn judge_with(bytes: &dyn Backing, material: &KeyMaterial, selection: &Selection) -> Verdict {
    let image = match Image::parse(bytes) {
        Ok(image) => image,
        Err(error) => return Verdict::NotLoaded(error),
    };
    let request = Request {
        selection: selection.clone(),
        demands: Demands::default(),
        examine_all: false,
        now: NOW,
        threads: 1,
    };
    match verify::native(&image, material, &request) {
        Err(error) => Verdict::NotJudged(error.to_string()),
        Ok(report) => match report.failure() {
            Some(failure) => Verdict::Refused(failure.clone()),
            None => {
                assert!(report.is_verified(), "neither refused nor verified");
                Verdict::Verified(report)
            }
        },
    }
}

fn judge(bytes: &Vec<u8>, material: &KeyMaterial) -> Verdict {
    judge_with(bytes, material, &Selection::default())
}

/// What must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expect {
    Verified,
    /// Does not load, with these words.
    Unloadable(&'static str),
    /// Loads, is not judged, with these words.
    Malformed(&'static str),
    /// Judged and refused for exactly this reason.
    Refused(Failure),
    /// Anything but verified.
    AnyRefusal,
    /// A byte of signature data: decided by [`free_bits`].
    Seal,
}

impl Expect {
    fn fits(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Verified, verdict) => verdict.is_verified(),
            (Self::Unloadable(words), Verdict::NotLoaded(error)) => {
                error.to_string().contains(words)
            }
            (Self::Malformed(words), Verdict::NotJudged(text)) => text.contains(words),
            (Self::Refused(wanted), Verdict::Refused(found)) => wanted == found,
            (Self::AnyRefusal, verdict) => !verdict.is_verified(),
            _ => false,
        }
    }
}

/// A flipped bit: byte position and bit number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flip {
    at: usize,
    bit: u8,
}

impl fmt::Debug for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} bit {}", self.at, self.bit)
    }
}

impl Flip {
    fn apply(self, bytes: &mut [u8]) {
        bytes[self.at] ^= 1 << self.bit;
    }
}

/// Predicts the verdict about the image `new`, which differs from the well
/// signed image `old` in one bit.
fn predict(old: &[u8], new: &[u8], flip: Flip) -> Expect {
    let table_end = TABLE + table::capacity(old) * SLOT;
    if flip.at < HEADER {
        predict_header(new, flip.at)
    } else if (TABLE..table_end).contains(&flip.at) {
        predict_slot(old, new, flip.at)
    } else {
        match table::objects(old)
            .into_iter()
            .find(|o| o.range().contains(&flip.at))
        {
            None => Expect::Verified,
            Some(object) if object.is_signature() => Expect::Seal,
            Some(object) => Expect::Refused(Failure::ObjectChanged(object.id)),
        }
    }
}

/// spec/sif.md 1.2, 1.14 #2 to #12, 3.3.
fn predict_header(new: &[u8], at: usize) -> Expect {
    let value = |at| table::i64_at(new, at);
    let len = i64::try_from(new.len()).expect("a length");
    match at {
        0..header::MAGIC => Expect::Refused(Failure::HeaderChanged),
        header::MAGIC..header::VERSION => Expect::Unloadable("invalid SIF magic"),
        header::VERSION..header::ARCH => Expect::Unloadable("incompatible SIF version"),
        header::ARCH..header::ID => Expect::Verified,
        header::ID..header::CREATED => Expect::Refused(Failure::HeaderChanged),
        header::CREATED..header::FREE => Expect::Verified,
        header::FREE..header::TABLE_OFFSET => {
            let (free, total) = (value(header::FREE), value(header::TOTAL));
            let need = total.checked_mul(585);
            if total < 0 {
                Expect::Unloadable("descriptors total")
            } else if need.is_none_or(|need| need > value(header::TABLE_SIZE)) {
                Expect::Unloadable("reading descriptors")
            } else if free < 0 || free > total {
                Expect::Malformed("descriptors free")
            } else {
                // All used slots are among the first ones.
                Expect::Verified
            }
        }
        header::TABLE_OFFSET..header::TABLE_SIZE => Expect::AnyRefusal,
        header::TABLE_SIZE..header::DATA_OFFSET => {
            let (start, size) = (value(header::TABLE_OFFSET), value(header::TABLE_SIZE));
            if size < 0 || start.checked_add(size).is_none() {
                Expect::Unloadable("descriptors size")
            } else if size < value(header::TOTAL) * 585 {
                Expect::Unloadable("reading descriptors")
            } else {
                Expect::Verified
            }
        }
        header::DATA_OFFSET..header::DATA_SIZE => {
            if (0..=len).contains(&value(header::DATA_OFFSET)) {
                Expect::Verified
            } else {
                Expect::Malformed("data offset")
            }
        }
        _ => {
            if value(header::DATA_SIZE) >= 0 {
                Expect::Verified
            } else {
                Expect::Malformed("data size")
            }
        }
    }
}

/// spec/sif.md 1.4, 3.3.
fn predict_slot(old: &[u8], new: &[u8], at: usize) -> Expect {
    let slot = (at - TABLE) / SLOT;
    let place = (at - TABLE) % SLOT;
    if old[TABLE + slot * SLOT + field::USED] == 0 {
        return if place == field::USED {
            Expect::Malformed("id is 0")
        } else {
            Expect::Verified
        };
    }
    let object = table::object(old, slot);
    let changed = table::object(new, slot);
    let signature = object.is_signature();
    let covered = if signature {
        Expect::Verified
    } else {
        Expect::Refused(Failure::DescriptorChanged(object.id))
    };
    match place {
        field::TYPE..field::USED if signature => {
            Expect::Refused(Failure::UngroupedObject(object.id))
        }
        field::USED if new[at] != 0 => Expect::Verified,
        field::USED..field::LINK => predict_groups(old, new),
        field::LINK..field::OFFSET if signature => predict_groups(old, new),
        field::OFFSET..field::PADDED => {
            let moved = place < field::SIZE;
            predict_place(old, new, &changed, moved)
        }
        field::PADDED..field::CREATED | field::MODIFIED..field::UID => Expect::Verified,
        field::EXTRA..field::FINGERPRINT if signature => {
            if (1..=5).contains(&table::u32_at(new, changed.at(field::EXTRA))) {
                Expect::Verified
            } else {
                Expect::Refused(Failure::UnsupportedHash)
            }
        }
        field::FINGERPRINT..field::FINGERPRINT_END if signature && is_pgp(old, &object) => {
            Expect::Refused(Failure::OtherSigner)
        }
        _ if !signature
            && table::objects(new)
                .iter()
                .filter(|o| o.is_primary())
                .count()
                > 1 =>
        {
            Expect::Malformed("both primary system partitions")
        }
        _ => covered,
    }
}

fn is_pgp(bytes: &[u8], signature: &Object) -> bool {
    bytes[signature.range()].starts_with(b"-----BEGIN PGP")
}

/// spec/sif.md 1.14 #18, #19, #21, 4.2, 4.3 steps 4 and 6.
///
/// The signatures of the images cover whole groups, so what they cover is
/// read from the table of the image that was signed.
fn predict_groups(old: &[u8], new: &[u8]) -> Expect {
    let objects = table::objects(new);
    let mut seen = BTreeSet::new();
    let mut sizes = BTreeMap::<u32, usize>::new();
    for object in &objects {
        *sizes.entry(object.group()).or_default() += 1;
    }
    for object in &objects {
        if object.id == 0 {
            return Expect::Malformed("id is 0");
        }
        if !seen.insert(object.id) {
            return Expect::Malformed("is used twice");
        }
        if object.group() != 0 && object.raw_group & MASK != MASK && sizes[&object.group()] > 1 {
            return Expect::Malformed("lacks the mask");
        }
    }
    if let Some(object) = objects.iter().find(|o| o.group() == 0 && !o.is_signature()) {
        return Expect::Refused(Failure::UngroupedObject(object.id));
    }
    for group in sizes.keys().copied().filter(|group| *group != 0) {
        let candidates: Vec<_> = objects
            .iter()
            .filter(|o| o.is_signature() && o.linked_group() == group)
            .collect();
        if candidates.is_empty() {
            let group = GroupId::new(group).expect("a group");
            return Expect::Refused(Failure::NoSignatureForGroup(group));
        }
        let ids = group_ids(&objects, group);
        let lowest = ids.first().copied().expect("a member");
        for candidate in candidates {
            let made_for = table::object(old, candidate.slot).linked_group();
            let then = group_ids(&table::objects(old), made_for);
            let first = then.first().copied().expect("a member then");
            let signed: BTreeSet<_> = then
                .iter()
                .map(|id| lowest.wrapping_add(id - first))
                .collect();
            if let Some(extra) = ids.difference(&signed).next() {
                return Expect::Refused(Failure::ObjectNotSigned(*extra));
            }
            if let Some(gone) = signed.difference(&ids).next() {
                return Expect::Refused(Failure::SignedObjectMissing(*gone));
            }
        }
    }
    Expect::Verified
}

fn group_ids(objects: &[Object], group: u32) -> BTreeSet<u32> {
    objects
        .iter()
        .filter(|o| o.group() == group)
        .map(|o| o.id)
        .collect()
}

/// spec/sif.md 1.14 #13 to #17, 4.3 step 8.
fn predict_place(old: &[u8], new: &[u8], object: &Object, moved: bool) -> Expect {
    let len = i64::try_from(new.len()).expect("a length");
    let table_end = i64::try_from(TABLE + table::capacity(new) * SLOT).expect("a position");
    if object.size < 0 {
        return Expect::Malformed("size at byte");
    }
    if object.offset < 0 {
        return Expect::Malformed("offset at byte");
    }
    let Some(end) = object.offset.checked_add(object.size) else {
        return Expect::Malformed("overflow");
    };
    let overlaps = |from: i64, to: i64| object.size > 0 && object.offset < to && from < end;
    if end > len {
        return match object.is_signature() {
            true => Expect::Refused(Failure::SignatureCut(object.id)),
            false => Expect::Malformed("the file ends at byte"),
        };
    }
    let others = table::objects(new);
    if overlaps(0, 128)
        || overlaps(4096, table_end)
        || others
            .iter()
            .any(|o| o.slot != object.slot && overlaps(o.offset, o.offset + o.size))
    {
        return Expect::Malformed("overlaps");
    }
    if object.is_signature() {
        return Expect::AnyRefusal;
    }
    if !moved {
        return Expect::Refused(Failure::DescriptorChanged(object.id));
    }
    let before = table::object(old, object.slot);
    if old[before.range()] == new[object.range()] {
        Expect::Verified
    } else {
        Expect::Refused(Failure::ObjectChanged(object.id))
    }
}

/// Whether this build is fast enough to flip every bit.
///
/// A build with debug assertions takes minutes for what an optimised one does
/// in seconds; it leaves most bits of bulky fields to the other one
/// (`cargo test --release --test tamper`, or `SIGSIF_TAMPER=full`).
fn thorough() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("SIGSIF_TAMPER").is_some_and(|v| v == "full")
}

/// Every bit that decides anything, one bit per byte of the zeros around.
fn flips(bytes: &[u8], thinner: usize) -> Vec<Flip> {
    let used: BTreeSet<_> = table::objects(bytes).iter().map(|o| o.slot).collect();
    let table_end = TABLE + table::capacity(bytes) * SLOT;
    let data: Vec<_> = table::objects(bytes).iter().map(Object::range).collect();
    let every_bit = |at: usize| match at {
        0..HEADER => true,
        TABLE.. if at < table_end => {
            let (slot, place) = ((at - TABLE) / SLOT, (at - TABLE) % SLOT);
            used.contains(&slot) || place == field::USED
        }
        _ => data.iter().any(|range| range.contains(&at)),
    };
    let all = (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| Flip { at, bit }));
    if thorough() {
        return all
            .filter(|flip| every_bit(flip.at) || flip.at % 8 == usize::from(flip.bit))
            .collect();
    }
    // Numbers of used slots in full, then thinner and thinner.
    let step = |at: usize| {
        thinner
            * match at {
                0..HEADER => 5,
                TABLE.. if at < table_end => match (at - TABLE) % SLOT {
                    _ if !used.contains(&((at - TABLE) / SLOT)) => 1999,
                    field::USED..field::PADDED => 1,
                    _ => 29,
                },
                _ if every_bit(at) => 43,
                _ => 1999,
            }
    };
    all.filter(|flip| (flip.at * 8 + usize::from(flip.bit)).is_multiple_of(step(flip.at)))
        .collect()
}

/// Flips every bit of an image and returns how many were refused.
fn flip_every_bit(image: &Signed) -> usize {
    let Signed {
        name,
        bytes,
        material,
    } = image;
    assert!(
        judge(bytes, material).is_verified(),
        "{name}: {:?}",
        judge(bytes, material)
    );
    // Large curves and two signatures take longest without optimisation.
    let slow = ["dsse-p384", "dsse-p521", "pgp-two-groups"].contains(name);
    let flips = flips(bytes, if slow { 7 } else { 1 });
    let begin = std::time::Instant::now();
    let parts: Vec<_> = flips.chunks(512).collect();
    let results = parallel(&parts, |part| {
        let mut new = bytes.clone();
        let mut wrong = Vec::new();
        let mut accepted = BTreeSet::new();
        let mut refused = 0_usize;
        for flip in *part {
            flip.apply(&mut new);
            let verdict = judge(&new, material);
            let expect = predict(bytes, &new, *flip);
            refused += usize::from(!verdict.is_verified());
            match expect {
                Expect::Seal => {
                    if let Verdict::Verified(report) = &verdict {
                        assert_same_seal(bytes, &new, report, material, *flip);
                        accepted.insert(*flip);
                    }
                }
                expect if expect.fits(&verdict) => {}
                expect => wrong.push(format!("{flip:?}: expected {expect:?}, got {verdict:?}")),
            }
            flip.apply(&mut new);
        }
        (wrong, accepted, refused)
    });
    let mut wrong = Vec::new();
    let mut accepted = BTreeSet::new();
    let mut refused = 0;
    for (more_wrong, more_accepted, more_refused) in results {
        wrong.extend(more_wrong);
        accepted.extend(more_accepted);
        refused += more_refused;
    }
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} flips, first ones:\n{}",
        wrong.len(),
        flips.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    let tried: BTreeSet<_> = flips.iter().copied().collect();
    let free: BTreeSet<_> = free_bits(bytes).intersection(&tried).copied().collect();
    assert_eq!(
        describe(bytes, accepted.difference(&free)),
        "",
        "{name}: accepted though they should not be"
    );
    assert_eq!(
        describe(bytes, free.difference(&accepted)),
        "",
        "{name}: refused though they change nothing"
    );
    eprintln!(
        "{name}: {} flips, {refused} refused, {} free bits of the seal, {:.1} s",
        flips.len(),
        accepted.len(),
        begin.elapsed().as_secs_f32()
    );
    refused
}

fn describe<'f>(bytes: &[u8], flips: impl Iterator<Item = &'f Flip>) -> String {
    flips
        .map(|flip| {
            let object = table::objects(bytes)
                .into_iter()
                .find(|o| o.range().contains(&flip.at))
                .expect("signature data");
            let start = object.range().start;
            let around = &bytes[flip.at.saturating_sub(12).max(start)..flip.at];
            format!(
                "object {} +{} bit {} {:?} after {:?}\n",
                object.id,
                flip.at - start,
                flip.bit,
                char::from(bytes[flip.at]),
                String::from_utf8_lossy(around)
            )
        })
        .collect()
}

/// An accepted change of signature data leaves text and signer as they were.
fn assert_same_seal(old: &[u8], new: &[u8], report: &Report, material: &KeyMaterial, flip: Flip) {
    let object = table::objects(old)
        .into_iter()
        .find(|o| o.range().contains(&flip.at))
        .expect("signature data");
    let (before, after) = (&old[object.range()], &new[object.range()]);
    assert_eq!(open(before, material), open(after, material), "{flip:?}");
    let intact = judge(&old.to_vec(), material);
    let Verdict::Verified(intact) = intact else {
        panic!("the original does not verify");
    };
    let facts = |report: &Report| {
        let signatures = report.signatures.iter();
        let facts = signatures.map(|s| (s.object, s.signer.clone(), s.verified.clone()));
        facts.collect::<Vec<_>>()
    };
    assert_eq!(facts(&intact), facts(report), "{flip:?}");
}

/// Payload and signer of a seal.
fn open(data: &[u8], material: &KeyMaterial) -> (Vec<u8>, String) {
    match &material.keyrings {
        None => {
            let keys: Vec<_> = material.keys.iter().map(|k| k.key.clone()).collect();
            let opened = dsse::open(
                data,
                dsse::SIF_METADATA_TYPE,
                &keys,
                &dsse::Tries::default(),
            )
            .expect("an envelope");
            (
                opened.payload().to_vec(),
                format!("{:?}", opened.accepted()),
            )
        }
        Some(keyrings) => {
            let keyrings: Vec<_> = keyrings.iter().map(|(_, keyring)| &**keyring).collect();
            let opened = pgp::open(data, &keyrings, NOW).expect("a message");
            (opened.payload().to_vec(), format!("{:?}", opened.signer()))
        }
    }
}

/// Bits of signature data that bind nothing.
fn free_bits(bytes: &[u8]) -> BTreeSet<Flip> {
    let mut free = BTreeSet::new();
    for object in table::objects(bytes).iter().filter(|o| o.is_signature()) {
        let range = object.range();
        let data = &bytes[range.clone()];
        let bits = if is_pgp(bytes, object) {
            free_bits_of_clear_signed(data)
        } else {
            free_bits_of_envelope(data)
        };
        free.extend(bits.into_iter().map(|(at, bit)| Flip {
            at: range.start + at,
            bit,
        }));
    }
    free
}

/// What of a clear-signed message binds nothing:
///
/// - case of the letters in the value of its `Hash:` header, which nobody compares;
/// - the first two bytes of the hash in the signature packet, a hint for
///   readers that version 4 leaves unprotected;
/// - the bit count of a signature number, as long as it means as many bytes;
/// - filler at the end of the base64 text, and a byte behind the packet there.
///
/// Everything else is either signed or decides whether the text can be read.
fn free_bits_of_clear_signed(data: &[u8]) -> BTreeSet<(usize, u8)> {
    let mut free = BTreeSet::new();
    let value = find(data, b"Hash: ") + 6;
    let letters = data[value..].iter().take_while(|b| **b != b'\n');
    for (at, byte) in letters.enumerate() {
        if byte.is_ascii_alphabetic() {
            free.insert((value + at, 5));
        }
    }
    let start = find(data, b"-----BEGIN PGP SIGNATURE-----\n\n") + 31;
    let end = find(data, b"\n-----END PGP SIGNATURE-----");
    let packet = unarmored(&data[start..end]).expect("base64");
    let parts = Parts::of(&packet).expect("a packet");
    for at in start..end {
        for bit in 0..8 {
            let mut body = data[start..end].to_vec();
            body[at - start] ^= 1 << bit;
            let changed = unarmored(&body);
            if data[at] != b'\n'
                && changed
                    .as_deref()
                    .and_then(Parts::of)
                    .is_some_and(|c| c == parts)
            {
                free.insert((at, bit));
            }
        }
    }
    free
}

fn find(data: &[u8], wanted: &[u8]) -> usize {
    let mut windows = data.windows(wanted.len());
    windows
        .position(|window| window == wanted)
        .expect("framing")
}

fn unarmored(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<_> = text.iter().copied().filter(|byte| *byte != b'\n').collect();
    // As Go reads it: bits that fill up the last letter may be anything.
    let lenient = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    engine.decode(text).ok()
}

/// The parts of an RSA signature packet that matter.
#[derive(PartialEq, Eq)]
struct Parts {
    /// Header, version, kind, algorithms, hashed and unhashed area.
    front: Vec<u8>,
    number: Vec<u8>,
}

impl Parts {
    /// `None` if the lengths inside do not fit.
    fn of(packet: &[u8]) -> Option<Self> {
        // Old readers know one-octet and two-octet lengths.
        let (head, len) = match packet {
            [0xc2, first @ 0..192, ..] => (2, usize::from(*first)),
            [0xc2, first @ 192..224, second, ..] => (
                3,
                (usize::from(*first) - 192) * 256 + usize::from(*second) + 192,
            ),
            _ => return None,
        };
        let body = packet.get(head..head + len)?;
        let two =
            |at: usize| Some(usize::from(*body.get(at)?) << 8 | usize::from(*body.get(at + 1)?));
        let unhashed = 6 + two(4)?;
        let hint = unhashed + 2 + two(unhashed)?;
        let number = body.get(hint + 4..)?;
        if two(hint + 2)?.div_ceil(8) != number.len() {
            return None;
        }
        Some(Self {
            front: packet.get(..head + hint)?.to_vec(),
            number: number.to_vec(),
        })
    }
}

/// What of an envelope binds nothing: the name `keyid`. Without a key id every
/// key is tried, and payload and type are signed all the same.
///
/// A flip of the top bit makes the text no UTF-8.
fn free_bits_of_envelope(data: &[u8]) -> BTreeSet<(usize, u8)> {
    let start = find(data, b"\"keyid\":") + 1;
    (start..start + 5)
        .flat_map(|at| (0..7).map(move |bit| (at, bit)))
        .collect()
}

#[test]
fn refuses_every_flipped_bit_of_pgp() {
    flip_every_bit(&signed("pgp-one"));
}

#[test]
fn refuses_every_flipped_bit_of_two_pgp_groups() {
    flip_every_bit(&signed("pgp-two-groups"));
}

#[test]
fn refuses_every_flipped_bit_of_dsse_ed25519() {
    flip_every_bit(&signed("dsse-ed25519"));
}

#[test]
fn refuses_every_flipped_bit_of_dsse_p256() {
    flip_every_bit(&signed("dsse-p256"));
}

#[test]
fn refuses_every_flipped_bit_of_dsse_p384() {
    flip_every_bit(&signed("dsse-p384"));
}

#[test]
fn refuses_every_flipped_bit_of_dsse_p521() {
    flip_every_bit(&signed("dsse-p521"));
}

#[test]
fn refuses_every_flipped_bit_of_dsse_rsa() {
    flip_every_bit(&signed("dsse-rsa3072"));
}

/// A view of the first bytes of an image.
struct Cut<'a>(&'a [u8]);

impl Backing for Cut<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }
}

#[test]
fn an_image_cut_at_any_length_is_refused() {
    for name in ["pgp-one", "pgp-two-groups", "dsse-p256", "dsse-rsa3072"] {
        let Signed {
            bytes, material, ..
        } = signed(name);
        let step = if thorough() { 1 } else { 7 };
        // Close to the end of everything no length is left out.
        let lengths: Vec<_> = (0..bytes.len())
            .filter(|len| len % step == 0 || *len < 200 || bytes.len() - len < 200)
            .collect();
        let results = parallel(&lengths, |len| {
            judge_with(&Cut(&bytes[..*len]), &material, &Selection::default()).is_verified()
        });
        let verified = lengths.iter().zip(results).find(|(_, verified)| *verified);
        assert_eq!(verified, None, "{name}: verified though cut");
        eprintln!("{name}: {} lengths of {}", lengths.len(), bytes.len());
    }
}

#[test]
fn bytes_behind_the_last_object_do_not_matter() {
    for name in ["pgp-one", "dsse-ed25519"] {
        let Signed {
            bytes, material, ..
        } = signed(name);
        for more in [1, 4096, 1 << 20] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + more, 0xa5);
            assert!(
                judge(&longer, &material).is_verified(),
                "{name} and {more} bytes"
            );
            // What was added can be cut again, one byte less cannot.
            longer.truncate(bytes.len());
            assert!(judge(&longer, &material).is_verified());
            longer.pop();
            assert!(!judge(&longer, &material).is_verified());
        }
    }
}

/// Verdict about one object of an image, and about the whole.
fn both_modes(bytes: &Vec<u8>, material: &KeyMaterial, object: u32) -> (Verdict, Verdict) {
    let only = Selection {
        objects: vec![object],
        ..Selection::default()
    };
    (judge(bytes, material), judge_with(bytes, material, &only))
}

#[track_caller]
fn assert_modes(
    change: &str,
    bytes: &Vec<u8>,
    material: &KeyMaterial,
    group: &Expect,
    object: &Expect,
) {
    let (by_group, by_object) = both_modes(bytes, material, 2);
    assert!(
        group.fits(&by_group),
        "{change}: by group: want {group:?}, got {by_group:?}"
    );
    assert!(
        object.fits(&by_object),
        "{change}: object 2: want {object:?}, got {by_object:?}"
    );
}

/// The rows of spec/sif.md 4.11 that are more than a flipped bit.
#[test]
fn the_coverage_table_holds_in_both_modes() {
    let group = |n| GroupId::new(n).expect("a group");
    let refused = |failure: &Failure| Expect::Refused(failure.clone());
    let both = |name: &str, bytes: &Vec<u8>, material: &KeyMaterial, expect: &Expect| {
        assert_modes(name, bytes, material, expect, expect);
    };
    for name in ["pgp-one", "dsse-p256"] {
        let Signed {
            bytes: good,
            material,
            ..
        } = signed(name);
        let edited = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            bytes
        };
        let object = |id| table::by_id(&good, id);
        both("nothing", &good, &material, &Expect::Verified);

        // Data and descriptor of another object do not concern object 2.
        let changed = edited(&|b| b[object(1).range().start] ^= 1);
        let one = Failure::ObjectChanged(1);
        assert_modes(
            "data of 1",
            &changed,
            &material,
            &refused(&one),
            &Expect::Verified,
        );
        let changed = edited(&|b| b[object(3).at(field::NAME)] ^= 1);
        let three = Failure::DescriptorChanged(3);
        assert_modes(
            "name of 3",
            &changed,
            &material,
            &refused(&three),
            &Expect::Verified,
        );

        let moved = edited(&|b| {
            let data = b[object(2).range()].to_vec();
            let to = i64::try_from(b.len()).expect("a length");
            b.extend(data);
            table::put_i64(b, object(2).at(field::OFFSET), to);
        });
        both("data moved", &moved, &material, &Expect::Verified);

        let shifted = edited(&|b| {
            for id in 1..=3 {
                table::put_u32(b, object(id).at(field::ID), id + 10);
            }
        });
        assert!(judge(&shifted, &material).is_verified(), "ids shifted");

        let renumbered = edited(&|b| table::put_u32(b, object(3).at(field::ID), 7));
        let not_signed = refused(&Failure::ObjectNotSigned(7));
        assert_modes(
            "3 is 7",
            &renumbered,
            &material,
            &not_signed,
            &Expect::Verified,
        );

        let swapped = edited(&|b| {
            table::put_u32(b, object(2).at(field::ID), 3);
            table::put_u32(b, object(3).at(field::ID), 2);
        });
        let swap = Failure::DescriptorChanged(3);
        let swapped_two = Failure::DescriptorChanged(2);
        assert_modes(
            "2 and 3 swapped",
            &swapped,
            &material,
            &refused(&swap),
            &refused(&swapped_two),
        );

        let added = edited(&|b| _ = table::add(b, 0x4007, 1, 0, b"evil"));
        let extra = refused(&Failure::ObjectNotSigned(5));
        assert_modes(
            "object added to the group",
            &added,
            &material,
            &extra,
            &Expect::Verified,
        );

        let loose = edited(&|b| _ = table::add(b, 0x4007, 0, 0, b"evil"));
        both(
            "object added to no group",
            &loose,
            &material,
            &refused(&Failure::UngroupedObject(5)),
        );

        let apart = edited(&|b| _ = table::add(b, 0x4007, 9, 0, b"evil"));
        let unsigned = refused(&Failure::NoSignatureForGroup(group(9)));
        assert_modes(
            "object in a new group",
            &apart,
            &material,
            &unsigned,
            &Expect::Verified,
        );

        let without = edited(&|b| table::delete(b, &object(3)));
        let missing = refused(&Failure::SignedObjectMissing(3));
        assert_modes(
            "3 deleted",
            &without,
            &material,
            &missing,
            &Expect::Verified,
        );
        let without = edited(&|b| table::delete(b, &object(1)));
        let shifts = refused(&Failure::SignedObjectMissing(4));
        assert!(shifts.fits(&judge(&without, &material)), "lowest deleted");
        let (_, by_object) = both_modes(&without, &material, 2);
        assert!(!by_object.is_verified(), "lowest deleted shifts the ids");

        let unsigned = edited(&|b| table::delete(b, &object(4)));
        both(
            "signature deleted",
            &unsigned,
            &material,
            &refused(&Failure::NoSignatureForGroup(group(1))),
        );

        let regrouped = edited(&|b| table::put_u32(b, object(3).at(field::GROUP), 2 | MASK));
        let missing = refused(&Failure::SignedObjectMissing(3));
        assert_modes(
            "3 in another group",
            &regrouped,
            &material,
            &missing,
            &Expect::Verified,
        );

        let garbage = edited(&|b| _ = table::add(b, table::SIGNATURE, 0, 1 | MASK, b"garbage"));
        let garbage = edited_hash(garbage);
        both(
            "garbage linked to the group",
            &garbage,
            &material,
            &refused(&Failure::UnknownFormat),
        );

        let linked_to_object = edited(&|b| {
            _ = table::add(b, table::SIGNATURE, 0, 2, b"garbage");
        });
        both(
            "garbage linked to an object",
            &edited_hash(linked_to_object),
            &material,
            &Expect::Verified,
        );
    }
}

/// Gives the last object the hash type of a signature.
fn edited_hash(mut bytes: Vec<u8>) -> Vec<u8> {
    let last = table::objects(&bytes).pop().expect("an object");
    table::put_u32(&mut bytes, last.at(field::EXTRA), 1);
    bytes
}

#[test]
fn a_signature_of_another_image_does_not_count() {
    // The same objects and keys, another image id; and the other way round.
    let mut other = read_peers("native/dsse-p256.sif");
    other[header::ID..header::CREATED].fill(0x42);
    let verdict = judge(&other, &public_key("p256"));
    assert!(
        Expect::Refused(Failure::HeaderChanged).fits(&verdict),
        "{verdict:?}"
    );

    // The signature of group 1 as that of group 2.
    let mut bytes = read_peers("native/pgp-two-groups.sif");
    let (first, second) = (table::by_id(&bytes, 7), table::by_id(&bytes, 8));
    table::put_i64(&mut bytes, second.at(field::OFFSET), 1);
    table::put_u32(&mut bytes, first.at(field::LINK), 2 | MASK);
    table::put_i64(&mut bytes, second.at(field::OFFSET), second.offset);
    table::put_u32(&mut bytes, second.at(field::LINK), 1 | MASK);
    let verdict = judge(&bytes, &keyring());
    assert!(
        matches!(verdict, Verdict::Refused(Failure::DescriptorChanged(_))),
        "{verdict:?}"
    );
}

#[test]
fn what_the_table_calls_undetected_is_so() {
    // A whole group deleted together with its signature.
    let mut bytes = read_peers("native/pgp-two-groups.sif");
    for id in [4, 5, 6, 8] {
        let object = table::by_id(&bytes, id);
        table::delete(&mut bytes, &object);
    }
    assert!(judge(&bytes, &keyring()).is_verified());
    // One of two signatures deleted.
    let mut bytes = read_peers("native/dsse-p256-twice.sif");
    let signature = table::signature(&bytes);
    table::delete(&mut bytes, &signature);
    assert!(judge(&bytes, &public_key("p256")).is_verified());
    // Signature objects that nobody looks at: of no group, of an object, of a group that is not
    // there, and legacy ones. They hold anything, and make nothing verified.
    let legacy = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSIFHASH:\n00\n\
                  -----BEGIN PGP SIGNATURE-----\n\nwsFc\n-----END PGP SIGNATURE-----\n";
    for (link, data) in [
        (0, "payload"),
        (2, "payload"),
        (9 | MASK, "payload"),
        (1 | MASK, legacy),
    ] {
        for (name, verified) in [("dsse-p256", true), ("unsigned", false)] {
            let mut bytes = read_peers(&format!("native/{name}.sif"));
            table::add(&mut bytes, table::SIGNATURE, 0, link, data.as_bytes());
            let verdict = judge(&edited_hash(bytes), &public_key("p256"));
            assert_eq!(
                verdict.is_verified(),
                verified,
                "{link} {name}: {verdict:?}"
            );
        }
    }
}

#[test]
fn the_wrong_key_verifies_nothing() {
    let keys = ["ed25519", "p256", "p384", "p521", "rsa3072"];
    for signed_by in keys {
        for key in keys {
            let bytes = read_peers(&format!("native/dsse-{signed_by}.sif"));
            let verified = judge(&bytes, &public_key(key)).is_verified();
            assert_eq!(verified, signed_by == key, "{signed_by} by {key}");
        }
    }
}

/// Images of sylabs/sif with legacy signatures; only beside the project.
///
/// `SIGSIF_CORPUS` names their folder, else it is looked for in `../shared`.
fn legacy(name: &str) -> Option<(Vec<u8>, KeyMaterial)> {
    let folder = std::env::var_os("SIGSIF_CORPUS").map_or_else(
        || support::project().join("../shared/corpus/sif"),
        std::path::PathBuf::from,
    );
    let Ok(bytes) = std::fs::read(folder.join("images").join(name)) else {
        support::skip(&format!("{} is not there", folder.display()));
        return None;
    };
    let key = std::fs::read(folder.join("keys/private.asc")).expect("the key");
    let entities = sigsif::key::pgp::entities_from_armored_or_binary(&key).expect("a key");
    let ring = sigsif::key::pgp::Keyring::from_entities(entities);
    Some((
        bytes,
        KeyMaterial::of_keyrings(vec![(sigsif::report::Origin::Local, ring)]),
    ))
}

/// Flips bits of data and descriptors of a legacy image: only data is bound.
fn flip_legacy(
    name: &str,
    selection: &Selection,
    covered: &[u32],
    failure: impl Fn(u32) -> Failure,
) {
    let Some((bytes, material)) = legacy(name) else {
        return;
    };
    assert!(
        judge_with(&bytes, &material, selection).is_verified(),
        "{name}"
    );
    let mut new = bytes.clone();
    for object in table::objects(&bytes).iter().filter(|o| !o.is_signature()) {
        for at in object.range().step_by(if thorough() { 1 } else { 31 }) {
            let flip = Flip {
                at,
                bit: u8::try_from(at % 8).expect("a bit"),
            };
            flip.apply(&mut new);
            let verdict = judge_with(&new, &material, selection);
            if covered.contains(&object.id) {
                let expect = Expect::Refused(failure(object.id));
                assert!(expect.fits(&verdict), "{name} {flip:?}: {verdict:?}");
            } else {
                assert!(verdict.is_verified(), "{name} {flip:?}: {verdict:?}");
            }
            flip.apply(&mut new);
        }
    }
    // Neither header nor name is protected: that is why the flag says insecure.
    new[0] ^= 1;
    new[table::by_id(&bytes, 2).at(field::NAME)] ^= 1;
    assert!(
        judge_with(&new, &material, selection).is_verified(),
        "{name}"
    );
    // A current verification never counts a legacy signature.
    let verdict = judge(&bytes, &material);
    let none = Failure::NoSignatureForGroup(GroupId::new(1).expect("a group"));
    assert!(Expect::Refused(none).fits(&verdict), "{name}: {verdict:?}");
}

fn legacy_selection(groups: &[u32], legacy: Legacy) -> Selection {
    Selection {
        groups: groups.to_vec(),
        objects: Vec::new(),
        legacy,
    }
}

#[test]
fn legacy_object_signature_binds_the_data_of_its_object() {
    let selection = legacy_selection(&[], Legacy::Selected);
    flip_legacy(
        "one-group-signed-legacy.sif",
        &selection,
        &[2],
        Failure::ObjectChanged,
    );
}

#[test]
fn legacy_group_signature_binds_the_data_of_the_group() {
    let selection = legacy_selection(&[1], Legacy::Selected);
    flip_legacy(
        "one-group-signed-legacy-group.sif",
        &selection,
        &[1, 2],
        |_| Failure::GroupChanged,
    );
}

#[test]
fn legacy_signatures_of_all_bind_all_data() {
    let selection = legacy_selection(&[], Legacy::All);
    flip_legacy(
        "one-group-signed-legacy-all.sif",
        &selection,
        &[1, 2],
        Failure::ObjectChanged,
    );
}

#[test]
fn the_model_of_the_clear_signed_packet_is_no_blank_cheque() {
    let bytes = read_peers("native/pgp-one.sif");
    let free = free_bits(&bytes);
    let total = table::signature(&bytes).range().len() * 8;
    assert!(free.len() < 20, "{} of {total} bits are free", free.len());
    let envelope = read_peers("native/dsse-rsa3072.sif");
    assert_eq!(free_bits(&envelope).len(), 35);
}
