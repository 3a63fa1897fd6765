//! One WebSocket, from its handshake to its close: the client's side and the server's side of a call.

use super::Violation;
use super::answer::{Answer, Progress};
use super::call::{Call, OVERHEAD, Step};
use super::close_code::{INTERNAL, NORMAL};
use super::frame::{self, Event, PING, PONG, Reader};

/// The bounds of one WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_metadata: usize,
    pub max_message: u64,
}

/// What comes of some bytes. The caller empties the buffers.
#[derive(Debug, Default)]
pub struct Out {
    pub to_client: Vec<u8>,
    pub to_server: Vec<u8>,
    /// Set once: nothing of the WebSocket follows `to_client`.
    pub end: Option<End>,
    pub counts: Counts,
}

/// How a WebSocket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed it, and cancelled the call by that.
    ByClient,
    /// The call is over and the client was told, with this status.
    Answered { status: u8 },
    /// The client broke a rule.
    Violated(Violation),
    /// The server's side broke.
    Failed(&'static str),
    /// We ended it, with this code.
    ByUs(u16),
}

/// What passed, for the counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub messages_in: u32,
    pub messages_out: u32,
    pub pings: u32,
    pub metadata_dropped: u32,
    pub begun: bool,
    pub answered: bool,
}

/// A WebSocket after its handshake.
#[derive(Debug)]
pub struct Session {
    reader: Reader,
    call: Call,
    answer: Answer,
    closed: bool,
    /// Whether the client takes nothing: then one pong is kept for it, that of its last ping, which
    /// RFC 6455, section 5.5.3, allows. A client could fill our memory with pings otherwise.
    blocked: bool,
    owed_pong: Option<Vec<u8>>,
}

impl Session {
    /// A session whose request begins with `head`.
    pub fn new(head: Vec<u8>, limits: Limits) -> Self {
        Self {
            reader: Reader::new(limits.max_message.saturating_add(OVERHEAD)),
            call: Call::new(head, limits.max_message, limits.max_metadata),
            answer: Answer::default(),
            closed: false,
            blocked: false,
            owed_pong: None,
        }
    }

    /// Whether the metadata frame has come.
    pub fn has_begun(&self) -> bool {
        self.call.has_begun()
    }

    /// Whether a close frame was sent.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes bytes of the client, which are unmasked in place.
    pub fn from_client(&mut self, bytes: &mut [u8], out: &mut Out) {
        let mut rest = bytes;
        // What follows our close frame is of no use: the caller closes the connection.
        while !self.closed {
            match self.reader.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(Event::Data { piece, first, last })) => {
                    match self.call.data(piece, first, last, &mut out.to_server) {
                        Ok(step) => out.counts.step(&step),
                        Err(violation) => self.violated(violation, out),
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    out.counts.pings += 1;
                    if self.blocked {
                        self.owed_pong = Some(payload.to_vec());
                    } else {
                        frame::put(&mut out.to_client, PONG, payload);
                    }
                }
                Ok(Some(Event::Pong)) => {}
                Ok(Some(Event::Close(code))) => {
                    let echo = if code == 1005 { NORMAL } else { code };
                    self.put_close(echo, "", out);
                    out.end = Some(End::ByClient);
                }
                Err(violation) => self.violated(violation, out),
            }
        }
    }

    /// Takes bytes of the connection manager's answer.
    pub fn from_server(&mut self, bytes: &[u8], out: &mut Out) {
        if self.closed {
            return;
        }
        let passed = self.answer.feed(bytes, &mut out.to_client);
        out.counts.messages_out += passed.messages;
        out.counts.answered |= passed.began;
        match passed.progress {
            Progress::Going => {}
            Progress::Over(status) => {
                self.put_close(NORMAL, "", out);
                out.end = Some(End::Answered { status });
            }
            Progress::Broken(why) => {
                self.put_close(INTERNAL, why, out);
                out.end = Some(End::Failed(why));
            }
        }
    }

    /// Asks the client for a sign of life.
    pub fn ping(&mut self, out: &mut Out) {
        if !self.closed && !self.blocked {
            frame::put(&mut out.to_client, PING, b"");
        }
    }

    /// Ends it from our side.
    pub fn close(&mut self, code: u16, why: &str, out: &mut Out) {
        if !self.closed {
            self.put_close(code, why, out);
            out.end = Some(End::ByUs(code));
        }
    }

    /// Whether a pong could be sent now that could not before.
    pub fn owes_pong(&self) -> bool {
        !self.blocked && !self.closed && self.owed_pong.is_some()
    }

    /// Notes whether the client takes what is written to it.
    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Sends the pong that the client is owed.
    pub fn pay_pong(&mut self, out: &mut Out) {
        if self.owes_pong()
            && let Some(payload) = self.owed_pong.take()
        {
            frame::put(&mut out.to_client, PONG, &payload);
        }
    }

    fn violated(&mut self, violation: Violation, out: &mut Out) {
        self.put_close(violation.code, violation.why, out);
        out.end = Some(End::Violated(violation));
    }

    fn put_close(&mut self, code: u16, why: &str, out: &mut Out) {
        if !self.closed {
            frame::put_close(&mut out.to_client, code, why);
            self.closed = true;
        }
    }
}

impl Counts {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Begun { dropped } => {
                self.begun = true;
                self.metadata_dropped += dropped;
            }
            Step::Message => self.messages_in += 1,
            Step::Nothing | Step::Finished => {}
        }
    }
}
