// SPDX-License-Identifier: GPL-2.0
//! The function of our own, `tools/devmodel`: a process beside the emulator, plugged when a case wants
//! it first. It stays then: the emulator (QEMU 11.1) did not survive unplugging it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::qmp::Control;

/// The emulator's name for it.
const ID: &str = "model";
/// The root port that is kept free for it.
pub const PORT: &str = "modelport";
/// Time that its process may take to listen, and to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The place for it in one machine.
pub struct Place {
    /// Its program.
    program: PathBuf,
    /// Where its sockets are.
    sockets: PathBuf,
    /// What it says.
    log: PathBuf,
    /// The one that is there.
    model: Option<Model>,
}

/// One that runs.
struct Model {
    child: Child,
    control: PathBuf,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// An empty place.
    pub fn new(program: PathBuf, sockets: PathBuf, log: PathBuf) -> Self {
        Self {
            program,
            sockets,
            log,
            model: None,
        }
    }

    /// Carries out what a case asked for, and returns the answer: `plug`, `say LINE`.
    pub fn request(&mut self, words: &[&str], emulator: &mut Control) -> Result<String> {
        match words {
            ["plug"] => self.plug(emulator),
            ["say", words @ ..] => self.say(&words.join(" ")),
            _ => bail!("the model does not know how to `{}`", words.join(" ")),
        }
    }

    /// Plugs it, unless it is there.
    fn plug(&mut self, emulator: &mut Control) -> Result<String> {
        if self.model.is_some() {
            return Ok("there".to_owned());
        }
        let device = self.start()?;
        emulator.execute("device_add", device).inspect_err(|_| {
            self.model = None;
        })?;
        Ok("plugged".to_owned())
    }

    /// Starts it. Returns it as a device for the emulator.
    pub fn start(&mut self) -> Result<Value> {
        let socket = self.sockets.join("model");
        let control = self.sockets.join("model-control");
        let log = File::create(&self.log)?;
        // A lab that is killed takes it with it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .arg("--socket")
            .arg(&socket)
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the model")?;
        let model = self.model.insert(Model { child, control });
        let began = Instant::now();
        while !socket.exists() {
            let ended = model.child.try_wait()?;
            if ended.is_some() || began.elapsed() > ANSWER {
                self.model = None;
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("the model does not start: {}", said.replace('\n', " "));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(json!({
            "id": ID,
            "driver": "vfio-user-pci",
            "bus": PORT,
            "socket": { "type": "unix", "path": socket },
        }))
    }

    fn say(&mut self, line: &str) -> Result<String> {
        let model = self.model.as_ref().context("there is no model")?;
        let mut stream = UnixStream::connect(&model.control).context("the model is gone")?;
        stream.set_read_timeout(Some(ANSWER))?;
        writeln!(stream, "{line}")?;
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said)?;
        ensure!(!said.is_empty(), "the model has ended");
        Ok(said.trim_end().to_owned())
    }
}
