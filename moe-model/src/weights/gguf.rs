//! The tensors of GGUF files, as llama.cpp names and stacks them.

use gguf_format::GgufSet;

use super::{ExpertLayout, Found, TensorSource, quant_type};
use crate::{Config, names::layer_tensor};

impl<'a> TensorSource<'a> for GgufSet<'a> {
    fn name(&self, tensor: &str) -> String {
        tensor.to_owned()
    }

    fn layer_name(&self, layer: usize, tensor: &str) -> String {
        layer_tensor(layer, tensor)
    }

    fn expert_name(&self, layer: usize, tensor: &str, _: usize) -> String {
        layer_tensor(layer, tensor)
    }

    fn experts(&self, layer: usize, tensor: &str) -> ExpertLayout {
        ExpertLayout::Stacked {
            name: layer_tensor(layer, tensor),
            part: 0,
            n_parts: 1,
        }
    }

    fn find(&self, name: &str) -> Option<Found<'a>> {
        let tensor = self.find(name)?;
        let ty = tensor.info.ty();
        Some(Found {
            name: tensor.info.name(),
            ty: quant_type(ty).ok_or_else(|| ty.name().to_owned()),
            shape: tensor.info.ne().iter().rev().copied().collect(),
            data: tensor.data,
        })
    }

    fn names(&self) -> Vec<&'a str> {
        self.tensors().map(|tensor| tensor.info.name()).collect()
    }

    fn is_foreign(&self, name: &str, config: &Config) -> Option<&'static str> {
        if name.starts_with("rope_freqs") || name.starts_with("rope_factors") {
            Some("its rotary frequencies would be ignored")
        } else if name.ends_with(".bias") {
            Some("its bias would be ignored")
        } else if name.ends_with(".scale") || name.ends_with(".input_scale") {
            Some("its scale would be ignored")
        } else if layer_of(name).is_some_and(|layer| layer >= config.n_layer) {
            Some("its layer is beyond the block count")
        } else {
            None
        }
    }
}

/// Returns the layer that a tensor belongs to by its name.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}
