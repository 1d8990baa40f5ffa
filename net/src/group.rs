//! The group file: where the nodes are. Its shape is that of the original (`members[].address`), so that programs and
//! tools made for it find what they look for; ours finds all addresses of all shards.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::address::{Address, AddressError};
use crate::limits::GROUP_FILE_BYTES_MAX;
use crate::width::wide;

/// Why a text is not a group file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Larger than any group.
    #[error("the group file has {bytes} bytes, more than the {GROUP_FILE_BYTES_MAX} that make sense")]
    TooLarge {
        /// How large it is.
        bytes: u64,
    },
    /// Not the JSON that is expected.
    #[error("group file doesn't appear to be a correctly formatted Flock group file: {reason}")]
    NotAGroup {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody is in it.
    #[error("no member found in provided Flock group file: is the daemon running?")]
    NoMembers,
    /// A member that cannot be reached.
    #[error("member {rank} of the group has an address that this client cannot use: {error}")]
    Address {
        /// Its place in the file.
        rank: usize,
        /// What is wrong.
        error: AddressError,
    },
    /// A shard without addresses.
    #[error("shard {shard} of the node listens nowhere")]
    NoAddress {
        /// Which one.
        shard: usize,
    },
}

/// The nodes of a group. The place in `members` is the rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFile {
    /// The nodes, by rank.
    pub members: Vec<GroupMember>,
    /// What the original keeps here: `__config__` and `__type__`.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Its first address.
    pub address: String,
    /// Of the original; 1 for us.
    #[serde(default = "first_provider")]
    pub provider_id: u16,
    /// All addresses of its first shard, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The addresses of each shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<Vec<String>>,
    /// Its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Uuid>,
}

fn first_provider() -> u16 {
    1
}

impl GroupFile {
    /// The group of one node whose shards listen on these addresses.
    ///
    /// # Errors
    /// When there is no shard, a shard without address, or an address that is none.
    pub fn of_node(shards: Vec<Vec<String>>, node: Uuid) -> Result<Self, GroupError> {
        if let Some(shard) = shards.iter().position(Vec::is_empty) {
            return Err(GroupError::NoAddress { shard });
        }
        let addresses = shards
            .first()
            .cloned()
            .ok_or(GroupError::NoAddress { shard: 0 })?;
        let address = addresses
            .first()
            .cloned()
            .ok_or(GroupError::NoAddress { shard: 0 })?;
        let member = GroupMember {
            address,
            provider_id: first_provider(),
            addresses,
            shards,
            node: Some(node),
        };
        check_member(0, &member)?;
        let mut metadata = Map::new();
        metadata.insert("__config__".to_owned(), json!({}));
        metadata.insert("__type__".to_owned(), json!("mofka"));
        Ok(Self {
            members: vec![member],
            metadata,
        })
    }

    /// Reads the text of a group file. Fields that we do not know are left alone: other tools may need them.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub fn check(text: &str) -> Result<Self, GroupError> {
        let bytes = wide(text.len());
        if bytes > GROUP_FILE_BYTES_MAX {
            return Err(GroupError::TooLarge { bytes });
        }
        let group: Self = serde_json::from_str(text).map_err(|error| GroupError::NotAGroup {
            reason: error.to_string(),
        })?;
        if group.members.is_empty() {
            return Err(GroupError::NoMembers);
        }
        for (rank, member) in group.members.iter().enumerate() {
            check_member(rank, member)?;
        }
        Ok(group)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        // Text and numbers with keys that are text always serialize.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl GroupMember {
    /// Where to reach the node first, best first.
    pub fn endpoints(&self) -> Vec<Address> {
        let listed: Vec<Address> = self
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        if listed.is_empty() {
            self.address.parse().into_iter().collect()
        } else {
            listed
        }
    }
}

fn check_member(rank: usize, member: &GroupMember) -> Result<(), GroupError> {
    let texts = member.addresses.iter().chain(member.shards.iter().flatten());
    for text in std::iter::once(&member.address).chain(texts) {
        text.parse::<Address>()
            .map_err(|error| GroupError::Address { rank, error })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards() -> Vec<Vec<String>> {
        let shard = |port| vec![format!("unix:///tmp/{port}"), format!("tcp://host:{port}")];
        vec![shard(1), shard(2)]
    }

    #[test]
    fn a_node_writes_what_clients_of_the_original_read() {
        let group = GroupFile::of_node(shards(), Uuid::from_u128(5)).unwrap();
        let wire: Value = serde_json::from_str(&group.to_json()).unwrap();
        assert_eq!(wire["members"][0]["address"], "unix:///tmp/1");
        assert_eq!(wire["members"][0]["provider_id"], 1);
        assert_eq!(wire["metadata"], json!({"__config__": {}, "__type__": "mofka"}));
        let back = GroupFile::check(&group.to_json()).unwrap();
        assert_eq!(back, group);
        assert_eq!(back.members[0].endpoints().len(), 2);
    }

    #[test]
    fn the_originals_shape_is_enough() {
        let text = r#"{"members":[{"address":"ofi+tcp://h:1","provider_id":1}],"metadata":{"__config__":{}},"more":1}"#;
        let group = GroupFile::check(text).unwrap();
        assert_eq!(group.members[0].endpoints(), ["tcp://h:1".parse().unwrap()]);
    }

    #[test]
    fn conditions_of_the_original() {
        let message = |text: &str| GroupFile::check(text).unwrap_err().to_string();
        for text in [
            "",
            "[]",
            "{}",
            "{\"members\":{}}",
            "{\"members\":[{}]}",
            "{\"members\":[{\"address\":1}]}",
        ] {
            assert!(
                message(text).contains("correctly formatted Flock group file"),
                "{text}"
            );
        }
        assert!(message("{\"members\":[]}").contains("no member found in provided Flock group file"));
        assert!(message("{\"members\":[{\"address\":\"na+sm:7-0\"}]}").contains("member 0"));
        assert!(matches!(
            GroupFile::of_node(vec![], Uuid::nil()),
            Err(GroupError::NoAddress { shard: 0 })
        ));
        assert!(matches!(
            GroupFile::of_node(vec![vec!["tcp://a:1".into()], vec![]], Uuid::nil()),
            Err(GroupError::NoAddress { shard: 1 })
        ));
    }

    proptest! {
        #[test]
        fn check_never_panics(text: String) {
            GroupFile::check(&text).ok();
        }
    }
}
