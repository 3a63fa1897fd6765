"""Header fields: HPACK both ways (RFC 7541), and what a request is (RFC 9113, section 8)."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire import headers
from chinwag_server.wire.errors import ConnectionFault, ErrorCode, StreamFault
from chinwag_server.wire.headers import Field

PSEUDO: list[Field] = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/b")]

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1).map(str.encode)
values = st.binary(max_size=400)
fields = st.lists(st.tuples(names, values), max_size=10)


# --- out ---


@given(fields)
def test_what_we_encode_any_decoder_reads(pairs: list[Field]) -> None:
    decoder = Decoder(max_header_list_size=1 << 20)
    assert list(decoder.decode(headers.encode(pairs), raw=True)) == pairs


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16_510, 16_511, 70_000])
def test_lengths_at_the_edges_of_a_prefix(size: int) -> None:
    # RFC 7541, 5.1: 7 bits, then 7 bits a byte.
    pair = (b"n" * (size or 1), b"v" * size)
    decoder = Decoder(max_header_list_size=1 << 20)
    assert list(decoder.decode(headers.encode([pair]), raw=True)) == [pair]


@given(fields, fields)
def test_our_blocks_need_no_state(first: list[Field], second: list[Field]) -> None:
    decoder = Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 0
    decoder.decode(headers.EMPTY_TABLE + headers.encode(first), raw=True)
    assert list(decoder.decode(headers.encode(second), raw=True)) == second


@pytest.mark.parametrize("status", [200, 204, 400, 404, 405, 415, 503])
def test_statuses(status: int) -> None:
    found = Decoder().decode(headers.encode_status(status), raw=True)
    assert list(found) == [(b":status", b"%d" % status)]


# --- in ---


@pytest.mark.parametrize(
    "block",
    [
        "828684410f7777772e6578616d706c652e636f6d",  # RFC 7541, C.3.1
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",  # C.4.1, in Huffman code
    ],
)
def test_the_examples_of_the_standard(block: str) -> None:
    assert list(headers.decode(headers.new_decoder(1000), bytes.fromhex(block))) == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ]


@given(st.lists(fields, max_size=4), st.booleans())
def test_a_table_lasts_over_blocks(blocks: list[list[Field]], huffman: bool) -> None:
    encoder, decoder = Encoder(), headers.new_decoder(1 << 20)
    for pairs in blocks:
        assert list(headers.decode(decoder, encoder.encode(pairs, huffman=huffman))) == pairs


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0 (6.1)
        "be",  # an entry that the table has not (2.3.3)
        "ff",  # an integer that does not end
        "ffffffffffffffffffff7f",  # one that is too large
        "3fe21f",  # a table larger than we have allowed: 4097 bytes (4.2)
        "8220",  # the table's size behind a field (4.2)
        "00016105",  # a value that does not end
        "000161820000",  # Huffman code with too much padding (5.2)
        "00016184ffffffff",  # EOS in Huffman code (5.2)
    ],
)
def test_blocks_that_cannot_be_read(block: str) -> None:
    with pytest.raises(ConnectionFault) as fault:
        headers.decode(headers.new_decoder(1000), bytes.fromhex(block))
    assert fault.value.code == ErrorCode.COMPRESSION_ERROR


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_any_bytes_are_fields_or_a_fault(blocks: list[bytes]) -> None:
    decoder = headers.new_decoder(1000)
    for block in blocks:
        try:
            found = headers.decode(decoder, block)
        except ConnectionFault:
            return
        size = sum(len(name) + len(value) + headers.FIELD_OVERHEAD for name, value in found)
        assert size <= 1000


def test_a_list_that_is_too_long() -> None:
    block = Encoder().encode([(b"a", b"v" * 100)] * 10)
    with pytest.raises(ConnectionFault) as fault:
        headers.decode(headers.new_decoder(1000), block)
    assert fault.value.code == ErrorCode.ENHANCE_YOUR_CALM


# --- requests ---


def test_a_request() -> None:
    pairs = [*PSEUDO, (b":authority", b"host"), (b"a", b"1"), (b"te", b"trailers")]
    request = headers.read_request(1, pairs)
    assert (request.method, request.scheme, request.path, request.authority) == (
        *(b"POST", b"http", b"/a/b"),
        b"host",
    )
    assert request.fields == [(b"a", b"1"), (b"te", b"trailers")]
    # RFC 9113, 10.5.1: name, value and 32 bytes for each.
    assert request.size == sum(len(name) + len(value) + 32 for name, value in pairs)
    assert request.content_length == -1


@pytest.mark.parametrize("left_out", [":method", ":scheme", ":path"])
def test_pseudo_fields_that_a_request_needs(left_out: str) -> None:
    refuse([pair for pair in PSEUDO if pair[0] != left_out.encode()])


@pytest.mark.parametrize(
    "more",
    [
        [(b":path", b"/again")],
        [(b":status", b"200")],
        [(b":new", b"x")],
        [(b"a", b"1"), (b":authority", b"late")],
        [(b"Upper", b"x")],
        [(b"", b"x")],
        [(b"two words", b"x")],
        [(b"a:b", b"x")],
        [(b"\xe4", b"x")],
        [(b"a", b"line\nbreak")],
        [(b"a", b"return\r")],
        [(b"a", b"zero\0")],
        [(b":authority", b"zero\0")],
        [(b"connection", b"close")],
        [(b"keep-alive", b"1")],
        [(b"proxy-connection", b"x")],
        [(b"transfer-encoding", b"chunked")],
        [(b"upgrade", b"h2c")],
        [(b"te", b"gzip")],
        [(b"content-length", b"")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"+1")],
        [(b"content-length", b"1_0")],
        [(b"content-length", b" 1")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
    ],
    ids=str,
)
def test_malformed_requests(more: list[Field]) -> None:
    refuse([*PSEUDO, *more])


def refuse(pairs: list[Field]) -> None:
    with pytest.raises(StreamFault) as fault:
        headers.read_request(7, pairs)
    assert (fault.value.stream_id, fault.value.code) == (7, ErrorCode.PROTOCOL_ERROR)


def test_an_empty_path_is_none() -> None:
    refuse([*PSEUDO[:2], (b":path", b"")])


def test_the_same_content_length_twice_is_one() -> None:
    request = headers.read_request(
        1, [*PSEUDO, (b"content-length", b"5"), (b"content-length", b"5")]
    )
    assert request.content_length == 5


def test_a_content_length_of_thousands_of_digits() -> None:
    refuse([*PSEUDO, (b"content-length", b"1" * 5000)])


@given(st.lists(st.tuples(values, values), max_size=5))
def test_any_fields_are_a_request_or_a_fault(pairs: list[Field]) -> None:
    try:
        request = headers.read_request(1, [*PSEUDO, *pairs])
    except StreamFault:
        return
    assert len(request.fields) <= len(pairs)


# --- trailers ---


@pytest.mark.parametrize("pair", [(b":path", b"/"), (b"Upper", b"x"), (b"connection", b"close")])
def test_bad_trailers(pair: Field) -> None:
    with pytest.raises(StreamFault):
        headers.check_trailers(1, [(b"a", b"1"), pair])


def test_trailers() -> None:
    headers.check_trailers(1, [(b"a", b"1"), (b"b-bin", b"AAE")])
