// SPDX-License-Identifier: GPL-2.0

//! What a relay finds wrong with either side.

use core::fmt;

/// Why a relay cannot go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RelayError<G, S> {
    /// The guest's rings cannot be reached.
    Guest(G),
    /// The shadow rings cannot be reached.
    Shadow(S),
    /// The queue is to go on where its used ring contradicts it.
    Start {
        /// The index at which it is to go on.
        index: u16,
        /// The index of the used ring.
        used: u16,
    },
    /// The guest has made more chains available than there are descriptors.
    AvailIndex {
        /// The index it shows.
        index: u16,
        /// The index up to which chains were taken.
        taken: u16,
    },
    /// The guest has made a chain available that begins at a descriptor that is not there.
    Head(u16),
    /// The guest has made a chain available that the device still has.
    Twice(u16),
    /// The device has returned more chains than it was given.
    UsedIndex {
        /// The index it shows.
        index: u16,
        /// The index up to which chains were returned.
        returned: u16,
    },
    /// The device has returned a chain that it was not given.
    Unknown(u32),
}

impl<G: fmt::Display, S: fmt::Display> fmt::Display for RelayError<G, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(error) => write!(f, "rings of the guest: {error}"),
            Self::Shadow(error) => write!(f, "shadow rings: {error}"),
            Self::Start { index, used } => write!(
                f,
                "cannot go on at index {index}, its used ring ends at {used}"
            ),
            Self::AvailIndex { index, taken } => write!(
                f,
                "available index {index} is more than the ring ahead of {taken}"
            ),
            Self::Head(head) => write!(
                f,
                "available chain begins at descriptor {head}, which is not there"
            ),
            Self::Twice(head) => {
                write!(f, "chain {head} is made available while the device has it")
            }
            Self::UsedIndex { index, returned } => write!(
                f,
                "used index {index} is further from {returned} than chains are out"
            ),
            Self::Unknown(head) => write!(f, "used chain {head} was not given to the device"),
        }
    }
}
