//! Command line of mamba-seq.
