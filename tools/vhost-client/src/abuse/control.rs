// SPDX-License-Identifier: GPL-2.0

//! The control queue of a network device.

use anyhow::{Context, Result, ensure};

use super::{NET, claimed, works, works_again};
use crate::command::Proof;
use crate::ktap::Report;
use vdpa_user::device::{Device, feature, status};
use vdpa_user::memory;
use vdpa_user::port::{CONTROL_SIZE, Port, Setup};
use vdpa_user::ring;
use vdpa_user::stage::LEAST;
use vdpa_user::wait;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
/// Commands of a flood.
const FLOOD: u32 = 3000;

const SETUP: Setup = Setup {
    pairs: 1,
    packed: false,
    event_index: false,
    size: 64,
    start: 0,
    merge: false,
    pages: None,
    doorbell: false,
    late: false,
    control: true,
    everything: false,
    control_shift: 0,
};

/// Sends commands that are refused, then rings that are broken.
pub fn run(report: &mut Report, proof: &Proof) -> Result<()> {
    let device = claimed(proof)?;
    if device.device_id()? != NET || device.features()? & feature::CTRL_VQ == 0 {
        report.note("only for network devices with a control queue");
        return Ok(());
    }
    let port = Port::start(device, SETUP)?;
    let device = commands(report, port)?;
    let device = broken(report, device)?;
    let device = only_readable(report, device)?;
    // Closed before anybody has looked what became of it.
    let port = Port::start(device, SETUP)?;
    break_ring(&port, &[], 999, 1)?;
    wait::any(&[&port.config_call], wait::PATIENCE)?;
    drop(port);
    report.step("the next owner knows nothing of it", works(proof));
    Ok(())
}

fn commands(report: &mut Report, mut port: Port) -> Result<Device> {
    let address = port.address;
    let mut own = vec![1, 1];
    own.extend(address);
    let mut table = vec![1, 0, 1, 0, 0, 0];
    table.extend(address);
    table.extend([0; 4]);
    let long = vec![1; 5000];
    let allowed: [(&str, &[u8]); 6] = [
        ("promiscuous mode", &[0, 0, 1]),
        ("no promiscuous mode", &[0, 0, 0]),
        ("a VLAN", &[2, 0, 5, 0]),
        ("no VLAN", &[2, 1, 5, 0]),
        ("its own address", &own),
        ("a table of addresses", &table),
    ];
    for (what, bytes) in allowed {
        let whole = port.command(&[bytes]);
        report.check(
            matches!(whole, Ok(0)),
            format!("{what} is accepted"),
            format!("{whole:?}"),
        );
    }
    let pieces = port.command(&[&[0], &[0], &[1]]);
    report.check(
        matches!(pieces, Ok(0)),
        "a command in pieces is accepted",
        format!("{pieces:?}"),
    );
    let refused: [(&str, &[u8]); 14] = [
        ("an unknown class", &[99, 0, 0]),
        ("an unknown command", &[0, 77, 0]),
        ("half a command", &[0]),
        ("a mode without a value", &[0, 0]),
        ("a mode that is neither on nor off", &[0, 0, 2]),
        ("a mode with something behind", &[0, 0, 1, 0]),
        ("a VLAN that there is not", &[2, 0, 0, 16]),
        ("the address of a group", &[1, 1, 1, 0, 0, 0, 0, 1]),
        ("no address", &[1, 1, 0, 0, 0, 0, 0, 0]),
        (
            "a table longer than its command",
            &[1, 0, 255, 255, 255, 255, 0, 0],
        ),
        (
            "a table whose length wraps",
            &[1, 0, 0, 0, 0, 128, 0, 0, 0, 0],
        ),
        ("half a table", &table[..table.len() - 4]),
        ("a class of a feature that was not accepted", &[4, 0, 1, 0]),
        ("a command of 5000 bytes", &long),
    ];
    for (what, bytes) in refused {
        let answer = port.command(&[bytes]);
        report.check(
            matches!(answer, Ok(1)),
            format!("{what} is refused"),
            format!("{answer:?}"),
        );
    }
    let mut refusals = 0;
    for _ in 0..FLOOD {
        refusals += u32::from(port.command(&[&[99, 0]])?);
    }
    report.check(
        refusals == FLOOD && port.alive()?,
        "a flood of commands is refused one by one",
        format!("{refusals} of {FLOOD} refused"),
    );
    let room = u32::from(CONTROL_SIZE) / 2;
    let full = port.commands(&[99, 0])?;
    report.check(
        full == (room, 1) && port.alive()?,
        "a queue full of commands is refused one by one",
        format!("{full:?}: commands, last answer"),
    );
    port.stop()
}

/// Where the device can read a page of the memory once more, and not write to it.
const APART: u64 = memory::BASE + memory::SIZE + 0x20_0000;
const PAGE: u64 = 4096;
/// What is in the place of an answer before there is one.
const UNTOUCHED: u8 = 0xaa;

/// Memory that the process lets the device read, and nothing more.
fn only_readable(report: &mut Report, device: Device) -> Result<Device> {
    let (port, answer) = command_apart(device, true)?;
    let seen = wait::until("an answer", || Ok(byte(&port, answer)? == 0));
    report.step("a command is read where reading is allowed", seen);
    let device = stop_apart(port)?;

    let (port, answer) = command_apart(device, false)?;
    let seen = demands_reset(&port.device).and_then(|()| {
        let answer = byte(&port, answer)?;
        ensure!(answer == UNTOUCHED, "{answer:#x} was written");
        Ok(())
    });
    report.step("no answer is written where only reading is allowed", seen);
    stop_apart(port)
}

/// Gives a device a command that it can only read. The answer belongs into the byte behind it: at the
/// address at which the device can write, if `writable`. Returns that one.
fn command_apart(device: Device, writable: bool) -> Result<(Port, u64)> {
    let port = Port::start(device, SETUP)?;
    let memory = &port.device.memory;
    let page = memory.allocate(PAGE, PAGE)?;
    memory.write(page, &[0, 0, 1, UNTOUCHED])?;
    let offset = usize::try_from(page - memory::BASE)?;
    port.device
        .map_readable(APART, PAGE, memory.host_address()?.wrapping_add(offset))?;
    let answer = if writable { page } else { APART } + 3;
    break_ring(&port, &[(APART, 3, NEXT, 1), (answer, 1, WRITE, 0)], 0, 1)?;
    Ok((port, page + 3))
}

fn stop_apart(port: Port) -> Result<Device> {
    port.device.unmap(APART, PAGE)?;
    port.stop()
}

fn byte(port: &Port, at: u64) -> Result<u8> {
    let mut byte = [0];
    port.device.memory.read(at, &mut byte)?;
    let [byte] = byte;
    Ok(byte)
}

/// Waits until the device does.
fn demands_reset(device: &Device) -> Result<()> {
    wait::until("NEEDS_RESET", || {
        Ok(device.status()? & status::NEEDS_RESET != 0)
    })
}

/// A descriptor: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

fn broken(report: &mut Report, mut device: Device) -> Result<Device> {
    let here = memory::BASE;
    let nowhere = memory::BASE + memory::SIZE + 0x10_0000;
    let end = memory::BASE + memory::SIZE - 1;
    let cases: [(&str, &[Descriptor], u16, u16); 9] = [
        (
            "a chain that never ends",
            &[(here, 1, NEXT, 1), (here, 1, NEXT, 0)],
            0,
            1,
        ),
        (
            "a chain that leaves the table",
            &[(here, 2, NEXT, 999)],
            0,
            1,
        ),
        ("a head outside of the table", &[(here, 2, 0, 0)], 999, 1),
        (
            "a command outside of the memory",
            &[(nowhere, 3, NEXT, 1), (here, 1, WRITE, 0)],
            0,
            1,
        ),
        (
            "a command that leaves the memory",
            &[(end, 4096, NEXT, 1), (here, 1, WRITE, 0)],
            0,
            1,
        ),
        (
            "a buffer that wraps",
            &[(u64::MAX - 1, 16, NEXT, 1), (here, 1, WRITE, 0)],
            0,
            1,
        ),
        (
            "a command after its answer",
            &[(here, 1, WRITE | NEXT, 1), (here, 3, 0, 0)],
            0,
            1,
        ),
        (
            "a command without room for an answer",
            &[(here, 3, 0, 0)],
            0,
            1,
        ),
        (
            "more commands than the queue has",
            &[(here, 3, 0, 0)],
            0,
            1000,
        ),
    ];
    for (what, descriptors, head, index) in cases {
        let port = Port::start(device, SETUP)?;
        break_ring(&port, descriptors, head, index)?;
        let seen: Result<()> = (|| {
            ensure!(
                wait::any(&[&port.config_call], wait::PATIENCE)?,
                "no configuration interrupt"
            );
            demands_reset(&port.device)
        })();
        report.step(format!("{what}: the device demands a reset"), seen);
        device = port.stop()?;
    }
    Ok(device)
}

/// Puts a chain into the control queue, and rings its doorbell.
fn break_ring(port: &Port, descriptors: &[Descriptor], head: u16, index: u16) -> Result<()> {
    let control = port.control.as_ref().context("no control queue")?;
    let areas = control.ring.areas();
    let memory = &port.device.memory;
    for (number, (address, length, flags, next)) in descriptors.iter().enumerate() {
        let mut bytes = Vec::new();
        bytes.extend(address.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        memory.write(areas.descriptors + 16 * u64::try_from(number)?, &bytes)?;
    }
    while port.config_call.read().is_ok() {}
    memory.store16(areas.driver + 4, head)?;
    memory.store16(areas.driver + 2, index)?;
    control.ring_doorbell()
}

/// The control queue in an address space of its own.
pub fn isolation(report: &mut Report, proof: &Proof) -> Result<()> {
    const SHIFT: u64 = 0x4000_0000;

    let mut device = claimed(proof)?;
    let offered = device.features()?;
    let control = vdpa_user::port::control_index(&device, offered)?;
    device.negotiate(offered)?;
    let groups: Vec<_> = (0..=u32::from(control))
        .map(|index| device.group(index))
        .collect::<Result<_>>()?;
    report.check(
        groups.iter().rev().skip(1).all(|group| *group == 0) && groups.last() == Some(&1),
        "the control queue alone is in group 1",
        format!("{groups:?}"),
    );
    device.reset()?;
    for (group, asid) in [(2, 0), (u32::MAX, 1), (1, 2), (0, u32::MAX)] {
        let result = device.set_group_asid(group, asid);
        report.check(
            result.is_err(),
            format!("group {group} cannot be in address space {asid}"),
            "it was moved".to_owned(),
        );
    }

    device.map_in(1, memory::BASE + SHIFT)?;
    device.set_group_asid(1, 1)?;
    let setup = Setup {
        control_shift: SHIFT,
        ..SETUP
    };
    // A reset moves it back.
    let mut port = Port::start_with(device, setup, |device| device.set_group_asid(1, 1))?;
    let answer = port.command(&[&[0, 0, 1]]);
    report.check(
        matches!(answer, Ok(0)),
        "a command in address space 1 is served",
        format!("{answer:?}"),
    );
    let busy = port.device.set_group_asid(1, 0);
    report.check(
        busy.is_err(),
        "the group of a live device cannot be moved",
        "it was moved".to_owned(),
    );
    let device = port.stop()?;

    // What is mapped in address space 0 alone is not there for it.
    device.negotiate(LEAST | feature::CTRL_VQ)?;
    device.set_group_asid(1, 1)?;
    device.memory.clear()?;
    let ring = ring::new(&device.memory, 16, false, false)?;
    device.set_queue(2, 16, ring.areas(), 0)?;
    device.enable(2, true)?;
    device.raw_status(device.status()? | status::DRIVER_OK)?;
    let seen = demands_reset(&device);
    report.step(
        "memory of address space 0 does not exist in address space 1",
        seen,
    );
    report.step("the device works afterwards", works_again(device, proof));
    Ok(())
}
