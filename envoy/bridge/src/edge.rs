//! Between `abi` and `filter`: lends a filter its buffers, carries out what it decided, and lets no
//! panic through.
#![forbid(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Connection, Level, log};
use crate::clock::{self, Wake};
use crate::filter::{Close, Config, Effects, Filter};
use crate::stats::Counter;

/// A buffer that has grown beyond this is not kept for the next connection.
const KEPT: usize = 256 * 1024;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The buffers of a worker, so that a message costs no allocation.
    static SCRATCH: RefCell<(Vec<u8>, Effects)> = RefCell::default();
}

/// A filter, as Envoy holds it.
pub struct Slot {
    id: u64,
    config: Arc<Config>,
    filter: RefCell<Filter>,
    wake: OnceCell<Arc<Wake>>,
    /// Set after a panic: from then on the filter is not asked any more.
    broken: Cell<bool>,
    /// Whether this is counted as an open WebSocket.
    open: Cell<bool>,
}

impl Slot {
    pub fn new(config: Arc<Config>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            filter: RefCell::new(Filter::new(id, Arc::clone(&config))),
            config,
            wake: OnceCell::new(),
            broken: Cell::new(false),
            open: Cell::new(false),
        }
    }

    fn is_passing(&self) -> bool {
        self.filter
            .try_borrow()
            .is_ok_and(|filter| filter.is_passing())
    }

    /// Bytes came from the client. Returns whether the next filter is to see the read buffer.
    pub fn on_read(&self, connection: &Connection<'_>, end: bool) -> bool {
        if self.is_passing() {
            return true;
        }
        self.guard(connection, "read", |input, fx| {
            let mut filter = self.filter.borrow_mut();
            connection.read_buffer(filter.seen(), input);
            filter.read(input, end, clock::now(), fx);
            drop(filter);
            connection.drain_read_buffer(fx.taken);
            connection.append_read_buffer(&fx.out.to_server);
            self.apply(connection, fx);
        })
    }

    /// The connection manager writes: the write buffer then has what the client is to get.
    pub fn on_write(&self, connection: &Connection<'_>) {
        if self.is_passing() {
            return;
        }
        self.guard(connection, "write", |input, fx| {
            let mut filter = self.filter.borrow_mut();
            connection.write_buffer(input);
            connection.drain_write_buffer(input.len());
            filter.write(input, clock::now(), fx);
            drop(filter);
            connection.append_write_buffer(&fx.out.to_client);
            fx.out.to_client.clear();
            self.apply(connection, fx);
        });
    }

    /// The connection is closed.
    pub fn on_closed(&self, connection: &Connection<'_>) {
        self.forget();
        if self.broken.get() && self.open.take() {
            connection.add_to_gauge(self.config.stats.open, -1);
        }
        self.guard(connection, "closed", |_, fx| {
            self.filter.borrow_mut().closed(clock::now(), fx);
            self.apply(connection, fx);
        });
    }

    /// The connection was woken.
    pub fn on_woken(&self, connection: &Connection<'_>) {
        if let Some(wake) = self.wake.get() {
            wake.woken();
        }
        if self.broken.get() {
            connection.close(Close::Abort);
            return;
        }
        self.guard(connection, "woken", |_, fx| {
            self.filter.borrow_mut().woken(clock::now(), fx);
            connection.drain_read_buffer(fx.taken);
            self.apply(connection, fx);
        });
    }

    /// What was written is taken by the client again, or is not any more.
    pub fn on_blocked(&self, connection: &Connection<'_>, blocked: bool) {
        self.guard(connection, "blocked", |_, fx| {
            self.filter.borrow_mut().blocked(blocked, fx);
            self.apply(connection, fx);
        });
    }

    /// Runs `body` with this worker's buffers. A panic ends this connection and no other.
    fn guard(
        &self,
        connection: &Connection<'_>,
        name: &str,
        body: impl FnOnce(&mut Vec<u8>, &mut Effects),
    ) -> bool {
        if self.broken.get() {
            return false;
        }
        // Taken, not borrowed: what we do may make Envoy call this worker's thread again.
        let (mut input, mut fx) = SCRATCH.take();
        let done = catch_unwind(AssertUnwindSafe(|| {
            body(&mut input, &mut fx);
            let forward = fx.forward;
            reset(&mut input, &mut fx);
            SCRATCH.set((input, fx));
            forward
        }));
        done.unwrap_or_else(|_| {
            self.broken.set(true);
            log(
                Level::Error,
                &format!("chinwag_bridge: a panic in {name}; the connection is closed"),
            );
            connection.count(&self.config.stats, Counter::Panics as usize, 1);
            match self.wake.get() {
                // In the middle of a write the connection manager could not bear a close.
                Some(wake) if name == "write" => wake.now(),
                _ if name == "closed" => {}
                _ => connection.close(Close::Abort),
            }
            false
        })
    }

    fn apply(&self, connection: &Connection<'_>, fx: &mut Effects) {
        let stats = &self.config.stats;
        fx.tally
            .take(|index, count| connection.count(stats, index, count));
        if let Some(value) = fx.tally.first_answer_us.take() {
            connection.record(stats.first_answer_us, value);
        }
        if let Some(value) = fx.tally.call_ms.take() {
            connection.record(stats.call_ms, value);
        }
        match std::mem::take(&mut fx.tally.opened) {
            0 => {}
            opened => {
                self.open.set(opened > 0);
                connection.add_to_gauge(stats.open, opened);
            }
        }
        if let Some(limit) = fx.buffer_limit.take() {
            connection.set_buffer_limits(limit);
        }
        if let Some(due) = fx.due.take() {
            self.wake_at(connection, due);
        }
        if fx.soon
            && let Some(wake) = self.wake.get()
        {
            wake.now();
        }
        if fx.sleep {
            self.forget();
        }
        connection.inject_write(&fx.out.to_client);
        if let Some(close) = fx.close.take() {
            connection.close(close);
        }
    }

    fn wake_at(&self, connection: &Connection<'_>, due: u64) {
        if let Some(wake) = self.wake.get() {
            wake.set_due(due);
            return;
        }
        let opened = self.filter.borrow().opened();
        let config = Arc::clone(&self.config);
        let wake = Arc::new(Wake::new(
            self.id,
            connection.scheduler(),
            config,
            opened,
            due,
        ));
        clock::register(&wake);
        let _ = self.wake.set(wake);
    }

    fn forget(&self) {
        if let Some(wake) = self.wake.get() {
            clock::forget(wake);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.forget();
    }
}

fn reset(input: &mut Vec<u8>, fx: &mut Effects) {
    for buffer in [input, &mut fx.out.to_client, &mut fx.out.to_server] {
        buffer.clear();
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
    }
    fx.out.end = None;
    fx.taken = 0;
    fx.forward = false;
    fx.soon = false;
    fx.sleep = false;
}
