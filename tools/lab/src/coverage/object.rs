// SPDX-License-Identifier: GPL-2.0
//! A module that counts, and the profile that its counters make: what LLVM's runtime would write, if the
//! kernel had it.
//!
//! The format is `InstrProfData.inc` of LLVM. A raw profile is a header, a record for each function, all
//! counters, and the names of the functions; the latter two are found through the former.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};

/// First bytes: `\xfflprofr\x81`, as a number.
const MAGIC: u64 = 0xff6c_7072_6f66_7281;
/// The version of the format, that of LLVM 19. The tools of another LLVM refuse it, and say so: then
/// `InstrProfData.inc` says what has changed.
const VERSION: u64 = 10;
/// The last kind of values that can be profiled besides. Rust profiles none.
const LAST_KIND: u64 = 2;
/// Length of a function's record, and where it says how far away its counters are.
const RECORD: usize = 64;
const COUNTERS_AT: usize = 16;
const COUNTER: usize = 8;

/// What a profile takes from the module.
#[derive(Debug)]
pub struct Module {
    records: Vec<u8>,
    names: Vec<u8>,
    counters: usize,
}

impl Module {
    /// Reads a module's file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} as a module that counts", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes)?;
        let section = |name: &str| {
            file.section_by_name(name)
                .with_context(|| format!("it has no section {name}"))
        };
        let (records, counters) = (section("__llvm_prf_data")?, section("__llvm_prf_cnts")?);
        let mut module = Self {
            records: records.data()?.to_vec(),
            names: section("__llvm_prf_names")?.data()?.to_vec(),
            counters: usize::try_from(counters.size())? / COUNTER,
        };
        for (at, relocation) in records.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                bail!("a record refers to no symbol");
            };
            let symbol = file.symbol_by_index(index)?;
            ensure!(
                symbol.section_index() == Some(counters.index()),
                "a record refers to {}, which is no counter",
                symbol.name().unwrap_or("something without a name")
            );
            let target = symbol.address().wrapping_add_signed(relocation.addend());
            module.relocate(usize::try_from(at)?, target)?;
        }
        Ok(module)
    }

    /// Has the field at `at` say how far away `target` is, a place among the counters. Both sections are taken
    /// to begin at the same address.
    fn relocate(&mut self, at: usize, target: u64) -> Result<()> {
        ensure!(
            at % RECORD == COUNTERS_AT,
            "records have the layout of another LLVM: a reference at {at}"
        );
        let field = self
            .records
            .get_mut(at..at + COUNTER)
            .context("a reference behind the records")?;
        let distance = target.wrapping_sub(u64::try_from(at)?);
        field.copy_from_slice(&distance.to_le_bytes());
        Ok(())
    }

    /// How many counters it has.
    pub fn counters(&self) -> usize {
        self.counters
    }

    /// The profile of a module that has counted `counters`.
    pub fn profile(&self, counters: &[u64]) -> Result<Vec<u8>> {
        ensure!(
            counters.len() == self.counters,
            "the module has {} counters and the machine told {}",
            self.counters,
            counters.len()
        );
        let number = |length: usize| u64::try_from(length).context("a section too long");
        let header = [
            MAGIC,
            VERSION,
            0, // length of the build's ids
            number(self.records.len() / RECORD)?,
            0, // padding
            number(counters.len())?,
            0, // padding
            0, // length of bitmaps, which are for branch conditions
            0, // padding
            number(self.names.len())?,
            0, // from the first record to the first counter: see relocate()
            0, // the same for bitmaps
            0, // address of the names
            0, // virtual tables
            0, // length of their names
            LAST_KIND,
        ];
        let mut profile = Vec::new();
        profile.extend(header.iter().flat_map(|field| field.to_le_bytes()));
        profile.extend_from_slice(&self.records);
        profile.extend(counters.iter().flat_map(|counter| counter.to_le_bytes()));
        profile.extend_from_slice(&self.names);
        profile.resize(profile.len().next_multiple_of(COUNTER), 0);
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module() -> Module {
        Module {
            records: vec![0xee; 2 * RECORD],
            names: b"names".to_vec(),
            counters: 3,
        }
    }

    #[test]
    fn a_profile_is_what_llvm_reads() {
        let profile = module().profile(&[1, 2, 3]).unwrap();
        let words: Vec<u64> = profile
            .chunks(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(profile[..8], *b"\x81rforpl\xff");
        assert_eq!(words[1..16], [10, 0, 2, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 2]);
        assert_eq!(words[16], 0xeeee_eeee_eeee_eeee);
        assert_eq!(words[32..35], [1, 2, 3]);
        assert_eq!(profile[35 * 8..], *b"names\0\0\0");
        assert!(module().profile(&[1, 2]).is_err(), "of another build");
    }

    #[test]
    fn a_record_says_how_far_away_its_counters_are() {
        let mut module = module();
        // The linker's value: the counter's place, and the 16 bytes between the record and the reference.
        module.relocate(RECORD + COUNTERS_AT, 8 + 16).unwrap();
        let field = &module.records[RECORD + COUNTERS_AT..][..8];
        assert_eq!(field, (-56_i64).to_le_bytes());
        assert!(module.relocate(RECORD, 0).is_err(), "no such field");
        assert!(module.relocate(2 * RECORD + COUNTERS_AT, 0).is_err());
    }

    #[test]
    fn a_module_that_does_not_count_is_told() {
        let own = fs::read("/proc/self/exe").unwrap();
        let error = Module::parse(&own).unwrap_err().to_string();
        assert!(error.contains("__llvm_prf_data"), "{error}");
    }
}
