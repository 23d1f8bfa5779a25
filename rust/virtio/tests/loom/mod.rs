// SPDX-License-Identifier: GPL-2.0

//! The words of a gate, as loom runs them.

use loom::sync::atomic::fence;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering;
use virtio::gate;

/// A word that several threads of a model use at once.
pub(crate) struct Word(AtomicU64);

impl gate::Word for Word {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    // loom treats a SeqCst access as AcqRel, and a fence as what it is.
    fn replace(&self, value: u64) {
        fence(Ordering::SeqCst);
        self.0.swap(value, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
}
