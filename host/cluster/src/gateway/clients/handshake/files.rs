//! The static folder: files with their types, ranges and conditions, and nothing from outside.
//!
//! No name that begins with a dot is served, and no link that leads out of the folder is followed,
//! whoever changes what meanwhile: the system looks names up below the folder as one step.

use std::fs;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use cap_primitives::ambient_authority;
use cap_primitives::fs::{FollowSymlinks, OpenOptions, open, open_ambient_dir, stat};
use http_body_util::{BodyExt, Empty};
use hyper::header::{ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower::ServiceExt;
use tower_http::services::ServeDir;
use tower_http::services::fs::{Backend, File, Metadata};

use crate::gateway::clients::handshake::{Body, text};

/// What there is in the folder for a request by GET or HEAD.
pub(super) async fn answer<B>(folder: &Path, request: Request<B>) -> Response<Body> {
    let path = percent_decode_str(request.uri().path());
    let path = path.decode_utf8_lossy();
    if path.split('/').any(|name| name.starts_with('.')) {
        return missing(&request);
    }
    let below = Below(Arc::from(folder));
    let (mut parts, _no_body) = request.into_parts();
    // Parts are given of GET only, and in bytes; other units must be overlooked.
    let ranges = parts.headers.get(RANGE).map(HeaderValue::as_bytes);
    let in_bytes = ranges.is_some_and(|ranges| ranges.starts_with(b"bytes="));
    if parts.method == Method::HEAD || !in_bytes {
        parts.headers.remove(RANGE);
    }
    let request = |parts: &Parts| Request::from_parts(parts.clone(), Empty::<Bytes>::new());
    let files = ServeDir::with_backend("", below);
    let condition = parts.headers.remove(IF_RANGE);
    let mut answered = files.clone().oneshot(request(&parts)).await;
    if let (Some(condition), Ok(response)) = (condition, &answered)
        && parts.headers.contains_key(RANGE)
        && !is_current(&condition, response.headers())
    {
        // The client has a part of what is no more.
        parts.headers.remove(RANGE);
        answered = files.oneshot(request(&parts)).await;
    }
    match answered {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => missing(&request(&parts)),
        Ok(response) => response.map(BodyExt::boxed_unsync),
        Err(never) => match never {},
    }
}

/// Whether `If-Range` names what an answer is of: by its tag, if it is not a weak one, or its date.
fn is_current(condition: &HeaderValue, headers: &HeaderMap) -> bool {
    let is_weak = condition.as_bytes().starts_with(b"W/");
    !is_weak
        && [ETAG, LAST_MODIFIED]
            .iter()
            .any(|name| headers.get(name) == Some(condition))
}

fn missing<B>(request: &Request<B>) -> Response<Body> {
    let target: String = request.uri().path().chars().take(100).collect();
    text(
        StatusCode::NOT_FOUND,
        format!("There is no {target} here.\n"),
    )
}

type Waiting<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// What lies below a folder.
#[derive(Clone)]
struct Below(Arc<Path>);

impl Below {
    fn look<T: Send + 'static>(
        &self,
        path: PathBuf,
        take: impl FnOnce(&fs::File, &Path) -> io::Result<T> + Send + 'static,
    ) -> Waiting<T> {
        let folder = self.0.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let folder = open_ambient_dir(&folder, ambient_authority())?;
            let path = path.strip_prefix(".").unwrap_or(&path);
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            take(&folder, path)
        });
        Box::pin(async move { looking.await.map_err(io::Error::other)? })
    }
}

/// What leads out of the folder is not there.
fn outside(error: &io::Error) -> io::Error {
    let is_no_name = error.kind() == io::ErrorKind::InvalidInput;
    let kind = is_no_name.then_some(error.kind());
    kind.unwrap_or(io::ErrorKind::NotFound).into()
}

impl Backend for Below {
    type File = Opened;
    type Metadata = Known;
    type OpenFuture = Waiting<Opened>;
    type MetadataFuture = Waiting<Known>;

    fn open(&self, path: PathBuf) -> Waiting<Opened> {
        self.look(path, |folder, path| {
            // Whatever is no file could block at being opened.
            known(folder, path)?
                .is_file
                .then_some(())
                .ok_or(io::ErrorKind::NotFound)?;
            let mut options = OpenOptions::new();
            options.read(true);
            let file = open(folder, path, &options).map_err(|error| outside(&error))?;
            let opened = file.metadata()?;
            let known = Known {
                is_dir: opened.is_dir(),
                is_file: opened.is_file(),
                length: opened.len(),
                modified: opened.modified().ok(),
            };
            let file = tokio::fs::File::from_std(file);
            Ok(Opened { file, known })
        })
    }

    fn metadata(&self, path: PathBuf) -> Waiting<Known> {
        self.look(path, known)
    }
}

fn known(folder: &fs::File, path: &Path) -> io::Result<Known> {
    let found = stat(folder, path, FollowSymlinks::Yes).map_err(|error| outside(&error))?;
    Ok(Known {
        is_dir: found.is_dir(),
        is_file: found.is_file(),
        length: found.len(),
        modified: found.modified().map(|time| time.into_std()).ok(),
    })
}

/// What is asked of a file.
#[derive(Clone, Copy)]
struct Known {
    is_dir: bool,
    is_file: bool,
    length: u64,
    modified: Option<SystemTime>,
}

impl Metadata for Known {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.length
    }
}

struct Opened {
    file: tokio::fs::File,
    known: Known,
}

impl File for Opened {
    type Metadata = Known;
    type MetadataFuture<'a> = std::future::Ready<io::Result<Known>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.known))
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, buffer)
    }
}

impl AsyncSeek for Opened {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}
