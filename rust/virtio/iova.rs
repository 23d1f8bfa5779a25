// SPDX-License-Identifier: GPL-2.0

//! Ranges of I/O virtual addresses, and how a device's are shared out.
//!
//! A consumer chooses the addresses of what it maps. A parent that has rings of its own needs
//! addresses that the consumer does not choose: a window at the upper end of what the IOMMU can
//! translate, where no memory of a guest is.

/// A range of I/O virtual addresses that is not empty.
///
/// Invariant: `first` is not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u64,
    last: u64,
}

impl Range {
    /// All addresses.
    pub const ALL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// The range from `first` to `last`, both included; [`None`] if there is none.
    #[must_use]
    pub const fn from_bounds(first: u64, last: u64) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The range of `size` bytes from `first` on; [`None`] if that is empty or leaves the address
    /// space.
    #[must_use]
    pub const fn from_size(first: u64, size: u64) -> Option<Self> {
        let Some(distance) = size.checked_sub(1) else {
            return None;
        };
        match first.checked_add(distance) {
            Some(last) => Some(Self { first, last }),
            None => None,
        }
    }

    /// The first address.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// The number of bytes; `u64::MAX` for [`ALL`](Self::ALL), which has one more.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.last.wrapping_sub(self.first).saturating_add(1)
    }

    /// True if all of `other` is in this range.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// True if the ranges have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Most bytes of the parent's window: shadow rings of 1024 virtqueues of 32768 entries take a third.
const WINDOW: u64 = 1 << 30;

/// The least part of the address space that stays for the consumer: 15 of 16 addresses.
const SHARE: u32 = 4;

/// Where the window ends at the latest: page tables of four levels reach as far, and a mapping beyond
/// would make every lookup longer.
const END: u64 = 1 << 48;

/// The alignment of the window, which suits every page that an IOMMU has.
const ALIGN: u64 = 1 << 21;

/// Who uses which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// What a consumer may map.
    pub consumer: Range,
    /// What the parent may map.
    pub own: Range,
}

/// Shares out the addresses of `aperture`, those that an IOMMU can translate. Nobody can map what is
/// `reserved`, and the window of the parent is the highest one without such addresses.
///
/// Returns [`None`] if there is no room for a window that leaves the consumer the lower addresses.
#[must_use]
pub fn split(aperture: Range, reserved: &[Range]) -> Option<Split> {
    let aperture = Range::from_bounds(aperture.first, aperture.last.min(END - 1))?;
    let size = (aperture.size() >> SHARE).min(WINDOW) & !(ALIGN - 1);
    if size == 0 {
        return None;
    }
    // Where the window may end at most, exclusively: at the end of the aperture, or below a
    // reserved range that the window would overlap. Each step leaves one such range behind.
    let mut end = aperture.last.wrapping_add(1);
    for _ in 0..=reserved.len() {
        let first = end.checked_sub(size)? & !(ALIGN - 1);
        let own = Range::from_size(first, size)?;
        let Some(obstacle) = reserved.iter().find(|range| range.overlaps(own)) else {
            let consumer = Range::from_bounds(aperture.first, first.checked_sub(1)?)?;
            // Half of the addresses, at the least, stay below.
            return (consumer.size() >= aperture.size() >> 1).then_some(Split { consumer, own });
        };
        end = obstacle.first;
    }
    None
}
