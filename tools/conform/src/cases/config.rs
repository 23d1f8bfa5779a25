// SPDX-License-Identifier: GPL-2.0

//! The configuration space.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use vdpa_user::device::{CONFIG, Device, feature};
use vdpa_user::ioctl::{self, Argument};
use vdpa_user::port::{Port, Setup};
use vdpa_user::wait;

use crate::bench::{Class, Live};
use crate::case::{Case, Target, Verdict, fail, pass, skip, source, verdict};
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
    Case {
        id: "config-7",
        title: "what does not change reads the same",
        demands: "the generation changes only with the configuration: as long as nothing changes, each read gives the same, while the device works, too (vhost-vdpa tells nobody of the generation itself)",
        source: "virtio 1.3, 2.5.1 and 2.5.3",
        run: quiet,
    },
    Case {
        id: "config-8",
        title: "nothing is written behind the end",
        demands: "a write that begins or ends behind the end of the configuration space fails, and so does an empty one",
        source: source::UAPI,
        run: written_behind_the_end,
    },
    Case {
        id: "config-9",
        title: "a change is shown whole",
        demands: "mac changes when VIRTIO_NET_CTRL_MAC_ADDR_SET is answered with VIRTIO_NET_OK, and only then; no read mixes the old one with the new one",
        source: "virtio 1.3, 2.5.1 and 5.1.6.5.2",
        run: changed,
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
            return fail(format!(
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

fn quiet(target: &Target) -> Result<Verdict> {
    const READS: u32 = 50;
    let mut live = Live::open(target)?;
    let length = live.device.config_size()?.min(CONFIG);
    if length == 0 {
        return skip("there is no configuration space");
    }
    let first = live.device.config()?;
    for number in 1..=READS {
        live.offer(4)?;
        let whole = live.device.config()?;
        // In two pieces: the border goes through every field in turn.
        let border = 1 + number % length.saturating_sub(1).max(1);
        let mut pieces = read(&live.device, 0, border.min(length))?;
        if border < length {
            pieces.extend(read(&live.device, border, length - border)?);
        }
        live.finish(4)?;
        if whole != first || pieces != first {
            return fail(format!(
                "read {number}: {whole:02x?}, in two pieces {pieces:02x?}, not {first:02x?}"
            ));
        }
    }
    pass(format!("{READS} times the same, with requests under way"))
}

fn written_behind_the_end(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let size = device.config_size()?;
    let writes = [
        (size, 1),
        (0, size + 1),
        (size.saturating_sub(1), 2),
        (u32::MAX, 1),
        (1, u32::MAX),
        (0, 0),
    ];
    let before = device.config()?;
    let passed: Vec<_> = writes
        .into_iter()
        .filter(|(offset, length)| {
            let mut argument = Argument::words(&[*offset, *length]);
            ioctl::send(&device, ioctl::VHOST_VDPA_SET_CONFIG(), &mut argument).is_ok()
        })
        .collect();
    verdict(
        passed.is_empty() && device.config()? == before,
        format!("of {size} bytes, these offsets and lengths were written: {passed:?}"),
    )
}

/// Class and command of a new address (virtio 1.3, 5.1.6.5.2).
const MAC_ADDR_SET: [u8; 2] = [1, 1];

fn changed(target: &Target) -> Result<Verdict> {
    const NEEDED: u64 = feature::MAC | feature::CTRL_VQ | feature::CTRL_MAC_ADDR;
    let device = target.claim()?;
    if Class::of(&device)? != Class::Net || device.features()? & NEEDED != NEEDED {
        return skip("no user can change the configuration of this device");
    }
    let setup = Setup {
        control: true,
        ..Setup::default()
    };
    let mut port = Port::start(device, setup)?;
    let original = port.address;
    let mut shown = original;
    let mut answers = Vec::new();
    // The last one puts back what was there.
    for address in [
        [0x02, 0x11, 0x22, 0x33, 0x44, 0x55],
        [0x0a, 0xee, 0xdd, 0xcc, 0xbb, 0xaa],
        original,
    ] {
        port.ask(&[&MAC_ADDR_SET, &address])?;
        wait::until("an answer of the control queue", || {
            let now = port.device.config()?;
            let mac = now.get(..6);
            ensure!(
                mac == Some(&shown) || mac == Some(&address),
                "{mac:02x?} was read while {shown:02x?} became {address:02x?}"
            );
            port.is_answered()
        })?;
        let answer = port.answer()?;
        answers.push(answer);
        if answer == 0 {
            shown = address;
        }
        let now = port.device.config()?;
        if now.get(..6) != Some(&shown) {
            return fail(format!(
                "{address:02x?} was answered with {answer}, then {:02x?} is read, not {shown:02x?}",
                now.get(..6)
            ));
        }
    }
    if answers.iter().all(|answer| *answer != 0) {
        return pass(format!(
            "it stays {original:02x?}: the answers are {answers:?}"
        ));
    }
    pass(format!("each new one is read; the answers are {answers:?}"))
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
