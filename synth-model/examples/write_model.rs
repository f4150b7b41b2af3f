//! Writes a model: `write_model FILE [PRESET [MIX]]`, a tiny one in `Q4_K_M` if not said.

use std::{env, error::Error, fs::File, path::PathBuf};

use synth_model::{Geometry, SynthModel, TypeMix, Vocab};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let path = PathBuf::from(
        args.next()
            .ok_or("usage: write_model FILE [PRESET [MIX]]")?,
    );
    let geometry = args
        .next()
        .map_or(Ok(Geometry::TINY), |name| Geometry::preset(&name))?;
    let mix = args.next().map_or(Ok(TypeMix::Q4_K_M), |mix| mix.parse())?;

    let model = SynthModel {
        geometry,
        mix,
        vocab: Vocab::ByteLevel,
        seed: 1,
    };
    let mut n_bytes = 0;
    model.write(File::create(&path)?, |progress| n_bytes = progress.written)?;
    eprintln!("{}: {n_bytes} bytes of tensors", path.display());
    Ok(())
}
