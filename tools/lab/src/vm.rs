// SPDX-License-Identifier: GPL-2.0
//! The virtual machine: its boot, what it is asked, its end.

use std::env;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::agent::Agent;
use crate::console::Console;
use crate::context::Context;
use crate::emulator::{self, DISK, DISK_LEN, PLUGGABLE};
use crate::model::Place;
use crate::program;
use crate::qmp::Control;
use crate::step::{self, Progress};

/// Time a boot may take: many times what it takes on an idle machine.
const BOOT: Duration = Duration::from_secs(240);

/// What a machine is made of.
pub struct Parts {
    /// Kernel image.
    pub image: PathBuf,
    /// First root file system.
    pub initramfs: PathBuf,
    /// Directory of the stock modules.
    pub modules: PathBuf,
    /// Directory of those who use the devices, which lies over the root file system if the kernel is told so.
    pub consumers: Option<PathBuf>,
    /// Directory that appears as `/lab`.
    pub share: PathBuf,
    /// Where the logs go.
    pub logs: PathBuf,
    /// The model is there from the start: a kernel that watches locks complains of the
    /// way in which the PCI core takes one in later, and watches no more.
    pub model_at_once: bool,
}

/// A running machine.
pub struct Vm {
    child: Child,
    /// Channel to the agent.
    pub agent: Agent,
    /// Kernel's log.
    pub console: Console,
    control: Control,
    model: Place,
    sockets: PathBuf,
    /// What it was booted with besides what all have.
    words: Vec<String>,
}

impl Vm {
    /// Boots a machine whose kernel is given `words` besides; `number` tells the boots of one run apart.
    pub fn boot(parts: &Parts, number: u32, words: &[String]) -> Result<Self> {
        let console = Console::new(&parts.logs.join(format!("console-{number}.log")));
        let log = parts.logs.join(format!("emulator-{number}.log"));
        let sockets = env::temp_dir().join(format!("vm-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&sockets)?;
        let agent = UnixListener::bind(sockets.join("agent"))?;
        let control = UnixListener::bind(sockets.join("control"))?;
        std::fs::File::create(sockets.join(DISK))?.set_len(DISK_LEN)?;
        let queued = emulator::multiqueue_works();
        let mut command = emulator::command(parts, &sockets, console.path(), queued, words);
        let mut model = Place::new(
            parts.share.join("bin").join(program::MODEL),
            sockets.clone(),
            parts.logs.join(format!("model-{number}.log")),
        );
        if parts.model_at_once {
            command.arg("-device").arg(model.start()?.to_string());
        }
        let output = File::create(&log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting the emulator")?;
        let mut progress = Progress::new("booting the machine");
        let ready = accept(&agent, &mut child).and_then(|agent| {
            let control = Control::new(accept(&control, &mut child)?)?;
            let agent = Agent::new(agent)?;
            let ready = agent.wait_ready(BOOT * Context::slowness(), || progress.tick());
            anyhow::ensure!(ready, "it stopped at: {}", console.last_line());
            Ok((agent, control))
        });
        match ready {
            Ok((agent, control)) => Ok(Self {
                child,
                agent,
                console,
                control,
                model,
                sockets,
                words: words.to_owned(),
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = step::tail(&log, 3);
                bail!(
                    "the machine did not boot: {error:#}\n{said}\nconsole: {}",
                    console.path().display()
                )
            }
        }
    }

    /// The channel and the host at once: a command may ask for something while it runs.
    pub fn split(&mut self) -> (&mut Agent, Host<'_>) {
        let host = Host {
            control: &mut self.control,
            model: &mut self.model,
        };
        (&mut self.agent, host)
    }

    /// Whether a device is missing that was there at boot.
    pub fn is_incomplete(&self) -> bool {
        self.control.unplugged
    }

    /// Whether its kernel was given `words`, and no others, besides what all are given.
    pub fn has_words(&self, words: &[String]) -> bool {
        self.words == words
    }

    /// Connects to the machine's shell.
    pub fn shell(&self) -> Result<UnixStream> {
        UnixStream::connect(self.sockets.join("shell")).context("connecting to the machine's shell")
    }
}

/// What a case can ask something of.
pub struct Host<'a> {
    control: &'a mut Control,
    model: &'a mut Place,
}

impl Host<'_> {
    /// Carries out what a case asked for, and returns the answer.
    pub fn request(&mut self, request: &str) -> Result<String> {
        let words: Vec<&str> = request.split_whitespace().collect();
        match words.as_slice() {
            ["model", words @ ..] => self.model.request(words, self.control),
            _ => self
                .control
                .request(request, &PLUGGABLE)
                .map(|()| "ok".to_owned()),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

/// The emulator connects at once, or ends with an error.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let began = Instant::now();
    while began.elapsed() < BOOT {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            return Ok(stream);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the emulator ended with {status}");
        }
        sleep(Duration::from_millis(20));
    }
    bail!("the emulator did not connect")
}
