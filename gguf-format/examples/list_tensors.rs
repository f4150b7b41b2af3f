//! Lists the metadata and tensors of GGUF files.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{env, error::Error, fs};

use gguf_format::Gguf;

fn main() -> Result<(), Box<dyn Error>> {
    for path in env::args_os().skip(1) {
        let bytes = fs::read(path)?;
        let gguf = Gguf::parse(&bytes)?;
        println!(
            "GGUF version {}, alignment {}",
            gguf.version(),
            gguf.alignment()
        );
        for (key, value) in gguf.metadata().iter() {
            println!("{key} = {value:?}");
        }
        for tensor in gguf.tensors() {
            let info = tensor.info;
            println!(
                "{:40} {:8} {:?}, {} bytes",
                info.name(),
                info.ty(),
                info.ne(),
                info.n_bytes()
            );
        }
    }
    Ok(())
}
