//! The settings of one filter configuration, from its lines `key = value`.
#![forbid(unsafe_code)]

use crate::core::origin::AllowedOrigins;

/// What the lines say; README.md has the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub allowed_origins: AllowedOrigins,
    pub ping_interval_s: u64,
    pub dead_after_s: u64,
    pub handshake_timeout_s: u64,
    pub max_head_bytes: u64,
    pub max_metadata_bytes: u64,
    pub max_message_bytes: u64,
    pub max_buffered_bytes: u64,
    pub drain_spread_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed_origins: AllowedOrigins::SameHost,
            ping_interval_s: 30,
            dead_after_s: 75,
            handshake_timeout_s: 10,
            max_head_bytes: 16 * 1024,
            max_metadata_bytes: 16 * 1024,
            max_message_bytes: 4 * 1024 * 1024,
            max_buffered_bytes: 64 * 1024,
            drain_spread_s: 5,
        }
    }
}

impl Settings {
    /// Reads the lines.
    ///
    /// # Errors
    /// What was expected and what came, in one sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| format!("a line takes \"key = value\"; this is {line:?}"))?;
            if seen.contains(&key) {
                return Err(format!("{key} is given twice"));
            }
            seen.push(key);
            settings.set(key, value)?;
        }
        if settings.dead_after_s <= settings.ping_interval_s {
            return Err(format!(
                "dead_after_s takes more than ping_interval_s, which is {}; this is {}",
                settings.ping_interval_s, settings.dead_after_s
            ));
        }
        Ok(settings)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let (slot, least, most) = match key {
            "allowed_origins" => {
                self.allowed_origins = AllowedOrigins::parse(value)
                    .map_err(|error| format!("allowed_origins: {error}"))?;
                return Ok(());
            }
            "ping_interval_s" => (&mut self.ping_interval_s, 1, 3600),
            "dead_after_s" => (&mut self.dead_after_s, 2, 7200),
            "handshake_timeout_s" => (&mut self.handshake_timeout_s, 1, 300),
            "max_head_bytes" => (&mut self.max_head_bytes, 1 << 10, 1 << 16),
            "max_metadata_bytes" => (&mut self.max_metadata_bytes, 1 << 8, 1 << 16),
            "max_message_bytes" => (&mut self.max_message_bytes, 1 << 10, 1 << 28),
            "max_buffered_bytes" => (&mut self.max_buffered_bytes, 1 << 14, 1 << 24),
            "drain_spread_s" => (&mut self.drain_spread_s, 0, 600),
            _ => return Err(format!("{key:?} is no setting")),
        };
        *slot = value
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!("{key} takes a whole number from {least} to {most}; this is {value:?}")
            })?;
        Ok(())
    }
}
