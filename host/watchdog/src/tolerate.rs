//! Work of one client or caller, whose panic is its own end and nobody else's.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

thread_local! {
    static TOLERANT: Cell<bool> = const { Cell::new(false) };
    static SOUND: RefCell<Option<Box<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// It panicked, with these words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked(pub String);

pin_project! {
    /// See [`tolerate`].
    #[derive(Debug)]
    pub struct Tolerated<F> {
        #[pin]
        inner: F,
    }
}

/// The same future, whose panic is its answer instead of the end of the process, unless the panic
/// left the state of its thread broken: see [`set_soundness`].
pub const fn tolerate<F: Future>(inner: F) -> Tolerated<F> {
    Tolerated { inner }
}

/// The same for a function.
///
/// # Errors
/// When it panicked.
pub fn tolerate_sync<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let _scope = Scope::enter();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked(message_of(&*payload)))
}

impl<F: Future> Future for Tolerated<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner;
        match tolerate_sync(|| inner.poll(context)) {
            Ok(poll) => poll.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

/// Says for this thread how to tell, at the moment of a panic, whether what its tasks share is whole.
/// It is not while one of them changes it: then nothing is tolerated.
pub fn set_soundness(is_sound: impl Fn() -> bool + 'static) {
    SOUND.set(Some(Box::new(is_sound)));
}

/// Tolerates every panic on this thread, which works for one caller at a time.
pub fn tolerate_here() {
    TOLERANT.set(true);
}

struct Scope {
    before: bool,
}

impl Scope {
    fn enter() -> Self {
        Self {
            before: TOLERANT.replace(true),
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        TOLERANT.set(self.before);
    }
}

pub(crate) fn is_tolerable() -> bool {
    let is_sound = || SOUND.with_borrow(|sound| sound.as_ref().is_none_or(|it| it()));
    TOLERANT.get() && is_sound()
}

pub(crate) fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tolerated_panic_is_an_answer() {
        assert_eq!(tolerate(async { 1 }).await, Ok(1));
        let broken = tolerate(async {
            tokio::task::yield_now().await;
            assert!(is_tolerable());
            panic!("broken")
        });
        assert_eq!(broken.await, Err::<(), _>(Panicked("broken".to_owned())));
        assert!(!is_tolerable());
    }

    #[test]
    fn nothing_is_tolerated_while_what_the_thread_shares_is_being_changed() {
        let state = std::rc::Rc::new(RefCell::new(0));
        let own = state.clone();
        set_soundness(move || own.try_borrow().is_ok());
        let whole = tolerate_sync(is_tolerable);
        assert_eq!(whole, Ok(true));
        let _changing = state.borrow_mut();
        assert_eq!(tolerate_sync(is_tolerable), Ok(false));
    }
}
