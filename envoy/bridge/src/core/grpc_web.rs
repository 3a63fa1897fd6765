//! Frames of gRPC-Web in an answer's body: followed as they pass, to know when the call is over and
//! with which status.

use super::frame;

const TRAILERS: u8 = 0x80;
const PREFIX: usize = 5;
/// The longest trailers that are kept to read the status from.
const MAX_TRAILERS: usize = 16 * 1024;

/// gRPC's UNKNOWN.
pub const UNKNOWN: u8 = 2;

/// Follows the frames of one body.
#[derive(Debug, Default)]
pub struct Walker {
    prefix: [u8; PREFIX],
    have: u8,
    left: u32,
    trailers: Option<Vec<u8>>,
    over: bool,
}

/// What a piece of the body completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// How much of the piece belongs to the body: all, unless it goes on after the trailers.
    pub used: usize,
    pub messages: u32,
    /// The status, once the trailers are whole.
    pub status: Option<u8>,
}

impl Walker {
    /// Whether the body may end here: between two frames.
    pub fn between_frames(&self) -> bool {
        self.have == 0
    }

    pub fn walk(&mut self, piece: &[u8]) -> Walked {
        let mut walked = Walked::default();
        let mut rest = piece;
        while !self.over && (!rest.is_empty() || self.is_whole()) {
            if usize::from(self.have) < PREFIX {
                self.take_prefix(&mut rest);
                continue;
            }
            let take = rest.len().min(self.left as usize);
            if let Some(trailers) = &mut self.trailers {
                let room = MAX_TRAILERS.saturating_sub(trailers.len());
                trailers.extend_from_slice(&rest[..take.min(room)]);
            }
            rest = &rest[take..];
            self.left -= take as u32;
            if self.is_whole() {
                self.have = 0;
                match self.trailers.take() {
                    Some(trailers) => {
                        walked.status = Some(status_in(&trailers));
                        self.over = true;
                    }
                    None => walked.messages += 1,
                }
            }
        }
        walked.used = piece.len() - rest.len();
        walked
    }

    fn is_whole(&self) -> bool {
        usize::from(self.have) == PREFIX && self.left == 0
    }

    fn take_prefix(&mut self, rest: &mut &[u8]) {
        let start = usize::from(self.have);
        let take = rest.len().min(PREFIX - start);
        self.prefix[start..start + take].copy_from_slice(&rest[..take]);
        *rest = &rest[take..];
        self.have += take as u8;
        if usize::from(self.have) == PREFIX {
            let [flags, a, b, c, d] = self.prefix;
            self.left = u32::from_be_bytes([a, b, c, d]);
            self.trailers = (flags & TRAILERS != 0).then(Vec::new);
        }
    }
}

/// The number of `grpc-status` in lines `name:value`; UNKNOWN if there is none that is a number.
fn status_in(trailers: &[u8]) -> u8 {
    trailers
        .split(|c| *c == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|c| *c == b':')?;
            let name = line[..colon].trim_ascii();
            name.eq_ignore_ascii_case(b"grpc-status")
                .then(|| number(&line[colon + 1..]))
        })
        .next()
        .unwrap_or(UNKNOWN)
}

/// A status as a number; UNKNOWN if it is none.
pub fn number(text: &[u8]) -> u8 {
    std::str::from_utf8(text.trim_ascii())
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(UNKNOWN)
}

/// Appends a block of header or trailer lines as a WebSocket frame.
pub fn put_block(out: &mut Vec<u8>, lines: &[u8]) {
    frame::put_header(out, frame::BINARY, PREFIX + lines.len());
    out.push(TRAILERS);
    out.extend_from_slice(&(lines.len() as u32).to_be_bytes());
    out.extend_from_slice(lines);
}

/// What an HTTP status means to a gRPC client (gRPC's http-grpc-status-mapping, with 413 and 431 as
/// the limits that they are).
pub fn status_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 | 431 => 8,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}
