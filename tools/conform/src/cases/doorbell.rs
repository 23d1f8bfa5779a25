// SPDX-License-Identifier: GPL-2.0

//! Doorbells that a process may write to itself.

use anyhow::Result;
use nix::sys::mman::{MapFlags, ProtFlags};
use vdpa_user::doorbell::Page;
use vdpa_user::port::Setup;

use crate::bench::Live;
use crate::case::{Case, Target, Verdict, pass, skip, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "doorbell-1",
        title: "a doorbell that can be mapped works",
        demands: "a write of the queue's number to the page at offset (queue × page size) notifies the device",
        source: "uapi/linux/vhost.h; virtio 1.3, 4.1.5.2",
        run: works,
    },
    Case {
        id: "doorbell-2",
        title: "nothing else can be mapped",
        demands: "only one page, shared, and write-only can be mapped, and only of a queue that there is",
        source: source::UAPI,
        run: nothing_else,
    },
];

fn works(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let index = live.worker()?.index;
    if let Err(errno) = Page::map(&live.device, index) {
        return skip(format!("the doorbell cannot be mapped: {errno}"));
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
    let beyond = u16::try_from(device.queue_count()?)?;
    let write = ProtFlags::PROT_WRITE;
    let shared = MapFlags::MAP_SHARED;
    let tries = [
        ("two pages", 0, 2, write, shared),
        ("readable", 0, 1, write | ProtFlags::PROT_READ, shared),
        ("private", 0, 1, write, MapFlags::MAP_PRIVATE),
        ("of no queue", beyond, 1, write, shared),
        ("far off", u16::MAX, 1, write, shared),
    ];
    let mapped: Vec<&str> = tries
        .into_iter()
        .filter(|(_, index, pages, protection, flags)| {
            Page::map_with(&device, *index, *pages, *protection, *flags).is_ok()
        })
        .map(|(what, ..)| what)
        .collect();
    verdict(mapped.is_empty(), format!("mapped: {mapped:?}"))
}
