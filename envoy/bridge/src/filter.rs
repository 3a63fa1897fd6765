//! One connection: what Envoy tells of it, and what is to be done then.
//!
//! Nothing here calls Envoy. Each method fills an `Effects`, which the edge carries out when no
//! method runs any more: closing or writing may make Envoy call back at once.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::clock::{SECOND, millis};
use crate::core::close_code::{GOING_AWAY, POLICY};
use crate::core::handshake::{Look, Opening, Refusal, look};
use crate::core::session::{End, Limits, Out, Session};
use crate::drain::Mark;
use crate::settings::Settings;
use crate::stats::{Counter, Stats, Tally};

/// How long the connection manager has to close a connection whose call is over.
const CLOSING: u64 = 5 * SECOND;

/// One filter configuration.
pub struct Config {
    pub settings: Settings,
    pub stats: Stats,
    pub mark: Arc<Mark>,
}

impl Config {
    /// When a WebSocket has to go because of a drain; never is the end of time.
    pub fn drain_due(&self, opened: u64, lot: u64) -> u64 {
        let spread = self.settings.drain_spread_s * SECOND;
        self.mark.due(opened, lot, spread).unwrap_or(u64::MAX)
    }
}

/// How Envoy is to close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// When everything is written.
    Flush,
    /// When everything is written and the client has closed, or had time to.
    Linger,
    /// At once.
    Abort,
}

/// What is to be done after a callback.
#[derive(Debug, Default)]
pub struct Effects {
    pub out: Out,
    pub tally: Tally,
    /// How many bytes of Envoy's read buffer were taken.
    pub taken: usize,
    /// Whether the next filter is to see what is in the read buffer.
    pub forward: bool,
    pub close: Option<Close>,
    /// What Envoy may buffer in each direction.
    pub buffer_limit: Option<u32>,
    /// When to be woken; what was set before no longer holds.
    pub due: Option<u64>,
    /// To be woken as soon as this callback is over.
    pub soon: bool,
    /// Not to be woken any more.
    pub sleep: bool,
}

/// A connection.
pub struct Filter {
    id: u64,
    config: Arc<Config>,
    stage: Stage,
}

enum Stage {
    /// What came so far does not say whose it is. Envoy keeps these bytes as well.
    Detecting {
        head: Vec<u8>,
        since: u64,
    },
    /// The connection manager's.
    Passing,
    Bridging(Box<Bridge>),
    /// Nothing more is read or written.
    Over,
}

struct Bridge {
    session: Session,
    opened: u64,
    begun: Option<u64>,
    answered: bool,
    heard: u64,
    pinged: u64,
    ended: Option<Ended>,
}

/// The close frame is out.
struct Ended {
    since: u64,
    /// How to close, if it could not be done at once.
    pending: Option<Close>,
}

impl Filter {
    pub fn new(id: u64, config: Arc<Config>) -> Self {
        let stage = Stage::Detecting {
            head: Vec::new(),
            since: 0,
        };
        Self { id, config, stage }
    }

    /// Whether the filter has nothing to do with this connection.
    pub fn is_passing(&self) -> bool {
        matches!(self.stage, Stage::Passing)
    }

    /// How many bytes of Envoy's read buffer were looked at already.
    pub fn seen(&self) -> usize {
        match &self.stage {
            Stage::Detecting { head, .. } => head.len(),
            _ => 0,
        }
    }

    /// When the connection became one that may wait.
    pub fn opened(&self) -> u64 {
        match &self.stage {
            Stage::Detecting { since, .. } => *since,
            Stage::Bridging(bridge) => bridge.opened,
            Stage::Passing | Stage::Over => 0,
        }
    }

    /// Takes what is new in the read buffer. It is unmasked in place.
    pub fn read(&mut self, bytes: &mut [u8], end: bool, now: u64, fx: &mut Effects) {
        match &mut self.stage {
            Stage::Detecting { .. } => self.detect(bytes, end, now, fx),
            Stage::Passing => fx.forward = true,
            Stage::Bridging(bridge) => {
                fx.taken = bytes.len();
                bridge.heard = now;
                bridge.session.from_client(bytes, &mut fx.out);
                self.after_client(end, now, fx);
            }
            Stage::Over => fx.taken = bytes.len(),
        }
    }

    fn detect(&mut self, bytes: &[u8], end: bool, now: u64, fx: &mut Effects) {
        let Stage::Detecting { head, since } = &mut self.stage else {
            return;
        };
        let looked = head.len().saturating_sub(3);
        let waits = *since != 0;
        head.extend_from_slice(bytes);
        let settings = &self.config.settings;
        let max_head = settings.max_head_bytes as usize;
        match look(head, looked, max_head, &settings.allowed_origins) {
            Look::Undecided if !end => {
                if !waits && !head.is_empty() {
                    *since = now;
                    fx.due = Some(now + settings.handshake_timeout_s * SECOND);
                }
            }
            Look::Undecided | Look::Other => {
                fx.tally.count(Counter::Passed);
                fx.forward = true;
                fx.sleep = waits;
                self.stage = Stage::Passing;
            }
            Look::Refused(refusal) => {
                fx.taken = head.len();
                self.refuse(refusal, fx);
            }
            Look::Opening { used, opening } => {
                fx.taken = head.len();
                let mut early = head.split_off(used);
                let opened = if waits { *since } else { now };
                self.open(opening, opened, now, fx);
                if let Stage::Bridging(bridge) = &mut self.stage {
                    bridge.session.from_client(&mut early, &mut fx.out);
                    self.after_client(end, now, fx);
                }
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, fx: &mut Effects) {
        fx.tally.count(match refusal {
            Refusal::Origin => Counter::OriginRefused,
            Refusal::Late => Counter::Late,
            Refusal::Version | Refusal::Malformed(_) => Counter::Refused,
        });
        fx.out.to_client = refusal.answer();
        fx.close = Some(Close::Linger);
        fx.sleep = true;
        self.stage = Stage::Over;
    }

    fn open(&mut self, opening: Opening, opened: u64, now: u64, fx: &mut Effects) {
        #[cfg(feature = "planted-panic")]
        assert!(opening.path != "/planted.Panic/Now", "asked for it");
        let settings = &self.config.settings;
        fx.tally.count(Counter::Handshakes);
        fx.tally.opened = 1;
        fx.out.to_client.extend_from_slice(&opening.answer);
        fx.buffer_limit = u32::try_from(settings.max_buffered_bytes).ok();
        fx.due = Some(opened + settings.handshake_timeout_s * SECOND);
        let limits = Limits {
            max_metadata: settings.max_metadata_bytes as usize,
            max_message: settings.max_message_bytes,
        };
        self.stage = Stage::Bridging(Box::new(Bridge {
            session: Session::new(opening.request, limits),
            opened,
            begun: None,
            answered: false,
            heard: now,
            pinged: 0,
            ended: None,
        }));
    }

    /// What follows from bytes of the client.
    fn after_client(&mut self, end: bool, now: u64, fx: &mut Effects) {
        self.note(now, fx);
        if fx.out.end.is_some() {
            // The connection manager learns of the end by the connection's.
            fx.out.to_server.clear();
        }
        fx.forward = end || !fx.out.to_server.is_empty();
    }

    /// Takes what the connection manager answers. The client gets `fx.out.to_client` instead.
    pub fn write(&mut self, bytes: &[u8], now: u64, fx: &mut Effects) {
        if let Stage::Bridging(bridge) = &mut self.stage {
            bridge.session.from_server(bytes, &mut fx.out);
            self.note(now, fx);
            // Here the connection manager is in the middle of its work: closing has to wait.
            if let (Some(close), Stage::Bridging(bridge)) = (fx.close.take(), &mut self.stage) {
                bridge.ended = Some(Ended {
                    since: now,
                    pending: Some(close),
                });
                fx.soon = true;
            }
        }
    }

    /// Whether the client takes what is written to it.
    pub fn blocked(&mut self, blocked: bool, fx: &mut Effects) {
        if let Stage::Bridging(bridge) = &mut self.stage {
            bridge.session.set_blocked(blocked);
            fx.soon = bridge.session.owes_pong();
        }
    }

    /// The time has come for something, or `soon` was asked for.
    pub fn woken(&mut self, now: u64, fx: &mut Effects) {
        let settings = &self.config.settings;
        let handshake_timeout = settings.handshake_timeout_s * SECOND;
        let bridge = match &mut self.stage {
            Stage::Bridging(bridge) => bridge,
            Stage::Detecting { since, head } if *since != 0 => {
                let due = *since + handshake_timeout;
                if now >= due {
                    fx.taken = head.len();
                    self.refuse(Refusal::Late, fx);
                } else {
                    fx.due = Some(due);
                }
                return;
            }
            _ => return,
        };
        if let Some(ended) = &mut bridge.ended {
            let latest = ended.since + CLOSING;
            fx.close = if now >= latest {
                Some(Close::Abort)
            } else {
                ended.pending.take()
            };
            fx.due = Some(latest);
            return;
        }
        let (interval, patience) = (
            settings.ping_interval_s * SECOND,
            settings.dead_after_s * SECOND,
        );
        bridge.session.pay_pong(&mut fx.out);
        if now >= self.config.drain_due(bridge.opened, self.id) {
            fx.tally.count(Counter::Drained);
            bridge
                .session
                .close(GOING_AWAY, "the server is going away", &mut fx.out);
        } else if !bridge.session.has_begun() {
            let due = bridge.opened + handshake_timeout;
            fx.due = Some(due);
            if now >= due {
                fx.tally.count(Counter::Late);
                let why = "the metadata did not come in time";
                bridge.session.close(POLICY, why, &mut fx.out);
            }
        } else if now >= bridge.heard + patience {
            fx.tally.count(Counter::PeersDead);
            fx.close = Some(Close::Abort);
            fx.due = Some(u64::MAX);
        } else {
            if now >= bridge.heard.max(bridge.pinged) + interval {
                bridge.pinged = now;
                fx.tally.count(Counter::PingsOut);
                bridge.session.ping(&mut fx.out);
            }
            let next = bridge.heard.max(bridge.pinged) + interval;
            fx.due = Some(next.min(bridge.heard + patience));
        }
        self.note(now, fx);
    }

    /// The connection is closed, by whomever.
    pub fn closed(&mut self, now: u64, fx: &mut Effects) {
        if let Stage::Bridging(bridge) = &self.stage {
            fx.tally.opened = -1;
            if let (Some(begun), None) = (bridge.begun, &bridge.ended) {
                // The client is gone without a word, or Envoy gave the connection up.
                fx.tally.count(Counter::CallsCancelled);
                fx.tally.call_ms = Some(millis(begun, now));
            }
        }
        fx.sleep = true;
        self.stage = Stage::Over;
    }

    /// Counts what a session has said, and decides how the connection ends if the session has.
    fn note(&mut self, now: u64, fx: &mut Effects) {
        let Stage::Bridging(bridge) = &mut self.stage else {
            return;
        };
        let counts = std::mem::take(&mut fx.out.counts);
        fx.tally.add(Counter::MessagesIn, counts.messages_in);
        fx.tally.add(Counter::MessagesOut, counts.messages_out);
        fx.tally.add(Counter::PingsIn, counts.pings);
        fx.tally
            .add(Counter::MetadataDropped, counts.metadata_dropped);
        if counts.begun {
            bridge.begun = Some(now);
            fx.tally.count(Counter::Calls);
            fx.due = Some(now + self.config.settings.ping_interval_s * SECOND);
        }
        if let (Some(begun), true, false) = (bridge.begun, counts.answered, bridge.answered) {
            bridge.answered = true;
            fx.tally.first_answer_us = Some(now - begun);
        }
        let Some(end) = fx.out.end else { return };
        let (outcome, close) = match end {
            End::Answered { status: 0 } => (Counter::CallsOk, None),
            // The connection manager closes, for the request said `connection: close`.
            End::Answered { .. } => (Counter::CallsFailed, None),
            End::ByClient => (Counter::CallsCancelled, Some(Close::Flush)),
            End::ByUs(_) => (Counter::CallsCancelled, Some(Close::Linger)),
            End::Violated(_) => {
                fx.tally.count(Counter::Violations);
                (Counter::CallsCancelled, Some(Close::Linger))
            }
            End::Failed(_) => (Counter::CallsBroken, Some(Close::Linger)),
        };
        if let Some(begun) = bridge.begun {
            fx.tally.count(outcome);
            fx.tally.call_ms = Some(millis(begun, now));
        }
        bridge.ended = Some(Ended {
            since: now,
            pending: None,
        });
        fx.close = close;
        fx.due = Some(now + CLOSING);
    }
}
