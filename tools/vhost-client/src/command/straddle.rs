// SPDX-License-Identifier: GPL-2.0

//! One mapping of pages that lie together in memory, and of which two page tables of an IOMMU's tell.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::memory::{self, Memory};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Bytes of which one page table tells, of those tables that know single pages.
const TABLE: u64 = 2 << 20;

/// What names a page frame in an entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const FRAME: u64 = (1 << 55) - 1;

/// Maps two pages that lie together, one on each side of a border between page tables, and takes them away.
pub fn run(report: &mut Report, path: &Path) -> Result<()> {
    let mut device = Device::open_with(path, PAGE)?;
    device.claim()?;
    let memory = Memory::new(memory::SIZE)?;
    let pages = neighbours(&memory)?;
    let iova = memory::BASE.next_multiple_of(TABLE) + 2 * TABLE - PAGE;

    device.map_at(iova, 2 * PAGE, pages)?;
    report.ok("two pages are mapped across page tables");
    device.unmap(iova, 2 * PAGE)?;
    report.ok("they are taken away");
    Ok(())
}

/// Finds two pages that lie together: the kernel maps those at once.
fn neighbours(memory: &Memory) -> Result<*const u8> {
    // They are there once something is written.
    memory.clear()?;
    let start = memory.host_address()?;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut entries = vec![0; usize::try_from(memory.size() / PAGE * 8)?];
    pagemap.read_exact_at(&mut entries, u64::try_from(start.addr())? / PAGE * 8)?;
    let frames: Vec<u64> = entries
        .chunks_exact(8)
        .map(|entry| Ok(u64::from_ne_bytes(entry.try_into()?) & FRAME))
        .collect::<Result<_>>()?;

    ensure!(
        frames.iter().all(|frame| *frame != 0),
        "the kernel names no page frames: run as root"
    );
    let first = frames
        .windows(2)
        .position(|pair| matches!(pair, &[one, next] if next == one + 1))
        .context("no two pages lie together")?;
    Ok(start.wrapping_add(first * usize::try_from(PAGE)?))
}
