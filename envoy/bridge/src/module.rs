//! What the module does for Envoy as a whole: makes configurations, and follows drains.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::abi::{Completion, Level, log};
use crate::clock;
use crate::drain::{self, Mark};
use crate::filter::Config;
use crate::settings::Settings;
use crate::stats::{Definer, Stats};

const FILTER_NAME: &[u8] = b"grpc_websockets";

/// Makes a filter configuration.
///
/// # Errors
/// Why it is refused, in one sentence.
pub fn new_config(
    name: &[u8],
    text: &[u8],
    definer: &mut impl Definer,
) -> Result<Arc<Config>, String> {
    if name != FILTER_NAME {
        return Err(format!(
            "filter_name is {:?}; this module has {:?}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(FILTER_NAME)
        ));
    }
    let text = std::str::from_utf8(text).map_err(|_| "the settings are not UTF-8".to_owned())?;
    let settings = Settings::parse(text)?;
    let stats = Stats::define(definer).ok_or_else(|| "Envoy refuses a stat".to_owned())?;
    clock::start().map_err(|error| format!("there is no thread for the clock: {error}"))?;
    let mark = Arc::new(Mark::default());
    drain::made(&mark);
    Ok(Arc::new(Config {
        settings,
        stats,
        mark,
    }))
}

/// Listeners are announced from now on.
pub fn follow_listeners() {
    drain::follow_listeners();
}

/// Envoy drains all its listeners.
pub fn drain() {
    log(
        Level::Info,
        "chinwag_bridge: the server drains; its WebSockets are closed with 1001",
    );
    drain::server(clock::now(), false);
}

/// Envoy ends as soon as `completion` is dropped.
pub fn shut_down(completion: Completion) {
    drain::server(clock::now(), true);
    clock::end(completion);
}

/// A listener was added or updated.
pub fn listener_changed(name: &[u8]) {
    drain::listener_changed(&String::from_utf8_lossy(name), clock::now());
}

/// A listener was removed.
pub fn listener_removed(name: &[u8]) {
    drain::listener_removed(&String::from_utf8_lossy(name), clock::now());
}
