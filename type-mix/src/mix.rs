//! The mixes: what they are called, and which number a file carries for them.

use std::{fmt, str::FromStr};

use quant_kernels::QuantType;

use crate::UnknownMix;

/// A named rule that gives each matrix its type.
///
/// Where the name is that of a type, the output is `Q6_K` all the same, except for floats and
/// `Q8_0`. What else is an exception is said by [`Mix::type_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "the field writes Q4_K_M")]
#[non_exhaustive]
pub enum Mix {
    /// All matrices in single precision.
    F32,
    /// All matrices in half precision.
    F16,
    /// All matrices in the upper half of a single.
    BF16,
    /// `Q8_0` throughout.
    Q8_0,
    /// `Q6_K`.
    Q6_K,
    /// `Q5_K`, some `Q6_K`.
    Q5_K_M,
    /// `Q5_K`.
    Q5_K_S,
    /// `Q5_1`.
    Q5_1,
    /// `Q5_0`.
    Q5_0,
    /// `Q4_K`, some `Q6_K`.
    Q4_K_M,
    /// `Q4_K`, few `Q5_K`.
    Q4_K_S,
    /// `Q4_1`.
    Q4_1,
    /// `Q4_0`.
    Q4_0,
    /// `IQ4_NL`, few `Q5_K`.
    IQ4_NL,
    /// `IQ4_XS`, few `Q5_K`.
    IQ4_XS,
    /// `Q3_K`, some `Q5_K`.
    Q3_K_L,
    /// `Q3_K`, some `Q4_K` and few `Q5_K`.
    Q3_K_M,
    /// `Q3_K`.
    Q3_K_S,
    /// `Q2_K`, some `Q3_K` and `Q4_K`.
    Q2_K,
    /// `MXFP4` for the experts, `Q8_0` for the rest.
    MXFP4_MOE,
}

/// One row of the table: name, llama.cpp's number (`llama_ftype`), type of most matrices.
struct Row(&'static str, u32, QuantType);

/// Other names for mixes, as llama.cpp's quantizer takes them, and the type of `MXFP4_MOE`.
const ALIASES: [(&str, Mix); 4] = [
    ("Q3_K", Mix::Q3_K_M),
    ("Q4_K", Mix::Q4_K_M),
    ("Q5_K", Mix::Q5_K_M),
    ("MXFP4", Mix::MXFP4_MOE),
];

impl Mix {
    /// Every mix, by falling precision.
    pub const ALL: [Self; 20] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6_K,
        Self::Q5_K_M,
        Self::Q5_K_S,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_K_M,
        Self::Q4_K_S,
        Self::Q4_1,
        Self::Q4_0,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::Q3_K_L,
        Self::Q3_K_M,
        Self::Q3_K_S,
        Self::Q2_K,
        Self::MXFP4_MOE,
    ];

    const fn row(self) -> Row {
        match self {
            Self::F32 => Row("F32", 0, QuantType::F32),
            Self::F16 => Row("F16", 1, QuantType::F16),
            Self::BF16 => Row("BF16", 32, QuantType::BF16),
            Self::Q8_0 => Row("Q8_0", 7, QuantType::Q8_0),
            Self::Q6_K => Row("Q6_K", 18, QuantType::Q6_K),
            Self::Q5_K_M => Row("Q5_K_M", 17, QuantType::Q5_K),
            Self::Q5_K_S => Row("Q5_K_S", 16, QuantType::Q5_K),
            Self::Q5_1 => Row("Q5_1", 9, QuantType::Q5_1),
            Self::Q5_0 => Row("Q5_0", 8, QuantType::Q5_0),
            Self::Q4_K_M => Row("Q4_K_M", 15, QuantType::Q4_K),
            Self::Q4_K_S => Row("Q4_K_S", 14, QuantType::Q4_K),
            Self::Q4_1 => Row("Q4_1", 3, QuantType::Q4_1),
            Self::Q4_0 => Row("Q4_0", 2, QuantType::Q4_0),
            Self::IQ4_NL => Row("IQ4_NL", 25, QuantType::IQ4_NL),
            Self::IQ4_XS => Row("IQ4_XS", 30, QuantType::IQ4_XS),
            Self::Q3_K_L => Row("Q3_K_L", 13, QuantType::Q3_K),
            Self::Q3_K_M => Row("Q3_K_M", 12, QuantType::Q3_K),
            Self::Q3_K_S => Row("Q3_K_S", 11, QuantType::Q3_K),
            Self::Q2_K => Row("Q2_K", 10, QuantType::Q2_K),
            Self::MXFP4_MOE => Row("MXFP4_MOE", 38, QuantType::MXFP4),
        }
    }

    /// Returns the name the field uses, such as `Q4_K_M`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns the number that `general.file_type` has for the mix.
    #[must_use]
    pub const fn file_type(self) -> u32 {
        self.row().1
    }

    /// Returns the type of the matrices that are no exception.
    #[must_use]
    pub const fn base(self) -> QuantType {
        self.row().2
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mix {
    type Err = UnknownMix;

    /// Reads a name such as `q4_k_m`, in either case. `Q3_K`, `Q4_K` and `Q5_K` are the `_M`
    /// mixes, `MXFP4` is `MXFP4_MOE`.
    fn from_str(name: &str) -> Result<Self, UnknownMix> {
        let names = Self::ALL.map(|mix| (mix.name(), mix));
        let mut known = names.into_iter().chain(ALIASES);
        let found = known.find(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, mix) = found.ok_or_else(|| UnknownMix {
            name: name.escape_default().to_string(),
            expected: Self::ALL.map(Self::name).join(", "),
        })?;
        Ok(mix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_parse_back_in_either_case() {
        for mix in Mix::ALL {
            assert_eq!(mix.name().parse(), Ok(mix));
            assert_eq!(mix.name().to_lowercase().parse(), Ok(mix));
        }
        assert_eq!("q4_k".parse(), Ok(Mix::Q4_K_M));
        let error = "q9\u{1b}".parse::<Mix>().unwrap_err().to_string();
        assert!(
            error.contains("`q9\\u{1b}`") && error.contains("IQ4_XS"),
            "{error}"
        );
    }

    #[test]
    fn each_mix_has_a_number_of_its_own() {
        let numbers: HashSet<u32> = Mix::ALL.map(Mix::file_type).into();
        assert_eq!(numbers.len(), Mix::ALL.len());
    }
}
