// SPDX-License-Identifier: GPL-2.0

//! The program from outside, on a made-up host: what it says, and with which status it ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// A host with one virtio function, 01:00.0, which `vf_vdpa` has, and which carries nothing.
fn host() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let function = "sys/bus/pci/devices/0000:01:00.0";
    let driver = "sys/bus/pci/drivers/vf_vdpa";
    for (path, text) in [
        ("run/x", ""),
        (&format!("{function}/vendor"), "0x1af4\n"),
        (&format!("{function}/device"), "0x1041\n"),
        (&format!("{function}/subsystem_device"), "0x1100\n"),
        (&format!("{function}/driver_override"), "vf_vdpa\n"),
        (&format!("{driver}/unbind"), ""),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    symlink(root.join(driver), root.join(format!("{function}/driver"))).unwrap();
    folder
}

fn run(root: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vf-vdpa"))
        .arg("--root")
        .arg(root)
        .args(line.split(' '))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_done_is_shown_first() {
    let host = host();
    let output = run(host.path(), "down 01:00.0");
    let expected = "\
Plan:
  1. take 0000:01:00.0 from vf_vdpa
  2. let any driver have 0000:01:00.0
  1/2 done take 0000:01:00.0 from vf_vdpa
  2/2 done let any driver have 0000:01:00.0
";
    // No colours, as this is no terminal.
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    let unbind = host.path().join("sys/bus/pci/drivers/vf_vdpa/unbind");
    assert_eq!(fs::read_to_string(unbind).unwrap(), "0000:01:00.0");
}

#[test]
fn a_dry_run_changes_nothing() {
    let host = host();
    let output = run(host.path(), "down --all --dry-run --json");
    assert_eq!(output.status.code(), Some(0));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["steps"][0]["action"], "unbind");
    let unbind = host.path().join("sys/bus/pci/drivers/vf_vdpa/unbind");
    assert_eq!(fs::read_to_string(unbind).unwrap(), "");
    assert!(!host.path().join("run/vf-vdpa.lock").exists());
}

#[test]
fn what_fails_says_what_was_not_begun() {
    let host = host();
    fs::remove_file(host.path().join("sys/bus/pci/drivers/vf_vdpa/unbind")).unwrap();
    let output = run(host.path(), "down 01:00.0");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("1/2 failed take 0000:01:00.0"), "{said}");
    assert!(said.contains("not begun: let any driver"), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
}

#[test]
fn what_cannot_be_has_a_status_of_its_own() {
    let host = host();
    for (line, status, what) in [
        (
            "down 09:00.0",
            2,
            "impossible: there is no virtio function 0000:09:00.0",
        ),
        ("down c0", 1, "refused: there is no device c0"),
        ("apply /nowhere.toml", 2, "/nowhere.toml: No such file"),
        ("up 01:00.0 --name a --bus oops", 2, "invalid value 'oops'"),
    ] {
        let output = run(host.path(), line);
        assert_eq!(output.status.code(), Some(status), "{line}");
        let said = text(&output.stderr);
        assert!(said.contains(what), "{said}");
    }
    fs::write(host.path().join("empty.toml"), "").unwrap();
    let file = host.path().join("empty.toml");
    let output = run(host.path(), &format!("apply {}", file.display()));
    assert_eq!(text(&output.stdout), "nothing to do\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn anybody_may_look() {
    let host = host();
    let output = run(host.path(), "list --json");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["functions"][0]["address"], "0000:01:00.0");
    assert_eq!(list["functions"][0]["driver"], "vf_vdpa");
    assert_eq!(output.status.code(), Some(0));
    let output = run(host.path(), "completion bash");
    assert!(text(&output.stdout).contains("complete -F"));
}
