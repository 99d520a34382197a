//! Requests by HTTP: the path says what is done with `wasi:http` itself.

use super::bindings::exports::wasi::http::incoming_handler::Guest;
use super::bindings::tidegate::plugin::client;
use super::bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use super::{Scripted, tell_all};

impl Guest for Scripted {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, argument) = target.split_once('?').unwrap_or((&target, ""));
        let number: usize = argument.parse().unwrap_or_default();
        match path {
            "/echo" => {
                let body = read(&request);
                let peer = client::peer().map(|peer| peer.address).unwrap_or_default();
                let id = client::id().is_err();
                let told = format!("{:?} {target} {peer} {id} ", request.method());
                answer(out, 200, &[], &[told.as_bytes(), &body].concat(), true);
            }
            "/tell" => {
                let _ = tell_all(argument);
                answer(out, 200, &[("x-tell", argument)], b"told", true);
            }
            "/status" => {
                let status = u16::try_from(number).unwrap_or_default();
                answer(out, status, &[], b"", true);
            }
            "/large" => answer(out, 200, &[], &vec![b'x'; number], true),
            // Its body is dropped, which a host must take for an end in the middle.
            "/unfinished" => answer(out, 200, &[], b"half", false),
            "/forgotten" => std::mem::forget(out),
            "/none" => drop(out),
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::HttpProtocolError)),
            "/short" => answer(out, 200, &[("content-length", "9")], b"four", true),
            "/header" => {
                let fields = Fields::new();
                let refused = fields.append("transfer-encoding", b"chunked");
                let bad = fields.append("a b", b"c");
                let text = format!("{refused:?} {bad:?}");
                answer(out, 200, &[], text.as_bytes(), true);
            }
            "/trap" => {
                answer(out, 200, &[], b"too early", true);
                panic!("told to trap");
            }
            "/loop" => loop {
                std::hint::spin_loop();
            },
            _ => answer(out, 404, &[], b"", true),
        }
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let Ok(body) = request.consume() else {
        return Vec::new();
    };
    let mut whole = Vec::new();
    if let Ok(stream) = body.stream() {
        while let Ok(bytes) = stream.blocking_read(1 << 16) {
            whole.extend(bytes);
        }
    }
    drop(IncomingBody::finish(body));
    whole
}

fn answer(
    out: ResponseOutparam,
    status: u16,
    headers: &[(&str, &str)],
    bytes: &[u8],
    finish: bool,
) {
    let fields = Fields::new();
    for (name, value) in headers {
        let _ = fields.append(name, value.as_bytes());
    }
    let head = OutgoingResponse::new(fields);
    let _ = head.set_status_code(status);
    let body = head.body();
    ResponseOutparam::set(out, Ok(head));
    let Ok(body) = body else {
        return;
    };
    if let Ok(stream) = body.write() {
        for part in bytes.chunks(4096) {
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    if finish {
        let _ = OutgoingBody::finish(body, None);
    }
}
