//! A callback, and a future of what it is called with: the bridge from completions to `async`.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use event_listener::Event;

/// Gives a callback to be called once, and the future that resolves when it was. If the callback is dropped without
/// having been called, the future never resolves: completions of this engine are always called.
pub(crate) fn promise<T: 'static>() -> (impl FnOnce(T) + 'static, impl Future<Output = T>) {
    let shared: Rc<(RefCell<Option<T>>, Event)> = Rc::new((RefCell::new(None), Event::new()));
    let kept = Rc::clone(&shared);
    let keep = move |value: T| {
        *kept.0.borrow_mut() = Some(value);
        kept.1.notify(usize::MAX);
    };
    let kept = async move {
        loop {
            let listener = shared.1.listen();
            if let Some(value) = shared.0.borrow_mut().take() {
                return value;
            }
            listener.await;
        }
    };
    (keep, kept)
}
