//! `PATTERN=TYPE`: another type for the tensors of some names.

use std::str::FromStr;

use quant_kernels::QuantType;
use regex::Regex;

use crate::ToolError;

/// The types of tensors whose names a pattern matches.
///
/// The pattern is a regular expression that is looked for anywhere in the name, so a part of
/// the name will do.
///
/// ```
/// use model_tools::TensorType;
/// use quant_kernels::QuantType;
///
/// let first: TensorType = r"blk\.[0-3]\.attn_v=q8_0".parse()?;
/// assert!(first.matches("blk.2.attn_v.weight"));
/// assert_eq!(first.ty(), QuantType::Q8_0);
/// # Ok::<(), model_tools::ToolError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorType {
    pattern: Regex,
    ty: QuantType,
}

impl TensorType {
    /// Returns whether the pattern is somewhere in a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name)
    }

    /// Returns the pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    /// Returns the type.
    #[must_use]
    pub const fn ty(&self) -> QuantType {
        self.ty
    }
}

impl FromStr for TensorType {
    type Err = ToolError;

    /// Reads `PATTERN=TYPE`; the last `=` counts.
    ///
    /// # Errors
    /// [`ToolError::TensorType`].
    fn from_str(text: &str) -> Result<Self, ToolError> {
        let refuse = |reason: String| ToolError::TensorType {
            text: text.escape_debug().to_string(),
            reason,
        };
        let parts = text.rsplit_once('=');
        let (pattern, ty) = parts
            .filter(|(pattern, _)| !pattern.is_empty())
            .ok_or_else(|| refuse("expected PATTERN=TYPE".to_owned()))?;
        Ok(Self {
            pattern: Regex::new(pattern).map_err(|error| refuse(error.to_string()))?,
            ty: ty.parse().map_err(|error| refuse(format!("{error}")))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_a_pattern() {
        let choice: TensorType = "attn_v=q6_k".parse().unwrap();
        assert!(choice.matches("blk.0.attn_v.weight"));
        assert!(!choice.matches("blk.0.attn_k.weight"));
    }

    #[test]
    fn what_is_no_choice_is_named() {
        let cases = [
            ("attn_v", "PATTERN=TYPE"),
            ("=q6_k", "PATTERN=TYPE"),
            ("attn_v=q9", "q9"),
            ("(=q6_k", "unclosed"),
        ];
        for (text, says) in cases {
            let error = text.parse::<TensorType>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(says), "{error}");
        }
    }
}
