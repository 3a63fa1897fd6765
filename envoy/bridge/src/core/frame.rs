//! Frames of RFC 6455, section 5: read from a client piece by piece, written to it whole.

use super::Violation;
use super::close_code::{BAD_DATA, PROTOCOL_ERROR, TOO_BIG, UNSUPPORTED};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The longest payload of a control frame (section 5.5).
pub const MAX_CONTROL: usize = 125;
const MAX_HEADER: usize = 14;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message: `first` and `last` are of the message, not of the frame.
    Data {
        piece: &'a [u8],
        first: bool,
        last: bool,
    },
    Ping(&'a [u8]),
    Pong,
    /// The code, 1005 if there was none. Its reason has been checked and is of no use to us.
    Close(u16),
}

/// Reads a client's frames. Holds at most one header or control frame, never a message.
#[derive(Debug)]
pub struct Reader {
    max_message: u64,
    header: [u8; MAX_HEADER],
    header_len: u8,
    control: Vec<u8>,
    frame: Option<Frame>,
    /// Bytes of the message so far, if one has begun and not ended.
    message: Option<u64>,
    /// Whether no piece of that message has been given out yet.
    fresh: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: u8,
    left: u64,
    mask: [u8; 4],
}

impl Reader {
    /// A reader that refuses messages of more than `max_message` bytes.
    pub fn new(max_message: u64) -> Self {
        Self {
            max_message,
            header: [0; MAX_HEADER],
            header_len: 0,
            control: Vec::new(),
            frame: None,
            message: None,
            fresh: false,
        }
    }

    /// Takes the next event off `input`, which is unmasked in place; `None` when it is used up.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'s>>, Violation> {
        let frame = match self.frame {
            Some(frame) => frame,
            None => match self.read_header(input)? {
                Some(frame) => frame,
                None => return Ok(None),
            },
        };
        if input.is_empty() && frame.left > 0 {
            return Ok(None);
        }
        let len = usize::try_from(frame.left).map_or(input.len(), |left| left.min(input.len()));
        let (piece, rest) = std::mem::take(input).split_at_mut(len);
        *input = rest;
        unmask(piece, frame.mask);
        let left = frame.left - len as u64;
        self.frame = Some(Frame {
            left,
            mask: rotated(frame.mask, len),
            ..frame
        });
        if frame.opcode >= CLOSE {
            return self.control_piece(frame.opcode, piece, left == 0);
        }
        if left == 0 {
            self.frame = None;
        }
        let last = left == 0 && frame.fin;
        let first = std::mem::take(&mut self.fresh);
        if last {
            self.message = None;
        }
        Ok(Some(Event::Data { piece, first, last }))
    }

    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        loop {
            let have = usize::from(self.header_len);
            let need = header_len(&self.header[..have]);
            if have == need {
                break;
            }
            let take = (need - have).min(input.len());
            if take == 0 {
                return Ok(None);
            }
            let (bytes, rest) = std::mem::take(input).split_at_mut(take);
            *input = rest;
            self.header[have..have + take].copy_from_slice(bytes);
            self.header_len += take as u8;
            // What is wrong in the first two bytes is said at once, not when the rest has come.
            if self.header_len == 2 {
                check_start(self.header[0], self.header[1], self.message.is_some())?;
            }
        }
        let frame = self.parse_header()?;
        self.header_len = 0;
        self.frame = Some(frame);
        Ok(Some(frame))
    }

    fn parse_header(&mut self) -> Result<Frame, Violation> {
        let header = &self.header;
        let (left, mask_at) = match header[1] & 0x7F {
            126 => (u64::from(u16::from_be_bytes([header[2], header[3]])), 4),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&header[2..10]);
                (u64::from_be_bytes(bytes), 10)
            }
            short => (u64::from(short), 2),
        };
        let shortest = match left {
            0..126 => 2,
            126..0x1_0000 => 4,
            _ => 10,
        };
        if shortest != mask_at {
            return violation(
                PROTOCOL_ERROR,
                "a frame's length is not in its shortest form",
            );
        }
        if left >> 63 != 0 {
            return violation(PROTOCOL_ERROR, "a frame's length has its top bit set");
        }
        let frame = Frame {
            fin: header[0] & 0x80 != 0,
            opcode: header[0] & 0x0F,
            left,
            mask: [
                header[mask_at],
                header[mask_at + 1],
                header[mask_at + 2],
                header[mask_at + 3],
            ],
        };
        if frame.opcode < CLOSE {
            let total = self.message.unwrap_or(0).saturating_add(left);
            if total > self.max_message {
                return violation(TOO_BIG, "the message is too long");
            }
            if self.message.is_none() {
                self.fresh = true;
            }
            self.message = Some(total);
        } else {
            self.control.clear();
        }
        Ok(frame)
    }

    fn control_piece(
        &mut self,
        opcode: u8,
        piece: &[u8],
        whole: bool,
    ) -> Result<Option<Event<'_>>, Violation> {
        self.control.extend_from_slice(piece);
        if !whole {
            return Ok(None);
        }
        self.frame = None;
        match opcode {
            PING => Ok(Some(Event::Ping(&self.control))),
            PONG => Ok(Some(Event::Pong)),
            _ => Ok(Some(Event::Close(closing_code(&self.control)?))),
        }
    }
}

fn violation<T>(code: u16, why: &'static str) -> Result<T, Violation> {
    Err(Violation { code, why })
}

/// How long the header is that begins with these bytes, as far as they tell.
fn header_len(start: &[u8]) -> usize {
    match start.get(1).map(|second| second & 0x7F) {
        None => 2,
        Some(126) => 8,
        Some(127) => 14,
        Some(_) => 6,
    }
}

fn check_start(first: u8, second: u8, in_message: bool) -> Result<(), Violation> {
    if first & 0x70 != 0 {
        return violation(PROTOCOL_ERROR, "a reserved bit is set");
    }
    if second & 0x80 == 0 {
        return violation(PROTOCOL_ERROR, "a client's frame is not masked");
    }
    match first & 0x0F {
        CONTINUATION if !in_message => violation(PROTOCOL_ERROR, "there is nothing to continue"),
        TEXT | BINARY if in_message => violation(PROTOCOL_ERROR, "a message begins inside another"),
        TEXT => violation(UNSUPPORTED, "binary frames only"),
        CONTINUATION | BINARY => Ok(()),
        CLOSE | PING | PONG if first & 0x80 == 0 => {
            violation(PROTOCOL_ERROR, "a control frame is fragmented")
        }
        CLOSE | PING | PONG if usize::from(second & 0x7F) > MAX_CONTROL => {
            violation(PROTOCOL_ERROR, "a control frame is too long")
        }
        CLOSE | PING | PONG => Ok(()),
        _ => violation(PROTOCOL_ERROR, "the opcode is reserved"),
    }
}

/// Sections 5.5.1 and 7.4: no body, or a code that may be sent and a reason in UTF-8.
fn closing_code(body: &[u8]) -> Result<u16, Violation> {
    let (code, reason) = match body {
        [] => return Ok(1005),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => return violation(PROTOCOL_ERROR, "a close frame has half a code"),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return violation(PROTOCOL_ERROR, "this close code may not be sent");
    }
    if std::str::from_utf8(reason).is_err() {
        return violation(BAD_DATA, "a close reason is not UTF-8");
    }
    Ok(code)
}

/// Section 5.3, eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut plain = [0; 8];
        plain.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(plain) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// The mask for what follows `used` bytes.
fn rotated(mut mask: [u8; 4], used: usize) -> [u8; 4] {
    mask.rotate_left(used % 4);
    mask
}

/// Appends the header of an unfragmented frame of ours; `len` bytes are to follow.
pub fn put_header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    match len {
        0..126 => out.push(len as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame.
pub fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    put_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame. A reason of ours is short ASCII.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason.as_bytes()[..reason.len().min(MAX_CONTROL - 2)];
    put_header(out, CLOSE, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}
