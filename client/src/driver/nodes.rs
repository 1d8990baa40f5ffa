//! Single nodes: their state, their settings, their end.

use std::collections::BTreeMap;

use mofka_net::Opcode;
use mofka_net::control::{
    ConfigGetResponse, ConfigSetRequest, ConfigSetResponse, EmptyRequest, NodeReport, NodeStatus,
    SettingChange, decode_any,
};

use super::{Driver, body};
use crate::error::DriverError;

impl Driver {
    /// The state of every node, by rank.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub fn status(&self) -> Result<Vec<NodeStatus>, DriverError> {
        (0..self.num_servers())
            .map(|rank| self.node_status(rank))
            .collect()
    }

    /// The state of one node. It is not looked for when it is lost.
    ///
    /// # Errors
    /// When there is no such rank, or it does not answer.
    pub fn node_status(&self, rank: usize) -> Result<NodeStatus, DriverError> {
        let connection = self.core.node(rank)?;
        let body = body("status", &EmptyRequest {})?;
        let answer = self.core.call(&connection, Opcode::Status, "status", body)?;
        decode_any("status answer", &answer).map_err(|error| DriverError::Answer {
            what: "status",
            error,
        })
    }

    /// What one node counted since it started, with what is wrong with it: the document of its status page. It is not looked for
    /// when it is lost. The node counts at most four times a second.
    ///
    /// # Errors
    /// When there is no such rank, or it does not answer.
    pub fn node_report(&self, rank: usize) -> Result<NodeReport, DriverError> {
        let connection = self.core.node(rank)?;
        let body = body("report", &EmptyRequest {})?;
        let answer = self.core.call(&connection, Opcode::Report, "report", body)?;
        decode_any("report answer", &answer).map_err(|error| DriverError::Answer {
            what: "report",
            error,
        })
    }

    /// The settings of one node, and the file that they came from.
    ///
    /// # Errors
    /// When there is no such rank, or it does not answer.
    pub fn node_config(&self, rank: usize) -> Result<ConfigGetResponse, DriverError> {
        let connection = self.core.node(rank)?;
        let body = body("config_get", &EmptyRequest {})?;
        let answer = self
            .core
            .call(&connection, Opcode::ConfigGet, "config_get", body)?;
        decode_any("config_get answer", &answer).map_err(|error| DriverError::Answer {
            what: "config_get",
            error,
        })
    }

    /// Changes settings of one node until it stops: all of these or, when one cannot be changed while it runs, none. What
    /// changed is told.
    ///
    /// # Errors
    /// When there is no such rank, it does not answer, or a setting cannot be changed.
    pub fn change_config(
        &self,
        rank: usize,
        set: BTreeMap<String, serde_json::Value>,
    ) -> Result<Vec<SettingChange>, DriverError> {
        let connection = self.core.node(rank)?;
        let body = body("config_set", &ConfigSetRequest { set })?;
        let answer = self
            .core
            .call(&connection, Opcode::ConfigSet, "config_set", body)?;
        let answer: Result<ConfigSetResponse, _> = decode_any("config_set answer", &answer);
        answer
            .map(|answer| answer.changed)
            .map_err(|error| DriverError::Answer {
                what: "config_set",
                error,
            })
    }

    /// Asks a node to finish what it accepted and to stop.
    ///
    /// # Errors
    /// When there is no such rank, or it does not answer.
    pub fn shutdown_node(&self, rank: usize) -> Result<(), DriverError> {
        let connection = self.core.node(rank)?;
        let body = body("shutdown", &EmptyRequest {})?;
        match self.core.call(&connection, Opcode::Shutdown, "shutdown", body) {
            // It may be quicker to stop than to answer.
            Ok(_) | Err(DriverError::Lost { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
