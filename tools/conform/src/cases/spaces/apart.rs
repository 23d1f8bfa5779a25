// SPDX-License-Identifier: GPL-2.0

//! The control queue in an address space of its own.

use std::thread::sleep;

use anyhow::Result;
use vdpa_user::device::{Device, feature};
use vdpa_user::ioctl;
use vdpa_user::memory;
use vdpa_user::port::{Port, Setup};
use vdpa_user::refusal;

use super::{SHIFT, number};
use crate::bench::{Class, WATCHED};
use crate::case::{IOTLB_PERSIST, Target, Verdict, fail, pass, skip, verdict};

/// The control queue of a device that has not accepted MQ (virtio 1.3, 5.1.2).
const CONTROL: u16 = 2;

/// A network device whose control queue is served in the second address space, `SHIFT` above where its
/// memory is in the first; or why there is none.
fn separable(target: &Target) -> Result<Result<Port, Verdict>> {
    let mut device = target.claim()?;
    let offered = device.features()?;
    if Class::of(&device)? != Class::Net || offered & feature::CTRL_VQ == 0 {
        return Ok(Err(skip("there is no control queue")?));
    }
    if number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())? < 2 {
        return Ok(Err(skip("there is one address space")?));
    }
    device.map_in(1, memory::BASE + SHIFT)?;
    start_apart(device, SHIFT).map(Ok)
}

/// Starts it with the control queue in the second address space, `shift` above where it is mapped in the
/// first.
fn start_apart(device: Device, shift: u64) -> Result<Port> {
    let setup = Setup {
        control: true,
        control_shift: shift,
        ..Setup::default()
    };
    let persist = device.backend_features()? & IOTLB_PERSIST != 0;
    Port::start_with(device, setup, |device| {
        if !persist {
            // The reset may have taken the mappings away.
            device.unmap_all()?;
            device.map_all()?;
            device.map_again_in(1, memory::BASE + SHIFT)?;
        }
        device.set_group_asid(device.group(CONTROL.into())?, 1)
    })
}

/// A command that each device answers, if not with consent: receive all.
const PROMISCUOUS: [u8; 3] = [0, 0, 1];

pub fn works_apart(target: &Target) -> Result<Verdict> {
    let mut port = match separable(target)? {
        Ok(port) => port,
        Err(skipped) => return Ok(skipped),
    };
    let answer = port.command(&[&PROMISCUOUS])?;
    verdict(answer <= 1, format!("the answer is {answer}"))
}

pub fn is_kept_apart(target: &Target) -> Result<Verdict> {
    let mut port = match separable(target)? {
        Ok(port) => port,
        Err(skipped) => return Ok(skipped),
    };
    // Were it not served where it is mapped, the rest would say nothing.
    let answer = port.command(&[&PROMISCUOUS])?;
    let mut port = match start_apart(port.stop()?, 0) {
        Ok(port) => port,
        // It may find the queue out of reach at once, or when it is told to look. Nothing but the
        // address is not as it was before.
        Err(error) if refusal::is_refusal_of_memory(&error, CONTROL) => {
            return pass(format!("it does not start so: {error:#}"));
        }
        Err(error) => return Err(error),
    };
    port.ask(&[&PROMISCUOUS])?;
    sleep(WATCHED);
    if port.is_answered()? {
        return fail("it was served");
    }
    pass(format!(
        "it was not served; where it is mapped, it answered {answer}"
    ))
}
