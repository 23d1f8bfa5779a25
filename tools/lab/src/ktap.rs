// SPDX-License-Identifier: GPL-2.0
//! KTAP as a case prints it: what it means for the case as a whole.

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one `ok`, no `not ok`.
    Passed,
    /// Why it failed, one item a line.
    Failed(Vec<String>),
    /// Nothing was tested; the reason.
    Skipped(String),
}

/// One result line.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Ok(&'a str),
    NotOk(&'a str),
    Skip(&'a str),
}

fn parse(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    let (good, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    let name = rest.strip_prefix('-').unwrap_or(rest).trim();
    if let Some((_, why)) = name.split_once("# SKIP") {
        return Some(Line::Skip(why.trim()));
    }
    Some(if good {
        Line::Ok(name)
    } else {
        Line::NotOk(name)
    })
}

/// The verdict on a case that printed `output` and ended with `status`.
pub fn verdict(output: &[String], status: i32) -> Verdict {
    let (mut passed, mut skipped, mut failures) = (0_u32, None, Vec::new());
    let mut lines = output.iter().peekable();
    while let Some(line) = lines.next() {
        match parse(line) {
            Some(Line::Ok(_)) => passed += 1,
            Some(Line::Skip(why)) => skipped = Some(why.to_owned()),
            Some(Line::NotOk(name)) => {
                failures.push(name.to_owned());
                // Diagnostics follow the line they explain.
                while let Some(detail) = lines.next_if(|next| next.trim_start().starts_with('#')) {
                    failures.push(format!(
                        "  {}",
                        detail.trim_start().trim_start_matches('#').trim()
                    ));
                }
            }
            None => {}
        }
    }
    if failures.is_empty() && status != 0 {
        let last = output.iter().rev().find(|line| !line.trim().is_empty());
        failures.push(format!(
            "the case ended with status {status}; last line: {}",
            last.map_or("(none)", |line| line.trim())
        ));
    }
    if failures.is_empty() && passed == 0 && skipped.is_none() {
        failures.push("the case printed no result".to_owned());
    }
    match (failures.is_empty(), passed, skipped) {
        (false, _, _) => Verdict::Failed(failures),
        (true, 0, Some(why)) => Verdict::Skipped(why),
        (true, _, _) => Verdict::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, status: i32) -> Verdict {
        verdict(&text.lines().map(str::to_owned).collect::<Vec<_>>(), status)
    }

    #[test]
    fn all_ok_passes() {
        assert_eq!(
            judge(
                "KTAP version 1\nok 1 - a\nnoise\nok 2 - b # SKIP later\n1..2",
                0
            ),
            Verdict::Passed
        );
        assert_eq!(judge("ok", 0), Verdict::Passed);
    }

    #[test]
    fn one_failure_fails_with_its_details() {
        let failed = judge(
            "ok 1 - a\nnot ok 2 - b is busy\n# got: 1\n#   want: 2\nok 3 - c",
            1,
        );
        assert_eq!(
            failed,
            Verdict::Failed(vec![
                "b is busy".into(),
                "  got: 1".into(),
                "  want: 2".into()
            ])
        );
    }

    #[test]
    fn silence_and_a_bad_status_fail() {
        assert_eq!(
            judge("hello", 0),
            Verdict::Failed(vec!["the case printed no result".into()])
        );
        assert!(
            matches!(judge("ok 1 - a\nbash: x: not found", 127), Verdict::Failed(why) if why[0].contains("127") && why[0].contains("not found"))
        );
    }

    #[test]
    fn skip_needs_a_reason_and_no_result() {
        assert_eq!(
            judge("ok 1 - a # SKIP no such device", 0),
            Verdict::Skipped("no such device".into())
        );
        assert_eq!(
            judge("okay then", 0),
            Verdict::Failed(vec!["the case printed no result".into()])
        );
    }
}
