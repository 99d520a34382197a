//! What a handler is told of the request that opened its client's WebSocket.
//!
//! Bytes that are not UTF-8 are replaced one by one and cost nothing else.

use hyper::Request;
use hyper::header::COOKIE;
use percent_encoding::percent_decode_str;
use tidegate_wire::event::HttpRequest;

/// Everything that is told.
pub(super) fn request<B>(request: &Request<B>) -> HttpRequest {
    let headers = request.headers().iter();
    let cookies = request.headers().get_all(COOKIE).iter();
    HttpRequest {
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(query).unwrap_or_default(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
            .collect(),
        cookies: cookies
            .flat_map(|value| cookies_of(value.as_bytes()))
            .collect(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cookies_of(line: &[u8]) -> Vec<(String, String)> {
    line.split(|byte| *byte == b';')
        .map(|pair| text(pair.trim_ascii()))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), decode(value)))
        })
        .collect()
}

fn query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                decode(&name.replace('+', " ")),
                decode(&value.replace('+', " ")),
            )
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_query_is_decoded_pair_by_pair() {
        let expected = vec![pair("a", "1 2"), pair("b", "ü&"), pair("c", "")];
        assert_eq!(query("a=1+2&b=%C3%BC%26&&c"), expected);
    }

    #[test]
    fn a_cookie_that_is_not_ascii_costs_no_other() {
        let line = b"session=abc; name=J\xc3\xbcrgen; old=\xff;theme=dark;no-value; x=%20";
        let expected = vec![
            pair("session", "abc"),
            pair("name", "Jürgen"),
            pair("old", "\u{fffd}"),
            pair("theme", "dark"),
            pair("x", " "),
        ];
        assert_eq!(cookies_of(line), expected);
    }
}
