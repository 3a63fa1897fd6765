//! Which connections are ours, and the opening handshake of those (RFC 6455, section 4.2).

use super::codes::{accept_key, is_key};
use super::head::{Found, find_end, find_token, put_field, split};
use super::origin::AllowedOrigins;

pub const SUBPROTOCOL: &str = "grpc-websockets";
const METHOD: &[u8] = b"GET ";

/// What the first bytes of a connection say.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// More bytes are needed.
    Undecided,
    /// Not for us: the connection manager is to see every byte of it.
    Other,
    /// For us. The head took `used` bytes.
    Opening { used: usize, opening: Opening },
    /// For us, and not to be had.
    Refused(Refusal),
}

/// A handshake that is granted.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// What the client is answered.
    pub answer: Vec<u8>,
    /// The beginning of the request for the connection manager: its first line and the fields of the
    /// handshake that it may know.
    pub request: Vec<u8>,
    pub path: String,
}

/// Why a handshake is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Origin,
    Version,
    Malformed(&'static str),
    Late,
}

impl Refusal {
    /// The HTTP answer that says it.
    pub fn answer(self) -> Vec<u8> {
        let (status, more, body) = match self {
            Self::Origin => ("403 Forbidden", "", "this origin is not allowed here"),
            Self::Version => (
                "426 Upgrade Required",
                "sec-websocket-version: 13\r\nupgrade: websocket\r\n",
                "version 13 of the WebSocket protocol is spoken here",
            ),
            Self::Malformed(why) => ("400 Bad Request", "", why),
            Self::Late => (
                "408 Request Timeout",
                "",
                "the request head did not come in time",
            ),
        };
        format!(
            "HTTP/1.1 {status}\r\n{more}content-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// Looks at all bytes so far of a connection; those before `from` were looked at already.
pub fn look(bytes: &[u8], from: usize, max_head: usize, origins: &AllowedOrigins) -> Look {
    let start = bytes.len().min(METHOD.len());
    if bytes[..start] != METHOD[..start] {
        return Look::Other;
    }
    let within = &bytes[..bytes.len().min(max_head)];
    match find_end(within, from) {
        Found::End(used) => judge(&within[..used], used, origins),
        Found::BareLineFeed => Look::Other,
        Found::NotYet if bytes.len() >= max_head => Look::Other,
        Found::NotYet => Look::Undecided,
    }
}

/// The fields of a handshake that matter.
#[derive(Default)]
struct Asked<'a> {
    websocket: bool,
    connection: bool,
    subprotocol: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    /// A body, or a field that may be there once came twice.
    unclear: bool,
    kept: Vec<(&'a [u8], &'a [u8])>,
}

/// Fields of a handshake that go on to the connection manager: who asks, from where, and the trace.
/// Cookies do not, so that no page can act with what a browser adds by itself.
const KEPT: [&str; 13] = [
    "accept-language",
    "b3",
    "forwarded",
    "origin",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

fn judge(head: &[u8], used: usize, origins: &AllowedOrigins) -> Look {
    let Some((target, asked)) = read(head) else {
        return Look::Other;
    };
    let (true, Some(subprotocol)) = (asked.websocket, asked.subprotocol) else {
        return Look::Other;
    };
    let refused = |why| Look::Refused(Refusal::Malformed(why));
    if asked.unclear {
        return refused("a field that may come once came twice, or the handshake has a body");
    }
    if !asked.connection {
        return refused("the field connection does not say upgrade");
    }
    if asked.version != Some(b"13") {
        return Look::Refused(Refusal::Version);
    }
    let Some(key) = asked.key.filter(|key| is_key(key)) else {
        return refused("sec-websocket-key is not the base64 of 16 bytes");
    };
    let Some(host) = asked.host.filter(|host| is_host(host)) else {
        return refused("the field host is missing or is no host");
    };
    let Some(path) = method_path(target) else {
        return refused("the path is not /package.Service/Method");
    };
    if !origins.allows(asked.origin, host) {
        return Look::Refused(Refusal::Origin);
    }
    Look::Opening {
        used,
        opening: Opening {
            answer: switching(key, subprotocol),
            request: request_start(path, host, &asked.kept),
            path: path.to_owned(),
        },
    }
}

fn read(head: &[u8]) -> Option<(&[u8], Asked<'_>)> {
    let (line, fields) = split(head).ok()?;
    let target = line.strip_prefix(METHOD)?.strip_suffix(b" HTTP/1.1")?;
    let mut asked = Asked::default();
    for field in fields {
        let (name, value) = field.ok()?;
        match name.to_ascii_lowercase().as_slice() {
            b"upgrade" => asked.websocket |= find_token(value, "websocket").is_some(),
            b"connection" => asked.connection |= find_token(value, "upgrade").is_some(),
            b"sec-websocket-protocol" => {
                asked.subprotocol = asked.subprotocol.or(find_token(value, SUBPROTOCOL));
            }
            b"sec-websocket-version" => once(&mut asked.version, value, &mut asked.unclear),
            b"sec-websocket-key" => once(&mut asked.key, value, &mut asked.unclear),
            b"host" => once(&mut asked.host, value, &mut asked.unclear),
            b"transfer-encoding" => asked.unclear = true,
            b"content-length" => asked.unclear |= value != b"0",
            lower => {
                if lower == b"origin" {
                    once(&mut asked.origin, value, &mut asked.unclear);
                }
                if KEPT.iter().any(|kept| kept.as_bytes() == lower) && is_plain(value) {
                    asked.kept.push((name, value));
                }
            }
        }
    }
    Some((target, asked))
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], unclear: &mut bool) {
    *unclear |= slot.replace(value).is_some();
}

fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|c| matches!(c, 0x20..=0x7E))
}

fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(c))
}

/// The path without its query, in which some would put a token; `None` if it names no method.
fn method_path(target: &[u8]) -> Option<&str> {
    let target = std::str::from_utf8(target).ok()?;
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let named = |segment: &&str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
    };
    (segments.len() >= 2 && segments.iter().all(named)).then_some(path)
}

fn switching(key: &[u8], subprotocol: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
        connection: Upgrade\r\n"
        .to_vec();
    put_field(
        &mut answer,
        b"sec-websocket-accept",
        accept_key(key).as_bytes(),
    );
    put_field(&mut answer, b"sec-websocket-protocol", subprotocol);
    answer.extend_from_slice(b"\r\n");
    answer
}

fn request_start(path: &str, host: &[u8], kept: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\n").into_bytes();
    put_field(&mut request, b"host", host);
    for (name, value) in kept {
        put_field(&mut request, name, value);
    }
    request.extend_from_slice(
        b"content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
          transfer-encoding: chunked\r\nconnection: close\r\n",
    );
    request
}
