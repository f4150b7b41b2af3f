#!/usr/bin/env python3
"""Has llama.cpp load what `apr convert` and `apr quantize` write, and compares the two programs on it.

    pip install llama-cpp-python numpy safetensors
    docs/against_llama_cpp.py APR MODEL TEXT [TYPE ...]

APR is the program, MODEL a checkpoint's folder or a GGUF file with floats, TEXT a text file that the model never
learned from, a TYPE one that `apr quantize` knows; all of them if none is given. A line per type: perplexity of the text
in windows of 512 tokens by both programs, and the cosine between their logits: its mean over all positions that are
scored, the share of them where it is at least 0.999, and the least, which is that of a router's near tie. Exit code 1 if a perplexity differs by more than 0.5 % or a mean cosine is below 0.999.
"""
import ctypes, json, os, subprocess, sys, tempfile
import llama_cpp as L
import numpy as np
from safetensors.numpy import load_file

WINDOW = 512
TYPES = """F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4_MOE
Q3_K_L Q3_K_M Q3_K_S Q2_K""".split()


def apr(*args):
    return subprocess.run([APR, *args], check=True, capture_output=True, text=True).stdout


class Peer:
    def __init__(self, path):
        self.model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
        assert self.model, f"llama.cpp does not load {path}"
        self.n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        params = L.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = WINDOW
        params.n_threads = params.n_threads_batch = os.cpu_count()
        self.context = L.llama_init_from_model(self.model, params)

    def ids(self, text):
        ids = (L.llama_token * (len(text) + 8))()
        n = L.llama_tokenize(L.llama_model_get_vocab(self.model), text, len(text), ids, len(ids), True, False)
        return list(ids[:n])

    def logits(self, ids):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, True
        assert L.llama_decode(self.context, batch) == 0
        L.llama_batch_free(batch)
        found = ctypes.cast(L.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(found, (len(ids), self.n_vocab)).copy()

    def close(self):
        L.llama_free(self.context)
        L.llama_model_free(self.model)


def compare(path, text_path, scratch):
    peer = Peer(path)
    ids = json.loads(apr("tokenize", "--json", "-m", path, "-f", text_path))["ids"]
    assert ids == peer.ids(open(text_path, "rb").read()), "the programs make other tokens of the text"
    args = ["-m", path, "-f", text_path, "-c", str(WINDOW), "--save-logits", scratch]
    ours = json.loads(apr("perplexity", "-q", "--json", *args))["perplexity"]
    # Both programs score the second half of a window.
    scored = np.arange(WINDOW // 2, WINDOW - 1)
    rows = load_file(scratch)["logits"].reshape(-1, len(scored), peer.n_vocab)
    losses, cosines = [], []
    for start, own in zip(range(0, len(ids), WINDOW), rows):
        window = np.asarray(ids[start : start + WINDOW])
        found = peer.logits(window.tolist())[scored].astype(np.float64)
        top = found.max(-1)
        losses.append(top + np.log(np.exp(found - top[:, None]).sum(-1)) - found[range(len(scored)), window[scored + 1]])
        cosines.append((own * found).sum(-1) / (np.linalg.norm(own, axis=-1) * np.linalg.norm(found, axis=-1)))
    peer.close()
    cosines = np.concatenate(cosines)
    return ours, np.exp(np.concatenate(losses).mean()), cosines


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    APR, model, text, *types = sys.argv[1:]
    quiet = L.llama_log_callback(lambda *_: None)
    L.llama_log_set(quiet, None)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        path, scratch = f"{folder}/model.gguf", f"{folder}/logits.safetensors"
        print("| type | apr | llama.cpp | difference | mean cosine | at least 0.999 | least cosine |")
        for ty in types or TYPES:
            apr("quantize", "-q", model, path, ty)
            ours, theirs, cosines = compare(path, text, scratch)
            difference, mean, share = ours / theirs - 1, cosines.mean(), (cosines >= 0.999).mean()
            failed |= abs(difference) > 0.005 or mean < 0.999
            cells = f"{ours:.4f} | {theirs:.4f} | {difference:+.3%} | {mean:.6f} | {share:.2%} | {cosines.min():.4f}"
            print(f"| {ty} | {cells} |", flush=True)
    sys.exit(int(failed))
