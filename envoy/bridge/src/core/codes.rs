//! SHA-1 and base64, as far as RFC 6455 needs them for the accept key.

/// What RFC 6455, section 1.3, appends to a client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    base64(&sha1(&[key, GUID].concat()))
}

/// FIPS 180-4. For the handshake only, where it proves nothing but that both sides speak WebSocket.
pub fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xEFCD_AB89,
        0x98BA_DCFE,
        0x1032_5476,
        0xC3D2_E1F0,
    ];
    let bits = (message.len() as u64).wrapping_mul(8);
    let mut padded = Vec::with_capacity(message.len() + 72);
    padded.extend_from_slice(message);
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&bits.to_be_bytes());
    for block in padded.chunks_exact(64) {
        compress(&mut state, block);
    }
    let mut digest = [0; 20];
    for (out, word) in digest.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut words = [0u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for t in 16..80 {
        words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in words.into_iter().enumerate() {
        let (choice, constant) = match t / 20 {
            0 => ((b & c) | (!b & d), 0x5A82_7999),
            1 => (b ^ c ^ d, 0x6ED9_EBA1),
            2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
            _ => (b ^ c ^ d, 0xCA62_C1D6_u32),
        };
        let next = a
            .rotate_left(5)
            .wrapping_add(choice)
            .wrapping_add(e)
            .wrapping_add(constant)
            .wrapping_add(word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
        *sum = sum.wrapping_add(part);
    }
}

/// RFC 4648, section 4, with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit > group.len() {
                text.push('=');
            } else {
                let index = (word >> (18 - 6 * digit)) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    text
}

/// Whether this is the base64 of 16 bytes, which RFC 6455, section 4.1, asks of a key.
pub fn is_key(text: &[u8]) -> bool {
    text.len() == 24 && text.ends_with(b"==") && text[..22].iter().all(|c| ALPHABET.contains(c))
}

/// Whether a `-bin` value of the metadata is base64, padded or not, one value or several joined by
/// commas as `@improbable-eng/grpc-web` joins them.
pub fn is_base64_list(text: &[u8]) -> bool {
    text.split(|c| *c == b',').all(|value| {
        let value = value.trim_ascii();
        let digits = value.trim_suffix_bytes(b'=', 2);
        digits.len() % 4 != 1 && digits.iter().all(|c| ALPHABET.contains(c))
    })
}

trait TrimSuffix {
    fn trim_suffix_bytes(&self, byte: u8, at_most: usize) -> &[u8];
}

impl TrimSuffix for [u8] {
    fn trim_suffix_bytes(&self, byte: u8, at_most: usize) -> &[u8] {
        let mut rest = self;
        for _ in 0..at_most {
            match rest.split_last() {
                Some((last, before)) if *last == byte => rest = before,
                _ => break,
            }
        }
        rest
    }
}
