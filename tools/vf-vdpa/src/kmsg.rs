// SPDX-License-Identifier: GPL-2.0

//! What the kernel's log says after a mark: the driver gives its reasons there alone.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::pci::Address;

/// The kernel's log from a mark on. Without the right to read it, it has nothing to say.
pub struct Kmsg {
    file: Option<File>,
}

/// Longest record that the kernel hands out, with what belongs to it (`PRINTK_MESSAGE_MAX`).
const LONGEST: usize = 8192;

impl Kmsg {
    /// Sets the mark.
    pub fn mark(path: &Path) -> Self {
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path);
        let file = open.ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            Some(file)
        });
        Self { file }
    }

    /// What has been said of a function since.
    pub fn about(&mut self, address: Address) -> Vec<String> {
        let mut said = Vec::new();
        let Some(file) = &mut self.file else {
            return said;
        };
        let mut buffer = vec![0; LONGEST];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return said,
                Ok(length) => {
                    let record = buffer.get(..length).unwrap_or_default();
                    said.extend(about(&String::from_utf8_lossy(record), address));
                }
                // Records were overwritten before they were read; the next read goes on.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return said,
            }
        }
    }
}

/// What a record says of a function, if it does: `6,339,5140900,-;vf_vdpa 0000:01:00.1: text`, and
/// then lines with the device's name, which begin with a blank.
fn about(record: &str, address: Address) -> Option<String> {
    let (_, text) = record.split_once(';')?;
    let line = text.lines().next()?;
    let said = line.strip_prefix(&format!("vf_vdpa {address}: "))?;
    Some(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_the_function_is_taken() {
        let address: Address = "01:00.1".parse().unwrap();
        let record = "3,339,5140900,-;vf_vdpa 0000:01:00.1: dev add refused: why\n SUBSYSTEM=pci\n";
        assert_eq!(
            about(record, address).as_deref(),
            Some("dev add refused: why")
        );
        let other: Address = "01:00.2".parse().unwrap();
        assert_eq!(about(record, other), None);
        assert_eq!(about("vf_vdpa 0000:01:00.1: no record", address), None);
    }

    #[test]
    fn without_a_log_nothing_is_said() {
        let mut none = Kmsg::mark(Path::new("/nowhere/kmsg"));
        assert!(none.about("01:00.1".parse().unwrap()).is_empty());
    }
}
