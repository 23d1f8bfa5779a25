// SPDX-License-Identifier: GPL-2.0

//! Statistics of a virtqueue, as `vdpa dev vstats show` prints them.

use super::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::c_int,
    prelude::*, //
};

/// The part of a netlink message that holds the statistics of a virtqueue.
///
/// # Invariants
///
/// `msg` is a valid netlink message that is being composed, by nobody else.
pub struct Stats<'c> {
    msg: NonNull<bindings::sk_buff>,
    _borrows: PhantomData<&'c mut bindings::sk_buff>,
}

impl Stats<'_> {
    /// Wraps a netlink message.
    ///
    /// # Safety
    ///
    /// `msg` is NULL or a valid netlink message, which is used by nobody else for the lifetime.
    pub(crate) unsafe fn from_raw(msg: *mut bindings::sk_buff) -> Result<Self> {
        // INVARIANT: By the safety requirement.
        Ok(Self {
            msg: NonNull::new(msg).ok_or(EINVAL)?,
            _borrows: PhantomData,
        })
    }

    /// Adds a number and its name.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` if the message is full.
    pub fn put(&mut self, name: &CStr, value: u64) -> Result {
        let name = name.to_bytes_with_nul();

        // SAFETY: By the type invariant. The attributes are copied.
        to_result(unsafe {
            bindings::nla_put(
                self.msg.as_ptr(),
                attribute(bindings::vdpa_attr_VDPA_ATTR_DEV_VENDOR_ATTR_NAME)?,
                c_int::try_from(name.len())?,
                name.as_ptr().cast(),
            )
        })?;
        // SAFETY: As above.
        to_result(unsafe {
            bindings::nla_put_64bit(
                self.msg.as_ptr(),
                attribute(bindings::vdpa_attr_VDPA_ATTR_DEV_VENDOR_ATTR_VALUE)?,
                c_int::try_from(size_of::<u64>())?,
                core::ptr::from_ref(&value).cast(),
                attribute(bindings::vdpa_attr_VDPA_ATTR_PAD)?,
            )
        })
    }
}

/// Returns the number of an attribute in the type that netlink wants.
fn attribute(number: bindings::vdpa_attr) -> Result<c_int> {
    Ok(c_int::try_from(number)?)
}
