//! Who may use whom. Data flows downwards: a row names only rows above it.

/// One crate of the workspace.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Crates of the workspace that it may depend on, also in its build script.
    pub(super) may_use: &'static [&'static str],
    /// Why these and no others.
    pub(super) why: &'static str,
}

/// Crates from outside that only some crates may know.
pub(super) struct Outside {
    /// The package of this name, and all whose name goes on with `-` or `_`.
    pub(super) family: &'static str,
    pub(super) used_by: &'static [&'static str],
    /// These may use it in tests, examples and benches only.
    pub(super) tests_of: &'static [&'static str],
    pub(super) why: &'static str,
}

/// Tests of any crate may use these beside what their row names.
pub(super) const IN_TESTS: &[&str] =
    &["mseq-core", "mseq-backend", "mseq-cpu", "mseq-model", "mseq-data", "mseq-testkit"];

/// Whole-program tests look at every stage.
pub(super) const TESTS_USE_ANYTHING: &[&str] = &["mamba-seq"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "mseq-core",
        may_use: &[],
        why: "shared nouns without I/O: everyone uses it, so it uses no one",
    },
    Row {
        name: "mseq-data",
        may_use: &[],
        why: "bytes of the built-in models: who reads them knows the format, not this crate",
    },
    Row {
        name: "mseq-kernels",
        may_use: &[],
        why: "CUDA text and machine code as data: who launches it knows the device, not this crate",
    },
    Row {
        name: "mseq-source",
        may_use: &["mseq-core"],
        why: "files to token ids; it must not know what a model does with them",
    },
    Row {
        name: "mseq-sink",
        may_use: &["mseq-core"],
        why: "rows to files; it must not know where rows come from",
    },
    Row {
        name: "mseq-backend",
        may_use: &["mseq-core"],
        why: "what a device must be able to do, said before any device is known",
    },
    Row {
        name: "mseq-cpu",
        may_use: &["mseq-core", "mseq-backend"],
        why: "ops on slices; models are built on it through the trait alone",
    },
    Row {
        name: "mseq-cuda",
        may_use: &["mseq-core", "mseq-backend", "mseq-kernels"],
        why: "launches what mseq-kernels holds; as for mseq-cpu, models are built on it through the trait alone",
    },
    Row {
        name: "mseq-testkit",
        may_use: &["mseq-core", "mseq-backend"],
        why: "what every backend must pass, said without knowing one; tests and `doctor --verify` run it",
    },
    Row {
        name: "mseq-model",
        may_use: &["mseq-core", "mseq-backend"],
        why: "generic over the backend: naming one would tie every architecture to it",
    },
    Row {
        name: "mseq-engine",
        may_use: &["mseq-core", "mseq-backend", "mseq-model", "mseq-cpu", "mseq-cuda"],
        why: "the one place where a model meets a device; it touches no file",
    },
    Row {
        name: "mseq-head",
        may_use: &["mseq-core", "mseq-model"],
        why: "tables of embeddings to a head; it runs no model",
    },
    Row {
        name: "mseq-pipeline",
        may_use: &["mseq-core", "mseq-source", "mseq-model", "mseq-engine", "mseq-sink"],
        why: "joins the stages; devices reach it only behind the engine's Runner",
    },
    Row {
        name: "mseq-cli",
        may_use: &[
            "mseq-core",
            "mseq-data",
            "mseq-source",
            "mseq-sink",
            "mseq-backend",
            "mseq-cpu",
            "mseq-cuda",
            "mseq-testkit",
            "mseq-model",
            "mseq-engine",
            "mseq-head",
            "mseq-pipeline",
        ],
        why: "commands configure the pipeline and below; doctor and models look at each part",
    },
    Row {
        name: "mamba-seq",
        may_use: &["mseq-cli"],
        why: "the binary: ten lines that call the command line",
    },
    Row {
        name: "xtask",
        may_use: &[
            "mseq-core",
            "mseq-data",
            "mseq-kernels",
            "mseq-source",
            "mseq-sink",
            "mseq-backend",
            "mseq-cpu",
            "mseq-cuda",
            "mseq-testkit",
            "mseq-model",
            "mseq-engine",
            "mseq-pipeline",
            "mseq-cli",
        ],
        why: "a tool beside the program, used by none; fuzz calls the stages, the rest needs none of them",
    },
];

pub(super) const OUTSIDE: &[Outside] = &[
    Outside {
        family: "tokio",
        used_by: &["mseq-pipeline", "mseq-cli"],
        tests_of: &[],
        why: "sources, sinks and kernels are plain blocking code; the pipeline puts them on threads",
    },
    Outside {
        family: "arrow",
        used_by: &["mseq-sink", "mseq-source", "mseq-head", "mseq-pipeline", "xtask"],
        tests_of: &["mseq-cli", "mamba-seq"],
        why: "tables are a matter of the doors, not of the engine (and xtask makes some to fuzz them)",
    },
    Outside {
        family: "parquet",
        used_by: &["mseq-sink", "mseq-source", "mseq-head", "mseq-pipeline", "xtask"],
        tests_of: &["mseq-cli", "mamba-seq"],
        why: "as for arrow",
    },
];
