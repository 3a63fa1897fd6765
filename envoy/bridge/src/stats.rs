//! What is counted, and under which names Envoy shows it.
#![forbid(unsafe_code)]

/// Before every name; Envoy puts the module's `metrics_namespace` before that.
const PREFIX: &str = "grpc_websockets.";

macro_rules! counters {
    ($($variant:ident = $name:literal,)*) => {
        /// The counters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($variant),* }

        /// Their names, in the order of the variants.
        const COUNTERS: &[&str] = &[$($name),*];
    };
}

counters! {
    Passed = "connections_passed",
    Handshakes = "handshakes",
    Refused = "handshakes_refused",
    OriginRefused = "origins_refused",
    Late = "handshakes_late",
    Calls = "calls",
    CallsOk = "calls_ok",
    CallsFailed = "calls_failed",
    CallsCancelled = "calls_cancelled",
    CallsBroken = "calls_broken",
    MessagesIn = "messages_in",
    MessagesOut = "messages_out",
    PingsIn = "pings_in",
    PingsOut = "pings_out",
    PeersDead = "peers_dead",
    Violations = "violations",
    MetadataDropped = "metadata_dropped",
    Drained = "drained",
    Panics = "panics",
}

/// How many WebSockets are open.
const OPEN: &str = "open";
/// From the metadata frame to the head of the answer, in microseconds.
const FIRST_ANSWER: &str = "first_answer_us";
/// From the metadata frame to the end of the call, in milliseconds.
const CALL: &str = "call_ms";

/// Who makes a stat and gives its number.
pub trait Definer {
    fn counter(&mut self, name: &str) -> Option<usize>;
    fn gauge(&mut self, name: &str) -> Option<usize>;
    fn histogram(&mut self, name: &str) -> Option<usize>;
}

/// The numbers that Envoy has given.
#[derive(Debug, Clone)]
pub struct Stats {
    pub counters: Vec<usize>,
    pub open: usize,
    pub first_answer_us: usize,
    pub call_ms: usize,
}

impl Stats {
    /// Makes all of them; `None` if Envoy refuses one.
    pub fn define(definer: &mut impl Definer) -> Option<Self> {
        let named = |name: &str| format!("{PREFIX}{name}");
        Some(Self {
            counters: COUNTERS
                .iter()
                .map(|name| definer.counter(&named(name)))
                .collect::<Option<_>>()?,
            open: definer.gauge(&named(OPEN))?,
            first_answer_us: definer.histogram(&named(FIRST_ANSWER))?,
            call_ms: definer.histogram(&named(CALL))?,
        })
    }
}

/// What one callback has to add to the stats.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [u32; COUNTERS.len()],
    dirty: bool,
    /// What to add to the number of open WebSockets.
    pub opened: i8,
    pub first_answer_us: Option<u64>,
    pub call_ms: Option<u64>,
}

impl Tally {
    pub fn add(&mut self, counter: Counter, count: u32) {
        self.counts[counter as usize] += count;
        self.dirty |= count > 0;
    }

    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Gives out what was counted, and forgets it.
    pub fn take(&mut self, mut each: impl FnMut(usize, u64)) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        for (index, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                each(index, u64::from(std::mem::take(count)));
            }
        }
    }
}
