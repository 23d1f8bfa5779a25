// SPDX-License-Identifier: GPL-2.0

//! What a vDPA device is called.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};
use serde::Serialize;

/// The name of a vDPA device: one that can be a folder in sysfs and a word in a shell.
///
/// The kernel takes almost anything, and a `/` in it ends as a `!` in sysfs; this tool makes only
/// devices that it can find again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(String);

/// Longest name in bytes: far below what sysfs and netlink take, and far above what fits a table.
const LONGEST: usize = 63;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        ensure!(!text.is_empty(), "a device needs a name");
        ensure!(
            text.len() <= LONGEST,
            "the name {text:?} has more than {LONGEST} characters"
        );
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
        ensure!(
            text.chars().all(fits) && !text.starts_with(['.', '-']),
            "the name {text:?} is not made of letters, digits and ._-+@ alone, or begins with . or -"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_a_path() {
        assert_eq!("vm7-net0".parse::<Name>().unwrap().as_str(), "vm7-net0");
        for text in [
            "",
            ".",
            "..",
            "-f",
            "a/b",
            "a b",
            "a\0",
            "ü",
            &"x".repeat(64),
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }
}
