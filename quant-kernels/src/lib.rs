//! Quantized block formats and matrix kernels.

#[cfg(target_endian = "big")]
compile_error!("weights are read in place, and model files are little-endian");

mod activations;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod cpu;
mod error;
mod float;
mod isa;
mod kv;
mod lanes;
mod math;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod panel;
mod pool;
mod product;
mod quant_type;
mod quantize;
mod scalar;

pub use activations::{Activations, Forms};
pub use attention::{AttentionInput, AttentionScratch};
pub use blocks::dequantize_row;
pub use cpu::{Cpu, Team};
pub use error::KernelError;
pub use isa::Isa;
pub use kv::{KV_BLOCK, KvBlock, KvShape, KvType};
pub use matrix::{MatMut, MatRef};
pub use product::Product;
pub use quant_type::{ActivationForm, QuantType};
pub use quantize::quantize_row;
