"""Folders with what belongs to a client each: text by file or folder, images by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mpfl.config import DataConfig
from mpfl.data import DataMissing, Dataset, load_data, partition
from mpfl.data.text import decode, encode
from mpfl.errors import InputError
from tests.mpfl.data.test_folder import picture, write

WINDOW = 65


def texts(folder: Path, **options: object) -> Dataset:
    return load_data(DataConfig(name="textfolder", folder=str(folder), **options), 0)  # type: ignore[arg-type]


def windows(data: Dataset, part: str) -> list[list[int]]:
    samples = getattr(data, part)
    return torch.cat([samples.inputs, samples.targets[:, -1:]], 1).tolist()


def sentence(word: str, count: int) -> bytes:
    """Return `count` windows in which every one differs, and a few characters more."""
    return "".join(f"{word} {n}".ljust(WINDOW, ".") for n in range(count)).encode() + b"the rest"


def test_a_file_or_a_folder_of_files_is_a_client(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.txt": sentence("bee", 10),
            "a/2.txt": sentence("two", 3),
            "a/deep/1.txt": sentence("one", 7),
            "a/short.txt": b"too short for a window, yet no mistake",
            "c": sentence("sea", 1),
            ".hidden": b"",
        },
    )
    data = texts(tmp_path)
    assert (data.classes, data.input_shape) == (97, (64,))
    assert np.bincount(data.groups).tolist() == [8, 8, 1]
    assert np.bincount(data.test_groups).tolist() == [2, 2]
    for part, groups in (("train", data.groups), ("test", data.test_groups)):
        for window, group in zip(windows(data, part), groups, strict=True):
            words = {"two", "one"}, {"bee"}, {"sea"}
            assert decode(np.array(window)).split()[0] in words[group]
            assert torch.equal(
                getattr(data, part).inputs[:, 1:], getattr(data, part).targets[:, :-1]
            )
    everything = sorted(windows(data, "train") + windows(data, "test"))
    cut = [encode(f"{word} {n}".ljust(WINDOW, ".")).tolist()
           for word, count in (("bee", 10), ("two", 3), ("one", 7), ("sea", 1))
           for n in range(count)]  # fmt: skip
    assert everything == sorted(cut)


def test_what_is_held_out_is_the_same_for_every_seed(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": sentence("a", 20), "b.txt": sentence("b", 9)})
    one = texts(tmp_path)
    other = load_data(DataConfig(name="textfolder", folder=str(tmp_path)), 7)
    assert windows(one, "test") == windows(other, "test")
    assert len(one.test) == 4 + 2


def test_bytes_are_tokens_where_they_are_asked_for(tmp_path: Path) -> None:
    content = bytes(range(1, 256)) + b"z" * 70
    write(tmp_path, {"a.txt": content})
    data = texts(tmp_path, level="byte")
    assert data.classes == 256
    assert sorted(windows(data, "train") + windows(data, "test")) == sorted(
        list(content[at : at + WINDOW]) for at in range(0, 5 * WINDOW, WINDOW)
    )


def test_characters_follow_the_rules_of_the_alphabet(tmp_path: Path) -> None:
    text = "\ufeff“It’s” – ß\r\nnext\rlast" + "x" * 60
    write(tmp_path, {"a.txt": text.encode(), "b.txt": sentence("b", 2)})
    window = windows(texts(tmp_path), "train")[0]
    assert decode(np.array(window)) == '"It\'s" - \x00\nnext\nlast' + "x" * (WINDOW - 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a.txt: an empty file, expected text"),
        (b" \n\n", "a.txt: an empty file, expected text"),
        (b"PK\x03\x04\x00" * 30, "a.txt: a binary file"),
        ("ab".encode("utf-16") * 40, "a.txt: a binary file"),
        (b"x" * 70 + "é".encode("latin-1"), "a.txt: not UTF-8 text (byte 70); convert it, or set"),
        (b"x" * 64, "a.txt: no text of at least 65 characters, which one sequence needs"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    write(tmp_path, {"a.txt": content, "b.txt": sentence("b", 3)})
    with pytest.raises(InputError) as caught:
        texts(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_or_empty_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        for name in ("textfolder", "imagefolder"):
            with pytest.raises(DataMissing, match=f"no files of {name}"):
                load_data(DataConfig(name=name, folder=str(folder)), 0)


def photos() -> dict[str, bytes]:
    return {
        f"{client}/{name}/{n}.png": picture(value + n)
        for client, name, value, count in (
            ("zoe", "cat", 0, 6),
            ("zoe", "dog", 20, 4),
            ("adam", "dog", 40, 10),
            ("eve", "cat", 60, 1),
        )
        for n in range(count)
    }


def test_images_of_a_folder_a_client_are_told_apart_by_client(tmp_path: Path) -> None:
    write(tmp_path, {**photos(), "notes.txt": b"no client", "eve/notes.txt": b"no class"})
    data = load_data(DataConfig(name="imagefolder", folder=str(tmp_path)), 0)
    assert (data.classes, data.input_shape) == (2, (3, 3, 4))
    assert np.bincount(data.groups).tolist() == [8, 1, 8]  # adam, eve, zoe
    assert np.bincount(data.test_groups).tolist() == [2, 0, 2]
    for samples, groups in ((data.train, data.groups), (data.test, data.test_groups)):
        for image, target, group in zip(samples.inputs, samples.targets, groups, strict=True):
            place = int(image[0, 0, 0]) // 20
            assert (place, int(target)) in {(0, 0), (1, 1), (2, 1), (3, 0)}
            assert group == (2, 2, 0, 1)[place]
    values = [int(v) for part in (data.train, data.test) for v in part.inputs[:, 0, 0, 0]]
    assert sorted(values) == [*range(6), *range(20, 24), *range(40, 50), 60]
    owned = partition(
        DataConfig(clients=3, partition="natural"), data.train.targets.numpy(), 0, data.groups
    )
    assert all(len(set(data.groups[part])) == 1 for part in owned)


def test_a_client_without_images_is_named(tmp_path: Path) -> None:
    write(tmp_path, {**photos(), "bob/cat/readme.txt": b"later"})
    with pytest.raises(InputError, match="bob: a client without images"):
        load_data(DataConfig(name="imagefolder", folder=str(tmp_path)), 0)


def test_half_of_a_divided_folder_is_no_client(tmp_path: Path) -> None:
    """Else images of a misspelt ``tests`` would be trained upon."""
    write(
        tmp_path,
        {f"{part}/cat/{n}.png": picture(int(n)) for part in ("train", "tests") for n in "12"},
    )
    with pytest.raises(InputError, match="train: expected a folder 'test' beside it"):
        load_data(DataConfig(name="imagefolder", folder=str(tmp_path)), 0)


def test_some_of_the_natural_clients_are_drawn_with_what_they_held_out(tmp_path: Path) -> None:
    write(tmp_path, {f"{n}.txt": sentence(f"w{n}", 10) for n in range(12)})
    chosen = set()
    for seed in range(3):
        data = load_data(DataConfig(name="textfolder", folder=str(tmp_path), groups=4), seed)
        names = set(data.groups.tolist())
        assert len(names) == 4
        assert set(data.test_groups.tolist()) == names
        assert (len(data.train), len(data.test)) == (32, 8)
        words = {decode(np.array(w)).split()[0] for w in windows(data, "train")}
        assert words == {decode(np.array(w)).split()[0] for w in windows(data, "test")}
        chosen.add(frozenset(words))
    assert len(chosen) == 3
    with pytest.raises(InputError, match=r"data\.groups: got 13, expected at most 12"):
        texts(tmp_path, groups=13)
    with pytest.raises(InputError, match=r"data\.groups: digits has no groups of its own"):
        load_data(DataConfig(groups=2), 0)


@pytest.mark.data
def test_the_plays_are_a_client_a_role(data_folder: Path) -> None:
    plays = data_folder / "plays"
    if not plays.is_dir():
        pytest.skip(f"no folder {plays}")
    data = texts(plays)
    assert len(set(data.groups.tolist())) == len(list(plays.iterdir()))
    assert 0.18 < len(data.test) / (len(data.test) + len(data.train)) < 0.22
