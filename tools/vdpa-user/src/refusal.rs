// SPDX-License-Identifier: GPL-2.0

//! What a refusal means.

use std::error;
use std::fmt;

use anyhow::Error;
use nix::errno::Errno;

use crate::device::status;

/// A status that a device does not show although it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShown {
    /// What was set.
    pub wanted: u8,
    /// What is shown.
    pub shown: u8,
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, shown } = self;
        write!(f, "the status is {shown:#x} after {wanted:#x} was set")
    }
}

impl error::Error for NotShown {}

/// Addresses of a queue that were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses(pub u16);

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(index) = self;
        write!(f, "addresses of queue {index}")
    }
}

/// Whether an error number says that there is no such thing, and not that it has gone wrong.
pub fn is_absent(errno: Errno) -> bool {
    // ENOTSUPP, 524, has no name in user space, and the kernel lets it out here and there: `nix` keeps
    // nothing of such a number.
    matches!(
        errno,
        Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENOSYS | Errno::UnknownErrno
    )
}

/// What the kernel has said, if it was asked.
pub fn errno(error: &Error) -> Option<Errno> {
    if let Some(errno) = error.downcast_ref::<Errno>() {
        return Some(*errno);
    }
    // The crate `vhost` keeps what the kernel has said to itself.
    error.chain().find_map(|cause| {
        let said = match cause.downcast_ref::<vhost::Error>() {
            Some(vhost::Error::IoctlError(said)) => Some(said),
            _ => cause.downcast_ref::<std::io::Error>(),
        };
        said.and_then(std::io::Error::raw_os_error)
            .map(Errno::from_raw)
    })
}

/// Whether a request failed as the device does not offer what it is about.
pub fn is_not_offered(error: &Error) -> bool {
    errno(error).is_some_and(is_absent)
}

/// Whether a device was set up, and then refused to run as it was.
pub fn is_refusal_to_run(error: &Error) -> bool {
    error
        .downcast_ref::<NotShown>()
        .is_some_and(|refusal| refusal.wanted & status::DRIVER_OK != 0)
}

/// Whether a device has refused memory of a queue: when it was told the addresses, or when it was
/// to use them.
pub fn is_refusal_of_memory(error: &Error, queue: u16) -> bool {
    error.downcast_ref::<Addresses>() == Some(&Addresses(queue)) || is_refusal_to_run(error)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn failed(errno: Errno) -> Error {
        Err::<(), _>(errno).context("base of queue 0").unwrap_err()
    }

    #[test]
    fn only_what_there_is_not_is_not_offered() {
        assert!(is_not_offered(&failed(Errno::EOPNOTSUPP)));
        assert!(is_not_offered(&failed(Errno::ENOTTY)));
        for errno in [Errno::EINVAL, Errno::EIO, Errno::EBUSY, Errno::EPERM] {
            assert!(!is_not_offered(&failed(errno)), "{errno}");
        }
        assert!(!is_not_offered(&anyhow::anyhow!("the queue is full")));
        let of_vhost = |number| {
            let said = std::io::Error::from_raw_os_error(number);
            Error::new(vhost::Error::IoctlError(said)).context("VHOST_VDPA_SUSPEND")
        };
        // EOPNOTSUPP, ENOTSUPP, EIO.
        assert!(is_not_offered(&of_vhost(95)));
        assert!(is_not_offered(&of_vhost(524)));
        assert!(!is_not_offered(&of_vhost(5)));
    }

    #[test]
    fn a_refusal_to_run_comes_after_the_features() {
        let refusal = |wanted| {
            let shown = 0x40;
            is_refusal_to_run(&Error::new(NotShown { wanted, shown }).context("somewhere"))
        };
        assert!(refusal(0xf));
        assert!(!refusal(0xb));
        assert!(!is_refusal_to_run(&failed(Errno::EINVAL)));
    }

    #[test]
    fn memory_is_refused_for_the_queue_that_has_it() {
        let addresses = Error::new(Errno::EINVAL).context(Addresses(2));
        assert!(is_refusal_of_memory(&addresses, 2));
        assert!(!is_refusal_of_memory(&addresses, 1));
        assert!(!is_refusal_of_memory(&failed(Errno::EINVAL), 0));
    }
}
