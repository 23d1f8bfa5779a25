// SPDX-License-Identifier: GPL-2.0

//! The state of a function, for people: `/sys/kernel/debug/vf_vdpa-<function>/state`.

use super::{
    control::Phase,
    function::Shared, //
};
use kernel::{
    debugfs::Writer,
    fmt,
    sync::Arc, //
};
use virtio::{
    features::Features,
    queue::Addresses, //
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
        let unseen = control
            .negotiated(limits.hidden)
            .difference(control.accepted);
        writeln!(f, "negotiated unseen: {}", unseen.names(id))?;
        if let Some(profile) = &control.profile {
            writeln!(f, "offered features: {}", profile.features.names(id))?;
            writeln!(f, "virtqueues: {}", profile.nvqs)?;
        }
        if let Some([a, b, c, d, e, g]) = control.overlay.mac {
            writeln!(
                f,
                "administrator's MAC address: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"
            )?;
        }
        if let Some([a, b, c, d, e, g]) = control.written_mac {
            writeln!(
                f,
                "written MAC address: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"
            )?;
        }
        writeln!(f, "accepted features: {}", control.accepted.names(id))?;
        if control.phase == Phase::Live {
            let consumer = if control.kernel_consumer {
                "the kernel"
            } else {
                "a process"
            };
            let [data, other] = control.asids;
            writeln!(f, "consumer: {consumer}")?;
            writeln!(f, "address spaces: data {data}, control {other}")?;
        }
        writeln!(
            f,
            "configuration interrupts: {}",
            receivers.alarm.config_interrupts()
        )?;
        for (vq, (queue, counters)) in control.queues.iter().zip(&receivers.queues).enumerate() {
            write!(
                f,
                "vq {vq}: {} in hardware {:?}, ",
                if queue.ready { "ready" } else { "not ready" },
                queue.hardware,
            )?;
            if let Some(num) = queue.num {
                write!(f, "size {num}, ")?;
            }
            if let Some(Addresses {
                desc,
                driver,
                device,
            }) = queue.addresses
            {
                write!(f, "desc {desc:#x} driver {driver:#x} device {device:#x}, ")?;
            }
            write!(
                f,
                "{} kicks, {} interrupts",
                counters.kicks(),
                counters.interrupts()
            )?;
            if let Some(seconds) = queue.direct() {
                write!(f, ", direct for {seconds} s")?;
            }
            if let Some(seconds) = queue.relayed() {
                write!(f, ", relayed for {seconds} s")?;
                let gap = counters.gap();
                if !limits.hidden.contains(Features::RING_RESET) {
                    f.write_str(" and until a reset: the function has no RING_RESET")?;
                } else if gap != 0 {
                    f.write_str(" and until a reset: its driver has chains out for ever")?;
                }
                if gap != 0 {
                    write!(f, ", {gap} lost before")?;
                }
            }
            for (name, value) in counters.counters().all() {
                if value != 0 {
                    f.write_fmt(kernel::prelude::fmt!(", {value} {name}"))?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
