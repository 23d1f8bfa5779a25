// SPDX-License-Identifier: GPL-2.0

//! Mappings by address.

use super::pages::Held;
use kernel::{
    maple_tree::MapleTree,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};
use virtio::iova;

/// Mappings that do not overlap. What is looked up takes logarithmic time, and memory goes by the
/// number of contiguous ranges, not of pages.
#[pin_data]
pub(crate) struct Mappings {
    #[pin]
    tree: MapleTree<Arc<Held>>,
}

// SAFETY: A maple tree may be used from any thread, and what is in it, too.
unsafe impl Send for Mappings {}

// SAFETY: As above. Each access takes the lock of the tree.
unsafe impl Sync for Mappings {}

impl Mappings {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            tree <- MapleTree::new(),
        })
    }

    /// Adds a mapping.
    ///
    /// # Errors
    ///
    /// - `EEXIST` if it overlaps another.
    /// - `ENOMEM`
    pub(crate) fn insert(&self, held: Arc<Held>) -> Result {
        let range = held.mapping().range;
        let first = usize::try_from(range.first())?;
        let last = usize::try_from(range.last())?;

        Ok(self.tree.insert_range(first..=last, held, GFP_KERNEL)?)
    }

    /// Calls `f`, which must not sleep, with the first mapping of which a part is in a range.
    fn find<R>(&self, range: iova::Range, f: impl FnOnce(ArcBorrow<'_, Held>) -> R) -> Option<R> {
        let first = usize::try_from(range.first()).ok()?;
        let last = usize::try_from(range.last()).ok()?;
        let mut guard = self.tree.lock();
        let mut state = guard.ma_state(first, last);

        state.find(last).map(f)
    }

    /// Calls `f`, which must not sleep, with the mapping of an address.
    pub(crate) fn with<R>(&self, addr: u64, f: impl FnOnce(&Held) -> R) -> Option<R> {
        self.find(iova::Range::from_bounds(addr, addr)?, |held| f(&held))
    }

    /// Removes the first mapping that has a part in a range, and returns it.
    pub(crate) fn take(&self, range: iova::Range) -> Option<Arc<Held>> {
        let start = self.find(range, |held| held.mapping().range.first())?;

        self.tree.erase(usize::try_from(start).ok()?)
    }

    /// Calls `f` with each mapping, in ascending order, until it fails.
    pub(crate) fn for_each(&self, mut f: impl FnMut(Arc<Held>) -> Result) -> Result {
        let mut rest = Some(iova::Range::ALL);

        while let Some(range) = rest {
            let Some(held) = self.find(range, |held| Arc::from(held)) else {
                break;
            };
            let next = held.mapping().range.last().checked_add(1);

            rest = next.and_then(|first| iova::Range::from_bounds(first, u64::MAX));
            f(held)?;
        }
        Ok(())
    }

    /// Returns whether there is no mapping.
    pub(crate) fn is_empty(&self) -> bool {
        self.find(iova::Range::ALL, |_| ()).is_none()
    }

    /// Removes all mappings.
    pub(crate) fn clear(&self) {
        while self.take(iova::Range::ALL).is_some() {}
    }
}
