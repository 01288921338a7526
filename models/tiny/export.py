"""A trained network as GGUF, and the proof that llama.cpp computes the same.

Knows tensor names and Q8_0. Does not know training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from models.tiny.network import Network
from models.tiny.vocabulary import Vocabulary

_NAMES = {
    "attn_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def write(network: Network, vocabulary: Vocabulary, template: str, path: Path, kind: str) -> None:
    """Write the model. `kind` is `q8_0` (norms stay float32) or `f32`."""
    shape = network.shape
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-tools")
    writer.add_description("A tiny demo of tool calls, trained on synthetic conversations")
    writer.add_license("apache-2.0")
    writer.add_languages(["en", "ko"])
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_sampling_temp(0.0)  # so small a model is best at its first guess
    q8 = kind == "q8_0"
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if q8 else gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary.write(writer, template)
    for name, array in tensors(network):
        if q8 and array.ndim == 2:
            packed = gguf.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(network: Network) -> list[tuple[str, NDArray[np.float32]]]:
    """All tensors by llama.cpp's names, in its order of rows."""
    shape = network.shape
    out = [("token_embd.weight", _array(network.embedding))]
    for index, block in enumerate(network.blocks):
        for ours, theirs in _NAMES.items():
            array = _array(getattr(block, ours))
            if ours in ("q", "k"):
                heads = shape.heads if ours == "q" else shape.kv_heads
                array = _neighbours(array, heads)
            out.append((f"blk.{index}.{theirs}.weight", array))
    out.append(("output_norm.weight", _array(network.norm)))
    return out


def _array(parameter: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = parameter.detach().float().numpy()
    return np.ascontiguousarray(array)


def _neighbours(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from halves (a0 a1 .. b0 b1 ..) to pairs (a0 b0 a1 b1 ..)."""
    rows, columns = array.shape
    halves = array.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def difference(network: Network, path: Path, ids: list[int]) -> float:
    """The largest difference between PyTorch's and llama.cpp's log-probabilities after `ids`.

    Both see the same tokens; only the file's rounding and the order of sums may differ.
    """
    import engine

    with torch.no_grad():
        rows = network(torch.tensor([ids]))[0, -1:]
        ours = torch.log_softmax(network.logits(rows).float(), -1)[0].numpy()
    with engine.load(path, n_ctx=2048, threads=1) as model:
        sequence = model.sequence()
        sequence.append(ids, "template")
        theirs = torch.log_softmax(torch.tensor(sequence.logits().copy()), -1).numpy()
    likely = ours > np.log(1e-4)
    return float(np.abs(ours - theirs)[likely].max())
