// SPDX-License-Identifier: GPL-2.0

//! The command line, and what the exit status says.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::list;
use crate::seen::{Interest, Seen};
use crate::tree::Tree;

/// Puts virtio functions on the vDPA bus, shows them, and takes them back
#[derive(Parser)]
#[command(version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// Where sys, proc, boot and lib are
    #[arg(long, default_value = "/", hide = true, global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done, or nothing to do; 1 it failed, or was refused; 2 the command line or the file \
asks for what cannot be.";

#[derive(Subcommand)]
enum Command {
    /// Show functions, the vDPA devices made of them, and who uses these
    List(List),
}

#[derive(Args)]
struct List {
    /// For programs
    #[arg(long)]
    json: bool,
    /// Say of each device what it shows and what each virtqueue does
    #[arg(long, short)]
    verbose: bool,
    /// Virtio functions that have nothing to do with vDPA, too
    #[arg(long, short)]
    all: bool,
}

impl Arguments {
    /// Does what is asked for.
    pub fn run(self) -> ExitCode {
        let tree = Tree::new(&self.root);
        let result = match self.command {
            Command::List(list) => list.run(&tree),
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                anstream::eprintln!("vf-vdpa: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

impl List {
    fn run(self, tree: &Tree) -> Result<ExitCode> {
        let interest = Interest {
            all: self.all,
            queues: true,
        };
        let seen = Seen::read(tree, interest)?;
        if self.json {
            print_json(&list::List::new(&seen))?;
        } else {
            print(&list::text(&seen, self.verbose))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints for programs.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    print(&format!("{text}\n"))
}

/// Prints. A reader that has seen enough, as `head` has, is no error.
fn print(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
