// SPDX-License-Identifier: GPL-2.0

//! The device status.

use anyhow::Result;
use vdpa_user::device::status;
use vdpa_user::port::Setup;

use crate::bench::Live;
use crate::case::{Case, Target, Verdict, fail, pass, source, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "status-1",
        title: "a device that was just opened shows 0",
        demands: "the status is 0 upon reset, and whoever opens the device gets it reset",
        source: "virtio 1.3, 2.1.2; uapi/linux/vhost.h",
        run: fresh,
    },
    Case {
        id: "status-2",
        title: "each bit is shown once it is set",
        demands: "ACKNOWLEDGE, DRIVER and FEATURES_OK are shown as they are set, in this order",
        source: "virtio 1.3, 2.1 and 3.1.1",
        run: step_by_step,
    },
    Case {
        id: "status-3",
        title: "no bit is taken back",
        demands: "a driver does not clear a bit; only 0, which resets the device, clears them all",
        source: "virtio 1.3, 2.1.1; uapi/linux/vhost.h",
        run: no_way_back,
    },
    Case {
        id: "status-4",
        title: "a device runs with the queues that it was given",
        demands: "DRIVER_OK is shown although no queue is enabled: which queues to use is the driver's business",
        source: "virtio 1.3, 3.1.1",
        run: without_queues,
    },
    Case {
        id: "status-5",
        title: "a driver that has given up can begin again",
        demands: "FAILED is shown, and a reset takes it away",
        source: "virtio 1.3, 2.1",
        run: failed,
    },
    Case {
        id: "status-6",
        title: "a device at work shows no NEEDS_RESET",
        demands: "DEVICE_NEEDS_RESET is set only for an error from which the device cannot recover",
        source: "virtio 1.3, 2.1.2",
        run: no_complaint,
    },
    Case {
        id: "status-7",
        title: "what is no status changes nothing",
        demands: "VHOST_VDPA_SET_STATUS without an argument fails, and the status stays",
        source: source::UAPI,
        run: without_an_argument,
    },
    Case {
        id: "status-8",
        title: "nothing is done before DRIVER_OK",
        demands: "the device neither consumes buffers nor sends notifications before DRIVER_OK, whatever it is told",
        source: "virtio 1.3, 2.1.2",
        run: too_early,
    },
];

fn fresh(target: &Target) -> Result<Verdict> {
    let shown = target.open()?.status()?;
    verdict(shown == 0, format!("{shown:#x}"))
}

fn step_by_step(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    pass(format!("{:#x} at the end", device.status()?))
}

fn no_way_back(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    let before = device.status()?;
    let result = device.raw_status(status::ACKNOWLEDGE);
    let shown = device.status()?;
    verdict(
        result.is_err() && shown == before,
        format!("{result:?}; {before:#x}, then {shown:#x}"),
    )
}

fn without_queues(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    device.add_status(status::DRIVER_OK)?;
    pass(format!("{:#x} at the end", device.status()?))
}

fn failed(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    device.add_status(status::FAILED)?;
    device.reset()?;
    device.negotiate(LEAST)?;
    pass("negotiated again")
}

fn no_complaint(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(64)?;
    let shown = live.device.status()?;
    verdict(
        shown & (status::NEEDS_RESET | status::FAILED) == 0,
        format!("{shown:#x}"),
    )
}

fn without_an_argument(target: &Target) -> Result<Verdict> {
    use vdpa_user::ioctl;
    let device = target.claim()?;
    device.add_status(status::ACKNOWLEDGE)?;
    let result = ioctl::send_null(&device, ioctl::VHOST_VDPA_SET_STATUS());
    let shown = device.status()?;
    if result.is_ok() {
        return fail("it succeeded");
    }
    verdict(
        shown == status::ACKNOWLEDGE,
        format!("{result:?}, status {shown:#x}"),
    )
}

fn too_early(target: &Target) -> Result<Verdict> {
    let mut live = Live::prepare(target.claim()?, Setup::default())?;
    live.enable_all(true)?;
    let served = live.is_served()?;
    let announced = live.worker()?.interrupted();
    if served || announced {
        return fail(format!(
            "a request was done: {served}, announced: {announced}"
        ));
    }
    live.device.add_status(status::DRIVER_OK)?;
    // Whoever was told too early need not remember.
    live.worker()?.ring_doorbell()?;
    live.finish(1)?;
    live.work(5)?;
    pass("a request was done after DRIVER_OK, not before")
}
