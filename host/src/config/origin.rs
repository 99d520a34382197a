//! Origins as browsers send them: what can never match is a mistake, and the right one is named.

/// What is wrong with an entry of `origins`; none if a browser could send it.
pub(super) fn mistake(origin: &str) -> Option<String> {
    if origin == "null" {
        return None;
    }
    if origin == "*" {
        return Some("`*` is no origin: leave `origins` empty for any".to_owned());
    }
    let (scheme, rest) = origin.split_once("://").unwrap_or(("https", origin));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default().to_lowercase();
    let scheme = match scheme.to_lowercase().as_str() {
        // The page's own, not that of its WebSocket.
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        other => other.to_owned(),
    };
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    };
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    let example = "like https://example.org";
    if host.contains('*') {
        let message = format!("`{origin}` matches none: write each origin out, {example}");
        return Some(message);
    }
    if !host.is_ascii() {
        let message = format!("`{origin}`: browsers send the host in ASCII, as `xn--…`");
        return Some(message);
    }
    if host.is_empty() || host.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Some(format!("`{origin}` is no origin, {example}"));
    }
    let right = format!("{scheme}://{host}");
    (right != origin).then(|| format!("`{origin}` is sent by no browser: `{right}` is right"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_sends_is_right() {
        for right in [
            "https://example.org",
            "http://localhost:8080",
            "https://[::1]:8443",
            "http://xn--bcher-kva.example",
            "app://obsidian.md",
            "chrome-extension://abcdefgh",
            "null",
        ] {
            assert_eq!(mistake(right), None, "{right}");
        }
    }

    #[test]
    fn what_can_never_match_is_told_with_what_is_right() {
        for (wrong, says) in [
            ("*", "leave `origins` empty"),
            ("https://example.org/", "`https://example.org` is right"),
            ("https://Example.ORG", "`https://example.org` is right"),
            ("HTTPS://example.org", "`https://example.org` is right"),
            (
                "https://example.org/chat?x#y",
                "`https://example.org` is right",
            ),
            ("example.org", "`https://example.org` is right"),
            ("example.org:8080", "`https://example.org:8080` is right"),
            ("https://example.org:443", "`https://example.org` is right"),
            ("http://example.org:80", "`http://example.org` is right"),
            ("wss://example.org", "`https://example.org` is right"),
            (
                "ws://example.org:7272",
                "`http://example.org:7272` is right",
            ),
            ("https://*.example.org", "write each origin out"),
            ("https://bücher.example", "xn--"),
            ("https://", "no origin"),
            ("https:// example.org", "no origin"),
        ] {
            let told = mistake(wrong).unwrap_or_default();
            assert!(told.contains(says), "{wrong}: {told}");
        }
    }
}
