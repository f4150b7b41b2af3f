//! Hostile files: each fault has an error of its own, nothing panics, and memory stays
//! below twice the file's size plus one MiB.

mod allocation;
mod corpus;
mod counting_allocator;
mod every_byte;
mod mutator;
mod one_fault;
mod raw_file;

use gguf_format::{Array, Gguf, GgufError, GgufSet, Value};

/// Parses a file and reads everything that can be reached from the view.
fn read_all(bytes: &[u8]) -> Result<(), GgufError> {
    let gguf = Gguf::parse(bytes)?;
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().contains(key), "{key:?}");
        read_value(value);
    }
    for tensor in gguf.tensors() {
        let info = tensor.info;
        assert_eq!(tensor.data.len() as u64, info.n_bytes(), "{}", info.name());
        assert_eq!(gguf.find(info.name()).map(|found| found.info), Some(info));
        assert!(info.ne().iter().all(|&n| n > 0) && info.ne().len() <= 4);
    }
    let n_tensors = gguf.tensors().len();
    if let Ok(set) = GgufSet::new(vec![gguf]) {
        assert_eq!(set.tensors().count(), n_tensors);
    }
    Ok(())
}

fn read_value(value: Value<'_>) {
    if let Value::Array(array) = value {
        read_array(array);
    }
}

fn read_array(array: Array<'_>) {
    let mut n_elements = 0;
    for element in array {
        assert_eq!(element.value_type(), array.element_type());
        read_value(element);
        n_elements += 1;
    }
    assert_eq!(n_elements, array.len());
}
