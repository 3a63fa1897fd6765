//! What the connection manager answers, as WebSocket frames: the head becomes a header block, the
//! body passes, and a status that is missing is made up.

use super::frame::{self, BINARY};
use super::grpc_web::{Walker, number, put_block, status_of_http};
use super::head::{Found, find_end, find_token, put_field, split};

/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// The digits of a chunk's size, and its extensions.
const MAX_SIZE_LINE: u8 = 64;

/// The server's side of a call.
#[derive(Debug)]
pub struct Answer {
    state: State,
    walker: Walker,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    /// In the line with a chunk's size: what it says so far, and how long it is.
    Size {
        size: u64,
        len: u8,
        digits: bool,
    },
    Chunk(u64),
    /// After a chunk: so many bytes of its CRLF are to come.
    ChunkEnd(u8),
    /// A body of a known length.
    Counted(u64),
    /// A body that ends with its connection.
    Endless,
    Over,
}

/// How far the answer is after some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Going,
    /// The call is over, with this status.
    Over(u8),
    /// The answer is none: the call's outcome is not known.
    Broken(&'static str),
}

/// What the bytes amounted to.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub progress: Progress,
    pub messages: u32,
    /// Whether the head was in these bytes.
    pub began: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            state: State::Head(Vec::new()),
            walker: Walker::default(),
        }
    }
}

impl Answer {
    /// Takes bytes of the answer and appends frames for the client to `out`.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Passed {
        let mut passed = Passed {
            progress: Progress::Going,
            messages: 0,
            began: false,
        };
        while !bytes.is_empty() && passed.progress == Progress::Going {
            passed.progress = match &mut self.state {
                State::Head(_) => self.head(&mut bytes, out, &mut passed.began),
                State::Size { .. } => self.size(&mut bytes, out),
                State::Chunk(left) | State::Counted(left) => {
                    let take = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                    *left -= take as u64;
                    let (whole, chunked) = (*left == 0, matches!(self.state, State::Chunk(_)));
                    if whole && chunked {
                        self.state = State::ChunkEnd(2);
                    }
                    let progress = self.body(&bytes[..take], out, &mut passed.messages);
                    bytes = &bytes[take..];
                    if progress == Progress::Going && whole && !chunked {
                        self.finish(out)
                    } else {
                        progress
                    }
                }
                State::ChunkEnd(left) => {
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Size {
                            size: 0,
                            len: 0,
                            digits: true,
                        };
                    }
                    bytes = &bytes[1..];
                    Progress::Going
                }
                State::Endless => {
                    let progress = self.body(bytes, out, &mut passed.messages);
                    bytes = &[];
                    progress
                }
                State::Over => {
                    bytes = &[];
                    Progress::Going
                }
            };
        }
        if passed.progress != Progress::Going {
            self.state = State::Over;
        }
        passed
    }

    fn body(&mut self, piece: &[u8], out: &mut Vec<u8>, messages: &mut u32) -> Progress {
        let walked = self.walker.walk(piece);
        *messages += walked.messages;
        if walked.used > 0 {
            frame::put(out, BINARY, &piece[..walked.used]);
        }
        walked.status.map_or(Progress::Going, Progress::Over)
    }

    /// The body is over and no trailers came.
    fn finish(&mut self, out: &mut Vec<u8>) -> Progress {
        if !self.walker.between_frames() {
            return Progress::Broken("the answer ends inside a message");
        }
        put_block(
            out,
            b"grpc-status: 2\r\ngrpc-message: the answer has no status\r\n",
        );
        Progress::Over(2)
    }

    fn size(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>) -> Progress {
        let State::Size { size, len, digits } = &mut self.state else {
            return Progress::Going;
        };
        while let [byte, rest @ ..] = *bytes {
            *bytes = rest;
            *len = len.saturating_add(1);
            match byte {
                b'\n' if *size == 0 => return self.finish(out),
                b'\n' => {
                    self.state = State::Chunk(*size);
                    return Progress::Going;
                }
                b';' | b'\r' => *digits = false,
                _ if *digits => match char::from(*byte).to_digit(16) {
                    Some(digit) if *size >> 60 == 0 => *size = *size << 4 | u64::from(digit),
                    _ => return Progress::Broken("the size of a chunk is no number"),
                },
                _ => {}
            }
            if *len > MAX_SIZE_LINE {
                return Progress::Broken("the size of a chunk is too long");
            }
        }
        Progress::Going
    }

    fn head(&mut self, bytes: &mut &[u8], out: &mut Vec<u8>, began: &mut bool) -> Progress {
        let State::Head(head) = &mut self.state else {
            return Progress::Going;
        };
        let (before, looked) = (head.len(), head.len().saturating_sub(3));
        head.extend_from_slice(bytes);
        let end = match find_end(head, looked) {
            Found::End(end) => end,
            Found::NotYet if head.len() <= MAX_HEAD => {
                *bytes = &[];
                return Progress::Going;
            }
            _ => return Progress::Broken("the head of the answer is too long or none"),
        };
        *bytes = &bytes[end - before..];
        head.truncate(end);
        let head = std::mem::take(head);
        let Some(read) = read_head(&head) else {
            return Progress::Broken("the head of the answer is none");
        };
        if (100..200).contains(&read.status) {
            self.state = State::Head(Vec::new());
            return Progress::Going;
        }
        *began = true;
        put_block(out, &read.headers);
        if let Some(status) = read.grpc_status {
            put_block(out, &read.trailers);
            return Progress::Over(status);
        }
        self.state = match read.body {
            Body::Chunked => State::Size {
                size: 0,
                len: 0,
                digits: true,
            },
            Body::Counted(0) => return self.finish(out),
            Body::Counted(len) => State::Counted(len),
            Body::Endless => State::Endless,
        };
        Progress::Going
    }
}

enum Body {
    Chunked,
    Counted(u64),
    Endless,
}

struct Head {
    status: u16,
    headers: Vec<u8>,
    trailers: Vec<u8>,
    /// Set if the head is all there is of the answer.
    grpc_status: Option<u8>,
    body: Body,
}

/// Fields that are of this hop.
const OF_THIS_HOP: [&[u8]; 6] = [
    b"connection",
    b"content-length",
    b"date",
    b"keep-alive",
    b"server",
    b"transfer-encoding",
];

fn read_head(head: &[u8]) -> Option<Head> {
    let (line, fields) = split(head).ok()?;
    let status = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    let mut read = Head {
        status,
        headers: Vec::new(),
        trailers: Vec::new(),
        grpc_status: None,
        body: Body::Endless,
    };
    let mut others = Vec::new();
    for field in fields {
        let (name, value) = field.ok()?;
        let name = name.to_ascii_lowercase();
        match name.as_slice() {
            b"transfer-encoding" if find_token(value, "chunked").is_some() => {
                read.body = Body::Chunked;
            }
            b"content-length" => {
                let length = std::str::from_utf8(value).ok()?.parse().ok()?;
                read.body = Body::Counted(length);
            }
            b"grpc-status" => {
                read.grpc_status = Some(number(value));
                put_field(&mut read.trailers, &name, value);
            }
            b"grpc-message" | b"grpc-status-details-bin" => {
                put_field(&mut read.trailers, &name, value);
            }
            b"content-type" => put_field(&mut read.headers, &name, value),
            name if OF_THIS_HOP.contains(&name) || name.starts_with(b"x-envoy-") => {}
            name => put_field(&mut others, name, value),
        }
    }
    if status != 200 && read.grpc_status.is_none() {
        let meaning = status_of_http(status);
        let lines = format!("grpc-status: {meaning}\r\ngrpc-message: HTTP status {status}\r\n");
        read.trailers.extend_from_slice(lines.as_bytes());
        read.grpc_status = Some(meaning);
    }
    // A head that is all there is holds the trailers (gRPC over HTTP/2, Trailers-Only).
    if read.grpc_status.is_some() {
        read.trailers.extend_from_slice(&others);
    } else {
        read.headers.extend_from_slice(&others);
    }
    Some(read)
}
