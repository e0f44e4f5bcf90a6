"""Sentences for the text encoder, and the WordPiece tokenizer trained on them.

The sentences are put together from parts, so that they differ in words and in length (about 28
tokens, as in a usual feed of short texts) and are the same on every machine.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

OPENINGS = (
    "The shipment of spare parts left the northern warehouse on Tuesday",
    "Our new colleague from the finance department asked for a meeting",
    "After days of heavy rain the river rose above the old bridge",
    "The committee published its yearly report on public transport",
    "Nobody expected the small theatre to sell every ticket in advance",
    "A reader wrote to us about the price of heating",
    "The software update was installed during the night shift",
    "Farmers in the valley have started to grow almonds",
)
MIDDLES = (
    "but the customs wanted more forms before the driver could cross",
    "although most people in the room already knew how it would end",
    "because the older system could no longer be repaired",
    "and within an hour the telephone lines of the town hall were busy",
    "while the engineers compared the figures with those of last winter",
    "so the mayor decided to close the road",
    "which surprised even the experts who had studied it for years",
    "and the insurance company agreed to pay",
)
ENDINGS = (
    "until the end of May.",
    "with little warning.",
    "as the local newspaper said.",
    "without delay.",
)


def sentences(count: int) -> list[str]:
    """``count`` (at most 256) different sentences in a fixed, mixed order."""
    every = [f"{a}, {b} {c}" for a, b, c in product(OPENINGS, MIDDLES, ENDINGS)]
    return [every[(number * 97) % len(every)] for number in range(count)]


def mixed_texts(count: int = 256, seed: int = 11) -> list[str]:
    """Texts of 4 to 128 tokens in a fixed, mixed order: most are short, a few long (log-normal, mean about 30)."""
    chance = Random(seed)
    words = " ".join(sentences(256)).replace(",", "").replace(".", "").split()
    texts: list[str] = []
    while len(texts) < count:
        length = round(chance.lognormvariate(3.2, 0.7)) - 2  # without the two that stand for begin and end
        if 2 <= length <= 126:
            start = chance.randrange(len(words) - length)
            texts.append(" ".join(words[start : start + length]))
    return texts


def train_tokenizer() -> Any:
    """A lower-casing WordPiece tokenizer with ``[CLS]`` and ``[SEP]``, as BERT models have."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(256), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer
