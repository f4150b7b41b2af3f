//! Prints which types a mix places where: `place_types MIX`, in a model of the shape of
//! Qwen3-30B-A3B.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::{env, error::Error};

use type_mix::{Facts, Mix, Place};

fn main() -> Result<(), Box<dyn Error>> {
    let mix: Mix = env::args().nth(1).as_deref().unwrap_or("Q4_K_M").parse()?;
    let facts = Facts {
        n_layer: 48,
        n_head_per_kv: 8,
        n_expert: 128,
        ..Facts::default()
    };
    for name in ["token_embd.weight", "output.weight"] {
        println!("{name:<28} {}", mix.type_of(Place::of(name), &facts));
    }
    for layer in 0..facts.n_layer {
        for matrix in [
            "attn_q",
            "attn_v",
            "attn_output",
            "ffn_up_exps",
            "ffn_down_exps",
        ] {
            let name = format!("blk.{layer}.{matrix}.weight");
            println!("{name:<28} {}", mix.type_of(Place::of(&name), &facts));
        }
    }
    Ok(())
}
