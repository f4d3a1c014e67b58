"""Shards as a dataset of timm: python timm_wds.py runs/synth-letters

With timm's own script:
    train.py --dataset wds/letters --data-dir runs/synth-letters --train-split "$(python timm_wds.py runs/synth-letters --split)"
"""

import sys

import timm
from timm.data import create_dataset, create_loader

from pptransfer import timm_split

directory = sys.argv[1]
if "--split" in sys.argv:
    sys.exit(print(timm_split(directory)))
dataset = create_dataset(
    "wds/letters", root=directory, split=timm_split(directory), is_training=True, batch_size=8
)
loader = create_loader(
    dataset, input_size=(3, 32, 32), batch_size=8, is_training=True, use_prefetcher=False, num_workers=1
)
network = timm.create_model("resnet10t", num_classes=62)  # the source's classes: labels are not made dense
for images, labels in loader:
    print(tuple(network(images).shape), labels.tolist())
