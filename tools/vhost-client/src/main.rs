// SPDX-License-Identifier: GPL-2.0

//! Drives `/dev/vhost-vdpa-N` from user space, as a virtual machine monitor would and as none
//! should, and prints what came of it in the kernel's test format.

mod abuse;
mod command;
mod exchange;
mod fuzz;
mod ktap;
mod scribble;

use std::process::ExitCode;

use clap::Parser;

use crate::command::Command;
use crate::ktap::Report;

/// Drives vhost-vdpa devices and reports in KTAP.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    if let Err(error) = arguments.command.run(&mut report) {
        report.fail("runs to its end", format!("{error:#}"));
    }
    if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
