//! Backend on rayon and portable SIMD.
