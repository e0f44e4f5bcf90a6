"""Trains `task-priority`: a to-do item's text -> High, Medium or Low.

Data: `examples/data/task-priority.csv`, written for this example (see the model card); its `split`
column says which rows are held out. A BPE tokenizer is trained on the training rows, a linear
model weighs its tokens and pairs of neighbouring tokens, and both are exported: the graph takes
token ids, and the tokenizer stands beside it.
Run `python examples/training/task_priority.py`; it rewrites both and the card's figures.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forwardpass

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training.model_card import write_card

FOLDER = Path(__file__).resolve().parents[1] / "models" / "task-priority"
DATA = Path(__file__).resolve().parents[1] / "data" / "task-priority.csv"
LABELS = ("High", "Medium", "Low")
VOCABULARY = 2000
# pairs of tokens share this many rows of weights: (left * PAIR_STEP + right) mod PAIR_ROWS
PAIR_ROWS, PAIR_STEP = 4096, 7919

# said after a neutral task, these words alone decide; they teach what a few hundred items show too rarely
URGENCY = {
    "High": ("urgent", "asap", "today", "right now", "by tonight", "immediately", "before 5 pm", "due tomorrow",
             "overdue", "this cannot wait", "deadline is today", "critical"),
    "Low": ("no rush", "no hurry", "whenever", "some day", "when there is time", "can wait", "nice to have",
            "low priority", "not urgent", "not important", "eventually", "if time permits"),
}  # fmt: skip
VARIANT_WEIGHT = 0.25  # against 1 for an item as it was written


def read_items(split: str) -> tuple[list[str], list[str]]:
    """Texts and their priorities of one split, ``train`` or ``test``."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [row["text"] for row in rows], [row["priority"] for row in rows]


def evaluate(model: forwardpass.Engine) -> dict[str, float]:
    """Figures on the held-out items, as they were written."""
    texts, truth = read_items("test")
    answer = model.predict({"text": texts})
    right = np.array([given == wanted for given, wanted in zip(answer["label"], truth, strict=True)])
    chances = answer["probabilities"][np.arange(len(truth)), [LABELS.index(label) for label in truth]]
    recalls = {f"recall_{label.lower()}": round(float(right[np.array(truth) == label].mean()), 4) for label in LABELS}
    return {
        "held_out_rows": len(truth),
        "accuracy": round(float(right.mean()), 4),
        **recalls,
        "log_loss": round(float(-np.log(chances).mean()), 4),
    }


def with_urgency(texts: list[str], priorities: list[str]) -> tuple[list[str], list[str]]:
    """The items, then two variants of each Medium one: words of urgency added make it High or Low."""
    choose = random.Random(0)
    more = [
        (choose.choice((f"{text}, {words}", f"{words}: {text}", f"{text} {words}")), priority)
        for text, known in zip(texts, priorities, strict=True)
        if known == "Medium"
        for priority in URGENCY
        for words in [choose.choice(URGENCY[priority])]
    ]
    return texts + [text for text, _ in more], priorities + [priority for _, priority in more]


def train_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE over lower-cased text; every text becomes ``[CLS] … [SEP]``.

    Byte level, because its trainer gives the same vocabulary every time; WordPiece's does not.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[CLS]", "[SEP]"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def count_features(tokenizer: Any, texts: list[str]) -> NDArray[np.float32]:
    """How often each token and each pair of neighbours occurs: [texts, vocabulary + PAIR_ROWS]."""
    vocabulary = tokenizer.get_vocab_size()
    counts = np.zeros((len(texts), vocabulary + PAIR_ROWS), dtype=np.float32)
    for row, encoding in zip(counts, tokenizer.encode_batch(texts), strict=True):
        ids = np.array(encoding.ids)
        np.add.at(row, ids, 1)
        np.add.at(row, vocabulary + (ids[:-1] * PAIR_STEP + ids[1:]) % PAIR_ROWS, 1)
    return counts


def train(tokenizer: Any, items: list[str], priorities: list[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights [vocabulary + PAIR_ROWS, 3] and biases [3], in the order of ``LABELS``."""
    from sklearn.linear_model import LogisticRegression

    texts, wanted = with_urgency(items, priorities)
    weights = np.where(np.arange(len(texts)) < len(items), 1.0, VARIANT_WEIGHT)
    targets = [LABELS.index(priority) for priority in wanted]
    model = LogisticRegression(C=1.0, max_iter=500).fit(count_features(tokenizer, texts), targets, weights)
    return model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)


def export(weights: NDArray[Any], biases: NDArray[Any]) -> bytes:
    """The graph: the weights of all tokens and pairs in the text, summed where the mask is 1."""
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = {
        "tokens": weights[:-PAIR_ROWS], "pairs": weights[-PAIR_ROWS:], "biases": biases,
        "step": np.int64(PAIR_STEP), "rows": np.int64(PAIR_ROWS),
        "zero": np.array([0]), "one": np.array([1]), "last": np.array([-1]), "end": np.array([2**62]),
    }  # fmt: skip
    nodes = [
        *_masked_sum("tokens", "input_ids", "attention_mask"),
        helper.make_node("Slice", ["input_ids", "zero", "last", "one"], ["left"]),
        helper.make_node("Slice", ["input_ids", "one", "end", "one"], ["right"]),
        helper.make_node("Slice", ["attention_mask", "one", "end", "one"], ["right_mask"]),
        helper.make_node("Mul", ["left", "step"], ["left_step"]),
        helper.make_node("Add", ["left_step", "right"], ["pair"]),
        helper.make_node("Mod", ["pair", "rows"], ["pair_ids"]),
        *_masked_sum("pairs", "pair_ids", "right_mask"),
        helper.make_node("Sum", ["tokens_sum", "pairs_sum", "biases"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "task-priority",
        [
            helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "seq"])
            for n in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _masked_sum(table: str, ids: str, mask: str) -> list[Any]:
    """Nodes: look up the rows of a table, drop those under the mask, sum over the text."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Gather", [table, ids], [f"{table}_found"]),
        helper.make_node("Cast", [mask], [f"{table}_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", [f"{table}_mask", "last"], [f"{table}_mask3"]),
        helper.make_node("Mul", [f"{table}_found", f"{table}_mask3"], [f"{table}_kept"]),
        helper.make_node("ReduceSum", [f"{table}_kept", "one"], [f"{table}_sum"], keepdims=0),
    ]


def main() -> None:
    items, priorities = read_items("train")
    tokenizer = train_tokenizer(items)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "model.onnx").write_bytes(export(*train(tokenizer, items, priorities)))
    metrics = evaluate(forwardpass.load(FOLDER))
    write_card(FOLDER, metrics)
    print(metrics)


if __name__ == "__main__":
    main()
