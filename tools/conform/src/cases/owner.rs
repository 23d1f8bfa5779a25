// SPDX-License-Identifier: GPL-2.0

//! Who may use a device.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use vdpa_user::ioctl;
use vdpa_user::memory;
use vdpa_user::port::Setup;

use crate::bench::Live;
use crate::case::{Case, Target, Verdict, fail, pass, source, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "owner-1",
        title: "a device is opened once",
        demands: "a second open fails with EBUSY while the device is open, and does not disturb who has it",
        source: source::UAPI,
        run: opened_once,
    },
    Case {
        id: "owner-2",
        title: "a device has one owner",
        demands: "VHOST_SET_OWNER fails if there is one already",
        source: source::UAPI,
        run: owned_once,
    },
    Case {
        id: "owner-3",
        title: "queues belong to the owner",
        demands: "queues cannot be set up before there is an owner",
        source: source::UAPI,
        run: owner_first,
    },
    Case {
        id: "owner-4",
        title: "a device that was closed while it ran is free",
        demands: "whoever opens the device next can use it, ten times in a row",
        source: source::UAPI,
        run: one_after_the_other,
    },
    Case {
        id: "owner-5",
        title: "what is no request fails",
        demands: "a request that there is not fails with ENOTTY or ENOIOCTLCMD's user-space form, and does no harm",
        source: "ioctl(2)",
        run: no_request,
    },
    Case {
        id: "owner-6",
        title: "who has the open file is not the owner",
        demands: "another process that got the open file can neither set up queues (EPERM) nor change mappings (EFAULT, as any message that fails)",
        source: "drivers/vhost/vhost.c, vhost_dev_check_owner and vhost_chr_write_iter",
        run: strangers,
    },
    Case {
        id: "owner-7",
        title: "a process that is killed leaves a device that is free",
        demands: "whoever opens the device next finds it reset, and can use it",
        source: source::UAPI,
        run: killed,
    },
];

fn opened_once(target: &Target) -> Result<Verdict> {
    let mut first = Live::open(target)?;
    for _ in 0..5 {
        first.work(5)?;
        let Err(error) = target.open() else {
            return fail("it was opened twice");
        };
        let errno = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error);
        if errno.map(Errno::from_raw) != Some(Errno::EBUSY) {
            return fail(format!("{error:#}"));
        }
    }
    first.work(5)?;
    pass("EBUSY, 5 times, with requests in between")
}

fn owned_once(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    device.own()?;
    match device.own() {
        Ok(()) => fail("it can be owned twice"),
        Err(error) => pass(format!("{error:#}")),
    }
}

/// What another process sees that has the open file, as its standard input, but is not the owner.
pub fn as_stranger() -> Result<Vec<String>> {
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let size = ioctl::state(&file, ioctl::VHOST_SET_VRING_NUM(), 0, 16);
    let enabled = ioctl::state(&file, ioctl::VHOST_VDPA_SET_VRING_ENABLE(), 0, 1);
    // A message of version 2: the first page of the memory is to go.
    let mut message = Vec::new();
    message.extend(2_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    for word in [memory::BASE, 4096, 0] {
        message.extend(word.to_ne_bytes());
    }
    // VHOST_ACCESS_RW, VHOST_IOTLB_INVALIDATE.
    message.extend([3, 3]);
    message.resize(72, 0);
    let unmapped = (&file)
        .write(&message)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
    Ok(vec![
        format!("size: {:?}", size.err()),
        format!("enabling: {:?}", enabled.err()),
        format!("unmapping: {:?}", unmapped.err()),
    ])
}

fn strangers(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(5)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("stranger")
        .stdin(Stdio::from(live.device.as_fd().try_clone_to_owned()?))
        .output()
        .context("starting another process")?;
    ensure!(
        output.status.success(),
        "another process ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let seen: Vec<&str> = text.lines().collect();
    live.work(5)?;
    verdict(
        seen == [
            "size: Some(EPERM)",
            "enabling: Some(EPERM)",
            "unmapping: Some(EFAULT)",
        ],
        seen.join(", "),
    )
}

/// Brings the device up, gives it work, says so, and waits for its end.
pub fn to_be_killed(target: &Target) -> Result<()> {
    let mut live = Live::open(target)?;
    live.work(5)?;
    live.offer(4)?;
    println!("live");
    loop {
        sleep(Duration::from_secs(1));
    }
}

fn killed(target: &Target) -> Result<Verdict> {
    const TIMES: u32 = 3;
    // What nobody here can drive is no case for another process, either.
    Live::open(target)?.work(5)?;
    for round in 0..TIMES {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("victim")
            .arg(&target.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting another process")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        child.kill()?;
        child.wait()?;
        ensure!(line == "live\n", "another process could not use the device");
        let device = target
            .claim()
            .with_context(|| format!("after process {round}"))?;
        let shown = device.status()?;
        if shown != 0 {
            return fail(format!("the next one finds {shown:#x}"));
        }
        Live::start(device, Setup::default())?
            .work(5)
            .with_context(|| format!("after process {round}"))?;
    }
    pass(format!("{TIMES} times, with requests to do"))
}

fn owner_first(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let result = ioctl::state(&device, ioctl::VHOST_SET_VRING_NUM(), 0, 16);
    verdict(result == Err(Errno::EPERM), format!("{result:?}"))
}

fn one_after_the_other(target: &Target) -> Result<Verdict> {
    for _ in 0..10 {
        Live::open(target)?.work(5)?;
    }
    pass("10 owners, 5 requests each")
}

fn no_request(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    let result = ioctl::state(&live.device, ioctl::NOT_A_REQUEST(), 0, 0);
    live.work(5)?;
    verdict(
        matches!(result, Err(Errno::ENOTTY | Errno::EINVAL)),
        format!("{result:?}"),
    )
}
