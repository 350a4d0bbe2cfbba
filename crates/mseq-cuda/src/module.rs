//! The kernels on a device: machine code picked by compute capability, launches checked by manifest.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUresult};
use cudarc::driver::{CudaFunction, DriverError};
use cudarc::nvrtc::Ptx;
use mseq_backend::{Error, Result};
use mseq_core::DType;
use mseq_kernels::launch::Launch;
use mseq_kernels::{BinaryKind, Elem, Entry, MODULES, Module, ParamType, Special, Storage};

use crate::device::Device;
use crate::nvrtc;
use crate::probe::{self, Unavailable};

/// An entry point, loaded.
pub(crate) struct Function {
    function: CudaFunction,
    pub(crate) entry: &'static Entry,
}

impl Function {
    pub(crate) fn raw(&self) -> CUfunction {
        self.function.cu_function()
    }
}

/// Where kernels came from, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSource {
    /// Built in; the target that it was compiled for, such as `sm_90`.
    BuiltIn(String),
    /// All or some compiled on this machine.
    Compiled,
}

impl fmt::Display for KernelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(target) => write!(f, "built in ({target})"),
            Self::Compiled => f.write_str("compiled by NVRTC"),
        }
    }
}

/// Sizes that a launch has, of those that kernels can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct For {
    pub(crate) d_state: Option<usize>,
    pub(crate) d_conv: Option<usize>,
}

impl For {
    /// Whether something made for these takes `other`.
    fn takes(self, other: Self) -> bool {
        let same = |mine: Option<usize>, other| mine.is_none() || mine == other;
        same(self.d_state, other.d_state) && same(self.d_conv, other.d_conv)
    }
}

/// All kernels for one storage type.
pub(crate) struct Kernels {
    functions: HashMap<&'static str, Function>,
    /// Made for some sizes alone, beside those for any.
    special: HashMap<&'static str, (For, Function)>,
    storage: Storage,
    pub(crate) source: KernelSource,
}

/// The storage type that kernels call so.
pub(crate) fn storage(dtype: DType) -> Storage {
    match dtype {
        DType::F32 => Storage::F32,
        DType::Bf16 => Storage::Bf16,
        DType::F16 => Storage::F16,
    }
}

/// One argument of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// An address, and what lies there.
    Ptr(Elem, u64),
    /// An address of activations, with their type.
    Buffer(DType, u64),
    /// No address.
    Null,
    I32(usize),
    I64(usize),
    F32(f32),
}

impl Kernels {
    /// Loads every kernel for a storage type: from source where the folder `from` has it, else the
    /// built-in machine code, else, where none runs on this device, from the built-in source.
    pub(crate) fn load(device: &Device, dtype: DType, from: Option<&Path>) -> Result<Self, Unavailable> {
        let mut kernels = Self {
            functions: HashMap::new(),
            special: HashMap::new(),
            storage: storage(dtype),
            source: KernelSource::BuiltIn(String::new()),
        };
        let mut compiled = false;
        for module in MODULES {
            let from = from.filter(|folder| folder.join(format!("{}.cu", module.name)).exists());
            let built_in = match from {
                Some(_) => Err(String::new()),
                None => kernels.load_built_in(device, module),
            };
            match built_in {
                Ok(source) => kernels.source = source,
                // Wanted from source, or a card or driver that the built-in code does not suit.
                Err(why) => {
                    kernels.load_compiled(device, module, from).map_err(|also| Unavailable::NoKernels {
                        device: device.info.label(),
                        message: if why.is_empty() {
                            also
                        } else {
                            format!("{why}; compiling them here: {also}")
                        },
                    })?;
                    compiled = true;
                }
            }
        }
        if compiled {
            kernels.source = KernelSource::Compiled;
        }
        Ok(kernels)
    }

    /// Machine code, and PTX where the driver does not take that.
    fn load_built_in(&mut self, device: &Device, module: &'static Module) -> Result<KernelSource, String> {
        let (name, capability) = (module.name, device.info.capability);
        let mut refused = None;
        for find in [mseq_kernels::find, mseq_kernels::find_ptx] {
            let binary = match find(name, self.storage, capability) {
                Ok(binary) => binary,
                // No PTX either: what the driver said of the machine code counts.
                Err(e) => return Err(refused.unwrap_or_else(|| e.to_string())),
            };
            if binary.kind == BinaryKind::Cubin && env::var("MSEQ_NO_CUBIN").is_ok_and(|v| v == "1") {
                continue;
            }
            let target = binary.target.to_string();
            match self.add(device, module, binary.bytes) {
                Ok(()) => return Ok(KernelSource::BuiltIn(target)),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        Err(refused.unwrap_or_default())
    }

    fn load_compiled(
        &mut self,
        device: &Device,
        module: &'static Module,
        from: Option<&Path>,
    ) -> Result<(), String> {
        let plain = Special { module, d_state: None, d_conv: None };
        let made = nvrtc::compile(&plain, self.storage, device.info.capability, from);
        self.add(device, module, made.map_err(|e| e.to_string())?.cubin)
    }

    /// Compiles sources for one shape, or takes them from the cache, and loads them beside the built-in code.
    /// Either all are there afterwards or none.
    pub(crate) fn specialize(
        &mut self,
        device: &Device,
        specials: &[Special],
        from: Option<&Path>,
    ) -> Result<Vec<(String, bool)>, String> {
        let (mut loaded, mut names) = (HashMap::new(), Vec::new());
        for special in specials {
            let made = nvrtc::compile(special, self.storage, device.info.capability, from);
            let made = match made {
                Ok(made) => made,
                Err(nvrtc::Error::OtherSource { .. }) => continue,
                Err(e) => return Err(e.to_string()),
            };
            let of = For { d_state: special.d_state, d_conv: special.d_conv };
            let refused = |e| format!("the driver refuses {}: {}", special.name(), probe::message(e));
            for (name, function) in load(device, special.module, made.cubin).map_err(refused)? {
                loaded.insert(name, (of, function));
            }
            names.push((special.name(), made.cached));
        }
        self.special = loaded;
        Ok(names)
    }

    fn add(&mut self, device: &Device, module: &'static Module, image: Vec<u8>) -> Result<(), String> {
        let named = |e: DriverError| match is_too_new(e) {
            true => format!("{TOO_NEW} ({}: {})", module.name, probe::message(e)),
            false => format!("{}: {}", module.name, probe::message(e)),
        };
        self.functions.extend(load(device, module, image).map_err(named)?);
        Ok(())
    }

    /// Whether this kernel was made for these sizes.
    pub(crate) fn made_for(&self, name: &str, sizes: For) -> bool {
        self.special.get(name).is_some_and(|(of, _)| of.takes(sizes))
    }

    /// Launches the form of an entry that was made for these sizes, or the one for any.
    pub(crate) fn launch_for(
        &self,
        device: &Device,
        name: &'static str,
        sizes: For,
        launch: Launch,
        args: &[Arg],
    ) -> Result<()> {
        match self.special.get(name) {
            Some((of, function)) if of.takes(sizes) => self.launch_as(device, function, launch, args),
            _ => self.launch(device, name, launch, args),
        }
    }

    /// Launches an entry after comparing the arguments with its parameters.
    pub(crate) fn launch(
        &self,
        device: &Device,
        name: &'static str,
        launch: Launch,
        args: &[Arg],
    ) -> Result<()> {
        match self.functions.get(name) {
            Some(function) => self.launch_as(device, function, launch, args),
            None => Err(device.failure(format!("there is no kernel {name}"))),
        }
    }

    #[expect(unsafe_code, reason = "a kernel does what its arguments say")]
    fn launch_as(&self, device: &Device, function: &Function, launch: Launch, args: &[Arg]) -> Result<()> {
        let mut params = pack(function.entry, self.storage, args)?;
        // SAFETY: `pack` compared kinds and element types with the manifest, which a test compares with
        // the compiled code. Every op checks that buffers hold what their shapes need before it comes
        // here, and tables name only rows and slots inside those shapes. What was made for some sizes is
        // taken for these alone.
        unsafe { device.launch(function, launch, &mut params) }
    }
}

/// Loads a module's machine code.
fn load(
    device: &Device,
    module: &'static Module,
    image: Vec<u8>,
) -> Result<Vec<(&'static str, Function)>, DriverError> {
    let loaded = device.context().load_module(Ptx::from_binary(image))?;
    let function = |entry: &'static Entry| {
        let function = Arc::clone(&loaded).load_function(entry.name)?;
        Ok((entry.name, Function { function, entry }))
    };
    module.entries.iter().map(function).collect()
}

/// What a driver's refusal of our kernels means, and what mends it.
const TOO_NEW: &str = "the NVIDIA driver does not take the built-in kernels, which CUDA 12.9 made: update the driver \
                       (575 and later take them), or use --device cpu";

/// Whether the driver does not know what it was given: made for other cards, or by a newer compiler.
fn is_too_new(DriverError(code): DriverError) -> bool {
    use CUresult as C;
    let codes = [
        C::CUDA_ERROR_INVALID_IMAGE,
        C::CUDA_ERROR_NO_BINARY_FOR_GPU,
        C::CUDA_ERROR_INVALID_PTX,
        C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        C::CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
        C::CUDA_ERROR_INVALID_SOURCE,
    ];
    codes.contains(&code)
}

/// Arguments as the words of a parameter list.
fn pack(entry: &'static Entry, storage: Storage, args: &[Arg]) -> Result<Vec<u64>> {
    let wrong = |what, wanted| Error::OutOfRange { op: entry.name, what, found: args.len(), wanted };
    if args.len() != entry.params.len() {
        return Err(wrong("the number of arguments", "which is not the kernel's"));
    }
    let mut words = Vec::with_capacity(args.len());
    for (arg, param) in args.iter().zip(entry.params) {
        words.push(match (*arg, param.ty) {
            (Arg::Ptr(elem, at), ParamType::In(of) | ParamType::MaybeIn(of) | ParamType::Out(of))
                if elem == of =>
            {
                at
            }
            (Arg::Buffer(dtype, at), ParamType::In(of) | ParamType::MaybeIn(of) | ParamType::Out(of)) => {
                let (fits, wanted) = match of {
                    Elem::F32 => (dtype == DType::F32, "and must be f32"),
                    Elem::Stored => (self::storage(dtype) == storage, "and must be the backend's type"),
                    _ => (false, "and must be a table"),
                };
                if !fits {
                    return Err(Error::Type { op: entry.name, what: param.name, found: dtype, wanted });
                }
                at
            }
            (Arg::Null, ParamType::MaybeIn(_)) => 0,
            (Arg::I32(n), ParamType::I32) => match i32::try_from(n) {
                // Little-endian, so the value is the low half of its word.
                Ok(n) => u64::from(n as u32),
                Err(_) => {
                    let wanted = "which is more than a kernel can count";
                    return Err(Error::OutOfRange { op: entry.name, what: param.name, found: n, wanted });
                }
            },
            (Arg::I64(n), ParamType::I64) => n as u64,
            (Arg::F32(x), ParamType::F32) => u64::from(x.to_bits()),
            _ => return Err(wrong(param.name, "arguments, and this one is of another kind")),
        });
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> &'static Entry {
        MODULES.iter().find_map(|module| module.entry(name)).unwrap()
    }

    #[test]
    fn arguments_of_another_kind_never_reach_a_kernel() {
        let norm = entry("rms_norm_fwd");
        let args = |x, out| {
            [
                Arg::Buffer(x, 64),
                Arg::Buffer(DType::F32, 128),
                Arg::Buffer(out, 192),
                Arg::I64(5),
                Arg::I32(7),
                Arg::F32(1.0),
            ]
        };
        let words = pack(norm, Storage::Bf16, &args(DType::F32, DType::Bf16)).unwrap();
        assert_eq!(words, [64, 128, 192, 5, 7, u64::from(1f32.to_bits())]);
        assert!(pack(norm, Storage::F32, &args(DType::F32, DType::F32)).is_ok());
        for (x, out) in [(DType::Bf16, DType::Bf16), (DType::F32, DType::F32), (DType::F32, DType::F16)] {
            assert!(matches!(pack(norm, Storage::Bf16, &args(x, out)), Err(Error::Type { .. })));
        }
        let mut swapped = args(DType::F32, DType::Bf16);
        swapped.swap(3, 4);
        assert!(pack(norm, Storage::Bf16, &swapped).is_err());
        assert!(pack(norm, Storage::Bf16, &swapped[1..]).is_err());
        let mut long = args(DType::F32, DType::Bf16);
        long[4] = Arg::I32(1 << 31);
        assert!(pack(norm, Storage::Bf16, &long).is_err());
    }
}
