"""Image folders and packed ones: order, conversion, the decoded copy, unreadable files."""

from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from mpfl.config import DataConfig
from mpfl.data import folder, load_data
from mpfl.data.vision import CIFAR10_CLASSES
from mpfl.errors import InputError


def picture(value, size=(4, 3), mode="RGB"):
    buffer = io.BytesIO()
    fill = value if mode == "L" else (value, 2 * value, 0)
    Image.new(mode, size, fill).save(buffer, "PNG")
    return buffer.getvalue()


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def load(root, name="imagefolder"):
    return load_data(DataConfig(name=name, folder=str(root)), 0)


def test_folders_are_read_in_order_of_class_and_name(tmp_path):
    write(
        tmp_path,
        {
            "train/dog/b.png": picture(3),
            "train/dog/a.png": picture(2),
            "train/cat/z.png": picture(1),
            "train/cat/notes.txt": b"not an image",
            "test/dog/a.PNG": picture(9),
        },
    )
    data = load(tmp_path)
    assert (data.classes, data.input_shape) == (2, (3, 3, 4))
    assert data.train.targets.tolist() == [0, 1, 1]
    assert data.train.inputs[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert data.train.inputs[:, 1, 2, 3].tolist() == [2, 4, 6]
    assert data.test.targets.tolist() == [1]
    inputs, _ = data.test.batch(torch.tensor([0]))
    assert inputs[0, 0, 0, 0].item() == pytest.approx((9 / 255 - 0.5) / 0.25)


@pytest.mark.parametrize(("first", "channels"), [("L", 1), ("RGB", 3)])
def test_the_first_image_decides_size_and_colour(tmp_path, first, channels):
    other = "RGB" if first == "L" else "L"
    write(
        tmp_path,
        {
            "train/a/0.png": picture(50, (5, 2), first),
            "train/a/1.png": picture(50, (9, 9), other),
            "test/a/0.png": picture(50, (1, 7), other),
        },
    )
    data = load(tmp_path)
    assert data.input_shape == (channels, 2, 5)
    assert data.test.inputs.shape == (1, channels, 2, 5)
    assert len(data.test.inputs.unique()) <= channels


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/a/0.png": b"\x89PNG"}, "train/a/0.png: not a readable image"),
        ({"train/a/0.png": picture(1)[:50]}, "train/a/0.png: not a readable image"),
        ({"test/a/0.png": picture(1)}, "no images in train/<class>/"),
        (
            {"train/a/0.png": picture(1), "test/b/0.png": picture(1)},
            "class 'b' has test but no training images",
        ),
    ],
)
def test_unfit_folders_are_refused_by_name(tmp_path, files, message):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    write(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def cifar_like(classes=CIFAR10_CLASSES, size=(32, 32)):
    return {
        f"{part}/{name}/{file}.png": picture(10 * label + file, size)
        for label, name in enumerate(classes)
        for part, count in (("train", 2), ("test", 1))
        for file in range(count)
    }


def pack(path, files):
    with tarfile.open(path, "w:xz") as archive:
        for name in sorted(files, reverse=True):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))


def test_packed_and_unpacked_cifar10_are_the_same(tmp_path):
    (tmp_path / "packed").mkdir()
    pack(tmp_path / "packed" / "cifar10-jpeg.tar.xz", cifar_like())
    write(tmp_path / "folders", cifar_like())
    one, other = (load(tmp_path / place, "cifar10") for place in ("packed", "folders"))
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
    assert one.train.targets.tolist() == [label for label in range(10) for _ in range(2)]
    assert one.train.inputs[5, 0, 0, 0] == 21


def test_a_decoded_copy_is_used_until_the_packed_file_changes(tmp_path):
    path = tmp_path / "cifar10-jpeg.tar.xz"
    pack(path, cifar_like())
    fresh = load(tmp_path, "cifar10")
    (copy,) = tmp_path.glob("*.npz")
    with np.load(copy) as stored:
        marked = dict(stored)
    marked["train_images"][0] = 77
    np.savez(copy, **marked)
    assert load(tmp_path, "cifar10").train.inputs[0].unique().tolist() == [77]
    os.utime(path, ns=(0, 12345))
    assert torch.equal(load(tmp_path, "cifar10").train.inputs, fresh.train.inputs)
    assert not list(tmp_path.glob("*.tmp"))


def test_nothing_is_written_to_a_folder_marked_read_only(tmp_path):
    pack(tmp_path / "cifar10-jpeg.tar.xz", cifar_like())
    tmp_path.chmod(0o555)
    try:
        assert len(load(tmp_path, "cifar10").train) == 20
        assert [path.name for path in tmp_path.iterdir()] == ["cifar10-jpeg.tar.xz"]
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_does_not_stop_the_load(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    pack(tmp_path / "cifar10-jpeg.tar.xz", cifar_like())
    monkeypatch.setattr(np, "savez", full)
    assert len(load(tmp_path, "cifar10").train) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10-jpeg.tar.xz"]


@pytest.mark.parametrize("classes", [CIFAR10_CLASSES[:9], CIFAR10_CLASSES])
def test_other_images_do_not_pass_for_cifar10(tmp_path, classes):
    size = (32, 32) if len(classes) < 10 else (28, 28)
    write(tmp_path, cifar_like(classes, size))
    with pytest.raises(ValueError, match="not those of CIFAR-10"):
        load(tmp_path, "cifar10")


@pytest.mark.parametrize("keep", [0, 40, 300, 0.5, 0.8])
def test_a_damaged_tar_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "cifar10-jpeg.tar.xz"
    pack(path, cifar_like())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"cifar10-jpeg.tar.xz"):
        load(tmp_path, "cifar10")
    assert not list(tmp_path.glob("*.npz"))


RAMP = np.arange(256).reshape(16, 16)


def encoded(pixels, form="PNG", mode=None, **options):
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, form, **options)
    return buffer.getvalue()


def one_class(content, ending="png"):
    return {f"{part}/a/0.{ending}": content for part in ("train", "test")}


BYTES = RAMP.astype(np.uint8)
AS_BYTES = {
    "8 bit": encoded(BYTES),
    "16 bit": encoded((RAMP * 257).astype(np.uint16)),
    "16 bit TIFF": encoded((RAMP * 257).astype(np.uint16), "TIFF"),
    "32 bit TIFF": encoded((RAMP * 257).astype(np.int32), "TIFF"),
    "shares": encoded((RAMP / 255).astype(np.float32), "TIFF"),
    "alpha": encoded(BYTES, mode="LA"),
    "colour and alpha": encoded(BYTES, mode="RGBA"),
    "palette": encoded(BYTES, mode="P"),
    "palette, transparent": encoded(BYTES, mode="P", transparency=bytes(range(256))),
    "colour": encoded(BYTES, "BMP", mode="RGB"),
    "CMYK": encoded(BYTES, "TIFF", mode="CMYK"),
}


@pytest.mark.parametrize("kind", AS_BYTES)
def test_every_kind_of_image_gives_the_same_bytes(tmp_path, kind):
    write(tmp_path, one_class(AS_BYTES[kind]))
    pixels = load(tmp_path).train.inputs[0].numpy()
    assert all((channel == BYTES).all() for channel in pixels)


def test_sixteen_bits_are_read_among_colours_and_a_bit_is_black_or_white(tmp_path):
    write(
        tmp_path,
        one_class(encoded(BYTES, mode="RGB"))
        | {
            "train/a/1.png": encoded((RAMP * 257).astype(np.uint16)),
            "train/a/2.png": encoded(RAMP > 99),
        },
    )
    found = load(tmp_path).train.inputs.numpy()
    assert (found[1] == BYTES).all()
    assert (found[2] == 255 * (RAMP > 99)).all()


def test_images_stand_as_their_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, one_class(encoded(BYTES[:8], "PNG", exif=exif)))
    data = load(tmp_path)
    assert data.input_shape == (1, 16, 8)
    assert (data.train.inputs[0, 0].numpy() == np.rot90(BYTES[:8], -1)).all()


@pytest.mark.parametrize(
    "name",
    [".DS_Store/x.png", ".ipynb_checkpoints/x.png", "__MACOSX/x.png", "a/.x.png", "a/._0.png",
     "a/__MACOSX/x.png", "Thumbs.db", "a/Thumbs.db", "notes.txt", "a/notes.txt"],
)  # fmt: skip
def test_what_systems_leave_behind_is_no_data(tmp_path, name):
    write(tmp_path, one_class(picture(1)) | {f"train/{name}": picture(2)})
    data = load(tmp_path)
    assert (data.classes, len(data.train)) == (1, 1)


def test_links_and_folders_in_a_class_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path, one_class(picture(1)) | {"train/a/z/b/1.png": picture(2)})
    write(tmp_path, {"elsewhere/x.png": picture(3)})
    (tmp_path / "train" / "a" / "back").symlink_to(tmp_path / "train" / "a")
    (tmp_path / "train" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    data = load(tmp_path)
    assert data.train.inputs[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert data.train.targets.tolist() == [0, 0, 1]


HUGE = encoded(np.zeros((20000, 20000), bool))
UNREADABLE = {
    "nothing": b"",
    "half": AS_BYTES["16 bit"][:60],
    "a page": b"<html>not found</html>",
    "huge": HUGE,
    "not a share": encoded((RAMP / 25).astype(np.float32), "TIFF"),
    "no number": encoded(np.full((4, 4), np.nan, np.float32), "TIFF"),
    "beyond 16 bits": encoded((RAMP * 70000).astype(np.int32), "TIFF"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_image_that_cannot_be_used_is_named_in_one_line(tmp_path, kind):
    write(tmp_path, one_class(picture(1)) | {"train/b/bad.png": UNREADABLE[kind]})
    with pytest.raises(InputError, match=r"^[^\n]*train/b/bad.png: [^\n]+$"):
        load(tmp_path)


def test_a_class_without_images_and_an_oversized_file_are_named(tmp_path):
    write(tmp_path, one_class(picture(1)))
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(InputError, match="train/b: a class without images"):
        load(tmp_path)
    with (tmp_path / "train" / "b" / "x.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"train/b/x.png: 1,099,511,627,776 bytes"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["half", "flip", "empty", "another file", "strange labels"])
def test_a_damaged_decoded_copy_is_made_again(tmp_path, damage):
    pack(tmp_path / "cifar10-jpeg.tar.xz", cifar_like())
    fresh = load(tmp_path, "cifar10")
    (copy,) = tmp_path.glob("*.npz")
    whole = copy.read_bytes()
    with np.load(copy) as stored:
        arrays = dict(stored)
    if damage == "strange labels":
        np.savez(copy, **{**arrays, "test_labels": arrays["test_labels"] + 10})
    else:
        place = len(whole) // 2
        flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        copy.write_bytes(
            {"half": whole[:place], "flip": flipped, "empty": b"", "another file": HUGE}[damage]
        )
    again = load(tmp_path, "cifar10")
    assert torch.equal(again.train.inputs, fresh.train.inputs)
    with np.load(copy) as stored:
        assert all((stored[name] == arrays[name]).all() for name in arrays)


def test_a_packed_set_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MOST_UNPACKED", 100_000)
    path = tmp_path / "cifar10-jpeg.tar.xz"
    pack(path, {"train/cat/0.png": picture(1), "zeros": bytes(10**6)})
    with pytest.raises(InputError, match=r"cifar10-jpeg.tar.xz: unpacks to more than 100,000"):
        load(tmp_path, "cifar10")
