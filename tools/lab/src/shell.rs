// SPDX-License-Identifier: GPL-2.0
//! The user's terminal on the machine's console.

use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::Result;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Ctrl-], the key that leaves the shell.
const LEAVE: u8 = 0x1d;

/// The terminal as it was, put back when dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Result<Self> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Joins the terminal with the shell until Ctrl-], the end of the input, or the end of the machine.
pub fn join(stream: UnixStream) -> Result<()> {
    println!("A shell in the machine: the project is in /lab, Ctrl-] leaves and ends the machine.");
    let _raw = Raw::enter()?;
    let mut from = stream.try_clone()?;
    let output = thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let mut out = io::stdout().lock();
            if out
                .write_all(chunk.get(..count).unwrap_or_default())
                .and_then(|()| out.flush())
                .is_err()
            {
                break;
            }
        }
    });
    let mut to = stream;
    to.write_all(b"\n")?;
    let mut chunk = [0; 256];
    while let Ok(count @ 1..) = io::stdin().read(&mut chunk) {
        let typed = chunk.get(..count).unwrap_or_default();
        if typed.contains(&LEAVE) || to.write_all(typed).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = output.join();
    Ok(())
}
