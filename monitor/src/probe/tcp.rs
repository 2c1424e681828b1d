//! Connects, and hangs up at once.
//!
//! With a reset and not a farewell: a thousand tests a minute would else leave as many sockets in
//! TIME_WAIT, each of which takes a port for a minute.

use tokio::net::TcpStream;

/// Whether somebody accepts at `target`.
pub(super) async fn test(target: &str) -> Result<(), String> {
    let stream = connect(target).await?;
    // Only the port is at stake: a farewell would do as well.
    let _farewell = stream.set_zero_linger();
    Ok(())
}

/// Connects.
pub(super) async fn connect(target: &str) -> Result<TcpStream, String> {
    let address = super::socket(target)?;
    let stream = TcpStream::connect(address).await;
    stream.map_err(|error| format!("cannot connect to {target}: {}", short(&error)))
}

/// An error without its number.
pub(super) fn bare(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

/// As [`bare`], in lower case, as our own words are.
pub(super) fn short(error: &std::io::Error) -> String {
    bare(error).to_lowercase()
}
