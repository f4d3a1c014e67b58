"""The head of a network, wherever it is: one notion of it for new classes, features, class counts and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ppcore.classifiers import (
    build,
    head_names,
    linear_map,
    load_classifier,
    require_head,
    run_with_features,
    usual_input,
)
from ppcore.errors import UserError

NETWORKS = "benchmarks.zoo_networks"
HEADS = {
    "resnet18": ["fc"],
    "timm/mobilenetv4_conv_small": ["classifier"],
    "timm/resnetv2_18": ["head.fc"],  # a convolution
    "timm/dla46_c": ["fc"],  # a convolution before the flattening
    "timm/levit_128s": ["head.linear", "head_dist.linear"],
    "timm/deit_tiny_distilled_patch16_224": ["head", "head_dist"],  # each reads another token
    "timm/repvit_m0_9": ["head.head.l", "head.head_dist.l"],
    "timm/crossvit_tiny_240": ["head.0", "head.1"],  # of different widths
    "timm/efficientformerv2_s0": ["head", "head_dist"],
    f"{NETWORKS}:Plain": ["decide"],
    f"{NETWORKS}:Tied": ["decide", "last"],
    f"{NETWORKS}:Named": ["decide"],
    f"{NETWORKS}:TwoHeads": ["decide", "other"],
}


@pytest.mark.parametrize("arch", list(HEADS))
def test_the_logits_are_a_linear_map_of_the_features(arch: str) -> None:
    torch.manual_seed(0)
    net = build(arch, 7).eval()
    side = usual_input(arch, 3).resolution if arch.startswith("timm/") else 32
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert head_names(net) == HEADS[arch]
    require_head(net, x)
    with torch.no_grad():
        features, logits = run_with_features(net, x)
        weight, bias = linear_map(net)
        assert torch.equal(logits, net(x))
        torch.testing.assert_close(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-5)


def test_a_head_before_the_pooling_has_pooled_features() -> None:
    net = build("squeezenet1_1", 7).eval()
    features, _ = run_with_features(net, torch.rand(2, 3, 64, 64))
    assert head_names(net) == ["classifier.1"]
    assert features.shape == (2, 512)


@pytest.mark.parametrize(
    ("name", "message"), [("Gated", "layer gate alone"), ("Prototypes", "no linear layer to serve")]
)
def test_a_head_that_cannot_be_known_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        require_head(build(f"{NETWORKS}:{name}", 7).eval(), torch.rand(2, 3, 32, 32))
    assert "get_classifier" in str(caught.value)


@pytest.mark.parametrize("arch", ["squeezenet1_1", "timm/levit_128s", "timm/resnetv2_18", "resnet18"])
@pytest.mark.parametrize("classes", [5, 1000])
def test_a_checkpoint_says_its_number_of_classes(arch: str, classes: int, tmp_path: Path) -> None:
    net = build(arch, classes)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    loaded = load_classifier(f"{arch}@{tmp_path / 'w.pth'}")
    assert loaded.spec.num_classes == classes
    assert all(torch.equal(t, net.state_dict()[name]) for name, t in loaded.net.state_dict().items())


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    """Of a new network, and of the weights that torchvision publishes with them; its own normalisation stays."""
    from torchvision.models import googlenet

    published = googlenet(weights=None, num_classes=6, init_weights=False, transform_input=True).eval()
    torch.save(published.state_dict(), tmp_path / "w.pth")
    loaded = load_classifier(f"googlenet@{tmp_path / 'w.pth'}")
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded.net(x), published(x))
    assert isinstance(build("googlenet", 6).train()(x), torch.Tensor)
    assert build("googlenet", 6, 1).train()(x[:, :1]).shape == (2, 6)


@pytest.mark.parametrize(
    ("arch", "side", "resize", "mean"),
    [
        ("small", 32, 0, 0.5),
        ("resnet18", 224, 256, 0.485),
        ("inception_v3", 299, 342, 0.485),
        ("efficientnet_v2_s", 384, 384, 0.485),
        ("timm/crossvit_tiny_240", 240, 274, 0.485),
        ("timm/vit_base_patch16_224.augreg_in21k", 224, 248, 0.5),
        ("timm/nosuch", 224, 256, 0.485),
        (f"{NETWORKS}:Plain", 224, 256, 0.485),
    ],
)
def test_a_network_gets_the_input_it_was_designed_for(arch: str, side: int, resize: int, mean: float) -> None:
    usual = usual_input(arch, 3)
    assert (usual.resolution, usual.resize, usual.mean[0]) == (side, resize, mean)
    grey = usual_input(arch, 1)
    assert (grey.resolution, len(grey.mean), len(grey.std)) == (side, 1, 1)
