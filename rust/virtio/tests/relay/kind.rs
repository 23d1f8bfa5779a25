// SPDX-License-Identifier: GPL-2.0

//! What kinds of relays there are, and what others do while they are at work.

use virtio::relay::Returns;

/// Whether interrupts are asked for by an index, and how soon chains have to come back.
pub(crate) type Kind = (bool, Returns);

pub(crate) const KINDS: [Kind; 3] = [
    (false, Returns::Promptly),
    (true, Returns::Promptly),
    (true, Returns::Together),
];

/// Each kind, with and without a boundary at which it holds back what comes behind.
pub(crate) fn kinds_and_hold() -> impl Iterator<Item = (Kind, bool)> {
    KINDS
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
}

/// What others do while a relay is at work.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Act {
    /// The guest makes a chain available.
    Add,
    /// The guest takes what has come, and sleeps.
    Sleep,
    /// The guest takes what has come, and sleeps until three quarters of the rest are there.
    Doze,
    /// The guest takes what has come, wants no interrupts, and looks again by itself.
    Poll,
    /// The device returns one, from here on, and looks again by itself.
    Work(u8),
    /// The device returns one, from here on, and sleeps.
    Serve(u8),
}
