//! Files of the Aria storage engine: the control file, the transaction log, the tables.

#![forbid(unsafe_code)]
