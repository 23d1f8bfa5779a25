// SPDX-License-Identifier: GPL-2.0

//! What is offered, provisioned and accepted.

use proptest::prelude::*;
use virtio::device_id::DeviceId;
use virtio::features::blk;
use virtio::features::net;
use virtio::features::Features;
use virtio::policy;
use virtio::policy::AcceptError;
use virtio::policy::ProvisionError;
use virtio::requirement;

/// The transport bits that pass, written down a second time.
const PASSED: [u32; 7] = [28, 29, 32, 33, 34, 35, 36];

const BASE: Features = Features::VERSION_1.union(Features::ACCESS_PLATFORM);

/// What a bit of a network device requires, one of several: virtio 1.3, 5.1.3.1, then two of 5.1.4.1, and
/// CTRL_GUEST_OFFLOADS. HASH_TUNNEL is never offered.
const NET_NEEDS: [(u32, &[u32]); 23] = [
    (7, &[1]),
    (8, &[1]),
    (9, &[7, 8]),
    (10, &[1]),
    (54, &[1]),
    (55, &[1]),
    (11, &[0]),
    (12, &[0]),
    (13, &[11, 12]),
    (14, &[0]),
    (56, &[0]),
    (18, &[17]),
    (19, &[17]),
    (21, &[17]),
    (22, &[17]),
    (23, &[17]),
    (53, &[17]),
    (61, &[11, 12]),
    (60, &[17]),
    (52, &[17]),
    (57, &[17]),
    (20, &[17]),
    (2, &[17]),
];

/// What a bit of a block device requires (virtio 1.3, 5.2.5.2).
const BLOCK_NEEDS: [(u32, &[u32]); 1] = [(11, &[9])];

/// The members of `features` that require another one which is not among them.
fn dependent(features: Features, id: DeviceId) -> Features {
    let needs: &[(u32, &[u32])] = match id {
        DeviceId::NET => &NET_NEEDS,
        DeviceId::BLOCK => &BLOCK_NEEDS,
        _ => &[],
    };
    let has = |bit| features.bits() >> bit & 1 != 0;
    let bits = needs
        .iter()
        .filter(|(bit, needs)| has(*bit) && !needs.iter().any(|need| has(*need)))
        .fold(0, |bits, (bit, _)| bits | 1 << bit);
    Features::from_bits(bits)
}

/// What is left of `features` if nothing in it shall require what is not there.
fn consistent(features: Features, id: DeviceId) -> Features {
    let mut left = features;
    while !dependent(left, id).is_empty() {
        left = left - dependent(left, id);
    }
    left
}

/// Each type with a name, those with rules of their own more often, what was never assigned, and whatever
/// else there may be.
fn any_id() -> impl Strategy<Value = DeviceId> {
    prop_oneof![1..=2_u32, 0..64_u32, any::<u32>()].prop_map(DeviceId::new)
}

fn any_features() -> impl Strategy<Value = Features> {
    any::<u64>().prop_map(Features::from_bits)
}

#[test]
fn offered_bit_by_bit() {
    for id in [DeviceId::NET, DeviceId::BLOCK, DeviceId::new(60)] {
        for bit in 0..64 {
            let one = Features::bit(bit);
            let device_type = bit <= 23 || bit >= 50;
            // DEVICE_STATS and HASH_TUNNEL, whose commands are not known.
            let unknown = id == DeviceId::NET && [50, 51].contains(&bit);
            let passes = (device_type && !unknown) || PASSED.contains(&bit);
            assert_eq!(policy::offered(one, id) == one, passes, "bit {bit} of {id}");
            assert_eq!(policy::offered(one, id).is_empty(), !passes, "bit {bit}");
        }
    }
}

#[test]
fn the_parent_keeps_ring_reset_for_itself() {
    let all = Features::from_bits(u64::MAX);
    let ours = Features::RING_RESET.union(Features::SUSPEND);
    assert_eq!(policy::hardware_only(all), ours);
    assert!(policy::hardware_only(all - ours).is_empty());
    assert!(!policy::offered(all, DeviceId::NET).intersects(Features::RING_RESET));
}

#[test]
fn a_function_needs_version_1_and_access_platform() {
    assert_eq!(policy::required(BASE), Ok(()));
    let error = policy::required(Features::VERSION_1).unwrap_err();
    assert_eq!(error.features(), Features::ACCESS_PLATFORM);
    assert_eq!(
        error.to_string(),
        "function does not offer ACCESS_PLATFORM, its DMA would bypass the IOMMU"
    );
    let error = policy::required(Features::ACCESS_PLATFORM).unwrap_err();
    assert_eq!(error.to_string(), "function does not offer VERSION_1");
}

#[test]
fn provisioning_errors_name_the_bits() {
    let error = policy::provision(BASE, Some(BASE | net::MQ), DeviceId::NET).unwrap_err();
    assert_eq!(error, ProvisionError::NotOffered(net::MQ));
    assert_eq!(
        error.named(DeviceId::NET).to_string(),
        "requested device features not offered by the function: MQ"
    );
    assert_eq!(
        error.to_string(),
        "requested device features not offered by the function: bit22"
    );
    let error = policy::provision(BASE, Some(Features::VERSION_1), DeviceId::NET).unwrap_err();
    assert_eq!(
        error.to_string(),
        "requested device features lack ACCESS_PLATFORM, which a vDPA device cannot do without"
    );
    // Not what one would get from the empty set for a consumer: a device without features is none.
    assert_eq!(
        policy::provision(BASE, Some(Features::EMPTY), DeviceId::NET),
        Err(ProvisionError::Missing(BASE))
    );
}

#[test]
fn a_feature_is_requested_with_what_it_requires() {
    for id in [DeviceId::NET, DeviceId::BLOCK, DeviceId::new(60)] {
        let all = policy::offered(Features::from_bits(u64::MAX), id);
        assert_eq!(policy::provision(all, Some(all), id), Ok(all));
        for bit in 0..64 {
            let one = Features::bit(bit);
            if !all.contains(one) {
                continue;
            }
            let requested = BASE | one;
            let expected = if dependent(one, id).is_empty() {
                Ok(requested)
            } else {
                Err(ProvisionError::Unmet { requested, id })
            };
            assert_eq!(
                policy::provision(all, Some(requested), id),
                expected,
                "bit {bit} of {id}"
            );
            if BASE.contains(one) {
                continue;
            }
            // Whoever takes one away from everything has to take what requires it, and no more.
            let rest = consistent(all - one, id);
            assert_eq!(policy::provision(all, Some(rest), id), Ok(rest));
            let without = policy::provision(all, Some(all - one), id);
            assert_eq!(without.is_ok(), rest == all - one, "all but {bit} of {id}");
        }
    }
}

#[test]
fn all_that_is_required_is_named_in_one_line() {
    let net = policy::offered(Features::from_bits(u64::MAX), DeviceId::NET);
    let text = |offered, requested, id| {
        policy::provision(offered, Some(requested), id)
            .unwrap_err()
            .named(id)
            .to_string()
    };
    assert_eq!(
        text(net, BASE | net::MQ, DeviceId::NET),
        "requested device features lack CTRL_VQ (required by MQ)"
    );
    // What somebody asks for who takes away one bit of everything.
    assert_eq!(
        text(net, net - net::CTRL_VQ, DeviceId::NET),
        "requested device features lack CTRL_VQ (required by CTRL_GUEST_OFFLOADS CTRL_RX CTRL_VLAN \
         CTRL_RX_EXTRA GUEST_ANNOUNCE MQ CTRL_MAC_ADDR VQ_NOTF_COAL NOTF_COAL HASH_REPORT RSS)"
    );
    assert_eq!(
        text(
            net,
            BASE | net::GUEST_TSO6 | net::HOST_ECN | net::RSC_EXT | net::RSS,
            DeviceId::NET
        ),
        "requested device features lack GUEST_CSUM (required by GUEST_TSO6), \
         one of HOST_TSO4 HOST_TSO6 (required by HOST_ECN RSC_EXT), CTRL_VQ (required by RSS)"
    );
    assert_eq!(
        text(
            BASE | blk::CONFIG_WCE,
            BASE | blk::CONFIG_WCE,
            DeviceId::BLOCK
        ),
        "requested device features lack FLUSH (required by CONFIG_WCE)"
    );
    let error = policy::provision(net, Some(BASE | net::MQ), DeviceId::NET).unwrap_err();
    assert_eq!(
        error.to_string(),
        "requested device features lack bit17 (required by bit22)"
    );
    // The function cannot have it is the better answer, and nothing works without VERSION_1.
    assert_eq!(
        policy::provision(BASE, Some(BASE | net::MQ), DeviceId::NET),
        Err(ProvisionError::NotOffered(net::MQ))
    );
    assert_eq!(
        policy::provision(net, Some(net::MQ), DeviceId::NET),
        Err(ProvisionError::Missing(BASE))
    );
}

/// Whoever asks for nothing gets of a function that contradicts itself what can be offered.
#[test]
fn the_default_leaves_out_what_lacks_its_requirements() {
    let alone = net::MQ | net::CTRL_GUEST_OFFLOADS | net::GUEST_TSO4 | net::GUEST_ECN;
    let offered = BASE | net::MAC | alone;
    assert_eq!(
        policy::provision(offered, None, DeviceId::NET),
        Ok(BASE | net::MAC)
    );
}

#[test]
fn accept_errors_name_the_bits() {
    let offered = BASE | net::MQ | net::CTRL_VQ;
    let text = |driver| {
        policy::accept(offered, driver, DeviceId::NET)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(BASE | net::RSS),
        "driver accepted features that it was not offered: RSS"
    );
    assert_eq!(
        text(Features::VERSION_1),
        "driver did not accept ACCESS_PLATFORM, which a vDPA device cannot do without"
    );
    assert_eq!(text(BASE | net::MQ), "driver accepted MQ without CTRL_VQ");
}

#[test]
fn multiqueue_needs_the_control_queue_in_network_devices_only() {
    let all = Features::from_bits(u64::MAX);
    for queues in [net::MQ, net::RSS, net::MQ | net::RSS] {
        assert_eq!(
            policy::accept(all, BASE | queues, DeviceId::NET),
            Err(AcceptError::NeedsControlQueue(queues))
        );
        assert_eq!(
            policy::accept(all, BASE | queues | net::CTRL_VQ, DeviceId::NET),
            Ok(())
        );
        assert_eq!(policy::accept(all, BASE | queues, DeviceId::BLOCK), Ok(()));
    }
}

#[test]
fn the_empty_set_is_always_accepted() {
    assert_eq!(
        policy::accept(Features::EMPTY, Features::EMPTY, DeviceId::NET),
        Ok(())
    );
}

#[test]
fn the_parent_serves_split_control_queues() {
    let control = BASE | net::CTRL_VQ;
    assert!(policy::serves_control(control, DeviceId::NET));
    assert!(!policy::serves_control(BASE, DeviceId::NET));
    assert!(!policy::serves_control(
        control | Features::RING_PACKED,
        DeviceId::NET
    ));
    assert!(!policy::serves_control(control, DeviceId::BLOCK));
    assert!(policy::serves_control(
        policy::default(control | Features::RING_PACKED, DeviceId::NET),
        DeviceId::NET
    ));
}

#[test]
fn rings_that_do_not_tell_where_they_stand_are_not_movable() {
    let all = Features::from_bits(u64::MAX);
    let silent = Features::RING_PACKED | Features::IN_ORDER;
    assert!(policy::is_movable(all - silent));
    assert!(!policy::is_movable(Features::RING_PACKED));
    assert!(!policy::is_movable(Features::IN_ORDER));
}

proptest! {
    #[test]
    fn no_bit_is_invented(device in any_features()) {
        prop_assert!(device.contains(policy::offered(device, DeviceId::NET)));
        prop_assert!(device.contains(policy::hardware_only(device)));
        let ours = policy::hardware_only(device);
        prop_assert!(!policy::offered(device, DeviceId::NET).intersects(ours));
    }

    #[test]
    fn a_usable_function_stays_usable(device in any_features()) {
        let device = device | BASE;
        let offered = policy::offered(device, DeviceId::NET);
        prop_assert_eq!(policy::required(device), Ok(()));
        let default = policy::provision(offered, None, DeviceId::NET).unwrap();
        prop_assert!(policy::is_movable(default));
        prop_assert!(offered.contains(default));
        let unknown = Features::RING_INDIRECT_DESC | Features::ORDER_PLATFORM | net::GUEST_ANNOUNCE;
        prop_assert!(!default.intersects(unknown));
        let known = net::CTRL_VQ | net::MRG_RXBUF | Features::RING_EVENT_IDX | BASE;
        prop_assert_eq!(default & known, offered & known);
        let queues = default.contains(net::MQ);
        prop_assert_eq!(queues, offered.contains(net::MQ | net::CTRL_VQ));
    }

    /// Of whatever type: what a device gets by itself can be stopped and go on elsewhere, and whoever
    /// asks for the rest gets it, unless the function itself contradicts the specification.
    #[test]
    fn every_default_is_movable(device in any_features(), id in any_id()) {
        let device = device | BASE;
        let offered = policy::offered(device, id);
        let silent = Features::RING_PACKED | Features::IN_ORDER;
        prop_assert_eq!(offered & silent, device & silent);
        let requested = consistent(offered, id);
        prop_assert_eq!(policy::provision(offered, Some(requested), id), Ok(requested));
        let default = policy::provision(offered, None, id).unwrap();
        prop_assert_eq!(default, consistent(policy::default(offered, id), id));
        prop_assert!(policy::is_movable(default));
        prop_assert_eq!(policy::provision(offered, Some(default), id), Ok(default));
        prop_assert_eq!(policy::accept(default, default, id), Ok(()));
        if id != DeviceId::NET && id != DeviceId::BLOCK {
            prop_assert_eq!(default, offered - silent);
        }
    }

    #[test]
    fn provisioning_yields_what_was_asked_or_says_why(
        offered in any_features(),
        requested in any_features(),
        id in any_id(),
        with_base: bool,
        subset: bool,
        repaired: bool,
    ) {
        let offered = if with_base { offered | BASE } else { offered };
        let requested = if subset { requested & offered } else { requested };
        let requested = if with_base && subset { requested | BASE } else { requested };
        let requested = if repaired { consistent(requested, id) } else { requested };
        match policy::provision(offered, Some(requested), id) {
            Ok(features) => {
                prop_assert_eq!(features, requested);
                prop_assert!(offered.contains(requested) && requested.contains(BASE));
                prop_assert_eq!(dependent(requested, id), Features::EMPTY);
                // A driver that takes all that it is offered is not refused.
                prop_assert_eq!(policy::accept(features, features, id), Ok(()));
            }
            Err(ProvisionError::NotOffered(bits)) => {
                prop_assert_eq!(bits.bits(), requested.bits() & !offered.bits());
                prop_assert!(bits.bits() != 0);
            }
            Err(ProvisionError::Missing(bits)) => {
                prop_assert!(offered.contains(requested));
                prop_assert_eq!(bits.bits(), BASE.bits() & !requested.bits());
                prop_assert!(bits.bits() != 0);
            }
            Err(error @ ProvisionError::Unmet { .. }) => {
                prop_assert_eq!(error, ProvisionError::Unmet { requested, id });
                prop_assert!(offered.contains(requested) && requested.contains(BASE));
                let named = requirement::unmet(requested, id)
                    .inspect(|unmet| assert!(!requested.intersects(unmet.needs)))
                    .fold(Features::EMPTY, |named, unmet| named | unmet.features);
                prop_assert_eq!(named, dependent(requested, id));
                prop_assert!(!named.is_empty());
            }
        }
    }

    /// What is left out on the way from the function to a consumer is nothing that the rest requires.
    #[test]
    fn a_consistent_function_makes_consistent_devices(device in any_features(), id in any_id()) {
        let device = consistent(device | BASE, id);
        let offered = policy::offered(device, id);
        prop_assert_eq!(policy::provision(offered, Some(offered), id), Ok(offered));
        let default = policy::provision(offered, None, id).unwrap();
        prop_assert_eq!(policy::provision(offered, Some(default), id), Ok(default));
        prop_assert_eq!(policy::accept(default, default, id), Ok(()));
    }

    #[test]
    fn what_is_accepted_was_offered(
        offered in any_features(),
        driver in any_features(),
        subset: bool,
        with_base: bool,
        control: bool,
    ) {
        let offered = offered | BASE;
        let driver = if subset { driver & offered } else { driver };
        let driver = if with_base { driver | BASE } else { driver };
        let driver = if control { driver | (net::CTRL_VQ & offered) } else { driver };
        let fine = driver.is_empty()
            || offered.contains(driver)
                && driver.contains(BASE)
                && (driver.contains(net::CTRL_VQ) || !driver.intersects(net::MQ | net::RSS));
        let result = policy::accept(offered, driver, DeviceId::NET);
        prop_assert_eq!(result.is_ok(), fine, "{:?}", result);
    }

    #[test]
    fn the_full_offer_is_acceptable(device in any_features()) {
        // QEMU probes the isolation of the control queue with all that is offered.
        let offered = policy::offered(device | BASE | net::CTRL_VQ, DeviceId::NET);
        prop_assert_eq!(policy::accept(offered, offered, DeviceId::NET), Ok(()));
    }
}
