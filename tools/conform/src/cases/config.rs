// SPDX-License-Identifier: GPL-2.0

//! The configuration space.

use anyhow::Result;
use nix::errno::Errno;
use vdpa_user::device::{CONFIG, Device, feature};
use vdpa_user::ioctl::{self, Argument};

use crate::bench::Class;
use crate::case::{Case, Target, Verdict, pass, skip, source, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "config-1",
        title: "parts are those of the whole",
        demands: "a read of a part gives the same bytes as a read of all",
        source: "virtio 1.3, 2.5; VHOST_VDPA_GET_CONFIG",
        run: parts,
    },
    Case {
        id: "config-2",
        title: "nothing is read behind the end",
        demands: "a read that begins or ends behind the end of the configuration space fails",
        source: source::UAPI,
        run: behind_the_end,
    },
    Case {
        id: "config-3",
        title: "an empty read fails",
        demands: "a read of no bytes fails",
        source: source::UAPI,
        run: nothing,
    },
    Case {
        id: "config-4",
        title: "it stays over negotiation and reset",
        demands: "what the device tells of itself does not depend on who has used it",
        source: "virtio 1.3, 2.5",
        run: stays,
    },
    Case {
        id: "config-5",
        title: "a write leaves what is read-only",
        demands: "all fields of a network device are read-only for the driver",
        source: "virtio 1.3, 5.1.4",
        run: read_only,
    },
    Case {
        id: "config-6",
        title: "its fields make sense",
        demands: "net: with MAC the address of a station, with MQ 1 to 0x8000 pairs for which there are queues, with MTU 68 at least; block: with BLK_SIZE a power of two",
        source: "virtio 1.3, 5.1.4.1 and 5.2.4",
        run: sense,
    },
];

/// Reads `length` bytes from `offset` on.
fn read(device: &Device, offset: u32, length: u32) -> Result<Vec<u8>, Errno> {
    let mut argument = Argument::words(&[offset, length]);
    ioctl::send(device, ioctl::VHOST_VDPA_GET_CONFIG(), &mut argument)?;
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    Ok(argument.tail(8).get(..length).unwrap_or_default().to_vec())
}

fn parts(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let length = device.config_size()?.min(CONFIG);
    if length == 0 {
        return skip("there is no configuration space");
    }
    let whole = read(&device, 0, length)?;
    for width in [1, 2, 4, 8] {
        let mut joined = Vec::new();
        for offset in (0..length).step_by(width) {
            let width = u32::try_from(width)?.min(length - offset);
            joined.extend(read(&device, offset, width)?);
        }
        if joined != whole {
            return crate::case::fail(format!(
                "{width} at a time: {joined:02x?}, not {whole:02x?}"
            ));
        }
    }
    pass(format!("{length} bytes, in pieces of 1, 2, 4 and 8"))
}

fn behind_the_end(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let size = device.config_size()?;
    let reads = [
        (size, 1),
        (0, size + 1),
        (size.saturating_sub(1), 2),
        (u32::MAX, 1),
        (1, u32::MAX),
    ];
    let passed: Vec<_> = reads
        .into_iter()
        .filter(|(offset, length)| {
            let mut argument = Argument::words(&[*offset, *length]);
            ioctl::send(&device, ioctl::VHOST_VDPA_GET_CONFIG(), &mut argument).is_ok()
        })
        .collect();
    verdict(
        passed.is_empty(),
        format!("of {size} bytes, these offsets and lengths were read: {passed:?}"),
    )
}

fn nothing(target: &Target) -> Result<Verdict> {
    let result = read(&target.open()?, 0, 0);
    verdict(result.is_err(), format!("{result:?}"))
}

fn stays(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let before = device.config()?;
    device.negotiate(LEAST)?;
    let during = device.config()?;
    device.reset()?;
    let after = device.config()?;
    verdict(
        before == during && before == after,
        if before == during && before == after {
            format!("{} bytes", before.len())
        } else {
            format!("{before:02x?}, then {during:02x?}, then {after:02x?}")
        },
    )
}

fn read_only(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if Class::of(&device)? != Class::Net {
        return skip("other classes have fields that can be written");
    }
    device.negotiate(device.features()?)?;
    let before = device.config()?;
    let mut bytes = Vec::new();
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(6_u32.to_ne_bytes());
    bytes.extend([0x02, 0, 0, 0, 0, 0x99]);
    let mut argument = Argument::bytes(&bytes);
    let result = ioctl::send(&device, ioctl::VHOST_VDPA_SET_CONFIG(), &mut argument);
    let after = device.config()?;
    verdict(
        before == after,
        format!(
            "a write to the address: {result:?}, then {:02x?}",
            after.get(..6)
        ),
    )
}

fn sense(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let offered = device.features()?;
    let config = device.config()?;
    let u16_at = |at: usize| device.config16(at);
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    let mut field = |holds: bool, text: String| {
        if !holds {
            wrong.push(text.clone());
        }
        told.push(text);
    };
    match Class::of(&device)? {
        Class::Net => {
            if offered & feature::MAC != 0 {
                let address = config.get(..6).unwrap_or_default();
                let station = address.iter().any(|byte| *byte != 0)
                    && address.first().is_some_and(|byte| byte & 1 == 0);
                field(station, format!("address {address:02x?}"));
            }
            if offered & feature::MQ != 0 {
                let pairs = u16_at(8)?;
                let queues = device.queue_count()?;
                let there = 2 * u32::from(pairs) < queues;
                field(
                    (1..=0x8000).contains(&pairs) && there,
                    format!("{pairs} pairs of {queues} queues"),
                );
            }
            if offered & feature::MTU != 0 {
                let mtu = u16_at(10)?;
                field(mtu >= 68, format!("MTU {mtu}"));
            }
        }
        Class::Block => {
            if offered & (1 << 6) != 0 {
                let size = u32::from(u16_at(20)?) | (u32::from(u16_at(22)?) << 16);
                field(size.is_power_of_two(), format!("blocks of {size} bytes"));
            }
        }
        Class::Other(id) => return skip(format!("nobody here knows the fields of class {id}")),
    }
    if told.is_empty() {
        return skip("no feature of the device says that it has one of these fields");
    }
    verdict(wrong.is_empty(), told.join(", "))
}
