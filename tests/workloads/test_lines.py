"""Lines of trace files: numbering, encodings, limits."""

from __future__ import annotations

import pytest

from aqua_jax.control import errors
from aqua_jax.workloads import lines


def test_lines_are_numbered_without_blank_ones_and_line_ends(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n\r\n 1,2 \nlast")
    assert list(lines.numbered(path)) == [(1, "a,b"), (3, " 1,2 "), (4, "last")]


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path):
    path = tmp_path / "trace"
    path.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(errors.TraceError, match="line 2: found byte 0xff; expected UTF-8"):
        list(lines.numbered(path))


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(errors.TraceError, match=r"No such file.*expected a trace file"):
        list(lines.numbered(tmp_path / "absent"))
    with pytest.raises(errors.TraceError, match=r"Is a directory.*expected a trace file"):
        list(lines.numbered(tmp_path))


def test_an_endless_line_is_refused_before_it_is_read_whole():
    with pytest.raises(errors.TraceError, match="line 1: found a longer line; expected at most"):
        next(lines.numbered("/dev/zero"))


def test_csv_rows_quote_and_pick_columns(tmp_path):
    path = tmp_path / "trace"
    path.write_text('a,"b, c",d\n1,"2,5",3\n')
    assert list(lines.csv_rows(path, ("d", "b, c"))) == [(2, ["3", "2,5"])]
