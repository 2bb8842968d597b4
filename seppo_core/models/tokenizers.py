"""Whether the tokenizers of a base can read for its text encoders, and how much of a caption they read.

A folder that lost a tokenizer's vocabulary still loads: transformers makes a tokenizer of the few special tokens, and
every caption becomes the same one.
"""

from diffusers import DiffusionPipeline
from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEAST_SHARE = 0.9
"""Share of the encoder's vocabulary that its tokenizer has at least. Published encoders round theirs up: the widest
gap is that of HunyuanVideo's LLaMA and of Qwen2.5-VL, 0.3 %."""
SOME_WORDS = 16
"""Number of the vocabulary's longest words that are read for a try."""


def match_tokenizers(pipeline: DiffusionPipeline, base: str) -> None:
    """Checks every tokenizer of `pipeline` against its text encoder; one without a limit takes the encoder's.

    Raises ValueError, with the cure, for one that lacks its vocabulary or belongs to another encoder.
    """
    for name, encoder in pipeline.components.items():
        if name.startswith("text_encoder") and encoder is not None:
            part = name.replace("text_encoder", "tokenizer")
            tokenizer = pipeline.components[part]
            if tokenizer is None:
                raise ValueError(f"base={base!r} has a {name} and no {part}; {_cure(part)}")
            _check_vocabulary(tokenizer, encoder, f"the {part} of base={base!r}", _cure(part))
            _limit(tokenizer, encoder)


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, what: str, cure: str) -> None:
    known = encoder.get_input_embeddings().num_embeddings
    vocabulary = tokenizer.get_vocab()
    if (highest := max(vocabulary.values(), default=-1)) >= known:
        raise ValueError(
            f"{what} gives token numbers up to {highest}, its text encoder knows {known} tokens, so that the two do "
            f"not belong together; {cure}"
        )
    if len(vocabulary) < LEAST_SHARE * known:
        raise ValueError(
            f"{what} knows {len(vocabulary)} tokens, its text encoder {known}: the vocabulary is missing or another "
            f"one's, and captions would lose their words; {cure}"
        )
    if (words := _long_words(tokenizer, vocabulary)) and not any(_whole(tokenizer, word) for word in words):
        raise ValueError(
            f"{what} takes every word apart, even {words[0]!r}, which its vocabulary holds: its merges are missing; "
            f"{cure}"
        )


def _long_words(tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int]) -> list[str]:
    """Some of the longest words that begin a text and are one token; none if the vocabulary is of letters."""
    plain = set(vocabulary) - set(tokenizer.all_special_tokens)
    # a word's end or beginning is marked by each kind in its own way
    bare = (token.removesuffix("</w>").removeprefix("▁").removeprefix("Ġ") for token in plain)
    words = {word for word in bare if len(word) > 3 and word.isascii() and word.isalpha() and word.islower()}
    return sorted(words, key=lambda word: (-len(word), word))[:SOME_WORDS]


def _whole(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    # in the middle of a text, for some mark a word by the space before it
    return any(len(tokenizer(text, add_special_tokens=False).input_ids) == 1 for text in (word, f" {word}"))


def _limit(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    positions = encoder.config.to_dict().get("max_position_embeddings")
    # a config that says nothing leaves the library's huge number
    if positions is not None and tokenizer.model_max_length > positions:
        tokenizer.model_max_length = positions


def _cure(part: str) -> str:
    return f"copy the whole folder {part} of the model that it was made from, vocabulary files and all"
