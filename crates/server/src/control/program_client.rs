//! The client that asks the server for the program.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use super::client::{ControlError, MAX_RESPONSE, connect, send};
use super::protocol::{ControlRequest, ControlResponse};
use quire_types::paths::Paths;

const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest program that is read, in bytes.
const MAX_PROGRAM: u64 = 1 << 30;

/// Reads the program from the server.
pub fn fetch(paths: &Paths) -> Result<Vec<u8>, ControlError> {
    let mut stream = connect(&paths.control_socket()).map_err(ControlError::Unreachable)?;
    send(&mut stream, &ControlRequest::Program, SEND_TIMEOUT)?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX);
    let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
    read.map_err(|_| ControlError::TimedOut)?;
    let bytes = match serde_json::from_slice(&line).map_err(ControlError::Malformed)? {
        ControlResponse::Program { bytes } if bytes <= MAX_PROGRAM => bytes,
        ControlResponse::Error { message } => return Err(ControlError::Failed(message)),
        _ => return Err(ControlError::Unexpected),
    };
    let mut program = Vec::new();
    let read = reader.take(bytes).read_to_end(&mut program);
    match read {
        Ok(read) if read as u64 == bytes => Ok(program),
        _ => Err(ControlError::TimedOut),
    }
}
