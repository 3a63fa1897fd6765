//! The edge to Envoy 1.40: its ABI v0.2.0, as far as a network filter and a bootstrap extension need
//! it, written by hand from Envoy's `abi.h`; and the only place with `unsafe`.
//!
//! What makes it sound: Envoy hands a pointer that `new` returned to the other functions and, last,
//! to `destroy`, all on one thread for a filter (its worker's) and on one for a configuration (the
//! main thread); a connection's pointer and its buffers are good for the length of a callback. The
//! types below are made in a callback and cannot outlive it. A `Slot` is only ever shared, never
//! borrowed mutably, because what we call may call back.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use crate::edge::Slot;
use crate::filter::{Close, Config};
use crate::module;
use crate::stats::{Definer, Stats};

/// The ABI this is written for. Envoy logs at load whether it is its own.
const ABI_VERSION: &CStr = c"v0.2.0";

const CONTINUE: i32 = 0;
const STOP_ITERATION: i32 = 1;
const FLUSH_WRITE: i32 = 0;
const NO_FLUSH: i32 = 1;
const FLUSH_WRITE_AND_DELAY: i32 = 2;
const REMOTE_CLOSE: i32 = 0;
const LOCAL_CLOSE: i32 = 1;

type Pointer = *mut c_void;

/// Bytes of the one side that the other reads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffer {
    ptr: *const c_char,
    len: usize,
}

impl Buffer {
    pub const EMPTY: Self = Self {
        ptr: ptr::null(),
        len: 0,
    };

    pub fn of(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr().cast(),
            len: bytes.len(),
        }
    }

    /// # Safety
    /// The bytes have to live, unchanged, as long as the caller uses them.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; both sides give readable bytes.
        unsafe { std::slice::from_raw_parts(self.ptr.cast(), self.len) }
    }
}

macro_rules! callbacks {
    ($($name:ident = $symbol:literal($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        unsafe extern "C" {
            $(
                #[link_name = concat!("envoy_dynamic_module_callback_", $symbol)]
                fn $name($($argument: $type),*) $(-> $result)?;
            )*
        }
    };
}

callbacks! {
    cb_log = "log"(level: i32, text: Buffer);
    cb_define_counter = "network_filter_config_define_counter"(config: Pointer, name: Buffer, id: *mut usize) -> i32;
    cb_define_gauge = "network_filter_config_define_gauge"(config: Pointer, name: Buffer, id: *mut usize) -> i32;
    cb_define_histogram = "network_filter_config_define_histogram"(config: Pointer, name: Buffer, id: *mut usize) -> i32;
    cb_increment_counter = "network_filter_increment_counter"(filter: Pointer, id: usize, by: u64) -> i32;
    cb_increment_gauge = "network_filter_increment_gauge"(filter: Pointer, id: usize, by: u64) -> i32;
    cb_decrement_gauge = "network_filter_decrement_gauge"(filter: Pointer, id: usize, by: u64) -> i32;
    cb_record = "network_filter_record_histogram_value"(filter: Pointer, id: usize, value: u64) -> i32;
    cb_read_size = "network_filter_get_read_buffer_chunks_size"(filter: Pointer) -> usize;
    cb_read_chunks = "network_filter_get_read_buffer_chunks"(filter: Pointer, out: *mut Buffer) -> bool;
    cb_drain_read = "network_filter_drain_read_buffer"(filter: Pointer, len: usize) -> bool;
    cb_append_read = "network_filter_append_read_buffer"(filter: Pointer, bytes: Buffer) -> bool;
    cb_write_size = "network_filter_get_write_buffer_chunks_size"(filter: Pointer) -> usize;
    cb_write_chunks = "network_filter_get_write_buffer_chunks"(filter: Pointer, out: *mut Buffer) -> bool;
    cb_drain_write = "network_filter_drain_write_buffer"(filter: Pointer, len: usize) -> bool;
    cb_append_write = "network_filter_append_write_buffer"(filter: Pointer, bytes: Buffer) -> bool;
    cb_inject_write = "network_filter_inject_write_data"(filter: Pointer, bytes: Buffer, end: bool);
    cb_close = "network_filter_close"(filter: Pointer, kind: i32);
    cb_set_buffer_limits = "network_filter_set_buffer_limits"(filter: Pointer, limit: u32);
    cb_scheduler_new = "network_filter_scheduler_new"(filter: Pointer) -> Pointer;
    cb_scheduler_commit = "network_filter_scheduler_commit"(scheduler: Pointer, event: u64);
    cb_scheduler_delete = "network_filter_scheduler_delete"(scheduler: Pointer);
    cb_init_complete = "bootstrap_extension_config_signal_init_complete"(config: Pointer);
    cb_follow_listeners = "bootstrap_extension_enable_listener_lifecycle"(config: Pointer) -> bool;
}

/// Envoy's levels.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    Info = 2,
    Error = 4,
}

/// Writes a line into Envoy's log.
pub fn log(level: Level, text: &str) {
    // SAFETY: Envoy copies the text before it returns.
    unsafe { cb_log(level as i32, Buffer::of(text.as_bytes())) }
}

/// Where a configuration's stats are made.
struct ConfigHandle(Pointer);

impl ConfigHandle {
    fn define(
        &self,
        with: unsafe extern "C" fn(Pointer, Buffer, *mut usize) -> i32,
        name: &str,
    ) -> Option<usize> {
        let mut id = 0;
        // SAFETY: the configuration's pointer is good while `config_new` runs; the name is copied.
        let result = unsafe { with(self.0, Buffer::of(name.as_bytes()), &raw mut id) };
        (result == 0).then_some(id)
    }
}

impl Definer for ConfigHandle {
    fn counter(&mut self, name: &str) -> Option<usize> {
        self.define(cb_define_counter, name)
    }

    fn gauge(&mut self, name: &str) -> Option<usize> {
        self.define(cb_define_gauge, name)
    }

    fn histogram(&mut self, name: &str) -> Option<usize> {
        self.define(cb_define_histogram, name)
    }
}

/// A connection, for the length of a callback.
pub struct Connection<'a> {
    envoy: Pointer,
    callback: PhantomData<&'a ()>,
}

// SAFETY, for every block in here: `envoy` is the pointer of the callback that runs, on its thread;
// Envoy copies the bytes it is given before it returns.
impl Connection<'_> {
    /// Replaces `into` by the read buffer's bytes after the first `skip`.
    pub fn read_buffer(&self, skip: usize, into: &mut Vec<u8>) {
        self.copy(cb_read_size, cb_read_chunks, skip, into);
    }

    /// Replaces `into` by the write buffer's bytes.
    pub fn write_buffer(&self, into: &mut Vec<u8>) {
        self.copy(cb_write_size, cb_write_chunks, 0, into);
    }

    fn copy(
        &self,
        count: unsafe extern "C" fn(Pointer) -> usize,
        fill: unsafe extern "C" fn(Pointer, *mut Buffer) -> bool,
        mut skip: usize,
        into: &mut Vec<u8>,
    ) {
        const FEW: usize = 16;
        into.clear();
        let mut few = [Buffer::EMPTY; FEW];
        let mut many = Vec::new();
        let count = unsafe { count(self.envoy) };
        let chunks = if count <= FEW {
            &mut few[..count]
        } else {
            many.resize(count, Buffer::EMPTY);
            many.as_mut_slice()
        };
        if chunks.is_empty() || !unsafe { fill(self.envoy, chunks.as_mut_ptr()) } {
            return;
        }
        for chunk in chunks {
            let bytes = unsafe { chunk.bytes() };
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            into.extend_from_slice(&bytes[skipped..]);
        }
    }

    pub fn drain_read_buffer(&self, len: usize) {
        if len > 0 {
            unsafe { cb_drain_read(self.envoy, len) };
        }
    }

    pub fn append_read_buffer(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            unsafe { cb_append_read(self.envoy, Buffer::of(bytes)) };
        }
    }

    pub fn drain_write_buffer(&self, len: usize) {
        if len > 0 {
            unsafe { cb_drain_write(self.envoy, len) };
        }
    }

    pub fn append_write_buffer(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            unsafe { cb_append_write(self.envoy, Buffer::of(bytes)) };
        }
    }

    /// Writes to the client what is the module's own.
    pub fn inject_write(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            unsafe { cb_inject_write(self.envoy, Buffer::of(bytes), false) };
        }
    }

    pub fn close(&self, how: Close) {
        let kind = match how {
            Close::Flush => FLUSH_WRITE,
            Close::Linger => FLUSH_WRITE_AND_DELAY,
            Close::Abort => NO_FLUSH,
        };
        unsafe { cb_close(self.envoy, kind) };
    }

    pub fn set_buffer_limits(&self, limit: u32) {
        unsafe { cb_set_buffer_limits(self.envoy, limit) };
    }

    /// Adds to the counter of this index.
    pub fn count(&self, stats: &Stats, index: usize, by: u64) {
        if let Some(id) = stats.counters.get(index) {
            unsafe { cb_increment_counter(self.envoy, *id, by) };
        }
    }

    pub fn add_to_gauge(&self, id: usize, by: i8) {
        let size = u64::from(by.unsigned_abs());
        if by < 0 {
            unsafe { cb_decrement_gauge(self.envoy, id, size) };
        } else {
            unsafe { cb_increment_gauge(self.envoy, id, size) };
        }
    }

    pub fn record(&self, id: usize, value: u64) {
        unsafe { cb_record(self.envoy, id, value) };
    }

    /// What wakes this connection from any thread.
    pub fn scheduler(&self) -> Scheduler {
        Scheduler(unsafe { cb_scheduler_new(self.envoy) })
    }
}

/// Wakes a connection from any thread: its worker then calls `scheduled`.
pub struct Scheduler(Pointer);

// SAFETY: Envoy makes it to be used from other threads; it holds the filter weakly.
unsafe impl Send for Scheduler {}
// SAFETY: as above; a commit only posts to the worker's queue.
unsafe impl Sync for Scheduler {}

impl Scheduler {
    pub fn commit(&self) {
        // SAFETY: the scheduler lives until it is dropped.
        unsafe { cb_scheduler_commit(self.0, 0) };
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: it was made by `scheduler_new` and is dropped once.
        unsafe { cb_scheduler_delete(self.0) };
    }
}

/// Dropped, it lets Envoy go on with its shutdown.
pub struct Completion {
    call: extern "C" fn(Pointer),
    context: Pointer,
}

// SAFETY: the context counts who is not ready yet, atomically, and the last one posts to the main
// thread.
unsafe impl Send for Completion {}

impl Drop for Completion {
    fn drop(&mut self) {
        (self.call)(self.context);
    }
}

/// Runs the body of an export: a panic ends in `otherwise`, never in Envoy.
fn barred<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Runs `body` for a filter of ours and its connection.
///
/// # Safety
/// `envoy` and `filter` are what Envoy gave to the export that calls this.
unsafe fn with<T>(
    envoy: Pointer,
    filter: Pointer,
    otherwise: T,
    body: impl FnOnce(&Slot, &Connection<'_>) -> T,
) -> T {
    let connection = Connection {
        envoy,
        callback: PhantomData,
    };
    // SAFETY: `filter` is what `network_filter_new` returned, and Envoy has not destroyed it.
    let slot = unsafe { &*filter.cast::<Slot>() };
    barred(otherwise, || body(slot, &connection))
}

macro_rules! exports {
    ($(fn $symbol:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            /// # Safety
            /// For Envoy to call, with what its ABI says.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $symbol($($argument: $type),*) $(-> $result)? $body
        )*
    };
}

exports! {
    fn envoy_dynamic_module_on_program_init() -> *const c_char {
        ABI_VERSION.as_ptr()
    }

    fn envoy_dynamic_module_on_network_filter_config_new(
        envoy: Pointer, name: Buffer, text: Buffer
    ) -> Pointer {
        barred(ptr::null_mut(), || {
            // SAFETY: both are good while this runs.
            let (name, text) = unsafe { (name.bytes(), text.bytes()) };
            match module::new_config(name, text, &mut ConfigHandle(envoy)) {
                Ok(config) => Arc::into_raw(config).cast_mut().cast(),
                Err(why) => {
                    log(Level::Error, &format!("chinwag_bridge: configuration refused: {why}"));
                    ptr::null_mut()
                }
            }
        })
    }

    fn envoy_dynamic_module_on_network_filter_config_destroy(config: Pointer) {
        // SAFETY: it is what `config_new` returned, and this is the last that is heard of it.
        barred((), || drop(unsafe { Arc::from_raw(config.cast::<Config>()) }));
    }

    fn envoy_dynamic_module_on_network_filter_new(config: Pointer, _envoy: Pointer) -> Pointer {
        barred(ptr::null_mut(), || {
            let config = config.cast::<Config>();
            // SAFETY: it is what `config_new` returned, and we add the count that we take.
            let config = unsafe {
                Arc::increment_strong_count(config);
                Arc::from_raw(config)
            };
            Box::into_raw(Box::new(Slot::new(config))).cast()
        })
    }

    fn envoy_dynamic_module_on_network_filter_new_connection(_envoy: Pointer, _filter: Pointer) -> i32 {
        CONTINUE
    }

    fn envoy_dynamic_module_on_network_filter_read(
        envoy: Pointer, filter: Pointer, _len: usize, end: bool
    ) -> i32 {
        // SAFETY: as Envoy calls it.
        let forward = unsafe { with(envoy, filter, false, |slot, connection| slot.on_read(connection, end)) };
        if forward { CONTINUE } else { STOP_ITERATION }
    }

    fn envoy_dynamic_module_on_network_filter_write(
        envoy: Pointer, filter: Pointer, _len: usize, _end: bool
    ) -> i32 {
        // SAFETY: as Envoy calls it.
        unsafe { with(envoy, filter, (), |slot, connection| slot.on_write(connection)) };
        CONTINUE
    }

    fn envoy_dynamic_module_on_network_filter_event(envoy: Pointer, filter: Pointer, event: i32) {
        if event == REMOTE_CLOSE || event == LOCAL_CLOSE {
            // SAFETY: as Envoy calls it.
            unsafe { with(envoy, filter, (), |slot, connection| slot.on_closed(connection)) };
        }
    }

    fn envoy_dynamic_module_on_network_filter_scheduled(envoy: Pointer, filter: Pointer, _event: u64) {
        // SAFETY: as Envoy calls it.
        unsafe { with(envoy, filter, (), |slot, connection| slot.on_woken(connection)) };
    }

    fn envoy_dynamic_module_on_network_filter_above_write_buffer_high_watermark(
        envoy: Pointer, filter: Pointer
    ) {
        // SAFETY: as Envoy calls it.
        unsafe { with(envoy, filter, (), |slot, connection| slot.on_blocked(connection, true)) };
    }

    fn envoy_dynamic_module_on_network_filter_below_write_buffer_low_watermark(
        envoy: Pointer, filter: Pointer
    ) {
        // SAFETY: as Envoy calls it.
        unsafe { with(envoy, filter, (), |slot, connection| slot.on_blocked(connection, false)) };
    }

    fn envoy_dynamic_module_on_network_filter_destroy(filter: Pointer) {
        // SAFETY: it is what `new` returned, and this is the last that is heard of it.
        barred((), || drop(unsafe { Box::from_raw(filter.cast::<Slot>()) }));
    }

    fn envoy_dynamic_module_on_bootstrap_extension_config_new(
        envoy: Pointer, _name: Buffer, _text: Buffer
    ) -> Pointer {
        // SAFETY: the pointer is good while this runs. Envoy serves nobody before it is called.
        unsafe { cb_init_complete(envoy) };
        // Envoy's own pointer will do for ours: `server_initialized` needs it, and null is refusal.
        envoy
    }

    fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(_config: Pointer) {}

    fn envoy_dynamic_module_on_bootstrap_extension_new(config: Pointer, _envoy: Pointer) -> Pointer {
        config
    }

    fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(_envoy: Pointer, config: Pointer) {
        // SAFETY: a configuration lives as long as its extension.
        if unsafe { cb_follow_listeners(config) } {
            barred((), module::follow_listeners);
        }
    }

    fn envoy_dynamic_module_on_bootstrap_extension_drain_started(_envoy: Pointer, _extension: Pointer) {
        barred((), module::drain);
    }

    fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
        _envoy: Pointer, _extension: Pointer, call: extern "C" fn(Pointer), context: Pointer
    ) {
        let completion = Completion { call, context };
        barred((), || module::shut_down(completion));
    }

    fn envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update(
        _envoy: Pointer, _config: Pointer, name: Buffer
    ) {
        // SAFETY: the name is good while this runs.
        barred((), || module::listener_changed(unsafe { name.bytes() }));
    }

    fn envoy_dynamic_module_on_bootstrap_extension_listener_removal(
        _envoy: Pointer, _config: Pointer, name: Buffer
    ) {
        // SAFETY: the name is good while this runs.
        barred((), || module::listener_removed(unsafe { name.bytes() }));
    }
}

/// Exports that Envoy asks for and that have nothing to do. C takes no notice of the arguments.
macro_rules! unused_exports {
    ($($symbol:ident)*) => {
        exports! { $(fn $symbol() {})* }
    };
}

unused_exports! {
    envoy_dynamic_module_on_network_filter_config_scheduled
    envoy_dynamic_module_on_network_filter_http_callout_done
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized
    envoy_dynamic_module_on_bootstrap_extension_destroy
    envoy_dynamic_module_on_bootstrap_extension_config_scheduled
    envoy_dynamic_module_on_bootstrap_extension_http_callout_done
    envoy_dynamic_module_on_bootstrap_extension_timer_fired
    envoy_dynamic_module_on_bootstrap_extension_file_changed
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal
}

exports! {
    fn envoy_dynamic_module_on_bootstrap_extension_admin_request() -> u32 {
        404
    }
}
