//! A shard that panics ends the whole process, at once.
//!
//! A node without one of its shards is worse than none: whoever waits for that shard, the other shards among them, would wait for ever,
//! and whoever watches the process sees one that runs. What was acknowledged is in the log, and a supervisor starts the node again.

use std::cell::Cell;
use std::panic;
use std::process;
use std::sync::Once;

thread_local! {
    /// The shard that this thread is.
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// From now on panics of shards end the process. Those of other threads stay what they are.
pub(super) fn end_the_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            usual(what);
            if let Some(shard) = SHARD.get() {
                tracing::error!(shard, panic = %what, "a shard panicked, which is a mistake in mofkad: ending the process");
                process::abort();
            }
        }));
    });
}

/// This thread is a shard.
pub(super) fn this_thread_is(shard: usize) {
    SHARD.set(Some(shard));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Set where the test below runs itself again: which thread is to panic there.
    const WHO: &str = "MOFKA_TEST_PANICS";

    #[test]
    fn a_panic_of_a_shard_ends_the_process_and_that_of_another_thread_does_not() {
        if let Ok(who) = std::env::var(WHO) {
            end_the_process();
            let thread = std::thread::spawn(move || {
                if who == "shard" {
                    this_thread_is(3);
                }
                panic!("as it was asked to");
            });
            assert!(thread.join().is_err());
            return;
        }
        let name =
            "uring::panics::tests::a_panic_of_a_shard_ends_the_process_and_that_of_another_thread_does_not";
        let run = |who: &str| {
            let mut again = process::Command::new(std::env::current_exe().unwrap());
            let again = again.args(["--exact", name, "--nocapture"]).env(WHO, who);
            let output = again.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("as it was asked to"), "{said}");
            output.status
        };
        const SIGABRT: i32 = 6;
        assert_eq!(run("shard").signal(), Some(SIGABRT));
        assert!(run("another").success());
    }
}
