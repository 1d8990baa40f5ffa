//! A forked child and what its parent claimed. Here, because other tests do without `unsafe`, which forking is.

use mofka_client::{FillError, InPlace, Producer, ProducerOptions, PushError, TopicOptions};
use mofka_tests::Node;

/// What can be claimed at a time of the default arena.
const HALF: usize = 8 << 20;

#[test]
fn what_was_claimed_is_the_parents_alone() {
    for listen in ["na+sm", "tcp://127.0.0.1:0"] {
        let node = Node::start(&["--listen", listen, "--shards", "1"]);
        let driver = node.driver();
        let topic = driver.create_topic(TopicOptions::new("t")).unwrap();
        let producer = topic.producer(ProducerOptions::default());
        let is_local = listen == "na+sm";
        let mut claim = producer.claim("{}", HALF / 2, None).unwrap();
        let other = producer.claim("{}", HALF / 2, None).unwrap();
        assert_eq!((claim.is_shared(), other.is_shared()), (is_local, is_local));
        claim.write(0, b"parent").unwrap();
        // SAFETY: the child calls what it is forked for and ends at once; the allocator is one that a child may use.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            let is_fine = is_refused(&producer, claim, other);
            // SAFETY: nothing of the parent's is to be run at the end of the child.
            unsafe { libc::_exit(i32::from(!is_fine)) };
        }
        let mut status = 0;
        // SAFETY: `status` lives as long as the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "{listen}: the child was refused everything");
        claim.shorten(6).unwrap();
        claim.commit().unwrap().wait().unwrap();
        drop(other);
        assert_eq!(producer.claim("{}", HALF, None).unwrap().is_shared(), is_local);
        let report = producer.close().unwrap();
        assert_eq!((report.pushed, report.acknowledged), (1, 1));
    }
}

/// That the child can do nothing with them. It must not panic, which would write to its parent's output.
fn is_refused(producer: &Producer, mut claim: InPlace, other: InPlace) -> bool {
    let is_filled = claim.write(0, b"child!");
    drop(other);
    let committed = claim.commit();
    matches!(is_filled, Err(FillError::Forked { .. }))
        && matches!(committed, Err(PushError::Forked { .. }))
        && matches!(producer.claim("{}", 1, None), Err(PushError::Forked { .. }))
}
