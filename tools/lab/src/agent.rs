// SPDX-License-Identifier: GPL-2.0
//! The host's end of the channel to the agent in the virtual machine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// First byte of the lines that are for the lab and not output.
const MARK: char = '\u{1}';

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Status(i32),
    /// Not within its limit.
    TimedOut,
    /// With the machine.
    Died,
}

/// What a case asks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To do something; it goes on meanwhile.
    Do(&'a str),
    /// To do something and to answer, for which it waits.
    Answer(&'a str),
}

/// The channel.
pub struct Agent {
    stream: UnixStream,
    lines: Receiver<String>,
    count: u32,
}

impl Agent {
    /// Takes over the connection from the machine's second serial port.
    pub fn new(stream: UnixStream) -> Result<Self> {
        let mut reader = stream.try_clone().context("the agent's channel")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut pending = Vec::new();
            let mut chunk = [0; 4096];
            // The sender goes away with this thread, which tells the other end that the machine died.
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                pending.extend_from_slice(chunk.get(..count).unwrap_or_default());
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if sender
                        .send(line.trim_end_matches(['\n', '\r']).to_owned())
                        .is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Self {
            stream,
            lines,
            count: 0,
        })
    }

    /// Waits for the agent's first words; `tick` is called several times a second.
    pub fn wait_ready(&self, limit: Duration, mut tick: impl FnMut()) -> bool {
        let began = Instant::now();
        while began.elapsed() < limit {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.ends_with("ready") && line.contains(MARK) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => tick(),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    /// A word that no other command of this machine has.
    pub fn nonce(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    /// Runs `command`, which the kernel's log knows as `name`. `on_line` sees each line of output and
    /// `on_request` what a case asks of the host; who asks for an answer, and not only for something to
    /// be done, gets what that returns, in one line.
    pub fn run(
        &mut self,
        nonce: &str,
        name: &str,
        command: &str,
        limit: Duration,
        mut on_line: impl FnMut(&str),
        mut on_request: impl FnMut(Request<'_>) -> String,
    ) -> Ended {
        // In one piece: the other end may go away as soon as it has read a part.
        let request = format!("run {nonce} {name} {command}\n");
        if self.stream.write_all(request.as_bytes()).is_err() {
            return Ended::Died;
        }
        let began = Instant::now();
        let end = format!("{MARK}{nonce} end ");
        let mut blank = false;
        loop {
            let Some(left) = limit.checked_sub(began.elapsed()) else {
                return Ended::TimedOut;
            };
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Ended::TimedOut,
                Err(RecvTimeoutError::Disconnected) => return Ended::Died,
            };
            if let Some(status) = line.strip_prefix(&end) {
                return Ended::Status(status.trim().parse().unwrap_or(-1));
            }
            if let Some(request) = line.strip_prefix(&format!("{MARK}host ")) {
                on_request(Request::Do(request));
                continue;
            }
            if let Some(request) = line.strip_prefix(&format!("{MARK}ask ")) {
                let answer = on_request(Request::Answer(request)).replace('\n', " ");
                if self
                    .stream
                    .write_all(format!("{answer}\n").as_bytes())
                    .is_err()
                {
                    return Ended::Died;
                }
                continue;
            }
            // The agent starts its own lines with a line feed; do not pass those on.
            if line.is_empty() {
                blank = true;
                continue;
            }
            if std::mem::take(&mut blank) {
                on_line("");
            }
            on_line(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(script: &'static str) -> (Agent, thread::JoinHandle<String>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let other = thread::spawn(move || {
            let mut request = [0; 128];
            let _ = theirs.read(&mut request).unwrap();
            theirs.write_all(script.as_bytes()).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answers = String::new();
            theirs.read_to_string(&mut answers).unwrap();
            answers
        });
        (Agent::new(ours).unwrap(), other)
    }

    fn run(script: &'static str, limit: Duration) -> (Ended, Vec<String>, Vec<String>) {
        let (ended, output, requests, _) = converse(script, limit);
        (ended, output, requests)
    }

    /// Also returns what the other end was answered.
    fn converse(
        script: &'static str,
        limit: Duration,
    ) -> (Ended, Vec<String>, Vec<String>, String) {
        let (mut agent, other) = talk(script);
        let (mut output, mut requests) = (Vec::new(), Vec::new());
        let ended = agent.run(
            "n1",
            "g/c",
            "true",
            limit,
            |line| output.push(line.to_owned()),
            |request| {
                let (Request::Do(text) | Request::Answer(text)) = request;
                requests.push(text.to_owned());
                "as you\nlike".to_owned()
            },
        );
        drop(agent);
        (ended, output, requests, other.join().unwrap())
    }

    #[test]
    fn output_requests_and_the_end_are_told_apart() {
        let long = Duration::from_secs(60);
        let (ended, output, requests) = run(
            "ok 1\n\n\u{1}host unplug hot\nlast\n\n\u{1}n1 end 3\n",
            long,
        );
        assert_eq!(
            (ended, requests),
            (Ended::Status(3), vec!["unplug hot".to_owned()])
        );
        assert_eq!(output, ["ok 1", "", "last"]);
    }

    #[test]
    fn who_asks_is_answered() {
        let (ended, _, requests, answers) = converse(
            "\u{1}host plug hot\n\u{1}ask model gone\n\u{1}n1 end 0\n",
            Duration::from_secs(60),
        );
        assert_eq!(ended, Ended::Status(0));
        assert_eq!(requests, ["plug hot", "model gone"]);
        assert_eq!(answers, "as you like\n");
    }

    #[test]
    fn a_closed_channel_is_a_dead_machine() {
        assert_eq!(
            run("ok 1\n\u{1}n2 end 0\n", Duration::from_secs(60)).0,
            Ended::Died
        );
    }

    #[test]
    fn silence_is_a_timeout() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ended = Agent::new(ours).unwrap().run(
            "n1",
            "g/c",
            "true",
            Duration::from_millis(10),
            |_| {},
            |_| String::new(),
        );
        assert_eq!(ended, Ended::TimedOut);
    }
}
