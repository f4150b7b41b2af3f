//! quant-kernels
