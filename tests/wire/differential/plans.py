"""Random calls of a scripted method, as hypothesis makes them."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from hypothesis import strategies as st

from tests.wire.differential.scripted import LIMIT, METADATA_LIMIT, METHODS, SERVICE, Pairs, Step

# Of BytesValue: its tag and the length, which takes 4 bytes from 2 MiB on.
LARGEST = LIMIT - 5
BROKEN = b"\xff\xff\xff"
# Long enough for a handler to be reached on a busy machine, and what it says to come back.
SHORT_S = 0.4
# Of all messages of a call that must have come before a deadline or a cancellation.
QUICK_BYTES = 64 << 10

small = st.one_of(st.integers(0, 200), st.sampled_from([1000, 4096, 16_379, 16_384, 16_385]))
medium = st.one_of(small, st.sampled_from([65_535, 65_536, 131_072, 300_000]))
large = st.one_of(medium, medium, st.sampled_from([1 << 20, 3_000_000, LARGEST]))
texts = st.one_of(
    st.sampled_from(["", "plain", "50 % of it", "%41%zz%", "line\r\nbreak\t", " edges ", "ü😀\0"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.just("x" * 3000),
)
ascii_values = st.one_of(
    st.sampled_from(["", "x", "a b", "a,b", "~!@#$%^&*()", "v" * 2000]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20),
)


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Custom metadata; names come more than once."""
    made: list[tuple[str, str | bytes]] = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            made.append(
                (draw(st.sampled_from(["b-bin", "c.d_e-bin"])), draw(st.binary(max_size=40)))
            )
        else:
            made.append((draw(st.sampled_from(["a", "k-1.x_y", "0"])), draw(ascii_values)))
    return tuple(made)


@dataclass(frozen=True)
class Plan:
    """One call: what the client does, and what it tells the handler to do.

    Attributes:
        native: By the client's API of the method's kind; else as a stream in both directions.
        broken: The request that is no message; -1: all are.
        half_close: "early": after the last request; "late": when all answers that need no
            half-close are there; "never".
        late_after: How many answers that are.
        cancel: ("start", 0), ("sent", n) or ("got", n): then the client cancels.
        read_most: The client reads no more answers than that; -1: all.
        exact: How many messages arrive does not depend on the time.
    """

    method: str
    script: tuple[Step, ...]
    requests: tuple[int, ...] = (0,)
    metadata: Pairs = ()
    timeout_s: float | None = None
    gzip: bool = False
    native: bool = True
    broken: int = -1
    half_close: str = "early"
    late_after: int = 0
    cancel: tuple[str, int] | None = None
    read_most: int = -1
    exact: bool = True

    @property
    def verbs(self) -> set[str]:
        return {step[0] for step in self.script}

    @property
    def compression(self) -> grpc.Compression:
        return grpc.Compression.Gzip if self.gzip else grpc.Compression.NoCompression

    @property
    def known(self) -> bool:
        """Whether there is such a method."""
        return self.method.rpartition("/")[2] in METHODS and self.method.startswith(f"/{SERVICE}/")

    @property
    def oversize(self) -> bool:
        """Whether a request is over the limit."""
        return any(size > LARGEST for size in self.requests)

    @property
    def cardinality(self) -> bool:
        """Whether a method of one request is given none, or several."""
        return self.known and not self.streams_in and len(self.requests) != 1

    @property
    def refused_head(self) -> bool:
        """Whether the call's metadata is over the limit."""
        return any(len(value) > METADATA_LIMIT for _, value in self.metadata)

    @property
    def streams_in(self) -> bool:
        return self.known and METHODS[self.method.rpartition("/")[2]][0]

    @property
    def streams_out(self) -> bool:
        return self.known and METHODS[self.method.rpartition("/")[2]][1]

    @property
    def reaches_handler(self) -> bool:
        """Whether the handler must be run: the call itself is in order up to its first step."""
        if not self.known or self.cancel == ("start", 0) or self.refused_head:
            return False
        if self.streams_in:
            return True
        return len(self.requests) == 1 and self.broken < 0 and not self.oversize


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


@st.composite
def endings(draw: st.DrawFn) -> tuple[Step, ...]:
    """How a script ends that ends by itself."""
    kind = draw(st.sampled_from(["return", "return", "return", "abort", "abort", "set", "raise"]))
    code = draw(st.integers(1, 16))
    before: tuple[Step, ...] = ()
    if draw(st.integers(0, 3)) == 0:
        before = (("set", draw(st.integers(1, 16)), draw(texts)),)
    if kind == "abort":
        details: Pairs = ()
        if draw(st.booleans()):
            details = (("grpc-status-details-bin", draw(st.binary(max_size=200))),)
        more = draw(st.sampled_from([(), (*draw(pairs()), *details)]))
        text = draw(texts)
        if before and not text:
            text = "said"  # else it is the wire's fault: `test_known`
        return (*before, ("abort", code, text, more))
    if kind == "set":
        return (("set", draw(st.sampled_from([0, code])), draw(texts)),)
    return (*before, ("raise", draw(texts))) if kind == "raise" else ()


@st.composite
def bodies(
    draw: st.DrawFn, streams_in: bool, streams_out: bool, sizes: st.SearchStrategy[int]
) -> list[Step]:
    """Steps that read and write."""
    steps: list[Step] = []
    verbs = ["write"]
    if streams_in:
        verbs += ["read", "echo", "read"] if streams_out else ["read", "read"]
    for _ in range(draw(st.integers(0, 4))):
        verb = draw(st.sampled_from(verbs))
        if verb == "write":
            size = draw(sizes)
            # A burst of small ones, or a few large ones.
            most = 40 if size < 5000 else max(1, min(4, (4 << 20) // size))
            steps.append(("write", size, draw(st.integers(1, most))))
        else:
            steps.append((verb, draw(st.sampled_from([-1, 1, 2]))))
    return steps


def _quick(steps: list[Step], requests: tuple[int, ...]) -> bool:
    written = sum(step[1] * step[2] for step in steps if step[0] == "write")
    return bool(written + 2 * sum(requests) <= QUICK_BYTES)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any call."""
    method = draw(st.sampled_from([*METHODS, "Both", "WriteBoth"]))
    streams_in, streams_out = METHODS[method]
    # What kind of trouble there is, beside how the handler ends.
    trouble = draw(
        st.sampled_from(
            ["none"] * 6
            + ["cancel", "cancel", "deadline", "deadline", "stop reading"]
            + ["malformed", "oversize", "unknown", "cardinality", "early return", "metadata"]
        )
    )
    timed = trouble in ("cancel", "deadline", "stop reading")
    sizes = small if timed else large
    requests: tuple[int, ...] = (draw(sizes),)
    if streams_in:
        per_call = st.lists(small if timed else medium, max_size=6)
        requests = tuple(draw(per_call))
        if not timed and draw(st.integers(0, 5)) == 0:
            requests += (draw(large),)
    steps: list[Step] = []
    if draw(st.booleans()):
        steps.append(("trailers", draw(pairs())))
    if draw(st.integers(0, 3)) == 0:
        steps.append(("gzip",))
    if draw(st.booleans()):
        steps.append(("head", draw(pairs())))
    body = draw(bodies(streams_in, streams_out, sizes))
    metadata = draw(pairs())
    plan = {
        "method": path(method),
        "metadata": metadata,
        "gzip": draw(st.integers(0, 2)) == 0,
        "native": not streams_in and draw(st.booleans()),
        "timeout_s": draw(st.sampled_from([None, 30.0])),
    }
    ending = draw(endings())
    if trouble == "unknown":
        plan["method"] = draw(
            st.sampled_from([path("None"), "/no.Service/Unary", "/x", "/", f"/{SERVICE}/Unary/"])
        )
    elif trouble == "malformed":
        requests = requests or (1,)
        plan["broken"] = draw(st.integers(0, len(requests) - 1))
        if streams_in:
            body = [("read", -1)]
    elif trouble == "oversize":
        over = draw(st.sampled_from([LARGEST + 1, LARGEST + 70_000, 2 * LIMIT]))
        requests = (*requests[:2], over) if streams_in else (over,)
        if streams_in:
            body = [("read", -1)]
    elif trouble == "cardinality" and not streams_in:
        requests = draw(st.sampled_from([(), (1, 2), (0, 0, 70_000)]))
        # Of no request at all grpc.aio says nothing until the deadline.
        plan |= {"native": False, "timeout_s": None if requests else SHORT_S}
    elif trouble == "early return" and streams_in:
        requests = (*requests, *draw(st.lists(medium, min_size=4, max_size=20)))
        body = [step for step in body if step[0] == "write"]
        body.insert(0, ("read", draw(st.integers(0, 2))))
    elif trouble == "metadata":
        plan["metadata"] = (
            *metadata,
            ("large", "v" * draw(st.sampled_from([8000, 20_000, 40_000]))),
        )
    elif trouble == "cancel":
        if draw(st.booleans()) and streams_in and len(requests) > 0:
            plan["cancel"] = ("sent", draw(st.integers(1, len(requests))))
            plan["exact"] = False
        elif streams_out and (count := _answers(body, len(requests))) and not plan["native"]:
            plan["cancel"] = ("got", draw(st.integers(1, count)))
        else:
            plan["cancel"] = ("start", 0)
            plan["exact"] = False
        ending = (("hang",),)
    elif trouble == "deadline":
        plan["timeout_s"] = SHORT_S
        plan["exact"] = _quick(body, requests)
        plan["half_close"] = draw(st.sampled_from(["early", "never"]))
        if plan["half_close"] == "never":
            plan["native"] = False
        if not streams_in and plan["half_close"] == "never":
            # Whether a handler of one request is run before the client has half-closed is the
            # core's choice: grpc.aio does, the wire waits.
            plan["half_close"] = "early"
        ending = (("hang",),)
    elif trouble == "stop reading" and streams_out:
        body = [("write", draw(st.sampled_from([65_536, 300_000])), 60)]
        plan |= {"timeout_s": SHORT_S, "native": False, "read_most": draw(st.integers(0, 2))}
        ending = (("hang",),)
    if (
        streams_in
        and trouble == "none"
        and not any(step[0] in ("read", "echo") and step[1] < 0 for step in body)
        and _reads(body) <= len(requests)
        and draw(st.booleans())
    ):
        plan |= {
            "half_close": "late",
            "late_after": _answers(body, len(requests)) if streams_out else 0,
        }
    return Plan(script=(*steps, *body, *ending), requests=requests, **plan)  # type: ignore[arg-type]


def _reads(body: list[Step]) -> int:
    return sum(step[1] for step in body if step[0] in ("read", "echo"))


def _answers(body: list[Step], requests: int) -> int:
    """How many messages a body writes."""
    left, count = requests, 0
    for verb, *arguments in body:
        if verb == "write":
            count += arguments[1]
        elif verb in ("read", "echo"):
            taken = left if arguments[0] < 0 else min(left, arguments[0])
            left -= taken
            count += taken if verb == "echo" else 0
    return count
