//! Serves a model: `cargo run -p apr-server --example serve_model -- model.gguf`

use std::{error::Error, net::TcpListener, num::NonZeroUsize, path::Path, sync::Arc, thread, time};

use apr_server::{Config, ModelFacts, ServedModel, Server};
use generate::{Engine, EngineOptions};
use moe_model::{Model, ModelFile};
use quant_kernels::{Cpu, Isa, KvType};
use tokenizer::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("expected a model file")?;
    let file = ModelFile::open(Path::new(&path))?;
    let model = Model::read(&file.contents()?)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.gguf()?.metadata())?);
    let cpu = Cpu::new(Isa::detect(), NonZeroUsize::MIN)?;
    let options = EngineOptions {
        n_parallel: 2,
        queue_len: 16,
        n_ctx: 2048,
        keys: KvType::F16,
        values: KvType::F16,
        batch_len: 256,
        step_time: time::Duration::from_millis(200),
        cache_bytes: 1 << 30,
        disk: None,
    };
    let begin = time::Instant::now();
    let clock = Box::new(move || begin.elapsed());
    let mut engine = Engine::new(&cpu, &model, &tokenizer, options, clock)?;
    let facts = ModelFacts::new("model", &model, "unknown");
    let server = Server::new(Config::default());
    server.set_model(ServedModel::new(engine.handle(), tokenizer.clone(), facts)?);
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    thread::scope(|scope| {
        scope.spawn(|| server.run(listener, std::future::pending()));
        engine.run();
    });
    Ok(())
}
