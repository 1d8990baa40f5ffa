//! Requests and answers whose bodies are JSON.
//!
//! Requests refuse unknown fields: a misspelt option must not be ignored. Answers take them, so that a newer node
//! can tell more.

mod config;
mod consumer;
mod hello;
mod node;
mod partition;
mod report;
mod ring;
mod stream;
mod topic;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use config::{
    ConfigFileInfo, ConfigGetResponse, ConfigSetRequest, ConfigSetResponse, Setting, SettingChange,
};
pub use consumer::{
    ConsumerDeleteRequest, ConsumerInfo, ConsumerListRequest, ConsumerListResponse, From, GroupLeaveRequest,
    GroupPartition, GroupPlace, GroupSyncRequest, GroupSyncResponse, SeekRequest, SeekResponse, Selection,
    SubscribeRequest, SubscribeResponse, UnsubscribeRequest,
};
pub use hello::{HelloRequest, HelloResponse, NodeLimits};
pub use node::{EmptyRequest, MemoryStatus, NodeStatus, ReadStatus, RingStatus, ShardStatus};
pub use partition::{
    PartitionAddRequest, PartitionDescribeRequest, PartitionInfo, PartitionState, PartitionStatus, PinStatus,
};
pub use report::{
    ConsumerReport, DiskReport, Durations, NodeReport, PartitionReport, Problem, ProcessReport, ShardReport,
    TopicReport, Totals,
};
pub use ring::{RingBounds, RingLane, RingOpenRequest, RingOpenResponse};
pub use stream::{StreamAbortRequest, StreamOpenRequest, StreamOpenResponse};
pub use topic::{
    PartitionSpec, ProducerDoneRequest, ProducerDoneResponse, TopicAlterRequest, TopicCompleteRequest,
    TopicCreateRequest, TopicDeleteRequest, TopicInfo, TopicListResponse, TopicRequest, TopicSummary,
};

use crate::body::BodyError;
use crate::limits::CONTROL_BYTES_MAX;
use crate::width::wide;

/// Reads the JSON body of a request, or of an answer or error. `what` names it in messages.
///
/// # Errors
/// When it is too large, not JSON, or not this structure.
pub fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, BodyError> {
    let value = wide(body.len());
    if value > CONTROL_BYTES_MAX {
        return Err(BodyError::TooLarge {
            what,
            field: "size in bytes",
            value,
            max: CONTROL_BYTES_MAX,
        });
    }
    decode_any(what, body)
}

/// Reads the JSON body of an answer of any size: a node with many topics has much to tell, and the frame's limit
/// has bounded it already.
///
/// # Errors
/// When it is not JSON, or not this structure.
pub fn decode_any<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, BodyError> {
    serde_json::from_slice(body).map_err(|error| BodyError::Json {
        what,
        reason: error.to_string(),
    })
}

/// Writes a JSON body.
///
/// # Errors
/// None that can happen with the structures of this module: they have no maps with keys other than text.
pub fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, BodyError> {
    serde_json::to_vec(value).map_err(|error| BodyError::Json {
        what,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use mofka_log::{Durability, PartitionKind};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn same<T: Serialize + DeserializeOwned>(wire: Value) {
        let value: T = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&value).unwrap(), wire);
    }

    #[test]
    fn requests_read_and_write_as_documented() {
        let id = Uuid::from_u128(7).to_string();
        same::<HelloRequest>(
            json!({"version_min":1,"version_max":1,"client":"c","features":["x"],"token":"t"}),
        );
        same::<TopicCreateRequest>(json!({
            "name":"t","durability":"written","validator":{"type":"default"},"num_partitions":3,
            "retention":{"bytes_max":5},"producers_expected":7,"partition":{"type":"memory","config":{}}
        }));
        let lane = json!({"slots":256,"arena_bytes":4096});
        same::<RingOpenRequest>(json!({"submission":lane,"completion":lane}));
        same::<TopicAlterRequest>(json!({"name":"t"}));
        same::<TopicAlterRequest>(json!({"name":"t","retention":{"acknowledged":{"consumers":["a"]}}}));
        same::<TopicRequest>(json!({"name":"t"}));
        same::<TopicDeleteRequest>(json!({"name":"t"}));
        same::<TopicDeleteRequest>(json!({"name":"t","force":true}));
        same::<TopicCompleteRequest>(json!({"name":"t"}));
        same::<TopicCompleteRequest>(json!({"name":"t","partition":3}));
        same::<ProducerDoneRequest>(json!({"topic":"t","producer":"rank 7"}));
        same::<PartitionAddRequest>(json!({"topic":"t","type":"default","rank":0,"shard":1,"config":{}}));
        same::<ConfigSetRequest>(json!({"set":{"log_level":"debug","limits.connections_max":7}}));
        same::<PartitionDescribeRequest>(json!({"partition":id}));
        for from in [json!("cursor"), json!("first"), json!("last"), json!({"id":4})] {
            same::<SubscribeRequest>(json!({
                "subscription":5,"partition":id,"consumer":"c","member":id,"from":from,"batch_events_max":1,
                "batch_bytes_max":2,"credits":3,"selection":"all"
            }));
        }
        same::<SeekRequest>(json!({"partition":id,"consumer":"c","to":{"id":4}}));
        same::<ConsumerListRequest>(json!({"topic":"t"}));
        same::<ConsumerDeleteRequest>(json!({"partition":id,"consumer":"c"}));
        same::<GroupSyncRequest>(json!({
            "topic":"t","consumer":"c","member":id,"targets":[1],"generation":4,"holding":[{"partition":0}],
            "released":[{"partition":2,"next_event_id":7}],"wait_ms":10
        }));
        same::<GroupLeaveRequest>(json!({"topic":"t","consumer":"c","member":id}));
    }

    #[test]
    fn a_misspelt_option_is_refused() {
        let body = br#"{"name":"t","durabilty":"synced"}"#;
        let error = decode::<TopicCreateRequest>("topic_create request", body).unwrap_err();
        assert!(error.to_string().contains("durabilty"), "{error}");
        assert!(decode::<EmptyRequest>("status request", br#"{"x":1}"#).is_err());
    }

    #[test]
    fn absent_options_have_defaults() {
        let request: TopicCreateRequest = decode("topic_create request", br#"{"name":"t"}"#).unwrap();
        assert_eq!((request.durability, request.num_partitions), (None, None));
        let spec: PartitionSpec = decode("partition", br"{}").unwrap();
        assert_eq!((spec.kind, spec.config), (PartitionKind::Default, json!({})));
        let hello: HelloRequest =
            decode("hello", br#"{"version_min":1,"version_max":2,"client":""}"#).unwrap();
        assert_eq!((hello.features, hello.token), (vec![], None));
    }

    #[test]
    fn answers_may_tell_more_than_we_know() {
        let wire = json!({
            "id": Uuid::nil(), "name":"t","durability":"synced","validator":{},"partition_selector":{},
            "serializer":{},"created_us":1,"complete":false,"novel":[1],
            "partitions":[{"id":Uuid::nil(),"index":0,"type":"default","rank":0,"shard":0,"addresses":["tcp://a:1"]}]
        });
        let info: TopicInfo = serde_json::from_value(wire).unwrap();
        assert_eq!((info.durability, info.partitions.len()), (Durability::Synced, 1));
        assert_eq!(info.summary().num_partitions, 1);
    }

    #[test]
    fn a_huge_body_is_refused_before_it_is_parsed() {
        let body = vec![b' '; usize::try_from(CONTROL_BYTES_MAX).unwrap() + 1];
        assert!(matches!(
            decode::<EmptyRequest>("x", &body),
            Err(BodyError::TooLarge { .. })
        ));
    }
}
