//! What a client sends, as an HTTP/1.1 request: the first message is the head, the others are chunks.

use super::Violation;
use super::close_code::{PROTOCOL_ERROR, TOO_BIG, UNSUPPORTED};
use super::head::{LAST_CHUNK, put_chunk};
use super::metadata;

/// The byte before a message of the call.
const MESSAGE: u8 = 0;
/// The only byte of the frame that ends the client's side.
const FINISH: u8 = 1;
const GRPC_PREFIX: usize = 5;
/// What a WebSocket message has more than the message of the call in it.
pub const OVERHEAD: u64 = 1 + GRPC_PREFIX as u64;

/// The client's side of a call.
#[derive(Debug)]
pub struct Call {
    max_message: u64,
    max_metadata: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The beginning of the head, and what has come of the metadata frame.
    Metadata {
        head: Vec<u8>,
        frame: Vec<u8>,
    },
    /// Between two messages.
    Open,
    /// The first byte of a message has not come yet.
    Unnamed,
    /// In a message: what has come of its prefix, and what is left of it when that is whole.
    Message {
        prefix: [u8; GRPC_PREFIX],
        have: u8,
        left: u64,
    },
    /// The frame that finishes has begun.
    Finishing,
    Finished,
}

/// What a piece completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// The call has begun; so many fields of its metadata were left out.
    Begun {
        dropped: u32,
    },
    Message,
    Finished,
}

impl Call {
    /// A call whose request begins with `head`.
    pub fn new(head: Vec<u8>, max_message: u64, max_metadata: usize) -> Self {
        Self {
            max_message,
            max_metadata,
            state: State::Metadata {
                head,
                frame: Vec::new(),
            },
        }
    }

    /// Whether the request has begun.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Metadata { .. })
    }

    /// Takes a piece of a WebSocket message and appends what it means to `out`.
    pub fn data(
        &mut self,
        piece: &[u8],
        first: bool,
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<Step, Violation> {
        if let State::Metadata { head, frame } = &mut self.state {
            if frame.len() + piece.len() > self.max_metadata {
                return violation(TOO_BIG, "the metadata is too long");
            }
            frame.extend_from_slice(piece);
            if !last {
                return Ok(Step::Nothing);
            }
            out.append(head);
            let dropped = metadata::put_fields(out, frame)?;
            out.extend_from_slice(b"\r\n");
            self.state = State::Open;
            return Ok(Step::Begun { dropped });
        }
        if first {
            if matches!(self.state, State::Finished) {
                return violation(PROTOCOL_ERROR, "a message came after the last");
            }
            self.state = State::Unnamed;
        }
        let mut piece = piece;
        if let (State::Unnamed, [named, rest @ ..]) = (&self.state, piece) {
            self.state = match *named {
                MESSAGE => State::Message {
                    prefix: [0; GRPC_PREFIX],
                    have: 0,
                    left: 0,
                },
                FINISH => State::Finishing,
                _ => return violation(PROTOCOL_ERROR, "a message begins with neither 0 nor 1"),
            };
            piece = rest;
        }
        self.content(piece, out)?;
        if last {
            self.end(out)
        } else {
            Ok(Step::Nothing)
        }
    }

    fn content(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
        if piece.is_empty() {
            return Ok(());
        }
        let State::Message { prefix, have, left } = &mut self.state else {
            return violation(PROTOCOL_ERROR, "the frame that finishes is one byte long");
        };
        let mut payload = piece;
        if usize::from(*have) < GRPC_PREFIX {
            let start = usize::from(*have);
            let take = payload.len().min(GRPC_PREFIX - start);
            prefix[start..start + take].copy_from_slice(&payload[..take]);
            *have += take as u8;
            payload = &payload[take..];
            if prefix[0] != 0 {
                return violation(UNSUPPORTED, "compressed messages are not taken");
            }
            if usize::from(*have) == GRPC_PREFIX {
                let [_, a, b, c, d] = *prefix;
                *left = u64::from(u32::from_be_bytes([a, b, c, d]));
                if *left > self.max_message {
                    return violation(TOO_BIG, "the message is too long");
                }
            }
        }
        let Some(rest) = left.checked_sub(payload.len() as u64) else {
            return violation(PROTOCOL_ERROR, "a message is longer than its prefix says");
        };
        *left = rest;
        put_chunk(out, piece);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<Step, Violation> {
        match self.state {
            State::Message { have, left, .. } if usize::from(have) == GRPC_PREFIX && left == 0 => {
                self.state = State::Open;
                Ok(Step::Message)
            }
            State::Finishing => {
                self.state = State::Finished;
                out.extend_from_slice(LAST_CHUNK);
                Ok(Step::Finished)
            }
            State::Unnamed => violation(PROTOCOL_ERROR, "a message is empty"),
            _ => violation(PROTOCOL_ERROR, "a message is shorter than its prefix says"),
        }
    }
}

fn violation<T>(code: u16, why: &'static str) -> Result<T, Violation> {
    Err(Violation { code, why })
}
