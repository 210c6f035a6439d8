//! How much is read for one image.
//!
//! An index of some hundred kilobytes can name one manifest of 4 MiB thousands of times, and so can
//! a manifest its layers. Each blob may be read again and again for good reasons, but not as often
//! as a hostile file likes: the work grows with the size of the file.

use crate::digest::Digest;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Bytes that are read in any case.
const FREE: u64 = 64 << 20;

/// How often all different blobs may be read on top of that.
const TIMES: u64 = 16;

/// Counts what was read.
#[derive(Default)]
pub(super) struct Allowance(Mutex<Spent>);

#[derive(Default)]
struct Spent {
    /// Bytes of all that was read.
    total: u64,
    /// Bytes of the different blobs among it.
    distinct: u64,
    seen: HashSet<Digest>,
}

impl Allowance {
    /// Whether a blob of so many bytes may be read, maybe once more.
    pub(super) fn allows(&self, digest: &Digest, len: usize) -> bool {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        if !spent.seen.contains(digest) {
            spent.seen.insert(digest.clone());
            spent.distinct = spent.distinct.saturating_add(len);
        }
        spent.total = spent.total.saturating_add(len);
        spent.is_within()
    }

    /// Whether something was refused.
    pub(super) fn is_spent(&self) -> bool {
        let spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !spent.is_within()
    }
}

impl Spent {
    fn is_within(&self) -> bool {
        self.total <= self.distinct.saturating_mul(TIMES).saturating_add(FREE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;

    #[test]
    fn much_may_be_read_but_little_not_for_ever() {
        let digest = |n: u32| HashAlgorithm::Sha256.digest(&n.to_le_bytes());
        let (allowance, len) = (Allowance::default(), 4 << 20);
        // Whatever its size, a file may be read several times.
        for _ in 0..TIMES {
            for n in 0..1000 {
                assert!(allowance.allows(&digest(n), len));
            }
        }
        let allowance = Allowance::default();
        let times = (0..).take_while(|_| allowance.allows(&digest(0), len));
        assert_eq!(times.count(), 32);
        let allowance = Allowance::default();
        let times = (0..).take_while(|_| allowance.allows(&digest(0), 300));
        assert!(times.count() > 200_000);
    }
}
