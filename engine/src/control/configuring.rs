//! Settings of the node: told, and changed where that is possible while it runs.

use std::rc::Rc;

use mofka_net::control::{
    ConfigFileInfo, ConfigGetResponse, ConfigSetRequest, ConfigSetResponse, Setting, SettingChange,
};
use mofka_net::{ErrorCode, WireError};
use serde_json::Value;

use crate::config::{Change, NodeConfig, change_of};
use crate::facts::{NodeFacts, socket_permissions};
use crate::io::Io;
use crate::logging;
use crate::nearest::nearest;
use crate::shard::{Peers, Shard, ShardCall, Tuning};

fn invalid(message: String) -> WireError {
    WireError::new(ErrorCode::InvalidArgument, message)
}

/// What a setting's change means, and whether it changes while the node runs.
fn note(key: &str) -> (bool, &'static str) {
    match change_of(key) {
        Some(Change::Live(reach)) => (true, reach),
        Some(Change::Restart(why)) => (false, why),
        None => (false, "it is unknown how"),
    }
}

pub(super) fn get(facts: &NodeFacts) -> Result<ConfigGetResponse, WireError> {
    let mut configured = facts.configured.settings();
    let setting = |(key, value): (String, Value)| {
        let (live, note) = note(&key);
        Setting {
            configured: configured.remove(&key).unwrap_or_default(),
            key,
            value,
            live,
            note: note.to_owned(),
        }
    };
    let now = facts.now().settings();
    let file = facts.file.as_ref().map(|file| ConfigFileInfo {
        path: file.path.display().to_string(),
        overridden: file.overridden.clone(),
    });
    Ok(ConfigGetResponse {
        settings: now.into_iter().map(setting).collect(),
        file,
    })
}

/// Changes settings: all that are asked for, or none. When it is done, every shard goes by them.
pub(super) async fn set<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    request: &ConfigSetRequest,
) -> Result<ConfigSetResponse, WireError> {
    let facts = shard.facts();
    let _turn = facts.changing.lock().await;
    let was = facts.now().clone();
    let is = wanted(&was, request)?;
    let (old, mut new) = (was.settings(), is.settings());
    new.retain(|key, value| old.get(key) != Some(value));
    if new.contains_key("log_level") {
        logging::set_level(&is.log_level).map_err(invalid)?;
    }
    facts.change(&is);
    if new.keys().any(|key| is_of_shards(key)) {
        tell_shards(shard, &is).await?;
    }
    if new.keys().any(|key| key.starts_with("local_clients.")) {
        open_sockets(facts, &is)?;
    }
    let changed = new.into_iter().map(|(key, is)| {
        let was = old.get(&key).cloned().unwrap_or_default();
        // At a level that is logged by the default one; whoever turned the log off does not want to hear of it.
        tracing::info!(%key, %was, %is, "setting changed");
        let (_, note) = note(&key);
        SettingChange {
            key,
            was,
            is,
            note: note.to_owned(),
        }
    });
    Ok(ConfigSetResponse {
        changed: changed.collect(),
    })
}

/// The configuration that would be, by the rules of a start.
fn wanted(was: &NodeConfig, request: &ConfigSetRequest) -> Result<NodeConfig, WireError> {
    let mut is = was.clone();
    for (key, value) in &request.set {
        match change_of(key) {
            None => return Err(invalid(unknown(was, key))),
            Some(Change::Restart(why)) => {
                return Err(invalid(format!(
                    "\"{key}\" cannot be changed while the node runs: {why}. Change it in the configuration and start the \
                     node again (`mofka-ctl config get` tells what can be changed)"
                )));
            }
            Some(Change::Live(_)) => is = is.with(key, value).map_err(invalid)?,
        }
    }
    is.check().map_err(invalid)?;
    Ok(is)
}

fn is_of_shards(key: &str) -> bool {
    key.starts_with("limits.") || key.starts_with("local_clients.")
}

/// Makes every shard go by the settings. One that has stopped already is named; the others have them.
async fn tell_shards<I: Io, P: Peers>(shard: &Rc<Shard<I, P>>, is: &NodeConfig) -> Result<(), WireError> {
    let mut missing = Vec::new();
    for number in 0..shard.facts().shards {
        let tuning = Tuning {
            limits: is.limits,
            local_clients: is.local_clients.clone(),
        };
        if let Err(error) = shard.ask(number, ShardCall::Tune(Box::new(tuning))).await {
            missing.push(format!("shard {number} ({error})"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the change holds in all shards but {}: set it again",
        missing.join(", ")
    );
    Err(WireError::new(ErrorCode::Internal, message))
}

/// Lets other users come to the Unix sockets, or nobody.
fn open_sockets(facts: &NodeFacts, is: &NodeConfig) -> Result<(), WireError> {
    let is_open = is.local_clients.is_open_to_others();
    for path in facts.sockets() {
        std::fs::set_permissions(path, socket_permissions(is_open)).map_err(|error| {
            let message = format!(
                "the list holds, but the mode of the socket {} could not be changed: {error}",
                path.display()
            );
            WireError::new(ErrorCode::Internal, message)
        })?;
    }
    Ok(())
}

fn unknown(config: &NodeConfig, key: &str) -> String {
    let settings = config.settings();
    let best = nearest(key, settings.keys().map(String::as_str));
    let hint = best.map(|known| format!("; did you mean \"{known}\"?"));
    format!("there is no setting \"{key}\"{}", hint.unwrap_or_default())
}
