//! Two models, tensor by tensor.

use std::collections::HashMap;

use crate::{
    error::quote,
    verify::{StageReport, TensorHash},
};

/// Says which tensors are not the same bytes in both models.
pub(super) fn compare(ours: &[TensorHash], theirs: &[TensorHash], report: &mut StageReport) {
    let mut others: HashMap<&str, &TensorHash> = theirs
        .iter()
        .map(|other| (other.name.as_str(), other))
        .collect();
    let mut n_same = 0_usize;
    for our in ours {
        let text = match others.remove(our.name.as_str()) {
            Some(other) if other == our => {
                n_same += 1;
                continue;
            }
            None => "is not in the model it is compared with".to_owned(),
            Some(other) if (&other.ty, &other.shape) != (&our.ty, &our.shape) => format!(
                "is {} {:?}, but {} {:?} in the model it is compared with",
                our.ty,
                our.shape,
                quote(&other.ty),
                other.shape
            ),
            Some(other) => format!(
                "has other weights than the model it is compared with: hash {}, there {}",
                our.xxh3,
                quote(&other.xxh3)
            ),
        };
        report.error(quote(&our.name), text);
    }
    for other in theirs {
        if others.contains_key(other.name.as_str()) {
            let text = "is missing, but in the model it is compared with";
            report.error(quote(&other.name), text);
        }
    }
    report.figure("same tensors", n_same, "as in the model compared with");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Severity, Stage, Verdict};

    fn hash(name: &str, ty: &str, digit: char) -> TensorHash {
        TensorHash {
            name: name.to_owned(),
            ty: ty.to_owned(),
            shape: vec![2, 32],
            xxh3: digit.to_string().repeat(32),
        }
    }

    #[test]
    fn each_kind_of_difference_is_said() {
        let ours = [
            hash("a", "F32", '1'),
            hash("b", "F32", '2'),
            hash("c", "F32", '3'),
            hash("d", "F32", '4'),
        ];
        let theirs = [
            hash("e", "F32", '5'),
            hash("c", "F16", '3'),
            hash("b", "F32", '7'),
            hash("a", "F32", '1'),
        ];
        let mut report = StageReport::new(Stage::Numbers);
        compare(&ours, &theirs, &mut report);
        let places: Vec<_> = report
            .listed(Severity::Error)
            .map(|finding| finding.place.as_str())
            .collect();
        assert_eq!(places, ["b", "c", "d", "e"]);
        let mut report = StageReport::new(Stage::Numbers);
        compare(&ours, &ours, &mut report);
        assert_eq!(report.verdict, Verdict::Passed);
    }
}
