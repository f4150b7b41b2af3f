//! The reference data, and how it is read.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use quant_kernels::{Cpu, Isa};
use serde_json::Value;

/// Returns the folder of the trained model, if it is there.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/bard");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

/// Returns the ids of the held-out text, which are in this repository.
pub(crate) fn heldout_ids() -> Vec<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/heldout__ids.u16");
    let data = fs::read(path).unwrap();
    let ids = data.as_chunks::<2>().0.iter();
    ids.map(|&id| u16::from_le_bytes(id).into()).collect()
}

/// One thread, for tests that run side by side.
pub(crate) fn cpu() -> Cpu {
    Cpu::new(Isa::detect(), NonZeroUsize::MIN).unwrap()
}
