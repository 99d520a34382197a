//! Handing a request by HTTP to the guest, and what it answers, whole.
//!
//! The answer counts once `handle` has returned: a guest that traps behind it has not answered. What the
//! guest writes is collected meanwhile, so that it never waits for whoever asked.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use http_body_util::{BodyExt, Full};
use hyper::header::HOST;
use hyper::{Request, Response};
use tidegate_wire::effect::Reply;
use tidegate_wire::http::{HttpAnswer, HttpCall};
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler::Guest;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::host_api::HostState;

type Answered = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// The answer as a reply, or what is wrong with it.
pub(super) async fn handle(
    guest: &Guest,
    store: &mut Store<HostState>,
    call: &HttpCall,
    is_secure: bool,
    ends: Instant,
) -> Result<wasmtime::Result<Result<Reply, String>>, Elapsed> {
    let bytes_max = store.data().identity.limits.effect_bytes_max;
    let request = match request_of(call) {
        Ok(request) => request,
        Err(error) => return Ok(Ok(Err(format!("this is no request: {error}")))),
    };
    let scheme = match is_secure {
        true => Scheme::Https,
        false => Scheme::Http,
    };
    let (answers, answered) = oneshot::channel();
    let mut http = store.data_mut().http();
    let handed = http
        .new_incoming_request(scheme, request)
        .and_then(|request| Ok((request, http.new_response_outparam(answers)?)));
    let (request, outparam) = match handed {
        Ok(handed) => handed,
        Err(error) => return Ok(Err(error)),
    };
    // It is asked once more when the guest has returned, and must say then what there is.
    let mut collecting = pin!(unconstrained(collect(answered, bytes_max)));
    let mut answer = None;
    let called = guest.call_handle(&mut *store, request, outparam);
    let returned = {
        let mut called = pin!(called);
        let both = poll_fn(|cx| {
            if answer.is_none()
                && let Poll::Ready(collected) = collecting.as_mut().poll(cx)
            {
                answer = Some(collected);
            }
            called.as_mut().poll(cx)
        });
        timeout_at(ends, both).await?
    };
    if let Err(error) = returned {
        return Ok(Err(error));
    }
    if answer.is_none() {
        answer = poll_fn(|cx| {
            Poll::Ready(match collecting.as_mut().poll(cx) {
                Poll::Ready(collected) => Some(collected),
                Poll::Pending => None,
            })
        })
        .await;
    }
    let unfinished = || Err("it has returned without finishing its answer".to_owned());
    let answer = answer.unwrap_or_else(unfinished);
    Ok(Ok(answer.map(|answer| Reply::Http(Box::new(answer)))))
}

fn request_of(call: &HttpCall) -> Result<Request<Full<bytes::Bytes>>, hyper::http::Error> {
    let mut request = Request::builder()
        .method(&*call.method)
        .uri(&*call.target)
        // The guest is told of it as the authority.
        .header(HOST, &*call.authority);
    for (name, value) in &call.headers {
        request = request.header(name, &**value);
    }
    request.body(Full::new(call.body.bytes().clone()))
}

async fn collect(
    answered: oneshot::Receiver<Answered>,
    bytes_max: usize,
) -> Result<HttpAnswer, String> {
    let response = match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(ErrorCode::InternalError(Some(text)))) => return Err(text),
        Ok(Err(code)) => return Err(format!("it has answered with the error {code:?}")),
        Err(_dropped) => return Err("it has given no answer".to_owned()),
    };
    let (head, mut body) = response.into_parts();
    let status = head.status.as_u16();
    if !(200..=599).contains(&status) {
        return Err(format!(
            "it has answered with the status {status}; 200 to 599 are there"
        ));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            "the body of its answer has another length than it has said, or no end".to_owned()
        })?;
        // Trailers are left out.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > bytes_max {
            return Err(format!(
                "the body of its answer is larger than {bytes_max} bytes (`effect-bytes-max`)"
            ));
        }
        whole.extend_from_slice(&data);
    }
    let line = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Ok(HttpAnswer {
        status,
        headers: head.headers.iter().map(line).collect(),
        body: whole.freeze().into(),
    })
}
