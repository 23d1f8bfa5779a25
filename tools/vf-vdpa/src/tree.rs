// SPDX-License-Identifier: GPL-2.0

//! The file systems in which the kernel shows itself, below a root that tests can choose.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A root folder with `sys`, `proc`, `boot` and `lib` in it.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where `path`, which is written without a leading slash, is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a file without the blanks around it, `None` if there is no such file, or nobody
    /// is let read it, or it has nothing to say.
    ///
    /// A device may go away at any moment, and then its files answer with all sorts of errors; to
    /// whoever looks at it that is the same as not being there.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The number in a file, decimal or with `0x`.
    pub fn number(&self, path: &str) -> Option<u64> {
        let text = self.text(path)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// The last part of what a link points to.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether something is there.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, in order; none if there is no such folder.
    pub fn names(&self, path: &str) -> Vec<String> {
        self.try_names(path).unwrap_or_default()
    }

    /// The names in a folder, in order, or why they cannot be had.
    pub fn try_names(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            // What goes away while it is listed is not there.
            let Ok(entry) = entry else { continue };
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Writes to a file that is there.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.path(path);
        let result = fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|mut open| io::Write::write_all(&mut open, text.as_bytes()));
        result
            .map_err(cure)
            .with_context(|| format!("writing {:?} to {}", text.trim_end(), file.display()))
    }
}

/// The error with what to do about it, where that is always the same.
fn cure(error: io::Error) -> anyhow::Error {
    let kind = error.kind();
    let error = anyhow::Error::new(error);
    match kind {
        ErrorKind::PermissionDenied => error.context("this needs root"),
        ErrorKind::ReadOnlyFilesystem => {
            error.context("/sys is read-only here: do it on the host, not in a container")
        }
        _ => error,
    }
}
