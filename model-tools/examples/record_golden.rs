//! Records what a model is and says.
//!
//! ```text
//! cargo run --release -p model-tools --example record_golden model.gguf > model.json
//! ```

use std::{error::Error, num::NonZeroUsize, ops::ControlFlow, path::Path, time::Duration};

use model_tools::verify::{Caller, Event, VerifyOptions, golden::GoldenRequest, record};
use moe_model::ModelFile;
use quant_kernels::Isa;

struct Patient;

impl Caller for Patient {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn hear(&mut self, _: Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: record_golden MODEL")?;
    let file = ModelFile::open(Path::new(&path))?;
    let options = VerifyOptions {
        environment: vec![
            (
                "program".to_owned(),
                format!("apr {}", env!("CARGO_PKG_VERSION")),
            ),
            ("instruction set".to_owned(), Isa::detect().to_string()),
        ],
        ..VerifyOptions::new(NonZeroUsize::MIN)
    };
    let golden = record(&file, &GoldenRequest::default(), &options, &mut Patient)?;
    print!("{}", golden.to_json());
    Ok(())
}
