//! What becomes of each tensor.
//!
//! The mix places types as llama.cpp does (crate `type-mix`); the caller may choose others for
//! some tensors. From the strongest: the embedding's and the output's own type, patterns in
//! their order, the mix. Rows that are no whole blocks of the type get one that they fit.
//! Only matrices are touched; a tensor that has its new type already is copied.

use gguf_format::{GgmlType, GgufWriter};
use quant_kernels::{KernelError, QuantType};
use type_mix::{Facts, Mix, Place, Role, fitting_type};

use crate::{Importance, Source, SourceTensor, TensorType, ToolError, error::quote};

/// The version of ggml's block formats, which every quantized file carries.
const QUANTIZATION_VERSION: u32 = 2;

/// What is wished of the new file.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// The types of the matrices.
    pub mix: Mix,
    /// Gives all matrices the type of most, without the mix's exceptions.
    pub pure: bool,
    /// The type of the output, also where the embedding serves as output.
    pub output_tensor: Option<QuantType>,
    /// The type of the token embedding.
    pub token_embedding: Option<QuantType>,
    /// Types of tensors by name; the first pattern that matches counts.
    pub tensor_types: Vec<TensorType>,
    /// Allows quantized weights to be quantized again.
    pub allow_requantize: bool,
}

impl QuantizeOptions {
    /// Takes a mix as it is.
    #[must_use]
    pub const fn new(mix: Mix) -> Self {
        Self {
            mix,
            pure: false,
            output_tensor: None,
            token_embedding: None,
            tensor_types: Vec::new(),
            allow_requantize: false,
        }
    }

    /// Returns the type that the matrix of a name is to have.
    fn type_of(&self, name: &str, facts: &Facts) -> QuantType {
        let place = Place::of(name);
        let is_embedding = place.role == Role::TokenEmbd;
        let is_output = place.role == Role::Output || (facts.tied && is_embedding);
        let of_embedding = self.token_embedding.filter(|_| is_embedding);
        let of_output = self.output_tensor.filter(|_| is_output);
        let by_name = || {
            let mut choices = self.tensor_types.iter();
            choices
                .find(|choice| choice.matches(name))
                .map(TensorType::ty)
        };
        of_embedding
            .or(of_output)
            .or_else(by_name)
            .unwrap_or_else(|| match self.pure {
                true => self.mix.base(),
                false => self.mix.type_of(place, facts),
            })
    }
}

/// What becomes of a tensor.
#[derive(Clone, Debug)]
pub struct PlannedTensor<'a> {
    /// What it is.
    pub source: SourceTensor<'a>,
    /// Its new type.
    pub ty: GgmlType,
    /// The type it was to have, where its rows do not fit that.
    pub unfit: Option<QuantType>,
    /// How it is converted; `None` if it is copied.
    pub(crate) conversion: Option<Conversion<'a>>,
}

/// Into another type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion<'a> {
    pub(crate) to: QuantType,
    /// How much each column of each expert matters, as little-endian F32.
    pub(crate) importance: Option<&'a [u8]>,
}

/// A new file, known in every respect but its weights.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pub(crate) header: GgufWriter,
    tensors: Vec<PlannedTensor<'a>>,
}

impl<'a> Plan<'a> {
    /// Decides the type of every tensor. Where `importance` is given, quantizers count errors
    /// by it, and the mix may place types otherwise.
    ///
    /// # Errors
    /// A pattern matches nothing; a type cannot be written, or one of the source not be read;
    /// weights are quantized already and that is not allowed; the importance is that of another
    /// model; each naming the tensor.
    pub fn new(
        source: Source<'a>,
        options: &QuantizeOptions,
        importance: Option<&Importance<'a>>,
    ) -> Result<Self, ToolError> {
        check_patterns(&source, options)?;
        let facts = Facts {
            has_importance: importance.is_some(),
            ..source.facts()
        };
        let mut header = source.metadata.clone();
        header.set("general.quantization_version", QUANTIZATION_VERSION)?;
        header.set("general.file_type", options.mix.file_type())?;
        if let Some(importance) = importance {
            importance.check_names(&source.tensors)?;
            importance.describe(&mut header)?;
        }
        let mut tensors = Vec::with_capacity(source.tensors.len());
        for tensor in source.tensors {
            let wanted = tensor
                .is_quantizable()
                .then(|| options.type_of(&tensor.name, &facts))
                .or(tensor.becomes);
            let of_columns = importance.map(|importance| importance.of(&tensor));
            let of_columns = of_columns.transpose()?.flatten();
            let mut planned = PlannedTensor::new(tensor, wanted, options.allow_requantize)?;
            if let Some(conversion) = &mut planned.conversion {
                conversion.importance = of_columns;
            }
            header.tensor(&planned.source.name, &planned.source.ne, planned.ty)?;
            tensors.push(planned);
        }
        Ok(Self { header, tensors })
    }

    /// Returns the tensors, in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[PlannedTensor<'a>] {
        &self.tensors
    }

    /// Returns the bytes of all tensors together; the file has those of the metadata besides.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(PlannedTensor::n_bytes).sum()
    }
}

impl<'a> PlannedTensor<'a> {
    /// Decides how a tensor is to become `wanted`, or stay what it is.
    pub(crate) fn new(
        source: SourceTensor<'a>,
        wanted: Option<QuantType>,
        allow_requantize: bool,
    ) -> Result<Self, ToolError> {
        source.check()?;
        let copied = |source: SourceTensor<'a>, ty, unfit| Self {
            source,
            ty,
            unfit,
            conversion: None,
        };
        let given = source.ggml_type();
        let wanted = match (given, wanted) {
            (Some(given), None) => return Ok(copied(source, given, None)),
            (_, wanted) => wanted.unwrap_or(QuantType::F32),
        };
        let to = fitting_type(wanted, source.n_cols());
        let unfit = (to != wanted).then_some(wanted);
        let ty = ggml_type(to).ok_or(KernelError::NoQuantizer { ty: to })?;
        if given == Some(ty) {
            return Ok(copied(source, ty, unfit));
        }
        let from = source.quant_type().ok_or_else(|| ToolError::NotReadable {
            name: quote(&source.name),
            ty: source.type_name(),
        })?;
        if from.block_len() > 1 && !allow_requantize {
            return Err(ToolError::Requantize {
                name: quote(&source.name),
                from,
                to,
            });
        }
        // Tells by nothing at all whether the type can be written.
        quant_kernels::quantize_row(to, &[], &mut [])?;
        Ok(Self {
            source,
            ty,
            unfit,
            conversion: Some(Conversion {
                to,
                importance: None,
            }),
        })
    }

    /// Returns whether its columns count by their importance.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        let importance = self.conversion.and_then(|conversion| conversion.importance);
        importance.is_some()
    }

    /// Returns whether it is quantized as if all columns mattered alike, although its new type
    /// could tell them apart.
    #[must_use]
    pub fn lacks_importance(&self) -> bool {
        self.conversion.is_some_and(|conversion| {
            let is_blind = matches!(conversion.to, QuantType::Q8_0 | QuantType::MXFP4);
            conversion.importance.is_none() && conversion.to.block_len() > 1 && !is_blind
        })
    }

    /// Returns the bytes it will have.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        let n_weights = self.source.n_cols() * self.source.n_rows();
        n_weights / self.ty.block_len() * self.ty.block_bytes()
    }
}

fn check_patterns(source: &Source<'_>, options: &QuantizeOptions) -> Result<(), ToolError> {
    let quantizable = || {
        source
            .tensors
            .iter()
            .filter(|tensor| tensor.is_quantizable())
    };
    for choice in &options.tensor_types {
        if !quantizable().any(|tensor| choice.matches(&tensor.name)) {
            return Err(ToolError::NothingMatches {
                pattern: quote(choice.pattern()),
                n_tensors: quantizable().count(),
            });
        }
    }
    Ok(())
}

/// Returns the type of a file; `None` for one that only checkpoints have.
fn ggml_type(ty: QuantType) -> Option<GgmlType> {
    GgmlType::from_name(ty.name())
}

#[cfg(test)]
mod tests {
    use moe_model::quant_type;

    use super::*;

    #[test]
    fn types_have_the_same_names_in_file_and_kernels() {
        for ty in QuantType::ALL {
            assert_eq!(ggml_type(ty).and_then(quant_type), Some(ty));
        }
        assert_eq!(ggml_type(QuantType::F8_E4M3), None);
    }
}
