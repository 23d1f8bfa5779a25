// SPDX-License-Identifier: GPL-2.0

//! Rings of every size and kind, and when they are served.

use anyhow::Result;
use nix::errno::Errno;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::ioctl;
use vdpa_user::port::Setup;
use vdpa_user::refusal;
use vdpa_user::ring;

use crate::bench::Live;
use crate::case::{Case, ENABLE_LATE, Target, Verdict, fail, pass, skip, source, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "rings-1",
        title: "split rings of every size work",
        demands: "a driver may choose any power of two up to the size that the device tells",
        source: "virtio 1.3, 2.7 and 4.1.5.1.3",
        run: every_size,
    },
    Case {
        id: "rings-2",
        title: "event indices work",
        demands: "with VIRTIO_F_EVENT_IDX interrupts and notifications come when their index is passed",
        source: "virtio 1.3, 2.7.7 and 2.7.10",
        run: event_indices,
    },
    Case {
        id: "rings-3",
        title: "packed rings work",
        demands: "with VIRTIO_F_RING_PACKED requests are done as with split rings",
        source: "virtio 1.3, 2.8",
        run: packed,
    },
    Case {
        id: "rings-4",
        title: "a ring goes around",
        demands: "indices wrap at 65536: requests are done beyond that as before",
        source: "virtio 1.3, 2.7.6 and 2.7.8",
        run: around,
    },
    Case {
        id: "rings-5",
        title: "no ring is larger than the device can",
        demands: "a size above that which the device tells fails, or the device does not run with it",
        source: "virtio 1.3, 4.1.4.3.2; uapi/linux/vhost.h",
        run: too_large,
    },
    Case {
        id: "rings-6",
        title: "a split ring has a power of two of entries",
        demands: "the size of a split ring is a power of two, and not 0",
        source: "virtio 1.3, 2.7",
        run: odd_sizes,
    },
    Case {
        id: "rings-7",
        title: "the largest size does not change with the chosen one",
        demands: "VHOST_VDPA_GET_VRING_SIZE and _NUM tell what the device can, whatever it is set to",
        source: source::UAPI,
        run: limits_stay,
    },
    Case {
        id: "rings-8",
        title: "areas are aligned",
        demands: "descriptors lie at multiples of 16, the available ring of 2, the used ring of 4; others fail, or the device does not run with them",
        source: "virtio 1.3, 2.7",
        run: unaligned,
    },
    Case {
        id: "rings-9",
        title: "there are no more queues than told",
        demands: "requests for a queue that there is not fail",
        source: source::UAPI,
        run: no_such_queue,
    },
    Case {
        id: "rings-10",
        title: "a queue may be enabled late",
        demands: "with VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK VHOST_VDPA_SET_VRING_ENABLE starts a queue after DRIVER_OK, too",
        source: source::TYPES,
        run: late,
    },
    Case {
        id: "rings-11",
        title: "a queue that is not enabled is not served",
        demands: "the device does not touch a queue that was not enabled, whatever it is told",
        source: "virtio 1.3, 4.1.4.3.2; uapi/linux/vhost.h",
        run: not_enabled,
    },
    Case {
        id: "rings-12",
        title: "a queue may be disabled and enabled again",
        demands: "VHOST_VDPA_SET_VRING_ENABLE with 0 stops a queue, or fails and leaves it running; with 1 it goes on",
        source: source::UAPI,
        run: on_and_off,
    },
    Case {
        id: "rings-13",
        title: "a queue that runs is not set up anew",
        demands: "VHOST_SET_VRING_ADDR and _BASE of a device that runs, and is not suspended, fail, and it goes on",
        source: "drivers/vhost/vdpa.c, vhost_vdpa_vring_ioctl; virtio 1.3, 4.1.4.3.2",
        run: set_up_anew,
    },
];

/// A size that every queue can have.
const SMALL: u16 = 4;

fn setup(size: u16) -> Setup {
    Setup {
        size,
        ..Setup::default()
    }
}

/// The largest size of the queues that the cases use.
fn limit(device: &Device) -> Result<u16> {
    let told = device.queue_size(0).unwrap_or(256).min(32768);
    Ok(u16::try_from(told)?)
}

fn every_size(target: &Target) -> Result<Verdict> {
    let mut device = target.claim()?;
    let limit = limit(&device)?;
    let mut done = Vec::new();
    // The memory of the test ends somewhere: each entry has a buffer.
    let mut size = 4;
    while size <= limit.min(1024) {
        let mut live = Live::start(device, setup(size))?;
        live.work(2 * u32::from(size) + 3)?;
        device = live.stop()?;
        done.push(size);
        size *= 2;
    }
    pass(format!("{done:?}, of at most {limit}"))
}

fn event_indices(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if device.features()? & feature::EVENT_IDX == 0 {
        return skip("RING_EVENT_IDX is not offered");
    }
    let event_index = Setup {
        event_index: true,
        ..Setup::default()
    };
    let mut live = Live::start(device, event_index)?;
    live.work(1000)?;
    pass(format!(
        "1000 requests, {} interrupts",
        live.worker()?.interrupts
    ))
}

fn packed(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if device.features()? & feature::RING_PACKED == 0 {
        return skip("RING_PACKED is not offered");
    }
    let packed = Setup {
        packed: true,
        ..Setup::default()
    };
    let mut live = Live::start(device, packed)?;
    live.work(1000)?;
    pass(format!(
        "1000 requests, {} interrupts",
        live.worker()?.interrupts
    ))
}

fn around(target: &Target) -> Result<Verdict> {
    let near = Setup {
        start: 0xff00,
        ..Setup::default()
    };
    let (mut live, requests) = match Live::start(target.claim()?, near) {
        Ok(live) => (live, 600),
        // It can only begin at 0: all the way.
        Err(error) if refusal::is_not_offered(&error) => (Live::open(target)?, 66_000),
        Err(error) => return Err(error),
    };
    live.plain = true;
    let mut left = requests;
    while left > 0 {
        let batch = u32::try_from(live.worker()?.idle.len())?.min(left);
        live.offer(batch)?;
        live.finish(batch)?;
        left -= batch;
    }
    pass(format!("{requests} requests"))
}

fn too_large(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let limit = u32::from(device.queue_limit()?);
    device.negotiate(LEAST)?;
    let size = 2 * limit;
    if let Err(errno) = ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, size) {
        return pass(format!("{size} of at most {limit}: {errno}"));
    }
    // All else is right.
    let size = u16::try_from(size)?;
    let areas = ring::new(&device.memory, size, false, false)?.areas();
    device.set_queue(0, size, areas, 0)?;
    device.enable(0, true)?;
    let result = device.add_status(status::DRIVER_OK);
    verdict(
        result.is_err(),
        format!("{size} of at most {limit} is accepted, DRIVER_OK: {result:?}"),
    )
}

fn odd_sizes(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    let accepted: Vec<u32> = [0, 3, 5, 100, 0x1_0000]
        .into_iter()
        .filter(|size| ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, *size).is_ok())
        .collect();
    verdict(accepted.is_empty(), format!("accepted: {accepted:?}"))
}

fn limits_stay(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let before = (device.queue_limit()?, device.queue_size(0));
    device.negotiate(LEAST)?;
    ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, 4)?;
    let after = (device.queue_limit()?, device.queue_size(0));
    verdict(
        before == after,
        format!("{before:?}, with queue 0 set to 4: {after:?}"),
    )
}

fn unaligned(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let mut accepted = Vec::new();
    for (what, shift) in [
        ("descriptors", [8, 0, 0]),
        ("available ring", [0, 1, 0]),
        ("used ring", [0, 0, 2]),
    ] {
        device.negotiate(LEAST)?;
        device.memory.clear()?;
        let areas = ring::new(&device.memory, SMALL, false, false)?.areas();
        let [descriptors, driver, used] = shift;
        ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, SMALL.into())?;
        let mut argument = ioctl::Argument::addresses(
            0,
            0,
            areas.descriptors + descriptors,
            areas.device + used,
            areas.driver + driver,
        );
        if ioctl::send(&device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument).is_ok() {
            device.enable(0, true)?;
            if device.add_status(status::DRIVER_OK).is_ok() {
                accepted.push(what);
            }
        }
    }
    verdict(accepted.is_empty(), format!("accepted: {accepted:?}"))
}

fn no_such_queue(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let count = device.queue_count()?;
    let requests = [
        ("SET_VRING_NUM", ioctl::VHOST_SET_VRING_NUM()),
        ("GET_VRING_BASE", ioctl::VHOST_GET_VRING_BASE()),
        ("SET_VRING_ENABLE", ioctl::VHOST_VDPA_SET_VRING_ENABLE()),
        ("GET_VRING_GROUP", ioctl::VHOST_VDPA_GET_VRING_GROUP()),
        ("GET_VRING_SIZE", ioctl::VHOST_VDPA_GET_VRING_SIZE()),
    ];
    for (name, request) in requests {
        for index in [count, u32::MAX] {
            match ioctl::state(&device, request, index, 0) {
                Err(Errno::ENOBUFS | Errno::EOPNOTSUPP) => {}
                other => return fail(format!("{name} of queue {index}: {other:?}")),
            }
        }
    }
    pass(format!(
        "{} requests about queues from {count} on",
        requests.len()
    ))
}

fn late(target: &Target) -> Result<Verdict> {
    let late = Setup {
        late: true,
        ..Setup::default()
    };
    let device = target.claim()?;
    let offered = device.backend_features()? & ENABLE_LATE != 0;
    let done = Live::start(device, late).and_then(|mut live| live.work(100));
    match done {
        Ok(()) if offered => pass("100 requests"),
        Ok(()) => pass("100 requests, although it is not offered"),
        Err(error) if !offered => skip(format!(
            "VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK is not offered: {error:#}"
        )),
        Err(error) => Err(error),
    }
}

fn not_enabled(target: &Target) -> Result<Verdict> {
    let late = Setup {
        late: true,
        ..Setup::default()
    };
    let device = target.claim()?;
    let offered = device.backend_features()? & ENABLE_LATE != 0;
    let mut live = Live::prepare(device, late)?;
    live.device.add_status(status::DRIVER_OK)?;
    let served = live.is_served()?;
    if served {
        return fail("the request was done");
    }
    if !offered {
        return pass("the request was not done; nobody says that it can be enabled now");
    }
    live.enable_all(true)?;
    live.worker()?.ring_doorbell()?;
    live.finish(1)?;
    pass("the request was done when the queue had been enabled, not before")
}

fn on_and_off(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = live.worker()?.index;
    if let Err(error) = live.device.enable(index, false) {
        live.work(10)?;
        return pass(format!("not disabled ({error:#}), it runs on"));
    }
    let served = live.is_served()?;
    live.device.enable(index, true)?;
    live.worker()?.ring_doorbell()?;
    if served {
        return fail("a request was done while the queue was disabled");
    }
    live.finish(1)?;
    live.work(10)?;
    pass("nothing was done while it was disabled, and all afterwards")
}

fn set_up_anew(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = u32::from(live.worker()?.index);
    // Mapped, with nothing in it.
    let at = live.device.memory.allocate(1 << 16, 4096)?;
    let mut argument = ioctl::Argument::addresses(index, 0, at, at + 0x8000, at + 0x4000);
    let addresses = ioctl::send(&live.device, ioctl::VHOST_SET_VRING_ADDR(), &mut argument);
    let base = ioctl::state(&live.device, ioctl::VHOST_SET_VRING_BASE(), index, 1);
    if addresses.is_ok() || base.is_ok() {
        return fail(format!("addresses: {addresses:?}, index: {base:?}"));
    }
    live.work(50)?;
    pass(format!(
        "addresses: {addresses:?}, index: {base:?}; it goes on"
    ))
}
