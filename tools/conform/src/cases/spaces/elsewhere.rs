// SPDX-License-Identifier: GPL-2.0

//! All of a device in another address space than the first.

use anyhow::Result;
use vdpa_user::device::status;
use vdpa_user::ioctl;
use vdpa_user::memory;
use vdpa_user::port::Setup;
use vdpa_user::refusal;

use super::{SHIFT, number};
use crate::bench::Live;
use crate::case::{IOTLB_PERSIST, Target, Verdict, fail, pass, skip};

/// The address space.
const SECOND: u32 = 1;

/// Starts a device that has negotiated, with all groups in the second address space.
fn start(live: &Live) -> Result<()> {
    for group in 0..number(&live.device, ioctl::VHOST_VDPA_GET_GROUP_NUM())? {
        live.device.set_group_asid(group, SECOND)?;
    }
    live.enable_all(true)?;
    live.device.add_status(status::DRIVER_OK)
}

pub fn works(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())? < 2 {
        return skip("there is one address space");
    }
    let mut live = Live::prepare(device, Setup::default())?;
    live.device.map_in(SECOND, memory::BASE)?;
    live.device.unmap_all()?;
    start(&live)?;
    live.work(10)?;
    pass("10 requests, with nothing mapped in the first")
}

pub fn gone_with_the_owner(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())? < 2 {
        return skip("there is one address space");
    }
    if device.backend_features()? & IOTLB_PERSIST == 0 {
        return skip(
            "VHOST_BACKEND_F_IOTLB_PERSIST is not offered: all must be mapped anew after a reset anyhow",
        );
    }
    let mut before = Live::prepare(device, Setup::default())?;
    before.device.map_in(SECOND, memory::BASE)?;
    start(&before)?;
    before.work(10)?;
    let memory = before.device.memory.clone();
    drop(before);
    let left = memory.contents()?;
    let device = target.own()?;
    // Something else is mapped, as without a mapping a device may refuse to run at all.
    let host = device.memory.host_address()?;
    device.map_at(memory::BASE + SHIFT, memory::SIZE, host)?;
    let mut live = Live::prepare(device, Setup::default())?;
    match start(&live) {
        Ok(()) => {}
        Err(error) if refusal::is_refusal_of_memory(&error, 0) => {
            return pass(format!("it does not run so: {error:#}"));
        }
        Err(error) => return Err(error),
    }
    // There are rings in either memory.
    if live.is_served()? || memory.contents()? != left {
        return fail("a request was done in memory that was not mapped");
    }
    pass("nothing was done")
}
