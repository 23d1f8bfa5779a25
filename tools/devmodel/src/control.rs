// SPDX-License-Identifier: GPL-2.0

//! The control socket: one line asks, one line answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Result, bail};

use crate::backend::Shared;
use crate::shape::Shape;

/// Serves whoever connects, one after the other.
pub fn serve(listener: &UnixListener, device: &Shared) {
    for stream in listener.incoming().flatten() {
        // Who goes away has heard enough.
        let _ = talk(stream, device);
    }
}

fn talk(stream: UnixStream, device: &Shared) -> Result<()> {
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let said = match answer(&line?, device) {
            Ok(said) => said,
            Err(error) => format!("error: {error:#}").replace('\n', " "),
        };
        writeln!(writer, "{said}")?;
    }
    Ok(())
}

fn answer(line: &str, device: &Shared) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["shape", options @ ..] => {
            let shape = Shape::parse(options)?;
            device.lock().take_shape(shape);
        }
        ["misbehave", words @ ..] => device.lock().misbehave(words)?,
        ["behave"] => device.lock().behave(),
        ["state"] => return device.lock().state(),
        _ => bail!(
            "this is neither shape [OPTION]..., misbehave NAME [NUMBER], behave nor state: {line}"
        ),
    }
    Ok("ok".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::shape::tests::shape;

    #[test]
    fn lines_are_answered() {
        let device = Shared::new(Device::new(shape("")));
        assert_eq!(answer("misbehave never-reset", &device).unwrap(), "ok");
        let state = answer("state", &device).unwrap();
        assert!(
            state.contains("\"misbehaves\":[\"never-reset\"]"),
            "{state}"
        );
        assert!(!state.contains('\n'));
        assert!(answer("misbehave badly", &device).is_err());
        assert!(answer("be good", &device).is_err());
        assert_eq!(answer("shape --queue-pairs 4", &device).unwrap(), "ok");
        assert_eq!(device.lock().shape.queues(), 9);
        assert!(answer("shape --round", &device).is_err());
        assert_eq!(answer("behave", &device).unwrap(), "ok");
    }
}
