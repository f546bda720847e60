//! A terminal that programs write to, and a reader of its screen.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rows and columns of the terminal.
const SIZE: (u16, u16) = (40, 140);

/// What a program left on its terminal.
#[derive(Debug)]
pub struct Screen {
    /// The exit code.
    pub code: i32,
    /// Everything that it wrote, as it came.
    pub raw: String,
    /// The screen, each time something was written to it.
    pub frames: Vec<String>,
}

impl Screen {
    /// What stands there at the end.
    #[must_use]
    pub fn last(&self) -> &str {
        self.frames.last().map_or("", String::as_str)
    }
}

/// Runs a program to its end with a terminal as its input, output and error.
///
/// # Panics
/// There is no terminal to be had, or the program hangs.
pub(crate) fn run(mut command: Command, limit: Duration) -> Screen {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("a terminal of our own");
    unlockpt(&ours).expect("a terminal that can be opened");
    tcsetwinsize(&ours, Winsize { ws_row: SIZE.0, ws_col: SIZE.1, ws_xpixel: 0, ws_ypixel: 0 })
        .expect("a size");
    let name = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("a path");
    let theirs = || OpenOptions::new().read(true).write(true).open(&name).expect("its other end");
    command.stdin(theirs()).stdout(theirs()).stderr(theirs());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // So that reading ends when the program does.
    drop(command);
    let mut terminal = File::from(ours);
    let reader = std::thread::spawn(move || {
        let mut parser = vt100::Parser::new(SIZE.0, SIZE.1, 200);
        let (mut raw, mut frames) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4_096];
        // At its end a terminal answers with an error.
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            raw.extend_from_slice(&buffer[..read]);
            parser.process(&buffer[..read]);
            frames.push(parser.screen().contents());
        }
        (String::from_utf8_lossy(&raw).into_owned(), frames)
    });
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("its state") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it hangs: {:?}", reader.join().map(|(raw, _)| raw));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (raw, frames) = reader.join().expect("it is joined");
    Screen { code: status.code().unwrap_or(-1), raw, frames }
}
