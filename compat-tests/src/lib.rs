//! Tests against real servers and the real mariadb-backup.
