//! The protocol, without I/O, clocks or Envoy: bytes go in, bytes and decisions come out.
//!
//! What may live here: RFC 6455 frames and handshake, the `grpc-websockets` protocol, the heads and
//! chunks of HTTP/1.1, the frames of gRPC-Web. What may not: a callback of Envoy, a thread, the time.
#![forbid(unsafe_code)]

pub mod answer;
pub mod call;
pub mod codes;
pub mod frame;
pub mod grpc_web;
pub mod handshake;
pub mod head;
pub mod metadata;
pub mod origin;
pub mod session;

/// Why a client broke the rules: the close code it gets and the words that go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub code: u16,
    pub why: &'static str,
}

/// Close codes of RFC 6455, section 7.4.1, that the bridge sends.
pub mod close_code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const UNSUPPORTED: u16 = 1003;
    pub const BAD_DATA: u16 = 1007;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
}
