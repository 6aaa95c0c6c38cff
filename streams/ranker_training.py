"""Training a cross-encoder to correct the fused order: plain torch, within a time budget.

For a list with candidates c, fused scores s and f(q, c) the encoder's output, with p = softmax(log s + f) over what was taken
and a sample of the rest, each step lowers -log p(taken), averaged over a few lists: listwise (ListNet with one relevant item, Cao
et al. 2007) with the fusion as an offset, so that the encoder learns what the fusion does not know, and starts from its order.
AdamW (Loshchilov and Hutter 2019), the learning rate rising over the first tenth and then falling linearly to 0.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.ranking_examples import Example
from streams.language_ranker import MAX_TOKENS

WARM_UP: Final = 0.1
HEAD_RATE: Final = 1e-3
"""Of the new output layer; the rest of the model learns with `Plan.rate`."""
CLIP: Final = 1.0
"""The longest gradient."""
PREDICT_BATCH: Final = 128


class Plan(Struct, frozen=True, kw_only=True):
    """How to train. It ends with `seconds`, `steps` or `epochs`, or after `patience` epochs that did not help."""

    seconds: float = 600.0
    steps: int | None = None
    epochs: int = 20
    patience: int = 3
    lists: int = 8  # per step
    negatives: int = 15  # of a list, drawn anew every epoch
    rate: float = 3e-5
    seed: int = 1


class Trained(Struct, frozen=True):
    """What was done. `gains`: of the validation without a ranker, and after each epoch."""

    steps: int
    epochs: int
    best_epoch: int
    seconds: float
    gains: list[float]


def train(
    model: Any,
    torch: Any,
    examples: Sequence[Example],
    plan: Plan,
    fused: float,
    validate: Callable[[], float],
    progress: Callable[[float], None] = lambda part: None,
) -> Trained:
    """Train `model` (a sentence-transformers CrossEncoder with one output) in place and leave it as it was after the epoch for
    which `validate` answered most (before any epoch, if none came up to `fused`, what it answers without a ranker). `progress` is
    told how much of the work is done, 0 to 1.

    Raises:
        ValueError: no example can be learned from.
    """
    usable = [example for example in examples if example.usable and example.candidates[example.taken]]
    if not usable:
        raise ValueError("the log has no list to learn from: no user took what the fused list offered, or there are no texts")
    torch.manual_seed(plan.seed)
    rng, started = random.Random(plan.seed), time.monotonic()
    total = -(-len(usable) // plan.lists) * plan.epochs
    total = min(total, plan.steps) if plan.steps is not None else total
    optimizer = _optimizer(model, torch, plan.rate)
    gains, best_state, best_epoch, steps, epoch = [fused], _state(model), 0, 0, 0

    def done() -> float:
        return max(steps / total, (time.monotonic() - started) / plan.seconds)

    while done() < 1.0 and epoch - best_epoch < plan.patience:
        rng.shuffle(usable)
        model.model.train()
        for start in range(0, len(usable), plan.lists):
            if done() >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = group["top"] * _schedule(done())
            _step(model, torch, usable[start : start + plan.lists], plan.negatives, rng, optimizer)
            steps += 1
            progress(min(done(), 1.0))
        epoch += 1
        gains.append(validate())
        if gains[-1] > gains[best_epoch]:
            best_state, best_epoch = _state(model), epoch
    model.model.load_state_dict(best_state)
    return Trained(steps, epoch, best_epoch, time.monotonic() - started, gains)


def _optimizer(model: Any, torch: Any, rate: float) -> Any:
    head: list[Any] = []
    body: list[Any] = []
    for name, weight in model.model.named_parameters():
        (head if name.startswith("classifier") else body).append(weight)
    groups = [{"params": body, "top": rate}, {"params": head, "top": max(rate, HEAD_RATE)}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)


def _schedule(done: float) -> float:
    return min(done / WARM_UP + 0.01, (1.0 - done) / (1.0 - WARM_UP), 1.0)


def _state(model: Any) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in model.model.state_dict().items()}


def _step(model: Any, torch: Any, batch: Sequence[Example], negatives: int, rng: random.Random, optimizer: Any) -> None:
    """One step on a few lists."""
    pairs: list[tuple[str, str]] = []
    offsets: list[float] = []
    owner: list[int] = []
    taken: list[int] = []
    for number, example in enumerate(batch):
        others = [k for k, text in enumerate(example.candidates) if text and k != example.taken]
        chosen = [example.taken, *rng.sample(others, min(negatives, len(others)))]
        taken.append(len(pairs))
        for k in chosen:
            pairs.append((example.query, example.candidates[k]))
            offsets.append(float(np.log(max(example.scores[k], 1e-300))))
            owner.append(number)
    device = model.model.device
    with torch.autocast(device_type=device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        value = _logits(model, pairs).float()
    value = value + torch.tensor(offsets, device=device)
    owners = torch.tensor(owner, device=device)
    padded = torch.full((len(batch), len(pairs)), float("-inf"), device=device)
    padded[owners, torch.arange(len(pairs), device=device)] = value
    loss = (torch.logsumexp(padded, 1) - value[torch.tensor(taken, device=device)]).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.model.parameters(), CLIP)
    optimizer.step()


def _logits(model: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """(n,): raw outputs, with gradients where they are on."""
    tokens = model.tokenizer(
        [query for query, _ in pairs], [text for _, text in pairs], padding=True, truncation=True, max_length=MAX_TOKENS,
        return_tensors="pt",
    )  # fmt: skip
    return model.model(**tokens.to(model.model.device)).logits[:, 0]


def score(
    model: Any, torch: Any, examples: Sequence[Example], progress: Callable[[int], None] = lambda done: None
) -> list[npt.NDArray[np.float64] | None]:
    """The encoder's score of each candidate of each list, None where it can say nothing; candidates without text get the mean of
    the others, as when serving."""
    model.model.eval()
    out: list[npt.NDArray[np.float64] | None] = [None] * len(examples)
    places = [(k, c) for k, e in enumerate(examples) if e.usable for c, text in enumerate(e.candidates) if text]
    places.sort(key=lambda place: len(examples[place[0]].candidates[place[1]]))  # alike in length: less padding
    for k, example in enumerate(examples):
        if example.usable:
            out[k] = np.full(len(example.candidates), np.nan)
    with torch.inference_mode():
        for start in range(0, len(places), PREDICT_BATCH):
            chunk = places[start : start + PREDICT_BATCH]
            logits = _logits(model, [(examples[k].query, examples[k].candidates[c]) for k, c in chunk]).float().cpu().numpy()
            for (k, c), value in zip(chunk, logits.tolist(), strict=True):
                row = out[k]
                assert row is not None
                row[c] = value
            progress(min(start + PREDICT_BATCH, len(places)))
    for row in out:
        if row is not None:
            row[np.isnan(row)] = np.nanmean(row)
    return out
