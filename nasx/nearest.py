"""The nearest valid word, for 'did you mean'."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Words of other projects and of everyday speech, and what they are called here.
SAME = {
    "nsga": "local", "nsga2": "local", "nsga3": "local", "nsgaii": "local", "evolution": "local",
    "evolutionary": "local", "genetic": "local", "bayes": "gp", "bayesian": "gp", "botorch": "gp",
    "gaussian": "gp", "grid": "random", "max": "maximize", "maximise": "maximize",
    "min": "minimize", "minimise": "minimize", "acc": "top1", "accuracy": "top1", "error": "top1",
    "latency": "latency_ms", "speed": "latency_ms", "time": "latency_ms", "flop": "flops",
    "gflops": "flops", "mac": "macs", "multiplications": "macs", "size": "bytes",
    "weights": "params", "parameters": "params", "energy": "energy_uj", "memory": "peak_bytes",
    "map": "ap", "dataset": "task", "data": "task", "metric": "objectives",
    "metrics": "objectives", "epochs": "full", "eta": "factor", "n_trials": "trials",
    "description": "desc", "search_space": "space", "ort": "onnxruntime", "onnx": "onnxruntime",
    "torch": "eager", "pytorch": "eager", "local": "inline", "default": "baseline",
}  # fmt: skip


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word of `words` most likely meant by `word`, or None where none is near."""
    known = list(words)
    plain = _plain(word)
    alike = {_plain(w): w for w in known}
    if plain in alike:
        return alike[plain]
    if SAME.get(plain) in known:
        return SAME[plain]
    close = difflib.get_close_matches(plain, alike, 1, 0.6)
    if close:
        return alike[close[0]]
    longer = [w for p, w in alike.items() if len(plain) >= 2 and p.startswith(plain)]
    return longer[0] if len(longer) == 1 else None


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_")


def hint(word: str, words: Iterable[str]) -> str:
    """Return "did you mean 'x'?" or, where no word is near, the list of valid ones."""
    known = list(words)
    near = nearest(word, known)
    if near:
        return f"did you mean '{near}'?"
    return f"valid are {', '.join(known)}" if known else "there is none"
