// SPDX-License-Identifier: GPL-2.0
//! The kernel's log as the serial console shows it: which lines belong to which case, and which are bad.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the kernel prints when something is wrong. A case in which one of these appears has failed.
const BAD: [&str; 38] = [
    "WARNING:",
    "BUG:",
    "BUG kmalloc-",
    "page allocation failure",
    "Oops",
    "general protection fault",
    "Unable to handle",
    "unable to handle",
    "Call Trace:",
    "invalid opcode",
    "stack segment:",
    "Kernel panic",
    "rust_kernel: panicked",
    "refcount_t:",
    "possible recursive locking",
    "possible circular locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "INFO: trying to register",
    "sleeping function called",
    "scheduling while atomic",
    "list_add corruption",
    "list_del corruption",
    "KASAN:",
    "UBSAN:",
    "KCSAN:",
    "kmemleak:",
    "DMA-API:",
    "rcu: INFO:",
    "blocked for more than",
    "nobody cared",
    "unregister_netdevice: waiting",
    "NETDEV WATCHDOG",
    "debugfs: ",
    "DMAR: [DMA",
    "DMAR: DRHD: handling fault",
    "VT-d detected Invalidation",
    "Modules linked in:",
];

/// What those who look for mistakes say of themselves when they begin.
const HARMLESS: [&str; 4] = [
    "DMA-API: preallocated ",
    "DMA-API: debugging enabled ",
    "kmemleak: Kernel memory leak detector initialized",
    "kmemleak: Automatic memory scanning thread started",
];

/// The log file of one boot.
pub struct Console {
    path: PathBuf,
}

impl Console {
    /// The log at `path`, which may not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Where the log is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Waits a short while for the line that ends the command `nonce`: the log travels by another way
    /// than the command's output.
    pub fn settle(&self, nonce: &str, patience: Duration) {
        let began = Instant::now();
        while began.elapsed() < patience
            && !self.text().lines().any(|line| is_mark(line, "end", nonce))
        {
            sleep(Duration::from_millis(20));
        }
    }

    /// Lines printed while the command `nonce` ran; to the end of the log when it did not end.
    pub fn during(&self, nonce: &str) -> Vec<String> {
        during(&self.text(), nonce)
    }

    /// Lines printed between the end of the command before `nonce`, or of nothing, and the begin of `nonce`.
    pub fn before(&self, nonce: &str) -> Vec<String> {
        before(&self.text(), nonce)
    }

    /// Lines printed before any command ran.
    pub fn boot(&self) -> Vec<String> {
        self.text()
            .lines()
            .take_while(|line| !line.contains("vf-lab: begin "))
            .map(str::to_owned)
            .collect()
    }

    /// Why the machine ended while the kernel printed `lines`: the first bad one of them, because
    /// what a crash prints last says nothing about it; else the last line of all.
    pub fn last_words(&self, lines: &[String], allowed: &[String]) -> String {
        match bad(lines, allowed).first() {
            Some(line) => line.trim().to_owned(),
            None => format!("its last line: {}", self.last_line()),
        }
    }

    /// The last line that is not one of the lab's own marks.
    pub fn last_line(&self) -> String {
        last_line(&self.text()).to_owned()
    }
}

/// The last line that is not one of the lab's own marks.
fn last_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !line.contains("vf-lab: "))
        .unwrap_or("(nothing)")
}

fn is_mark(line: &str, kind: &str, nonce: &str) -> bool {
    line.split_once("vf-lab: ").is_some_and(|(_, mark)| {
        let mut words = mark.split_whitespace();
        words.next() == Some(kind) && words.nth(1) == Some(nonce)
    })
}

fn during(text: &str, nonce: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| !is_mark(line, "begin", nonce))
        .skip(1)
        .take_while(|line| !is_mark(line, "end", nonce))
        .map(str::to_owned)
        .collect()
}

fn before(text: &str, nonce: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text
        .lines()
        .take_while(|line| !is_mark(line, "begin", nonce))
    {
        if line.contains("vf-lab: end ") {
            lines.clear();
        } else {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The bad lines among `lines`, except those that contain one of `allowed`.
pub fn bad<'a>(lines: &'a [String], allowed: &[String]) -> Vec<&'a str> {
    lines
        .iter()
        .map(String::as_str)
        .filter(|line| BAD.iter().any(|word| line.contains(word)))
        .filter(|line| !HARMLESS.iter().any(|word| line.contains(word)))
        .filter(|line| !allowed.iter().any(|word| line.contains(word.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from a machine in which a case wrote a warning, and another one crashed the kernel.
    const LOG: &str = include_str!("../testdata/console.log");

    #[test]
    fn a_line_belongs_to_the_case_it_appeared_in() {
        assert!(bad(&during(LOG, "n1"), &[]).is_empty());
        assert_eq!(bad(&during(LOG, "n2"), &[]).len(), 1);
        assert!(
            bad(&during(LOG, "n3"), &[])
                .iter()
                .any(|line| line.contains("sysrq triggered crash"))
        );
    }

    #[test]
    fn a_line_before_a_case_belongs_to_it() {
        let log = "BUG: boot\nvf-lab: begin a/b n1\nBUG: 1\nvf-lab: end a/b n1\nBUG: 2\n\
                   vf-lab: begin a/c n2\nvf-lab: end a/c n2\nBUG: 3\n";
        assert_eq!(before(log, "n1"), ["BUG: boot"], "each boot is judged");
        assert_eq!(before(log, "n2"), ["BUG: 2"]);
        assert_eq!(before(log, "n3"), ["BUG: 3"], "after the last one");
    }

    #[test]
    fn who_looks_for_mistakes_may_say_so() {
        let said = |line: &str| bad(&[line.to_owned()], &[]).len();
        assert_eq!(
            said("kmemleak: Automatic memory scanning thread started"),
            0
        );
        assert_eq!(said("DMA-API: preallocated 65536 debug entries"), 0);
        assert_eq!(said("kmemleak: 2 new suspected memory leaks"), 1);
        assert_eq!(
            said("DMA-API: cacheline tracking EEXIST, overlapping mappings"),
            1
        );
    }

    #[test]
    fn an_allowed_line_is_not_bad() {
        assert!(bad(&during(LOG, "n2"), &["injected".to_owned()]).is_empty());
    }

    #[test]
    fn the_last_words_are_the_first_complaint() {
        let console = Console::new(Path::new("/nonexistent"));
        let lines = during(LOG, "n3");
        assert!(
            console
                .last_words(&lines, &[])
                .contains("sysrq triggered crash")
        );
        assert_eq!(console.last_words(&[], &[]), "its last line: (nothing)");
        assert_eq!(last_line("a\nb \n\n[ 1.0] vf-lab: begin a/b n1\n"), "b");
    }

    #[test]
    fn a_nonce_is_compared_whole() {
        assert!(is_mark("[ 1.0] vf-lab: end a/b n1", "end", "n1"));
        assert!(!is_mark("[ 1.0] vf-lab: end a/b n10", "end", "n1"));
        assert!(!is_mark("[ 1.0] vf-lab: begin a/b n1", "end", "n1"));
    }
}
