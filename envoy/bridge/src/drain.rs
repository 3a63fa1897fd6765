//! When a WebSocket is to be told to go: on a drain of the server, and on a change of its listener.
//!
//! A filter is told of neither by Envoy 1.40, so both come from the module's bootstrap extension
//! (README.md, "Drain"): it hears of a drain, of a shutdown, and of every listener that is added,
//! updated or removed, by name. A filter configuration does not know its listener's name; but Envoy
//! makes the configurations of a listener right before it announces it, and on the same thread.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::clock::SECOND;

/// For how long the workers may still be handing new connections to a listener that was replaced.
const SETTLING: u64 = SECOND;
/// How long a WebSocket lives at least that was opened on a replaced listener: while its successor
/// warms up it goes on taking connections, and those should not be turned out at once.
const GRACE: u64 = 30 * SECOND;

/// When the drain of the whole server began; 0 is not yet.
static SERVER: AtomicU64 = AtomicU64::new(0);
/// Whether Envoy is about to end, so that there is no time to spread anything.
static HURRY: AtomicBool = AtomicBool::new(false);
static LISTENERS: Mutex<Option<Listeners>> = Mutex::new(None);

/// When the drain of one filter configuration began; 0 is not yet.
#[derive(Debug, Default)]
pub struct Mark(AtomicU64);

impl Mark {
    fn set(&self, now: u64) {
        // The first one counts; a later one would put it off.
        let _ = self
            .0
            .compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When a WebSocket of this configuration that was opened at `opened` has to go, if it has to.
    ///
    /// `lot` is anything that differs from one WebSocket to the next.
    pub fn due(&self, opened: u64, lot: u64, spread: u64) -> Option<u64> {
        let own = self.0.load(Ordering::Relaxed);
        let server = SERVER.load(Ordering::Relaxed);
        if own == 0 && server == 0 {
            return None;
        }
        if server != 0 && HURRY.load(Ordering::Relaxed) {
            return Some(server);
        }
        let begins = |since: u64, least: u64| match since {
            0 => u64::MAX,
            _ => (since + least).max(opened + if opened > since { GRACE } else { 0 }),
        };
        let begin = begins(own, SETTLING).min(begins(server, 0));
        // Fibonacci hashing: neighbours end up far from each other.
        let share = (lot.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as f64 / f64::from(u32::MAX);
        Some(begin.saturating_add((share * spread as f64) as u64))
    }
}

#[derive(Debug, Default)]
struct Listeners {
    /// Configurations whose listener was not announced yet.
    fresh: Vec<Weak<Mark>>,
    named: HashMap<String, Vec<Weak<Mark>>>,
}

fn listeners() -> MutexGuard<'static, Option<Listeners>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a configuration that Envoy just made.
pub fn made(mark: &Arc<Mark>) {
    if let Some(listeners) = listeners().as_mut() {
        listeners.fresh.retain(|known| known.strong_count() > 0);
        listeners.fresh.push(Arc::downgrade(mark));
    }
}

/// From now on listeners are announced. Those that were there before never change.
pub fn follow_listeners() {
    *listeners() = Some(Listeners::default());
}

/// A listener was added or updated: what it had before is on its way out.
pub fn listener_changed(name: &str, now: u64) {
    let mut guard = listeners();
    let Some(listeners) = guard.as_mut() else {
        return;
    };
    let mut fresh = std::mem::take(&mut listeners.fresh);
    fresh.retain(|mark| mark.strong_count() > 0);
    // Announced without a new configuration: nothing of ours has changed in it.
    if fresh.is_empty() {
        return;
    }
    for mark in listeners
        .named
        .insert(name.to_owned(), fresh)
        .iter()
        .flatten()
    {
        if let Some(mark) = mark.upgrade() {
            mark.set(now);
        }
    }
}

/// A listener was removed.
pub fn listener_removed(name: &str, now: u64) {
    let mut guard = listeners();
    let Some(listeners) = guard.as_mut() else {
        return;
    };
    for mark in listeners.named.remove(name).iter().flatten() {
        if let Some(mark) = mark.upgrade() {
            mark.set(now);
        }
    }
}

/// The whole server drains; with `hurry` it ends as soon as the WebSockets are closed.
pub fn server(now: u64, hurry: bool) {
    let _ = SERVER.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    HURRY.fetch_or(hurry, Ordering::Relaxed);
}
