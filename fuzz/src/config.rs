//! A node's configuration (our own JSON and the original's), the group file, addresses.

use mofka_engine::config::{NodeConfig, listen_of_protocol};
use mofka_net::{Address, GroupFile};

/// See the module.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for protocol in [None, Some("na+sm")] {
        match NodeConfig::parse(text, protocol) {
            Ok(loaded) => {
                assert!(loaded.notes.iter().all(|note| !note.is_empty()));
                assert!(!loaded.config.listen.is_empty() || text.contains("listen"));
            }
            Err(reason) => assert!(!reason.is_empty(), "whoever is refused is told why"),
        }
    }
    if let Ok(group) = GroupFile::check(text) {
        assert!(!group.members.is_empty());
        assert!(group.members.iter().all(|member| !member.endpoints().is_empty()));
        let again = GroupFile::check(&group.to_json()).expect("what was written is read");
        assert_eq!(again, group, "a group file is read as it was written");
    }
    for line in text.lines() {
        let _ = listen_of_protocol(line);
        if let Ok(address) = line.parse::<Address>() {
            assert_eq!(
                address.to_string().parse(),
                Ok(address),
                "an address is read as it is shown"
            );
        }
    }
}
