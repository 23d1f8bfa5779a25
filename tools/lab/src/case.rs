// SPDX-License-Identifier: GPL-2.0
//! The cases in `tools/cases`: which there are, what they ask for, which were selected.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use glob::Pattern;

use crate::consumers;

/// Limit of a case that does not ask for another one.
const LIMIT: Duration = Duration::from_secs(60);

/// What a run has that not every run has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Has {
    /// Time for what takes long.
    pub time: bool,
    /// A kernel that looks for mistakes.
    pub debug: bool,
}

/// One case of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Script without its extension.
    pub group: String,
    /// Function without `case_`.
    pub name: String,
    /// Time after which the machine is stopped.
    pub limit: Duration,
    /// Drivers the case applies to; empty means all.
    pub drivers: Vec<String>,
    /// What it needs: `guest`, `parents` and `consumers`, which have to be prepared; `time`, `hours` and `debug`,
    /// which it is only given if asked for.
    pub needs: Vec<String>,
    /// Kernel lines that contain one of these are expected.
    pub allowed: Vec<String>,
    /// Kernel lines with which the case takes the machine down; empty if it leaves it up.
    pub ends: Vec<String>,
    /// What the kernel's command line has besides: such a case gets a machine of its own.
    pub boot: Vec<String>,
}

/// What a case can need.
const NEEDS: [&str; 6] = ["guest", "parents", "consumers", "time", "hours", "debug"];

impl Case {
    /// `group/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Whether it runs when `selection` is asked for: what takes long, or needs a kernel that looks for
    /// mistakes, only by its name, unless there is `time`, or such a kernel.
    pub fn is_due(&self, selection: &Selection, has: Has) -> bool {
        let id = self.id();
        let given = self.needs.iter().all(|need| match need.as_str() {
            // What is seldom run is to be seen by the kernel that looks for mistakes.
            "time" => has.time || has.debug,
            "hours" => has.time,
            "debug" => has.debug,
            _ => true,
        });

        selection.has(&id) && (given || selection.names(&id))
    }

    /// Whether it needs `what`.
    pub fn needs(&self, what: &str) -> bool {
        self.needs.iter().any(|need| need == what)
    }

    /// Whether the case says something about `driver`.
    pub fn applies_to(&self, driver: &str) -> bool {
        self.drivers.is_empty() || self.drivers.iter().any(|name| name == driver)
    }
}

/// All cases below `dir`, in the order of the file names and then of the files.
pub fn all(dir: &Path) -> Result<Vec<Case>> {
    let mut scripts: Vec<_> = fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sh"))
        .collect();
    scripts.sort();
    let mut cases = Vec::new();
    for script in scripts {
        let group = script
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = fs::read_to_string(&script)?;
        cases.extend(parse(&group, &text).with_context(|| format!("in {}", script.display()))?);
    }
    Ok(cases)
}

fn parse(group: &str, text: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let blank = || Case {
        group: group.to_owned(),
        name: String::new(),
        limit: LIMIT,
        drivers: Vec::new(),
        needs: Vec::new(),
        allowed: Vec::new(),
        ends: Vec::new(),
        boot: Vec::new(),
    };
    let mut next = blank();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            attribute(&mut next, comment)?;
            continue;
        }
        let name = line
            .strip_prefix("case_")
            .and_then(|rest| rest.split_once("()"))
            .map(|(name, _)| name.trim());
        let mut case = std::mem::replace(&mut next, blank());
        if let Some(name) = name {
            case.name = name.to_owned();
            if case.needs("consumers") {
                case.boot.push(consumers::WORD.to_owned());
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

fn attribute(case: &mut Case, comment: &str) -> Result<()> {
    let Some((key, value)) = comment.trim().split_once(':') else {
        return Ok(());
    };
    let words = || value.split_whitespace().map(str::to_owned).collect();
    match key {
        "limit" => {
            let seconds = value
                .trim()
                .parse()
                .with_context(|| format!("limit `{}` is no number of seconds", value.trim()))?;
            case.limit = Duration::from_secs(seconds);
        }
        "drivers" => case.drivers = words(),
        "needs" => {
            case.needs = words();
            let odd = case
                .needs
                .iter()
                .find(|need| !NEEDS.contains(&need.as_str()));
            ensure!(
                odd.is_none(),
                "`needs: {}` says nothing",
                odd.map_or("", String::as_str)
            );
        }
        "allow" => case.allowed.push(value.trim().to_owned()),
        "boot" => case.boot = words(),
        "ends" => case.ends.push(value.trim().to_owned()),
        _ => {}
    }
    Ok(())
}

/// Which cases a run is about: shell patterns on `group/name`; a bare group means all of it.
pub struct Selection(Vec<Pattern>);

impl Selection {
    /// The selection that `words` spell; no words select everything.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut patterns = Vec::new();
        for word in words {
            let whole = if word.contains('/') {
                word.to_owned()
            } else {
                format!("{word}/*")
            };
            patterns.push(Pattern::new(&whole).with_context(|| format!("`{word}` is no pattern"))?);
        }
        Ok(Self(patterns))
    }

    /// Whether the case called `id` was selected.
    pub fn has(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(id))
    }

    /// Whether the case called `id` was selected by this name.
    pub fn names(&self, id: &str) -> bool {
        self.0.iter().any(|pattern| pattern.as_str() == id)
    }

    /// Fails when a pattern selects none of `ids`: a typing error must not pass as success.
    pub fn check(&self, ids: &[String]) -> Result<()> {
        for pattern in &self.0 {
            if !ids.iter().any(|id| pattern.matches(id)) {
                bail!("no case is called `{pattern}`; `tools/bootstrap check --list` shows all");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "# A group.\n. ./lib.sh\n\n# Says why.\n# limit: 120\n# drivers: vf_vdpa\n# needs: guest\n# allow: DMAR: [DMA\n# ends: reboot: now\n# boot: iommu=off quiet\ncase_one() {\n\tok a\n}\n\n# limit: 7\n\ncase_two() {\n}\nhelper() {\n}\n";

    #[test]
    fn attributes_belong_to_the_function_below() {
        let cases = parse("g", SCRIPT).unwrap();
        let ids: Vec<String> = cases.iter().map(Case::id).collect();
        assert_eq!(ids, ["g/one", "g/two"]);
        assert_eq!(cases[0].limit, Duration::from_secs(120));
        assert_eq!(cases[0].allowed, ["DMAR: [DMA"]);
        assert_eq!(cases[0].ends, ["reboot: now"]);
        assert_eq!(cases[0].boot, ["iommu=off", "quiet"]);
        assert!(cases[1].boot.is_empty());
        assert!(cases[0].applies_to("vf_vdpa") && !cases[0].applies_to("vp_vdpa"));
        assert_eq!(cases[1].limit, LIMIT, "a blank line ends the attributes");
        assert!(cases[1].applies_to("vp_vdpa"));
        assert!(parse("g", "# limit: soon\ncase_x() {\n").is_err());
        assert!(parse("g", "# needs: tims\ncase_x() {\n").is_err());
    }

    #[test]
    fn special_cases_run_by_name_or_when_there_is_what_they_need() {
        let cases = parse(
            "g",
            "# needs: guest hours\ncase_long() {\n}\ncase_short() {\n}\n# needs: debug\ncase_watched() {\n}\n# needs: time\ncase_seldom() {\n}\n",
        )
        .unwrap();
        let due = |words: &[&str], time| {
            let selection = Selection::new(words.iter().copied()).unwrap();
            let has = Has { time, debug: false };
            let due = cases.iter().filter(|case| case.is_due(&selection, has));
            due.map(|case| case.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(due(&[], false), ["short"]);
        assert_eq!(due(&["g"], false), ["short"]);
        assert_eq!(due(&["g/l*"], false), [""; 0]);
        assert_eq!(due(&["g/long"], false), ["long"]);
        assert_eq!(due(&[], true), ["long", "short", "seldom"]);
        assert_eq!(due(&["g/short"], true), ["short"]);
        assert_eq!(due(&["g/watched"], false), ["watched"]);
        let debug = Has {
            time: false,
            debug: true,
        };
        let all = Selection::new([]).unwrap();
        let due: Vec<bool> = cases.iter().map(|case| case.is_due(&all, debug)).collect();
        assert_eq!(due, [false, true, true, true]);
    }

    #[test]
    fn selection_is_by_group_or_pattern() {
        let selection = Selection::new(["mgmt", "removal/f*"]).unwrap();
        assert!(selection.has("mgmt/anything") && selection.has("removal/flr"));
        assert!(!selection.has("removal/rmmod"));
        assert!(selection.check(&["mgmt/a".into()]).is_err());
        assert!(
            selection
                .check(&["mgmt/a".into(), "removal/flr".into()])
                .is_ok()
        );
        assert!(Selection::new([]).unwrap().has("any/thing"));
    }

    /// A function of the shell that is defined anew takes the place of the first one for all of the file,
    /// without a word.
    #[test]
    fn no_function_hides_another() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
        assert_eq!(
            hidden("a() {\n}\nb() { # b WHAT\n}\na() {\n}\n", &[]),
            ["a"]
        );
        assert_eq!(hidden("a() {\n}\nb() {\n}\n", &["b".to_owned()]), ["b"]);
        let mut seen = 0;
        for script in fs::read_dir(&dir).unwrap() {
            let script = script.unwrap().path();
            let text = fs::read_to_string(&script).unwrap();
            let mut loaded = Vec::new();
            if !script.ends_with("lib.sh") {
                load(&dir, "lib", &mut loaded);
            }
            for name in loads(&text) {
                load(&dir, name, &mut loaded);
            }
            let hidden = hidden(&text, &loaded);
            assert!(hidden.is_empty(), "{}: {hidden:?}", script.display());
            seen += functions(&text).count();
        }
        assert!(seen > 200, "{seen} functions");
    }

    fn functions(text: &str) -> impl Iterator<Item = &str> {
        text.lines()
            .filter_map(|line| line.split_once("() {"))
            .map(|(name, _)| name)
            .filter(|name| !name.contains(char::is_whitespace))
    }

    fn loads(text: &str) -> impl Iterator<Item = &str> {
        text.lines()
            .filter_map(|line| line.strip_prefix(". \"$LAB/cases/"))
            .filter_map(|rest| rest.strip_suffix(".sh\""))
    }

    fn load(dir: &Path, name: &str, into: &mut Vec<String>) {
        let text = fs::read_to_string(dir.join(name).with_extension("sh")).unwrap();
        for name in loads(&text) {
            load(dir, name, into);
        }
        into.extend(functions(&text).map(str::to_owned));
    }

    fn hidden<'a>(text: &'a str, loaded: &[String]) -> Vec<&'a str> {
        let mut seen: Vec<&str> = loaded.iter().map(String::as_str).collect();
        let mut hidden = Vec::new();
        for name in functions(text) {
            if seen.contains(&name) {
                hidden.push(name);
            }
            seen.push(name);
        }
        hidden
    }

    /// What the documents name in code style: cases and files that there are.
    #[test]
    fn documents_name_what_exists() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut ids: Vec<String> = all(&top.join("tools/cases"))
            .unwrap()
            .iter()
            .map(Case::id)
            .collect();
        ids.extend(crate::check::names());
        ids.push(crate::run::BOOT.to_owned());
        let pages = fs::read_dir(top.join("Documentation"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .chain([top.join("README.md")]);
        // Other paths are the kernel's.
        let ours = ["rust/v", "tools/", "drivers/vdpa/vf_vdpa/", "samples/"];
        let mut seen = 0;
        for page in pages {
            let text = fs::read_to_string(&page).unwrap();
            for name in text
                .lines()
                .flat_map(|line| line.split('`').skip(1).step_by(2))
            {
                let Some((first, rest)) = name.split_once('/') else {
                    continue;
                };
                let plain = |c: char| c.is_ascii_alphanumeric() || "_-./*".contains(c);
                if rest.is_empty() || !name.chars().all(plain) {
                    continue;
                }
                if ids.iter().any(|id| id.split('/').next() == Some(first)) {
                    let pattern = Pattern::new(name).unwrap();
                    let known = ids.iter().any(|id| pattern.matches(id));
                    assert!(known, "{}: there is no case {name}", page.display());
                    seen += 1;
                } else if ours.iter().any(|start| name.starts_with(start)) {
                    let known = top.join(name).exists() || name.contains('*');
                    assert!(known, "{}: there is no {name}", page.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "{seen} names");
    }
}
