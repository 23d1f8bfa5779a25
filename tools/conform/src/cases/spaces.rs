// SPDX-License-Identifier: GPL-2.0

//! Groups of queues, their address spaces, and what is mapped there.

mod apart;
mod elsewhere;

use anyhow::Result;
use vdpa_user::device::{Device, feature};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::memory;
use vdpa_user::port::{self, Setup};
use vdpa_user::refusal;

use crate::bench::{Class, Live};
use crate::case::{
    Case, DESC_ASID, IOTLB_PERSIST, Target, Verdict, fail, pass, skip, source, verdict,
};

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
        run: apart::works_apart,
    },
    Case {
        id: "spaces-9",
        title: "a group reaches no other address space",
        demands: "the control queue in another address space is not served if its memory is mapped in the first one only: the device refuses to run so, or does not touch it",
        source: source::UAPI,
        run: apart::is_kept_apart,
    },
    Case {
        id: "spaces-10",
        title: "a group stays while the device runs",
        demands: "VHOST_VDPA_SET_GROUP_ASID fails after DRIVER_OK, and the device goes on",
        source: "drivers/vhost/vdpa.c, vhost_vdpa_vring_ioctl; linux/vdpa.h, set_group_asid",
        run: stays_put,
    },
    Case {
        id: "spaces-11",
        title: "nothing is mapped in an address space that there is not",
        demands: "VHOST_IOTLB_UPDATE fails for an address space from VHOST_VDPA_GET_AS_NUM on",
        source: "uapi/linux/vhost_types.h, VHOST_BACKEND_F_IOTLB_ASID",
        run: mapped_nowhere,
    },
    Case {
        id: "spaces-12",
        title: "each queue has a group for its rings",
        demands: "with VHOST_BACKEND_F_DESC_ASID VHOST_VDPA_GET_VRING_DESC_GROUP tells a group below VHOST_VDPA_GET_GROUP_NUM, and fails otherwise",
        source: "uapi/linux/vhost.h; uapi/linux/vhost_types.h",
        run: ring_groups,
    },
    Case {
        id: "spaces-13",
        title: "a mapping does not replace another",
        demands: "VHOST_IOTLB_UPDATE over what is mapped, of nothing, or past the last address fails, and what is mapped stays",
        source: "drivers/vhost/vdpa.c, vhost_vdpa_process_iotlb_update",
        run: not_replaced,
    },
    Case {
        id: "spaces-14",
        title: "mappings go with their owner",
        demands: "the device reaches nothing of what an owner before had mapped: it refuses to run there, or does not touch it",
        source: source::UAPI,
        run: gone_with_the_owner,
    },
    Case {
        id: "spaces-15",
        title: "all groups work in another address space",
        demands: "a device whose groups are all in the second address space works with what is mapped there, and nothing in the first",
        source: source::UAPI,
        run: elsewhere::works,
    },
    Case {
        id: "spaces-16",
        title: "mappings in another address space go with their owner",
        demands: "in the second address space, too, the device reaches nothing of what an owner before had mapped: it refuses to run there, or does not touch it",
        source: source::UAPI,
        run: elsewhere::gone_with_the_owner,
    },
];

/// Between what two address spaces have mapped.
const SHIFT: u64 = 0x4000_0000;

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
        device.unmap_all()?;
        device.map_all()?;
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    pass("3 times")
}

fn stays_put(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(5)?;
    let groups = number(&live.device, ioctl::VHOST_VDPA_GET_GROUP_NUM())?;
    let spaces = number(&live.device, ioctl::VHOST_VDPA_GET_AS_NUM())?;
    let mut moved = Vec::new();
    for group in 0..groups {
        for space in 0..spaces.min(8) {
            let request = ioctl::VHOST_VDPA_SET_GROUP_ASID();
            if ioctl::state(&live.device, request, group, space).is_ok() {
                moved.push((group, space));
            }
        }
    }
    live.work(20)?;
    verdict(
        moved.is_empty(),
        format!("{groups} groups, {spaces} address spaces; moved: {moved:?}"),
    )
}

fn mapped_nowhere(target: &Target) -> Result<Verdict> {
    let mut device = target.claim()?;
    let spaces = number(&device, ioctl::VHOST_VDPA_GET_AS_NUM())?;
    let mapped: Vec<u32> = [spaces, spaces + 1, u32::MAX]
        .into_iter()
        .filter(|space| device.map_in(*space, memory::BASE + SHIFT).is_ok())
        .collect();
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    verdict(
        mapped.is_empty(),
        format!("{spaces} address spaces; mapped in: {mapped:?}"),
    )
}

fn ring_groups(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let offered = device.backend_features()? & DESC_ASID != 0;
    let groups = number(&device, ioctl::VHOST_VDPA_GET_GROUP_NUM())?;
    let request = ioctl::VHOST_VDPA_GET_VRING_DESC_GROUP();
    let told: Vec<_> = (0..device.queue_count()?)
        .map(|index| ioctl::state(&device, request, index, 0))
        .collect();
    let holds = told.iter().all(|group| match group {
        Ok(group) => offered && *group < groups,
        Err(errno) => !offered && refusal::is_absent(*errno),
    });
    verdict(
        holds,
        format!("VHOST_BACKEND_F_DESC_ASID is offered: {offered}; {told:?} of {groups}"),
    )
}

fn not_replaced(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let start = device.memory.host_address()?;
    let page = 4096;
    let mut mapped = Vec::new();
    for (what, address, size) in [
        ("all of it again", memory::BASE, memory::SIZE),
        ("its last page", memory::BASE + memory::SIZE - page, page),
        ("what begins before it", memory::BASE - page, 2 * page),
        ("nothing", memory::BASE + SHIFT, 0),
        ("past the last address", u64::MAX - page + 1, 2 * page),
    ] {
        if device.map_at(address, size, start).is_ok() {
            mapped.push(what);
        }
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    verdict(mapped.is_empty(), format!("mapped: {mapped:?}"))
}

fn gone_with_the_owner(target: &Target) -> Result<Verdict> {
    let mut before = Live::open(target)?;
    if before.device.backend_features()? & IOTLB_PERSIST == 0 {
        return skip(
            "VHOST_BACKEND_F_IOTLB_PERSIST is not offered: all must be mapped anew after a reset anyhow",
        );
    }
    before.work(10)?;
    drop(before);
    let device = target.own()?;
    // Something else is mapped: what a simulator does before there is anything is its own affair.
    let start = device.memory.host_address()?;
    device.map_at(memory::BASE + SHIFT, memory::SIZE, start)?;
    let mut live = match Live::start(device, Setup::default()) {
        Ok(live) => live,
        Err(error) if refusal::is_refusal_of_memory(&error, 0) => {
            return pass(format!("it does not run so: {error:#}"));
        }
        Err(error) => return Err(error),
    };
    // Its rings say what it has done, so far as it reaches them.
    if live.is_served()? {
        return fail("a request was done in memory that was not mapped");
    }
    let device = live.stop()?;
    device.unmap(memory::BASE + SHIFT, memory::SIZE)?;
    device.map_all()?;
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    pass("nothing was done; once the memory was mapped, requests were done")
}
