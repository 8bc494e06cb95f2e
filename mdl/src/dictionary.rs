//! What `InnoDB`'s dictionary says of tables.

use std::collections::HashMap;

use innodb::SpaceId;

use crate::session::{Session, SessionError, string_literal};

/// The tablespaces of those tables of `names` that are in the dictionary. Names are those of files,
/// `database/table`, with the partition if there is one.
///
/// # Errors
///
/// [`SessionError`], for one if the account lacks `PROCESS`.
pub fn space_ids(
    session: &mut Session,
    names: &[String],
) -> Result<HashMap<String, SpaceId>, SessionError> {
    let literals: Vec<String> = names.iter().map(|name| string_literal(name)).collect();
    let sql = format!(
        "SELECT name, space FROM information_schema.innodb_sys_tables WHERE name IN ({})",
        literals.join(", ")
    );
    let rows = session.query(&sql)?;
    let id = |text: &str| text.parse().ok().map(SpaceId);
    Ok(rows.iter().filter_map(|row| Some((row.at(0)?.to_owned(), id(row.at(1)?)?))).collect())
}
