// SPDX-License-Identifier: GPL-2.0

//! The state of a function, for people: `/sys/kernel/debug/vf_vdpa-<function>/state`.

use super::function::Shared;
use kernel::{
    debugfs::Writer,
    fmt,
    sync::Arc, //
};

/// The contents of the file.
pub(crate) struct StateFile(Arc<Shared>);

impl StateFile {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Writer for StateFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared {
            limits, receivers, ..
        } = &*self.0;
        let control = self.0.control.lock();
        let id = limits.id;

        writeln!(f, "class: {}", id.name())?;
        writeln!(f, "phase: {:?}", control.phase)?;
        writeln!(f, "status: {}", control.status)?;
        writeln!(f, "function features: {}", limits.offered.names(id))?;
        writeln!(f, "negotiated unseen: {}", limits.hidden.names(id))?;
        if let Some(profile) = &control.profile {
            writeln!(f, "offered features: {}", profile.features.names(id))?;
            writeln!(f, "virtqueues: {}", profile.nvqs)?;
        }
        writeln!(f, "accepted features: {}", control.accepted.names(id))?;
        writeln!(
            f,
            "configuration interrupts: {}",
            receivers.config_interrupts()
        )?;
        for (vq, (queue, counters)) in control.queues.iter().zip(&receivers.queues).enumerate() {
            writeln!(
                f,
                "vq {vq}: ready {} hardware {:?} size {} desc {:#x} driver {:#x} device {:#x} kicks {} interrupts {}",
                u8::from(queue.ready),
                queue.hardware,
                queue.num.unwrap_or(0),
                queue.addresses.desc,
                queue.addresses.driver,
                queue.addresses.device,
                counters.kicks(),
                counters.interrupts(),
            )?;
        }
        Ok(())
    }
}
