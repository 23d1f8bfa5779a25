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

/// The most that the time between two looks counts. A machine may stand still for longer, for its host
/// or its emulator: what is waited for stands still with it.
const LOOK: Duration = Duration::from_secs(1);

/// How much of [`PATIENCE`] is left.
pub struct Patience {
    spent: Duration,
    last: Instant,
}

impl Patience {
    /// All of it, from `now` on.
    pub fn new(now: Instant) -> Self {
        Self {
            spent: Duration::ZERO,
            last: now,
        }
    }

    /// Whether it has ended, after another look in vain.
    pub fn has_ended(&mut self, now: Instant) -> bool {
        self.spent += now.saturating_duration_since(self.last).min(LOOK);
        self.last = now;
        self.spent > PATIENCE
    }
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut patience = Patience::new(Instant::now());
    while !condition()? {
        if patience.has_ended(Instant::now()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let step = Duration::from_millis(200);
        let end = (1..1000).find(|looks| patience.has_ended(start + step * *looks));
        assert_eq!(end, Some(151));
    }

    #[test]
    fn a_machine_that_stands_still_costs_one_look() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        assert!(!patience.has_ended(start + PATIENCE * 3));
        assert!(!patience.has_ended(start + PATIENCE * 6));
        assert_eq!(patience.spent, LOOK * 2);
    }
}
