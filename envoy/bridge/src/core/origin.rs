//! Who may open a WebSocket from a browser. Browsers apply no same-origin rule to WebSockets, so the
//! server has to (RFC 6455, section 10.2).

/// What `allowed_origins` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// The origin's host is the host that was asked.
    SameHost,
    Any,
    /// One of these, or the host that was asked.
    List(Vec<String>),
}

impl AllowedOrigins {
    /// Reads the value of the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let items: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect();
        match items.as_slice() {
            [] => Ok(Self::SameHost),
            ["*"] => Ok(Self::Any),
            _ => items
                .iter()
                .map(|item| {
                    normal(item).ok_or_else(|| {
                        format!(
                            "{item:?} is no origin: it takes scheme://host or scheme://host:port"
                        )
                    })
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
        }
    }

    /// Whether a handshake with this `Origin`, if any, to this `Host` may go on.
    pub fn allows(&self, origin: Option<&[u8]>, host: &[u8]) -> bool {
        // No browser leaves it out, and what is no browser acts for nobody but itself.
        let Some(origin) = origin else { return true };
        let origin = std::str::from_utf8(origin).ok().and_then(normal);
        match (self, origin) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::List(list), Some(origin)) => list.contains(&origin) || is_own(&origin, host),
            (Self::SameHost, Some(origin)) => is_own(&origin, host),
        }
    }
}

/// Whether the origin's host is the host that was asked.
fn is_own(origin: &str, host: &[u8]) -> bool {
    let Some((scheme, _)) = origin.split_once("://") else {
        return false;
    };
    std::str::from_utf8(host)
        .ok()
        .and_then(|host| normal(&format!("{scheme}://{host}")))
        .is_some_and(|asked| asked == origin)
}

/// The origin in lower case and without its scheme's own port; `None` if it is none (or `null`).
fn normal(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let fits = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    if !fits(scheme, b"+-.") || !fits(authority, b"-._:[]") {
        return None;
    }
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = match authority.strip_suffix(own_port) {
        Some(host) if !own_port.is_empty() => host,
        _ => authority,
    };
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::AllowedOrigins;

    fn allows(setting: &str, origin: Option<&str>) -> bool {
        let setting = AllowedOrigins::parse(setting).expect("origins");
        setting.allows(origin.map(str::as_bytes), b"chat.example:8443")
    }

    #[test]
    fn its_own_host_is_allowed_whatever_is_set() {
        for setting in ["", "*", "https://app.example"] {
            assert!(
                allows(setting, Some("https://CHAT.example:8443")),
                "{setting}"
            );
            assert!(allows(setting, None), "{setting}");
        }
    }

    #[test]
    fn another_is_allowed_only_by_name() {
        assert!(allows(
            "https://app.example",
            Some("https://app.example:443")
        ));
        assert!(allows("*", Some("null")));
        for origin in [
            "https://app.example.evil",
            "http://app.example",
            "https://app.example:444",
            "https://chat.example",
            "null",
            "",
        ] {
            assert!(!allows("https://app.example", Some(origin)), "{origin}");
        }
        assert!(!allows("", Some("https://app.example")));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for setting in ["app.example", "https://", "https://a b", "https://a/path"] {
            assert!(AllowedOrigins::parse(setting).is_err(), "{setting}");
        }
    }
}
