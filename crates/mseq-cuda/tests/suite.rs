//! The checks that every backend passes, on the first CUDA device where there is one; with
//! `MSEQ_REQUIRE_CUDA=1` a missing one is an error.

use mseq_core::DType;
use mseq_cuda::{CudaBackend, CudaConfig};

/// `None` where no device can be used.
fn open(dtype: DType) -> Option<CudaBackend> {
    let config = CudaConfig { index: 0, dtype, d_inner: 64, chunk: 4096, kernels_from: None };
    match CudaBackend::new(&config) {
        Ok(backend) => Some(backend),
        Err(why) => {
            assert!(std::env::var("MSEQ_REQUIRE_CUDA").is_err(), "{why}");
            mseq_testkit::aloud(&format!("skipped, no CUDA device: {why}"));
            None
        }
    }
}

mod f32 {
    mseq_testkit::backend_suite!(|| super::open(super::DType::F32));
}

mod f16 {
    mseq_testkit::backend_suite!(|| super::open(super::DType::F16));
}

mod bf16 {
    mseq_testkit::backend_suite!(|| super::open(super::DType::Bf16));
}
