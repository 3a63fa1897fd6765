//! The metadata frame. It becomes part of an HTTP head that Envoy trusts, so it is the place where a
//! request could be smuggled: only what is known to be harmless passes.

use super::Violation;
use super::close_code::{POLICY, PROTOCOL_ERROR};
use super::codes::is_base64_list;

/// What Envoy takes at most by default is 100; the handshake and the bridge need some.
const MAX_FIELDS: usize = 64;
const MAX_NAME: usize = 128;

/// Fields that clients send as a matter of course and that the bridge decides itself, or that mean
/// something between two hops only, or that say who the client is: not passed on.
const DROPPED: [&str; 27] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "grpc-accept-encoding",
    "grpc-encoding",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "via",
    "x-grpc-web",
    "x-real-ip",
];

/// Families of such fields.
const DROPPED_FAMILIES: [&str; 9] = [
    "access-control-",
    "cf-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "x-envoy-",
    "x-forwarded-",
    "x-original-",
];

/// Appends the fields of a metadata frame to a head. Returns how many were left out.
///
/// The frame has lines `name: value` with CRLF (or LF) between them and perhaps after the last.
///
/// # Errors
/// A line is no field, or a value has a byte that is not printable ASCII: nothing of it is passed.
pub fn put_fields(out: &mut Vec<u8>, frame: &[u8]) -> Result<u32, Violation> {
    let mut fields = 0;
    let mut dropped = 0;
    for line in frame.split(|c| *c == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        fields += 1;
        if fields > MAX_FIELDS {
            return refused(POLICY, "the metadata has too many fields");
        }
        let (name, value) = parse(line)?;
        if is_dropped(&name) {
            dropped += 1;
            continue;
        }
        out.extend_from_slice(&name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    Ok(dropped)
}

fn refused<T>(code: u16, why: &'static str) -> Result<T, Violation> {
    Err(Violation { code, why })
}

fn parse(line: &[u8]) -> Result<(Vec<u8>, &[u8]), Violation> {
    let Some(colon) = line.iter().position(|c| *c == b':') else {
        return refused(PROTOCOL_ERROR, "a line of the metadata has no colon");
    };
    let name = line[..colon].to_ascii_lowercase();
    let value = line[colon + 1..].trim_ascii();
    let fits = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(fits) {
        return refused(
            PROTOCOL_ERROR,
            "a name in the metadata is not of a-z, 0-9, -, _ and .",
        );
    }
    if !value.iter().all(|c| matches!(c, 0x20..=0x7E)) {
        return refused(
            PROTOCOL_ERROR,
            "a value in the metadata is not printable ASCII",
        );
    }
    if name.ends_with(b"-bin") && !is_base64_list(value) {
        return refused(PROTOCOL_ERROR, "a -bin value in the metadata is not base64");
    }
    Ok((name, value))
}

/// Some servers take `_` for `-`, so a name is judged as if it had the latter.
fn is_dropped(name: &[u8]) -> bool {
    let name: Vec<u8> = name
        .iter()
        .map(|c| if *c == b'_' { b'-' } else { *c })
        .collect();
    DROPPED.iter().any(|dropped| dropped.as_bytes() == name)
        || DROPPED_FAMILIES
            .iter()
            .any(|family| name.starts_with(family.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{MAX_FIELDS, put_fields};

    fn passed(frame: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        put_fields(&mut out, frame).ok()?;
        Some(String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn fields_pass_in_lower_case() {
        let frame = b"Authorization: Bearer x\r\nkey-bin:AAE=\r\n";
        let expected = "authorization: Bearer x\r\nkey-bin: AAE=\r\n";
        assert_eq!(passed(frame).as_deref(), Some(expected));
    }

    #[test]
    fn what_the_bridge_or_a_proxy_decides_is_left_out() {
        for name in [
            "Host",
            "content-length",
            "x-forwarded-for",
            "X_Forwarded_For",
            "te",
            "sec-x",
        ] {
            let frame = format!("{name}: a\r\nkept: b\r\n");
            assert_eq!(
                passed(frame.as_bytes()).as_deref(),
                Some("kept: b\r\n"),
                "{name}"
            );
        }
        // A bare LF ends a line as it does elsewhere; the line behind it is judged like any other.
        assert_eq!(
            passed(b"kept: b\nhost: c\r\n").as_deref(),
            Some("kept: b\r\n")
        );
    }

    #[test]
    fn what_could_smuggle_is_refused_whole() {
        for frame in [
            &b":path: /x"[..],
            b"no colon",
            b"a b: c",
            b"a : c",
            b": c",
            b"a: b\rhost: c",
            b"a: b\0c",
            b"a: \xff",
            b"key-bin: not base64!",
        ] {
            assert_eq!(passed(frame), None, "{frame:?}");
        }
    }

    #[test]
    fn fields_are_counted() {
        assert!(passed("a: b\r\n".repeat(MAX_FIELDS).as_bytes()).is_some());
        assert!(passed("a: b\r\n".repeat(MAX_FIELDS + 1).as_bytes()).is_none());
    }
}
