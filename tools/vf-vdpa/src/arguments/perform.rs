// SPDX-License-Identifier: GPL-2.0

//! Each command: from its arguments to what is seen, planned and done.

use std::io::Read;
use std::path::Path;

use super::*;
use crate::carry_out::{How, Outcome, carry_out};
use crate::desired::{Desired, Target, Wanted};
use crate::device::Device;
use crate::doctor;
use crate::execute::OnFailure;
use crate::plan::{Plan, Policy};
use crate::seen::{Interest, Seen};
use crate::{file, list};

/// The exit status where something cannot be, as that of a wrong command line.
const IMPOSSIBLE: u8 = 2;

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Nothing | Outcome::Done | Outcome::Shown => Self::SUCCESS,
            Outcome::Failed => Self::FAILURE,
            Outcome::Impossible => Self::from(IMPOSSIBLE),
        }
    }
}

impl Show {
    fn how(&self, on_failure: OnFailure) -> How {
        How {
            dry_run: self.dry_run,
            json: self.json,
            verbose: self.verbose,
            on_failure,
        }
    }
}

impl List {
    pub(super) fn run(self, tree: &Tree) -> Result<ExitCode> {
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

impl Up {
    pub(super) fn run(self, tree: &Tree) -> Result<ExitCode> {
        let policy = match self.replace {
            true => Policy::Replace,
            false => Policy::Keep,
        };
        let name = self.name.clone();
        let desired = Desired {
            pfs: Vec::new(),
            devices: vec![Wanted {
                at: Target::Function(self.function),
                name: self.name,
                bus: self.bus,
                mac: self.mac,
                mtu: self.mtu,
                max_vqp: self.max_vqp,
                features: self.features,
            }],
        };
        let how = self.show.how(OnFailure::Undo);
        let outcome = carry_out(tree, how, |seen| Plan::new(&desired, seen, policy))?;
        if let Outcome::Done | Outcome::Nothing = outcome {
            let now = Seen::read(tree, Interest::default())?;
            if let Some(device) = now.device(name.as_str()) {
                print(&became(device))?;
            }
        }
        Ok(outcome.into())
    }
}

/// Where a device is found, in a line.
fn became(device: &Device) -> String {
    let name = &device.name;
    if let Some(node) = &device.node {
        return format!("{name} is /dev/{node}\n");
    }
    let interfaces = device.virtio.iter().flat_map(|one| &one.interfaces);
    let disks = device.virtio.iter().flat_map(|one| &one.disks);
    let all: Vec<&str> = interfaces
        .map(|one| one.name.as_str())
        .chain(disks.map(|one| one.name.as_str()))
        .collect();
    if all.is_empty() {
        return format!("{name} is there; vf-vdpa list shows what becomes of it\n");
    }
    format!("{name} is {}\n", all.join(" "))
}

impl Down {
    pub(super) fn run(self, tree: &Tree) -> Result<ExitCode> {
        let policy = match self.force {
            true => Policy::Replace,
            false => Policy::ReplaceUnused,
        };
        let how = self.show.how(OnFailure::Stop);
        let outcome = carry_out(tree, how, |seen| {
            Plan::down(&self.what, seen, policy, self.give_back)
        })?;
        Ok(outcome.into())
    }
}

impl Apply {
    pub(super) fn run(self, tree: &Tree) -> Result<ExitCode> {
        let desired = match read(&self.file).and_then(|text| file::parse(&text)) {
            Ok(desired) => desired,
            Err(error) => {
                let file = self.file.display();
                anstream::eprintln!("vf-vdpa: {file}: {:#}", error);
                return Ok(ExitCode::from(IMPOSSIBLE));
            }
        };
        let policy = match self.replace {
            true => Policy::Replace,
            false => Policy::ReplaceUnused,
        };
        let how = self.show.how(OnFailure::Stop);
        let outcome = carry_out(tree, how, |seen| Plan::new(&desired, seen, policy))?;
        Ok(outcome.into())
    }
}

fn read(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(std::fs::read_to_string(file)?)
}

impl Doctor {
    pub(super) fn run(self, tree: &Tree) -> Result<ExitCode> {
        let findings = doctor::examine(tree, self.unit.as_deref())?;
        if self.json {
            print_json(&findings)?;
        } else {
            print(&doctor::text(&findings))?;
        }
        Ok(match doctor::is_healthy(&findings) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
