// SPDX-License-Identifier: GPL-2.0

//! Commands of every kind: the same are allowed as in a second writing of the specification.

use proptest::prelude::*;
use virtio::control::Command;
use virtio::control::Rules;
use virtio::features::net;

use crate::cvq;
use crate::cvq::command;
use crate::OPCODES;

/// What the specification allows, written down a second time.
fn allowed(bytes: &[u8], rules: &Rules) -> bool {
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let len = bytes.len();
    if !(2..=4096).contains(&len) {
        return false;
    }
    let row = OPCODES
        .iter()
        .find(|row| row.0 == bytes[0] && row.1 == bytes[1]);
    let Some((class, number, feature, _)) = row else {
        return false;
    };
    let has = |feature| rules.features.contains(feature);
    if !has(*feature) || !has(net::CTRL_VQ) {
        return false;
    }
    let pairs = if has(net::MQ) || has(net::RSS) {
        rules.pairs
    } else {
        1
    };
    let types_fit = |at| u32_at(at) & !rules.limits.supported_hash_types == 0;
    let key_fits = |at: usize| {
        let key = bytes[at];
        key <= rules.limits.rss_max_key_size && len == at + 1 + usize::from(key)
    };
    match (class, number) {
        (0, _) => len == 3 && bytes[2] < 2,
        (1, 0) => {
            let mut at = 2u64;
            for _ in 0..2 {
                if at + 4 > len as u64 {
                    return false;
                }
                at += 4 + 6 * u64::from(u32_at(at as usize));
            }
            at == len as u64
        }
        (1, 1) => {
            len == 8
                && bytes[2] % 2 == 0
                && bytes[2..] != [0; 6]
                && rules.mac.is_none_or(|mac| mac == bytes[2..])
        }
        (2, _) => len == 4 && u16_at(2) < 4096,
        (3, 0) => len == 2,
        (4, 0) => len == 4 && (1..=pairs).contains(&u16_at(2)),
        (4, 1) => {
            if len < 10 || !types_fit(2) {
                return false;
            }
            let mask = u16_at(6);
            let entries = usize::from(mask) + 1;
            mask < rules.limits.rss_max_indirection_table_length
                && entries.count_ones() == 1
                && len >= 10 + 2 * entries + 3
                && (0..=entries).all(|entry| u16_at(8 + 2 * entry) < pairs)
                && (1..=pairs).contains(&u16_at(10 + 2 * entries))
                && key_fits(12 + 2 * entries)
        }
        (4, 2) => {
            len >= 15
                && types_fit(2)
                && bytes[6..12] == [0; 6]
                && u16_at(12) <= pairs
                && key_fits(14)
        }
        (5, 0) => {
            let offloads = 0x00c0_0000_0000_0782 & rules.features.bits();
            len == 10 && (u64::from(u32_at(2)) | u64::from(u32_at(6)) << 32) & !offloads == 0
        }
        (6, 0 | 1) => len == 10,
        (6, 2) => len == 14 && u32::from(u16_at(2)) < 2 * u32::from(pairs),
        (6, 3) => len == 6 && u32::from(u16_at(2)) < 2 * u32::from(pairs),
        _ => false,
    }
}

fn agrees(bytes: &[u8], rules: &Rules) -> Result<(), TestCaseError> {
    let result = Command::parse(bytes, rules);
    prop_assert_eq!(result.is_ok(), allowed(bytes, rules), "{:?}", result);
    match result {
        Ok(command) => prop_assert_eq!(command.bytes(), bytes),
        Err(refusal) => {
            let line = refusal.to_string();
            prop_assert!(!line.is_empty() && !line.contains('\n'));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64), rules in cvq::any_rules()) {
        agrees(&bytes, &rules)?;
    }

    #[test]
    fn any_data(
        row in proptest::sample::select(&OPCODES[..]),
        data in proptest::collection::vec(prop_oneof![3 => Just(0), 1 => Just(1), 1 => any::<u8>()], 0..40),
        rules in cvq::any_rules(),
    ) {
        agrees(&command(row.0, row.1, data), &rules)?;
    }

    #[test]
    fn likely_commands(bytes in cvq::any_command(), rules in cvq::any_rules()) {
        agrees(&bytes, &rules)?;
    }

    #[test]
    fn commands_with_an_error(
        bytes in cvq::any_command(),
        rules in cvq::any_rules(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in 0..3usize,
    ) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        agrees(&bytes, &rules)?;
        bytes.truncate(bytes.len().saturating_sub(cut));
        agrees(&bytes, &rules)?;
        bytes.push(byte);
        agrees(&bytes, &rules)?;
    }
}
