//! The checks that every backend passes, on the first CUDA device where there is one; with
//! `MSEQ_REQUIRE_CUDA=1` a missing one is an error.

use mseq_core::DType;
use mseq_cuda::{CudaBackend, CudaConfig, MixerSizes};

/// `None` where no device can be used.
fn open(dtype: DType) -> Option<CudaBackend> {
    open_for(dtype, None)
}

fn open_for(dtype: DType, sizes: Option<MixerSizes>) -> Option<CudaBackend> {
    let config = CudaConfig { index: 0, dtype, d_inner: 64, chunk: 4096, sizes, kernels_from: None };
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

/// The same with kernels made for 24 states and 3 taps, and for 40 and 4; where NVRTC is missing, with those for any
/// shape once more.
mod special {
    use super::*;

    const ODD: MixerSizes = MixerSizes { d_inner: 128, d_state: 24, d_conv: 3 };
    const MANY: MixerSizes = MixerSizes { d_inner: 128, d_state: 40, d_conv: 4 };

    mod f32_24 {
        mseq_testkit::backend_suite!(|| super::super::open_for(super::DType::F32, Some(super::ODD)));
    }

    mod bf16_24 {
        mseq_testkit::backend_suite!(|| super::super::open_for(super::DType::Bf16, Some(super::ODD)));
    }

    mod f32_40 {
        mseq_testkit::backend_suite!(|| super::super::open_for(super::DType::F32, Some(super::MANY)));
    }

    mod f16_40 {
        mseq_testkit::backend_suite!(|| super::super::open_for(super::DType::F16, Some(super::MANY)));
    }
}
