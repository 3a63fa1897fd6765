//! WebSocket to gRPC inside a stock Envoy (see README.md).
//!
//! `core` is the protocol and knows no Envoy. `filter` is one connection, `edge` lends it Envoy's
//! buffers and carries out what it decides, `clock` wakes those that wait, `drain` knows which have
//! to go, `module` is what they share. `abi` is the edge to Envoy, and the only place with `unsafe`.
#![deny(unsafe_code)]

pub mod abi;
pub mod clock;
pub mod core;
pub mod drain;
pub mod edge;
pub mod filter;
pub mod module;
pub mod settings;
pub mod stats;
