//! Whether headers, metadata and tensors fit each other and the architecture.

use moe_model::{Contents, Model, ModelFile};
use tokenizer::Tokenizer;

use super::{Stage, StageReport, Subject};

/// Reads all headers; without a subject nothing else can be asked.
pub(super) fn open(file: &ModelFile) -> (StageReport, Option<Subject<'_>>) {
    let mut report = StageReport::new(Stage::File);
    let contents = match file.contents() {
        Ok(contents) => contents,
        Err(error) => {
            report.error("", error.to_string());
            return (report, None);
        }
    };
    let model = match Model::read(&contents) {
        Ok(model) => model,
        Err(error) => {
            report.error("", error.to_string());
            return (report, None);
        }
    };
    let tokenizer = match &contents {
        Contents::Gguf(gguf) => Tokenizer::from_gguf(gguf.metadata()),
        Contents::Checkpoint(checkpoint) => {
            Tokenizer::from_checkpoint(|name| checkpoint.document(name))
        }
    };
    let subject = Subject {
        file,
        contents,
        model,
        tokenizer,
    };
    (report, Some(subject))
}
