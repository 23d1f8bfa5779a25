// SPDX-License-Identifier: GPL-2.0
//! Where a machine hangs: the stacks of the tasks that wait, and of what its processors do.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::vm::Vm;

/// Time that the machine may take to print them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Has the kernel print the stacks, by way of the machine's shell: the agent waits for the case.
pub fn take(vm: &mut Vm) -> Result<Vec<String>> {
    let nonce = vm.agent.nonce();
    let mut shell = vm.shell()?;
    let mut command = String::from("\n");
    for (text, file) in [
        (format!("vf-lab: begin stacks {nonce}"), "/dev/kmsg"),
        ("w".to_owned(), "/proc/sysrq-trigger"),
        ("l".to_owned(), "/proc/sysrq-trigger"),
        (format!("vf-lab: end stacks {nonce}"), "/dev/kmsg"),
    ] {
        command.push_str(&format!("echo {text} >{file}; "));
    }
    command.push('\n');
    shell
        .write_all(command.as_bytes())
        .context("typing at the machine's shell")?;
    vm.console.settle(&nonce, PATIENCE * Context::slowness());
    Ok(vm.console.during(&nonce))
}

/// One line for each task that waits for the kernel.
pub fn blocked(stacks: &[String]) -> Vec<String> {
    stacks
        .iter()
        .filter_map(|line| line.split_once("task:")?.1.split_once(" state:D"))
        .map(|(name, _)| format!("blocked in the kernel: {}", name.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_wait_are_named() {
        let stacks = [
            "[   70.1] sysrq: Show Blocked State",
            "[   70.2] task:vdpa            state:D stack:0     pid:512   tgid:512   ppid:500",
            "[   70.3] Call Trace:",
            "[   70.4]  __schedule+0x3f1/0xb10",
            "[   70.5] task:kworker/u8:2    state:D stack:0     pid:48    tgid:48    ppid:2",
        ]
        .map(str::to_owned);
        assert_eq!(
            blocked(&stacks),
            [
                "blocked in the kernel: vdpa",
                "blocked in the kernel: kworker/u8:2"
            ]
        );
    }
}
