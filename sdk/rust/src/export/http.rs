//! From `wasi:http/incoming-handler` to [`Handler::on_http`](crate::Handler::on_http).

use super::{Plugin, with};
use crate::backend;
use crate::bindings::http::exports::wasi::http::incoming_handler::Guest;
use crate::bindings::http::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use crate::bindings::http::wasi::io::streams::{OutputStream, StreamError};
use crate::http::{Request, Response};

/// How much of a body is read at a time.
const READ_BYTES: u64 = 64 << 10;

impl<H: Plugin> Guest for H {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let answer = read(&request).and_then(|request| {
            with::<H, _>(|handler| {
                let peer = backend::client_peer()?;
                handler.on_http(peer, request)
            })
        });
        drop(request);
        match answer.and_then(head) {
            Ok((head, body)) => write(head, &body, outparam),
            // So that what was asked for does not happen; the text goes to the log.
            Err(text) => {
                ResponseOutparam::set(outparam, Err(ErrorCode::InternalError(Some(text))));
            }
        }
    }
}

fn read(request: &IncomingRequest) -> Result<Request, String> {
    let headers = request.headers().entries();
    let body = request.consume().map_err(|()| "a body is read once")?;
    let stream = body.stream().map_err(|()| "a body is read once")?;
    let mut whole = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => whole.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok(Request {
        method: method(request.method()),
        target: request.path_with_query().unwrap_or_else(|| "/".to_owned()),
        authority: request.authority().unwrap_or_default(),
        headers,
        body: whole,
    })
}

fn method(method: Method) -> String {
    let known = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => return other,
    };
    known.to_owned()
}

fn head(response: Response) -> Result<(OutgoingResponse, Vec<u8>), String> {
    let headers = Fields::from_list(&response.headers);
    let headers = headers.map_err(|error| {
        let names: Vec<&str> = response.headers.iter().map(|(name, _)| &**name).collect();
        format!("one of the headers {names:?} of an answer cannot be sent: {error}")
    })?;
    let head = OutgoingResponse::new(headers);
    let status = response.status;
    head.set_status_code(status)
        .map_err(|()| format!("{status} is no status of an answer"))?;
    Ok((head, response.body))
}

/// The host reports what goes wrong from here on.
fn write(head: OutgoingResponse, bytes: &[u8], outparam: ResponseOutparam) {
    let body = head.body();
    ResponseOutparam::set(outparam, Ok(head));
    let Ok(body) = body else {
        return;
    };
    if let Ok(stream) = body.write()
        && write_all(&stream, bytes).is_err()
    {
        return;
    }
    let _ = OutgoingBody::finish(body, None);
}

fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.flush()
}
