/// The keys under `mamba_seq.` that name a job: each of them changes rows or columns. Whoever
/// compares jobs adds what only matters to it, such as the shard.
pub const JOB_KEYS: [&str; 18] = [
    "version",
    "model_sha256",
    "modality",
    "pool",
    "window",
    "stride",
    "layer",
    "context",
    "overlap",
    "strand",
    "combine_strands",
    "regions_sha256",
    "dtype",
    "on_bad_record",
    "keep",
    "channel",
    "normalize",
    "sample_rate",
];
