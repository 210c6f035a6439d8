//! Revoking a whole key.

use super::{
    ArmorKind, Entity, Error, SigningKey, encode_armor,
    packet::{self, tag},
    signature::{kind, write_subpacket},
};

/// Why a key is revoked (RFC 9580, section 5.2.3.31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not told.
    None,
    /// Another key takes its place; older signatures lose their worth all the same.
    Superseded,
    /// Someone else may have the secret key.
    Compromised,
    /// No longer in use.
    NoLongerUsed,
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Superseded => 1,
            Self::Compromised => 2,
            Self::NoLongerUsed => 3,
        }
    }
}

/// Makes a revocation of the key itself: one signature packet, to stand behind the primary key.
///
/// `now` is in seconds since 1970.
///
/// # Errors
/// [`Error::CommentTooLong`], [`Error::Signing`].
pub fn revocation(
    key: &SigningKey,
    reason: Reason,
    comment: &str,
    now: u64,
) -> Result<Vec<u8>, Error> {
    if comment.len() > MAX_COMMENT {
        return Err(Error::CommentTooLong);
    }
    let public = key.public();
    // No verifier should see a revocation older than its key.
    let now = now.max(u64::from(public.created));
    let created = u32::try_from(now).map_err(|_| Error::Signing)?;
    let mut area = Vec::new();
    write_subpacket(&mut area, 2, &created.to_be_bytes());
    write_subpacket(&mut area, 16, &key.key_id().to_be_bytes());
    let text = [&[reason.code()], comment.as_bytes()].concat();
    write_subpacket(&mut area, 29, &text);
    let issuer = [&[4], key.fingerprint().as_bytes()].concat();
    write_subpacket(&mut area, 33, &issuer);
    let body = key.sign(
        kind::KEY_REVOCATION,
        key.preferred_hash(),
        &area,
        &[&public.hash_prefix(), &public.body],
    )?;
    let mut out = Vec::new();
    packet::write(&mut out, tag::SIGNATURE, &body);
    Ok(out)
}

/// A file that holds a revocation for later: words for its finder, then the armored packet.
pub fn certificate(entity: &Entity, revocation: &[u8]) -> String {
    let user = entity.primary_user_id().map_or("", |user| &user.raw);
    let user: String = user.chars().filter(|c| !c.is_control()).collect();
    format!(
        "This is a revocation certificate for the OpenPGP key\n\
         \n    {}\n    {user}\n\n\
         Keep it where nobody else finds it: whoever has it can make the key useless.\n\
         It is for the day on which the secret key is lost or in other hands. Then use\n\
         'sigsif key import --merge' or 'gpg --import' on this file, and send the public\n\
         key to those who have it.\n\
         \n{}\n",
        entity.fingerprint(),
        *encode_armor(ArmorKind::Public, revocation),
    )
}

/// Longest comment, in bytes.
const MAX_COMMENT: usize = 1024;
