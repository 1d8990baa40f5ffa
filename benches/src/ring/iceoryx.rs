//! The same through iceoryx2, the best-known transport in shared memory of this language: publish and subscribe each way,
//! with an event beside it for those who sleep.

use std::sync::atomic::{AtomicU32, Ordering};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{
    AllocationStrategy, BackpressureStrategy, LogLevel, NodeBuilder, ServiceName, ipc, set_log_level,
};

use crate::ring::links::{BEGINNING, Bytes, Link, Open, Wait};

type Ipc = ipc::Service;
type Node = iceoryx2::node::Node<Ipc>;

/// An end of two topics, before its ports are made: these belong to the thread that uses them.
pub(crate) struct IceoryxEnd {
    /// The topics that it sends and receives on.
    names: [String; 2],
    frames_max: usize,
    frame_bytes: usize,
    wait: Wait,
    bytes: Bytes,
}

/// An end of two topics.
pub(crate) struct IceoryxLink {
    wait: Wait,
    bytes: Bytes,
    publisher: Publisher<Ipc, [u8], ()>,
    notifier: Notifier<Ipc>,
    subscriber: Subscriber<Ipc, [u8], ()>,
    listener: Listener<Ipc>,
    _node: Node,
}

impl IceoryxEnd {
    pub(crate) fn pair(frames_max: u32, frame_bytes: usize, wait: Wait, bytes: Bytes) -> (Self, Self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [there, back] =
            ["there", "back"].map(|way| format!("mofka-benches/{}/{number}/{way}", std::process::id()));
        let end = |names| Self {
            names,
            frames_max: frames_max as usize,
            frame_bytes,
            wait,
            bytes,
        };
        (end([there.clone(), back.clone()]), end([back, there]))
    }

    fn try_open(&self) -> Result<IceoryxLink, Box<dyn std::error::Error>> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new().create::<Ipc>()?;
        let [sent, received] = [0, 1].map(|way| ServiceName::new(&self.names[way]));
        let (sent, received) = (sent?, received?);
        let frames = |name: &ServiceName| {
            node.service_builder(name)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(self.frames_max)
                .open_or_create()
        };
        let publisher = frames(&sent)?
            .publisher_builder()
            .initial_max_slice_len(self.frame_bytes)
            .allocation_strategy(AllocationStrategy::Static)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = frames(&received)?.subscriber_builder().create()?;
        let bell = |name: &ServiceName| node.service_builder(name).event().open_or_create();
        Ok(IceoryxLink {
            wait: self.wait,
            bytes: self.bytes,
            publisher,
            notifier: bell(&sent)?.notifier_builder().create()?,
            subscriber,
            listener: bell(&received)?.listener_builder().create()?,
            _node: node,
        })
    }
}

impl Open for IceoryxEnd {
    type Link = IceoryxLink;

    fn open(self) -> IceoryxLink {
        self.try_open().expect("iceoryx2 opens its topics")
    }
}

impl Link for IceoryxLink {
    const CARRIES: bool = true;

    fn send(&mut self, frame: &[u8]) {
        let loaned = self.publisher.loan_slice_uninit(frame.len());
        let mut sample = loaned.expect("iceoryx2 lends memory");
        match self.bytes {
            Bytes::Copied => {
                let sample = sample.write_from_slice(frame);
                sample.send().expect("iceoryx2 sends");
            }
            Bytes::InPlace => {
                let (beginning, _) = sample.payload_mut().split_at_mut(BEGINNING);
                for (place, byte) in beginning.iter_mut().zip(frame) {
                    place.write(*byte);
                }
                // SAFETY: bytes of a mapped file are some value, whoever wrote them last; the other end reads only the
                // beginning, which was just written.
                let sample = unsafe { sample.assume_init() };
                sample.send().expect("iceoryx2 sends");
            }
        }
        if self.wait == Wait::Sleep {
            self.notifier.notify().expect("iceoryx2 notifies");
        }
    }

    fn receive(&mut self, frame: &mut [u8]) {
        let sample = loop {
            match self.subscriber.receive().expect("iceoryx2 receives") {
                Some(sample) => break sample,
                None if self.wait == Wait::Poll => std::hint::spin_loop(),
                None => {
                    let waited = self.listener.blocking_wait(|_| {});
                    waited.expect("iceoryx2 waits");
                }
            }
        };
        let wanted = match self.bytes {
            Bytes::Copied => frame.len(),
            Bytes::InPlace => BEGINNING,
        };
        frame[..wanted].copy_from_slice(&sample.payload()[..wanted]);
    }
}
