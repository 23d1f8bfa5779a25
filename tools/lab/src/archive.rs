// SPDX-License-Identifier: GPL-2.0
//! An initramfs: a cpio archive of the `newc` format, written without touching the disk.

use std::fs;

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;
const LINK: u32 = 0o120_000;

/// The archive under construction.
pub struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    /// An archive with the console and the directory for programs.
    pub fn new() -> Self {
        let mut archive = Self {
            bytes: Vec::new(),
            count: 0,
        };
        archive.directory("bin");
        archive.directory("dev");
        archive.entry("dev/console", CHARACTER | 0o600, (5, 1), b"");
        archive
    }

    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), b"");
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, REGULAR | mode, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds the statically linked busybox.
    pub fn busybox(&mut self) -> Result<()> {
        let data = fs::read("/usr/bin/busybox").context("reading busybox of the sysroot")?;
        self.file("bin/busybox", 0o755, &data);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.count += 1;
        let fields = [
            self.count,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(data.len()).unwrap_or(u32::MAX),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
    }

    fn align(&mut self) {
        while self.bytes.len() % 4 != 0 {
            self.bytes.push(0);
        }
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_reads_it() {
        let mut archive = Archive::new();
        archive.file("init", 0o755, b"#!/bin/sh\n");
        archive.link("bin/sh", "busybox");
        let mut cpio = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&archive.finish())
            .unwrap();
        let listed = cpio.wait_with_output().unwrap();
        assert!(listed.status.success());
        let listed = String::from_utf8(listed.stdout).unwrap();
        let ends = ["bin", "dev", "dev/console", "init", "bin/sh -> busybox"];
        assert_eq!(listed.lines().count(), ends.len());
        for (line, end) in listed.lines().zip(ends) {
            assert!(line.ends_with(&format!(" {end}")), "{line}");
        }
    }
}
