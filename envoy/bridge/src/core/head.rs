//! Heads of HTTP/1.1 messages: found in a stream of bytes, and read field by field.

/// How far the search for the end of a head has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    NotYet,
    /// The head takes this many bytes, its blank line included.
    End(usize),
    /// A line ends without a CR: we leave such heads to a parser that is lenient on purpose.
    BareLineFeed,
}

/// Looks for the end of a head in `bytes`; those before `from` were looked at already.
pub fn find_end(bytes: &[u8], from: usize) -> Found {
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        if *byte != b'\n' {
            continue;
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Found::BareLineFeed;
        }
        if at >= 3 && &bytes[at - 3..at] == b"\r\n\r" {
            return Found::End(at + 1);
        }
    }
    Found::NotYet
}

/// A head does not follow RFC 9112.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The first line and the fields of a head that ends with a blank line.
pub fn split(head: &[u8]) -> Result<(&[u8], Fields<'_>), Malformed> {
    let (line, rest) = cut_line(head).ok_or(Malformed)?;
    Ok((line, Fields { rest }))
}

/// The fields of a head: names as they were sent, values without white space around them.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((line, rest)) = cut_line(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed));
        };
        if line.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(field(line))
    }
}

fn cut_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..at], &bytes[at + 2..]))
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let colon = line.iter().position(|c| *c == b':').ok_or(Malformed)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|c| is_token_char(*c)) {
        return Err(Malformed);
    }
    if value.iter().any(|c| c.is_ascii_control() && *c != b'\t') {
        return Err(Malformed);
    }
    Ok((name, value))
}

/// RFC 9110, section 5.6.2.
pub fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a comma separated list has this token, whatever its case; gives it as it was written.
pub fn find_token<'a>(list: &'a [u8], token: &str) -> Option<&'a [u8]> {
    list.split(|c| *c == b',')
        .map(<[u8]>::trim_ascii)
        .find(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// Appends `name: value`, the name in lower case.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk (RFC 9112, section 7.1); nothing for no bytes, which would end the body.
pub fn put_chunk(out: &mut Vec<u8>, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    let digits = (usize::BITS - piece.len().leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let value = (piece.len() >> (4 * digit)) & 0x0F;
        out.push(b"0123456789abcdef"[value]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
