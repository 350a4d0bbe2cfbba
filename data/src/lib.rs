//! Built-in models as data: bytes, cards, digests.
