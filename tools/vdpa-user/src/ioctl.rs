// SPDX-License-Identifier: GPL-2.0

//! Raw requests, for everything a well-behaved program would not send.
//!
//! The crate `vhost` carries the ordinary life of a device; its typed calls cannot say the wrong
//! thing, which is the point of the tests here.

#![allow(unsafe_code, reason = "raw requests are the purpose of this file")]

use std::os::fd::AsRawFd;
use std::os::raw::{c_uint, c_ulong};

use nix::errno::Errno;
use vhost::vhost_kern::vhost_binding as binding;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_val};

pub use binding::{
    VHOST_GET_FEATURES, VHOST_GET_VRING_BASE, VHOST_SET_BACKEND_FEATURES, VHOST_SET_FEATURES,
    VHOST_SET_LOG_BASE, VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE, VHOST_SET_VRING_CALL,
    VHOST_SET_VRING_ERR, VHOST_SET_VRING_KICK, VHOST_SET_VRING_NUM, VHOST_VDPA_GET_AS_NUM,
    VHOST_VDPA_GET_CONFIG, VHOST_VDPA_GET_GROUP_NUM, VHOST_VDPA_GET_STATUS,
    VHOST_VDPA_GET_VRING_GROUP, VHOST_VDPA_SET_CONFIG, VHOST_VDPA_SET_CONFIG_CALL,
    VHOST_VDPA_SET_GROUP_ASID, VHOST_VDPA_SET_STATUS, VHOST_VDPA_SET_VRING_ENABLE,
    VHOST_VDPA_SUSPEND,
};

pub use missing::*;

/// What the crate does not name yet (`include/uapi/linux/vhost.h`).
mod missing {
    #![allow(missing_docs, reason = "each is a request of the header")]

    use vhost::vhost_kern::vhost_binding::{VHOST, vhost_vring_state};

    vmm_sys_util::ioctl_io_nr!(VHOST_VDPA_RESUME, VHOST, 0x7e);
    vmm_sys_util::ioctl_iowr_nr!(
        VHOST_VDPA_GET_VRING_DESC_GROUP,
        VHOST,
        0x7f,
        vhost_vring_state
    );
    vmm_sys_util::ioctl_iowr_nr!(VHOST_VDPA_GET_VRING_SIZE, VHOST, 0x82, vhost_vring_state);
    vmm_sys_util::ioctl_io_nr!(NOT_A_REQUEST, VHOST, 0xee);
}

/// Bytes of an [`Argument`]; no request used here reads or writes more.
pub const ARGUMENT: usize = 1 << 16;

/// The memory a request's pointer points to: larger than any request needs, so that no argument
/// makes the kernel write outside of it.
pub struct Argument(Box<[u8; ARGUMENT]>);

impl Argument {
    /// An argument that starts with `words` of 32 bits.
    pub fn words(words: &[u32]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Self::bytes(&bytes)
    }

    /// An argument that starts with a 64-bit number.
    pub fn long(value: u64) -> Self {
        Self::bytes(&value.to_ne_bytes())
    }

    /// An argument that starts with `bytes`.
    pub fn bytes(bytes: &[u8]) -> Self {
        let mut whole = Box::new([0; ARGUMENT]);
        whole[..bytes.len()].copy_from_slice(bytes);
        Self(whole)
    }

    /// A `struct vhost_vring_addr`.
    pub fn addresses(index: u32, flags: u32, desc: u64, used: u64, avail: u64) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        for address in [desc, used, avail, 0] {
            bytes.extend(address.to_ne_bytes());
        }
        Self::bytes(&bytes)
    }

    /// The 32-bit word at `position`, counted in words.
    pub fn word(&self, position: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.0[4 * position..4 * position + 4]);
        u32::from_ne_bytes(word)
    }

    /// The bytes from `start` on.
    pub fn tail(&self, start: usize) -> &[u8] {
        &self.0[start..]
    }
}

/// Sends `request` with a pointer to `argument`.
pub fn send(fd: &impl AsRawFd, request: c_ulong, argument: &mut Argument) -> Result<(), Errno> {
    // SAFETY: Every request sent through here takes a pointer to at most `ARGUMENT` bytes: fixed
    // structures of at most 40, and configuration accesses that the kernel bounds by the size of
    // the configuration space, which `Device` checks to be smaller.
    let result = unsafe { ioctl_with_mut_ref(fd, request, &mut *argument.0) };
    Errno::result(result).map(drop)
}

/// Sends `request` without an argument, or with a pointer that points nowhere.
pub fn send_null(fd: &impl AsRawFd, request: c_ulong) -> Result<(), Errno> {
    // SAFETY: Nothing is mapped at address 0 in this process, so the kernel can only refuse.
    let result = unsafe { ioctl_with_val(fd, request, 0) };
    Errno::result(result).map(drop)
}

/// Sends a `struct vhost_vring_state`, or one of two 32-bit words like it; gives the second word.
pub fn state(fd: &impl AsRawFd, request: c_ulong, index: u32, num: u32) -> Result<u32, Errno> {
    let mut argument = Argument::words(&[index, num]);
    send(fd, request, &mut argument)?;
    Ok(argument.word(1))
}

/// The number of `request`, without direction and size, for messages.
pub fn number(request: c_ulong) -> c_uint {
    c_uint::try_from(request & 0xff).unwrap_or(0)
}
