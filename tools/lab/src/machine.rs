// SPDX-License-Identifier: GPL-2.0
//! Everything a machine needs, made once for a run: kernel, modules, guest, programs, scripts.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::cache::Lock;
use crate::case::Case;
use crate::context::{Context, Flavour};
use crate::kernel::Kernel;
use crate::packages::Packages;
use crate::vm::Parts;
use crate::{consumers, guest, initramfs, module, parents, program};

/// How long a run waits between two looks whether a machine has ended.
const TURN: Duration = Duration::from_secs(1);

/// Runs whose logs are kept.
const KEPT_RUNS: usize = 30;

/// What a run wants in its machine.
pub struct Wanted {
    /// Whether the guest inside the machine is needed.
    pub guest: bool,
    /// Whether the kernel's C drivers are needed.
    pub parents: bool,
    /// Whether those who use the devices are needed.
    pub consumers: bool,
    /// Whether the project's modules and programs are needed (the lab's own test does without).
    pub project: bool,
    /// Whether the modules count what they execute.
    pub counting: bool,
}

impl Wanted {
    /// What `cases` want, run with `driver`.
    pub fn by<'a>(driver: &str, cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let mut wanted = Self {
            guest: false,
            parents: driver != "vf_vdpa",
            consumers: false,
            project: true,
            counting: false,
        };
        for case in cases {
            wanted.guest |= case.needs("guest");
            wanted.parents |= case.needs("parents");
            wanted.consumers |= case.needs("consumers");
        }
        wanted
    }
}

/// A prepared run.
pub struct Machine {
    /// For booting.
    pub parts: Parts,
    /// Output of `uname -r` in it.
    pub release: String,
    /// Of the run's directory, and of the processor that the machine takes.
    _locks: [Lock; 2],
}

impl Machine {
    /// Prepares a run; the guest's kernel, the longest step, comes after what may fail sooner.
    pub fn prepare(cx: &Context, wanted: &Wanted) -> Result<Self> {
        let kernel = Kernel::get(cx)?;
        let initramfs = initramfs::get(cx, &kernel)?;
        let made = if wanted.project {
            make(cx, &kernel, wanted)?
        } else {
            Vec::new()
        };
        let consumers = wanted.consumers.then(|| consumers::get(cx)).transpose()?;
        let guest = wanted
            .guest
            .then(|| guest::kernel(cx, &Packages::get(cx)?))
            .transpose()?;

        let turn = turn(cx)?;
        let (logs, run) = new_run(cx)?;
        let share = logs.join("share");
        let tools = cx.top.join("tools");
        copy(&tools.join("lab/agent"), &share.join("agent"))?;
        for entry in fs::read_dir(tools.join("cases"))? {
            let entry = entry?;
            copy(&entry.path(), &share.join("cases").join(entry.file_name()))?;
        }
        for (from, to) in made {
            copy(&from, &share.join(to))?;
        }
        let machine = Self {
            parts: Parts {
                image: kernel.image,
                initramfs,
                modules: kernel.modules,
                consumers,
                share,
                logs,
                model_at_once: wanted.project && cx.flavour == Flavour::Debug,
            },
            release: kernel.release,
            _locks: [run, turn],
        };
        if let Some(kernel) = guest {
            machine.add_guest(&kernel)?;
        }
        Ok(machine)
    }

    /// Gives the machine a guest, whether it runs or not.
    pub fn add_guest(&self, kernel: &Path) -> Result<()> {
        let dir = self.parts.share.join("guest");
        copy(kernel, &dir.join("vmlinux"))?;
        fs::write(dir.join("initramfs"), guest::initramfs()?)?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The logs stay; what the machine saw can be made again.
        let _ = fs::remove_dir_all(&self.parts.share);
    }
}

/// Waits until this host runs fewer machines than it has processors.
pub fn turn(cx: &Context) -> Result<Lock> {
    let machines = std::thread::available_parallelism().map_or(1, usize::from);
    let mut told = false;
    loop {
        for number in 0..machines {
            if let Some(lock) = cx.cache.try_lock(&format!("machine-{number}"))? {
                return Ok(lock);
            }
        }
        if !told {
            eprintln!("waiting for another run: there is a machine for each processor");
            told = true;
        }
        // No lock is waited for: any of them may be the next. Whoever looks first then has it.
        thread::sleep(TURN);
    }
}

/// Builds what comes from this checkout: pairs of a file and its place in the share.
fn make(cx: &Context, kernel: &Kernel, wanted: &Wanted) -> Result<Vec<(PathBuf, String)>> {
    let mut modules = if wanted.counting {
        module::build_counting(cx, &kernel.tree)?
    } else {
        module::build(cx, &kernel.tree)?
    };
    if wanted.parents {
        modules.extend(parents::build(cx, kernel)?);
    }
    let mut made = Vec::new();
    for (kind, files) in [("modules", modules), ("bin", program::build(cx)?)] {
        for file in files {
            let name = file
                .file_name()
                .context("a made file without a name")?
                .to_string_lossy()
                .into_owned();
            made.push((file, format!("{kind}/{name}")));
        }
    }
    Ok(made)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Removes the oldest runs, and of the others what an interrupted one has left besides its logs.
fn tidy(runs: &Path) -> Result<()> {
    let mut old: Vec<PathBuf> = fs::read_dir(runs)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    old.sort();
    for (age, dir) in old.iter().rev().enumerate() {
        // One that goes on holds its lock.
        let Some(_over) = Lock::try_directory(dir)? else {
            continue;
        };
        let share = dir.join("share");
        if age >= KEPT_RUNS - 1 {
            fs::remove_dir_all(dir)?;
        } else if share.exists() {
            fs::remove_dir_all(share)?;
        }
    }
    Ok(())
}

/// A new directory for the logs of this run, with its lock.
fn new_run(cx: &Context) -> Result<(PathBuf, Lock)> {
    let runs = cx.cache.path("runs");
    fs::create_dir_all(&runs)?;
    // Two runs that tidy up at the same time would remove the same things.
    let _lock = cx.cache.lock("runs", "it begins")?;
    tidy(&runs)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    // Runs of one checkout may begin in the same second.
    for number in 1_u32.. {
        let dir = runs.join(format!("{now}-{}-{number}", cx.checkout_key()));
        match fs::create_dir(&dir) {
            Ok(()) => {
                let lock = Lock::directory(&dir)?;
                return Ok((dir, lock));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("creating {}", dir.display()));
            }
        }
    }
    anyhow::bail!("no name is left for a run in {}", runs.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_are_over_are_tidied() {
        let runs = std::env::temp_dir().join(format!("runs-{}", std::process::id()));
        for number in 100..100 + KEPT_RUNS + 1 {
            fs::create_dir_all(runs.join(number.to_string()).join("share")).unwrap();
        }
        let running = Lock::directory(&runs.join("101")).unwrap();
        tidy(&runs).unwrap();
        let left = |name: &str| runs.join(name).exists();
        assert!(!left("100"), "the oldest one goes");
        assert!(left("101/share"), "it goes on");
        assert!(left("102") && !left("102/share"), "only its logs stay");
        drop(running);
        // A process that another test is just starting may still have the lock.
        while left("101") {
            tidy(&runs).unwrap();
        }
        fs::remove_dir_all(runs).unwrap();
    }
}
