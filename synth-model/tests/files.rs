//! What is true of every file: it parses, it has the size that was said, and its bytes depend
//! on nothing but the request.

use gguf_format::{GgmlType, Gguf};
use quant_kernels::QuantType;
use synth_model::{Geometry, Progress, SynthError, SynthModel, TypeMix, Vocab};

fn tiny(mix: TypeMix, seed: u64) -> SynthModel<'static> {
    SynthModel {
        geometry: Geometry::TINY,
        mix,
        vocab: Vocab::ByteLevel,
        seed,
    }
}

#[test]
fn every_mix_writes_a_file_that_parses() {
    let named: Vec<TypeMix> = TypeMix::named().collect();
    let pure = QuantType::ALL.map(TypeMix::Pure);
    let unnamed = pure.into_iter().filter(|mix| !named.contains(mix));
    for mix in named.iter().copied().chain(unnamed) {
        let model = tiny(mix, 1);
        let file = model.to_bytes().unwrap();
        let gguf = Gguf::parse(&file).unwrap();
        let tensor_bytes: u64 = gguf.tensors().map(|tensor| tensor.data.len() as u64).sum();
        assert_eq!(tensor_bytes, model.tensor_bytes().unwrap(), "{mix}");
        assert_eq!(gguf.tensors().len(), 27, "{mix}");
    }
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let model = SynthModel {
        geometry: Geometry::SMALL,
        ..tiny(TypeMix::Mixed, 5)
    };
    let write = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .unwrap();
        pool.install(|| model.to_bytes().unwrap())
    };
    assert!(write(1) == write(3));
}

#[test]
fn another_seed_gives_other_weights_and_the_same_header() {
    let [one, again, other] = [1, 1, 2].map(|seed| tiny(TypeMix::Q4_K_M, seed).to_bytes().unwrap());
    assert!(one == again);
    let start = usize::try_from(Gguf::parse(&one).unwrap().data_offset()).unwrap();
    assert!(one[..start] == other[..start]);
    assert!(one[start..] != other[start..]);
}

#[test]
fn metadata_says_what_the_geometry_says() {
    let file = tiny(TypeMix::Q4_K_M, 1).to_bytes().unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let counts = [
        ("general.file_type", 15),
        ("qwen3moe.block_count", 2),
        ("qwen3moe.embedding_length", 256),
        ("qwen3moe.attention.head_count", 4),
        ("qwen3moe.attention.head_count_kv", 2),
        ("qwen3moe.attention.key_length", 64),
        ("qwen3moe.attention.value_length", 64),
        ("qwen3moe.expert_count", 8),
        ("qwen3moe.expert_used_count", 2),
        ("qwen3moe.expert_feed_forward_length", 256),
        ("qwen3moe.context_length", 2048),
        ("tokenizer.ggml.eos_token_id", 511),
    ];
    for (key, expected) in counts {
        assert_eq!(
            gguf.metadata().require::<u32>(key).unwrap(),
            expected,
            "{key}"
        );
    }
    let shapes: [(&str, &[u64], GgmlType); 5] = [
        ("token_embd.weight", &[256, 512], GgmlType::Q4_K),
        ("output.weight", &[256, 512], GgmlType::Q6_K),
        ("blk.1.attn_k_norm.weight", &[64], GgmlType::F32),
        ("blk.0.ffn_gate_inp.weight", &[256, 8], GgmlType::F32),
        ("blk.1.ffn_down_exps.weight", &[256, 256, 8], GgmlType::Q6_K),
    ];
    for (name, ne, ty) in shapes {
        let info = gguf.tensor(name).unwrap().info;
        assert_eq!((info.ne(), info.ty()), (ne, ty), "{name}");
    }
}

#[test]
fn progress_ends_at_the_total() {
    let model = tiny(TypeMix::Q4_0, 1);
    let mut last = Progress {
        written: 0,
        total: 0,
    };
    model
        .write(std::io::sink(), |progress| {
            assert!(progress.written > last.written);
            last = progress;
        })
        .unwrap();
    assert_eq!(last.written, last.total);
    assert_eq!(last.total, model.tensor_bytes().unwrap());
}

#[test]
fn rows_that_are_no_whole_blocks_are_refused() {
    let geometry = Geometry {
        n_ff_exp: 128,
        ..Geometry::TINY
    };
    let model = SynthModel {
        geometry,
        ..tiny(TypeMix::Q4_K_M, 1)
    };
    let error = model.to_bytes().unwrap_err();
    assert!(matches!(error, SynthError::Gguf(_)), "{error}");
    assert!(
        error.to_string().contains("blk.0.ffn_down_exps.weight"),
        "{error}"
    );
}
