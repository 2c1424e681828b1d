//! The log: on standard error, for people or machines, and with priorities where the journal reads it.
//!
//! journald and `logger --prio-prefix` take the number in angle brackets before a line as its priority, so
//! `journalctl -p warning` works without a connection of our own to the journal. It is written only where
//! standard error is the journal's, as systemd says in `JOURNAL_STREAM`.

use std::fmt;

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Changes the least urgent level that is written.
pub type Relevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Starts it, for the life of the process. Gives what changes its level; one that `RAIS_LOG` chose stays.
pub fn start(config: LogConfig) -> Relevel {
    let chosen = EnvFilter::try_from_env("RAIS_LOG").ok();
    let follows = chosen.is_none();
    let filter = chosen.unwrap_or_else(|| quiet(config.level));
    let (filter, handle) = reload::Layer::new(filter);
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let journal = stream.is_some() && stream == own_stream();
    let log = tracing_subscriber::fmt::layer()
        // It would be told on standard error too, where a reader that has gone makes that a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let line = format::format().with_target(false).with_ansi(false);
    let log = match config.format {
        // The journal keeps the time itself.
        LogFormat::Text if journal => log.event_format(Prioritized(line.without_time())).boxed(),
        LogFormat::Text => log.event_format(line).boxed(),
        LogFormat::Json => {
            let (log, object) = (log.json(), line.json().flatten_event(true));
            match journal {
                true => log.event_format(Prioritized(object)).boxed(),
                false => log.event_format(object).boxed(),
            }
        }
    };
    tracing_subscriber::registry().with(filter).with(log).init();
    Box::new(move |level| {
        if follows && let Err(error) = handle.reload(quiet(level)) {
            tracing::warn!(%error, "the level of the log stays as it was");
        }
    })
}

/// This level, less what others' code says too much of.
fn quiet(level: LogLevel) -> EnvFilter {
    let level = level.as_str();
    EnvFilter::new(format!(
        "{level},openraft=off,sled=warn,hickory_server=warn"
    ))
}

/// Device and inode of standard error, as `JOURNAL_STREAM` has them.
fn own_stream() -> Option<String> {
    let file = fstat(std::io::stderr()).ok()?;
    Some(format!("{}:{}", file.st_dev, file.st_ino))
}

/// Lines that begin with their priority.
struct Prioritized<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// The priority of syslog (RFC 5424) for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Goal: the journal sees each level as the priority that it is. Method: one line of each, written to a
    /// page as they would be to the journal.
    #[test]
    fn each_level_begins_with_its_priority() {
        let page = Page::default();
        let writer = page.clone();
        let line = format::format().with_target(false).with_ansi(false);
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .event_format(Prioritized(line.without_time()))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(log.finish(), || {
            tracing::error!(kind = "cannotAssign", "act now");
            tracing::warn!("act this week");
            tracing::info!("what changed");
            tracing::debug!("for us");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let starts = [
            "<3>ERROR act now kind=\"cannotAssign\"",
            "<4> WARN act",
            "<6> INFO what",
            "<7>DEBUG for us",
        ];
        assert_eq!(text.lines().count(), starts.len());
        for (line, start) in text.lines().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
    }
}
