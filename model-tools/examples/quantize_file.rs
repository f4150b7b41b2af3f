//! Quantizes a file: `quantize_file IN OUT TYPE`.

use std::{
    env, error::Error, num::NonZeroUsize, ops::ControlFlow, path::Path,
    thread::available_parallelism,
};

use model_tools::{NewFile, Plan, QuantizeOptions, Source};
use moe_model::ModelFile;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, output, mix] = args.as_slice() else {
        return Err("usage: quantize_file IN OUT TYPE".into());
    };
    let file = ModelFile::open(Path::new(input))?;
    let gguf = file.gguf()?;
    let plan = Plan::new(
        Source::from_gguf(&gguf)?,
        &QuantizeOptions::new(mix.parse()?),
        None,
    )?;
    let threads = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let out = NewFile::create(Path::new(output))?;
    plan.write(out, threads, |_| ControlFlow::Continue(()))?
        .finish()?;
    eprintln!("{} bytes of tensors", plan.n_bytes());
    Ok(())
}
