// SPDX-License-Identifier: GPL-2.0
//! The lab: builds the project against the stock kernel and tests it in a virtual machine.
//!
//! Started by `tools/bootstrap`, which makes the sysroot that the lab lives in. See
//! `Documentation/testing.md` for what a user types.

mod agent;
mod archive;
mod arm;
mod beside;
mod cache;
mod case;
mod check;
mod command;
mod compare;
mod conformance;
mod console;
mod consumers;
mod context;
mod coverage;
mod debug;
mod emulator;
mod guest;
mod initramfs;
mod kconfig;
mod kernel;
mod ktap;
mod machine;
mod model;
mod modinfo;
mod module;
mod package;
mod packages;
mod parents;
mod program;
mod qmp;
mod report;
mod run;
mod selftest;
mod shell;
mod source;
mod stacks;
mod step;
mod version;
mod versions;
mod vm;

use std::process::ExitCode;
use std::thread;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    // The lab is the first process of its name space: without a handler it could not be interrupted.
    match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(mut signals) => {
            thread::spawn(move || {
                if signals.forever().next().is_some() {
                    eprintln!("\ninterrupted; what was finished stays in the cache");
                    std::process::exit(130);
                }
            });
        }
        Err(error) => eprintln!("lab: signals: {error}"),
    }
    match command::Command::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
