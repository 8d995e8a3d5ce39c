//! A server of names whose answers change: the first address of a name at the first question, and the second one later. Only root may
//! listen where the system's resolver asks.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Of loopback, and no other server's.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 1);
const PORT: u16 = 53;
/// A question for an address of IPv4.
const TYPE_A: [u8; 2] = [0, 1];

/// The server, until it is dropped.
#[derive(Debug)]
pub struct RebindingNameServer {
    asked: Arc<Mutex<HashMap<String, usize>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RebindingNameServer {
    /// Answers each name with `first` at the first question for its address, and with `later` after that.
    pub fn start(first: Ipv4Addr, later: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((ADDRESS, PORT)).expect("root listens at port 53");
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let ended = Arc::<AtomicBool>::default();
        let (counts, stop) = (asked.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Some((name, kind, end)) = question(&buffer[..length]) else {
                    continue;
                };
                let address = (kind == TYPE_A).then(|| {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry(name).or_default();
                    *count += 1;
                    if *count == 1 { first } else { later }
                });
                let _ = socket.send_to(&answer(&buffer[..end], address), from);
            }
        });
        Self {
            asked,
            ended,
            thread: Some(thread),
        }
    }

    /// The line of `resolv.conf` with its address.
    pub fn resolv_conf() -> String {
        format!("nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")
    }

    /// How often the address of a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

/// The name, its type, and where the question ends.
fn question(packet: &[u8]) -> Option<(String, [u8; 2], usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = packet.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = packet.get(at..at + 2)?.try_into().ok()?;
    packet.get(at + 4 - 1)?;
    Some((labels.join("."), kind, at + 4))
}

/// The answer to a question with this address, or with none. It may not be kept.
fn answer(question: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut packet = question.to_vec();
    // It is an answer; recursion was done; one question, the answers, nothing else.
    packet[2..4].copy_from_slice(&[0x81, 0x80]);
    packet[4..12].copy_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    if let Some(address) = address {
        // The name of the question, A, IN, no time to live, four bytes.
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        packet.extend(address.octets());
    }
    packet
}

impl Drop for RebindingNameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Ends the wait for a question.
        let wake = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let _ = wake.and_then(|socket| socket.send_to(&[], (ADDRESS, PORT)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
