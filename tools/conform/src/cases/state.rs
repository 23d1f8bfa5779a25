// SPDX-License-Identifier: GPL-2.0

//! Where a queue stands: told, and taken over by another device.

use anyhow::Result;
use nix::errno::Errno;
use vdpa_user::device::feature;
use vdpa_user::ioctl;
use vdpa_user::port::Setup;
use vdpa_user::refusal;

use crate::bench::Live;
use crate::case::{Case, Target, Verdict, fail, pass, skip, source, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "state-1",
        title: "a new queue begins at 0",
        demands: "VHOST_GET_VRING_BASE of a queue that has done nothing is 0 for split rings",
        source: source::UAPI,
        run: begins_at_0,
    },
    Case {
        id: "state-2",
        title: "where a queue is to begin is told again",
        demands: "VHOST_GET_VRING_BASE before DRIVER_OK tells what VHOST_SET_VRING_BASE has set",
        source: source::UAPI,
        run: told_again,
    },
    Case {
        id: "state-3",
        title: "a queue begins where it is told",
        demands: "a device that can begin at an index goes on from there",
        source: "uapi/linux/vhost.h; linux/vdpa.h, set_vq_state",
        run: goes_on_from_there,
    },
    Case {
        id: "state-4",
        title: "what is no index is refused",
        demands: "an index of a split ring has 16 bits",
        source: source::UAPI,
        run: no_index,
    },
    Case {
        id: "state-5",
        title: "an index that cannot be used is refused",
        demands: "a device that cannot begin at an index says so, rather than begin elsewhere",
        source: "linux/vdpa.h, set_vq_state",
        run: never_elsewhere,
    },
];

fn begins_at_0(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    let bases: Result<Vec<u32>> = (0..device.queue_count()?)
        .map(|index| device.base(u16::try_from(index)?))
        .collect();
    match bases {
        Ok(bases) => verdict(bases.iter().all(|base| *base == 0), format!("{bases:?}")),
        Err(error) if refusal::is_not_offered(&error) => {
            skip(format!("the device does not tell: {error:#}"))
        }
        Err(error) => Err(error),
    }
}

fn told_again(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    for base in [0, 1, 0x7fff, 0xffff] {
        let set = ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, base);
        if let Err(errno) = set {
            if base == 0 {
                return fail(format!("not even 0 can be set: {errno}"));
            }
            if !refusal::is_absent(errno) {
                return fail(format!("{base} cannot be set: {errno}"));
            }
            return skip(format!("the device cannot begin at {base}: {errno}"));
        }
        match ioctl::state(&device, ioctl::VHOST_GET_VRING_BASE(), 0, 0) {
            Ok(told) if told == base => {}
            Err(errno) if refusal::is_absent(errno) => {
                return skip("the device does not tell where a queue is");
            }
            other => return fail(format!("{base} is set, told is {other:?}")),
        }
    }
    pass("0, 1, 0x7fff, 0xffff")
}

fn goes_on_from_there(target: &Target) -> Result<Verdict> {
    let mut device = target.claim()?;
    let mut begun = Vec::new();
    for start in [1, 255, 0xfff0] {
        let setup = Setup {
            start,
            ..Setup::default()
        };
        match Live::start(device, setup) {
            Ok(mut live) => {
                live.work(300)?;
                begun.push(start);
                device = live.stop()?;
            }
            Err(error) if refusal::is_not_offered(&error) => {
                return skip(format!("the device cannot begin at {start}: {error:#}"));
            }
            Err(error) => return Err(error.context(format!("to begin at {start}"))),
        }
    }
    pass(format!("300 requests each from {begun:?} on"))
}

fn no_index(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    let result = ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, 0x1_0000);
    verdict(result.is_err(), format!("0x10000: {result:?}"))
}

/// Whether an error number says that this index is none to begin at, and not that something broke.
fn says_no(errno: Errno) -> bool {
    refusal::is_absent(errno) || matches!(errno, Errno::EINVAL | Errno::ERANGE)
}

fn never_elsewhere(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let packed = device.features()? & feature::RING_PACKED != 0;
    let setup = Setup {
        packed,
        start: if packed { 0 } else { 77 },
        ..Setup::default()
    };
    if packed {
        device.negotiate(LEAST | feature::RING_PACKED)?;
        // Wrap counters 0 and 1, index 5: a state that any device could be in, and not the first one.
        let base = 0x8005_8005;
        let set = ioctl::state(&device, ioctl::VHOST_SET_VRING_BASE(), 0, base);
        return match set {
            Err(errno) if says_no(errno) => pass(format!("{base:#x} is refused: {errno}")),
            Err(errno) => fail(format!("{base:#x}: {errno}")),
            Ok(_) => match device.base(0) {
                Ok(told) if told == base => pass(format!("{base:#x} is accepted, and told again")),
                other => fail(format!("{base:#x} is accepted, told is {other:x?}")),
            },
        };
    }
    match Live::start(device, setup) {
        Err(error)
            if error.downcast_ref().copied().is_some_and(says_no)
                || refusal::is_refusal_to_run(&error) =>
        {
            pass(format!("77 is refused: {error:#}"))
        }
        Err(error) => Err(error.context("to begin at 77")),
        Ok(mut live) => {
            live.work(10)?;
            pass("it begins at 77")
        }
    }
}
