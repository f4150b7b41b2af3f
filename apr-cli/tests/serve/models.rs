//! The built-in model under other chat templates.

use std::{fs, path::PathBuf};

use gguf_format::{Gguf, GgufWriter};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

/// A model file that is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Model {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Model {
    /// The built-in model, which thinks before each answer because its prompt says so.
    pub(crate) fn thinking() -> Self {
        let template = builtin_template();
        Self::with_template(&format!("{template}{{{{- '<think>\\n' }}}}"))
    }

    /// The built-in model that is taught Qwen3-Coder's calls.
    pub(crate) fn coder() -> Self {
        Self::under("Qwen3-Coder")
    }

    /// The built-in model under the template of another.
    pub(crate) fn under(name: &str) -> Self {
        let path = format!("{FOLDER}/../tokenizer/tests/data/template__{name}.jinja");
        Self::with_template(&fs::read_to_string(path).unwrap())
    }

    fn with_template(template: &str) -> Self {
        let bytes = builtin();
        let gguf = Gguf::parse(&bytes).unwrap();
        let mut writer = GgufWriter::new();
        writer.set_all(gguf.metadata()).unwrap();
        writer.set("tokenizer.chat_template", template).unwrap();
        let mut data = Vec::new();
        for tensor in gguf.tensors() {
            let info = &tensor.info;
            writer.tensor(info.name(), info.ne(), info.ty()).unwrap();
            data.push(tensor.data);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, writer.to_bytes(&data).unwrap()).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn builtin() -> Vec<u8> {
    fs::read(format!("{FOLDER}/assets/bard.gguf")).unwrap()
}

fn builtin_template() -> String {
    let bytes = builtin();
    let gguf = Gguf::parse(&bytes).unwrap();
    let template = gguf.metadata().require::<&str>("tokenizer.chat_template");
    template.unwrap().to_owned()
}
