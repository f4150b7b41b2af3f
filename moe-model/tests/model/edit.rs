//! Takes a model file apart, so that a test can change one thing and put it together again.

use gguf_format::{GgmlType, Gguf, GgufWriter};
use moe_model::{Config, Model, ModelError, ModelFile};

/// A model file in parts.
pub(crate) struct Parts {
    pub(crate) header: GgufWriter,
    pub(crate) tensors: Vec<Part>,
}

pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) ne: Vec<u64>,
    pub(crate) ty: GgmlType,
    pub(crate) data: Vec<u8>,
}

impl Parts {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let gguf = Gguf::parse(bytes).unwrap();
        let mut header = GgufWriter::new();
        header.set_all(gguf.metadata()).unwrap();
        let part = |tensor: gguf_format::Tensor<'_>| Part {
            name: tensor.info.name().to_owned(),
            ne: tensor.info.ne().to_vec(),
            ty: tensor.info.ty(),
            data: tensor.data.to_vec(),
        };
        Self {
            header,
            tensors: gguf.tensors().map(part).collect(),
        }
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Part {
        self.tensors
            .iter_mut()
            .find(|part| part.name == name)
            .unwrap()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|part| part.name != name);
    }

    /// Adds a tensor of zeros.
    pub(crate) fn add(&mut self, name: &str, ne: &[u64], ty: GgmlType) {
        let n_elements: u64 = ne.iter().product();
        let n_bytes = n_elements / ty.block_len() * ty.block_bytes();
        let data = vec![0; usize::try_from(n_bytes).unwrap()];
        self.tensors.push(Part {
            name: name.to_owned(),
            ne: ne.to_vec(),
            ty,
            data,
        });
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = self.header.clone();
        for part in &self.tensors {
            writer.tensor(&part.name, &part.ne, part.ty).unwrap();
        }
        let data: Vec<&[u8]> = self
            .tensors
            .iter()
            .map(|part| part.data.as_slice())
            .collect();
        writer.to_bytes(&data).unwrap()
    }

    /// Makes the model; its configuration, and the tensors it does not use, if that works.
    pub(crate) fn open(&self) -> Result<(Config, Vec<String>), ModelError> {
        let file = ModelFile::from_bytes("edited", self.to_bytes());
        let gguf = file.gguf().unwrap();
        let model = Model::from_gguf(&gguf)?;
        let unused = model.weights().unused().iter().map(|&name| name.to_owned());
        Ok((model.config().clone(), unused.collect()))
    }
}

impl Part {
    /// Replaces one element of an F32 tensor.
    pub(crate) fn set_f32(&mut self, idx: usize, value: f32) {
        assert_eq!(self.ty, GgmlType::F32);
        self.data[4 * idx..4 * idx + 4].copy_from_slice(&value.to_le_bytes());
    }
}
