// SPDX-License-Identifier: GPL-2.0
//! The page of what was executed and what was not.

use std::fmt::Write as _;

use serde::Serialize;

use super::lines::FileCoverage;
use crate::report::Report;

/// All that a run has found.
#[derive(Serialize)]
pub struct Findings<'a> {
    /// The cases that were run.
    pub report: &'a Report,
    /// How many more were selected.
    pub unrun: usize,
    /// Of those that were run, those of which no counters came.
    pub silent: Vec<String>,
    /// The modules, in the machine. Nothing when no case for it was selected.
    pub modules: Option<Vec<FileCoverage>>,
    /// The pure crate, on the host. Nothing when that was not selected.
    pub host: Option<Vec<FileCoverage>>,
}

impl Findings<'_> {
    /// As a page.
    pub fn page(&self) -> String {
        let origin = &self.report.origin;
        let linux = origin.kernel.as_ref();
        let linux = linux.map_or_else(String::new, |release| format!(", with Linux {release}"));
        let mut page = format!(
            "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
             # What the tests execute\n\n\
             Lines that hold code, and those of them that were executed at least once; see [testing.md](testing.md#coverage).\n\
             Written by `{}` at commit {}{linux}. {}.\n",
            origin.command,
            origin.commit.as_deref().unwrap_or("unknown"),
            self.report.sum(),
        );
        // Writing to a string cannot fail.
        if self.unrun != 0 {
            let _ = writeln!(
                page,
                "\n**No machine could be had any more: {} of the selected cases were not run.**",
                self.unrun
            );
        }
        if let Some(files) = &self.modules {
            page.push_str(
                "\n## The modules, in the kernel\n\n\
                 Both modules, over all cases. Code that only another kernel or another machine would reach is among what is not\n\
                 covered, and so is what was executed after the counters were read: while a module goes, or the machine.\n",
            );
            if !self.silent.is_empty() {
                let _ = writeln!(
                    page,
                    "No counters came from these cases, which load no module, or take the machine down with it: {}.",
                    self.silent.join(", ")
                );
            }
            tables(&mut page, files);
        }
        if let Some(files) = &self.host {
            page.push_str(
                "\n## The crate virtio, on the host\n\n\
                 Its own unit and property tests, without a kernel.\n",
            );
            tables(&mut page, files);
        }
        page
    }
}

fn tables(page: &mut String, files: &[FileCoverage]) {
    let total = |of: fn(&FileCoverage) -> usize| files.iter().map(of).sum::<usize>();
    let (lines, covered) = (total(|file| file.lines), total(|file| file.covered));
    page.push_str("\n| File | Lines | Covered | |\n|---|--:|--:|--:|\n");
    // Writing to a string cannot fail.
    for file in files {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            file.file.display(),
            file.lines,
            file.covered,
            percent(file.covered, file.lines)
        );
    }
    let _ = writeln!(
        page,
        "| **all** | **{lines}** | **{covered}** | **{}** |",
        percent(covered, lines)
    );
    page.push_str("\nNot covered:\n\n");
    for file in files.iter().filter(|file| !file.uncovered.is_empty()) {
        let _ = writeln!(page, "- {}: {}", file.file.display(), file.ranges());
    }
    if lines == covered {
        page.push_str("- nothing\n");
    }
}

/// Tenths of a percent, rounded down: 100 % is all.
pub fn percent(part: usize, whole: usize) -> String {
    let tenths = (part * 1000).checked_div(whole).unwrap_or(1000);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ktap::Verdict;
    use crate::report::Origin;

    #[test]
    fn only_all_is_a_hundred_percent() {
        assert_eq!(percent(9999, 10000), "99.9 %");
        assert_eq!(percent(3, 3), "100.0 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "100.0 %");
    }

    #[test]
    fn the_page_says_where_it_comes_from_and_what_is_missing() {
        let file = |name: &str, covered, uncovered| FileCoverage {
            file: name.into(),
            lines: 4,
            covered,
            uncovered,
        };
        let mut report = Report::new(Origin {
            command: "tools/bootstrap coverage a".into(),
            commit: Some("abc".into()),
            kernel: Some("7.3.4".into()),
            ..Origin::default()
        });
        report.add("a/b", Duration::ZERO, &Verdict::Passed, None);
        let mut findings = Findings {
            report: &report,
            unrun: 2,
            silent: vec!["a/b".into()],
            modules: Some(vec![
                file("drivers/x.rs", 4, vec![]),
                file("rust/y.rs", 1, vec![(2, 4)]),
            ]),
            host: None,
        };
        let page = findings.page();
        for text in [
            "`tools/bootstrap coverage a` at commit abc, with Linux 7.3.4. 1 passed, 0 failed, 0 skipped.",
            "2 of the selected",
            "with it: a/b.",
            "| drivers/x.rs | 4 | 4 | 100.0 % |",
            "| rust/y.rs | 4 | 1 | 25.0 % |",
            "| **all** | **8** | **5** | **62.5 %** |",
            "Not covered:\n\n- rust/y.rs: 2–4\n",
        ] {
            assert!(page.contains(text), "{text} is not in:\n{page}");
        }
        assert!(!page.contains("on the host"), "{page}");
        findings.host = findings.modules.take();
        let page = findings.page();
        assert!(page.contains("on the host") && !page.contains("in the kernel"));
    }
}
