//! The time, and a thread that wakes connections which wait for it: Envoy's ABI has no timer.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::abi::{Completion, Scheduler};
use crate::filter::Config;

/// In what `now` counts.
pub const SECOND: u64 = 1_000_000;
const MILLISECOND: u64 = 1_000;

const TICK: Duration = Duration::from_millis(100);
/// How long a shutdown waits for WebSockets to be closed.
const SHUTDOWN: u64 = 3 * SECOND;

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Microseconds since the module was first used; never 0.
pub fn now() -> u64 {
    BEGIN.elapsed().as_micros() as u64 + 1
}

/// Milliseconds from one time to a later one.
pub fn millis(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / MILLISECOND
}

/// A connection that waits.
pub struct Wake {
    id: u64,
    scheduler: Scheduler,
    config: Arc<Config>,
    opened: u64,
    due: AtomicU64,
    /// Whether it was woken and has not yet run: once is enough.
    asked: AtomicBool,
}

impl Wake {
    pub fn new(id: u64, scheduler: Scheduler, config: Arc<Config>, opened: u64, due: u64) -> Self {
        Self {
            id,
            scheduler,
            config,
            opened,
            due: AtomicU64::new(due),
            asked: AtomicBool::new(false),
        }
    }

    /// Wakes the connection at this time, and not at the one that was set before.
    pub fn set_due(&self, due: u64) {
        self.due.store(due, Ordering::Relaxed);
    }

    /// Wakes the connection as soon as its worker has ended what it does now.
    pub fn now(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) {
            self.scheduler.commit();
        }
    }

    /// The connection runs.
    pub fn woken(&self) {
        self.asked.store(false, Ordering::Release);
    }

    fn is_due(&self, now: u64) -> bool {
        let drain = self.config.drain_due(self.opened, self.id);
        self.due.load(Ordering::Relaxed).min(drain) <= now
    }
}

#[derive(Default)]
struct Registry {
    wakes: HashMap<u64, Arc<Wake>>,
    ending: Option<(Completion, u64)>,
}

fn registry() -> MutexGuard<'static, Option<Registry>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread, once.
///
/// # Errors
/// The system has no thread for us.
pub fn start() -> std::io::Result<()> {
    let mut guard = registry();
    if guard.is_none() {
        LazyLock::force(&BEGIN);
        std::thread::Builder::new()
            .name("chinwag-bridge".to_owned())
            .spawn(run)?;
        *guard = Some(Registry::default());
    }
    Ok(())
}

/// Lets a connection wait. It has to be forgotten before Envoy destroys its filter.
pub fn register(wake: &Arc<Wake>) {
    if let Some(registry) = registry().as_mut() {
        let was_idle = registry.wakes.is_empty();
        registry.wakes.insert(wake.id, Arc::clone(wake));
        if was_idle {
            CHANGED.notify_one();
        }
    }
}

/// After this the thread does not touch the connection any more: it wakes others under the same
/// lock, so that Envoy never drops a filter on our thread.
pub fn forget(wake: &Wake) {
    if let Some(registry) = registry().as_mut() {
        registry.wakes.remove(&wake.id);
    }
}

/// Envoy is about to end: `completion` is called when all WebSockets are closed, or soon anyway.
pub fn end(completion: Completion) {
    // Without a registry there never was a connection; dropping the completion calls it.
    if let Some(registry) = registry().as_mut() {
        registry.ending = Some((completion, now() + SHUTDOWN));
        CHANGED.notify_one();
    }
}

fn run() {
    let mut guard = registry();
    loop {
        let Some(registry) = guard.as_mut() else {
            return;
        };
        let now = now();
        for wake in registry.wakes.values() {
            if wake.is_due(now) {
                wake.now();
            }
        }
        if let Some((_, latest)) = &registry.ending
            && (registry.wakes.is_empty() || now >= *latest)
        {
            registry.ending = None;
        }
        let idle = registry.wakes.is_empty() && registry.ending.is_none();
        guard = if idle {
            CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner)
        } else {
            let waited = CHANGED.wait_timeout(guard, TICK);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
    }
}
