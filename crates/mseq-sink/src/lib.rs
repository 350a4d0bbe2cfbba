//! Rows to Parquet and Arrow IPC, atomically.
