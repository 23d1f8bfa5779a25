// SPDX-License-Identifier: GPL-2.0

//! The configuration space that a consumer sees.
//!
//! While the device is live, registers are only read if the device has signalled a change since:
//! netlink lets any user of the machine ask, under the lock of the vDPA bus. On a function with a
//! single vector each interrupt may be such a signal. Commands that the driver does not see change the
//! configuration without one: with such a control queue, each reader reads registers.

use super::{
    control::{
        Control,
        Phase, //
    },
    function::Function,
    profile::Profile, //
};
use core::mem;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};
use virtio::{
    config,
    device_id::DeviceId,
    features,
    net,
    status::Status, //
};

/// How often a configuration that changes while it is read is read again.
const ATTEMPTS: u32 = 8;

/// Returns bytes of their own.
fn copy_of(bytes: &[u8]) -> Result<KVec<u8>, AllocError> {
    let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(copy)
}

impl Function<'_> {
    /// Brings the copies of status and configuration of a live device up to date, if it has
    /// signalled a change.
    pub(crate) fn refresh(&self, control: &mut Control) {
        if control.phase != Phase::Live {
            return;
        }
        if self.shared.receivers.alarm.take_broken() {
            self.sever();
            control.status = control.status.union(Status::NEEDS_RESET);
        }
        if !self.shared.receivers.alarm.take_stale() {
            return;
        }
        let status = self.shared.transport.status();
        if status.is_gone() {
            self.report(fmt!("cannot be reached"));
            return self.cut_off(control);
        }
        if !status.contains(Status::DRIVER_OK) {
            self.report(fmt!("was reset behind our back"));
            self.sever();
            control.phase = Phase::Lost;
            return control.demand_reset();
        }
        if status.contains(Status::NEEDS_RESET) {
            if !control.status.contains(Status::NEEDS_RESET) {
                self.report(fmt!("says that it needs a reset"));
            }
            // It may answer nothing any more.
            self.sever();
            control.status = control.status.union(Status::NEEDS_RESET);
        }
        self.read_config(control);
        if !self.interrupts.access(control).share_everything() {
            self.shared
                .receivers
                .alarm
                .judge_interrupts(&mut control.pace);
        }
    }

    /// Reads the configuration into the copy, which stays as it is on an error.
    pub(crate) fn read_config(&self, control: &mut Control) {
        let copies = (copy_of(&control.config), copy_of(&control.config));
        let (Ok(mut fresh), Ok(mut before)) = copies else {
            return self.shared.receivers.alarm.mark_stale();
        };
        let settled = config::read_stable(
            ATTEMPTS,
            || Ok::<_, Error>(u32::from(self.shared.transport.config_generation())),
            || {
                mem::swap(&mut fresh, &mut before);
                self.shared.transport.read_config(&mut fresh);
                Ok(fresh[..] == before[..])
            },
        );

        if settled != Ok(true) {
            self.shared.receivers.alarm.mark_stale();
            return self.report(fmt!("the configuration does not settle"));
        }
        if fresh[..] != control.config[..] {
            if !control.may_change() {
                self.shared.receivers.alarm.mark_stale();
                // A consumer that changes its address can have that, too.
                return self.complain(fmt!("the configuration changes all the time"));
            }
            control.config = fresh;
            control.generation = control.generation.wrapping_add(1);
        }
    }

    /// Copies configuration to `buf`, which is zero, from `offset` on.
    pub(crate) fn copy_config(&self, profile: &Profile, offset: usize, buf: &mut [u8]) {
        let mut control = self.shared.control.lock();
        let control = &mut *control;

        if self.obeys_unseen(control, profile) {
            self.shared.receivers.alarm.mark_stale();
        }
        self.refresh(control);
        if control.phase == Phase::Stopped {
            // Such a device does not signal changes.
            self.read_config(control);
        }
        let span = config::clamp(offset, buf.len(), control.config.len());
        if let Some(source) = control.config.get(span.source()) {
            for (to, from) in span.prepare(buf).iter_mut().zip(source) {
                *to = *from;
            }
        }
        if let Some(shown) = buf.get_mut(span.copy()) {
            control.shown().apply(offset, shown);
        }
    }

    /// Returns whether the device changes its configuration on command of the consumer, without a
    /// signal: its MAC address, or that it wants an announcement, on a control queue that the driver
    /// does not serve.
    fn obeys_unseen(&self, control: &Control, profile: &Profile) -> bool {
        let commands = features::net::CTRL_MAC_ADDR.union(features::net::GUEST_ANNOUNCE);

        self.shared.limits.id == DeviceId::NET
            && !profile.serves_control
            && control.accepted.intersects(commands)
    }

    /// Writes configuration of the device; what is beyond its end is dropped.
    pub(crate) fn write_config(&self, profile: &Profile, offset: usize, buf: &[u8]) {
        let mut control = self.shared.control.lock();
        let span = config::clamp(offset, buf.len(), control.config.len());

        // A driver only reads that of a network device (virtio 1.3, 5.1.4), but there are devices
        // that would take another MAC address.
        if self.shared.limits.id == DeviceId::NET {
            return self.take_mac(&mut control, profile, offset, buf);
        }
        if let (Phase::Stopped | Phase::Live, Some(buf)) = (control.phase, buf.get(span.copy())) {
            self.shared.transport.write_config(offset, buf);
            self.shared.receivers.alarm.mark_stale();
        }
    }

    /// Takes the MAC address that QEMU and DPDK write before their driver looks, to give a device the
    /// address that they were told to use. It is ignored where the address is not theirs to choose:
    /// such a device shows another one.
    fn take_mac(&self, control: &mut Control, profile: &Profile, offset: usize, buf: &[u8]) {
        // What is negotiated depends on it.
        let settled =
            control.status.contains(Status::FEATURES_OK) || control.phase != Phase::Stopped;

        if settled || control.overlay.mac.is_some() || !profile.takes_mac() {
            return;
        }
        let Some(mac) = net::written_mac(offset, buf) else {
            return;
        };
        self.read_config(control);
        let written = (!control.config.starts_with(&mac)).then_some(mac);
        if control.written_mac != written {
            control.written_mac = written;
            control.generation = control.generation.wrapping_add(1);
        }
    }

    /// Returns the number that changes with the configuration.
    pub(crate) fn generation(&self) -> u32 {
        let mut control = self.shared.control.lock();

        self.refresh(&mut control);
        control.generation
    }

    /// Returns the status that the consumer sees.
    pub(crate) fn status(&self) -> Status {
        let mut control = self.shared.control.lock();

        self.refresh(&mut control);
        control.status
    }
}
