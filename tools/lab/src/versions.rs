// SPDX-License-Identifier: GPL-2.0
//! The pinned versions, read from `tools/versions`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// `KEY=value` pairs of `tools/versions`.
pub struct Versions(BTreeMap<String, String>);

impl Versions {
    /// Reads the file; lines that start with `#` are comments.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let pairs = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        Self(pairs.collect())
    }

    /// The value of `key`; its absence is an error that names the file.
    pub fn get(&self, key: &str) -> Result<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .with_context(|| format!("tools/versions has no {key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_pairs() {
        let versions = Versions::parse("# A=1\nB=2\n\nC = x y\n");
        assert!(versions.get("A").is_err());
        assert_eq!(versions.get("B").unwrap(), "2");
        assert_eq!(versions.get("C").unwrap(), "x y");
    }
}
