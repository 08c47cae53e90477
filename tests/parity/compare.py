"""Both sides live, every case and every attention, as a table: `python -m tests.parity.compare`.

The model is read from the files that the reference has written. Needs the extra `parity`. Fails
where they disagree, and where a golden file is not what the reference says today. Arguments: names
of cases; default all.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from aqua_jax.control import errors
from aqua_jax.loops import text
from models import checkpoint
from tests.parity import cases, golden, ours, reference

_COLUMNS = "{:12} {:24} {:10} {:>12} {:>12} {:>14} {:>6}  {}"
# Between two versions of the reference, as between two sides.
_STALE_ERROR = ours.RELATIVE_ERROR_MAX


def main(names: list[str]) -> None:
    """Raises SystemExit when anything disagrees."""
    print(
        _COLUMNS.format(
            "family", "case", "attention", "max rel err", "tokens of 64", "first near tie", "bits",
            "",
        ).rstrip()
    )  # fmt: skip
    chosen = [case for case in cases.CASES if not names or case.name in names]
    wrong = 0
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            wrong += sum(not agrees for agrees in _rows(case, pathlib.Path(folder)))
    print(f"{len(chosen)} cases, {wrong} disagreements; errors relative to the row's largest logit")
    if wrong or not chosen:
        raise SystemExit(1)


def _rows(case: cases.Case, folder: pathlib.Path) -> Iterator[bool]:
    """Prints the case's rows; of each, whether it agrees."""
    wanted = reference.answer(case, folder)
    model = checkpoint.load(folder, dtype="float32")
    note = "" if _is_fresh(case, wanted) else "golden file is stale: make it again"
    yield not note
    for attention in text.ATTENTIONS:
        row = (case.family, case.name, attention)
        try:
            found = ours.compare(model, wanted, attention)
        except errors.ConfigError as error:
            print(_COLUMNS.format(*row, "-", "-", "-", "-", f"cannot: {error}"[:160]))
            continue
        bits = "same" if found.same_bits else "DIFFER"
        said = note if found.agrees else f"DISAGREES {note}"
        figures = (f"{found.error:.1e}", found.tokens, found.near_tie, bits, said)
        print(_COLUMNS.format(*row, *figures).rstrip(), flush=True)
        yield found.agrees


def _is_fresh(case: cases.Case, wanted: golden.Golden) -> bool:
    kept = golden.read(case.golden)
    if kept.case != case.text or kept.logits.shape != wanted.logits.shape:
        return False
    near = min(kept.near_tie, wanted.near_tie)
    if not np.array_equal(kept.tokens[:near], wanted.tokens[:near]):
        return False
    positions = len(wanted.prompt) + near - 1
    differ = np.abs(kept.logits - wanted.logits)[:positions].max()
    return bool(differ <= _STALE_ERROR * np.abs(wanted.logits).max())


if __name__ == "__main__":
    main(sys.argv[1:])
