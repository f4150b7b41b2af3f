"""Compares lm-evaluation-harness, asking a server, with `apr eval`:
`harness.py URL APR [MODEL [TOKENIZER]]`, from the folder of the repository.

Both read the same files. Every item must have the same log-likelihoods and every measure the
same value, to as many digits as sums of floats in another order have.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import lm_eval
import requests
from lm_eval.tasks import TaskManager

URL, APR = sys.argv[1:3]
MODEL = sys.argv[3:4]
TOKENIZER = sys.argv[4:5]
HERE = Path(__file__).parent
DATA = Path("apr-cli/tests/data")
# The longest prompt of the harness is one token shorter than `max_length`, and a window of a text
# one more: with two more than the context of `apr eval` both cut alike.
N_CTX = 16
KINDS = ["choices", "continuations", "texts"]


def ask_harness(task, model="local-completions", route="completions", **more):
    name = requests.get(f"{URL}/v1/models", timeout=60).json()["data"][0]["id"]
    arguments = {"model": name, "base_url": f"{URL}/v1/{route}", **more}
    return lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=[task],
        task_manager=TaskManager(include_path=str(HERE), include_defaults=False),
        # Errors of means are computed; those of other measures would be drawn.
        bootstrap_iters=1 if task == "eval__choices" else 0,
        apply_chat_template=model == "local-chat-completions",
    )


def ask_apr(kind, *more):
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.jsonl"
        file = DATA / f"eval__{kind}.jsonl"
        command = [APR, "eval", "-q", "--json", file, "--samples", samples, *more]
        if MODEL:
            command += ["-m", *MODEL]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(printed), [json.loads(line) for line in samples.read_text().splitlines()]


def likelihoods(sample):
    """Log-likelihoods of an item, and whether they are greedy, as the harness keeps them."""
    answers = [answer[0] for answer in sample["resps"]]
    return [(answer, None) if isinstance(answer, float) else tuple(answer) for answer in answers]


def answers(sample):
    """The same of a line that `apr eval` has written."""
    if "loglikelihoods" in sample:
        return list(zip(sample["loglikelihoods"], sample["is_greedy"], strict=True))
    return [(sample["loglikelihood"], sample.get("is_greedy"))]


def compare(kind, label, arguments, *more):
    harness = ask_harness(f"eval__{kind}", **arguments)
    record, samples = ask_apr(kind, *more)
    asked = sorted(harness["samples"][f"eval__{kind}"], key=lambda sample: sample["doc_id"])
    worst, n = 0.0, 0
    for theirs, ours in zip(asked, samples, strict=True):
        for of_harness, of_apr in zip(likelihoods(theirs), answers(ours), strict=True):
            close = math.isclose(of_harness[0], of_apr[0], rel_tol=1e-12)
            assert close and of_harness[1] == of_apr[1], (theirs["doc"], of_harness, of_apr)
            worst, n = max(worst, abs(of_harness[0] - of_apr[0])), n + 1
    print(f"{kind} ({label}): {n} log-likelihoods, largest difference {worst:.1e}")
    for measure in record["results"][-1]["metrics"]:
        name, ours, error = (measure[key] for key in ("name", "value", "stderr"))
        theirs = harness["results"][f"eval__{kind}"]
        assert math.isclose(ours, theirs[f"{name},none"], rel_tol=1e-12), (name, ours, theirs)
        if kind == "choices":
            assert math.isclose(error, theirs[f"{name}_stderr,none"], rel_tol=1e-12), (error, theirs)
        print(f"    {name:<15} {ours:.10g}" + (f" ± {error:.4g}" if error is not None else ""))


def main():
    # What the server offers of its tokenizer is found by the harness itself.
    for kind in KINDS:
        compare(kind, "one by one", {})
        compare(kind, "four at a time", {"batch_size": 4, "num_concurrent": 3})
    compare("texts", f"windows of {N_CTX}", {"max_length": N_CTX + 2}, "-c", str(N_CTX))
    if TOKENIZER:
        for kind in KINDS:
            own = {"tokenizer": TOKENIZER[0], "tokenizer_backend": "huggingface"}
            compare(kind, "the tokenizers library", own)
    generating = [
        ("local-completions", "completions"),
        ("local-chat-completions", "chat/completions"),
    ]
    for model, route in generating:
        samples = ask_harness("eval__speeches", model, route)["samples"]["eval__speeches"]
        texts = [sample["resps"][0][0] for sample in samples]
        assert all(isinstance(text, str) for text in texts) and any(texts), texts
        print(f"generated ({model}): {len(texts)} answers, such as {max(texts)!r}")


main()
