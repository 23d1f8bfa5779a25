// SPDX-License-Identifier: GPL-2.0

//! What a device is.

use anyhow::Result;
use nix::errno::Errno;

use crate::bench::Class;
use crate::case::{Case, Target, Verdict, fail, skip, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "identity-1",
        title: "the device has a class",
        demands: "VHOST_VDPA_GET_DEVICE_ID tells a device ID of the specification; 0 is reserved",
        source: "virtio 1.3, 5; uapi/linux/vhost.h",
        run: has_a_class,
    },
    Case {
        id: "identity-2",
        title: "there are as many queues as the class needs",
        demands: "a network device has two queues at least, any other one",
        source: "virtio 1.3, 5.1.2 and 5.2.2; VHOST_VDPA_GET_VQS_COUNT",
        run: has_queues,
    },
    Case {
        id: "identity-3",
        title: "queues can have a size",
        demands: "VHOST_VDPA_GET_VRING_NUM tells the largest size of a queue, a power of two up to 32768 for split rings",
        source: "virtio 1.3, 2.7; uapi/linux/vhost.h",
        run: has_sizes,
    },
    Case {
        id: "identity-4",
        title: "the size of each queue is told",
        demands: "VHOST_VDPA_GET_VRING_SIZE tells the largest size of one queue, which is not above that of all",
        source: source::UAPI,
        run: has_a_size_for_each,
    },
];

fn has_a_class(target: &Target) -> Result<Verdict> {
    let id = target.open()?.device_id()?;
    verdict(id != 0, format!("device ID {id}"))
}

fn has_queues(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let count = device.queue_count()?;
    let least = Class::of(&device)?.least_queues();
    verdict(
        (u32::from(least)..=0x1_0000).contains(&count),
        format!("{count} queues"),
    )
}

fn has_sizes(target: &Target) -> Result<Verdict> {
    let limit = target.open()?.queue_limit()?;
    verdict(
        limit.is_power_of_two() && limit <= 32768,
        format!("at most {limit} entries"),
    )
}

fn has_a_size_for_each(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let limit = u32::from(device.queue_limit()?);
    let mut sizes = Vec::new();
    for index in 0..device.queue_count()? {
        match device.try_queue_size(index) {
            Ok(size) => sizes.push(size),
            Err(Errno::EOPNOTSUPP) => {
                return skip("the device does not tell sizes of single queues");
            }
            Err(errno) => return fail(format!("queue {index}: {errno}")),
        }
    }
    verdict(
        sizes.iter().all(|size| (1..=limit).contains(size)),
        format!("{sizes:?}, of all {limit}"),
    )
}
