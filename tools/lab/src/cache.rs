// SPDX-License-Identifier: GPL-2.0
//! The cache outside the checkout: directories keyed by what they were made from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::step;

/// File that exists in an entry once the entry is complete.
const STAMP: &str = ".complete";

/// Digest of everything that an entry is made from.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds one input. Its length is hashed too, so that inputs cannot run into each other.
    pub fn add(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update(input.len().to_string());
        self.0.update(":");
        self.0.update(input);
        self
    }

    /// The key in a form that fits a file name.
    pub fn name(self) -> String {
        let mut name = String::new();
        for byte in self.0.finalize().iter().take(6) {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// An advisory lock, held until it is dropped.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

impl Lock {
    fn try_on(file: File) -> Result<Option<Self>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn on(file: File) -> Result<Self> {
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// Locks a directory as long as somebody uses it.
    pub fn directory(dir: &Path) -> Result<Self> {
        Self::on(File::open(dir)?)
    }

    /// The same, unless somebody uses it already.
    pub fn try_directory(dir: &Path) -> Result<Option<Self>> {
        Self::try_on(File::open(dir)?)
    }
}

/// The cache directory.
pub struct Cache {
    root: PathBuf,
    /// Shared by everybody who uses the cache.
    users: File,
}

impl Cache {
    /// A cache in `root`, which is created when needed.
    pub fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("log"))
            .with_context(|| format!("creating {}", root.display()))?;
        let path = root.join("users.lock");
        let users = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        flock(&users, FlockOperation::LockShared)?;
        Ok(Self { root, users })
    }

    /// A path inside the cache.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The log file of a step.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    /// Takes the lock called `name` unless another run holds it.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        Lock::try_on(self.lock_file(name)?)
    }

    /// Takes the lock called `name`, and says what it waits for when another run holds it.
    pub fn lock(&self, name: &str, waiting: &str) -> Result<Lock> {
        if let Some(lock) = self.try_lock(name)? {
            return Ok(lock);
        }
        step::aloud(|| eprintln!("waiting for another run: {waiting}"));
        Lock::on(self.lock_file(name)?)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path(&format!("{name}.lock"));
        File::create(&path).with_context(|| format!("creating {}", path.display()))
    }

    /// The directory `name-key`, made by `make` unless it is complete already.
    ///
    /// It is made in place, because a kernel tree remembers where it was configured. What an
    /// interrupted run left has no stamp and is removed first.
    pub fn entry(
        &self,
        name: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.path(&format!("{name}-{key}"));
        let stamp = dir.join(STAMP);
        if stamp.exists() {
            return Ok(dir);
        }
        let _lock = self.lock(name, &format!("it makes {}", dir.display()))?;
        if stamp.exists() {
            return Ok(dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .with_context(|| format!("removing the incomplete {}", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        make(&dir)?;
        File::create(&stamp)?.sync_all()?;
        Ok(dir)
    }

    /// Removes everything that the lab put into the cache, except the sysroot it runs in.
    pub fn clean(&self) -> Result<()> {
        match flock(&self.users, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                bail!("another run uses the cache: try again when it is over")
            }
            Err(error) => return Err(error.into()),
        }
        for item in fs::read_dir(&self.root)? {
            let item = item?;
            let name = item.file_name();
            let name = name.to_string_lossy();
            let keep =
                name.starts_with("sysroot") || name.ends_with(".lock") || name.ends_with(".pem");
            if keep {
                continue;
            }
            if item.file_type()?.is_dir() {
                fs::remove_dir_all(item.path())?;
            } else {
                fs::remove_file(item.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("lab-cache-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn keys_tell_inputs_apart() {
        let one = Key::default().add("ab").add("c").name();
        let two = Key::default().add("a").add("bc").name();
        assert_ne!(one, two);
        assert_eq!(one, Key::default().add("ab").add("c").name());
        assert_eq!(one.len(), 12);
    }

    #[test]
    fn a_cache_in_use_is_not_cleaned() {
        let root = scratch("used");
        let (ours, theirs) = (Cache::new(root.clone()), Cache::new(root.clone()));
        let ours = ours.unwrap();
        fs::write(ours.path("thing"), "").unwrap();
        assert!(ours.clean().is_err());
        assert!(ours.path("thing").exists());
        drop(theirs);
        // A process that another test is just starting may still have the lock.
        while ours.clean().is_err() {}
        assert!(!ours.path("thing").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_interrupted_entry_is_made_again() {
        let root = scratch("again");
        let cache = Cache::new(root.clone()).unwrap();
        let failed = cache.entry("thing", "k", |dir| {
            fs::write(dir.join("half"), "")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let dir = cache
            .entry("thing", "k", |dir| {
                assert!(!dir.join("half").exists());
                Ok(fs::write(dir.join("whole"), "")?)
            })
            .unwrap();
        assert!(dir.join("whole").exists());
        cache.entry("thing", "k", |_| panic!("made twice")).unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
