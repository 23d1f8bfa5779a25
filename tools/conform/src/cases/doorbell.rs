// SPDX-License-Identifier: GPL-2.0

//! Doorbells that a process may write to itself.

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use vdpa_user::device::Device;
use vdpa_user::doorbell::Page;
use vdpa_user::port::Setup;
use vdpa_user::refusal;
use vdpa_user::stage::Stage;

use crate::bench::{Class, Live, Undrivable};
use crate::case::{Case, Target, Verdict, fail, pass, skip, verdict};

/// There is no word about mapping in the headers for user space.
const SOURCE: &str = "drivers/vhost/vdpa.c, vhost_vdpa_mmap; linux/vdpa.h, get_vq_notification";

pub const CASES: &[Case] = &[
    Case {
        id: "doorbell-1",
        title: "a doorbell that can be mapped works",
        demands: "a write of the queue's number to the page at offset (queue × page size) notifies the device",
        source: "drivers/vhost/vdpa.c, vhost_vdpa_mmap; virtio 1.3, 4.1.5.2",
        run: works,
    },
    Case {
        id: "doorbell-2",
        title: "nothing else can be mapped",
        demands: "where a doorbell can be mapped, it is one page, shared, and write-only, it does not grow, and it is that of a queue that there is",
        source: SOURCE,
        run: nothing_else,
    },
    Case {
        id: "doorbell-3",
        title: "a doorbell may be rung at any time",
        demands: "a write to a doorbell of a device that is not live, or of a queue that is not enabled, does no harm",
        source: SOURCE,
        run: at_any_time,
    },
];

/// Maps the doorbell of a queue; or says why there is none.
fn map(device: &Device, index: u16) -> Result<Result<Page, Verdict>> {
    match Page::map(device, index) {
        Ok(page) => Ok(Ok(page)),
        Err(Errno::EINVAL) => Ok(Err(skip("the doorbell is no page of its own")?)),
        Err(errno) if refusal::is_absent(errno) => {
            Ok(Err(skip("there is no doorbell that could be mapped")?))
        }
        Err(errno) => Err(errno.into()),
    }
}

fn works(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let index = live.worker()?.index;
    if let Err(skipped) = map(&live.device, index)? {
        return Ok(skipped);
    }
    let device = live.stop()?;
    let doorbell = Setup {
        doorbell: true,
        ..Setup::default()
    };
    live = Live::start(device, doorbell)?;
    live.work(100)?;
    pass("100 requests")
}

fn nothing_else(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let count = u64::from(device.queue_count()?);
    // If the right one could not be mapped either, refusals would say nothing.
    let mut right = match map(&device, 0)? {
        Ok(page) => page,
        Err(skipped) => return Ok(skipped),
    };
    let (read, write) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE);
    let shared = MapFlags::MAP_SHARED;
    let mut tries = vec![
        // A number of a queue has 16 bits: none above that is another name for one of them.
        ("of no queue", count, 1, write, shared),
        ("of queue 0xffff", 0xffff.max(count), 1, write, shared),
        ("of queue 0x10000", 0x1_0000, 1, write, shared),
        ("of queue 2^32", 1 << 32, 1, write, shared),
        ("of queue 2^51 - 1", (1 << 51) - 1, 1, write, shared),
    ];
    for index in 0..count {
        tries.extend([
            ("two pages", index, 2, write, shared),
            ("read-only", index, 1, read, shared),
            ("readable", index, 1, read | write, shared),
            ("private", index, 1, write, MapFlags::MAP_PRIVATE),
        ]);
    }
    let mut mapped: Vec<String> = tries
        .iter()
        .filter(|(_, index, pages, protection, flags)| {
            Page::map_with(&device, *index, *pages, *protection, *flags).is_ok()
        })
        .map(|(what, index, ..)| format!("{what}, at page {index}"))
        .collect();
    if right.grow(2).is_ok() {
        mapped.push("one more page behind the first".to_owned());
    }
    verdict(
        mapped.is_empty(),
        format!("mapped: {mapped:?}, of {} tries", tries.len() + 1),
    )
}

fn at_any_time(target: &Target) -> Result<Verdict> {
    let mut device = target.claim()?;
    let index = Class::of(&device)?.worker().ok_or(Undrivable)?;
    let page = match map(&device, index)? {
        Ok(page) => page,
        Err(skipped) => return Ok(skipped),
    };
    for stage in Stage::ALL {
        stage.bring(&device)?;
        page.ring(index);
        let mut live = Live::start(device, Setup::default())?;
        live.work(5)?;
        device = live.stop()?;
        page.ring(index);
        if device.status()? != 0 {
            return fail(format!("rung while {stage}, and after the reset"));
        }
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(5)?;
    pass("rung in each state, and after each reset")
}
