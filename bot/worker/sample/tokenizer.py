"""The tokenizer of Phi-3 and Phi-3.5: SentencePiece BPE with byte fallback, in all the files that they ship."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers.convert_slow_tokenizer import generate_merges

from bot.records.artifacts import Json
from bot.worker.sample import templates
from bot.worker.sample.tokens import ID, PIECES, WITH_IMAGES


def write(documents: Sequence[str], longest: int, out: Path) -> None:
    """Train the tokenizer on documents and write its five files into the folder ``out``.

    ``longest`` is the number of positions that the model has.
    """
    model = _train(documents)
    (out / "tokenizer.model").write_bytes(model)
    _json(out / "added_tokens.json", ID)
    _write_newer(model, ID, longest, out)


def write_with_images(documents: Sequence[str], longest: int, out: Path) -> None:
    """Write the three files that the models with pictures ship, which have no tokenizer.model, as ``write`` does."""
    _write_newer(_train(documents), WITH_IMAGES, longest, out)


def _write_newer(model: bytes, marks: Mapping[str, int], longest: int, out: Path) -> None:
    _fast(model, marks).save(str(out / "tokenizer.json"))
    _json(out / "special_tokens_map.json", _special_tokens_map())
    _json(out / "tokenizer_config.json", _tokenizer_config(longest, marks))


def _train(documents: Sequence[str]) -> bytes:
    """Return a SentencePiece model with the settings of Llama's, which Phi-3 took over. One thread: same bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for d in documents for line in d.splitlines() if line]),
        model_writer=model,
        model_type="bpe",
        vocab_size=PIECES,
        character_coverage=0.995,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        max_sentence_length=1 << 20,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=1,
    )
    return _spaces_last(model.getvalue())


def _spaces_last(model: bytes) -> bytes:
    """Let runs of spaces be joined after everything else, as in Llama's and Phi-3's own model.

    So the last space of an indentation goes to the word behind it; onnxruntime-extensions takes that for granted.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    lowest = min(piece.score for piece in proto.pieces)
    for piece in proto.pieces:
        if len(piece.piece) > 1 and not piece.piece.strip("▁"):
            piece.score = lowest - len(piece.piece)
    return bytes(proto.SerializeToString(deterministic=True))


def _fast(model: bytes, marks: Mapping[str, int]) -> Tokenizer:
    """Turn a SentencePiece model into the tokenizer.json of Phi-3.5's form, which gives the same ids."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in range(len(pieces))}
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=generate_merges(vocabulary, scores),
            unk_token=pieces.id_to_piece(0),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    for content, flags in _added_tokens(marks).values():
        add = tokenizer.add_special_tokens if flags["special"] else tokenizer.add_tokens
        add([AddedToken(content, **flags)])
    return tokenizer


def _added_tokens(marks: Mapping[str, int]) -> dict[int, tuple[str, dict[str, bool]]]:
    """Return each added token by id, with its flags: white space after Phi-3's own marks is swallowed."""
    swallowing = {"</s>", *marks} - {"<|endoftext|>"}
    return {
        i: (
            content,
            {
                "lstrip": False,
                "normalized": False,
                "rstrip": content in swallowing,
                "single_word": False,
                "special": i != 2,  # Phi-3 does not count </s>
            },
        )
        for content, i in {"<unk>": 0, "<s>": 1, "</s>": 2, **marks}.items()
    }


def _special_tokens_map() -> dict[str, Json]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    contents = {"bos": "<s>", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "unk": "<unk>"}
    return {f"{name}_token": {"content": content} | flags for name, content in contents.items()}


def _tokenizer_config(longest: int, marks: Mapping[str, int]) -> dict[str, Json]:
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(i): {"content": token} | flags for i, (token, flags) in _added_tokens(marks).items()
        },
        "bos_token": "<s>",
        "chat_template": templates.PHI_3,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": longest,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }


def _json(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
