"""Pseudo pre-training in plain PyTorch: python plain_pytorch.py runs/synth-letters"""

import sys

import torch
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from pptransfer import open_shards

view = v2.Compose(
    [v2.Grayscale(3), v2.RandomCrop(32, padding=4), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
)
shards = open_shards(sys.argv[1], stream=True, transform=view)
loader = DataLoader(shards, batch_size=64, num_workers=2)
network = resnet18(num_classes=len(shards.classes))
optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
for epoch in range(2):
    shards.set_epoch(epoch)  # another order
    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
torch.save(network.state_dict(), "pretrained.pt")
