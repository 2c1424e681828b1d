//! What the demo shows: what to type next, and the array as it lives.
//!
//! On a terminal the picture is drawn anew in place; into a file or a pipe only news are written, a
//! line each.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stdout};

use super::layout::{Layout, ZONE};
use crate::api::{EventRecord, Status};
use crate::cli::{self, Style};

/// Lines of news kept below the picture.
const NEWS: usize = 12;

/// The demo's screen.
pub struct Screen<'a> {
    layout: &'a Layout,
    terminal: bool,
    style: Style,
    news: Vec<String>,
    since: Option<u64>,
    drawn: String,
}

impl<'a> Screen<'a> {
    /// The screen of one demo.
    pub fn new(layout: &'a Layout) -> Self {
        let terminal = stdout().is_terminal();
        Self {
            layout,
            terminal,
            style: Style::of_stdout(),
            news: Vec::new(),
            since: None,
            drawn: String::new(),
        }
    }

    /// The log index of the last event shown.
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// Says what to type; on a terminal it stands above every picture.
    pub fn instructions(&self) {
        if !self.terminal {
            print(&self.guide());
        }
    }

    /// Adds a line of news.
    pub fn say(&mut self, line: &str) {
        if self.news.last().map(String::as_str) == Some(line) {
            return;
        }
        if !self.terminal {
            print(&format!("{line}\n"));
        }
        self.news.push(line.to_owned());
        let over = self.news.len().saturating_sub(NEWS);
        self.news.drain(..over);
    }

    /// Shows the array, and what happened since.
    pub fn draw(&mut self, status: &Status, events: &[EventRecord]) {
        for event in events {
            self.since = self.since.max(Some(event.index));
            let line = cli::event(event, self.style);
            self.say(line.trim_end());
        }
        if !self.terminal {
            return;
        }
        let mut picture = self.guide();
        picture.push_str(&cli::status(status, self.style));
        picture.push('\n');
        for line in &self.news {
            let _infallible = writeln!(picture, "{line}");
        }
        if picture != self.drawn {
            // Home, then each line cleared to its end, then everything below.
            print(&format!(
                "\x1b[H{}\x1b[J",
                picture.replace('\n', "\x1b[K\n")
            ));
            self.drawn = picture;
        }
    }

    fn guide(&self) -> String {
        let Layout {
            dir,
            dns_port,
            http_port,
            ..
        } = self.layout;
        let (dir, zone) = (dir.display(), ZONE);
        format!(
            "An array of {hosts} hosts. In another terminal:\n\
             \x20 dig @127.77.0.1 -p {dns_port} {zone} +short            who is published\n\
             \x20 curl http://127.77.1.2:{http_port}/                    who serves h2's address\n\
             \x20 kill -9 $(cat {dir}/h2/rais.pid)      kill h2, and ask again\n\
             \x20 rais demo --restart h2 --dir {dir}    bring it back\n\
             \x20 rais why 127.77.1.2 --data-dir {dir}/h1\n\
             \x20 https://{admin}/                  the dashboard (the array's own certificate)\n\
             Ctrl-C ends all.\n\n",
            hosts = self.layout.hosts,
            admin = self.layout.admin(1),
        )
    }
}

/// Writes to standard output, which may be a pipe whose reader has gone.
pub fn print(text: &str) {
    let mut out = stdout();
    // A closed terminal ends the demo by its signal.
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
