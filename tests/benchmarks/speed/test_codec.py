"""The codec table: complete, consistent, and refusing what makes no sense."""

import pytest

from benchmarks.speed.codec import codec_table


def test_every_codec_is_measured_against_the_same_bound():
    rows = codec_table(60_000, [0.05, 0.3])
    names = [row["codec"] for row in rows if row["fraction"] == 0.05]
    for expected in ("mpfl auto", "mpfl rans", "mpfl gaps", "zlib", "zstd", "bitarray sc_encode"):
        assert expected in names
    for row in rows:
        assert row["bits_per_unit"] == pytest.approx(8 * row["bytes"] / 60_000)
        assert row["size_over_bound"] > 0.999
        assert row["encode_mbit_per_second"] > 0
        assert row["decode_mbit_per_second"] > 0
    auto = [row for row in rows if row["codec"] == "mpfl auto"]
    assert all(row["size_over_bound"] <= 1.02 for row in auto)


@pytest.mark.parametrize(("bits", "fraction"), [(0, 0.1), (100, 0.0), (100, 1.0)])
def test_arguments_out_of_range_are_refused(bits, fraction):
    with pytest.raises(ValueError, match="expected"):
        codec_table(bits, [fraction])
