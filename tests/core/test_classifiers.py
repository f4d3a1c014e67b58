import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers import (
    Classifier,
    ClassifierSpec,
    build,
    find_heads,
    load_classifier,
    save_classifier,
)
from ppcore.errors import UserError


def spec(arch="small", channels=1, classes=3, **more):
    names = tuple(f"c{i}" for i in range(classes))
    return ClassifierSpec(arch, names, channels, 32, mean=(0.5,) * channels, std=(0.25,) * channels, **more)


class Odd(nn.Module):
    """No batch norm, two branches, its own argument names."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.left = nn.Conv2d(in_channels, 4, 3, 2)
        self.right = nn.Conv2d(in_channels, 4, 5, 2, 1)
        self.out = nn.Linear(8, num_classes)

    def forward(self, x):
        parts = [branch(x).amax(dim=(2, 3)) for branch in (self.left, self.right)]
        return self.out(torch.cat(parts, 1))


@pytest.mark.parametrize(
    "arch",
    ["small", "mobile", "resnet18", "mobilenet_v3_small", "timm/mobilenetv3_small_050", f"{__name__}:Odd"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_architecture_builds(arch, channels, monkeypatch):
    if ":" in arch:
        monkeypatch.setattr("ppcore.classifiers.architectures.import_callable", lambda _name: Odd)
    net = build(arch, 7, channels).eval()
    assert net(torch.rand(2, channels, 64, 64)).shape == (2, 7)
    assert find_heads(net)[0].out_features == 7


@pytest.mark.parametrize(
    "arch",
    ["nosuch", "timm/nosuch", "timm/resnet50.nosuch", "no.such:thing", "json:nothing", "json:__name__"],
)
def test_unknown_architecture_is_one_sentence(arch):
    with pytest.raises(UserError, match=r"expected|lists"):
        build(arch, 2)


def test_round_trip_through_a_model_directory(tmp_path):
    net = build("small", 3, 1)
    save_classifier(tmp_path, net, spec())
    loaded = load_classifier(str(tmp_path))
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(loaded(images), Classifier(net.eval(), spec())(images))
    assert loaded.features(images).shape == (4, 128)
    assert loaded.spec == spec()


def test_preprocessing_converts_channels_and_size():
    grey = Classifier(build("small", 3, 1), spec()).eval()
    image = torch.full((1, 3, 50, 70), 128, dtype=torch.uint8)
    assert grey.preprocess(image).shape == (1, 1, 32, 32)
    assert torch.allclose(
        grey.preprocess(image), torch.full((1, 1, 32, 32), (128 / 255 - 0.5) / 0.25), atol=1e-3
    )
    colour = Classifier(build("small", 3, 3), spec(channels=3)).eval()
    assert colour(image[:, :1]).shape == (1, 3)


def test_checkpoint_of_a_named_architecture(tmp_path):
    net = build("resnet18", 5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "w.pth")
    loaded = load_classifier(f"resnet18@{tmp_path / 'w.pth'}")
    assert loaded.spec.num_classes == 5
    assert loaded(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, 5)


def test_weights_that_do_not_fit_are_named(tmp_path):
    torch.save(build("resnet18", 5).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="do not fit"):
        load_classifier(f"resnet34@{tmp_path / 'w.pth'}")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"arch": "small"}), json.dumps({"unknown": 1})])
def test_damaged_config(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="does not describe a classifier"):
        load_classifier(str(tmp_path))


def test_unknown_classifier():
    with pytest.raises(UserError, match="unknown classifier"):
        load_classifier("nosuch")


def test_published_weights_out_of_reach_name_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match="resnet18@FILE"):
        load_classifier("resnet18")


def test_tiny_maps_padded_by_hand_train_as_the_plain_convolution_does() -> None:
    """16 pixels end in maps of 1x1 in `mobile`, 32 in 2x2: below the kernel both go through the padded branch."""
    torch.manual_seed(0)
    net = build("mobile", 5, 1)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    for side in (1, 2):
        for layer in layers:
            x = torch.randn(2, layer.in_channels, side, side)
            out = layer.train()(x)
            plain = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, 1, layer.groups)
            torch.testing.assert_close(out, plain)
            weights = torch.randn_like(out)
            (ours,) = torch.autograd.grad((out * weights).sum(), layer.weight)
            (theirs,) = torch.autograd.grad((plain * weights).sum(), layer.weight)
            torch.testing.assert_close(ours, theirs)


def test_the_variants_of_small_networks_are_what_their_names_say() -> None:
    kinds = {type(module) for module in build("small-gn", 5, 1).modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds
    net, x = build("resnet18-32", 5, 1), torch.rand(2, 1, 32, 32)
    assert net.maxpool(net.conv1(x)).shape == (2, 64, 32, 32)  # the stem keeps the size
    assert net(x).shape == (2, 5)
