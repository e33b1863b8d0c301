//! Days that are over, as Parquet in the depot: what any tool for tables can read, long after the hub has cut it.
//!
//! `archive/records/class=…/day=…/<first>-<last>.parquet` and `archive/gaps/day=…/…`, hive-partitioned. A file is put where none
//! is, then noted in the database together with its digest in the audit log; only then may what it has be cut. [`table`] is what
//! a file looks like, [`run`] writes them, [`verify`] holds the chains of nodes against them, without the database.

pub mod run;
pub mod table;
pub mod verify;
