//! Rules of RFC 9110 and 9112 that bind every server, whatever it serves, and that hyper leaves to
//! its user.

use std::net::Ipv6Addr;

use hyper::header::{EXPECT, HOST, TRANSFER_ENCODING};
use hyper::{Request, StatusCode, Version};

use super::HttpRefusal;

const NO_HOST: &str = "A request by HTTP/1.1 has the header `Host`, this one has none.";
const TWO_HOSTS: &str = "A request has one header `Host`, this one has more.";
const BAD_HOST: &str =
    "The header `Host` is not a name or an address, perhaps with a port, like `example.org:7272`.";
const USER: &str = "The address of a request has no user name or password before its host.";
const OLD_CHUNKS: &str = "HTTP/1.0 has no `Transfer-Encoding`: send `Content-Length`.";
const CODING: &str = "The only transfer coding here is `chunked`.";
const TWO_LENGTHS: &str = "A request says once how long its body is, this one does by `Content-Length` and by \
     `Transfer-Encoding`.";
const EXPECTATION: &str = "The only expectation here is `100-continue`.";

/// Whether a request may be served at all.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), HttpRefusal> {
    let bad = |reason| Err(HttpRefusal::new(StatusCode::BAD_REQUEST, reason));
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => return bad(NO_HOST),
        (Some(_), Some(_)) => return bad(TWO_HOSTS),
        (Some(host), None) if !is_host(host.as_bytes()) => return bad(BAD_HOST),
        (None | Some(_), _) => {}
    }
    let authority = request.uri().authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return bad(USER);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        if request.version() != Version::HTTP_11 {
            return bad(OLD_CHUNKS);
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let chunked = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !codings.all(|value| chunked(value.as_bytes())) {
            return Err(HttpRefusal::new(StatusCode::NOT_IMPLEMENTED, CODING));
        }
    }
    let mut expected = headers.get_all(EXPECT).iter();
    let known = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
    if !expected.all(|value| known(value.as_bytes())) {
        return Err(HttpRefusal::new(
            StatusCode::EXPECTATION_FAILED,
            EXPECTATION,
        ));
    }
    Ok(())
}

/// The answer to a request that says twice how long its body is. hyper hides one of both.
pub(super) fn two_lengths() -> HttpRefusal {
    HttpRefusal::new(StatusCode::BAD_REQUEST, TWO_LENGTHS)
}

/// Whether this is `uri-host [ ":" port ]` of RFC 3986. It may be empty.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5;
    if let Some(rest) = value.strip_prefix('[') {
        let Some((inner, rest)) = rest.split_once(']') else {
            return false;
        };
        let has_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(port);
        return inner.parse::<Ipv6Addr>().is_ok() && has_port;
    }
    let (name, rest) = value.split_once(':').unwrap_or((value, ""));
    name.bytes().all(is_of_a_name) && port(rest)
}

/// Characters of a registered name: unreserved, sub-delims, and `%` of an encoded one.
const fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for right in [
            "",
            "example.org",
            "example.org:80",
            "127.0.0.1:7272",
            "[::1]",
            "[2001:db8::1]:443",
            "host:",
            "a_b-c~d",
            "%C3%BC.example",
        ] {
            assert!(is_host(right.as_bytes()), "{right}");
        }
        for wrong in [
            "a b",
            "user@host",
            "host:port",
            "host:80:80",
            "host/path",
            "[::1",
            "::1",
            "[::g]",
            "[::1]80",
            "hö",
            "\"a\"",
        ] {
            assert!(!is_host(wrong.as_bytes()), "{wrong}");
        }
    }
}
