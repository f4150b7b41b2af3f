//! Which instructions this processor has, found once and carried as a value.
//!
//! An [`Isa`] other than scalar exists only if the features it stands for were seen, so a
//! kernel may rely on it without asking again.

use std::{fmt, str::FromStr};

use crate::KernelError;

/// An instruction set that this processor has. All give the same bits.
///
/// Only detection and parsing make one, so holding it proves that the instructions are
/// there.
///
/// ```
/// use quant_kernels::Isa;
///
/// let fastest = Isa::detect();
/// assert_eq!(fastest.name().parse::<Isa>()?, fastest);
/// assert_eq!(Isa::available().next(), Some(Isa::SCALAR));
/// # Ok::<(), quant_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

/// What an [`Isa`] stands for; private, so that only detection can make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Portable code, the specification.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI, and all of [`Kind::Avx2`].
    Avx512,
}

const NAMES: [(&str, Kind); 3] = [
    ("scalar", Kind::Scalar),
    ("avx2", Kind::Avx2),
    ("avx512", Kind::Avx512),
];

impl Kind {
    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        match self {
            Self::Scalar => true,
            Self::Avx2 => avx2,
            Self::Avx512 => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Scalar
    }
}

impl Isa {
    /// The portable code, on every machine.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// Returns the best instruction set of this processor.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// Returns the instruction sets of this processor, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        NAMES
            .into_iter()
            .filter(|(_, kind)| kind.is_available())
            .map(|(_, kind)| Self(kind))
    }

    /// Returns `scalar`, `avx2` or `avx512`, which [`str::parse`] reads back.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            Kind::Avx2 => "avx2",
            Kind::Avx512 => "avx512",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        self.0
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = KernelError;

    /// Reads a name, in either case; the instruction set must be available.
    ///
    /// # Errors
    /// [`KernelError::UnknownIsa`] if there is no such name,
    /// [`KernelError::IsaNotAvailable`] if this processor lacks it.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        let &(name, kind) = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| KernelError::UnknownIsa {
                name: name.escape_default().to_string(),
            })?;
        if kind.is_available() {
            return Ok(Self(kind));
        }
        let available: Vec<_> = Self::available().map(Self::name).collect();
        Err(KernelError::IsaNotAvailable {
            name,
            available: available.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_name_parses_back() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
        }
        assert_eq!(Isa::available().next(), Some(Isa::SCALAR));
        assert!("mmx".parse::<Isa>().is_err());
    }
}
