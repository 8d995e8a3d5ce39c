//! The client of an import: it passes on progress until the response is here.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use super::client::{ControlError, MAX_RESPONSE, connect, send};
use super::protocol::{ControlRequest, ControlResponse, ImportReport, ImportRequest};
use quire_types::paths::Paths;

const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Imports a repository. `show` gets each line of progress, and whether it stays; the import is ended if it fails.
pub fn import_repo(
    paths: &Paths,
    request: ImportRequest,
    mut show: impl FnMut(&str, bool) -> std::io::Result<()>,
) -> Result<ImportReport, ControlError> {
    let mut stream = connect(&paths.control_socket()).map_err(ControlError::Unreachable)?;
    send(
        &mut stream,
        &ControlRequest::ImportRepo(request),
        SEND_TIMEOUT,
    )?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        // An import may take hours. If the server ends, so does the connection.
        let limit = u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return Err(ControlError::Disconnected);
        }
        match serde_json::from_slice(&line).map_err(ControlError::Malformed)? {
            ControlResponse::Progress { text, is_final } => {
                show(&text, is_final).map_err(|_| ControlError::Disconnected)?;
            }
            ControlResponse::Imported(report) => return Ok(report),
            ControlResponse::Error { message } => return Err(ControlError::Failed(message)),
            _ => return Err(ControlError::Unexpected),
        }
    }
}
