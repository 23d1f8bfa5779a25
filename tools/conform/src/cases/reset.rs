// SPDX-License-Identifier: GPL-2.0

//! Resets, and closing, which is one.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use vdpa_user::device::{Device, status};
use vdpa_user::port::Setup;
use vdpa_user::refusal;
use vdpa_user::stage::{LEAST, Stage};

use crate::bench::{Live, WATCHED};
use crate::case::{
    Case, IOTLB_PERSIST, RESUME, SUSPEND, Target, Verdict, fail, pass, skip, source, verdict,
};

pub const CASES: &[Case] = &[
    Case {
        id: "reset-1",
        title: "a device can be reset in every state",
        demands: "0 in the status resets the device, which then shows 0 and can be brought up again",
        source: "virtio 1.3, 2.4 and 3.1.1",
        run: in_every_state,
    },
    Case {
        id: "reset-2",
        title: "a device can be closed in every state",
        demands: "whoever opens the device next finds it as if it was new: at status 0, with the features and the configuration that it had, and ready for use",
        source: source::UAPI,
        run: closed_in_every_state,
    },
    Case {
        id: "reset-3",
        title: "a device that was reset is at rest",
        demands: "the device neither touches queues nor sends notifications once it was reset",
        source: "virtio 1.3, 2.4.1",
        run: at_rest,
    },
    Case {
        id: "reset-4",
        title: "queues are as new after a reset",
        demands: "a queue is not enabled and begins at 0 again",
        source: "virtio 1.3, 2.4.1; linux/vdpa.h",
        run: queues_are_new,
    },
    Case {
        id: "reset-5",
        title: "mappings survive a reset",
        demands: "with VHOST_BACKEND_F_IOTLB_PERSIST what was mapped stays mapped over a reset",
        source: source::TYPES,
        run: mappings_survive,
    },
    Case {
        id: "reset-6",
        title: "twenty times up and down",
        demands: "a device can be brought up after each reset",
        source: "virtio 1.3, 2.4",
        run: cycles,
    },
    Case {
        id: "reset-7",
        title: "a reset with work to do",
        demands: "a device that is reset with requests in its queue can be brought up again: it does what it is given then once, and nothing of what it had before",
        source: "virtio 1.3, 2.4.1",
        run: under_work,
    },
];

/// Where a device can be when it is reset.
#[derive(Clone, Copy)]
enum Place {
    /// Brought up so far.
    Stage(Stage),
    /// Live, with nothing to do.
    Live,
    /// Live, and told of requests that nobody has looked for.
    Working,
    /// Suspended.
    Suspended,
    /// Suspended, and live again.
    Resumed,
    /// Live, with a ring that makes no sense: it may have set DEVICE_NEEDS_RESET.
    Spoiled,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => stage.fmt(f),
            Self::Live => f.write_str("live"),
            Self::Working => f.write_str("at work"),
            Self::Suspended => f.write_str("suspended"),
            Self::Resumed => f.write_str("resumed"),
            Self::Spoiled => f.write_str("live with a broken ring"),
        }
    }
}

impl Place {
    /// All that a device can be brought to.
    fn all(target: &Target) -> Result<Vec<Self>> {
        let mut all: Vec<_> = Stage::ALL.map(Self::Stage).into();
        all.extend([Self::Live, Self::Working, Self::Spoiled]);
        let offered = target.open()?.backend_features()?;
        if offered & SUSPEND != 0 {
            all.push(Self::Suspended);
        }
        if offered & SUSPEND != 0 && offered & RESUME != 0 {
            all.push(Self::Resumed);
        }
        Ok(all)
    }

    /// Brings a device there.
    fn bring(self, device: Device) -> Result<Device> {
        match self {
            Self::Stage(stage) => stage.bring(&device).map(|()| device),
            Self::Live => Ok(Live::start(device, Setup::default())?.device),
            Self::Working => {
                let mut live = Live::start(device, Setup::default())?;
                live.offer(4)?;
                Ok(live.device)
            }
            Self::Suspended => {
                let device = Live::start(device, Setup::default())?.device;
                device.suspend()?;
                Ok(device)
            }
            Self::Resumed => {
                let device = Self::Suspended.bring(device)?;
                device.resume()?;
                Ok(device)
            }
            Self::Spoiled => {
                let mut live = Live::start(device, Setup::default())?;
                live.work(5)?;
                live.spoil()?;
                sleep(WATCHED);
                Ok(live.device)
            }
        }
    }
}

/// The names of places.
fn names(places: &[Place]) -> String {
    places
        .iter()
        .map(Place::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn in_every_state(target: &Target) -> Result<Verdict> {
    let places = Place::all(target)?;
    let mut device = target.claim()?;
    for state in &places {
        device = state.bring(device)?;
        for _ in 0..2 {
            device.reset().with_context(|| format!("while {state}"))?;
        }
        let mut live = Live::start(device, Setup::default())
            .with_context(|| format!("after a reset while {state}"))?;
        live.work(5)
            .with_context(|| format!("after a reset while {state}"))?;
        device = live.stop()?;
    }
    pass(names(&places))
}

fn closed_in_every_state(target: &Target) -> Result<Verdict> {
    let places = Place::all(target)?;
    let device = target.claim()?;
    let new = device.snapshot()?;
    let shown = device.status()?;
    if shown != 0 {
        return fail(format!("it shows {shown:#x} to begin with"));
    }
    drop(device);
    // While it belongs to nobody.
    drop(target.open()?);
    for state in &places {
        drop(state.bring(target.claim()?)?);
        let device = target.claim()?;
        let found = device.snapshot()?;
        if found != new {
            return fail(format!(
                "closed while {state}: the next one finds {found:x?}, not {new:x?}"
            ));
        }
        Live::start(device, Setup::default())?
            .work(5)
            .with_context(|| format!("closed while {state}"))?;
    }
    pass(names(&places))
}

fn at_rest(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    live.device.reset()?;
    live.worker()?.interrupted();
    let served = live.is_served()?;
    let announced = live.worker()?.interrupted();
    verdict(
        !served && !announced,
        format!("a request was done: {served}, announced: {announced}"),
    )
}

fn queues_are_new(target: &Target) -> Result<Verdict> {
    let mut live = Live::open(target)?;
    live.work(10)?;
    let worker = live.worker()?.index;
    let device = live.stop()?;
    device.negotiate(LEAST)?;
    let base = device.base(worker);
    // Enabled before the reset, described again, but not enabled.
    device.memory.clear()?;
    let late = Setup {
        late: true,
        ..Setup::default()
    };
    let mut live = Live::prepare(device, late)?;
    live.device.add_status(status::DRIVER_OK)?;
    let served = live.is_served()?;
    match base {
        Ok(base) => verdict(
            base == 0 && !served,
            format!("it begins at {base}, is served without being enabled: {served}"),
        ),
        Err(error) if !refusal::is_not_offered(&error) => Err(error),
        Err(error) => verdict(
            !served,
            format!("it does not tell where it begins ({error:#}), is served: {served}"),
        ),
    }
}

fn mappings_survive(target: &Target) -> Result<Verdict> {
    let device = target.claim()?;
    if device.backend_features()? & IOTLB_PERSIST == 0 {
        return skip("VHOST_BACKEND_F_IOTLB_PERSIST is not offered");
    }
    let mut live = Live::start(device, Setup::default())?;
    live.work(10)?;
    let mut live = Live::start(live.stop()?, Setup::default())?;
    sleep(WATCHED);
    live.work(10)?;
    pass("requests are done after a reset without mapping again")
}

fn cycles(target: &Target) -> Result<Verdict> {
    let mut device = target.claim()?;
    for _ in 0..20 {
        let mut live = Live::start(device, Setup::default())?;
        live.work(3)?;
        device = live.stop()?;
    }
    pass("20 times, with 3 requests each")
}

fn under_work(target: &Target) -> Result<Verdict> {
    const REQUESTS: u32 = 64;
    // Small, as no memory is used twice.
    let setup = Setup {
        size: 128,
        ..Setup::default()
    };
    let (mut given, mut done) = (0, 0);
    let mut live = Live::start(target.claim()?, setup)?;
    for round in 0..5_u32 {
        let count = u32::try_from(live.worker()?.idle.len())?.min(REQUESTS);
        live.offer(count / 2)?;
        // A little further each time.
        sleep(Duration::from_micros(300) * round);
        // A fast device has done all of these. It has not been told of the others.
        live.leave(count - count / 2)?;
        live.device.reset()?;
        // Its ring tells when one has come back twice.
        done += live.reap()?;
        given += count;
        // What it was given stays where it is, with all that was left to do.
        let left = live.device.memory.contents()?;
        live = live.beside(setup)?;
        live.work(count)?;
        sleep(WATCHED);
        let more = live.reap()?;
        if more != 0 {
            return fail(format!("{more} requests were done more often than given"));
        }
        let now = live.device.memory.contents()?;
        if let Some(at) = left.iter().zip(&now).position(|(old, new)| old != new) {
            return fail(format!(
                "byte {at:#x} of what it had before the reset was written after it"
            ));
        }
        live = live.beside(setup)?;
    }
    pass(format!(
        "5 times, {given} requests: {done} were done before the resets, none afterwards"
    ))
}
