use std::fmt;

use sha2::{Digest, Sha256};

use crate::manifest::{Module, PRELUDE, Storage};

/// The compiler of the committed binaries. A 12.x driver takes neither cubins nor PTX of CUDA 13.
pub const NVRTC_VERSION: &str = "12.9";

/// What a source is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Machine code for one compute capability, times ten, which later minor ones run too.
    Sm(u32),
    /// PTX, which a driver compiles for later cards.
    Ptx(u32),
}

impl Target {
    /// All that are committed.
    pub const ALL: [Self; 8] = [
        Self::Sm(75),
        Self::Sm(80),
        Self::Sm(86),
        Self::Sm(89),
        Self::Sm(90),
        Self::Sm(100),
        Self::Sm(120),
        Self::Ptx(80),
    ];

    /// Whether this target has the storage type: bf16 came with 8.0.
    pub fn has(self, storage: Storage) -> bool {
        let (Self::Sm(capability) | Self::Ptx(capability)) = self;
        storage != Storage::Bf16 || capability >= 80
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sm(capability) => write!(f, "sm_{capability}"),
            Self::Ptx(capability) => write!(f, "compute_{capability}"),
        }
    }
}

impl Module {
    /// The whole text for a compiler: prelude, then source. Line numbers in messages are the file's own.
    pub fn source(&self) -> String {
        format!("#line 1 \"prelude.cuh\"\n{PRELUDE}\n#line 1 \"{}.cu\"\n{}", self.name, self.text)
    }

    /// The storage types that it is built for: all, or f32 alone where none is mentioned.
    pub fn storages(&self) -> &'static [Storage] {
        if self.stored { &Storage::ALL } else { &[Storage::F32] }
    }

    /// The storage type whose binary serves this one.
    pub fn built_as(&self, storage: Storage) -> Storage {
        if self.stored { storage } else { Storage::F32 }
    }
}

/// Arguments for NVRTC.
pub fn compile_options(storage: Storage, target: Target) -> Vec<String> {
    vec![
        format!("--gpu-architecture={target}"),
        "--std=c++17".to_owned(),
        format!("-D{}", storage.define()),
        // Denormals are not worth their instructions here: 2^-126 is far under every tolerance.
        "-ftz=true".to_owned(),
    ]
}

/// Names what a binary was made from: source, prelude, options, compiler.
pub fn digest(module: &Module, storage: Storage, target: Target) -> String {
    let mut hash = Sha256::new();
    hash.update(module.source());
    for option in compile_options(storage, target) {
        hash.update([0]);
        hash.update(option);
    }
    hash.update([0]);
    hash.update(NVRTC_VERSION);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
