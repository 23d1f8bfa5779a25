// SPDX-License-Identifier: GPL-2.0

//! Puts virtio functions on the vDPA bus, shows them, and takes them back. Everything that it does
//! can be done with iproute2's `vdpa`, `driverctl` and a shell, too; it says how where it refuses.

mod arguments;
mod bus;
mod carry_out;
mod desired;
mod device;
mod doctor;
mod execute;
mod feature;
mod file;
mod function;
mod host;
mod interface;
mod kmsg;
mod list;
mod mac;
mod message;
mod name;
mod netlink;
mod opener;
mod pci;
mod plan;
mod queue;
mod seen;
mod step;
mod table;
mod tree;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    arguments::Arguments::parse().run()
}
