//! Joins source, engine and sink with queues bounded in bytes.
