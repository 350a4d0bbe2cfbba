//! The checks that every backend passes, on the CPU.

use mseq_cpu::CpuBackend;

mseq_testkit::backend_suite!(|| CpuBackend::new(2).ok());
