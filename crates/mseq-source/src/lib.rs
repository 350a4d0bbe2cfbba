//! Files to blocks of token ids, streaming.
