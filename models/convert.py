"""From one layout of a model's folder to another: what `configs/convert.py` describes.

Knows: folders in both layouts, dtypes, how far it is. Does not know: what is inside, who shows the
progress.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from aqua_jax.control import errors
from aqua_jax.loops import forward
from models import checkpoint, hf_folder

DTYPES = ("float32", "bfloat16")
_GIB = 2**30
# (done, of how many, in a few words how it goes)
_Progress = Callable[[float, float, str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The settings.

    source: the folder of a model, in either layout. target: a folder that is not there yet.
    layout: of the target, hf or orbax; "": the one that the source does not have. dtype: of its
    weights; "": as they are. shard_bytes: at most so many in a file of layout hf.
    """

    source: str = ""
    target: str = ""
    layout: str = ""
    dtype: str = ""
    shard_bytes: int = checkpoint.SHARD_BYTES

    def __post_init__(self) -> None:
        for name, known in (("layout", checkpoint.LAYOUTS), ("dtype", DTYPES)):
            value = getattr(self, name)
            if value and value not in known:
                raise errors.ConfigError(f"{name} is {value!r}{errors.close_match(value, known)}")
        if self.shard_bytes < 1:
            raise errors.ConfigError(f"shard_bytes is {self.shard_bytes}; give at least 1")

    @property
    def title(self) -> str:
        """What is done."""
        return f"converting {self.source} to {self.target}"

    def run(self, progress: _Progress) -> Iterator[str]:
        """Does it, in memory for the whole model; yields what came of it. Raises ConfigError."""
        for name in ("source", "target"):
            if not getattr(self, name):
                raise errors.ConfigError(f"{name} is missing: give a folder, --config.{name}=DIR")
        source, target = pathlib.Path(self.source), pathlib.Path(self.target)
        checkpoint.check_free(target)
        model = checkpoint.load(
            source,
            dtype=np.dtype(self.dtype) if self.dtype else None,
            mesh=_host(),
            progress=lambda read, total: progress(read / total, 2, f"read {_size(read)}"),
        )
        layout = self.layout or _other(checkpoint.layout(source))
        progress(1, 2, f"writing {layout}")
        checkpoint.save(
            model.params,
            self._config(source / hf_folder.CONFIG),
            target,
            layout=layout,
            shard_bytes=self.shard_bytes,
            companions=source,
            progress=lambda wrote, total: progress(1 + wrote / total, 2, f"wrote {_size(wrote)}"),
        )
        progress(2, 2, "done")
        whole = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
        yield f"{target}: {layout}, {_size(whole)} of weights"

    def _config(self, path: pathlib.Path) -> bytes:
        """The source's config.json as it is, but for the dtype where another is asked for."""
        text = path.read_bytes()
        fields: dict[str, Any] = json.loads(text)
        named = [name for name in ("dtype", "torch_dtype") if name in fields]
        if not self.dtype or not named:
            return text
        return json.dumps(fields | dict.fromkeys(named, self.dtype), indent=2).encode() + b"\n"


def _other(layout: str) -> str:
    return checkpoint.HF if layout == checkpoint.ORBAX else checkpoint.ORBAX


def _host() -> jax.sharding.Mesh:
    """The host, whatever other devices there are: its memory is the largest."""
    return jax.sharding.Mesh(np.array(jax.local_devices(backend="cpu")[:1]), (forward.TENSOR_AXIS,))


def _size(count: int) -> str:
    return f"{count / _GIB:.2f} GiB"
