// SPDX-License-Identifier: GPL-2.0

//! Which processes have a character device open.

use std::collections::BTreeMap;
use std::fs;
use std::os::linux::fs::MetadataExt;

use serde::Serialize;

use crate::tree::Tree;

/// A process that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Opener {
    /// Its number.
    pub pid: u32,
    /// What it calls itself.
    pub command: String,
}

/// Everybody who has something open, as far as one is let see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openers {
    of: BTreeMap<String, Vec<Opener>>,
    /// Whether all processes could be looked at.
    pub complete: bool,
}

impl Openers {
    /// Looks for those that have one of these devices open: names below `/dev`, each with its
    /// number as sysfs writes it (`243:0`).
    pub fn read(tree: &Tree, nodes: &[(String, Option<String>)]) -> Self {
        let mut this = Self {
            of: BTreeMap::new(),
            complete: true,
        };
        if nodes.is_empty() {
            return this;
        }
        for process in tree.names("proc") {
            let Ok(pid) = process.parse() else { continue };
            let at = format!("proc/{process}/fd");
            let descriptors = match tree.try_names(&at) {
                Ok(descriptors) => descriptors,
                Err(error) => {
                    // A process that is over has nothing open.
                    this.complete &= error.kind() != std::io::ErrorKind::PermissionDenied;
                    continue;
                }
            };
            for descriptor in descriptors {
                let Some(node) = matching(tree, &format!("{at}/{descriptor}"), nodes) else {
                    continue;
                };
                let command = tree.text(&format!("proc/{process}/comm"));
                let opener = Opener {
                    pid,
                    command: command.unwrap_or_else(|| "?".to_owned()),
                };
                let all = this.of.entry(node).or_default();
                if all.last() != Some(&opener) {
                    all.push(opener);
                }
            }
        }
        this
    }

    /// Those that have `/dev/` + `node` open.
    pub fn of(&self, node: &str) -> Vec<Opener> {
        self.of.get(node).cloned().unwrap_or_default()
    }
}

/// Which of the nodes the descriptor is. The path alone does not tell: a container may have the
/// device under another name.
fn matching(tree: &Tree, descriptor: &str, nodes: &[(String, Option<String>)]) -> Option<String> {
    let target = fs::read_link(tree.path(descriptor)).ok()?;
    let hit = nodes
        .iter()
        .find(|(node, _)| target.as_os_str() == format!("/dev/{node}").as_str());
    if let Some((node, _)) = hit {
        return Some(node.clone());
    }
    if !target.starts_with("/dev") {
        return None;
    }
    let number = fs::metadata(tree.path(descriptor)).ok()?.st_rdev();
    let number = format!(
        "{}:{}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    let hit = nodes
        .iter()
        .find(|(_, known)| known.as_ref() == Some(&number));
    hit.map(|(node, _)| node.clone())
}
