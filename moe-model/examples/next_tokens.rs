//! Lists the most probable next tokens: `next_tokens MODEL ID...`.

use std::{env, error::Error, num::NonZeroUsize, path::PathBuf, thread};

use moe_model::{Model, ModelFile, State, StateOptions, forward_qwen3_moe};
use quant_kernels::{Cpu, Isa};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or("usage: next_tokens MODEL ID...")?);
    let ids = args.map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;

    let file = ModelFile::open(&path)?;
    let model = Model::read(&file.contents()?)?;
    let n_threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let cpu = Cpu::new(Isa::detect(), n_threads)?;
    let mut state = State::new(&model, StateOptions::new(ids.len().max(1)))?;
    let logits = forward_qwen3_moe(&cpu, &model, &mut state, &ids)?;

    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    for id in order.into_iter().take(10) {
        eprintln!("{id:>8} {:>9.4}", logits[id]);
    }
    Ok(())
}
