//! What was read can be written, and what was written reads back as the same bytes.

#![no_main]

use gguf_format::{Gguf, GgufError, GgufWriter};
use libfuzzer_sys::fuzz_target;

fn rewritten(gguf: &Gguf<'_>) -> Result<Vec<u8>, GgufError> {
    let mut writer = GgufWriter::new();
    writer.set_all(gguf.metadata())?;
    for tensor in gguf.tensors() {
        let info = tensor.info;
        writer.tensor(info.name(), info.ne(), info.ty())?;
    }
    let data: Vec<&[u8]> = gguf.tensors().map(|tensor| tensor.data).collect();
    writer.to_bytes(&data)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::parse(bytes) else { return };
    // Padding to a large alignment would only write zeros.
    if gguf.alignment() > 1 << 16 {
        return;
    }
    match rewritten(&gguf) {
        Ok(once) => {
            let again = Gguf::parse(&once).expect("a written file is valid");
            assert!(rewritten(&again).expect("it was written before") == once);
        }
        // The reader takes longer names, and alignments of any integer type.
        Err(
            GgufError::UnwritableTensor { .. }
            | GgufError::UnwritableKey { .. }
            | GgufError::InvalidAlignment { .. },
        ) => {}
        Err(other) => panic!("{other}"),
    }
});
