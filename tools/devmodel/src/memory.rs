// SPDX-License-Identifier: GPL-2.0

//! The memory that the function reaches: what the emulator has mapped for it, and nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context as _, Result, ensure};
use vm_memory::iommu::{Error, IotlbIterator, IovaRange};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, Iommu, IommuMemory, Iotlb,
    MmapRegion, Permissions,
};

/// The distance from one file to the next in the address space behind the mappings.
const STRIDE: u64 = 1 << 40;

/// The mappings, from addresses of the function to places in files.
#[derive(Debug, Default)]
pub struct Mappings {
    table: RwLock<Iotlb>,
    /// Accesses to what is not mapped, or not like that.
    refused: AtomicU64,
}

impl Mappings {
    fn change(&self) -> RwLockWriteGuard<'_, Iotlb> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, iova: GuestAddress, length: usize) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Error::CannotResolve {
            iova_range: IovaRange { base: iova, length },
            reason: "nothing is mapped there".to_owned(),
        }
    }
}

impl Iommu for Mappings {
    type IotlbGuard<'a> = RwLockReadGuard<'a, Iotlb>;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<Self::IotlbGuard<'_>>, Error> {
        let end = u64::try_from(length)
            .ok()
            .and_then(|length| iova.0.checked_add(length));
        if length == 0 || end.is_none() {
            return Err(self.refuse(iova, length));
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Iotlb::lookup(table, iova, length, access).map_err(|_| self.refuse(iova, length))
    }
}

/// The memory as the function sees it.
pub type Reach = IommuMemory<GuestMemoryMmap, Mappings>;

/// All that is mapped.
pub struct Memory {
    reach: Reach,
    /// Where each file begins, by device and inode: the emulator hands the same file over and over.
    files: HashMap<(u64, u64), u64>,
}

impl Memory {
    /// No memory.
    pub fn new() -> Self {
        Self {
            reach: IommuMemory::new(GuestMemoryMmap::new(), Mappings::default(), true, ()),
            files: HashMap::new(),
        }
    }

    /// The memory as the function sees it.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Maps a part of a file.
    pub fn map(
        &mut self,
        address: u64,
        length: u64,
        file: File,
        offset: u64,
        access: Permissions,
    ) -> Result<()> {
        ensure!(
            length != 0 && address.checked_add(length).is_some(),
            "a mapping at {address:#x} of {length:#x} bytes"
        );
        let place = self.file(file)? + offset;
        let size = usize::try_from(length)?;
        self.reach.iommu().change().set_mapping(
            GuestAddress(address),
            GuestAddress(place),
            size,
            access,
        )?;
        Ok(())
    }

    /// Where a file begins behind the mappings. It is mapped as a whole, and stays so.
    fn file(&mut self, file: File) -> Result<u64> {
        let about = file.metadata()?;
        let key = (about.dev(), about.ino());
        if let Some(start) = self.files.get(&key) {
            return Ok(*start);
        }
        let start = STRIDE * (self.files.len() as u64 + 1);
        let length = usize::try_from(about.len())?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), length)?;
        let region = GuestRegionMmap::new(region, GuestAddress(start)).context("its end wraps")?;
        let backend = self.reach.get_backend().insert_region(Arc::new(region))?;
        self.reach = self.reach.with_replaced_backend(backend);
        self.files.insert(key, start);
        Ok(start)
    }

    /// Unmaps what lies in a range; without one, all.
    pub fn unmap(&mut self, range: Option<(u64, u64)>) {
        let mut table = self.reach.iommu().change();
        let Some((address, length)) = range else {
            return table.invalidate_all();
        };
        let length = length.min(u64::MAX - address);
        if let Ok(size @ 1..) = usize::try_from(length) {
            table.invalidate_mapping(GuestAddress(address), size);
        }
    }

    /// Counts anew.
    pub fn forget_refused(&self) {
        self.reach.iommu().refused.store(0, Ordering::Relaxed);
    }

    /// The number of accesses to what was not mapped.
    pub fn refused(&self) -> u64 {
        self.reach.iommu().refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub mod tests {
    use vm_memory::Bytes;
    use vmm_sys_util::tempfile::TempFile;

    use super::*;

    /// Memory with `length` bytes mapped at `address`.
    pub fn memory(address: u64, length: u64) -> Memory {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(length).unwrap();
        let mut memory = Memory::new();
        memory
            .map(address, length, file, 0, Permissions::ReadWrite)
            .unwrap();
        memory
    }

    #[test]
    fn only_what_is_mapped_is_reached() {
        let mut memory = memory(0x10_0000, 0x2000);
        let reach = memory.reach();
        assert!(reach.write_obj(7_u32, GuestAddress(0x10_1ffc)).is_ok());
        assert_eq!(reach.read_obj::<u32>(GuestAddress(0x10_1ffc)).unwrap(), 7);
        assert!(reach.write_obj(7_u32, GuestAddress(0x10_1ffe)).is_err());
        assert!(reach.read_obj::<u32>(GuestAddress(u64::MAX)).is_err());
        assert_eq!(memory.refused(), 2);
        memory.unmap(Some((0, 1 << 47)));
        assert!(
            memory
                .reach()
                .read_obj::<u32>(GuestAddress(0x10_0000))
                .is_err()
        );
    }

    #[test]
    fn permissions_count() {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(0x1000).unwrap();
        let mut memory = Memory::new();
        let other = file.try_clone().unwrap();
        memory.map(0, 0x1000, file, 0, Permissions::Read).unwrap();
        memory
            .map(0x4000, 0x1000, other, 0, Permissions::ReadWrite)
            .unwrap();
        let reach = memory.reach();
        assert!(reach.write_obj(1_u8, GuestAddress(0)).is_err());
        reach.write_obj(5_u8, GuestAddress(0x4000)).unwrap();
        assert_eq!(reach.read_obj::<u8>(GuestAddress(0)).unwrap(), 5);
    }
}
