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
}
