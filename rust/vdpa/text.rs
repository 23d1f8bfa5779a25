// SPDX-License-Identifier: GPL-2.0

//! Text of crates that do not know the kernel.

use kernel::fmt;

/// Lets the log macros print a value that has [`core::fmt::Display`] only.
///
/// The kernel crate has a trait of its own for that, which the crate `virtio` cannot name.
pub struct Text<T>(pub T);

impl<T: core::fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
