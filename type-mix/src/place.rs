//! Which matrix of the model a tensor is, by its name.

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The token embedding.
    TokenEmbd,
    /// Queries.
    AttnQ,
    /// Keys.
    AttnK,
    /// Values.
    AttnV,
    /// The output of attention.
    AttnOutput,
    /// The gates of the experts.
    FfnGate,
    /// The up projections of the experts.
    FfnUp,
    /// The down projections of the experts.
    FfnDown,
    /// The output.
    Output,
    /// None of these.
    Other,
}

/// A role, and the layer that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What the matrix is for.
    pub role: Role,
    /// The layer; 0 where the matrix is in none.
    pub layer: u32,
}

impl Place {
    /// Returns the place of a tensor such as `blk.3.attn_v.weight`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let outside = |role| Self { role, layer: 0 };
        match name {
            "token_embd.weight" => outside(Role::TokenEmbd),
            "output.weight" => outside(Role::Output),
            _ => Self::in_layer(name).unwrap_or(outside(Role::Other)),
        }
    }

    fn in_layer(name: &str) -> Option<Self> {
        let (layer, matrix) = name.strip_prefix("blk.")?.split_once('.')?;
        let role = match matrix.strip_suffix(".weight")? {
            "attn_q" => Role::AttnQ,
            "attn_k" => Role::AttnK,
            "attn_v" => Role::AttnV,
            "attn_output" => Role::AttnOutput,
            "ffn_gate_exps" => Role::FfnGate,
            "ffn_up_exps" => Role::FfnUp,
            "ffn_down_exps" => Role::FfnDown,
            _ => return None,
        };
        let layer = layer.parse().ok()?;
        Some(Self { role, layer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_roles_and_layers() {
        let cases = [
            ("token_embd.weight", Role::TokenEmbd, 0),
            ("output.weight", Role::Output, 0),
            ("blk.47.ffn_down_exps.weight", Role::FfnDown, 47),
            ("blk.3.attn_v.weight", Role::AttnV, 3),
            ("blk.3.attn_v.bias", Role::Other, 0),
            ("blk.x.attn_v.weight", Role::Other, 0),
            ("blk.3.attn_v_norm.weight", Role::Other, 0),
            ("output_norm.weight", Role::Other, 0),
        ];
        for (name, role, layer) in cases {
            assert_eq!(Place::of(name), Place { role, layer }, "{name}");
        }
    }
}
