//! Quantized block formats and matrix kernels.

mod blocks;
mod error;
mod quant_type;

pub use blocks::dequantize_row;
pub use error::KernelError;
pub use quant_type::{ActivationForm, QuantType};
