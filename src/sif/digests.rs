//! Hashes of many objects at once: each once per algorithm, over all cores.

use super::image::{Error, Image};
use super::types::GroupId;
use crate::digest::{Digest, HashAlgorithm};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A run of data that is hashed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// The object at this index of [`Image::objects`].
    Object(usize),
    /// All objects of a group, in table order.
    Group(GroupId),
}

/// What is to be hashed, without repetition.
pub type Wanted = BTreeSet<(Extent, HashAlgorithm)>;

/// Finished digests.
pub struct Digests(HashMap<(Extent, HashAlgorithm), Digest>);

impl Digests {
    /// Hashes everything wanted, the largest first, with at most `threads` threads.
    ///
    /// # Errors
    /// The first object that cannot be read, [`Error`].
    pub fn compute(image: &Image<'_>, wanted: &Wanted, threads: usize) -> Result<Self, Error> {
        let mut work: Vec<_> = wanted
            .iter()
            .map(|key| (extent_len(image, key.0), *key))
            .collect();
        work.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
        let next = AtomicUsize::new(0);
        let done = Mutex::new(HashMap::new());
        let failed = Mutex::new(None);
        let run = || {
            while let Some((_, key)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                match hash(image, key.0, key.1) {
                    Ok(digest) => {
                        lock(&done).insert(*key, digest);
                    }
                    Err(error) => {
                        lock(&failed).get_or_insert(error);
                        next.store(work.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        // A second thread costs more than it gains below this size.
        let large = work.iter().filter(|(len, _)| *len > 1 << 18).count();
        let helpers = threads.min(large).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Too few threads left: this one does the work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
        if let Some(error) = lock(&failed).take() {
            return Err(error);
        }
        let done = std::mem::take(&mut *lock(&done));
        Ok(Self(done))
    }

    /// A finished digest; `None` if it was not wanted.
    pub fn get(&self, extent: Extent, algorithm: HashAlgorithm) -> Option<&Digest> {
        self.0.get(&(extent, algorithm))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn members<'i>(image: &'i Image<'_>, extent: Extent) -> Vec<&'i super::Descriptor> {
    match extent {
        Extent::Object(index) => image.objects().get(index).into_iter().collect(),
        Extent::Group(group) => image
            .group_members(group)
            .map(|(_, object)| object)
            .collect(),
    }
}

fn extent_len(image: &Image<'_>, extent: Extent) -> i64 {
    members(image, extent)
        .iter()
        .fold(0, |sum: i64, object| sum.saturating_add(object.size()))
}

fn hash(image: &Image<'_>, extent: Extent, algorithm: HashAlgorithm) -> Result<Digest, Error> {
    image.digest_all(&members(image, extent), algorithm)
}
