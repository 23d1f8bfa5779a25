// SPDX-License-Identifier: GPL-2.0

//! The vectors, each an event that the emulator waits for.

use std::fs::File;
use std::io::Write;

use crate::shape::MOST_VECTORS;

/// The vectors.
pub struct Interrupts {
    triggers: Vec<Option<File>>,
}

impl Interrupts {
    /// As many as any function has, nobody waiting.
    pub fn new() -> Self {
        Self {
            triggers: (0..MOST_VECTORS).map(|_| None).collect(),
        }
    }

    /// From now on `files`, one for each of `count` vectors, are waited for; none of them without files.
    pub fn set(&mut self, start: u32, count: u32, files: Vec<File>) {
        let mut files = files.into_iter();
        let range = start..start.saturating_add(count);
        for (index, trigger) in (0..).zip(&mut self.triggers) {
            if range.contains(&index) {
                *trigger = files.next();
            }
        }
    }

    /// Nobody waits for any of them.
    pub fn clear(&mut self) {
        self.triggers.iter_mut().for_each(|trigger| *trigger = None);
    }

    /// Interrupts, if that vector exists and somebody waits.
    pub fn send(&mut self, vector: u16) {
        if let Some(Some(trigger)) = self.triggers.get_mut(usize::from(vector)) {
            // An event that has been counted up to its end still wakes.
            let _ = trigger.write_all(&1_u64.to_ne_bytes());
        }
    }

    /// Interrupts with each of the first `vectors`.
    pub fn send_all(&mut self, vectors: u16) {
        for vector in 0..vectors {
            self.send(vector);
        }
    }
}
