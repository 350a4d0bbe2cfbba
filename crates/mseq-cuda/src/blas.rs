//! Matrix products by cuBLASLt, where it is installed.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t,
    cudaDataType_t,
};
use mseq_backend::Result;
use mseq_core::DType;

use crate::device::{Device, Memory};
use crate::libs::Library;
use crate::probe;

/// What NVIDIA recommends for Hopper; fewer splits of the inner dimension fit into less.
const WORKSPACE: usize = 32 << 20;

/// Plans kept: the last step of each record has its own number of rows.
const PLANS: usize = 256;

/// Rows for which the algorithm of an f32 product is chosen, whatever rows it then has: one step of a long
/// sequence.
const F32_ROWS: usize = 1 << 18;

/// A product `y = x W^T` or `y += x W^T`, but for the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) in_features: usize,
    pub(crate) out_features: usize,
    pub(crate) x_stride: usize,
    pub(crate) y_stride: usize,
    /// Type of x and W.
    pub(crate) dtype: DType,
    /// Type of y.
    pub(crate) out: DType,
    pub(crate) accumulate: bool,
    /// Whether a row must not depend on how many others there are; else the fastest way for these rows will do.
    pub(crate) any_rows: bool,
}

/// Addresses of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands {
    pub(crate) x: u64,
    pub(crate) weight: u64,
    pub(crate) y: u64,
}

/// cuBLASLt on one device.
pub(crate) struct Blas {
    device: Arc<Device>,
    handle: sys::cublasLtHandle_t,
    workspace: Memory,
    /// By shape and alignment of x, W and y; `None` where cuBLASLt has nothing to offer.
    plans: HashMap<(Shape, [u32; 3]), Option<Plan>>,
    algorithms: Algorithms,
}

/// Of f32 products, by shape without rows and alignment. A row must not depend on how many others are in its
/// step, so a product has one algorithm for any number of rows, and the inner dimension is never split.
type Algorithms = HashMap<(Shape, [u32; 3]), Option<sys::cublasLtMatmulAlgo_t>>;

#[expect(unsafe_code, reason = "handles of a C library")]
// SAFETY: a cuBLASLt handle and its descriptors belong to no thread; `&mut self` keeps users apart.
unsafe impl Send for Blas {}

impl Blas {
    /// `None` where the library is missing or does not start.
    pub(crate) fn open(device: &Arc<Device>) -> Result<Option<Self>> {
        if Library::CublasLt.load().is_none() {
            return Ok(None);
        }
        device.bind()?;
        match probe::quietly(result::create_handle) {
            Ok(Ok(handle)) => Ok(Some(Self {
                device: Arc::clone(device),
                handle,
                workspace: device.zeros(WORKSPACE)?,
                plans: HashMap::new(),
                algorithms: Algorithms::new(),
            })),
            _ => Ok(None),
        }
    }

    /// Launches the product; `false` when cuBLASLt has no way to do it.
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    pub(crate) fn matmul(&mut self, shape: Shape, at: Operands) -> Result<bool> {
        const OP: &str = "linear_fwd";
        self.device.bind()?;
        let alignment = [at.x, at.weight, at.y].map(|p| 1u32 << p.trailing_zeros().min(8));
        if self.plans.len() >= PLANS {
            self.plans.clear();
        }
        let (handle, workspace) = (self.handle, &self.workspace);
        let algorithms = &mut self.algorithms;
        let plan = self.plans.entry((shape, alignment)).or_insert_with(|| {
            probe::quietly(|| Plan::new(handle, shape, alignment, algorithms)).ok().and_then(Result::ok)
        });
        let Some(plan) = plan else { return Ok(false) };
        self.device.count_launch(OP)?;
        let (alpha, beta) = (1f32, if shape.accumulate { 1f32 } else { 0f32 });
        // SAFETY: the descriptors live in the plan; the op checked that the buffers hold what the shape
        // says, and the workspace has the size that the plan was made for. Scalars are read at the call.
        let done = unsafe {
            result::matmul(
                handle,
                plan.desc,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                at.weight as *const c_void,
                plan.weight,
                at.x as *const c_void,
                plan.x,
                at.y as *const c_void,
                plan.y,
                at.y as *mut c_void,
                plan.y,
                &raw const plan.algorithm,
                workspace.ptr() as *mut c_void,
                WORKSPACE,
                self.device.raw_stream().cast(),
            )
        };
        done.map_err(|e| self.device.failure(format!("{OP}: cuBLASLt: {e}")))?;
        self.device.after_op(OP)?;
        Ok(true)
    }
}

impl Drop for Blas {
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn drop(&mut self) {
        let _ = self.device.synchronize("cuBLASLt");
        self.plans.clear();
        // SAFETY: made by `create_handle`, destroyed once, and nothing runs that uses it.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// How cuBLASLt does one shape. Chosen once, so that equal calls give equal bits.
struct Plan {
    desc: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(
        handle: sys::cublasLtHandle_t,
        shape: Shape,
        alignment: [u32; 3],
        algorithms: &mut Algorithms,
    ) -> Result<Self, CublasError> {
        use sys::cublasLtReductionScheme_t as R;
        let mut plan = Self::describe(shape)?;
        if shape.dtype == DType::F32 && shape.any_rows {
            let fixed = algorithms.entry((Shape { rows: 0, ..shape }, alignment)).or_insert_with(|| {
                let typical = Self::describe(Shape { rows: F32_ROWS, ..shape }).ok()?;
                typical.choose(handle, alignment, R::CUBLASLT_REDUCTION_SCHEME_NONE).ok()
            });
            if let Some(algorithm) = fixed
                && plan.takes(handle, algorithm)
            {
                plan.algorithm = *algorithm;
                return Ok(plan);
            }
        }
        // A split inner dimension is summed in f32 and in a fixed order; the other ways round to the
        // output's type, or add in whatever order blocks finish.
        plan.algorithm = plan.choose(handle, alignment, R::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)?;
        Ok(plan)
    }

    /// cuBLASLt thinks in columns, so a row-major y (rows, out) is its (out, rows): W transposed times x.
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn describe(s: Shape) -> Result<Self, CublasError> {
        let (read, written) = (data_type(s.dtype), data_type(s.out));
        let (rows, k, n) = (s.rows as u64, s.in_features as u64, s.out_features as u64);
        // Plain f32 sums: TF32 has its own compute type.
        let f32_sums = cublasComputeType_t::CUBLAS_COMPUTE_32F;
        // Null until made, so that what was made is destroyed when a later step fails.
        let mut plan = Self {
            desc: std::ptr::null_mut(),
            weight: std::ptr::null_mut(),
            x: std::ptr::null_mut(),
            y: std::ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        plan.desc = result::create_matmul_desc(f32_sums, cudaDataType_t::CUDA_R_32F)?;
        plan.weight = result::create_matrix_layout(read, k, n, s.in_features as i64)?;
        plan.x = result::create_matrix_layout(read, k, rows, s.x_stride as i64)?;
        plan.y = result::create_matrix_layout(written, n, rows, s.y_stride as i64)?;
        // CUBLAS_OP_T.
        let transpose = 1i32;
        // SAFETY: the descriptor lives, and the attribute is an operation.
        unsafe {
            result::set_matmul_desc_attribute(
                plan.desc,
                cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                (&raw const transpose).cast(),
                size_of_val(&transpose),
            )?;
        }
        Ok(plan)
    }

    /// What cuBLASLt takes to be the fastest way.
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
        alignment: [u32; 3],
        schemes: sys::cublasLtReductionScheme_t,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let preference = Preference(result::create_matmul_pref()?);
        use cublasLtMatmulPreferenceAttributes_t as P;
        preference.set(P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(WORKSPACE as u64))?;
        preference.set(P::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &(schemes as u32))?;
        preference.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment[1])?;
        preference.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment[0])?;
        preference.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment[2])?;
        preference.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment[2])?;
        // SAFETY: all five descriptors live.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle,
                self.desc,
                self.weight,
                self.x,
                self.y,
                self.y,
                preference.0,
            )
        }?;
        Ok(found.algo)
    }

    /// Whether an algorithm does these rows, in the workspace that there is.
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn takes(&self, handle: sys::cublasLtHandle_t, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
        let mut found = sys::cublasLtMatmulHeuristicResult_t {
            algo: *algorithm,
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        // SAFETY: the descriptors live, `algorithm` came from cuBLASLt, and it writes one result.
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                handle,
                self.desc,
                self.weight,
                self.x,
                self.y,
                self.y,
                std::ptr::from_ref(algorithm),
                &raw mut found,
            )
        };
        status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && found.workspaceSize <= WORKSPACE
    }
}

impl Drop for Plan {
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn drop(&mut self) {
        // SAFETY: each was made by its `create` and is destroyed once; a launch keeps none of them.
        unsafe {
            for layout in [self.weight, self.x, self.y] {
                if !layout.is_null() {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
            if !self.desc.is_null() {
                let _ = result::destroy_matmul_desc(self.desc);
            }
        }
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn set<T>(&self, which: cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<(), CublasError> {
        // SAFETY: the descriptor lives; each attribute above is given in its documented type.
        unsafe {
            result::set_matmul_pref_attribute(self.0, which, std::ptr::from_ref(value).cast(), size_of::<T>())
        }
    }
}

impl Drop for Preference {
    #[expect(unsafe_code, reason = "cuBLASLt is a C library")]
    fn drop(&mut self) {
        // SAFETY: made by `create_matmul_pref`, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn data_type(dtype: DType) -> cudaDataType_t {
    match dtype {
        DType::F32 => cudaDataType_t::CUDA_R_32F,
        DType::Bf16 => cudaDataType_t::CUDA_R_16BF,
        DType::F16 => cudaDataType_t::CUDA_R_16F,
    }
}
