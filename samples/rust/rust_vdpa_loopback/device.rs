// SPDX-License-Identifier: GPL-2.0

//! The operations of the vDPA device.

use super::{
    port::{
        Port,
        MAX_SIZE,
        RECEIVE,
        TRANSMIT, //
    },
    Loopback, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::atomic::Relaxed, //
};
use vdpa::{
    callback::Slot,
    pages::Pinned,
    stats::Stats,
    work::Work,
    Context,
    KernelConsumer,
    Operations,
    VqMap,
    VqState, //
};
use virtio::{
    config,
    device_id::DeviceId,
    features::{
        self,
        Features, //
    },
    iova,
    net,
    policy,
    queue::{
        Addresses,
        RingKind, //
    },
    status::{
        self,
        Status, //
    }, //
};

/// A device.
pub(crate) struct LoopbackDevice;

/// The data of a device.
#[pin_data]
pub(crate) struct Data {
    #[pin]
    work: Work<Port>,
    features: Features,
    config: [u8; net::LEN],
}

/// Returns an initializer for the data of a device.
pub(crate) fn new(features: Features, mac: Option<[u8; 6]>, mtu: u16) -> impl PinInit<Data, Error> {
    // Without an address of its own, the driver makes one up.
    let features = if mac.is_some() {
        features
    } else {
        features.difference(features::net::MAC)
    };
    let mut config = [0; net::LEN];
    let status = net::STATUS_LINK_UP.to_le_bytes();
    for (to, from) in config.iter_mut().skip(net::STATUS).zip(status) {
        *to = from;
    }
    let overlay = net::Overlay {
        max_virtqueue_pairs: Some(1),
        mtu: Some(mtu),
        mac,
    };
    overlay.apply(0, &mut config);

    try_pin_init!(Data {
        work <- Work::new(Port::new(), c"vdpa_loopback", static_lock_class!()),
        features,
        config,
    })
}

type Cx<'c, 'a> = Context<'c, 'a, LoopbackDevice>;

impl Data {
    fn port(&self) -> &Port {
        self.work.data()
    }
}

#[vtable]
impl Operations for LoopbackDevice {
    type Management = Loopback;
    type Data = Data;

    fn vq_callback<'c, 'a>(cx: Cx<'c, 'a>, vq: u16) -> Option<&'c Slot> {
        match usize::from(vq) {
            RECEIVE => Some(&cx.data().port().receive_callback),
            TRANSMIT => Some(&cx.data().port().transmit_callback),
            _ => None,
        }
    }

    fn config_callback<'c, 'a>(cx: Cx<'c, 'a>) -> &'c Slot {
        &cx.data().port().config_callback
    }

    fn set_vq_address(cx: Cx<'_, '_>, vq: u16, desc: u64, driver: u64, device: u64) -> Result {
        let mut control = cx.data().port().control.lock();
        let addresses = Addresses {
            desc,
            driver,
            device,
        };

        addresses.check(RingKind::Split).map_err(|_| EINVAL)?;
        control.queue(vq).ok_or(EINVAL)?.addresses = Some(addresses);
        Ok(())
    }

    fn set_vq_num(cx: Cx<'_, '_>, vq: u16, num: u32) {
        if let Some(queue) = cx.data().port().control.lock().queue(vq) {
            queue.num = num;
        }
    }

    fn kick_vq(cx: Cx<'_, '_>, _vq: u16) {
        cx.data().work.queue();
    }

    fn set_vq_ready(cx: Cx<'_, '_>, vq: u16, ready: bool) {
        {
            let mut control = cx.data().port().control.lock();
            let accepted = control.accepted;
            let live = control.status.contains(Status::DRIVER_OK);
            let Some(queue) = control.queue(vq) else {
                return;
            };

            queue.ready = ready;
            if !ready {
                queue.stop();
            } else if live && !queue.is_live() && queue.start(accepted).is_err() {
                queue.ready = false;
            }
        }
        // The driver may have kicked before.
        cx.data().work.queue();
    }

    fn get_vq_ready(cx: Cx<'_, '_>, vq: u16) -> bool {
        let mut control = cx.data().port().control.lock();

        control.queue(vq).is_some_and(|queue| queue.ready)
    }

    fn set_vq_state(cx: Cx<'_, '_>, vq: u16, state: VqState) -> Result {
        let VqState::Split { avail_index } = state else {
            return Err(EINVAL);
        };
        let mut control = cx.data().port().control.lock();
        let queue = control.queue(vq).ok_or(EINVAL)?;

        if queue.is_live() {
            return Err(EBUSY);
        }
        queue.avail_index = avail_index;
        Ok(())
    }

    fn get_vq_state(cx: Cx<'_, '_>, vq: u16) -> Result<VqState> {
        let mut control = cx.data().port().control.lock();

        // Frames are moved under the lock: none is half-way.
        let avail_index = control.queue(vq).ok_or(EINVAL)?.next_avail();
        Ok(VqState::Split { avail_index })
    }

    fn get_vendor_vq_stats(cx: Cx<'_, '_>, vq: u16, stats: &mut Stats<'_>) -> Result {
        // Any user of the machine asks for any index.
        if usize::from(vq) > TRANSMIT {
            return Err(EINVAL);
        }
        stats.put(c"frames", cx.data().port().frames.load(Relaxed))?;
        stats.put(c"dropped", cx.data().port().dropped.load(Relaxed))
    }

    fn get_vq_size(_cx: Cx<'_, '_>, _vq: u16) -> u16 {
        MAX_SIZE
    }

    fn get_vq_align(_cx: Cx<'_, '_>) -> u32 {
        4096
    }

    fn get_device_features(cx: Cx<'_, '_>) -> u64 {
        cx.data().features.bits()
    }

    fn set_driver_features(cx: Cx<'_, '_>, features: u64) -> Result {
        let features = Features::from_bits(features);
        let mut control = cx.data().port().control.lock();

        if control.status.contains(Status::FEATURES_OK) {
            let harmless = features.is_empty() || features == control.accepted;
            return if harmless { Ok(()) } else { Err(EBUSY) };
        }
        policy::accept(cx.data().features, features, DeviceId::NET).map_err(|_| EINVAL)?;
        control.accepted = features;
        Ok(())
    }

    fn get_driver_features(cx: Cx<'_, '_>) -> u64 {
        cx.data().port().control.lock().accepted.bits()
    }

    fn get_vq_num_max(_cx: Cx<'_, '_>) -> u16 {
        MAX_SIZE
    }

    fn get_device_id(_cx: Cx<'_, '_>) -> u32 {
        DeviceId::NET.id()
    }

    fn get_vendor_id(_cx: Cx<'_, '_>) -> u32 {
        virtio::device_id::PCI_VENDOR.into()
    }

    fn get_status(cx: Cx<'_, '_>) -> u8 {
        cx.data().port().control.lock().status.bits()
    }

    fn set_status(cx: Cx<'_, '_>, requested: u8) {
        {
            let requested = Status::from_bits(requested);
            let mut control = cx.data().port().control.lock();
            let new = requested.difference(control.status);
            let Ok(transition) = status::transition(control.status, requested) else {
                if new.contains(Status::DRIVER_OK) {
                    control.status = control.status.union(Status::FAILED);
                }
                return;
            };

            let mut set = transition.set;
            if transition.features_ok && !control.accepted.contains(policy::MANDATORY) {
                set = set.difference(Status::FEATURES_OK);
            }
            if transition.driver_ok {
                let agreed = control.status.union(set).contains(Status::FEATURES_OK);
                if !agreed || control.start().is_err() {
                    set = set.difference(Status::DRIVER_OK).union(Status::FAILED);
                }
            }
            control.status = control.status.union(set);
        }
        // The driver may have kicked before.
        cx.data().work.queue();
    }

    fn reset(cx: Cx<'_, '_>) -> Result {
        cx.data().port().control.lock().forget();
        cx.data().work.cancel();
        cx.data().port().memory.distrust();
        Ok(())
    }

    fn suspend(cx: Cx<'_, '_>) -> Result {
        // Frames are moved under the lock: none is half-way.
        cx.data().port().control.lock().suspended = true;
        Ok(())
    }

    fn resume(cx: Cx<'_, '_>) -> Result {
        cx.data().port().control.lock().suspended = false;
        cx.data().work.queue();
        Ok(())
    }

    fn get_config_size(_cx: Cx<'_, '_>) -> usize {
        net::LEN
    }

    fn get_config(cx: Cx<'_, '_>, offset: usize, buf: &mut [u8]) {
        let span = config::clamp(offset, buf.len(), net::LEN);
        let source = cx.data().config.get(span.source()).unwrap_or_default();

        for (to, from) in span.prepare(buf).iter_mut().zip(source) {
            *to = *from;
        }
    }

    fn set_config(_cx: Cx<'_, '_>, _offset: usize, _buf: &[u8]) {
        // Nothing in the configuration of a network device can be written.
    }

    // Not `set_map`: without batches, vhost calls that with all mappings for each new one.
    fn dma_map(cx: Cx<'_, '_>, _asid: u32, memory: Pinned<'_>) -> Result {
        cx.data().port().memory.map(memory).map(|_| ())
    }

    fn dma_unmap(cx: Cx<'_, '_>, _asid: u32, range: iova::Range) -> Result {
        cx.data().port().memory.unmap(range);
        Ok(())
    }

    fn reset_map(cx: Cx<'_, '_>, _asid: u32) -> Result {
        cx.data().port().memory.clear();
        Ok(())
    }

    fn get_vq_map(cx: Cx<'_, '_>, _vq: u16, consumer: KernelConsumer<'_>) -> VqMap {
        cx.data().port().memory.trust(consumer);
        VqMap::Device
    }
}
