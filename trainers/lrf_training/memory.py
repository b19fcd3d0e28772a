"""Estimated GPU memory of a training (docs/how-to/train-on-a-cluster.md). Imports no torch.

What autograd keeps is counted tensor by tensor for a layer of a model with gated MLPs and RMS norms. Two constants say
by how much more a layer's attention and MLP take than is counted: temporaries and the allocator's gaps. They are fitted
on two published points (``tests/trainers/test_memory.py``) and hold for the others, and for peaks measured on a CPU
(``benchmarks/training_memory.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lrf_training.shape import ModelShape

GIB = 2**30
ANSWER_TOKENS = 1024
"""Assumed length of an answer."""
LIVE_PARAMETERS = 1_000_000_000
"""Parameters that ZeRO-3 gathers at a time (DeepSpeed's stage3_max_live_parameters)."""
BUCKET = 500_000_000
"""Numbers in DeepSpeed's bucket of gradients (reduce_bucket_size); ZeRO-2 has two, since it overlaps them."""
TILE_TOKENS, TILE_WORDS = 4096, 32768
"""Size of a tile of logits (TRL's fused LM head)."""

AROUND_ATTENTION, AROUND_MLP = 1.355, 0.935
"""What a layer takes over what is counted: fitted on 650k and 1.2M tokens of Llama-8B on an H200 (arXiv 2506.13996)."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward and backward pass of one process holds, besides weights.

    Parameters
    ----------
    tokens: of this process at once; ``scored`` are those whose log-probabilities are computed.
    stream: bytes a number of the hidden states between layers; ``compute`` of those in matrix products.
    tiles: parts in which MLPs go through a sequence.
    checkpointed: whether activations are computed again in the backward pass; ``offloaded``, whether those that are
        kept wait in the CPU's memory.
    fused: norms and MLPs by Liger's kernels, which keep less than torch (lrf's trainers use torch's).
    copies: whether adapters cast each linear layer's input to a copy of its own.
    masked: sequences with a mask of length².
    tiled_head: logits in tiles, of scored tokens only; else all at once, in float32.
    head_trained: whether the LM head has a gradient.
    """

    tokens: float
    scored: float
    stream: int
    compute: int
    tiles: int = 1
    checkpointed: bool = True
    offloaded: bool = False
    fused: bool = False
    copies: bool = False
    masked: int = 0
    tiled_head: bool = True
    head_trained: bool = True

    def kept(self, shape: ModelShape) -> float:
        """Bytes kept from the forward to the backward pass."""
        if self.checkpointed:
            return 0.0 if self.offloaded else self.tokens * self.stream * shape.hidden * shape.layers
        whole = self._saved_by_attention(shape) + self._saved_by_mlp(shape, self.tiles)
        return 0.0 if self.offloaded else self.tokens * shape.layers * whole

    def layer(self, shape: ModelShape) -> float:
        """Bytes at the peak of one layer's backward pass, beyond what is kept."""
        saved = self._saved_by_attention(shape) if self.checkpointed or self.offloaded else 0.0
        states = self.stream * shape.hidden
        # its MLP: the layer's input, what attention has saved, and the gradient that comes in
        mlp = 2 * states + saved
        inner = self._mlp_at_work(shape) / self.tiles + (2 * states if self.tiles > 1 else 0)
        # its attention: gradients of query, keys, values and output; the flash kernel sums the query's in float32
        attention: float = self.compute * (2 * shape.query + shape.keys) + 4 * shape.query
        attention += 2 * states + saved - self._norm(shape) - states
        of_mlp = AROUND_ATTENTION * mlp + AROUND_MLP * inner
        return self.tokens * max(of_mlp, AROUND_ATTENTION * attention)

    def logits(self, shape: ModelShape) -> float:
        """Bytes of logits, their gradients, and the gradient of the LM head's weights."""
        if not self.tiled_head:  # the logits, a copy in float32, log-probabilities, and a gradient
            return self.tokens * shape.vocab * (self.compute + 3 * 4)
        tile = min(self.scored, TILE_TOKENS) * min(shape.vocab, TILE_WORDS) * self.compute
        return tile + 4 * self.scored * shape.hidden + (4 * shape.head if self.head_trained else 0)

    def masks(self) -> float:
        """Bytes of boolean masks."""
        return self.masked * (self.tokens / max(self.masked, 1)) ** 2

    def _saved_by_attention(self, shape: ModelShape) -> float:
        """Both norms, query, keys, values and output of the attention, and the hidden states after it."""
        attention = self.compute * (2 * shape.query + shape.keys)
        copies = 3 * self.compute * shape.hidden if self.copies else 0  # two of query, keys, values, one of gate and up
        return 2 * self._norm(shape) + attention + copies + self.stream * shape.hidden

    def _norm(self, shape: ModelShape) -> float:
        """What a norm saves, with the input of the matrix products after it."""
        inputs = self.compute * shape.hidden
        if self.fused:
            return inputs
        return inputs + self.stream * shape.hidden + (4 * shape.hidden if self.stream == 2 else 0)

    def _saved_by_mlp(self, shape: ModelShape, tiles: int) -> float:
        return 0.0 if tiles > 1 else self.compute * 2 * shape.inner

    def _mlp_at_work(self, shape: ModelShape) -> float:
        """The MLP's inner states, of which `inner` are half, and gradients: six of a gate's size; four if fused."""
        return self.compute * (2 if self.fused else 3) * shape.inner


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on each GPU at the peak, by purpose; the parts add up.

    ``at_work`` is the larger of a layer's backward pass and the logits. ``gradients`` are those that are there at the
    peak: with one micro-batch a step they come as the kept activations go.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    activations: float
    at_work: float
    masks: float

    @property
    def together(self) -> float:
        return sum(float(getattr(self, name)) for name in self.__slots__)


def estimate(settings: Any, shape: ModelShape, world: int, longest: int, answer: int = ANSWER_TOKENS) -> MemoryEstimate:
    """The memory of a training of rows of ``longest`` tokens, with answers of ``answer``, in ``world`` processes.

    ``settings`` are a :class:`lrf_training.settings.TrainingSettings`.
    """
    zero, offload, lora = settings.zero, settings.offload, getattr(settings, "lora", None)
    compute = 4 if settings.dtype == "float32" else 2
    trained = shape.adapters(lora.rank) if lora else shape.parameters
    buffers = 0.0
    if zero:
        weights, gradients = 1.0 * compute * shape.parameters, compute * trained / world
        optimizer = (12.0 if compute == 2 else 8.0) * trained / world  # with float32 weights, if these aren't
        bucket = min(BUCKET, trained) * compute
        buffers = bucket * (2 if zero == 2 else 1)
        if zero == 3:
            buffers += compute * max(min(LIVE_PARAMETERS, shape.parameters), shape.largest)
            weights = 0.0 if offload == "all" else weights / world
        if offload != "none":
            gradients = optimizer = 0.0
    else:
        copies = 2.0 * trained if compute == 2 else 0.0  # autocast keeps bfloat16 copies of what is trained
        held = compute * shape.parameters + 4.0 * trained if lora else 4.0 * shape.parameters
        weights, gradients, optimizer = held + copies, 4.0 * trained, 8.0 * trained
    work = pass_of(settings, shape, longest, answer)
    kept = work.kept(shape)
    if not zero and settings.shares(world).accumulation == 1:
        gradients = max(gradients - kept, 0.0)
    at_work = max(work.layer(shape), work.logits(shape))
    return MemoryEstimate(weights, gradients, optimizer, buffers, kept, at_work, work.masks())


def pass_of(settings: Any, shape: ModelShape, longest: int, answer: int = ANSWER_TOKENS) -> Pass:
    """One process's forward and backward pass of a micro-batch of the longest rows."""
    lora, compute = getattr(settings, "lora", None), 4 if settings.dtype == "float32" else 2
    answers, answer = settings.answers_a_row, min(answer, longest)
    whole = settings.sequences_a_row > 1 or (answers > 1 and shape.plain is not None)
    sequences = max(settings.sequences_a_row, answers) if whole else 1
    tokens = longest * sequences if whole else longest + answer * (answers - 1)
    scored = settings.micro_batch * (answer * answers if answers > 1 else tokens) if settings.has_lm_head else 0
    return Pass(
        tokens=settings.micro_batch * tokens / settings.sequence_parallel,
        scored=scored,
        stream=2 if compute == 2 and (settings.zero or lora) else 4,  # float32 weights give float32 hidden states
        compute=compute,
        tiles=settings.mlp_tiles,
        checkpointed=settings.gradient_checkpointing,
        offloaded=getattr(settings, "activation_offload", False),
        copies=bool(lora) and compute == 2,
        masked=settings.micro_batch * sequences if whole else 0,
        head_trained=not lora and settings.has_lm_head,
    )
