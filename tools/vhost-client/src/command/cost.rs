// SPDX-License-Identifier: GPL-2.0

//! What a relay costs: how much gets through, and how many interrupts a frame takes, in proportion
//! to a device that serves its rings alone.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Wire;
use crate::exchange::{self, BOTH};
use crate::ktap::Report;
use vdpa_user::port::{Port, Setup};

/// Frames each way before the clock starts: enough for the device to get back rings that begin at
/// [`NEAR`].
const WARM: u32 = 1500;
/// Where a relay begins that ends soon: this many chains before its indices come to 0.
const NEAR: u16 = 0_u16.wrapping_sub(600);
/// Where one begins that does not.
const FAR: u16 = 1;

/// What is measured of one way of serving the rings.
#[derive(Clone, Copy, Debug)]
struct Figure {
    /// Frames a second, both ways.
    rate: f64,
    /// Interrupts of the first device for each of them.
    interrupts: f64,
}

/// One figure in proportion to another, of all rounds.
struct Ratios(Vec<f64>);

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        write!(
            f,
            "{:.2} ({:.2} to {:.2})",
            at(sorted.len() / 2),
            at(0),
            at(sorted.len().saturating_sub(1))
        )
    }
}

/// Measures both devices direct, relayed, and after the hand-back, in turns, so that what else the
/// host does hits all of them.
pub fn run(
    report: &mut Report,
    wire: &Wire,
    rounds: u32,
    count: u32,
    event_index: bool,
) -> Result<()> {
    ensure!(rounds > 0, "nothing is measured in no rounds");
    ensure!(
        WARM + count < 60_000,
        "so many frames would end the relay that is measured"
    );
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let mut round = Vec::new();
        for start in [0, FAR, NEAR] {
            let setup = Setup {
                start,
                event_index,
                ..Setup::default()
            };
            let measured = measure(wire, setup, count);
            let Some(figure) = report.step(format!("frames flow from index {start} on"), measured)
            else {
                return Ok(());
            };
            round.push(figure);
        }
        figures.push(round);
    }
    for (index, name) in [(1, "relayed"), (2, "after the hand-back")] {
        let ratios = |value: fn(&Figure) -> f64| -> Result<Ratios> {
            let of = |round: &Vec<Figure>| -> Result<f64> {
                let direct = value(round.first().context("no figure")?);
                Ok(value(round.get(index).context("no figure")?) / direct)
            };
            Ok(Ratios(figures.iter().map(of).collect::<Result<_>>()?))
        };
        report.note(format!(
            "{name}, in proportion to direct: throughput {}, interrupts per frame {}",
            ratios(|figure| figure.rate)?,
            ratios(|figure| figure.interrupts)?
        ));
    }
    Ok(())
}

fn measure(wire: &Wire, setup: Setup, count: u32) -> Result<Figure> {
    let mut ports = [Port::open(&wire.a, setup)?, Port::open(&wire.b, setup)?];
    exchange::verify(&mut ports, &BOTH, WARM)?;
    let before = interrupts(&ports);
    let start = Instant::now();
    exchange::verify(&mut ports, &BOTH, count)?;
    let frames = 2.0 * f64::from(count);
    Ok(Figure {
        rate: frames / start.elapsed().as_secs_f64(),
        interrupts: f64::from(interrupts(&ports).wrapping_sub(before)) / frames,
    })
}

/// Interrupts of all queues, as their owner has seen them.
fn interrupts(ports: &[Port]) -> u32 {
    let all: u64 = ports
        .iter()
        .flat_map(Port::queues)
        .map(|queue| queue.interrupts)
        .sum();
    u32::try_from(all % (1 << 32)).unwrap_or(0)
}
