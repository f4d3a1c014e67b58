"""Training on soft labels and weights with Lightning: python lightning_module.py runs/pseudo-letters-digits"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader
from torchvision.models import mobilenet_v3_small
from torchvision.transforms import v2

from pptransfer import open_shards


class Imitation(lightning.LightningModule):
    def __init__(self, classes):
        super().__init__()
        self.network = mobilenet_v3_small(num_classes=classes)

    def training_step(self, batch, index):
        images, soft, weight = batch
        losses = torch.nn.functional.cross_entropy(self.network(images), soft, reduction="none")
        return (losses * weight.float()).mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


view = v2.Compose([v2.Grayscale(3), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
shards = open_shards(sys.argv[1], transform=view, weight=lambda row: 1 / (1 + row["entropy"]))
loader = DataLoader(shards, batch_size=16, shuffle=True)
trainer = lightning.Trainer(max_epochs=1, logger=False, enable_progress_bar=False)
trainer.fit(Imitation(len(shards.classes)), loader)
trainer.save_checkpoint("imitation.ckpt")
