//! The Backend trait: one argument struct per op, with its shape checks.
