// SPDX-License-Identifier: GPL-2.0

//! Access to memory that lies in pieces.

use super::{
    bindings,
    guest_memory::Fault, //
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::barrier::{
        smp_mb,
        Full, //
    }, //
};

/// Says where in the machine's memory the bytes of a consumer are.
///
/// # Safety
///
/// If the kernel has a page for a physical address that is returned, the page does not go away, nor do
/// the others of the bytes that are returned with it, for as long as `self` is borrowed; and for
/// `write` they may be written to.
pub(crate) unsafe trait Translate {
    /// Returns the physical address of `addr`, if it may be read, or written, and the number of bytes
    /// that follow each other from there.
    fn translate(&self, addr: u64, write: bool) -> Option<(u64, u64)>;
}

/// Calls `access` with the memory of each part of a range that lies in one page.
///
/// `access` is given the address of the part, which is mapped during the call, its length, and its
/// offset in the range. Others may change the memory meanwhile. Any context.
fn for_each_part(
    memory: &impl Translate,
    addr: u64,
    len: usize,
    write: bool,
    mut access: impl FnMut(*mut u8, usize, usize),
) -> Result<(), Fault> {
    let mut done = 0;

    while let Some(left) = len.checked_sub(done).filter(|left| *left != 0) {
        let fault = Fault { addr };
        let at = u64::try_from(done)
            .ok()
            .and_then(|done| addr.checked_add(done))
            .ok_or(fault)?;
        let (pa, contiguous) = memory.translate(at, write).ok_or(fault)?;
        let in_page = usize::try_from(pa).map_err(|_| fault)? & (PAGE_SIZE - 1);
        let part = left
            .min(PAGE_SIZE - in_page)
            .min(usize::try_from(contiguous).unwrap_or(usize::MAX));
        let pfn = usize::try_from(pa >> PAGE_SHIFT).map_err(|_| fault)?;

        // SAFETY: Any number will do.
        if !unsafe { bindings::vdpa_pfn_valid(pfn) } {
            return Err(fault);
        }
        // SAFETY: The page exists, and stays by the requirement of `Translate`.
        let page = unsafe { bindings::vdpa_kmap_local_pfn(pfn) }.cast::<u8>();
        // `part` ends within the page.
        access(page.wrapping_add(in_page), part, done);
        // SAFETY: It was mapped above, by the same thread, and nothing was mapped since: `access`
        // only copies.
        unsafe { bindings::vdpa_kunmap_local(page.cast()) };
        done = done.saturating_add(part);
    }
    Ok(())
}

/// Calls `access` with the address of a 16-bit number.
fn with_index(
    memory: &impl Translate,
    addr: u64,
    write: bool,
    mut access: impl FnMut(*mut u16),
) -> Result<(), Fault> {
    // An aligned number does not cross a page.
    if addr % 2 != 0 {
        return Err(Fault { addr });
    }
    let mut whole = false;
    for_each_part(memory, addr, 2, write, |ptr, len, _| {
        let ptr = ptr.cast::<u16>();
        if len == 2 && ptr.is_aligned() {
            whole = true;
            access(ptr);
        }
    })?;
    if !whole {
        return Err(Fault { addr });
    }
    Ok(())
}

/// Copies the bytes at `addr` to `buf`.
pub(crate) fn read(memory: &impl Translate, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
    for_each_part(memory, addr, buf.len(), false, |ptr, len, offset| {
        if let Some(to) = buf.get_mut(offset..).and_then(|rest| rest.get_mut(..len)) {
            // SAFETY: Both are valid for `len` bytes, and do not overlap, as `buf` is the kernel's.
            // This is a function of C: if somebody writes at the same time, the bytes are
            // arbitrary, but that is all.
            unsafe { bindings::memcpy(to.as_mut_ptr().cast(), ptr.cast(), len) };
        }
    })
}

/// Copies `buf` to the bytes at `addr`.
pub(crate) fn write(memory: &impl Translate, addr: u64, buf: &[u8]) -> Result<(), Fault> {
    for_each_part(memory, addr, buf.len(), true, |ptr, len, offset| {
        if let Some(from) = buf.get(offset..).and_then(|rest| rest.get(..len)) {
            // SAFETY: As in `read`.
            unsafe { bindings::memcpy(ptr.cast(), from.as_ptr().cast(), len) };
        }
    })
}

/// Orders all accesses before against all after.
pub(crate) fn full_barrier() {
    smp_mb(Full);
}

/// Loads a 16-bit number, and all that is accessed after it afterwards.
pub(crate) fn read_index(memory: &impl Translate, addr: u64) -> Result<u16, Fault> {
    let mut index = 0;
    with_index(memory, addr, false, |ptr| {
        // SAFETY: `ptr` is valid and aligned. Others write it by single accesses, too.
        index = u16::from_le(unsafe { ptr.read_volatile() });
    })?;
    full_barrier();
    Ok(index)
}

/// Stores a 16-bit number, after all that was accessed before.
pub(crate) fn write_index(memory: &impl Translate, addr: u64, index: u16) -> Result<(), Fault> {
    full_barrier();
    with_index(memory, addr, true, |ptr| {
        // SAFETY: `ptr` is valid and aligned. Others read it by single accesses, too.
        unsafe { ptr.write_volatile(index.to_le()) };
    })
}
