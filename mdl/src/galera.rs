//! Where a node of Galera stands in the history of its cluster.

use crate::session::{Rows, SessionError};

const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN \
                      ('wsrep_local_state_uuid', 'wsrep_last_committed')";
const DOMAIN: &str = "SHOW GLOBAL VARIABLES LIKE 'wsrep_gtid_domain_id'";

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaleraPosition {
    /// Of the cluster's history.
    pub uuid: String,
    /// Number of the last transaction committed.
    pub seqno: i64,
    /// `wsrep_gtid_domain_id`
    pub domain: u32,
}

impl GaleraPosition {
    /// Reads it through `query`. `None`: the server is no node.
    pub(crate) fn read(
        mut query: impl FnMut(&str) -> Result<Rows, SessionError>,
    ) -> Result<Option<Self>, SessionError> {
        let status = query(STATUS)?.into_map();
        let uuid = status.get("wsrep_local_state_uuid").filter(|uuid| !uuid.is_empty());
        let seqno = status.get("wsrep_last_committed").and_then(|text| text.parse().ok());
        let (Some(uuid), Some(seqno)) = (uuid, seqno) else { return Ok(None) };
        let domain = query(DOMAIN)?;
        let domain = domain.first().and_then(|row| row.at(1)?.parse().ok()).unwrap_or(0);
        Ok(Some(Self { uuid: uuid.clone(), seqno, domain }))
    }
}
