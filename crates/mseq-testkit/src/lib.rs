//! Tiny models, generators and tolerances for tests.
