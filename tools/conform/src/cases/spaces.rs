// SPDX-License-Identifier: GPL-2.0

//! Groups of queues, their address spaces, and what is mapped there.

use std::thread::sleep;

use anyhow::Result;
use vdpa_user::device::{Device, feature};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::memory;
use vdpa_user::port::{self, Port, Setup};
use vdpa_user::refusal;

use crate::bench::{Class, Live, WATCHED};
use crate::case::{Case, IOTLB_PERSIST, Target, Verdict, fail, pass, skip, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "spaces-1",
        title: "there is a range of addresses",
        demands: "VHOST_VDPA_GET_IOVA_RANGE tells the first and the last address that can be mapped",
        source: source::UAPI,
        run: range,
    },
    Case {
        id: "spaces-2",
        title: "nothing is mapped out of the range",
        demands: "a mapping that leaves the range fails",
        source: source::UAPI,
        run: out_of_range,
    },
    Case {
        id: "spaces-3",
        title: "each queue has a group",
        demands: "VHOST_VDPA_GET_VRING_GROUP tells a group below VHOST_VDPA_GET_GROUP_NUM",
        source: source::UAPI,
        run: groups,
    },
    Case {
        id: "spaces-4",
        title: "there is no other group and no other address space",
        demands: "VHOST_VDPA_SET_GROUP_ASID fails for a group or an address space that there is not",
        source: source::UAPI,
        run: no_other,
    },
    Case {
        id: "spaces-5",
        title: "the control queue can be kept apart",
        demands: "with several address spaces, the control queue is in a group of its own: whoever serves it for a guest needs that",
        source: "linux/vdpa.h, get_vq_group; QEMU's net/vhost-vdpa.c",
        run: control_apart,
    },
    Case {
        id: "spaces-6",
        title: "a group can move to each address space",
        demands: "before DRIVER_OK, VHOST_VDPA_SET_GROUP_ASID succeeds for every group and address space",
        source: source::UAPI,
        run: moves,
    },
    Case {
        id: "spaces-7",
        title: "what was unmapped is mapped again",
        demands: "VHOST_IOTLB_INVALIDATE takes a mapping away, VHOST_IOTLB_UPDATE puts it back, while nobody uses it",
        source: source::TYPES,
        run: again,
    },
    Case {
        id: "spaces-8",
        title: "a group works in its address space",
        demands: "the control queue in another address space is served there",
        source: source::UAPI,
        run: works_apart,
    },
    Case {
        id: "spaces-9",
        title: "a group reaches no other address space",
        demands: "the control queue in another address space is not served if its memory is mapped in the first one only: the device refuses to run so, or does not touch it",
        source: source::UAPI,
        run: is_kept_apart,
    },
];

fn number(device: &Device, request: std::ffi::c_ulong) -> Result<u32> {
    let mut argument = Argument::words(&[0]);
    ioctl::send(device, request, &mut argument)?;
    Ok(argument.word(0))
}

fn range(target: &Target) -> Result<Verdict> {
    let (first, last) = target.open()?.iova_range()?;
    verdict(first < last, format!("{first:#x} to {last:#x}"))
}

fn out_of_range(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let (first, last) = device.iova_range()?;
    let start = device.memory.host_address()?;
    let mut tried = Vec::new();
    let page = 4096;
    let outside = [
        (first > 0).then(|| (first - page) & !(page - 1)),
        (last < u64::MAX - page).then(|| (last + 1) & !(page - 1)),
    ];
    for address in outside.into_iter().flatten() {
        tried.push(format!("{address:#x}"));
        if device.map_at(address, page, start).is_ok() {
            return fail(format!(
                "{address:#x} of {first:#x} to {last:#x} was mapped"
            ));
        }
    }
    if tried.is_empty() {
        return skip("the range is everything");
    }
    pass(format!("refused: {tried:?}"))
}

fn groups(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let count = number(&device, ioctl::VHOST_VDPA_GET_GROUP_NUM())?;
    let mut told = Vec::new();
    for index in 0..device.queue_count()? {
        match ioctl::state(&device, ioctl::VHOST_VDPA_GET_VRING_GROUP(), index, 0) {
            Ok(group) => told.push(group),
            Err(nix::errno::Errno::EOPNOTSUPP) if count <= 1 => {
                return skip("the device does not tell groups, and has one");
            }
            Err(errno) => return fail(format!("group of queue {index}: {errno}")),
        }
    }
    verdict(
        told.iter().all(|group| *group < count),
        format!("{told:?} of {count}"),
    )
}

fn no_other(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let groups = number(&device, ioctl::VHOST_VDPA_GET_GROUP_NUM())?;
    let spaces = number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())?;
    let mut accepted = Vec::new();
    for (group, space) in [
        (groups, 0),
        (0, spaces),
        (u32::MAX, 0),
        (0, u32::MAX),
        (groups, spaces),
    ] {
        if ioctl::state(&device, ioctl::VHOST_VDPA_SET_GROUP_ASID(), group, space).is_ok() {
            accepted.push((group, space));
        }
    }
    verdict(
        accepted.is_empty(),
        format!("{groups} groups, {spaces} spaces; accepted: {accepted:?}"),
    )
}

fn control_apart(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let offered = device.features()?;
    if Class::of(&device)? != Class::Net || offered & feature::CTRL_VQ == 0 {
        return skip("there is no control queue");
    }
    let spaces = number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())?;
    if spaces < 2 {
        return skip("there is one address space");
    }
    // Which queue it is depends on what was accepted.
    device.negotiate(offered)?;
    let control = u32::from(port::control_index(&device, offered)?);
    let apart = device.group(control)?;
    let others: Vec<u32> = (0..control)
        .map(|index| device.group(index))
        .collect::<Result<_>>()?;
    verdict(
        !others.contains(&apart),
        format!("group {apart}, the others {others:?}"),
    )
}

fn moves(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let groups = number(&device, ioctl::VHOST_VDPA_GET_GROUP_NUM())?;
    let spaces = number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())?;
    if spaces < 2 {
        return skip("there is one address space");
    }
    for group in 0..groups {
        for space in (0..spaces.min(8)).rev() {
            device.set_group_asid(group, space)?;
        }
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    pass(format!("{groups} groups, {spaces} address spaces"))
}

fn again(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    for _ in 0..3 {
        device.unmap(memory::BASE, memory::SIZE)?;
        device.map(memory::BASE, memory::SIZE)?;
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    pass("3 times")
}

/// Between what two address spaces have mapped.
const SHIFT: u64 = 0x4000_0000;

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
            device.unmap(memory::BASE, memory::SIZE)?;
            device.map(memory::BASE, memory::SIZE)?;
            device.map_again_in(1, memory::BASE + SHIFT)?;
        }
        device.set_group_asid(device.group(CONTROL.into())?, 1)
    })
}

/// A command that each device answers, if not with consent: receive all.
const PROMISCUOUS: [u8; 3] = [0, 0, 1];

fn works_apart(target: &Target) -> Result<Verdict> {
    let mut port = match separable(target)? {
        Ok(port) => port,
        Err(skipped) => return Ok(skipped),
    };
    let answer = port.command(&[&PROMISCUOUS])?;
    verdict(answer <= 1, format!("the answer is {answer}"))
}

fn is_kept_apart(target: &Target) -> Result<Verdict> {
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
