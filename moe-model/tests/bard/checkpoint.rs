//! The trained model's own folder gives the bits of the GGUF file that was made from it.

use moe_model::{Model, ModelFile, Outputs, State, StateOptions, forward_with};

use crate::folder::{cpu, folder, ids, json};

#[test]
fn the_folder_gives_the_bits_of_the_bf16_file() {
    let Some(folder) = folder() else { return };
    let files = [folder.clone(), folder.join("bard-bf16.gguf")].map(|path| ModelFile::open(&path));
    let files = files.map(Result::unwrap);
    assert!(files[0].is_checkpoint() && !files[1].is_checkpoint());
    let models = [0, 1].map(|idx| Model::read(&files[idx].contents().unwrap()).unwrap());
    assert_eq!(models[0].config(), models[1].config());
    assert_eq!(
        models[0].weights().n_weights(),
        models[1].weights().n_weights()
    );
    let prompts = json(&folder.join("reference/prompts.json"));
    for prompt in prompts.as_array().unwrap() {
        let tokens = ids(&prompt["ids"]);
        let bits = models.each_ref().map(|model| -> Vec<u32> {
            let mut state = State::new(model, StateOptions::new(tokens.len())).unwrap();
            let logits = forward_with(&cpu(), model, &mut state, &tokens, Outputs::All).unwrap();
            logits.iter().map(|logit| logit.to_bits()).collect()
        });
        assert!(bits[0] == bits[1], "{}", prompt["name"]);
    }
}
