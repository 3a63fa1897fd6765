//! Who may open a WebSocket from a browser. Browsers apply no same-origin rule to WebSockets, so the
//! server has to (RFC 6455, section 10.2).

/// What `allowed_origins` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// The origin's host is the host that was asked.
    SameHost,
    Any,
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
            (Self::List(list), Some(origin)) => list.contains(&origin),
            (Self::SameHost, Some(origin)) => {
                let Some((scheme, _)) = origin.split_once("://") else {
                    return false;
                };
                std::str::from_utf8(host)
                    .ok()
                    .and_then(|host| normal(&format!("{scheme}://{host}")))
                    .is_some_and(|asked| asked == origin)
            }
        }
    }
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
