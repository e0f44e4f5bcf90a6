"""A text encoder made faster behind a gate: which of eight topics is a docstring about?

Data: docstrings of the standard library and of the packages installed beside forwardpass, read with
`ast` and never imported. A topic's packages are listed in TOPICS: those it is learnt from and, apart,
those it is judged on, so no held-out text is by the authors of a training text. Here are trained: a
byte-level BPE tokenizer and a transformer encoder with mean pooling and a linear classifier.
Run `python examples/optimize/text.py`; everything it makes lies in `build/optimize-text`, and
`forwardpass optimize` writes its report, copied to `docs/optimize/text.md`.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import math
import random
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, only this folder is there
from examples.training.task_priority import train_tokenizer

from forwardpass.optimize.processor import cpu_flags
from forwardpass.optimize.recipes.export import export
from forwardpass.optimize.recipes.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "optimize-text"
MODEL, HELD_OUT, TRAIN, WEIGHTS = (
    BUILD / name for name in ("docstring-topic", "held-out.csv", "train.csv", "weights.pt")
)
REPORT = ROOT / "docs" / "optimize" / "text.md"

# topic: packages to learn from, packages to be judged on
TOPICS = {
    "numerics": ("numpy sympy statistics fractions random _pydecimal", "scipy mpmath"),
    "learning": ("sklearn torch xgboost nncf", "lightgbm onnxruntime openvino skl2onnx onnxscript skops"),
    "tables": ("pandas", "narwhals pyarrow"),
    "web": (
        "aiohttp werkzeug flask requests urllib urllib3 http websockets starlette wsgiref",
        "httpx httpcore fastapi uvicorn websocket oauthlib tritonclient geventhttpclient",
    ),
    "cloud": ("kubernetes botocore moto", "docker boto3 s3transfer aws_xray_sdk kserve cfnlint"),
    "testing": ("_pytest unittest doctest", "hypothesis schemathesis responses pluggy"),
    "language": ("pygments mypy mypyc lib2to3 ast tokenize jinja2 inspect", "pyparsing graphql pycparser tomlkit"),
    "terminal": ("rich tkinter idlelib curses", "click typer prettytable tqdm turtle wcwidth"),
}
LABELS = tuple(TOPICS)
MOST = {"train": (2000, 1000), "held-out": (900, 600)}  # texts of one topic, and of one package
SKIPPED = {"test", "tests", "testing", "_vendor", "_internal_vendor", "idle_test"}
FILES = 120  # of one package are read
CHARACTERS, TOKENS = 400, 64
WIDTH, LAYERS, HEADS = 256, 4, 4
EPOCHS, BATCH, RATE = 8, 64, 1e-3
BF16 = not cpu_flags().isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))

Row = tuple[str, str]  # text, topic


def source_files(package: str) -> list[Path]:
    """The package's Python files: of the standard library or of the installed packages."""
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    roots = [found for place in places for found in (place / package, place / f"{package}.py") if found.exists()]
    files = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]
    kept = [file for file in files if SKIPPED.isdisjoint(file.parts[-4:])]
    return random.Random(0).sample(kept, min(FILES, len(kept)))


def docstrings(file: Path) -> Iterator[str]:
    """Docstrings of a file, its classes and functions, as one line of at most CHARACTERS each."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = " ".join((ast.get_docstring(node) or "").split())[:CHARACTERS]
            if len(text) >= 40 and text.isprintable():
                yield text


def collect(split: str, known: set[str]) -> list[Row]:
    """Texts of one split, none twice and none in ``known``, which grows by them."""
    of_topic, of_package = MOST[split]
    rows: list[Row] = []
    for topic, packages in TOPICS.items():
        found: list[str] = []
        for package in packages[split == "held-out"].split():
            texts = {text.lower(): text for file in source_files(package) for text in docstrings(file)}
            fresh = [texts[key] for key in sorted(texts.keys() - known)]
            found += random.Random(0).sample(fresh, min(of_package, len(fresh)))
            known.update(texts)
        rows += [(text, topic) for text in random.Random(0).sample(found, min(of_topic, len(found)))]
    random.Random(0).shuffle(rows)
    return rows


def write_rows(file: Path, rows: list[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("text", "label"), *rows])


def read_rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as opened:
        return [(row["text"], row["label"]) for row in csv.DictReader(opened)]


class Layer(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    """Attention and a feed-forward network, each normalised before (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.mix, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.wide, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.drop = torch.nn.Dropout(0.1)

    def forward(self, states: Any, hidden: Any) -> Any:
        states = states + self.drop(self.attend(self.before(states), hidden))
        return states + self.drop(self.narrow(torch.nn.functional.gelu(self.wide(self.between(states)))))

    def attend(self, states: Any, hidden: Any) -> Any:
        """``hidden`` is added to the scores: far below 0 where a token is padding."""
        rows, length, width = states.shape
        split = self.mix(states).reshape(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + hidden
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(rows, length, width))


class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    """Token ids [rows, length] and their mask -> logits [rows, topics]."""

    def __init__(self, vocabulary: int, width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS) -> None:
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(TOKENS, width)
        for table in (self.tokens, self.places):
            torch.nn.init.normal_(table.weight, std=0.02)
        self.layers = torch.nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.normalise = torch.nn.LayerNorm(width)
        self.drop = torch.nn.Dropout(0.2)
        self.classify = torch.nn.Linear(width, len(LABELS))

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        mask = attention_mask.to(self.tokens.weight.dtype)
        states = self.drop(self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1])))
        hidden = (1 - mask)[:, None, None, :] * -10000.0
        for layer in self.layers:
            states = layer(states, hidden)
        weights = mask[:, :, None]
        pooled = (self.normalise(states) * weights).sum(1) / weights.sum(1)
        return self.classify(self.drop(pooled))


class Student(torch.nn.Module):  # type: ignore[misc]  # torch has no types here
    """The mean of the tokens' vectors and one hidden layer: no attention, no order of words."""

    def __init__(self, vocabulary: int, width: int = 128) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(vocabulary, width)
        torch.nn.init.normal_(self.tokens.weight, std=0.1)
        self.hide, self.classify = torch.nn.Linear(width, width), torch.nn.Linear(width, len(LABELS))
        self.drop = torch.nn.Dropout(0.3)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        weights = attention_mask.to(self.tokens.weight.dtype)[:, :, None]
        pooled = (self.tokens(input_ids) * weights).sum(1) / weights.sum(1)
        return self.classify(self.drop(torch.relu(self.hide(self.drop(pooled)))))


def encode(tokenizer: Any, rows: list[Row]) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """What the artifact takes, padded to TOKENS, and the labels' numbers."""
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch([text for text, _ in rows])
    inputs = {
        "input_ids": np.array([item.ids for item in found], dtype=np.int64),
        "attention_mask": np.array([item.attention_mask for item in found], dtype=np.int64),
    }
    tokenizer.no_padding()
    return inputs, np.array([LABELS.index(label) for _, label in rows], dtype=np.int64)


def batches(lengths: NDArray[Any], choose: random.Random) -> list[NDArray[Any]]:
    """Row numbers of one epoch, texts of about one length together: less padding."""
    order = np.argsort(lengths + np.array([choose.random() * 4 for _ in lengths]))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    choose.shuffle(parts)
    return parts


def train(model: Any, inputs: dict[str, NDArray[Any]], labels: NDArray[Any], seconds: float) -> None:
    """AdamW in BF16 where the processor has it, one cosine over EPOCHS or ``seconds``, whichever ends first."""
    began, choose = time.monotonic(), random.Random(0)
    lengths = inputs["attention_mask"].sum(1)
    order = [part for _ in range(EPOCHS) for part in batches(lengths, choose)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    model.train()
    for step, picked in enumerate(order):
        done = max(step / len(order), (time.monotonic() - began) / seconds)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * done)) / 2
        width = int(lengths[picked].max())
        given = [torch.from_numpy(array[picked][:, :width]) for array in inputs.values()]
        learn(model, optimizer, given, torch.from_numpy(labels[picked]))
    model.eval()
    print(f"trained {step} steps of {len(order)} in {time.monotonic() - began:.0f} s", flush=True)


def learn(model: Any, optimizer: Any, given: list[Any], wanted: Any) -> None:
    """One step."""
    with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
        logits = model(*given)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(logits.float(), wanted, label_smoothing=0.05).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def write_model(model: Any, tokenizer: Any, example: dict[str, NDArray[Any]]) -> None:
    """The model's folder: the graph with free rows and length, the tokenizer, the steps."""
    MODEL.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(MODEL / "tokenizer.json"))
    axes: tuple[str, ...] = ("batch", "seq")
    graph = Graph(inputs=dict.fromkeys(example, axes), outputs={"logits": ("batch", len(LABELS))})
    rows = {name: torch.from_numpy(array[:3, : TOKENS // 2]) for name, array in example.items()}
    export(model, rows, graph, MODEL / "model.onnx")
    labels = ", ".join(LABELS)
    (MODEL / "model.yaml").write_text(
        'description: "Which topic is a docstring about?"\n'
        "inputs:\n  text: {type: text, max_length: 2000}\n"
        f"preprocess:\n  - {{step: tokenise, input: text, max_length: {TOKENS}}}\n"
        "postprocess:\n  - {step: softmax, input: logits, output: probabilities}\n"
        "  - {step: arg_max, input: probabilities, output: label, largest: probability}\n"
        f"  - {{step: labels, input: label, labels: [{labels}]}}\n"
        "outputs: [label, probability, probabilities]\n",
        encoding="utf-8",
    )
    sample = {"instances": ["Return the eigenvalues of a real symmetric matrix."]}
    (MODEL / "sample.json").write_text(json.dumps(sample) + "\n", encoding="utf-8")


def make_data() -> None:
    known: set[str] = set()
    for split, file in (("train", TRAIN), ("held-out", HELD_OUT)):
        write_rows(file, rows := collect(split, known))
        print(split, {topic: sum(label == topic for _, label in rows) for topic in LABELS}, len(rows), flush=True)


def make_model(seconds: float) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    rows = read_rows(TRAIN)
    tokenizer = train_tokenizer([text for text, _ in rows])
    inputs, labels = encode(tokenizer, rows)
    model = Encoder(tokenizer.get_vocab_size())
    train(model, inputs, labels, seconds)
    torch.save(model.state_dict(), WEIGHTS)
    write_model(model, tokenizer, inputs)


def optimise(budget: str) -> int:
    """The search, as it is called on a command line, and its report beside the others."""
    command = [
        *(sys.executable, "-m", "forwardpass", "optimize", str(MODEL.relative_to(ROOT))),
        *("--data", str(HELD_OUT.relative_to(ROOT)), "--source", "examples/optimize/text_source.py"),
        *("--objective", "throughput", "--max-drop", "0.5%", "--metric", "accuracy", "--output", "label"),
        *("--budget", budget, "--out", str((BUILD / "optimized").relative_to(ROOT)), "--resume"),
    ]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status == 0:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_bytes((BUILD / "optimized.optimize" / "report.md").read_bytes())
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the docstring encoder and make it faster.")
    parser.add_argument("--seconds", type=float, default=300, help="most that training may take")
    parser.add_argument("--budget", default="15m", help="of forwardpass optimize")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if not HELD_OUT.exists():
        make_data()
    if not MODEL.exists():
        make_model(options.seconds)
    return optimise(options.budget)


if __name__ == "__main__":
    raise SystemExit(main())
