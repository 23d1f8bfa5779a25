// SPDX-License-Identifier: GPL-2.0
//! What cases ask of the emulator: plugging, unplugging, pulling the cable.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qapi::{Qmp, Stream, qmp};

/// Device that can be unplugged: driver, bus and properties, for plugging it again.
pub struct Pluggable {
    /// Its name.
    pub id: &'static str,
    /// Model.
    pub driver: &'static str,
    /// Root port.
    pub bus: &'static str,
    /// All other properties, as on the command line.
    pub properties: &'static [(&'static str, &'static str)],
}

/// The control socket.
pub struct Control {
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
    /// Whether a device is missing that was there at boot.
    pub unplugged: bool,
}

impl Control {
    /// Takes over the connection from the emulator.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut qmp = Qmp::new(Stream::new(reader, stream));
        qmp.handshake().context("the emulator's control socket")?;
        Ok(Self {
            qmp,
            unplugged: false,
        })
    }

    /// Carries out what a case asked for: `unplug ID`, `plug ID`, `link ID up|down`.
    pub fn request(&mut self, request: &str, known: &[Pluggable]) -> Result<()> {
        let words: Vec<&str> = request.split_whitespace().collect();
        let find = |id: &str| {
            known
                .iter()
                .find(|device| device.id == id)
                .with_context(|| format!("{id} cannot be plugged"))
        };
        match words.as_slice() {
            ["unplug", id] => {
                find(id)?;
                self.qmp.execute(&qmp::device_del {
                    id: (*id).to_owned(),
                })?;
                self.unplugged = true;
            }
            ["plug", id] => {
                let device = find(id)?;
                let arguments = device.properties.iter().map(|(name, value)| {
                    let value = match *value {
                        "on" => true.into(),
                        "off" => false.into(),
                        other => other.into(),
                    };
                    ((*name).to_owned(), value)
                });
                self.qmp.execute(&qmp::device_add {
                    driver: device.driver.to_owned(),
                    bus: Some(device.bus.to_owned()),
                    id: Some(device.id.to_owned()),
                    arguments: arguments.collect(),
                })?;
                self.unplugged = false;
            }
            ["link", id, state @ ("up" | "down")] => {
                self.qmp.execute(&qmp::set_link {
                    name: (*id).to_owned(),
                    up: *state == "up",
                })?;
            }
            _ => bail!("the host does not know how to `{request}`"),
        }
        Ok(())
    }
}
