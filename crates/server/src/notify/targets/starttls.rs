//! STARTTLS: from a connection without TLS to one with it.
//!
//! Nothing that was received before TLS counts afterwards but the greeting, which has no effect: the server is asked again
//! what it offers.

use hyper::body::Bytes;
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::greeted_stream::GreetedStream;
use crate::notify::delivery_error::DeliveryError;
use crate::outgoing::{quote, secure};
use quire_types::secret::Redactor;
use quire_types::smtp_url::SmtpUrl;

/// The largest reply, in bytes.
const MAX_REPLY: u64 = 16 << 10;

/// A reply of the server: its text, all lines of which begin with the same code.
struct SmtpReply(Vec<u8>);

/// Switches a connection to TLS.
pub(super) async fn start_tls(
    stream: TcpStream,
    url: &SmtpUrl,
    hello: &ClientId,
    redactor: &Redactor,
) -> Result<GreetedStream, DeliveryError> {
    let mut stream = BufReader::new(stream);
    let failed = |problem: String| DeliveryError::Smtp {
        server: url.to_string(),
        problem,
    };
    let expect = |reply: SmtpReply, code: &str| {
        if reply.has_code(code) {
            return Ok(reply);
        }
        Err(DeliveryError::Answered {
            origin: url.to_string(),
            answer: quote(&String::from_utf8_lossy(&reply.0), redactor),
            retry_after: None,
        })
    };
    let greeting = expect(read_reply(&mut stream).await.map_err(failed)?, "220")?;
    send(&mut stream, &format!("EHLO {hello}\r\n"))
        .await
        .map_err(failed)?;
    let offer = expect(read_reply(&mut stream).await.map_err(failed)?, "250")?;
    if !offer.offers("STARTTLS") {
        return Err(DeliveryError::NoStartTls {
            server: url.to_string(),
        });
    }
    send(&mut stream, "STARTTLS\r\n").await.map_err(failed)?;
    expect(read_reply(&mut stream).await.map_err(failed)?, "220")?;
    if !stream.buffer().is_empty() {
        // Somebody between here and the server may have put it there.
        return Err(failed("there is text between STARTTLS and TLS".to_owned()));
    }
    let stream = secure(stream.into_inner(), url.host()).await?;
    Ok(GreetedStream::after_greeting(
        Bytes::from(greeting.0),
        stream,
    ))
}

async fn send(stream: &mut BufReader<TcpStream>, command: &str) -> Result<(), String> {
    let written = stream.write_all(command.as_bytes()).await;
    written.map_err(|error| error.to_string())
}

async fn read_reply(stream: &mut BufReader<TcpStream>) -> Result<SmtpReply, String> {
    let mut text = Vec::new();
    let mut limited = stream.take(MAX_REPLY);
    loop {
        let start = text.len();
        let read = limited.read_until(b'\n', &mut text).await;
        read.map_err(|error| error.to_string())?;
        let line = &text[start..];
        if !line.ends_with(b"\n") {
            return Err("the server closed it within a reply, or its reply is too long".to_owned());
        }
        let is_reply = line.len() > 3 && line[..3].iter().all(u8::is_ascii_digit);
        match line.get(3) {
            Some(b'-') if is_reply => {}
            Some(b' ' | b'\r' | b'\n') if is_reply => return Ok(SmtpReply(text)),
            _ => return Err("what answers is no mail server".to_owned()),
        }
    }
}

impl SmtpReply {
    fn has_code(&self, code: &str) -> bool {
        self.0.starts_with(code.as_bytes())
    }

    /// Whether a line after the first one is this keyword.
    fn offers(&self, keyword: &str) -> bool {
        let text = String::from_utf8_lossy(&self.0);
        let mut keywords = text.lines().skip(1).filter_map(|line| line.get(4..));
        keywords.any(|line| line.trim().eq_ignore_ascii_case(keyword))
    }
}
