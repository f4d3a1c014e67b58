"""The builder of the letters kit, without downloads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from ppcore.seeds import numpy_rng
from ppgen.generators.parts.family import to_uint8
from tools.kits import flow
from tools.kits.letters import bank, fonts, render


def _font(family: str, package: str = "fonts-x") -> fonts.Font:
    return fonts.Font(Path(f"{family}.ttf"), package, family)


def test_cuts_of_a_design_share_its_family_so_that_none_leaks_into_training() -> None:
    names = ("Lato", "Lato Black", "Lato Semibold Italic", "Lato-Thin")
    assert {fonts._family(name) for name in names} == {"lato"}
    assert fonts._family("Open Sans") != fonts._family("League Spartan")


def test_every_tenth_family_is_held_out() -> None:
    chosen = [_font(f"family {i:02d}") for i in range(40) for _cut in range(3)]
    assert len(fonts.held_out_families(chosen)) == 4
    assert fonts.held_out_families(chosen[::-1]) == fonts.held_out_families(chosen)


def test_handwritten_families_are_drawn_more_often_and_cuts_share_their_familys_part() -> None:
    chosen = [_font("a"), _font("a"), _font("b"), _font("c", "fonts-breip")]
    np.testing.assert_allclose(render.family_weights(chosen, 4.0), np.array([0.5, 0.5, 1, 4]) / 6)
    np.testing.assert_allclose(render.family_weights(chosen, 1.0), np.array([0.5, 0.5, 1, 1]) / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Files: *\nLicense: OFL-1.1\n text\n\nFiles: debian/*\nLicense: GPL-2+\n", ["OFL-1.1"]),
        (
            "License:\n\n    Public Domain.\n\nThe Debian packaging is under the GNU General Public License",
            ["public-domain"],
        ),
    ],
)
def test_the_fonts_licence_is_read_not_the_packagings(tmp_path: Path, text: str, expected: list[str]) -> None:
    folder = tmp_path / "usr/share/doc/fonts-x"
    folder.mkdir(parents=True)
    (folder / "copyright").write_text(text)
    assert fonts.licences(tmp_path) == expected


def test_a_picture_depends_on_its_generator_alone() -> None:
    glyph = np.zeros((64, 64), np.uint8)
    glyph[10:54, 28:36] = 255
    first, again, other = (render.vary(glyph, numpy_rng(0, "test", i)) for i in (1, 1, 2))
    assert first.shape == (32, 32)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.max() > 200
    assert first[0].max() < 128  # black ground around the stroke


def test_the_bank_holds_the_first_pictures_of_training_without_held_out_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(mpl.get_data_path()) / "fonts/ttf"
    known = fonts.Font(folder / "DejaVuSans.ttf", "fonts-x", "DejaVu Sans")
    held = fonts.Font(folder / "STIXGeneral.ttf", "fonts-x", "STIX")
    monkeypatch.setattr(fonts, "fetch", lambda work: {})
    monkeypatch.setattr(fonts, "usable_fonts", lambda folders: [held, known])
    monkeypatch.setattr(fonts, "held_out_families", lambda usable: frozenset({"STIX"}))
    bank.write_bank(tmp_path, tmp_path / "work", per_class=1)
    assert {path.name for path in tmp_path.iterdir()} == set(fonts.CLASS_NAMES)
    expected, labels, _ = render.render([known], 60, 0, "train", boost=render.HANDWRITTEN_WEIGHT, processes=1)
    for number in (0, 41):
        file = tmp_path / fonts.CLASS_NAMES[labels[number]] / f"{number:06}.png"
        assert np.array_equal(np.asarray(Image.open(file)), expected[number])


def test_folding_is_what_the_sampler_unfolds() -> None:
    pictures = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    folded = flow.to_flow(pictures)
    assert folded.shape == (3, 4, 16, 16)
    assert folded.abs().max() <= 1
    assert torch.equal(to_uint8(torch.pixel_shuffle(folded, 2))[:, 0], pictures)


def test_guidance_of_weight_zero_is_none_and_its_direction_leads_away_from_the_null_label() -> None:
    class Toy(torch.nn.Module):
        config = SimpleNamespace(num_class_embeds=43)

        def forward(self, x: torch.Tensor, t: torch.Tensor, class_labels: torch.Tensor) -> object:
            value = class_labels.float().view(-1, 1, 1, 1).expand_as(x)
            return type("Output", (), {"sample": value})()

    x, s, label = torch.zeros(2, 4, 16, 16), torch.ones(2), torch.tensor([0, 2])
    plain = flow.guided(Toy(), x, s, label, torch.zeros(2))
    assert plain[:, 0, 0, 0].tolist() == [0.0, 2.0]
    pushed = flow.guided(Toy(), x, s, label, torch.full((2,), 0.5))
    assert pushed[:, 0, 0, 0].tolist() == [0.0 - 21.0, 2.0 - 20.0]


def test_mirrored_in_folded_form_is_mirrored() -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(flow.mirrored(flow.to_flow(pictures)), flow.to_flow(pictures.flip(2)))


def test_a_training_goes_on_from_its_checkpoint_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pictures = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(64) % 4

    def train(steps: int, checkpoint: Path | None) -> torch.nn.Module:
        torch.manual_seed(3)
        net = flow.build_unet(4, 3, (8, 16))
        return flow.train_flow(
            pictures,
            labels,
            steps,
            net=net,
            batch=8,
            flip=True,
            checkpoint=checkpoint,
            keep_every=2,
            length=4,
        )

    whole = train(4, None)
    train(2, tmp_path / "half.pt")
    resumed = train(4, tmp_path / "half.pt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
