// SPDX-License-Identifier: GPL-2.0

//! Waiting with a limit. The limits are long: the lab emulates a machine on a busy host.

#![allow(unsafe_code, reason = "the events of vmm-sys-util lend no descriptor")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vmm_sys_util::eventfd::EventFd;

/// How long nothing may happen before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > PATIENCE {
            bail!("gave up waiting for {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Waits until one of the events fires or `limit` has passed; says whether one did.
pub fn any(events: &[&EventFd], limit: Duration) -> Result<bool> {
    let mut polled: Vec<PollFd<'_>> = events
        .iter()
        .map(|event| {
            // SAFETY: The event outlives this call, and its descriptor with it.
            let fd = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
            PollFd::new(fd, PollFlags::POLLIN)
        })
        .collect();
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
