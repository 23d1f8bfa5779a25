// SPDX-License-Identifier: GPL-2.0

//! The command line, and what the exit status says.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::bus::Bus;
use crate::feature::Wish;
use crate::mac::Mac;
use crate::name::Name;
use crate::pci::Address;
use crate::plan::What;
use crate::tree::Tree;

mod perform;

/// Puts virtio functions on the vDPA bus, shows them, and takes them back
///
/// Nothing needs this command: it does what iproute2's vdpa and a few lines of shell do, checks
/// before it does it, and takes it back if it fails. --dry-run --verbose shows the lines.
#[derive(Parser)]
#[command(version, after_help = AFTER)]
pub struct Arguments {
    /// Where sys, proc, dev, boot and lib are
    #[arg(long, default_value = "/", hide = true, global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Exit status: 0 done, or nothing to do; 1 it failed, or was refused; 2 the command line or the file \
asks for what cannot be.

Examples:
  vf-vdpa list
  vf-vdpa up pci/0000:65:00.1 --name c0 --bus virtio
  vf-vdpa up pci/0000:65:00.2 --name vm7 --bus vhost --mac 02:00:00:00:00:05
  vf-vdpa down vm7
  vf-vdpa apply --dry-run /etc/vf-vdpa.toml
  vf-vdpa doctor";

#[derive(Subcommand)]
enum Command {
    /// Show functions, the vDPA devices made of them, and who uses these
    List(List),
    /// Make a vDPA device of a function
    Up(Up),
    /// Delete vDPA devices and take their functions from vf_vdpa
    Down(Down),
    /// Make a host what a file says
    Apply(Apply),
    /// Look at what a host needs, and say what is missing and how to get it
    Doctor(Doctor),
    /// Print what a shell completes the arguments of this command with
    Completion {
        /// The shell
        shell: Shell,
    },
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

#[derive(Args)]
#[command(after_help = UP)]
struct Up {
    /// The function
    #[arg(value_name = "pci/BDF")]
    function: Address,
    /// What the device is called
    #[arg(long)]
    name: Name,
    /// Who takes it
    #[arg(long, value_enum)]
    bus: Bus,
    /// Its MAC address, which no guest can change then; the function's own if not given
    #[arg(long)]
    mac: Option<Mac>,
    /// The MTU that it shows, at most the function's
    #[arg(long, value_parser = clap::value_parser!(u16).range(i64::from(crate::desired::LEAST_MTU)..))]
    mtu: Option<u16>,
    /// The queue pairs that it shows, at most the function's
    #[arg(long, value_name = "PAIRS", value_parser = clap::value_parser!(u16).range(1..))]
    max_vqp: Option<u16>,
    /// Exactly its features, by name or as a mask; those with which QEMU migrates a guest if not
    /// given
    #[arg(long, value_name = "MAC,STATUS,…", value_parser = Wish::from_text)]
    features: Option<Wish>,
    /// Delete what is in the way, also if it is in use
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    show: Show,
}

const UP: &str = "\
Binds the function to vf_vdpa, adds the device, and binds that to virtio_vdpa or vhost_vdpa, loading \
what is not loaded. If one of this fails, everything is taken back. Once it is done, doing it again \
does nothing.

Examples:
  vf-vdpa up pci/0000:65:00.1 --name c0 --bus virtio
  vf-vdpa up 65:00.2 --name vm7 --bus vhost --mac 02:00:00:00:00:05 --max-vqp 2
  vf-vdpa up 65:00.3 --name t0 --bus vhost --features MAC,STATUS,VERSION_1,ACCESS_PLATFORM";

#[derive(Args)]
#[command(after_help = DOWN)]
struct Down {
    /// Devices by name, functions as pci/BDF
    #[arg(value_name = "NAME|pci/BDF", required_unless_present = "all")]
    what: Vec<What>,
    /// Everything that vf_vdpa has
    #[arg(long, conflicts_with = "what")]
    all: bool,
    /// Also what is in use. A device that a process has open goes when it is closed; until then
    /// everybody waits who asks the vDPA bus for something
    #[arg(long)]
    force: bool,
    /// Let the kernel find another driver for the functions, such as virtio-pci
    #[arg(long)]
    give_back: bool,
    #[command(flatten)]
    show: Show,
}

const DOWN: &str = "\
Examples:
  vf-vdpa down vm7
  vf-vdpa down pci/0000:65:00.1 --give-back
  vf-vdpa down --all";

#[derive(Args)]
#[command(after_help = APPLY)]
struct Apply {
    /// The file, in TOML; - is standard input
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Delete what is in the way, also if it is in use
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    show: Show,
}

const APPLY: &str = r#"Prints a plan and carries it out. What the file does not mention is left as it is. If a step fails,
what was done stays, and the same command goes on from there; once all is done, it does nothing.

A file:
  [[pf]]
  address = "0000:65:00.0"
  vfs = 8

  [[pf.vf]]
  index = 0
  name = "c0"
  bus = "virtio"          # an interface for a container

  [[pf.vf]]
  index = 1
  name = "vm7"
  bus = "vhost"           # a character device for a guest
  mac = "02:00:00:00:00:05"
  mtu = 9000
  max_vqp = 2
  features = ["MAC", "MTU", "STATUS", "CTRL_VQ", "MQ", "VERSION_1", "ACCESS_PLATFORM"]

  [[function]]            # one that is no VF
  address = "0000:66:00.0"
  name = "disk0"
  bus = "vhost"

Examples:
  vf-vdpa apply --dry-run --verbose /etc/vf-vdpa.toml
  vf-vdpa apply /etc/vf-vdpa.toml"#;

#[derive(Args)]
struct Show {
    /// Show the plan and do nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Show it for programs
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Show how each step is done by hand
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Args)]
struct Doctor {
    /// For programs
    #[arg(long)]
    json: bool,
    /// Also look at the limits of this systemd unit, such as libvirtd.service
    #[arg(long)]
    unit: Option<String>,
}

impl Arguments {
    /// Does what is asked for.
    pub fn run(self) -> ExitCode {
        let tree = Tree::new(&self.root);
        let result = match self.command {
            Command::List(list) => list.run(&tree),
            Command::Up(up) => up.run(&tree),
            Command::Down(down) => down.run(&tree),
            Command::Apply(apply) => apply.run(&tree),
            Command::Doctor(doctor) => doctor.run(&tree),
            Command::Completion { shell } => completion(shell),
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

fn completion(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "vf-vdpa", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints for programs.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    print(&format!("{text}\n"))
}

/// Prints. A reader that has seen enough, as `head` has, is no error.
pub fn print(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_help_shows_is_taken() {
        let mut command = Arguments::command();
        let mut help = command.render_long_help().to_string();
        for part in command.get_subcommands_mut() {
            help += &part.render_long_help().to_string();
        }
        let mut examples = 0;
        for line in help
            .lines()
            .filter_map(|line| line.strip_prefix("  vf-vdpa "))
        {
            parse(&format!("vf-vdpa {line}")).unwrap();
            examples += 1;
        }
        assert!(examples >= 12, "{examples}");
    }

    #[test]
    fn the_file_that_help_shows_is_one() {
        let text: Vec<&str> = APPLY
            .lines()
            .skip_while(|line| *line != "A file:")
            .skip(1)
            .take_while(|line| *line != "Examples:")
            .collect();
        let desired = crate::file::parse(&text.join("\n")).unwrap();
        assert_eq!(desired.devices.len(), 3);
    }

    #[test]
    fn mistakes_are_found_before_anything_is_done() {
        for line in [
            "vf-vdpa",
            "vf-vdpa up 65:00.1 --name a",
            "vf-vdpa up 65:00.1 --name a/b --bus vhost",
            "vf-vdpa up 65:00 --name a --bus vhost",
            "vf-vdpa up 65:00.1 --name a --bus pci",
            "vf-vdpa up 65:00.1 --name a --bus vhost --mac 01:00:00:00:00:05",
            "vf-vdpa up 65:00.1 --name a --bus vhost --mtu 67",
            "vf-vdpa up 65:00.1 --name a --bus vhost --max-vqp 0",
            "vf-vdpa up 65:00.1 --name a --bus vhost --features MAK",
            "vf-vdpa up 65:00.1 --name a --bus vhost --json",
            "vf-vdpa down",
            "vf-vdpa down --all c0",
            "vf-vdpa apply",
        ] {
            let error = parse(line).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn each_shell_gets_its_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "vf-vdpa", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("doctor"), "{shell}");
        }
    }
}
