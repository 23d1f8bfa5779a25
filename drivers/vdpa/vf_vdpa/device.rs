// SPDX-License-Identifier: GPL-2.0

//! The operations of the vDPA device.

use super::{
    driver::VfVdpa,
    profile::Profile,
    space, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use vdpa::{
    callback::Slot,
    pages::Pinned,
    stats::Stats,
    Context,
    KernelConsumer,
    NotificationArea,
    Operations,
    VqMap,
    VqState,
    BACKEND_F_ENABLE_AFTER_DRIVER_OK, //
};
use virtio::{
    features::Features,
    iova,
    notify,
    queue::{
        Addresses,
        RingKind, //
    },
    status::Status, //
};

/// A vDPA device. Its data is the [`Profile`] that it was added with.
pub(crate) struct VfDevice;

type Cx<'c, 'a> = Context<'c, 'a, VfDevice>;

#[vtable]
impl Operations for VfDevice {
    type Management = VfVdpa;
    type Data = Profile;

    fn vq_callback<'c, 'a>(cx: Cx<'c, 'a>, vq: u16) -> Option<&'c Slot> {
        cx.parent()
            .shared
            .receivers
            .queue(vq)
            .map(|queue| &queue.gate().callback)
    }

    fn config_callback<'c, 'a>(cx: Cx<'c, 'a>) -> &'c Slot {
        &cx.parent().shared.receivers.alarm.config
    }

    fn set_vq_address(cx: Cx<'_, '_>, vq: u16, desc: u64, driver: u64, device: u64) -> Result {
        let mut control = cx.parent().shared.control.lock();
        let kind = RingKind::from_features(control.accepted);
        let addresses = Addresses {
            desc,
            driver,
            device,
        };

        addresses.check(kind).map_err(|_| EINVAL)?;
        control.queue(vq).ok_or(EINVAL)?.addresses = Some(addresses);
        Ok(())
    }

    fn set_vq_num(cx: Cx<'_, '_>, vq: u16, num: u32) {
        if let Some(queue) = cx.parent().shared.control.lock().queue(vq) {
            queue.num = Some(num);
        }
    }

    fn kick_vq(cx: Cx<'_, '_>, vq: u16) {
        if let Some(queue) = cx.parent().shared.receivers.queue(vq) {
            queue.kick();
        }
    }

    fn set_vq_ready(cx: Cx<'_, '_>, vq: u16, ready: bool) {
        cx.parent().set_queue_ready(cx.data(), vq, ready);
    }

    fn get_vq_ready(cx: Cx<'_, '_>, vq: u16) -> bool {
        let mut control = cx.parent().shared.control.lock();

        control.queue(vq).is_some_and(|queue| queue.ready)
    }

    fn set_vq_state(cx: Cx<'_, '_>, vq: u16, state: VqState) -> Result {
        cx.parent().set_vq_state(vq, state)
    }

    fn get_vq_state(cx: Cx<'_, '_>, vq: u16) -> Result<VqState> {
        cx.parent().vq_state(vq)
    }

    fn get_vendor_vq_stats(cx: Cx<'_, '_>, vq: u16, stats: &mut Stats<'_>) -> Result {
        let shared = &cx.parent().shared;
        if vq >= cx.data().nvqs {
            return Err(EINVAL);
        }
        let (ready, direct, relayed) = {
            let mut control = shared.control.lock();
            let queue = control.queue(vq).ok_or(EINVAL)?;
            (queue.ready, queue.direct(), queue.relayed())
        };
        let queue = shared.receivers.queue(vq).ok_or(EINVAL)?;

        stats.put(c"kicks", queue.kicks())?;
        stats.put(c"interrupts", queue.interrupts())?;
        stats.put(c"ready", ready.into())?;
        stats.put(c"direct", direct.is_some().into())?;
        stats.put(c"direct_seconds", direct.unwrap_or(0))?;
        stats.put(c"relayed", relayed.is_some().into())?;
        stats.put(c"relayed_seconds", relayed.unwrap_or(0))?;
        for (name, value) in queue.counters().all() {
            stats.put(name, value)?;
        }
        Ok(())
    }

    fn get_vq_notification(cx: Cx<'_, '_>, vq: u16) -> Option<NotificationArea> {
        let function = cx.parent();
        // What the consumer accepts makes no difference: the address must not change.
        let queue = function.fixed_limits(cx.data(), vq)?;
        let layout = function.shared.transport.layout().notify();
        let bar = u32::from(layout.window().bar());
        let size = u64::try_from(PAGE_SIZE).ok()?;

        // The consumer writes its own number of the queue, which must be the function's.
        if queue.doorbell.index != vq {
            return None;
        }
        let start = function.pdev.resource_start(bar).ok()?;
        let addr = notify::doorbell_page(layout, start, queue.doorbell.offset, size)?;
        // A relay has to see kicks. The address stays the same, for a mapping that was allowed
        // earlier and is used only now.
        let area = NotificationArea::new(function.pdev, bar, addr)?;
        Some(if function.gives_doorbell(vq) {
            area
        } else {
            area.withheld()
        })
    }

    fn get_vq_irq(cx: Cx<'_, '_>, vq: u16) -> Result<u32> {
        let function = cx.parent();
        let (status, accepted, direct, irq) = {
            let mut control = function.shared.control.lock();
            let direct = control.queue(vq).is_some_and(|queue| queue.is_direct());
            let irq = function.interrupts.access(&control).exclusive_irq(vq);
            (control.status, control.accepted, direct, irq)
        };

        // What the kernel serves gives no interrupt. A relay needs it: it must not go past the kernel.
        if function.control_vq(cx.data(), accepted) == Some(vq) || !direct {
            return Err(EINVAL);
        }
        // vhost-vdpa asks whenever DRIVER_OK is requested, and undoes what it does with the answer
        // only if DRIVER_OK shows when it is to go: no answer, then, if it was not honoured.
        if !status.contains(Status::DRIVER_OK) {
            return Err(EINVAL);
        }
        let irq = irq.ok_or(EINVAL)?;
        if let Some(queue) = function.shared.receivers.queue(vq) {
            queue.gate().note_bypass();
        }
        Ok(irq)
    }

    fn get_vq_size(cx: Cx<'_, '_>, vq: u16) -> u16 {
        let accepted = cx.parent().shared.control.lock().accepted;

        cx.parent().size_max(cx.data(), accepted, vq).unwrap_or(0)
    }

    fn get_vq_align(_cx: Cx<'_, '_>) -> u32 {
        u32::try_from(PAGE_SIZE).unwrap_or(4096)
    }

    fn get_vq_group(cx: Cx<'_, '_>, vq: u16) -> u32 {
        let accepted = cx.parent().shared.control.lock().accepted;

        if cx.parent().control_vq(cx.data(), accepted) == Some(vq) {
            space::CONTROL
        } else {
            space::DATA
        }
    }

    fn get_device_features(cx: Cx<'_, '_>) -> u64 {
        cx.data().features.bits()
    }

    fn get_backend_features(_cx: Cx<'_, '_>) -> u64 {
        // Virtqueues may be enabled after DRIVER_OK, as QEMU does whether it is advertised or not.
        BACKEND_F_ENABLE_AFTER_DRIVER_OK
    }

    fn set_driver_features(cx: Cx<'_, '_>, features: u64) -> Result {
        cx.parent()
            .set_features(cx.data(), Features::from_bits(features))
    }

    fn get_driver_features(cx: Cx<'_, '_>) -> u64 {
        cx.parent().shared.control.lock().accepted.bits()
    }

    fn get_vq_num_max(cx: Cx<'_, '_>) -> u16 {
        let limits = &cx.parent().shared.limits;

        limits.num_max(limits.offered)
    }

    fn get_device_id(cx: Cx<'_, '_>) -> u32 {
        cx.parent().shared.limits.id.id()
    }

    fn get_vendor_id(cx: Cx<'_, '_>) -> u32 {
        cx.parent().shared.limits.vendor.into()
    }

    fn get_status(cx: Cx<'_, '_>) -> u8 {
        cx.parent().status().bits()
    }

    fn set_status(cx: Cx<'_, '_>, status: u8) {
        cx.parent().set_status(cx.data(), Status::from_bits(status));
    }

    fn reset(cx: Cx<'_, '_>) -> Result {
        cx.parent().reset()
    }

    fn suspend(cx: Cx<'_, '_>) -> Result {
        cx.parent().suspend(cx.data())
    }

    fn resume(cx: Cx<'_, '_>) -> Result {
        cx.parent().resume(cx.data())
    }

    fn get_config_size(cx: Cx<'_, '_>) -> usize {
        cx.parent().shared.limits.config_len
    }

    fn get_config(cx: Cx<'_, '_>, offset: usize, buf: &mut [u8]) {
        cx.parent().copy_config(cx.data(), offset, buf);
    }

    fn set_config(cx: Cx<'_, '_>, offset: usize, buf: &[u8]) {
        cx.parent().write_config(cx.data(), offset, buf);
    }

    fn get_generation(cx: Cx<'_, '_>) -> u32 {
        cx.parent().generation()
    }

    fn get_iova_range(cx: Cx<'_, '_>) -> iova::Range {
        // The only operation that vhost-vdpa calls once for each process.
        cx.parent().welcome()
    }

    fn dma_map(cx: Cx<'_, '_>, asid: u32, memory: Pinned<'_>) -> Result {
        cx.parent().map(asid, memory)
    }

    fn dma_unmap(cx: Cx<'_, '_>, asid: u32, range: iova::Range) -> Result {
        cx.parent().unmap(asid, range)
    }

    fn reset_map(cx: Cx<'_, '_>, asid: u32) -> Result {
        cx.parent().reset_map(asid)
    }

    fn set_group_asid(cx: Cx<'_, '_>, group: u32, asid: u32) -> Result {
        cx.parent().set_group_asid(group, asid)
    }

    fn get_vq_map(cx: Cx<'_, '_>, vq: u16, consumer: KernelConsumer<'_>) -> VqMap {
        cx.parent().trust(cx.data(), vq, consumer)
    }
}
