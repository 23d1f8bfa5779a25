// SPDX-License-Identifier: GPL-2.0

//! How the device and its driver tell each other that there is something to do.

use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::eventfd::EfdFlags;
use vdpa_user::device::{Device, status};
use vdpa_user::ioctl;
use vdpa_user::port::Setup;
use vdpa_user::wait;
use vmm_sys_util::eventfd::EventFd;

use crate::bench::{Live, WATCHED};
use crate::case::{Case, Target, Verdict, fail, pass, skip, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "events-1",
        title: "what is done is announced",
        demands: "the event of VHOST_SET_VRING_CALL fires when buffers were used",
        source: "virtio 1.3, 2.7.8.2; uapi/linux/vhost.h",
        run: announced,
    },
    Case {
        id: "events-2",
        title: "a device is told by an event",
        demands: "the device serves its queue when the event of VHOST_SET_VRING_KICK fires",
        source: source::UAPI,
        run: told,
    },
    Case {
        id: "events-3",
        title: "the event of completions can be another one",
        demands: "VHOST_SET_VRING_CALL while the device runs: from then on the new event fires, and the old one does not",
        source: source::UAPI,
        run: another_call,
    },
    Case {
        id: "events-4",
        title: "the event of completions can go",
        demands: "VHOST_SET_VRING_CALL with -1 takes the event away; requests are done as before",
        source: source::UAPI,
        run: no_call,
    },
    Case {
        id: "events-5",
        title: "the event of notifications can be another one",
        demands: "VHOST_SET_VRING_KICK while the device runs: from then on the new event is listened to",
        source: source::UAPI,
        run: another_kick,
    },
    Case {
        id: "events-6",
        title: "the event of the configuration can come and go",
        demands: "VHOST_VDPA_SET_CONFIG_CALL sets an event at any time, and -1 takes it away",
        source: source::UAPI,
        run: config_call,
    },
    Case {
        id: "events-7",
        title: "a device without work is silent",
        demands: "of requests done one by one each fires the event once, and nothing else does",
        source: "virtio 1.3, 2.7.7.2 and 2.7.8.2",
        run: silent,
    },
    Case {
        id: "events-8",
        title: "the event of errors can come and go",
        demands: "VHOST_SET_VRING_ERR sets an event for each queue, and -1 takes it away; it does not fire while nothing is wrong",
        source: source::UAPI,
        run: errors,
    },
    Case {
        id: "events-9",
        title: "what is no event is refused",
        demands: "a descriptor that is closed fails with EBADF, that of another file with EINVAL; the event that was set before stays",
        source: "uapi/linux/vhost.h; drivers/vhost/vhost.c, vhost_vring_ioctl",
        run: no_events,
    },
    Case {
        id: "events-10",
        title: "a device that needs a reset says so",
        demands: "when a device that runs sets DEVICE_NEEDS_RESET, the event of VHOST_VDPA_SET_CONFIG_CALL fires: the one that was set last, and no other",
        source: "virtio 1.3, 2.1.2; uapi/linux/vhost.h",
        run: change,
    },
];

/// Takes an event away.
const NONE: u32 = u32::MAX;

fn event() -> Result<EventFd> {
    Ok(EventFd::new(EfdFlags::EFD_NONBLOCK.bits())?)
}

fn announced(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(200)?;
    pass(format!(
        "200 requests, {} announcements",
        live.worker()?.interrupts
    ))
}

fn told(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    for _ in 0..50 {
        live.work(1)?;
    }
    pass("50 requests one by one")
}

fn another_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = live.worker()?.index;
    let new = event()?;
    live.device.set_call(index, &new)?;
    let old = std::mem::replace(&mut live.worker()?.call, new);
    let _ = old.read();
    live.work(10)?;
    let stray = old.read();
    verdict(
        stray.is_err(),
        format!("the new one fires, the old one: {stray:?}"),
    )
}

fn no_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = u32::from(live.worker()?.index);
    ioctl::state(&live.device, ioctl::VHOST_SET_VRING_CALL(), index, NONE)?;
    live.worker()?.interrupted();
    live.offer(1)?;
    wait::until("the request is done", || Ok(live.reap()? == 1))?;
    sleep(WATCHED);
    let fired = live.worker()?.interrupted();
    verdict(
        !fired,
        format!("the request is done; the event that was taken away has fired: {fired}"),
    )
}

fn another_kick(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let index = live.worker()?.index;
    let kick = event()?;
    live.device.set_kick(index, &kick)?;
    live.offer(1)?;
    kick.write(1)?;
    live.finish(1)?;
    pass("the new one is listened to")
}

fn config_call(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    for _ in 0..3 {
        live.device.set_config_call(&event()?)?;
        ioctl::state(&live.device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), NONE, 0)?;
    }
    live.work(10)?;
    pass("set and taken away 3 times while the device runs")
}

fn silent(target: &Target) -> Result<Verdict> {
    const REQUESTS: u64 = 10;

    let mut live = Live::open(target)?;
    // As it began there may have been one, for whatever was in the ring.
    live.worker()?.interrupted();
    let before = live.worker()?.interrupts;
    // Each waits for its own event, which may come late, but not twice.
    for _ in 0..REQUESTS {
        live.work(1)?;
    }
    sleep(WATCHED);
    live.worker()?.interrupted();
    let events = live.worker()?.interrupts - before;
    verdict(
        events <= REQUESTS,
        format!("{REQUESTS} requests, one by one, and {events} events"),
    )
}

/// The descriptor of a file, as requests have it.
fn descriptor(file: &impl AsRawFd) -> Result<u32> {
    Ok(u32::try_from(file.as_raw_fd())?)
}

fn errors(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let (first, second) = (event()?, event()?);
    let count = live.device.queue_count()?;
    for index in 0..count {
        for file in [descriptor(&first)?, NONE, NONE, descriptor(&second)?] {
            let set = ioctl::state(&live.device, ioctl::VHOST_SET_VRING_ERR(), index, file);
            if let Err(errno) = set {
                return fail(format!("queue {index}: {errno}"));
            }
        }
    }
    let beyond = descriptor(&first)?;
    let beyond = ioctl::state(&live.device, ioctl::VHOST_SET_VRING_ERR(), count, beyond);
    if beyond != Err(Errno::ENOBUFS) {
        return fail(format!("queue {count} of {count}: {beyond:?}"));
    }
    live.work(20)?;
    let fired = (first.read().is_ok(), second.read().is_ok());
    verdict(
        fired == (false, false),
        format!(
            "set, taken away, and set for {count} queues; 20 requests done; fired: the old one {}, the new one {}",
            fired.0, fired.1
        ),
    )
}

fn no_events(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(5)?;
    let index = u32::from(live.worker()?.index);
    // No process has so many open files.
    let closed = 0x7fff_fff0;
    let another = descriptor(&live.device)?;
    let mut wrong = Vec::new();
    for (file, wanted) in [(closed, Errno::EBADF), (another, Errno::EINVAL)] {
        for (name, request) in [
            ("SET_VRING_KICK", ioctl::VHOST_SET_VRING_KICK()),
            ("SET_VRING_CALL", ioctl::VHOST_SET_VRING_CALL()),
            ("SET_VRING_ERR", ioctl::VHOST_SET_VRING_ERR()),
        ] {
            let result = ioctl::state(&live.device, request, index, file);
            if result != Err(wanted) {
                wrong.push(format!("{name}: {result:?}, not {wanted}"));
            }
        }
        let result = ioctl::state(&live.device, ioctl::VHOST_VDPA_SET_CONFIG_CALL(), file, 0);
        if result != Err(wanted) {
            wrong.push(format!("SET_CONFIG_CALL: {result:?}, not {wanted}"));
        }
    }
    live.work(20)?;
    verdict(
        wrong.is_empty(),
        format!("{wrong:?}; then 20 requests were told of and announced as before"),
    )
}

/// How long a device may take to find out that its ring makes no sense.
const SUSPICION: Duration = Duration::from_secs(2);

/// Whether the device has shown that it needs a reset, a while later.
fn needs_reset(device: &Device) -> Result<bool> {
    let mut left = SUSPICION;
    while device.status()? & status::NEEDS_RESET == 0 {
        let Some(rest) = left.checked_sub(WATCHED) else {
            return Ok(false);
        };
        left = rest;
        sleep(WATCHED);
    }
    Ok(true)
}

fn change(target: &Target) -> Result<Verdict> {
    let (old, new) = (event()?, event()?);
    let mut live = Live::prepare(target.claim()?, Setup::default())?;
    live.device.set_config_call(&old)?;
    live.enable_all(true)?;
    live.device.add_status(status::DRIVER_OK)?;
    live.device.set_config_call(&new)?;
    live.work(10)?;
    // Whatever was told of until now was something else.
    let _ = old.read();
    let _ = new.read();
    live.spoil()?;
    let broken = needs_reset(&live.device)?;
    // No user can change a link or a capacity from here.
    if !broken {
        return skip(
            "nothing that a user may do changes this configuration: a ring that makes no sense has not made the device ask for a reset",
        );
    }
    let fired = wait::any(&[&new], SUSPICION)?;
    let stray = old.read().is_ok();
    Live::start(live.stop()?, Setup::default())?.work(5)?;
    verdict(
        fired && !stray,
        format!(
            "a ring that makes no sense: NEEDS_RESET; fired: the event {fired}, the one before it {stray}"
        ),
    )
}
