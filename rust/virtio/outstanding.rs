// SPDX-License-Identifier: GPL-2.0

//! Which chains of a virtqueue are out.

use core::ops::DerefMut;

/// Which chains the device has, by head: one bit each.
///
/// `B` holds at least one word for each 64 descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding<B>(B);

impl<B: DerefMut<Target = [u64]>> Outstanding<B> {
    fn bit(head: u16) -> (usize, u64) {
        (usize::from(head >> 6), 1 << (head & 63))
    }

    /// No chains, if `words` are all 0.
    pub(crate) const fn new(words: B) -> Self {
        Self(words)
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Notes a chain; false if the device has it already.
    pub(crate) fn insert(&mut self, head: u16) -> bool {
        let (word, bit) = Self::bit(head);
        match self.0.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Notes a chain that the device does not have, and forgets one that it has: whether it has it then. [`None`] if
    /// there is no such chain.
    pub(crate) fn toggle(&mut self, head: u16) -> Option<bool> {
        let (word, bit) = Self::bit(head);
        let word = self.0.get_mut(word)?;
        *word ^= bit;
        Some(*word & bit != 0)
    }

    /// Forgets a chain; false if the device does not have it.
    pub(crate) fn remove(&mut self, head: u16) -> bool {
        let (word, bit) = Self::bit(head);
        match self.0.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }
}
