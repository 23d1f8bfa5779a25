// SPDX-License-Identifier: GPL-2.0

//! What is offered, and what may be accepted.

use anyhow::Result;
use vdpa_user::device::{feature, status};

use crate::bench::Class;
use crate::case::{Case, Target, Verdict, fail, pass, skip, verdict};
use vdpa_user::stage::LEAST;

pub const CASES: &[Case] = &[
    Case {
        id: "features-1",
        title: "VERSION_1 is offered",
        demands: "a device that is no legacy device offers VIRTIO_F_VERSION_1",
        source: "virtio 1.3, 6.2",
        run: version_1,
    },
    Case {
        id: "features-2",
        title: "ACCESS_PLATFORM is offered",
        demands: "a device whose accesses are translated offers VIRTIO_F_ACCESS_PLATFORM; without it, the addresses that its owner maps would mean nothing",
        source: "virtio 1.3, 6",
        run: access_platform,
    },
    Case {
        id: "features-3",
        title: "what is offered fits together",
        demands: "the device offers no feature which requires another one that it does not offer",
        source: "virtio 1.3, 2.2.2 and 5.1.3.1",
        run: fit_together,
    },
    Case {
        id: "features-4",
        title: "a few features are enough",
        demands: "any valid subset of what is offered is accepted",
        source: "virtio 1.3, 2.2.2",
        run: a_few_are_enough,
    },
    Case {
        id: "features-5",
        title: "all that is offered is accepted",
        demands: "any valid subset of what is offered is accepted, and all of it is one",
        source: "virtio 1.3, 2.2.2",
        run: all_are_accepted,
    },
    Case {
        id: "features-6",
        title: "what is not offered is not accepted",
        demands: "VHOST_SET_FEATURES fails, or FEATURES_OK is not shown, if a feature is among them that was not offered",
        source: "virtio 1.3, 2.2.1 and 2.2.2; uapi/linux/vhost.h",
        run: others_are_refused,
    },
    Case {
        id: "features-7",
        title: "features stay once they are negotiated",
        demands: "after FEATURES_OK, other features fail",
        source: "virtio 1.3, 3.1.1; uapi/linux/vhost.h",
        run: they_stay,
    },
    Case {
        id: "features-8",
        title: "the offer does not change",
        demands: "a device offers the same before and after it was negotiated and reset",
        source: "virtio 1.3, 2.2",
        run: the_offer_stays,
    },
];

fn version_1(target: &Target) -> Result<Verdict> {
    let offered = target.open()?.features()?;
    verdict(offered & feature::VERSION_1 != 0, format!("{offered:#x}"))
}

fn access_platform(target: &Target) -> Result<Verdict> {
    let offered = target.open()?.features()?;
    verdict(
        offered & feature::ACCESS_PLATFORM != 0,
        format!("{offered:#x}"),
    )
}

/// Feature bits of a network device, and one of those that each needs (virtio 1.3, 5.1.3.1).
const NET: [(u32, &[u32]); 20] = [
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
    (60, &[17]),
    (61, &[11, 12]),
    (53, &[17]),
    (52, &[17]),
];

/// The same of any device: none of the ring needs another one.
const BLOCK: [(u32, &[u32]); 0] = [];

fn fit_together(target: &Target) -> Result<Verdict> {
    let device = target.open()?;
    let offered = device.features()?;
    let rules: &[(u32, &[u32])] = match Class::of(&device)? {
        Class::Net => &NET,
        Class::Block => &BLOCK,
        Class::Other(id) => return skip(format!("nobody here knows the features of class {id}")),
    };
    let has = |bit: u32| (offered >> bit) & 1 != 0;
    let lonely: Vec<String> = rules
        .iter()
        .filter(|(bit, needs)| has(*bit) && !needs.iter().any(|need| has(*need)))
        .map(|(bit, needs)| format!("{bit} without {needs:?}"))
        .collect();
    verdict(lonely.is_empty(), format!("{offered:#x}: {lonely:?}"))
}

fn a_few_are_enough(target: &Target) -> Result<Verdict> {
    target.claim()?.negotiate(LEAST)?;
    pass(format!("{LEAST:#x}"))
}

fn all_are_accepted(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let offered = device.features()?;
    device.negotiate(offered)?;
    pass(format!("{offered:#x}"))
}

fn others_are_refused(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let offered = device.features()?;
    let mut tried = 0;
    let mut accepted = Vec::new();
    for bit in (0..64).filter(|bit| (offered >> bit) & 1 == 0) {
        device.reset()?;
        device.add_status(status::ACKNOWLEDGE)?;
        device.add_status(status::DRIVER)?;
        tried += 1;
        if device.set_features(LEAST | (1 << bit)).is_ok()
            && device.add_status(status::FEATURES_OK).is_ok()
        {
            accepted.push(bit);
        }
    }
    verdict(
        accepted.is_empty(),
        format!("of {tried} bits that are not offered, these were accepted: {accepted:?}"),
    )
}

fn they_stay(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    device.negotiate(LEAST)?;
    match device.set_features(device.features()?) {
        Ok(()) => fail("they could be changed"),
        Err(error) => pass(format!("{error:#}")),
    }
}

fn the_offer_stays(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    let before = device.features()?;
    device.negotiate(LEAST)?;
    let during = device.features()?;
    device.reset()?;
    let after = device.features()?;
    verdict(
        before == during && before == after,
        format!("{before:#x}, then {during:#x}, then {after:#x}"),
    )
}
