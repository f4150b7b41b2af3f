//! Any bytes give a view that can be read to the end, or an error with a short message.

#![no_main]

use gguf_format::{Gguf, GgufSet, Value};
use libfuzzer_sys::fuzz_target;

fn read(value: Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().map(read).count(), array.len());
    }
}

fuzz_target!(|bytes: &[u8]| {
    match Gguf::parse(bytes) {
        Ok(gguf) => {
            for (key, value) in gguf.metadata().iter() {
                assert!(gguf.metadata().contains(key));
                read(value);
            }
            for tensor in gguf.tensors() {
                assert_eq!(tensor.data.len() as u64, tensor.info.n_bytes());
                assert!(gguf.find(tensor.info.name()).is_some());
            }
            let _ = GgufSet::new(vec![gguf]);
        }
        Err(error) => assert!(error.to_string().len() < 2048),
    }
});
