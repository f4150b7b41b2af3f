//! The matrices of a layer's experts, one each, wherever they lie in the file.

use quant_kernels::{MatRef, QuantType};

/// One matrix per expert, all of one type and shape; never empty.
#[derive(Clone)]
pub struct Experts<'a> {
    matrices: Vec<MatRef<'a>>,
}

impl std::fmt::Debug for Experts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {:?}", self.matrices.len(), self.of(0))
    }
}

impl<'a> Experts<'a> {
    /// Cuts a matrix that holds, expert after expert, `n_parts` matrices of `n_rows` rows, of
    /// which these are the ones at `part`.
    pub(crate) fn of_stack(stack: MatRef<'a>, n_rows: usize, part: usize, n_parts: usize) -> Self {
        let starts = (part * n_rows..stack.n_rows()).step_by(n_parts * n_rows);
        Self {
            matrices: starts
                .map(|start| stack.rows(start..start + n_rows))
                .collect(),
        }
    }

    /// Takes matrices that lie apart, of one type and shape.
    pub(crate) const fn of_each(matrices: Vec<MatRef<'a>>) -> Self {
        Self { matrices }
    }

    /// Returns the type of all of them.
    #[must_use]
    pub fn ty(&self) -> QuantType {
        self.of(0).ty()
    }

    /// Returns the matrix of an expert.
    ///
    /// # Panics
    /// If there is no such expert.
    #[must_use]
    pub fn of(&self, expert: usize) -> MatRef<'a> {
        self.matrices[expert]
    }

    /// Iterates over all of them, in the order of the experts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &MatRef<'a>> {
        self.matrices.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_cut_expert_by_expert_and_part_by_part() {
        let bytes: Vec<u8> = (0..96).collect();
        let stack = MatRef::new(QuantType::F32, 12, 2, &bytes).unwrap();
        let starts = |n_rows, part, n_parts| -> Vec<u8> {
            let experts = Experts::of_stack(stack, n_rows, part, n_parts);
            assert!(experts.iter().all(|matrix| matrix.n_rows() == n_rows));
            experts.iter().map(|matrix| matrix.bytes()[0]).collect()
        };
        assert_eq!(starts(3, 0, 1), [0, 24, 48, 72]);
        assert_eq!(starts(3, 0, 2), [0, 48]);
        assert_eq!(starts(3, 1, 2), [24, 72]);
    }
}
