//! The change buffer of servers before 11.0: changes of secondary indexes that are not in their
//! pages yet. A tree of its own in the system tablespace, whose records are in the older form.
//!
//! ```text
//! page 0:4   root; after an upgrade to 11.0 no index page
//! record     space u32, marker, page u32, ...
//! ```
//!
//! Source: `ibuf0ibuf.cc` of 10.11.

use std::collections::HashSet;

use crate::bytes::be32;
use crate::index_page::{IndexPage, TreeError, visit_leaves};
use crate::lsn::{PageId, SpaceId};

const ROOT: PageId = PageId { space: SpaceId::SYSTEM, page_no: crate::PageNo(4) };

/// The tablespaces with changes that are not in their pages. `read` gives a page in its plain form.
///
/// # Errors
///
/// Those of `read`; a tree that is none.
pub fn spaces<E: From<TreeError>>(
    read: &mut dyn FnMut(PageId) -> Result<Vec<u8>, E>,
) -> Result<HashSet<u32>, E> {
    let mut found = HashSet::new();
    let root = read(ROOT)?;
    if IndexPage::new(&root).is_none_or(|page| page.is_newer()) {
        return Ok(found);
    }
    visit_leaves(ROOT, read, &mut |page| {
        found.extend(page.records().filter_map(|record| be32(record.field(0)?, 0)));
        Ok(())
    })?;
    Ok(found)
}
