// SPDX-License-Identifier: GPL-2.0

//! All cases, by what they are about.

mod bus;
mod config;
mod doorbell;
mod events;
mod features;
mod identity;
pub mod owner;
mod reset;
mod rings;
mod spaces;
mod state;
mod status;
mod suspend;

use crate::case::Case;

/// Every case, in the order in which they run.
pub fn all() -> Vec<&'static Case> {
    [
        identity::CASES,
        features::CASES,
        status::CASES,
        config::CASES,
        rings::CASES,
        events::CASES,
        doorbell::CASES,
        reset::CASES,
        state::CASES,
        suspend::CASES,
        spaces::CASES,
        owner::CASES,
        bus::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_say_their_group() {
        let mut seen = HashSet::new();
        for case in all() {
            assert!(seen.insert(case.id), "{} is there twice", case.id);
            let (group, number) = case.id.rsplit_once('-').unwrap();
            assert!(!group.is_empty() && number.parse::<u32>().is_ok());
            assert!(!case.demands.is_empty() && !case.source.is_empty());
        }
    }
    #[test]
    fn the_table_has_them_all() {
        let page = include_str!("../../../Documentation/conformance.md");
        let rows: Vec<_> = all()
            .iter()
            .map(|case| format!("| {} | {} |", case.id, case.title))
            .collect();
        let there = page
            .lines()
            .filter(|line| line.split(" | ").count() > 3 && !line.starts_with("| Case "))
            .count();
        let missing: Vec<_> = rows.iter().filter(|row| !page.contains(*row)).collect();
        assert!(
            missing.is_empty(),
            "make conformance: {missing:?} are not in the table"
        );
        assert_eq!(there, rows.len(), "make conformance: the table has others");
    }
}
