//! Brings the data of many events with few requests.

use std::collections::VecDeque;

use mofka_net::{DataDescriptor, ErrorCode, FetchItemError, FetchRequest, FetchResponse};

use super::Core;
use super::asking::Asking;
use super::preparing::Prepared;
use super::worker::Incoming;
use crate::link::Answer;

/// Data in one request: enough to make the round trip cheap, little enough for events to flow meanwhile.
const REQUEST_BYTES: u64 = 8 << 20;
/// Events in one request.
const REQUEST_ITEMS: usize = 4096;
/// Bytes of descriptors in one request: descriptors with many segments are large.
const REQUEST_DESCRIPTOR_BYTES: usize = 4 << 20;
/// Requests on their way, so that the node reads while we receive.
const REQUESTS_IN_FLIGHT: usize = 2;

/// A part of what an event lacks. A large selection has several, in order.
struct Want {
    /// The event's place among the prepared.
    place: usize,
    part: DataDescriptor,
}

/// Why the data of a feed does not come. What was asked for has to be asked for again, with its events.
pub(super) struct Abandoned(pub(super) String);

/// Fetches what the prepared events lack. `progress` is called whenever the first `n` of them are complete.
pub(super) fn fetch(
    core: &Core,
    incoming: &Incoming,
    prepared: &mut VecDeque<Prepared>,
    mut progress: impl FnMut(&mut VecDeque<Prepared>, usize),
) -> Result<(), Abandoned> {
    let bytes_max = incoming
        .connection
        .limits()
        .fetch_bytes_max
        .clamp(1, REQUEST_BYTES);
    let mut requests = plan(prepared, bytes_max).into_iter();
    let mut in_flight: VecDeque<(Vec<Want>, Asking)> = VecDeque::new();
    let mut done = 0;
    loop {
        while in_flight.len() < REQUESTS_IN_FLIGHT
            && let Some(wants) = requests.next()
        {
            let answer = send(incoming, &wants)?;
            in_flight.push_back((wants, answer));
        }
        let Some((wants, answer)) = in_flight.pop_front() else {
            break;
        };
        // From when the one before was answered on: these may have to share the way.
        let answer = answer.wait(core.driver.fetch_timeout()).map_err(Abandoned)?;
        if let Answer::Response(body) = answer {
            core.counters.fetched(body.len());
        }
        let last = wants.last().map_or(done, |want| want.place);
        receive(incoming, &wants, answer, prepared, done)?;
        // The event of the last want may have more parts to come; those before it are complete.
        progress(prepared, last - done);
        done = last;
    }
    let left = prepared.len();
    progress(prepared, left);
    Ok(())
}

/// Cuts what is missing into requests.
fn plan(prepared: &VecDeque<Prepared>, bytes_max: u64) -> Vec<Vec<Want>> {
    let mut requests: Vec<Vec<Want>> = Vec::new();
    let (mut bytes_left, mut descriptor_bytes_left) = (0, 0);
    for (place, event) in prepared.iter().enumerate() {
        let Some(wanted) = event.wanted() else { continue };
        let mut offset = 0;
        while offset < wanted.bytes() {
            let part = if wanted.bytes() <= bytes_max {
                wanted.clone()
            } else {
                wanted.sub_view(offset, bytes_max)
            };
            offset += part.bytes();
            let descriptor_bytes = part.serialized_bytes();
            let fits = |request: &Vec<Want>| {
                request.len() < REQUEST_ITEMS
                    && part.bytes() <= bytes_left
                    && descriptor_bytes <= descriptor_bytes_left
            };
            match requests.last_mut().filter(|request| fits(request)) {
                Some(request) => {
                    bytes_left -= part.bytes();
                    descriptor_bytes_left -= descriptor_bytes;
                    request.push(Want { place, part });
                }
                None => {
                    bytes_left = bytes_max.saturating_sub(part.bytes());
                    descriptor_bytes_left = REQUEST_DESCRIPTOR_BYTES.saturating_sub(descriptor_bytes);
                    requests.push(vec![Want { place, part }]);
                }
            }
        }
    }
    requests
}

fn send(incoming: &Incoming, wants: &[Want]) -> Result<Asking, Abandoned> {
    let items = wants.iter().map(|want| want.part.clone()).collect();
    let request = FetchRequest {
        partition: incoming.source.partition(),
        items,
    };
    let body = request.encode().map_err(|error| Abandoned(error.to_string()))?;
    Asking::send(&incoming.connection, body).map_err(|lost| Abandoned(lost.to_string()))
}

/// Why a part does not come.
enum Lack {
    /// Retention dropped the event after it was fed.
    Trimmed,
    Failed(String),
}

/// Gives each event its part, or the reason why there is none.
fn receive(
    incoming: &Incoming,
    wants: &[Want],
    answer: &Answer,
    prepared: &mut VecDeque<Prepared>,
    done: usize,
) -> Result<(), Abandoned> {
    let partition = incoming.source.index();
    let mut each = |outcome: &mut dyn FnMut(usize, &Want) -> Result<bytes::Bytes, Lack>| {
        for (index, want) in wants.iter().enumerate() {
            let Some(event) = prepared.get_mut(want.place - done) else {
                continue;
            };
            match outcome(index, want) {
                Ok(bytes) => event.add_part(bytes),
                Err(Lack::Trimmed) => event.trim(),
                Err(Lack::Failed(reason)) => event.fail(partition, &reason),
            }
        }
    };
    match answer {
        Answer::Lost(lost) => return Err(Abandoned(lost.to_string())),
        Answer::Refused(error) if error.code.is_retriable() => return Err(Abandoned(error.to_string())),
        Answer::Refused(error) => each(&mut |_, _| Err(Lack::Failed(error.to_string()))),
        Answer::Response(body) => {
            let items = FetchResponse::check(body.clone()).map_err(|error| Abandoned(error.to_string()))?;
            if items.len() != wants.len() {
                return Err(Abandoned(format!(
                    "{} items were fetched and {} came",
                    wants.len(),
                    items.len()
                )));
            }
            each(&mut |index, want| match items.get(index) {
                Some(Ok(bytes)) if bytes.len() as u64 == want.part.bytes() => Ok(bytes.clone()),
                Some(Ok(bytes)) => Err(Lack::Failed(format!(
                    "{} bytes came instead of {}",
                    bytes.len(),
                    want.part.bytes()
                ))),
                Some(Err(FetchItemError::Refused {
                    code: Some(ErrorCode::Trimmed),
                    ..
                })) => Err(Lack::Trimmed),
                Some(Err(error)) => Err(Lack::Failed(error.to_string())),
                None => Err(Lack::Failed("nothing came".to_owned())),
            });
        }
    }
    Ok(())
}
