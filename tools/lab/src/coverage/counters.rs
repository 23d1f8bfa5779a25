// SPDX-License-Identifier: GPL-2.0
//! The counters that came out of the machine.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

/// More counters than a module can have: a broken line must not become a huge vector.
const MOST: usize = 1 << 20;

/// How often everything that is counted was executed, for each module, over all cases.
#[derive(Debug, Default)]
pub struct Counters {
    modules: BTreeMap<String, Vec<u64>>,
    cases: BTreeSet<String>,
}

impl Counters {
    /// Adds what `case` says in `line`: the module's name, and then pairs of a length and as many equal
    /// counters.
    pub fn add(&mut self, case: &str, line: &str) -> Result<()> {
        let (module, lengths) = line
            .split_once(' ')
            .context("there is no counter behind the module's name")?;
        let more = expand(lengths)?;
        let sums = self
            .modules
            .entry(module.to_owned())
            .or_insert_with(|| vec![0; more.len()]);
        ensure!(
            sums.len() == more.len(),
            "{module} had {} counters before and has {} now",
            sums.len(),
            more.len()
        );
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum = sum.saturating_add(more);
        }
        self.cases.insert(case.to_owned());
        Ok(())
    }

    /// The sums of `module`; nothing when no case has told them.
    pub fn of(&self, module: &str) -> Option<&[u64]> {
        self.modules.get(module).map(Vec::as_slice)
    }

    /// Whether counters came from the case.
    pub fn came_from(&self, case: &str) -> bool {
        self.cases.contains(case)
    }
}

fn expand(lengths: &str) -> Result<Vec<u64>> {
    let mut numbers = lengths.split_whitespace();
    let mut counters = Vec::new();
    while let Some(length) = numbers.next() {
        let length: usize = length
            .parse()
            .with_context(|| format!("`{length}` is no length"))?;
        let counter = numbers.next().context("the last counter is missing")?;
        let counter: u64 = counter
            .parse()
            .with_context(|| format!("`{counter}` is no counter"))?;
        ensure!(length <= MOST - counters.len(), "too many counters");
        counters.resize(counters.len() + length, counter);
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cases_say_is_summed() {
        let mut counters = Counters::default();
        counters.add("a/b", "m 1 0 2 7 ").unwrap();
        counters
            .add("a/c", &format!("m 1 1 1 0 1 {}", u64::MAX))
            .unwrap();
        counters.add("a/c", "n 1 3").unwrap();
        assert_eq!(counters.of("m"), Some([1, 7, u64::MAX].as_slice()));
        assert_eq!(counters.of("n"), Some([3].as_slice()));
        assert_eq!(counters.of("o"), None);
        assert!(counters.came_from("a/c") && !counters.came_from("a/d"));
    }

    #[test]
    fn a_broken_line_is_refused_and_changes_nothing() {
        let mut counters = Counters::default();
        counters.add("a/b", "m 2 5").unwrap();
        for line in ["m", "m 1", "m 1 0", "m 3 0", "m 1 x", "m x 1"] {
            assert!(counters.add("a/c", line).is_err(), "{line}");
        }
        assert_eq!(counters.of("m"), Some([5, 5].as_slice()));
        assert!(!counters.came_from("a/c"));
        assert_eq!(expand("1048575 1 1 2").unwrap().len(), MOST);
        assert!(expand("1048575 1 2 2").is_err());
    }
}
