// SPDX-License-Identifier: GPL-2.0

//! The sub-commands.

pub mod ahead;
pub mod busy;
pub mod cost;
pub mod hold;
pub mod info;
pub mod lie;
pub mod queues;
pub mod quiet;
pub mod readdress;
pub mod remap;
pub mod remember;
pub mod suspend;
pub mod taken;
pub mod tell;
pub mod transfer;
pub mod unannounced;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use self::suspend::Way;
use crate::abuse;
use crate::fuzz;
use crate::ktap::Report;
use crate::scribble;
use vdpa_user::port::Setup;

/// Two devices that are wired to each other.
#[derive(Args, Clone, Debug)]
pub struct Wire {
    /// One end, a /dev/vhost-vdpa-N
    pub a: PathBuf,
    /// The other end
    pub b: PathBuf,
}

/// How a single device can be shown to work.
#[derive(Args, Clone, Debug)]
pub struct Proof {
    /// The device under test, a /dev/vhost-vdpa-N
    pub device: PathBuf,
    /// The device at the other end of its wire
    #[arg(long)]
    pub peer: Option<PathBuf>,
    /// What it sends comes back to it
    #[arg(long, conflicts_with = "peer")]
    pub loopback: bool,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Send numbered frames both ways and check content, order, loss and interrupts
    Transfer {
        #[command(flatten)]
        wire: Wire,
        /// Frames each way
        #[arg(long, default_value_t = 2000)]
        count: u32,
        #[command(flatten)]
        setup: Setup,
    },
    /// The same with the doorbell page of the device mapped
    Doorbell {
        #[command(flatten)]
        wire: Wire,
        /// Frames each way
        #[arg(long, default_value_t = 1000)]
        count: u32,
    },
    /// Enable the queues after DRIVER_OK, as QEMU does
    LateEnable {
        #[command(flatten)]
        wire: Wire,
    },
    /// Disable one live queue and enable it again
    Disable {
        #[command(flatten)]
        wire: Wire,
        /// The device cannot start it again before a reset
        #[arg(long)]
        for_good: bool,
    },
    /// Stop a device again and again under traffic, and have it go on where it was
    Suspend {
        /// The device, a /dev/vhost-vdpa-N
        device: PathBuf,
        /// The other end of its wire; without one, what it sends comes back to it
        peer: Option<PathBuf>,
        /// How it goes on
        #[arg(long, value_enum, default_value_t = Way::Restart)]
        way: Way,
        /// How often it is stopped
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Frames each way
        #[arg(long, default_value_t = 4000)]
        count: u32,
        #[command(flatten)]
        setup: Setup,
    },
    /// Map the memory anew again and again under a device whose rings the kernel serves
    Remap {
        #[command(flatten)]
        wire: Wire,
        /// How often
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        #[command(flatten)]
        setup: Setup,
    },
    /// Send frames while a queue of A asks for no interrupts
    Quiet {
        #[command(flatten)]
        wire: Wire,
        #[command(flatten)]
        setup: Setup,
    },
    /// Have a device go on behind chains that nobody has returned, and where it cannot go on
    Taken {
        #[command(flatten)]
        wire: Wire,
        /// Then keep it where it is, until killed
        #[arg(long)]
        hold: bool,
    },
    /// Suspend a device whose driver has written into its ring what it does not show yet
    Ahead {
        #[command(flatten)]
        wire: Wire,
    },
    /// Break a ring that the kernel serves, and suspend the device at once: it must notice
    Lie {
        #[command(flatten)]
        proof: Proof,
        /// How often
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Suspend a slow source of entropy: it must finish before it is stopped
    Busy {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
        #[command(flatten)]
        setup: Setup,
    },
    /// Tell a device what to let pass, and resume it: it must remember
    Remember {
        #[command(flatten)]
        wire: Wire,
        /// How often it is resumed
        #[arg(long, default_value_t = 2)]
        rounds: u32,
    },
    /// Tell a device everything that its features allow, resume it, and keep it open until killed
    Tell {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
    },
    /// Ask for another MAC address than the administrator's, and for that, and keep the device open until killed
    Readdress {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
    },
    /// Measure what a relay costs, against a device that serves its rings alone
    Cost {
        #[command(flatten)]
        wire: Wire,
        /// How often each is measured
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Frames each way for one figure
        #[arg(long, default_value_t = 4000)]
        count: u32,
        /// Use event indices
        #[arg(long)]
        event_index: bool,
    },
    /// Send frames to a device that sends them back
    Loopback {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
        /// Frames
        #[arg(long, default_value_t = 2000)]
        count: u32,
        #[command(flatten)]
        setup: Setup,
    },
    /// Send requests no program should send; the device must refuse them and still work
    Abuse {
        #[command(flatten)]
        proof: Proof,
        /// Only the groups whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Bring a device live with rings it cannot reach; it must recover after a reset
    Unmapped {
        #[command(flatten)]
        proof: Proof,
    },
    /// Put rings at physical addresses; the device must not reach them
    Physical {
        #[command(flatten)]
        proof: Proof,
        /// Map other addresses first
        #[arg(long)]
        map: bool,
    },
    /// Have the device reset behind its driver's back, just before it starts or resumes
    Unannounced {
        #[command(flatten)]
        proof: Proof,
        /// Resets the device, and nothing else
        #[arg(long)]
        reset: String,
    },
    /// Put the control queue into an address space of its own
    Isolation {
        #[command(flatten)]
        proof: Proof,
    },
    /// Random legal and illegal requests; the device must work at the end
    Fuzz {
        #[command(flatten)]
        proof: Proof,
        /// Start of the random sequence: the same seed repeats the same run
        #[arg(long)]
        seed: u64,
        /// Requests
        #[arg(long, default_value_t = 5000)]
        count: u32,
    },
    /// Nonsense in the rings of a live device; the device must work at the end
    Scribble {
        #[command(flatten)]
        proof: Proof,
        /// Start of the random sequence: the same seed repeats the same run
        #[arg(long)]
        seed: u64,
        /// How often the device is brought up
        #[arg(long, default_value_t = 30)]
        rounds: u32,
    },
    /// Print features, sizes and configuration as JSON
    Info {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
    },
    /// Keep a device open until killed
    Hold {
        /// A /dev/vhost-vdpa-N
        device: PathBuf,
        /// Bring it live first
        #[arg(long)]
        live: bool,
        /// Enable its queues after DRIVER_OK
        #[arg(long, requires = "live")]
        late: bool,
        /// Suspend it then, and resume it when a configuration interrupt comes
        #[arg(long, requires = "live")]
        suspended: bool,
        #[command(flatten)]
        setup: Setup,
    },
    /// Send frames both ways for some time; a device that goes away ends it without an error
    Traffic {
        #[command(flatten)]
        wire: Wire,
        /// How long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Wait until a live device asks for a reset, give it one, and check that it works again
    Survive {
        #[command(flatten)]
        wire: Wire,
        /// How long to wait for the event
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

impl Command {
    /// Runs it. An error is a failure that left nothing more to try.
    pub fn run(&self, report: &mut Report) -> Result<()> {
        match self {
            Self::Transfer { wire, count, setup } => transfer::wire(report, wire, *count, *setup),
            Self::Doorbell { wire, count } => transfer::doorbell(report, wire, *count),
            Self::Suspend {
                device,
                peer,
                way,
                rounds,
                count,
                setup,
            } => {
                let ends: Vec<&Path> = [Some(device.as_path()), peer.as_deref()]
                    .into_iter()
                    .flatten()
                    .collect();
                suspend::run(report, &ends, *way, *rounds, *count, *setup)
            }
            Self::Remap {
                wire,
                rounds,
                setup,
            } => remap::run(report, wire, *rounds, *setup),
            Self::Quiet { wire, setup } => quiet::run(report, wire, *setup),
            Self::Taken { wire, hold } => taken::run(report, wire, *hold),
            Self::Ahead { wire } => ahead::run(report, wire),
            Self::Lie { proof, rounds } => lie::run(report, proof, *rounds),
            Self::Busy { device, setup } => busy::run(report, device, *setup),
            Self::Remember { wire, rounds } => remember::run(report, wire, *rounds),
            Self::Tell { device } => tell::run(report, device),
            Self::Readdress { device } => readdress::run(report, device),
            Self::Cost {
                wire,
                rounds,
                count,
                event_index,
            } => cost::run(report, wire, *rounds, *count, *event_index),
            Self::Loopback {
                device,
                count,
                setup,
            } => transfer::loopback(report, device, *count, *setup),
            Self::LateEnable { wire } => queues::late_enable(report, wire),
            Self::Disable {
                wire,
                for_good: false,
            } => queues::disable(report, wire),
            Self::Disable {
                wire,
                for_good: true,
            } => queues::disable_for_good(report, wire),
            Self::Abuse { proof, only } => abuse::run(report, proof, only.as_deref()),
            Self::Unmapped { proof } => abuse::unmapped::run(report, proof),
            Self::Physical { proof, map } => abuse::physical::run(report, proof, *map),
            Self::Unannounced { proof, reset } => unannounced::run(report, proof, reset),
            Self::Isolation { proof } => abuse::control::isolation(report, proof),
            Self::Fuzz { proof, seed, count } => fuzz::run(report, proof, *seed, *count),
            Self::Scribble {
                proof,
                seed,
                rounds,
            } => scribble::run(report, proof, *seed, *rounds),
            Self::Info { device } => info::print(report, device),
            Self::Hold {
                device,
                live,
                late,
                suspended,
                setup,
            } => {
                let setup = (*live).then_some(Setup {
                    late: *late,
                    ..*setup
                });
                hold::hold(report, device, setup, *suspended)
            }
            Self::Traffic { wire, seconds } => hold::traffic(report, wire, *seconds),
            Self::Survive { wire, seconds } => hold::survive(report, wire, *seconds),
        }
    }
}
