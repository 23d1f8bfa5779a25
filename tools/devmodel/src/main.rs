// SPDX-License-Identifier: GPL-2.0

//! A virtio-net PCI function in user space, for the emulator's `vfio-user-pci`. What is sent to it
//! comes back; on command it misbehaves.

mod backend;
mod control;
mod device;
mod feature;
mod interrupts;
mod layout;
mod memory;
mod misbehaviour;
mod mischief;
mod net;
mod packed;
mod pci_config;
mod registers;
mod ring;
mod shape;
mod split;
mod status;
mod work;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::backend::Shared;
use crate::device::Device;
use crate::shape::Shape;

/// How long the model rests while there is nothing to do.
const REST: Duration = Duration::from_millis(20);
/// How long it rests while there is.
const BREATH: Duration = Duration::from_millis(1);

/// A virtio-net PCI function that misbehaves on command.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the emulator connects
    #[arg(long)]
    socket: PathBuf,
    /// Where commands come from: shape [OPTION]..., misbehave NAME [NUMBER], behave, state
    #[arg(long)]
    control: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let device = Shared::new(Device::new(Shape::largest()));
    let listener = UnixListener::bind(&arguments.control)
        .with_context(|| format!("listening at {}", arguments.control.display()))?;
    let controlled = device.clone();
    thread::spawn(move || control::serve(&listener, &controlled));
    let ticking = device.clone();
    thread::spawn(move || {
        loop {
            let busy = ticking.lock().tick();
            thread::sleep(if busy { BREATH } else { REST });
        }
    });
    let mut device = device;
    // One connection: the function ends with it.
    backend::server(&arguments.socket)?
        .run(&mut device)
        .context("serving the emulator")
}
