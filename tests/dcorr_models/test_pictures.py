from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from dcorr_models.errors import UserError
from dcorr_models.pictures import (
    data_uri,
    grid,
    labelled_grid,
    png_bytes,
    read_image_file,
    to_bytes,
)

GREY = (1, 28, 28)
UNKNOWN_DDS = b"DDS " + (124).to_bytes(4, "little") + bytes(120)  # Pillow: NotImplementedError


class TestToBytes:
    def test_every_byte_survives_the_way_to_floats_and_back(self):
        stored = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
        for low, high in ((0.0, 1.0), (-1.0, 1.0)):
            floats = stored.float() / 255 * (high - low) + low
            assert (to_bytes(floats, value_range=(low, high))[..., 0] == stored[0].numpy()).all()

    def test_values_outside_are_cut_and_nan_is_black(self):
        values = torch.tensor([[[-0.5, 1.5, float("nan"), float("inf")]]])
        assert to_bytes(values).ravel().tolist() == [0, 255, 0, 255]

    @pytest.mark.parametrize("shape", [(28, 28), (2, 28, 28), (5, 4, 28, 28)])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match="1 or 3 channels"):
            to_bytes(torch.zeros(shape))

    def test_refuses_an_empty_range(self):
        with pytest.raises(ValueError, match="low < high"):
            to_bytes(torch.zeros(GREY), value_range=(1.0, 1.0))


class TestGrid:
    def test_each_pixel_lies_where_it_belongs(self):
        images = torch.rand(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        padding, scale = 3, 2
        picture = np.asarray(grid(images, padding=padding, scale=scale, background=7))
        assert picture.shape == (2 * 8 + 3, 3 * 10 + 2 * 3, 3)
        wanted = np.full_like(picture, 7)
        for r in range(2):
            for c in range(3):
                for y in range(8):
                    for x in range(10):
                        wanted[r * 11 + y, c * 13 + x] = to_bytes(images[r, c])[y // 2, x // 2]
        assert (picture == wanted).all()

    def test_a_gap_after_the_first_column(self):
        white = torch.ones(1, 3, 1, 2, 2)
        row = np.asarray(grid(white, padding=1, background=0, gap_after=1))[0, :, 0]
        assert row.tolist() == [255, 255] + [0] * 4 + [255, 255] + [0] + [255, 255]

    def test_a_gap_below_the_first_row_and_an_empty_cell(self):
        white = torch.ones(1, 1, 1)
        rows = [[None, white], [white, white]]
        picture = np.asarray(grid(rows, padding=1, background=9, gap_below=1))[..., 0]
        assert picture[:, 2].tolist() == [255, 9, 9, 9, 9, 255]
        assert picture[:, 0].tolist() == [9] * 5 + [255]
        alone = grid([[None, white]], background=None)
        assert np.asarray(alone)[0, :, 3].tolist() == [0, 0, 0, 255]

    def test_only_empty_cells(self):
        with pytest.raises(ValueError, match="no images"):
            grid([[None]])

    def test_short_rows_end_in_background(self):
        image = torch.ones(1, 2, 2)
        picture = np.asarray(grid([[image, image], [image]], padding=0, background=50))
        assert (picture[2:, 2:] == 50).all()
        assert (picture[2:, :2] == 255).all()

    def test_transparent_background(self):
        picture = grid(torch.ones(1, 2, 1, 2, 2), padding=1, background=None)
        assert picture.mode == "RGBA"
        assert np.asarray(picture)[0, :, 3].tolist() == [255, 255, 0, 255, 255]

    @pytest.mark.parametrize(
        "rows", [[], [[]], [[torch.ones(1, 2, 2), torch.ones(1, 3, 3)]], torch.zeros(0, 3, 1, 2, 2)]
    )
    def test_refuses_nothing_and_mixed_sizes(self, rows):
        with pytest.raises(ValueError, match="images of one size"):
            grid(rows)

    @pytest.mark.parametrize("wrong", [{"padding": -1}, {"scale": 0}, {"gap_after": -1}])
    def test_refuses_wrong_numbers(self, wrong):
        with pytest.raises(ValueError, match="or more"):
            grid(torch.zeros(1, 1, 1, 2, 2), **wrong)


class TestLabelledGrid:
    def test_the_grid_is_inside_and_words_are_around_it(self):
        images = torch.rand(2, 3, 3, 30, 40, generator=torch.Generator().manual_seed(0)) / 2
        plain = np.asarray(grid(images, padding=4, gap_after=1))
        options = {"heads": ["one", "", "three words here"], "names": ["a", "a row with its name"]}
        whole = np.asarray(labelled_grid(images, gap_after=1, **options))
        height, width, _ = plain.shape
        assert (whole[-height:, -width:] == plain).all()
        top, left = whole[:-height, -width:], whole[-height:, :-width]
        assert (top < 128).any()
        assert (left[:30] < 128).any()
        assert (left[-30:] < 128).any()
        # Nothing is written above the column without a word.
        lefts = 40 + 4 + 12
        assert (top[:, lefts : lefts + 36] == 255).all()

    def test_without_words_it_is_the_grid(self):
        images = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        assert (np.asarray(labelled_grid(images)) == np.asarray(grid(images, padding=4))).all()

    def test_words_longer_than_a_column_are_broken_or_cut(self):
        images = torch.zeros(1, 1, 1, 8, 30)
        short = labelled_grid(images, heads=["a"])
        broken = labelled_grid(images, heads=["one_two three"])
        cut = labelled_grid(images, heads=["Incomprehensibilities"])
        assert broken.height > short.height == cut.height
        assert {picture.width for picture in (short, broken, cut)} == {30}


class TestPng:
    def test_round_trip(self):
        images = torch.rand(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
        picture = grid(images)
        assert (np.asarray(Image.open(io.BytesIO(png_bytes(picture)))) == np.asarray(picture)).all()

    def test_grey_pictures_are_stored_as_grey(self):
        picture = Image.open(io.BytesIO(png_bytes(grid(torch.rand(1, 1, 1, 4, 4)))))
        assert picture.mode == "L"

    def test_data_uri(self):
        picture = grid(torch.rand(1, 1, 1, 4, 4))
        head, body = data_uri(picture).split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(body) == png_bytes(picture)


class TestReadImageFile:
    def test_an_image_of_the_right_size_is_read_exactly(self, tmp_path):
        values = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(2))
        (tmp_path / "a.png").write_bytes(png_bytes(grid([[values]])))
        read = read_image_file(tmp_path / "a.png", GREY)
        assert read.shape == (1, 28, 28)
        assert read.dtype == torch.float32
        torch.testing.assert_close(read, (values * 255).round() / 255)

    def test_centre_of_a_wide_image(self, tmp_path):
        wide = np.zeros((40, 120), dtype=np.uint8)
        wide[:, 40:80] = 200  # exactly the centre square
        Image.fromarray(wide).save(tmp_path / "a.png")
        read = read_image_file(tmp_path / "a.png", GREY)
        # The filter at the border also sees what lies beyond the cut.
        torch.testing.assert_close(read, torch.full(GREY, 200 / 255), atol=0.05, rtol=0)
        torch.testing.assert_close(read[..., 2:-2], torch.full((1, 28, 24), 200 / 255))

    def test_shrinking_averages(self, tmp_path):
        lines = np.zeros((280, 280), dtype=np.uint8)
        lines[::2] = 255  # nearest neighbour would give all black or all white
        Image.fromarray(lines).save(tmp_path / "a.png")
        inner = read_image_file(tmp_path / "a.png", GREY)[:, 2:-2]
        torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.02, rtol=0)

    @pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 3), (27, 29), (333, 211)])
    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48)])
    def test_any_size_grey_or_coloured(self, tmp_path, size, shape):
        for mode in ("L", "RGB"):
            Image.new(mode, size, "white").save(tmp_path / "a.png")
            read = read_image_file(tmp_path / "a.png", shape, (-1.0, 1.0))
            torch.testing.assert_close(read, torch.ones(shape))

    def test_channels_keep_their_order(self, tmp_path):
        Image.new("RGB", (9, 9), (255, 127, 0)).save(tmp_path / "a.png")
        read = read_image_file(tmp_path / "a.png", (3, 4, 4))
        torch.testing.assert_close(read[:, 0, 0], torch.tensor([255, 127, 0]) / 255)

    def test_invert(self, tmp_path):
        Image.new("L", (9, 9), 55).save(tmp_path / "a.png")
        read = read_image_file(tmp_path / "a.png", (1, 4, 4), invert=True)
        torch.testing.assert_close(read, torch.full((1, 4, 4), 200 / 255))

    def test_transparency_is_white(self, tmp_path):
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "a.png")
        assert read_image_file(tmp_path / "a.png", (1, 4, 4)).min() == 1

    def test_sixteen_bits(self, tmp_path):
        Image.fromarray(np.full((9, 9), 200 * 257, dtype=np.uint16)).save(tmp_path / "a.png")
        read = read_image_file(tmp_path / "a.png", (1, 4, 4))
        torch.testing.assert_close(read, torch.full((1, 4, 4), 200 / 255))

    def test_exif_orientation(self, tmp_path):
        picture = Image.new("L", (8, 8), 0)
        picture.paste(255, (0, 0, 8, 4))  # the upper half
        exif = picture.getexif()
        exif[0x0112] = 3  # upside down
        picture.save(tmp_path / "a.png", exif=exif)
        read = read_image_file(tmp_path / "a.png", (1, 8, 8))
        assert (read[0, 6:] > 0.9).all()
        assert (read[0, :2] < 0.1).all()

    def test_a_large_picture_is_read_without_a_word(self, tmp_path, monkeypatch, recwarn):
        Image.new("L", (9, 9)).save(tmp_path / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)
        read_image_file(tmp_path / "a.png", (1, 4, 4))
        assert not recwarn
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
        with pytest.raises(UserError, match="is too large an image"):
            read_image_file(tmp_path / "a.png", (1, 4, 4))

    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match=re.escape(f"no image at {tmp_path / 'a.png'}")):
            read_image_file(tmp_path / "a.png", GREY)

    def test_folder(self, tmp_path):
        with pytest.raises(UserError, match="is a folder"):
            read_image_file(tmp_path, GREY)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", UNKNOWN_DDS])
    def test_not_an_image(self, tmp_path, content):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "a.png"))):
            read_image_file(tmp_path / "a.png", GREY)

    @pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff"])
    def test_truncated_anywhere(self, tmp_path, kind):
        noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
        path = tmp_path / f"a.{kind}"
        Image.fromarray(noise).save(path)
        whole = path.read_bytes()
        for share in (0.05, 0.3, 0.6, 0.9):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UserError, match=re.escape(str(path))):
                read_image_file(path, GREY)

    def test_a_number_of_channels_that_no_file_has(self, tmp_path):
        with pytest.raises(UserError, match="1 or 3 channels"):
            read_image_file(tmp_path / "a.png", (2, 28, 28))

    def test_floating_point_file(self, tmp_path):
        Image.new("F", (5, 5), 0.5).save(tmp_path / "a.tiff")
        with pytest.raises(UserError, match="floating-point"):
            read_image_file(tmp_path / "a.tiff", GREY)

    def test_colours_that_pillow_cannot_convert(self, tmp_path):
        Image.new("LAB", (5, 5)).save(tmp_path / "a.tiff")
        with pytest.raises(UserError, match=r"a\.tiff cannot be read: .*LAB.*save it as RGB"):
            read_image_file(tmp_path / "a.tiff", GREY)
