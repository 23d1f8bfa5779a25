// SPDX-License-Identifier: GPL-2.0
//! What cases ask of the emulator: plugging, unplugging, pulling the cable.
//!
//! Four commands of QMP, so plain JSON: the crate with all of its types takes longer to compile than
//! the rest of the lab.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

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

impl Pluggable {
    /// Arguments of `device_add`.
    fn arguments(&self) -> Value {
        let mut arguments = Map::new();
        for (name, value) in [("id", self.id), ("driver", self.driver), ("bus", self.bus)]
            .iter()
            .chain(self.properties)
        {
            let value = match *value {
                "on" => Value::Bool(true),
                "off" => Value::Bool(false),
                other => match other.parse::<u64>() {
                    Ok(number) => Value::from(number),
                    Err(_) => Value::from(other),
                },
            };
            arguments.insert((*name).to_owned(), value);
        }
        Value::Object(arguments)
    }
}

/// The control socket.
pub struct Control {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    /// Whether a device is missing that was there at boot.
    pub unplugged: bool,
}

impl Control {
    /// Takes over the connection from the emulator.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut control = Self {
            reader,
            writer: stream,
            unplugged: false,
        };
        let greeting = control.message().context("the emulator's control socket")?;
        anyhow::ensure!(
            greeting.get("QMP").is_some(),
            "the emulator greets with {greeting}"
        );
        control.execute("qmp_capabilities", json!({}))?;
        Ok(control)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line)?;
        anyhow::ensure!(count > 0, "the emulator has closed its control socket");
        Ok(serde_json::from_str(&line)?)
    }

    /// Sends one command and takes its answer; events in between are passed over.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<()> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}")?;
        loop {
            let message = self.message()?;
            if message.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = message.get("error") {
                bail!(
                    "{}",
                    error
                        .get("desc")
                        .and_then(Value::as_str)
                        .unwrap_or("no reason given")
                );
            }
        }
    }

    /// Carries out what a case asked for: `unplug ID`, `plug ID`, `link ID up|down`.
    pub fn request(&mut self, request: &str, known: &[Pluggable]) -> Result<()> {
        let words: Vec<&str> = request.split_whitespace().collect();
        let find = |id: &str| {
            let device = known.iter().find(|device| device.id == id);
            device.with_context(|| format!("{id} cannot be plugged"))
        };
        match words.as_slice() {
            ["unplug", id] => {
                self.execute("device_del", json!({ "id": find(id)?.id }))?;
                self.unplugged = true;
            }
            ["plug", id] => {
                self.execute("device_add", find(id)?.arguments())?;
                self.unplugged = false;
            }
            ["link", id, state @ ("up" | "down")] => {
                self.execute("set_link", json!({ "name": id, "up": *state == "up" }))?;
            }
            _ => bail!("the host does not know how to `{request}`"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const HOT: [Pluggable; 1] = [Pluggable {
        id: "hot",
        driver: "d",
        bus: "b",
        properties: &[("ats", "on"), ("romfile", "")],
    }];

    /// Talks to an emulator that says `answers`, one line a request; returns what it was asked.
    fn talk(answers: &'static [&'static str], requests: &[&str]) -> (Vec<bool>, Vec<String>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let emulator = thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writeln!(writer, "{{\"QMP\": {{}}}}").unwrap();
            let mut asked = Vec::new();
            let mut lines = BufReader::new(theirs).lines();
            for answer in ["{\"return\": {}}"].iter().chain(answers) {
                asked.push(lines.next().unwrap().unwrap());
                writeln!(writer, "{answer}").unwrap();
            }
            asked
        });
        let mut control = Control::new(ours).unwrap();
        let good = requests
            .iter()
            .map(|request| control.request(request, &HOT).is_ok())
            .collect();
        (good, emulator.join().unwrap())
    }

    #[test]
    fn requests_become_commands() {
        let answers = &[
            "{\"event\": \"X\"}\n{\"return\": {}}",
            "{\"return\": {}}",
            "{\"return\": {}}",
        ];
        let (good, asked) = talk(answers, &["unplug hot", "plug hot", "link vf0 down"]);
        assert_eq!(good, [true, true, true]);
        assert!(
            asked[1].contains("device_del") && asked[1].contains("\"id\":\"hot\""),
            "{}",
            asked[1]
        );
        assert!(
            asked[2].contains("\"ats\":true") && asked[2].contains("\"romfile\":\"\""),
            "{}",
            asked[2]
        );
        assert!(asked[3].contains("\"up\":false"), "{}", asked[3]);
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let (good, _) = talk(
            &["{\"error\": {\"desc\": \"no\"}}"],
            &["link vf9 up", "unplug cold", "dance"],
        );
        assert_eq!(good, [false, false, false]);
    }
}
